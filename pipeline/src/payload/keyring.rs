//! The tenants' keys: made at their first use, kept in `Store` sealed by the master key, destroyed for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use schemas::TenantId;

use super::SealingKey;
use crate::log::LogError;
use crate::store::{Expect, Row, Store, StoreError, Table};

/// The id of a tenant's key in the headers of its batches; 0 is none. Each has one for now.
pub(super) const KEY_ID: u32 = 1;
/// A row's first byte: a sealed key follows, …
const SEALED: u8 = 1;
/// … or there was one.
const DESTROYED: u8 = 0;
/// Keys in memory at once, of some 700 bytes each; beyond, all are read again.
const KNOWN_MAX: usize = 8_192;
/// Rows removed without waiting for one another.
const ROWS_AT_ONCE: usize = 256;

/// Keys cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master key is another one, or the row is damaged.
    #[error(
        "the payload key of tenant {0} does not open with this master key: restore master.key and the folder from one backup"
    )]
    Master(TenantId),
    /// The operating system gives no random bytes.
    #[error("the random generator failed")]
    Random,
}

impl From<KeyError> for StoreError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error,
            KeyError::Master(_) => Self::Unreadable(error.to_string()),
            KeyError::Random => Self::Failed(error.to_string()),
        }
    }
}

impl From<KeyError> for LogError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(StoreError::DiskFull) => Self::DiskFull,
            KeyError::Store(StoreError::Unreachable(why)) => Self::Unreachable(why),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// What is known of a tenant's key.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// It is here.
    Key(Arc<SealingKey>),
    /// It was destroyed.
    Forgotten,
}

/// The keys of all tenants.
pub struct Keyring {
    store: Arc<dyn Store>,
    master: SealingKey,
    known: RwLock<HashMap<TenantId, Known>>,
    forgotten: AtomicU64,
}

impl Keyring {
    /// The keys in `store`, which is not sealed itself, under `master`. Fails when keys are there that it does not open.
    pub async fn open(store: Arc<dyn Store>, master: &[u8; 32]) -> Result<Self, KeyError> {
        let master = SealingKey::new(master).ok_or(KeyError::Random)?;
        let ring = Self { store, master, known: RwLock::default(), forgotten: AtomicU64::new(0) };
        for (key, row) in ring.store.scan(TenantId::SYSTEM, Table::PayloadKeys, "", None, 1).await? {
            let unreadable = || StoreError::Unreadable(format!("the payload key {key:?}"));
            ring.read(key.parse().map_err(|_| unreadable())?, &row)?;
        }
        Ok(ring)
    }

    /// Whether `store` has keys, so that a new master key would open none of them.
    pub async fn has_keys(store: &dyn Store) -> Result<bool, StoreError> {
        Ok(!store.scan(TenantId::SYSTEM, Table::PayloadKeys, "", None, 1).await?.is_empty())
    }

    /// The key to seal with; made when the tenant has none yet.
    pub(super) async fn to_seal(&self, tenant: TenantId) -> Result<Known, KeyError> {
        loop {
            if let Some(known) = self.find(tenant).await? {
                return Ok(known);
            }
            let secret = SealingKey::random_secret().ok_or(KeyError::Random)?;
            let value = self.master.seal(&bound(tenant), &[SEALED], |out| out.extend_from_slice(&secret));
            match self.write(tenant, value, Expect::Absent).await {
                // Read like any other, or another's when that was faster.
                Ok(()) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is known of a tenant's key; nothing when it never had one.
    pub(super) async fn find(&self, tenant: TenantId) -> Result<Option<Known>, KeyError> {
        if let Some(known) = self.known.read().get(&tenant) {
            return Ok(Some(known.clone()));
        }
        let Some(row) = self.store.get(TenantId::SYSTEM, Table::PayloadKeys, &tenant.to_string()).await? else {
            return Ok(None);
        };
        let read = self.read(tenant, &row)?;
        let mut known = self.known.write();
        if known.len() >= KNOWN_MAX {
            known.retain(|_, known| matches!(known, Known::Forgotten));
        }
        // Who destroyed it meanwhile has the last word.
        Ok(Some(known.entry(tenant).or_insert(read).clone()))
    }

    fn read(&self, tenant: TenantId, row: &Row) -> Result<Known, KeyError> {
        let wrong = || KeyError::Master(tenant);
        match row.value.split_first() {
            Some((&DESTROYED, [])) => Ok(Known::Forgotten),
            Some((&SEALED, sealed)) => {
                let secret = self.master.open(&bound(tenant), sealed).ok_or_else(wrong)?;
                let secret = secret.as_slice().try_into().map_err(|_| wrong())?;
                SealingKey::new(secret).map(|key| Known::Key(Arc::new(key))).ok_or(KeyError::Random)
            }
            _ => Err(wrong()),
        }
    }

    async fn write(&self, tenant: TenantId, value: Vec<u8>, expect: Expect) -> Result<(), StoreError> {
        let value = Bytes::from(value);
        self.store.put(TenantId::SYSTEM, Table::PayloadKeys, &tenant.to_string(), value, expect).await.map(|_| ())
    }

    /// Destroys a tenant's key, for ever: what it sealed is forgotten, and so is what is written for the tenant later.
    pub async fn destroy(&self, tenant: TenantId) -> Result<(), StoreError> {
        loop {
            let row = self.store.get(TenantId::SYSTEM, Table::PayloadKeys, &tenant.to_string()).await?;
            let expect = row.map_or(Expect::Absent, |row| Expect::Version(row.version));
            match self.write(tenant, vec![DESTROYED], expect).await {
                Ok(()) => break,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.forget(tenant);
        Ok(())
    }

    /// Where the keys are.
    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The tenant's key was destroyed, as the store says.
    pub(super) fn forget(&self, tenant: TenantId) {
        self.known.write().insert(tenant, Known::Forgotten);
    }

    /// Drops every key: each is read from the store again at its next use.
    pub(super) fn doubt(&self) {
        self.known.write().retain(|_, known| matches!(known, Known::Forgotten));
    }

    /// Whether the tenant's key was destroyed.
    pub async fn is_destroyed(&self, tenant: TenantId) -> Result<bool, KeyError> {
        Ok(matches!(self.find(tenant).await?, Some(Known::Forgotten)))
    }

    /// Removes every row of a tenant, sealed or not.
    pub async fn erase_rows(&self, tenant: TenantId) -> Result<(), StoreError> {
        for table in Table::ALL {
            loop {
                let rows = self.store.scan(tenant, table, "", None, ROWS_AT_ONCE).await?;
                if rows.is_empty() {
                    break;
                }
                let removals = rows.iter().map(|(key, _)| self.store.delete(tenant, table, key, Expect::Any));
                futures::future::try_join_all(removals).await?;
            }
        }
        Ok(())
    }

    /// Items that readers passed over because they are forgotten, counted once for each reader.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    pub(super) fn count_forgotten(&self, items: u32) {
        self.forgotten.fetch_add(u64::from(items), Ordering::Relaxed);
    }
}

fn bound(tenant: TenantId) -> Vec<u8> {
    [b"payload key ", &tenant.to_bytes()[..]].concat()
}
