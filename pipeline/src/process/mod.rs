//! The processor: runs the step over one partition of `inputs` and puts what it gives on the log.

mod checkpoint;
mod follow;
mod output;
mod progress;
mod states;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use schemas::{BatchHeader, StreamId, Topic};
use tokio::sync::watch;

use crate::log::{Durability, Log, LogError, Stored};
use crate::quarantine::note_foreign;
use crate::step::{Folding, InputBatch, Scratch, StepError};
use crate::store::{Store, StoreError};
pub(crate) use checkpoint::{Checkpoint, Mark, peek};
pub use follow::{Follower, Reader};
pub(crate) use output::decisions;
use output::{Output, appends};
pub use output::{collect, decode_decisions, events_partition};
use progress::ProgressTeller;
use states::States;
pub(crate) use states::read_place;
pub use states::{read_snapshot, read_state};

/// Its checkpoint's name.
pub(crate) const READER: &str = "processor";
/// Packed bytes read from `inputs` at once.
const READ_BYTES: usize = 2 << 20;
/// A round ends once it has unpacked so many bytes …
const ROUND_BYTES: usize = 16 << 20;
/// … or read so many batches: each may be of a lane of its own, and all these lanes stand in the snapshot.
const ROUND_BATCHES: usize = 128;
/// What a round gave is put on the log once it has so many bytes.
const OUTPUT_BYTES: usize = 16 << 20;
/// How long a full disk is given before the next try.
pub(crate) const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(500);

/// A processor cannot go on; it may be started again from its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An input that cannot be folded.
    #[error("partition {partition} of inputs stops: {source}")]
    Step {
        /// The partition.
        partition: u32,
        /// Why.
        source: StepError,
    },
    /// A snapshot of this build or an older one that cannot be read.
    #[error("the state of stream {stream} cannot be read: {message}")]
    State {
        /// The stream.
        stream: String,
        /// What is wrong.
        message: String,
    },
    /// A checkpoint that cannot be read.
    #[error("the checkpoint {0} cannot be read: restore the store from a backup")]
    Checkpoint(String),
    /// Log and store are of different generations.
    #[error(
        "{what} is of epoch {found}, the topic of epoch {expected}: the log was restored or made again; restore log and \
         store from one backup, or start with an empty store"
    )]
    Epoch {
        /// What was read.
        what: String,
        /// Its epoch.
        found: u32,
        /// The topic's.
        expected: u32,
    },
    /// The log lacks what was read before.
    #[error(
        "{what} covers everything below offset {offset}, but {topic}, partition {partition} ends at {end}: the log went \
         back; restore log and store from one backup"
    )]
    WentBack {
        /// What was read.
        what: String,
        /// Where it stands.
        offset: u64,
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// Where that ends.
        end: u64,
    },
    /// Somebody else writes what only one may write.
    #[error(
        "{0} was written by another process meanwhile: stop one of the two; what this one did is done again by the other"
    )]
    Overtaken(String),
    /// The subject of a batch is no stream.
    #[error("the batch at offset {offset} names no stream: {subject:?}")]
    Subject {
        /// Offset of the batch.
        offset: u64,
        /// What it says.
        subject: String,
    },
}

impl ProcessError {
    /// Whether another process works on the partition by now: starting again from the checkpoint shows which of the two goes
    /// on.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Self::Overtaken(_) | Self::Store(StoreError::Fenced(_)))
    }

    /// Whether the log or the store takes no more until it is opened again.
    pub fn needs_reopening(&self) -> bool {
        matches!(self, Self::Log(LogError::Failed(_)) | Self::Store(StoreError::Failed(_)))
    }

    /// Whether starting again from the checkpoint may work later, without anybody restarting anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::Step { .. }
            | Self::State { .. }
            | Self::Checkpoint(_)
            | Self::Epoch { .. }
            | Self::WentBack { .. }
            | Self::Overtaken(_)
            | Self::Subject { .. } => false,
        }
    }
}

/// The stream that a batch of `inputs` or `decisions` belongs to.
pub fn stream_of(header: &BatchHeader) -> Option<StreamId> {
    let (connection, stream) = header.subject.split_once('/')?;
    Some(StreamId { tenant: header.tenant, connection: connection.parse().ok()?, stream: stream.parse().ok()? })
}

