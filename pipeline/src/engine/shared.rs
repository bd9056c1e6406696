//! What the committer and the readers of the embedded engine share.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fjall::{AbstractTree, Database, PersistMode};
use schemas::batch::BatchError;
use schemas::{BatchHeader, PackedBatch, Topic};
use tokio::sync::watch;

use super::folder::Folder;
use super::journal;
use super::keyspaces::{self, Keyspaces, MEMTABLE_BYTES, batch_key, batch_offset};
use super::{OpenError, Partitions};
use crate::log::LogError;
use crate::log::partition::{ByPartition, Stamp};
use crate::store::StoreError;

/// Why the engine took nothing.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// There is no room; nothing was written.
    DiskFull,
    /// The engine takes no more; what was under way may be there or not.
    Failed(Arc<str>),
}

impl Failure {
    pub(crate) fn stopped() -> Self {
        Self::Failed("its committer stopped".into())
    }
}

impl From<Failure> for LogError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DiskFull => Self::DiskFull,
            Failure::Failed(why) => Self::Failed(why.to_string()),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DiskFull => Self::DiskFull,
            Failure::Failed(why) => Self::Failed(why.to_string()),
        }
    }
}

/// One partition of a topic.
pub(crate) struct Partition {
    /// Held from stamping a batch until it is queued, so that times and offsets rise together.
    pub(crate) stamp: tokio::sync::Mutex<Stamp>,
    /// The offset behind the last item that was written; only the committer moves it.
    pub(crate) end: watch::Sender<u64>,
    /// What is wrong with the partition, once that is known: it takes no more.
    damage: OnceLock<LogError>,
}

impl Partition {
    /// Refuses to add to a damaged partition.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        self.damage().map_or(Ok(()), Err)
    }

    pub(crate) fn damage(&self) -> Option<LogError> {
        self.damage.get().cloned()
    }

    /// Notes that something of the partition cannot be read. The first one stays.
    pub(crate) fn note_damage(&self, error: &LogError) {
        if self.damage.set(error.clone()).is_ok() {
            tracing::error!(%error, "a partition is damaged; other partitions go on");
        }
    }
}

/// The open database and what is known about it.
pub(crate) struct Shared {
    pub(crate) keyspaces: Keyspaces,
    pub(super) database: Database,
    pub(crate) partitions: ByPartition<Partition>,
    /// Why the engine failed, once it has.
    pub(crate) failure: watch::Sender<Option<Arc<str>>>,
    /// Held by tests to keep the committer from writing.
    #[cfg(test)]
    pub(super) gate: tokio::sync::Mutex<()>,
    // Last, so that the folder is free only when the database is closed.
    folder: Folder,
}

impl Shared {
    pub(super) fn open(path: &Path, partitions: Partitions, epoch: u32) -> Result<Self, OpenError> {
        let folder = Folder::hold(path, partitions, epoch)?;
        let failed = |e: fjall::Error| OpenError::Database { folder: path.to_owned(), source: Box::new(e) };
        let database = folder.database(|new| {
            let made = keyspaces::open_database(new).and_then(|database| Keyspaces::open(&database).map(|_| ()));
            made.map_err(failed)
        })?;
        journal::check(&database)?;
        let database = keyspaces::open_database(&database).map_err(failed)?;
        let keyspaces = Keyspaces::open(&database).map_err(failed)?;
        let partitions = ByPartition::try_new(folder.partitions, |topic, partition| {
            recover(&keyspaces, topic, partition).map_err(failed)
        })?;
        Ok(Self {
            keyspaces,
            database,
            partitions,
            failure: watch::Sender::new(None),
            #[cfg(test)]
            gate: tokio::sync::Mutex::new(()),
            folder,
        })
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.folder.epoch
    }

    pub(crate) fn partition_counts(&self) -> Partitions {
        self.folder.partitions
    }

