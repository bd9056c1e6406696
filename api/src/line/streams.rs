//! Tenants, their streams, and what became of the records.

use anyhow::{Context, bail, ensure};
use pipeline::process::read_snapshot;
use pipeline::step::{Counters, StreamState};
use pipeline::{Table, definitions};
use schemas::{Entity, EntityName, StreamId, TenantId, TenantName};

use super::Line;

/// Rows of a scan at a time.
const PAGE: usize = 1000;

impl Line {
    /// The id of a tenant that exists.
    pub async fn tenant(&self, name: &TenantName) -> anyhow::Result<TenantId> {
        match definitions::find_tenant(&*self.store, name).await? {
            Some(id) => self.not_deleted(name, id).await,
            None => bail!("there is no tenant {name}: ingest something for it first"),
        }
    }

    /// The id of a tenant; made when the name is new.
    pub async fn ensure_tenant(&self, name: &TenantName) -> anyhow::Result<TenantId> {
        let id = definitions::ensure_tenant(&*self.store, name).await?;
        self.not_deleted(name, id).await
    }

    async fn not_deleted(&self, name: &TenantName, id: TenantId) -> anyhow::Result<TenantId> {
        ensure!(!self.keys.is_destroyed(id).await?, "the tenant {name} is being deleted: try again in a moment");
        Ok(id)
    }

    /// All tenants.
    pub async fn tenants(&self) -> anyhow::Result<Vec<(TenantName, TenantId)>> {
        Ok(definitions::tenants(&*self.store).await?)
    }

    /// An entity's definition in force for a tenant.
    pub async fn entity(&self, tenant: TenantId, name: &EntityName) -> anyhow::Result<Option<Entity>> {
        self.definitions().entity(tenant, name).await
    }

    /// The entity that fills a tenant's table.
    pub async fn entity_of(&self, tenant: TenantId, table: &str) -> anyhow::Result<Option<String>> {
        let row = self.store.get(tenant, Table::TableNames, table).await?;
        row.map(|row| serde_json::from_slice(&row.value).context("a table's owner")).transpose()
    }

    /// A stream's state as it was last written.
    pub async fn stream_state(&self, stream: &StreamId) -> anyhow::Result<Option<StreamState>> {
        self.definitions().stream_state(stream).await
    }

    /// The same, where its lanes do not matter: a stream may have millions of them.
    pub async fn stream_snapshot(&self, stream: &StreamId) -> anyhow::Result<Option<StreamState>> {
        Ok(read_snapshot(&*self.store, stream).await?)
    }

    /// All streams of a tenant with their states.
    pub async fn streams(&self, tenant: TenantId) -> anyhow::Result<Vec<(StreamId, StreamState)>> {
        let mut all = Vec::new();
        self.each_snapshot(tenant, |key, snapshot| {
            let state = StreamState::from_snapshot(snapshot).with_context(|| format!("the state of {key}"))?;
            all.push((state.stream.clone(), state));
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// A tenant's streams behind `after`, by name, at most `limit`.
    pub async fn streams_behind(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<Vec<(String, StreamState)>> {
        let rows = self.store.scan(tenant, Table::StreamStates, "", after, limit).await?;
        let state = |(key, row): (String, pipeline::Row)| {
            let state = StreamState::from_snapshot(&row.value).with_context(|| format!("the state of {key}"))?;
            Ok((key, state))
        };
        rows.into_iter().map(state).collect()
    }

    /// What became of the records of all streams of all tenants, and how many tenants there are.
    pub async fn totals(&self) -> anyhow::Result<(Counters, usize)> {
        /// The part of a snapshot that counts.
        #[derive(serde::Deserialize)]
        struct Counted {
            counters: Counters,
        }
        let mut totals = Counters::default();
        let tenants = self.tenants().await?;
        for (_, tenant) in &tenants {
            self.each_snapshot(*tenant, |key, snapshot| {
                let counted: Counted =
                    serde_json::from_slice(snapshot).with_context(|| format!("the state of {key}"))?;
                totals.taken += counted.counters.taken;
                totals.accepted += counted.counters.accepted;
                totals.deleted += counted.counters.deleted;
                totals.quarantined += counted.counters.quarantined;
                totals.held += counted.counters.held;
                totals.discarded += counted.counters.discarded;
                totals.duplicate += counted.counters.duplicate;
                Ok(())
            })
            .await?;
        }
        Ok((totals, tenants.len()))
    }

    async fn each_snapshot(
        &self,
        tenant: TenantId,
        mut take: impl FnMut(&str, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.scan(tenant, Table::StreamStates, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, row) in &rows {
                take(key, &row.value)?;
            }
        }
    }
}