/// Runs the step over one partition. Its states are a cache over snapshots in `Store`: kill it anywhere, start it anywhere.
pub struct Processor {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    partition: u32,
    next: u64,
    checkpoint: Checkpoint,
    states: States,
    progress: ProgressTeller,
    scratch: Scratch,
    processed: watch::Sender<u64>,
    stall: Stall,
}

/// Why a reader of the log does not get on, while it tries again and again: a full disk.
pub type Stall = watch::Sender<Option<String>>;

/// What a processor has done so far.
#[derive(Debug, Clone)]
pub struct Processed(watch::Receiver<u64>);

impl Processed {
    /// Returns once every input below `offset` is processed, its events and the stream's state written.
    pub async fn wait(&mut self, offset: u64) -> Result<(), Stopped> {
        self.0.wait_for(|next| *next >= offset).await.map(|_| ()).map_err(|_| Stopped)
    }
    /// The next input.
    pub fn next(&self) -> u64 {
        *self.0.borrow()
    }
}

impl From<watch::Receiver<u64>> for Processed {
    fn from(next: watch::Receiver<u64>) -> Self {
        Self(next)
    }
}

/// The processor ended before it got there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the processor of the partition has stopped; its error is in the log output")]
pub struct Stopped;

impl Processor {
    /// A processor of `partition`, at its checkpoint.
    pub async fn start(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        partition: u32,
    ) -> Result<(Self, Processed), ProcessError> {
        let checkpoint = Checkpoint::read(&*log, &*store, Topic::Inputs, partition, READER).await?;
        let progress = ProgressTeller::start(&*log, &*store, partition).await?;
        let next = checkpoint.offset();
        let (processed, watcher) = watch::channel(next);
        let states = States::new(log.clone(), store.clone(), partition);
        let scratch = Scratch::default();
        let stall = Stall::new(None);
        let processor = Self { log, store, partition, next, checkpoint, states, progress, scratch, processed, stall };
        Ok((processor, Processed(watcher)))
    }

    /// Why it does not get on, as long as it does not.
    pub fn stall(&self) -> watch::Receiver<Option<String>> {
        self.stall.subscribe()
    }

