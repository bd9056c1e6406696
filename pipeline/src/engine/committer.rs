//! The one writer: takes all that waits, writes it as one batch of the database, syncs once, answers.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode, Slice};
use schemas::Topic;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::keyspaces::batch_key;
use super::shared::{Failure, Shared, describe};
use super::stall::{Busy, StallWatch};
use crate::store::embedded::{decode_row, encode_row};
use crate::store::{Expect, Row, StoreError};

/// Bytes that may wait for the committer or be written by it; who has more to write waits.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// What a piece of work counts beside its bytes, so that many small ones are bounded too.
const WORK_BYTES: usize = 256;

/// Something to write.
pub(super) enum Work {
    /// Packed batches with their item counts, to stand together at the end of a partition.
    Append {
        topic: Topic,
        partition: u32,
        batches: Vec<(u32, Slice)>,
        durable: bool,
        to: oneshot::Sender<Result<Vec<u64>, Failure>>,
    },
    /// A row's new value, or none to remove it.
    Row { key: Vec<u8>, value: Option<Bytes>, expect: Expect, to: oneshot::Sender<Result<u64, StoreError>> },
    /// Nothing, but what came before is to be durable.
    Sync { to: oneshot::Sender<Result<(), Failure>> },
}

impl Work {
    fn bytes(&self) -> usize {
        let own = match self {
            Self::Append { batches, .. } => batches.iter().map(|(_, value)| value.len()).sum(),
            Self::Row { key, value, .. } => key.len() + value.as_ref().map_or(0, Bytes::len),
            Self::Sync { .. } => 0,
        };
        own + WORK_BYTES
    }
}

struct Job {
    work: Work,
    _room: OwnedSemaphorePermit,
}

/// The way to the committer. Dropping it waits until all that was queued is written.
pub(super) struct Queue {
    jobs: Option<mpsc::Sender<Job>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    stall: StallWatch,
}

impl Queue {
    /// Starts the committer; a write that takes longer than `deadline` fails the engine.
    pub(super) fn start(shared: Arc<Shared>, deadline: Duration) -> std::io::Result<Self> {
        let (jobs, receiver) = mpsc::channel();
        let (stall, busy) = StallWatch::start(&shared, deadline)?;
        let committer = Committer { shared: shared.clone(), unsynced: true, busy };
        let thread = std::thread::Builder::new().name("committer".into()).spawn(move || committer.run(&receiver))?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        Ok(Self { jobs: Some(jobs), room, thread: Some(thread), shared, stall })
    }

    /// Queues work once there is room for it.
    pub(super) async fn push(&self, work: Work) -> Result<(), Failure> {
        self.shared.check()?;
        let bytes = work.bytes().min(QUEUE_BYTES_MAX) as u32;
        let room = tokio::select! {
            biased;
            room = self.room.clone().acquire_many_owned(bytes) => room.map_err(|_| Failure::stopped())?,
            failure = self.shared.failed() => return Err(failure),
        };
        let jobs = self.jobs.as_ref().ok_or_else(Failure::stopped)?;
        jobs.send(Job { work, _room: room }).map_err(|_| self.shared.check().err().unwrap_or_else(Failure::stopped))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // One that hangs is left to itself. One that panicked has latched that already.
            if self.stall.wait_for_end() {
                let _ = thread.join();
            }
        }
    }
}

struct Committer {
    shared: Arc<Shared>,
    /// Whether something was written since the last sync.
    unsynced: bool,
    busy: Busy,
}

/// Who waits for an append, a panic included, learns that there will be no more.
struct FailOnPanic(Arc<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&"its committer panicked: see the log for the cause and start again");
        }
    }
}

impl Committer {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let shared = self.shared.clone();
        let _latch = FailOnPanic(shared.clone());
        while let Ok(first) = jobs.recv() {
            let mut group = Group::new(&shared);
            // The queue is bounded in bytes, and with it the group.
            let rooms: Vec<_> = std::iter::once(first).chain(jobs.try_iter()).map(|job| group.add(job)).collect();
            let answers = std::mem::take(&mut group.answers);
            self.busy.begin();
            let outcome = self.write(group);
            self.busy.end();
            drop(rooms);
            for answer in answers {
                answer.send(&outcome);
            }
        }
        if self.unsynced && self.shared.check().is_ok() {
            self.busy.begin();
            let _ = self.sync();
            self.busy.end();
        }
    }

    fn write(&mut self, group: Group<'_>) -> Result<(), Failure> {
        self.shared.check()?;
        if let Some(failure) = group.failure {
            return Err(failure);
        }
        if !group.batch.is_empty() {
            self.shared.check_room(group.bytes)?;
            self.shared.wait_for_flushes()?;
            #[cfg(test)]
            drop(self.shared.gate.blocking_lock());
            group.batch.commit().map_err(|e| self.shared.fail(&describe(&e)))?;
            self.unsynced = true;
            // Readers may see it from here on: their own writes come behind it in the same journal.
            for ((topic, partition), end) in group.ends {
                if let Ok(partition) = self.shared.partitions.get(topic, partition) {
                    partition.end.send_replace(end);
                }
            }
        }
        if group.durable && self.unsynced && !planted() { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.shared.database.persist(PersistMode::SyncAll).map_err(|e| self.shared.fail(&describe(&e)))?;
        self.unsynced = false;
        Ok(())
    }
}

