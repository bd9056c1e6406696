//! A data folder belongs to one log and one store: what it has of its own is of no use beside others.

use anyhow::{Context, bail};
use bytes::Bytes;
use pipeline::{EmbeddedStore, Expect, Log, Store, StoreError, Table};
use projections::view::Place;
use schemas::{TenantId, Topic};

use super::{Backends, LogBackend};

const KEY: &str = "folder";
/// In a store that processes share, the id that the first of them gave it; in a data folder, that of the store it belongs to.
const CLUSTER: &str = "cluster";

/// The URL of the place at which the folder's server has its views, if one was named.
const VIEWS: &str = "views";

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

impl Backends {
    /// For a command: refuses another place of views than the folder's server has them at. It would fold them there anew, and
    /// leave those alone that are asked for.
    pub(crate) async fn check_views(&self, own: &dyn Store) -> anyhow::Result<()> {
        let Some(known) = noted(own, VIEWS).await? else { return Ok(()) };
        match self.views_url()? {
            Some(wanted) if wanted == known => Ok(()),
            wanted => bail!(
                "the server of this data folder has its views at {known}, and the configuration says {}: say `views: \
                 {{location: …}}` in the folder's autonomos.yaml or set AUTONOMOS_VIEWS_LOCATION; or serve the folder once \
                 with the other place, if they are to lie there",
                wanted.as_deref().unwrap_or("in the data folder")
            ),
        }
    }

    /// For a server: notes where it has its views.
    pub(crate) async fn note_views(&self, own: &dyn Store) -> anyhow::Result<()> {
        let (known, wanted) = (noted(own, VIEWS).await?, self.views_url()?);
        let done = match wanted {
            wanted if wanted == known => return Ok(()),
            Some(url) => own.put(TenantId::SYSTEM, Table::Leases, VIEWS, url.into(), Expect::Any).await.map(|_| ()),
            None => own.delete(TenantId::SYSTEM, Table::Leases, VIEWS, Expect::Any).await,
        };
        done.context("noting the place of the views in the data folder")
    }

    fn views_url(&self) -> anyhow::Result<Option<String>> {
        let Some(settings) = &self.views else { return Ok(None) };
        Ok(Some(Place::of(settings).context("opening the views")?.url().to_string()))
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
    use projections::view::place::Settings as ViewSettings;

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

    #[tokio::test]
    async fn a_command_that_is_told_another_place_of_views_than_the_server_was_is_refused_until_a_server_is_told_so() {
        let (own, folder) = (MemoryStore::new(), tempfile::tempdir().unwrap());
        let at = |name: &str| {
            let views = ViewSettings::at(folder.path().join(name).display().to_string());
            Backends { views: Some(views), ..Backends::default() }
        };
        let inside = Backends::default();
        for backends in [&inside, &at("one")] {
            backends.check_views(&own).await.unwrap();
        }
        at("one").note_views(&own).await.unwrap();
        at("one").check_views(&own).await.unwrap();
        for other in [&inside, &at("two")] {
            let refused = other.check_views(&own).await.unwrap_err().to_string();
            assert!(refused.contains("/one/") && refused.contains("AUTONOMOS_VIEWS_LOCATION"), "{refused}");
        }
        at("two").note_views(&own).await.unwrap();
        at("two").check_views(&own).await.unwrap();
        inside.note_views(&own).await.unwrap();
        for backends in [&inside, &at("one")] {
            backends.check_views(&own).await.unwrap();
        }
    }
}
