//! A data folder belongs to one log and one store: what it has of its own is of no use beside others.

use anyhow::{Context, bail};
use bytes::Bytes;
use pipeline::{EmbeddedStore, Expect, Log, Store, StoreError, Table};
use schemas::{TenantId, Topic};

use super::{Backends, LogBackend};

const KEY: &str = "folder";
/// In a store that processes share, the id that it was given by the first of them; in a data folder, the one that it belongs to.
const CLUSTER: &str = "cluster";

/// Refuses a folder that was made for other backends; notes what a new one is made for. `log` and `store` are its own.
pub(super) async fn claim(backends: &Backends, log: &dyn Log, store: &EmbeddedStore) -> anyhow::Result<()> {
    let wanted = backends.told();
    match noted(store, KEY).await? {
        Some(made_for) if made_for == wanted => Ok(()),
        Some(made_for) => bail!(
            "the data folder was made for other servers ({made_for}) than the configuration says ({wanted}): name the \
             configuration that it was made with, or another folder with --data-dir"
        ),
        None if matches!(backends.log, LogBackend::Embedded) => Ok(()),
        None => {
            for topic in Topic::ALL {
                for partition in 0..log.partitions(topic) {
                    if log.end(topic, partition).await? > 0 {
                        bail!(
                            "the data folder has records of its own, and the configuration says {wanted}: name an empty \
                             folder with --data-dir"
                        );
                    }
                }
            }
            note(store, KEY, wanted).await
        }
    }
}

/// Refuses a folder that was used with another store of the same kind: how far its own tables are says nothing of this one's
/// log, even where positions look alike. A folder that belongs to none yet, as those of former builds, belongs to this one.
pub(super) async fn join(own: &dyn Store, shared: &dyn Store) -> anyhow::Result<()> {
    let cluster = cluster(shared).await?;
    match noted(own, CLUSTER).await? {
        Some(known) if known == cluster => Ok(()),
        Some(known) => bail!(
            "the data folder belongs to the cluster {known}, and the store is that of the cluster {cluster}: name the \
             configuration that the folder was used with, or with --data-dir an empty folder that has the master.key"
        ),
        None => note(own, CLUSTER, cluster).await,
    }
}

/// The id of the cluster that a store is of: whoever comes first gives it.
async fn cluster(shared: &dyn Store) -> anyhow::Result<String> {
    if let Some(known) = noted(shared, CLUSTER).await? {
        return Ok(known);
    }
    let id = uuid::Uuid::now_v7().to_string();
    match shared.put(TenantId::SYSTEM, Table::Leases, CLUSTER, id.clone().into(), Expect::Absent).await {
        Ok(_) => Ok(id),
        Err(StoreError::Conflict { .. }) => noted(shared, CLUSTER).await?.context("the cluster's id has gone"),
        Err(error) => Err(error.into()),
    }
}

async fn noted(store: &dyn Store, key: &str) -> anyhow::Result<Option<String>> {
    let row = store.get(TenantId::SYSTEM, Table::Leases, key).await?;
    Ok(row.map(|row| String::from_utf8_lossy(&row.value).into_owned()))
}

async fn note(store: &dyn Store, key: &str, value: String) -> anyhow::Result<()> {
    let value = Bytes::from(value);
    let put = store.put(TenantId::SYSTEM, Table::Leases, key, value, Expect::Absent).await;
    put.with_context(|| format!("noting the {key} in the data folder"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use pipeline::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_folder_belongs_to_the_cluster_that_it_was_used_with_first() {
        let (folder, other, cluster) = (MemoryStore::new(), MemoryStore::new(), MemoryStore::new());
        for own in [&folder, &other, &folder] {
            join(own, &cluster).await.unwrap();
        }
        assert!(noted(&cluster, CLUSTER).await.unwrap().is_some());
        assert_eq!(noted(&folder, CLUSTER).await.unwrap(), noted(&other, CLUSTER).await.unwrap());
        let refused = join(&folder, &MemoryStore::new()).await.unwrap_err().to_string();
        assert!(refused.contains("belongs to the cluster") && refused.contains("--data-dir"), "{refused}");
        join(&folder, &cluster).await.unwrap();
    }
}
