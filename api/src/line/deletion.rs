//! Deleting a tenant: everything that it has, and its key, so that what stays on the log says nothing any more.
//!
//! A deletion is noted before it begins and struck out when all is done: one that was cut off is finished at the next
//! start. Every step may be done twice. The key goes first, so that from one moment on nobody gets in, nothing is
//! acknowledged, and whoever is at work for the tenant works into the void; the name goes last, so that nobody who takes
//! it meets anything of its former owner. Where processes share the work each of them drops the key, what it does for the tenant
//! and what it has of its views, before the rows go.

use std::sync::{Arc, OnceLock, Weak};

use anyhow::Context;
use futures::future::BoxFuture;
use pipeline::payload::{FORGOTTEN_WITHIN, is_of_destroyed_key};
use pipeline::{Expect, Table};
use schemas::{TenantId, TenantName};

use super::Line;

/// Rows of a scan at a time.
const PAGE: usize = 1000;

/// Something that works for tenants and can be told to stop doing so.
pub trait Halt: Send + Sync {
    /// Ends what is under way for a tenant; nothing of it runs any more when this returns.
    fn halt(&self, tenant: TenantId) -> BoxFuture<'_, ()>;
}

/// Who is told when a tenant is deleted.
#[derive(Default)]
pub(crate) struct Halted(OnceLock<Weak<dyn Halt>>);

impl Halted {
    /// Ends what is under way for a tenant.
    pub(crate) async fn halt(&self, tenant: TenantId) {
        if let Some(who) = self.0.get().and_then(Weak::upgrade) {
            who.halt(tenant).await;
        }
    }
}

impl Line {
    /// Has `who` told when a tenant is deleted. The first who asks is the one.
    pub fn tell_of_deletions(&self, who: &Arc<dyn Halt>) {
        _ = self.halted.0.set(Arc::downgrade(who));
    }

    /// Deletes a tenant with everything that it has; its name is free when this returns. Not to be dropped half-way by
    /// who wants an answer: it would be finished at the next start only.
    pub async fn delete_tenant(&self, tenant: TenantId, name: &TenantName) -> anyhow::Result<()> {
        let value = serde_json::to_vec(name)?.into();
        self.store.put(TenantId::SYSTEM, Table::Deletions, &tenant.to_string(), value, Expect::Any).await?;
        self.log.sync().await?;
        self.finish_deletion(tenant, name).await.with_context(|| {
            format!("the tenant {name} is deleted, but not all of it is gone yet: it is finished at the next start")
        })
    }

    /// Finishes deletions that were cut off.
    pub async fn finish_deletions(&self) -> anyhow::Result<()> {
        for (key, row) in self.store.scan(TenantId::SYSTEM, Table::Deletions, "", None, PAGE).await? {
            if is_of_destroyed_key(&key) {
                continue;
            }
            let tenant = key.parse().with_context(|| format!("the note of the deletion {key}"))?;
            let name = serde_json::from_slice(&row.value).with_context(|| format!("the note of the deletion {key}"))?;
            tracing::info!(%tenant, %name, "a deletion that was cut off is finished");
            self.finish_deletion(tenant, &name).await?;
        }
        Ok(())
    }

    async fn finish_deletion(&self, tenant: TenantId, name: &TenantName) -> anyhow::Result<()> {
        self.keys.destroy(tenant).await?;
        if self.has_peers() {
            self.keys.tell_destroyed(tenant).await?;
        }
        self.halted.halt(tenant).await;
        if self.has_peers() {
            // From then on no other process writes anything for it.
            tokio::time::sleep(FORGOTTEN_WITHIN).await;
        }
        // What the roles had read before is behind them.
        self.wait_quarantined().await?;
        self.catch_up().await?;
        self.roles.projector.forget(tenant).await?;
        // What lay in it is gone; a folder that something stands in is told by who reads the views.
        _ = std::fs::remove_dir_all(self.folder.join("views").join(tenant.to_string()));
        self.keys.erase_rows(tenant).await?;
        self.store.delete(TenantId::SYSTEM, Table::Connections, &tenant.to_string(), Expect::Any).await?;
        self.forget_addresses(tenant).await?;
        self.free_name(tenant, name).await?;
        self.store.delete(TenantId::SYSTEM, Table::Deletions, &tenant.to_string(), Expect::Any).await?;
        self.log.sync().await?;
        tracing::info!(%tenant, %name, "a tenant was deleted");
        Ok(())
    }

    /// Addresses are found by their text, so all are looked through: a deletion is rare.
    async fn forget_addresses(&self, tenant: TenantId) -> anyhow::Result<()> {
        let (mut after, owned) = (None::<String>, format!("/{tenant}"));
        loop {
            let rows = self.store.scan(TenantId::SYSTEM, Table::Addresses, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, _) in rows.iter().filter(|(key, _)| key.ends_with(&owned)) {
                self.store.delete(TenantId::SYSTEM, Table::Addresses, key, Expect::Any).await?;
            }
        }
    }

    /// Frees the name, unless somebody has it by now.
    async fn free_name(&self, tenant: TenantId, name: &TenantName) -> anyhow::Result<()> {
        let Some(row) = self.store.get(TenantId::SYSTEM, Table::Tenants, name.as_str()).await? else { return Ok(()) };
        if serde_json::from_slice::<TenantId>(&row.value)? == tenant {
            let expect = Expect::Version(row.version);
            self.store.delete(TenantId::SYSTEM, Table::Tenants, name.as_str(), expect).await?;
        }
        Ok(())
    }
}