    /// The failure, if the engine has failed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.failure.borrow().clone().map_or(Ok(()), |why| Err(Failure::Failed(why)))
    }

    /// Returns once the engine has failed.
    pub(crate) async fn failed(&self) -> Failure {
        let mut failure = self.failure.subscribe();
        let _ = failure.wait_for(Option::is_some).await;
        self.check().err().unwrap_or_else(Failure::stopped)
    }

    /// Latches a failure: the engine takes nothing any more. The first one stays.
    pub(crate) fn fail(&self, error: &dyn std::fmt::Display) -> Failure {
        let why: Arc<str> = error.to_string().into();
        let first = self.failure.send_if_modified(|latched| {
            let first = latched.is_none();
            latched.get_or_insert(why);
            first
        });
        let why = self.failure.borrow().clone().unwrap_or_default();
        if first {
            tracing::error!(%why, "the embedded engine failed and must be opened again");
        }
        Failure::Failed(why)
    }

    /// Refuses to write when the disk could become full by it: a database that ran into a full disk must be opened again.
    pub(super) fn check_room(&self, group_bytes: u64) -> Result<(), Failure> {
        let Ok((free, total)) = self.folder.free_and_total_bytes() else {
            return Ok(());
        };
        let in_memory: u64 = (self.keyspaces.all())
            .map(|k| k.tree.active_memtable().size() + k.sealed_memtable_count() as u64 * MEMTABLE_BYTES)
            .sum();
        if has_room(free, total, in_memory, group_bytes) { Ok(()) } else { Err(Failure::DiskFull) }
    }

    /// Waits until writing cannot make the database wait: it would do so without noticing that its workers have failed.
    pub(super) fn wait_for_flushes(&self) -> Result<(), Failure> {
        // Not for ever: the watch on the committer ends it by failing the engine.
        while self.keyspaces.all().any(|k| k.sealed_memtable_count() > 1 || k.l0_table_count() > 24) {
            self.database.persist(PersistMode::Buffer).map_err(|e| self.fail(&describe(&e)))?;
            self.check()?;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Whether a group can be written twice (journal, table) and all that is still in memory once more, with some to spare.
fn has_room(free: u64, total: u64, in_memory: u64, group_bytes: u64) -> bool {
    let spare = (total / 16).min(64 << 20);
    free > in_memory.saturating_add(group_bytes.saturating_mul(2)).saturating_add(spare)
}

/// An error of the database in words that say what to do.
pub(super) fn describe(error: &fjall::Error) -> String {
    let io = match error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io.kind()),
        _ => None,
    };
    match (error, io) {
        (_, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)) => {
            "the disk became full: free some room in the data folder's filesystem and start again".to_owned()
        }
        (fjall::Error::Poisoned, _) => {
            "an earlier write to disk failed: see the log for its cause, make sure that the disk works and has room, and \
             start again"
                .to_owned()
        }
        _ => format!("writing to disk failed ({error}): make sure that the disk works and start again"),
    }
}

/// Finds where a partition ends. One that is damaged there ends before the damage.
fn recover(keyspaces: &Keyspaces, topic: Topic, partition: u32) -> fjall::Result<Partition> {
    let all = || keyspaces.topic(topic).range(batch_key(partition, 0)..=batch_key(partition, u64::MAX));
    let Some(last) = all().next_back() else { return Ok(partition_behind(0, i64::MIN, None)) };
    match read_batch(last)? {
        Ok((first, header)) => Ok(partition_behind(first + u64::from(header.count), header.logged_at, None)),
        // It does not say itself where it begins, so what stands before it must.
        Err(source) => {
            let mut end = 0;
            for entry in all() {
                match read_batch(entry)? {
                    Ok((first, header)) if first == end => end += u64::from(header.count),
                    _ => break,
                }
            }
            let damage = LogError::Unreadable { topic, partition, offset: end, source };
            Ok(partition_behind(end, i64::MIN, Some(damage)))
        }
    }
}

/// Where a batch begins and what its header says, or what is wrong with its bytes.
fn read_batch(entry: fjall::Guard) -> fjall::Result<Result<(u64, BatchHeader), BatchError>> {
    let (key, value) = match entry.into_inner() {
        Ok(read) => read,
        Err(error) if is_damage(&error) => return Ok(Err(BatchError::Checksum)),
        Err(error) => return Err(error),
    };
    let Some(first) = batch_offset(&key) else { return Ok(Err(BatchError::Checksum)) };
    Ok(PackedBatch::decode(&Bytes::from_owner(value)).map(|batch| (first, batch.header)))
}

/// Whether bytes have changed, rather than that the disk does not give them.
pub(crate) fn is_damage(error: &fjall::Error) -> bool {
    use fjall::LsmError::{ChecksumMismatch, Decompress, InvalidHeader, InvalidTag, InvalidTrailer};
    matches!(
        error,
        fjall::Error::Storage(
            ChecksumMismatch { .. } | Decompress(_) | InvalidHeader(_) | InvalidTag(_) | InvalidTrailer
        )
    )
}

fn partition_behind(end: u64, logged_at: i64, damage: Option<LogError>) -> Partition {
    let stamp = tokio::sync::Mutex::new(Stamp::after(logged_at));
    let partition = Partition { stamp, end: watch::Sender::new(end), damage: OnceLock::new() };
    if let Some(error) = damage {
        partition.note_damage(&error);
    }
    partition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_refused_before_it_could_fill_the_disk() {
        const MIB: u64 = 1 << 20;
        assert!(has_room(1000 * MIB, 2000 * MIB, 60 * MIB, 10 * MIB));
        assert!(!has_room(140 * MIB, 2000 * MIB, 60 * MIB, 10 * MIB));
        assert!(has_room(4 * MIB, 8 * MIB, MIB, MIB), "a small filesystem is of use too");
        assert!(!has_room(0, 0, 0, 0));
        assert!(!has_room(u64::MAX, u64::MAX, 0, u64::MAX));
    }
}
