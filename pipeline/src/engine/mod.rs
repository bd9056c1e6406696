//! The embedded engine: one database in one folder that is both the log and the store.
//!
//! One journal orders everything, so a row never outlives the batches that were appended before it. One thread, the
//! committer, writes: it takes all that waits, writes it as one batch of the database and syncs once. Readers go to
//! the database directly.

mod committer;
mod folder;
mod journal;
mod keyspaces;
mod shared;
mod stall;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::Slice;
use schemas::Topic;
use tokio::sync::oneshot;

use crate::log::EmbeddedLog;
use crate::store::{EmbeddedStore, Expect, StoreError};
use committer::{Queue, Work};
pub use folder::{FORMAT_VERSION, check_free, format_version, free_and_total_bytes};

pub(crate) use keyspaces::{ROW_KEY_PREFIX_BYTES, batch_key, batch_offset, row_key};
pub(crate) use shared::{Failure, Shared, is_damage};

/// A write that takes longer than this has failed: who waits for it is told, and the engine takes no more.
const STALL: std::time::Duration = std::time::Duration::from_secs(60);

/// How many partitions each topic has; fixed when the data folder is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// Of `inputs`.
    pub inputs: u32,
    /// Of `events`.
    pub events: u32,
    /// Of `decisions`; a stream's decisions stand in the partition with the number of its inputs.
    pub decisions: u32,
}

impl Default for Partitions {
    fn default() -> Self {
        Self { inputs: 4, events: 4, decisions: 4 }
    }
}

impl Partitions {
    /// More than this many partitions of a topic are refused.
    pub const COUNT_MAX: u32 = 4096;

    /// How many a topic has.
    pub const fn of(&self, topic: Topic) -> u32 {
        match topic {
            Topic::Inputs => self.inputs,
            Topic::Events => self.events,
            Topic::Decisions => self.decisions,
        }
    }

    pub(crate) fn are_valid(&self) -> bool {
        let in_range = Topic::ALL.iter().all(|topic| (1..=Self::COUNT_MAX).contains(&self.of(*topic)));
        in_range && self.inputs == self.decisions
    }
}

/// A data folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of the folder cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the folder.
    #[error("the data folder {folder} is held by {holder}: stop it first, or ask it instead")]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// A newer build made the folder.
    #[error("the data folder {folder} has format {found}, this build reads up to {known}: use a newer autonomos")]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest that this build knows.
        known: u32,
    },
    /// The file that describes the folder is missing or damaged.
    #[error("{path} {problem}: restore it from a backup of the folder, or choose an empty folder")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The partition counts asked for are not possible.
    #[error("partition counts must be from 1 to 4096 and equal for inputs and decisions, not {0:?}")]
    Partitions(Partitions),
    /// The database does not open.
    #[error(
        "the database in {folder} does not open: make sure that the disk works and has room, or restore the folder"
    )]
    Database {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A journal of the database is damaged, and not at its end.
    #[error(
        "the journal {path} is damaged at byte {offset}, and whole batches stand behind that: nothing was changed; restore \
         the folder from a backup, or cut the file there to go on without them"
    )]
    Journal {
        /// The file.
        path: PathBuf,
        /// Behind its last batch that is whole.
        offset: u64,
    },
}

/// The embedded engine, open. The folder is free again when this, its log and its store are dropped.
pub struct Embedded {
    log: Arc<EmbeddedLog>,
    store: Arc<EmbeddedStore>,
}

impl Embedded {
    /// Opens a data folder, or makes it with `partitions`. A folder that exists keeps the counts that it was made with.
    pub fn open(folder: &Path, partitions: Partitions) -> Result<Self, OpenError> {
        Self::open_of_epoch(folder, partitions, 1)
    }

    /// The same, and a folder that is made is of a generation: for what moves here from a log of that one.
    pub fn open_of_epoch(folder: &Path, partitions: Partitions, epoch: u32) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::open(folder, partitions, epoch)?);
        let path = folder.to_owned();
        let queue = Queue::start(shared.clone(), STALL).map_err(|source| OpenError::Io { path, source })?;
        let engine = Arc::new(Engine { queue, shared });
        let log = Arc::new(EmbeddedLog::new(engine.clone()));
        Ok(Self { log, store: Arc::new(EmbeddedStore::new(engine)) })
    }

    /// The engine as a log.
    pub fn log(&self) -> Arc<EmbeddedLog> {
        self.log.clone()
    }

    /// The engine as a store.
    pub fn store(&self) -> Arc<EmbeddedStore> {
        self.store.clone()
    }
}

