//! Opening log and store.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use pipeline::engine::{Embedded, Partitions};
use pipeline::payload::{Keyring, SealedLog, SealedStore};
use pipeline::{Expect, Log, Store, StoreError, Table};
use schemas::TenantId;

use super::{Backends, LogBackend, Patience, StoreBackend, folder};
use crate::auth::master_key::MasterKey;
use crate::auth::secret;

/// The row that says which master key the processes have that share a store.
const MASTER: &str = "master";

/// Log and store, open, and sealed by the folder's master key.
pub(crate) struct Opened {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    /// Rows of this folder alone.
    pub(crate) local: Arc<dyn Store>,
    pub(crate) keys: Arc<Keyring>,
}

impl Backends {
    /// Opens both. The data folder, made when it is not there, is held by this process until they are dropped. Servers that are
    /// away are waited for with `patience`, and not at all without.
    pub(crate) async fn open(&self, folder: &Path, patience: Option<&Patience>) -> anyhow::Result<Opened> {
        let engine = Embedded::open(folder, Partitions::default())?;
        folder::claim(self, &*engine.log(), &engine.store()).await?;
        let log = waited(patience, "the log", || self.open_log(&engine)).await?;
        let store = waited(patience, "the store", || self.open_store(&engine)).await?;
        let keys = Arc::new(waited(patience, "the store", || self.join(folder, &engine, &store)).await?);
        Ok(Opened {
            log: Arc::new(SealedLog::new(log, keys.clone())),
            store: Arc::new(SealedStore::new(store, keys.clone())),
            local: Arc::new(SealedStore::new(engine.store(), keys.clone())),
            keys,
        })
    }

    /// The payload keys of a store, which the folder belongs to from now on.
    async fn join(&self, folder: &Path, engine: &Embedded, store: &Arc<dyn Store>) -> anyhow::Result<Keyring> {
        if self.are_shared() {
            folder::join(&*engine.store(), &**store).await?;
        }
        keys(folder, store, self.are_shared()).await
    }

    async fn open_log(&self, engine: &Embedded) -> anyhow::Result<Arc<dyn Log>> {
        let log: Arc<dyn Log> = match &self.log {
            LogBackend::Embedded => engine.log(),
            #[cfg(feature = "kafka")]
            LogBackend::Kafka(settings) => Arc::new(pipeline::KafkaLog::open((**settings).clone()).await?),
            #[cfg(not(feature = "kafka"))]
            LogBackend::Kafka(_) => bail!("this build has no Kafka"),
        };
        Ok(log)
    }

    async fn open_store(&self, engine: &Embedded) -> anyhow::Result<Arc<dyn Store>> {
        let store: Arc<dyn Store> = match &self.store {
            StoreBackend::Embedded => engine.store(),
            #[cfg(feature = "scylla")]
            StoreBackend::Scylla(settings) => Arc::new(pipeline::ScyllaStore::open((**settings).clone()).await?),
            #[cfg(not(feature = "scylla"))]
            StoreBackend::Scylla(_) => bail!("this build has no ScyllaDB"),
        };
        Ok(store)
    }
}

/// What is opened, with patience or without.
async fn waited<T, F: Future<Output = anyhow::Result<T>>>(
    patience: Option<&Patience>,
    what: &'static str,
    open: impl Fn() -> F,
) -> anyhow::Result<T> {
    match patience {
        Some(patience) => patience.open(what, open).await,
        None => open().await,
    }
}

/// The payload keys of a store, under the folder's master key. A folder that has no master key where there are payload keys
/// is refused: a new one would open none.
async fn keys(folder: &Path, store: &Arc<dyn Store>, are_shared: bool) -> anyhow::Result<Keyring> {
    let shown = folder.display();
    if !MasterKey::is_there(folder) && Keyring::has_keys(&**store).await? {
        match are_shared {
            true => bail!(
                "{shown} has no master.key, and what is in the store is sealed with one: copy master.key from the data folder \
                 of another process, readable by its owner alone"
            ),
            false => bail!("{shown} has no master.key, and its payloads are sealed with it: restore it from a backup"),
        }
    }
    let master = MasterKey::open(folder)?;
    if are_shared {
        agree(&**store, &secret::hash_bytes(&master.derive("master key of the processes"))).await?;
    }
    Ok(Keyring::open(store.clone(), &master.derive("payload keys")).await?)
}

/// All processes have the same master key: the first one's.
async fn agree(store: &dyn Store, ours: &str) -> anyhow::Result<()> {
    let value = ours.to_owned().into_bytes().into();
    match store.put(TenantId::SYSTEM, Table::Leases, MASTER, value, Expect::Absent).await {
        Ok(_) => return Ok(()),
        Err(StoreError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let known = store.get(TenantId::SYSTEM, Table::Leases, MASTER).await?;
    if known.is_none_or(|row| row.value.as_ref() != ours.as_bytes()) {
        bail!(
            "the master.key of this data folder is not the one that other processes have: copy it from the folder of one of \
             them, readable by its owner alone"
        );
    }
    Ok(())
}