/// Whether this is a build that acknowledges before the fsync: the positive control of the power cut campaign.
#[cfg(feature = "plant")]
fn planted() -> bool {
    std::env::var("AUTONOMOS_PLANT").is_ok_and(|fault| fault == "ack_before_fsync")
}

#[cfg(not(feature = "plant"))]
const fn planted() -> bool {
    false
}

/// What is written at once.
struct Group<'a> {
    shared: &'a Shared,
    batch: OwnedWriteBatch,
    /// New ends of the partitions that grow.
    ends: HashMap<(Topic, u32), u64>,
    /// Versions of rows as they will be; `None` is a removed one.
    versions: HashMap<Vec<u8>, Option<u64>>,
    bytes: u64,
    durable: bool,
    /// Something that the group depends on cannot be read.
    failure: Option<Failure>,
    answers: Vec<Answer>,
}

/// What is said once the group is written.
enum Answer {
    Append(Vec<u64>, oneshot::Sender<Result<Vec<u64>, Failure>>),
    Row(Result<u64, StoreError>, oneshot::Sender<Result<u64, StoreError>>),
    Sync(oneshot::Sender<Result<(), Failure>>),
}

impl Answer {
    fn send(self, outcome: &Result<(), Failure>) {
        // Who asked may have gone away; that changes nothing.
        match (self, outcome.clone()) {
            (Self::Append(offsets, to), outcome) => drop(to.send(outcome.map(|()| offsets))),
            (Self::Row(result, to), Ok(())) => drop(to.send(result)),
            (Self::Row(_, to), Err(failure)) => drop(to.send(Err(failure.into()))),
            (Self::Sync(to), outcome) => drop(to.send(outcome)),
        }
    }
}

impl<'a> Group<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            batch: shared.database.batch(),
            ends: HashMap::new(),
            versions: HashMap::new(),
            bytes: 0,
            durable: false,
            failure: None,
            answers: Vec::new(),
        }
    }

    fn add(&mut self, job: Job) -> OwnedSemaphorePermit {
        self.bytes += job.work.bytes() as u64;
        match job.work {
            Work::Append { topic, partition, batches, durable, to } => {
                self.durable |= durable;
                let offsets = self.append(topic, partition, batches);
                self.answers.push(Answer::Append(offsets, to));
            }
            Work::Row { key, value, expect, to } => {
                let result = self.write_row(key, value, expect);
                self.durable |= result.is_ok() && matches!(expect, Expect::Absent | Expect::Version(_));
                self.answers.push(Answer::Row(result, to));
            }
            Work::Sync { to } => {
                self.durable = true;
                self.answers.push(Answer::Sync(to));
            }
        }
        job._room
    }

    fn append(&mut self, topic: Topic, partition: u32, batches: Vec<(u32, Slice)>) -> Vec<u64> {
        let written = || self.shared.partitions.get(topic, partition).map_or(0, |p| *p.end.borrow());
        let end = self.ends.entry((topic, partition)).or_insert_with(written);
        let mut offsets = Vec::with_capacity(batches.len());
        for (count, value) in batches {
            offsets.push(*end);
            self.batch.insert(self.shared.keyspaces.topic(topic), batch_key(partition, *end), value);
            *end += u64::from(count);
        }
        offsets
    }

    fn write_row(&mut self, key: Vec<u8>, value: Option<Bytes>, expect: Expect) -> Result<u64, StoreError> {
        let found = self.version(&key)?;
        expect.check(found)?;
        let rows = &self.shared.keyspaces.rows;
        let version = expect.next(found);
        match value {
            Some(value) => {
                self.batch.insert(rows, key.as_slice(), encode_row(&Row { value, version }));
                self.versions.insert(key, Some(version));
            }
            None if found.is_some() => {
                self.batch.remove(rows, key.as_slice());
                self.versions.insert(key, None);
            }
            None => {}
        }
        Ok(version)
    }

    fn version(&mut self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        if let Some(version) = self.versions.get(key) {
            return Ok(*version);
        }
        let read = self.shared.keyspaces.rows.get(key).map_err(|e| self.shared.fail(&describe(&e)));
        let read = read.inspect_err(|failure| self.failure = Some(failure.clone()))?;
        Ok(read.map(|bytes| decode_row(bytes).map(|row| row.version)).transpose()?)
    }
}