/// What log and store share: the way to the committer, and the database.
pub(crate) struct Engine {
    // Dropped first: it waits for the committer, which has the database too.
    queue: Queue,
    shared: Arc<Shared>,
}

impl Engine {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Queues an append and answers once it has its place in the queue.
    pub(crate) async fn append(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<(u32, Slice)>,
        durable: bool,
    ) -> Result<oneshot::Receiver<Result<Vec<u64>, Failure>>, Failure> {
        let (to, answer) = oneshot::channel();
        self.queue.push(Work::Append { topic, partition, batches, durable, to }).await?;
        Ok(answer)
    }

    /// Writes (`Some`) or removes (`None`) a row.
    pub(crate) async fn write_row(
        &self,
        key: Vec<u8>,
        value: Option<bytes::Bytes>,
        expect: Expect,
    ) -> Result<u64, StoreError> {
        let (to, answer) = oneshot::channel();
        self.queue.push(Work::Row { key, value, expect, to }).await?;
        self.answered(answer).await?
    }

    /// Makes everything that was queued so far durable.
    pub(crate) async fn sync(&self) -> Result<(), Failure> {
        let (to, answer) = oneshot::channel();
        self.queue.push(Work::Sync { to }).await?;
        self.answered(answer).await?
    }

    /// Waits for an answer of the committer, but not of one that hangs.
    pub(crate) async fn answered<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| self.shared.check().err().unwrap_or_else(Failure::stopped)),
            failure = self.shared.failed() => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Log;

    fn message(result: Result<Embedded, OpenError>) -> String {
        result.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_folder_of_a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Embedded::open(folder.path(), Partitions::default()).unwrap());
        std::fs::write(folder.path().join("format"), br#"{"format":2,"shards":"unknown here"}"#).unwrap();
        let refused = Embedded::open(folder.path(), Partitions::default());
        assert!(message(refused).contains("has format 2, this build reads up to 1: use a newer autonomos"));
    }

    #[test]
    fn a_second_opener_is_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = Embedded::open(folder.path(), Partitions::default()).unwrap();
        let refused = message(Embedded::open(folder.path(), Partitions::default()));
        assert!(refused.contains(&format!("held by process {}", std::process::id())), "{refused}");
        assert!(matches!(check_free(folder.path()), Err(OpenError::Held { .. })));
        drop(held);
        check_free(folder.path()).unwrap();
        Embedded::open(folder.path(), Partitions::default()).unwrap();
    }

    #[test]
    fn a_folder_keeps_the_partition_counts_that_it_was_made_with() {
        let folder = tempfile::tempdir().unwrap();
        let made_with = Partitions { inputs: 2, events: 3, decisions: 2 };
        drop(Embedded::open(folder.path(), made_with).unwrap());
        let again = Embedded::open(folder.path(), Partitions::default()).unwrap();
        assert_eq!(again.log.partitions_of_folder(), made_with);
    }

    #[test]
    fn a_folder_keeps_the_epoch_that_it_was_made_with() {
        let folder = tempfile::tempdir().unwrap();
        drop(Embedded::open_of_epoch(folder.path(), Partitions::default(), 7).unwrap());
        let again = Embedded::open(folder.path(), Partitions::default()).unwrap();
        assert_eq!(again.log.epoch(Topic::Inputs), 7);
    }

    #[test]
    fn impossible_partition_counts_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (inputs, events, decisions) in [(0, 4, 0), (4, 5000, 4), (4, 4, 3)] {
            let refused = Embedded::open(folder.path(), Partitions { inputs, events, decisions });
            assert!(matches!(refused, Err(OpenError::Partitions(_))));
        }
    }

    #[test]
    fn a_database_without_its_format_file_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        drop(Embedded::open(folder.path(), Partitions::default()).unwrap());
        std::fs::remove_file(folder.path().join("format")).unwrap();
        assert!(matches!(Embedded::open(folder.path(), Partitions::default()), Err(OpenError::Format { .. })));
        std::fs::write(folder.path().join("format"), b"{").unwrap();
        assert!(matches!(Embedded::open(folder.path(), Partitions::default()), Err(OpenError::Format { .. })));
    }

    #[test]
    fn a_creation_that_was_cut_off_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("engine.new")).unwrap();
        std::fs::write(folder.path().join("engine.new/0.jnl"), b"half").unwrap();
        Embedded::open(folder.path(), Partitions::default()).unwrap();
        assert!(!folder.path().join("engine.new").exists());
    }
}