    /// Processes until `shutdown` says true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), ProcessError> {
        loop {
            match self.drain().await {
                Ok(()) => _ = self.stall.send_if_modified(|stall| stall.take().is_some()),
                Err(error) if error.is_retryable() => {
                    if !self.start_over(error, &mut shutdown).await? {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
            let due = self.progress.due(self.next);
            let is_told = tokio::select! {
                waited = self.log.wait_beyond(Topic::Inputs, self.partition, self.next) => { waited?; true }
                _ = async { shutdown.wait_for(|stop| *stop).await.map(|_| ()) } => return self.stop().await,
                () = due => false,
            };
            if is_told {
                continue;
            }
            match self.progress.tell(&*self.log, &*self.store, self.next).await {
                Err(error) if error.is_retryable() => {
                    if !self.start_over(error, &mut shutdown).await? {
                        return Ok(());
                    }
                }
                told => told?,
            }
        }
    }

    async fn stop(mut self) -> Result<(), ProcessError> {
        match self.progress.tell(&*self.log, &*self.store, self.next).await {
            // It is told when the partition is opened again.
            Err(error) if error.is_retryable() => Ok(()),
            told => told,
        }
    }

    /// Goes back to the checkpoint, as after a crash: what was appended and not noted is appended again, and readers
    /// know the run by its positions. Tries until log and store answer; false when `shutdown` said true before.
    async fn start_over(
        &mut self,
        mut error: ProcessError,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<bool, ProcessError> {
        self.states.clear();
        loop {
            tracing::warn!(partition = self.partition, %error, "the processor waits and starts again from its checkpoint");
            self.stall.send_replace(Some(error.to_string()));
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER) => {}
                _ = async { shutdown.wait_for(|stop| *stop).await.map(|_| ()) } => return Ok(false),
            }
            match self.go_back().await {
                Ok(()) => return Ok(true),
                Err(again) if again.is_retryable() => error = again,
                Err(error) => return Err(error),
            }
        }
    }

    async fn go_back(&mut self) -> Result<(), ProcessError> {
        self.checkpoint = Checkpoint::read(&*self.log, &*self.store, Topic::Inputs, self.partition, READER).await?;
        self.progress = ProgressTeller::start(&*self.log, &*self.store, self.partition).await?;
        self.next = self.checkpoint.offset();
        Ok(())
    }

    /// Processes everything that is there.
    pub async fn drain(&mut self) -> Result<(), ProcessError> {
        loop {
            let batches = self.log.read(Topic::Inputs, self.partition, self.next, READ_BYTES).await?;
            if batches.is_empty() {
                return Ok(());
            }
            let mut rest = &batches[..];
            while !rest.is_empty() {
                let taken = self.round(rest).await?;
                let (done, left) = rest.split_at(taken);
                self.finish_round(done.last().map_or(self.next, Stored::end)).await?;
                rest = left;
            }
        }
    }

    /// Folds some of the batches and appends what they give: rows and controls to their views, decisions to the partition.
    /// Answers how many.
    async fn round(&mut self, batches: &[Stored]) -> Result<usize, ProcessError> {
        let mut output = Output::default();
        let (mut taken, mut unpacked) = (0, 0);
        for stored in batches.iter().take(ROUND_BATCHES) {
            taken += 1;
            if stored.is_forgotten() {
                continue;
            }
            let header = stored.header();
            let subject = || ProcessError::Subject { offset: stored.first, subject: header.subject.clone() };
            let stream = stream_of(header).ok_or_else(subject)?;
            if stored.end() <= self.states.get(&stream).await?.next.offset {
                continue;
            }
            let Some(body) = stored.body(Topic::Inputs, self.partition)? else { continue };
            unpacked += body.len();
            let input = InputBatch {
                kind: header.kind,
                first: stored.first,
                count: header.count,
                logged_at: header.logged_at,
                body: &body,
            };
            self.fold(&stream, input, header, &mut output).await?;
            if unpacked >= ROUND_BYTES {
                break;
            }
        }
        self.deliver(&mut output).await?;
        Ok(taken)
    }

    async fn fold(
        &mut self,
        stream: &StreamId,
        input: InputBatch<'_>,
        header: &BatchHeader,
        output: &mut Output,
    ) -> Result<(), ProcessError> {
        let partition = self.partition;
        let stopped = |source| ProcessError::Step { partition, source };
        let mut folding = Folding::new(input).map_err(stopped)?;
        let partitions = self.log.partitions(Topic::Events);
        loop {
            let state = self.states.get_to_fold(stream, folding.lane()).await?;
            let scratch = &mut self.scratch;
            let piece = tokio::task::block_in_place(|| folding.next(state, scratch)).map_err(stopped)?;
            let Some(outcome) = piece else { return Ok(()) };
            output.take(outcome, header, partitions);
            if output.bytes >= OUTPUT_BYTES {
                self.deliver(output).await?;
            }
        }
    }

    /// Puts on the log what is there so far, in as many appends as it takes.
    async fn deliver(&self, output: &mut Output) -> Result<(), ProcessError> {
        let Output { events, decisions, .. } = std::mem::take(output);
        for (partition, batches) in events {
            for batches in appends(batches) {
                self.log.append(Topic::Events, partition, batches, Durability::Ordered).await?;
            }
        }
        for decisions in appends(decisions) {
            self.log.append(Topic::Decisions, self.partition, decisions, Durability::Ordered).await?;
        }
        Ok(())
    }

    /// Writes back what changed, then the checkpoint: both stand behind the events in the engine's order.
    async fn finish_round(&mut self, next: u64) -> Result<(), ProcessError> {
        self.states.write().await?;
        note_foreign(&*self.log, &*self.store, Topic::Inputs, self.partition).await?;
        self.checkpoint.write(&*self.store, next).await?;
        self.next = next;
        self.processed.send_replace(next);
        self.stall.send_if_modified(|stall| stall.take().is_some());
        self.progress.tell_if_due(&*self.log, &*self.store, next).await
    }
}
