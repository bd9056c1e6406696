//! What moves and where to: a data folder, or the log and the store that a configuration file names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
#[cfg(not(all(feature = "kafka", feature = "scylla")))]
use anyhow::bail;
use pipeline::engine::{Embedded, Partitions};
#[cfg(feature = "kafka")]
use pipeline::log::kafka::Settings as KafkaSettings;
use pipeline::migrate::Place;
#[cfg(feature = "scylla")]
use pipeline::store::scylla::Settings as ScyllaSettings;
use pipeline::{Log, Store};
use serde::Deserialize;
#[cfg(not(feature = "kafka"))]
use serde::de::IgnoredAny as KafkaSettings;
#[cfg(not(feature = "scylla"))]
use serde::de::IgnoredAny as ScyllaSettings;

use crate::folder;

/// A data folder or a cluster.
pub(super) enum Named {
    /// A data folder.
    Folder(PathBuf),
    /// Servers.
    Cluster(Box<Cluster>),
}

/// What a configuration file says of log and store; the rest of it is for who serves.
#[derive(Debug, Deserialize)]
pub(super) struct Cluster {
    log: LogNamed,
    store: StoreNamed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogNamed {
    kafka: KafkaSettings,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreNamed {
    scylla: ScyllaSettings,
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
        let reading = || format!("reading {}", path.display());
        let text = std::fs::read_to_string(path).with_context(reading)?;
        let cluster = serde_saphyr::from_str(&text).context("it must name a log and a store").with_context(reading)?;
        Ok(Self::Cluster(Box::new(cluster)))
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
            Self::Cluster(cluster) => {
                let Cluster { log, store } = *cluster;
                let log = open_kafka(log.kafka, missing).await?;
                Ok(Place { log, store: open_scylla(store.scylla, missing).await? })
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
async fn open_kafka(mut settings: KafkaSettings, missing: Missing) -> anyhow::Result<Arc<dyn Log>> {
    settings.create_topics = matches!(missing, Missing::Made(_));
    if let Missing::Made(Some(like)) = missing {
        settings.partitions = like.partitions;
        settings.epoch = Some(like.epoch);
    }
    Ok(Arc::new(pipeline::KafkaLog::open(settings).await?))
}

#[cfg(not(feature = "kafka"))]
async fn open_kafka(_: KafkaSettings, _: Missing) -> anyhow::Result<Arc<dyn Log>> {
    bail!("this build has no Kafka: build autonomos with --features kafka,scylla")
}

#[cfg(feature = "scylla")]
async fn open_scylla(mut settings: ScyllaSettings, missing: Missing) -> anyhow::Result<Arc<dyn Store>> {
    settings.migrate = matches!(missing, Missing::Made(_));
    Ok(Arc::new(pipeline::ScyllaStore::open(settings).await?))
}

#[cfg(not(feature = "scylla"))]
async fn open_scylla(_: ScyllaSettings, _: Missing) -> anyhow::Result<Arc<dyn Store>> {
    bail!("this build has no ScyllaDB: build autonomos with --features kafka,scylla")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str =
        "roles: [api]\nlog:\n  kafka: {brokers: \"kafka:9092\"}\nstore:\n  scylla: {nodes: [\"a:9042\"]}\n";

    fn read(text: &str) -> anyhow::Result<Named> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.yaml");
        std::fs::write(&path, text).unwrap();
        Named::read(&path)
    }

    #[test]
    fn a_configuration_names_log_and_store_and_its_rest_is_not_looked_at() {
        assert!(matches!(read(CLUSTER).unwrap(), Named::Cluster(_)));
        let told = format!("{:#}", read("log: {kafka: {brokers: a}}\n").err().unwrap());
        assert!(told.contains("cluster.yaml") && told.contains("log and a store"), "{told}");
        assert!(read(&CLUSTER.replace("kafka:", "kafak:")).is_err());
        assert!(Named::read(Path::new("/nowhere/cluster.yaml")).is_err());
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

    #[cfg(not(any(feature = "kafka", feature = "scylla")))]
    #[tokio::test]
    async fn a_build_without_the_backends_says_how_to_get_one() {
        let refused = read(CLUSTER).unwrap().open().await.err().unwrap().to_string();
        assert!(refused.contains("--features kafka,scylla"), "{refused}");
    }
}
