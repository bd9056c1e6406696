//! What moves and where to: a data folder, or the log and the store that a configuration file and the environment name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use pipeline::engine::{Embedded, Partitions};
use pipeline::migrate::Place;
use pipeline::{Log, Store};

use crate::backends::{Backends, LogBackend, StoreBackend};
use crate::folder;
use crate::serve::config;

/// A data folder or a cluster.
pub(super) enum Named {
    /// A data folder.
    Folder(PathBuf),
    /// Servers.
    Cluster(Box<Backends>),
}

/// What a log is made like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Like {
    /// Its partitions.
    pub(super) partitions: Partitions,
    /// Its generation.
    pub(super) epoch: u32,
}

/// What is not there: an error, or made.
#[derive(Debug, Clone, Copy)]
enum Missing {
    Refused,
    Made(Option<Like>),
}

impl Named {
    /// Reads a configuration file; what is not called one is a folder.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        if !path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            return Ok(Self::Folder(path.to_owned()));
        }
        let shown = path.display();
        if !path.exists() {
            bail!("{shown} is not there: name a configuration file or a data folder");
        }
        let backends = config::backends(path)?;
        if !backends.are_shared() {
            bail!("{shown} must say log: kafka and store: scylla; of what lies in a data folder name the folder");
        }
        Ok(Self::Cluster(Box::new(backends)))
    }

    /// Opens what is there.
    pub(super) async fn open(self) -> anyhow::Result<Place> {
        self.open_with(Missing::Refused).await
    }

    /// Opens it, and makes what is not there yet.
    pub(super) async fn open_or_make(self, like: Option<Like>) -> anyhow::Result<Place> {
        self.open_with(Missing::Made(like)).await
    }

    async fn open_with(self, missing: Missing) -> anyhow::Result<Place> {
        match self {
            Self::Folder(path) => open_folder(&path, missing),
            Self::Cluster(backends) => {
                let Backends { log, store, .. } = *backends;
                let log = open_log(log, missing).await?;
                Ok(Place { log, store: open_store(store, missing).await? })
            }
        }
    }
}

fn open_folder(path: &Path, missing: Missing) -> anyhow::Result<Place> {
    folder::check(path, matches!(missing, Missing::Made(_)))?;
    let engine = match missing {
        Missing::Made(Some(like)) => Embedded::open_of_epoch(path, like.partitions, like.epoch)?,
        Missing::Made(None) | Missing::Refused => Embedded::open(path, Partitions::default())?,
    };
    Ok(Place { log: engine.log(), store: engine.store() })
}

#[cfg(feature = "kafka")]
async fn open_log(log: LogBackend, missing: Missing) -> anyhow::Result<Arc<dyn Log>> {
    let LogBackend::Kafka(mut settings) = log else { bail!("the log is in a data folder: name the folder") };
    settings.create_topics = matches!(missing, Missing::Made(_));
    settings.begin_topics = settings.create_topics;
    if let Missing::Made(Some(like)) = missing {
        settings.partitions = like.partitions;
        settings.epoch = Some(like.epoch);
    }
    Ok(Arc::new(pipeline::KafkaLog::open(*settings).await?))
}

#[cfg(not(feature = "kafka"))]
async fn open_log(_: LogBackend, _: Missing) -> anyhow::Result<Arc<dyn Log>> {
    bail!("this build has no Kafka")
}

#[cfg(feature = "scylla")]
async fn open_store(store: StoreBackend, missing: Missing) -> anyhow::Result<Arc<dyn Store>> {
    let StoreBackend::Scylla(mut settings) = store else { bail!("the store is in a data folder: name the folder") };
    settings.migrate = matches!(missing, Missing::Made(_));
    Ok(Arc::new(pipeline::ScyllaStore::open(*settings).await?))
}

#[cfg(not(feature = "scylla"))]
async fn open_store(_: StoreBackend, _: Missing) -> anyhow::Result<Arc<dyn Store>> {
    bail!("this build has no ScyllaDB")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str =
        "log:\n  kafka: {brokers: \"kafka:9092\"}\nstore:\n  scylla: {nodes: [\"a:9042\"]}\nwatch: []\n";

    fn read(text: &str) -> anyhow::Result<Named> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.yaml");
        std::fs::write(&path, text).unwrap();
        Named::read(&path)
    }

    #[cfg(all(feature = "kafka", feature = "scylla"))]
    #[test]
    fn a_configuration_names_log_and_store() {
        assert!(matches!(read(CLUSTER).unwrap(), Named::Cluster(_)));
    }

    #[cfg(not(all(feature = "kafka", feature = "scylla")))]
    #[test]
    fn a_build_that_lacks_a_backend_says_how_to_get_one() {
        let refused = format!("{:#}", read(CLUSTER).err().unwrap());
        assert!(refused.contains("--features kafka,scylla"), "{refused}");
    }

    #[test]
    fn a_configuration_that_names_no_servers_or_is_not_there_is_refused() {
        let refused = format!("{:#}", read("watch: []\n").err().unwrap());
        assert!(refused.contains("cluster.yaml") && refused.contains("log: kafka"), "{refused}");
        let refused = Named::read(Path::new("/nowhere/cluster.yaml")).err().unwrap().to_string();
        assert!(refused.contains("is not there"), "{refused}");
    }

    #[tokio::test]
    async fn a_folder_that_moves_must_be_there_and_one_to_move_to_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let named = || Named::read(&path).unwrap();
        let refused = named().open().await.err().unwrap().to_string();
        assert!(refused.contains("is no data folder") && !path.exists(), "{refused}");
        let like = Like { partitions: Partitions { inputs: 2, events: 1, decisions: 2 }, epoch: 9 };
        drop(named().open_or_make(Some(like)).await.unwrap());
        let place = named().open().await.unwrap();
        assert_eq!((place.log.partitions(schemas::Topic::Inputs), place.log.epoch(schemas::Topic::Events)), (2, 9));
    }
}
