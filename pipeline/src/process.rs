//! The processor: runs the step over one partition of `inputs` and puts what it gives on the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use schemas::{Batch, BatchHeader, BatchKind, Decision, EntityName, StreamId, TenantId, Topic};
use tokio::sync::watch;

use crate::log::{Durability, Log, LogError, Stored};
use crate::step::{self, InputBatch, Outcome, Scratch, StepError, StreamState};
use crate::store::{Expect, Store, StoreError, Table};

/// Packed bytes read from `inputs` at once.
const READ_BYTES: usize = 2 << 20;
/// Streams whose state is kept in memory between two reads.
const STATES_MAX: usize = 256;
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
    /// Whether starting again from the checkpoint may work later, without anybody restarting anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => matches!(error, StoreError::DiskFull),
            Self::Step { .. } | Self::State { .. } | Self::Subject { .. } => false,
        }
    }
}

/// The checkpoint row of a reader of a partition.
pub fn checkpoint_key(topic: Topic, partition: u32, reader: &str) -> String {
    format!("{topic}/{partition}/{reader}")
}

/// Where a reader of a partition starts.
pub async fn read_checkpoint(store: &dyn Store, topic: Topic, partition: u32, reader: &str) -> Result<u64, StoreError> {
    let key = checkpoint_key(topic, partition, reader);
    let row = store.get(TenantId::SYSTEM, Table::Checkpoints, &key).await?;
    Ok(row.and_then(|r| r.value.as_ref().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0))
}

/// Notes where a reader of a partition starts.
pub async fn write_checkpoint(
    store: &dyn Store,
    topic: Topic,
    partition: u32,
    reader: &str,
    offset: u64,
) -> Result<(), StoreError> {
    let key = checkpoint_key(topic, partition, reader);
    let value = offset.to_be_bytes().to_vec().into();
    store.put(TenantId::SYSTEM, Table::Checkpoints, &key, value, Expect::Any).await.map(|_| ())
}

/// Reads a stream's state as the processor last wrote it.
pub async fn read_state(store: &dyn Store, stream: &StreamId) -> Result<Option<StreamState>, ProcessError> {
    let row = store.get(stream.tenant, Table::StreamStates, &stream.to_string()).await?;
    row.map(|row| {
        StreamState::from_snapshot(&row.value)
            .map_err(|e| ProcessError::State { stream: stream.to_string(), message: e.to_string() })
    })
    .transpose()
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
    states: HashMap<StreamId, StreamState>,
    touched: HashSet<StreamId>,
    scratch: Scratch,
    processed: watch::Sender<u64>,
}

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
        let next = read_checkpoint(&*store, Topic::Inputs, partition, "processor").await?;
        let (processed, watcher) = watch::channel(next);
        let (states, touched, scratch) = (HashMap::new(), HashSet::new(), Scratch::default());
        Ok((Self { log, store, partition, next, states, touched, scratch, processed }, Processed(watcher)))
    }

    /// Processes until `shutdown` says true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), ProcessError> {
        loop {
            match self.drain().await {
                Ok(()) => {}
                Err(error) if error.is_retryable() => self.start_over(&error).await?,
                Err(error) => return Err(error),
            }
            tokio::select! {
                waited = self.log.wait_beyond(Topic::Inputs, self.partition, self.next) => waited?,
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// Goes back to the checkpoint, as after a crash: what was appended and not noted is appended again, and readers
    /// know the run by its positions.
    async fn start_over(&mut self, error: &ProcessError) -> Result<(), ProcessError> {
        tracing::warn!(partition = self.partition, %error, "the processor waits and starts again from its checkpoint");
        self.states.clear();
        self.touched.clear();
        self.next = read_checkpoint(&*self.store, Topic::Inputs, self.partition, "processor").await?;
        tokio::time::sleep(RETRY_AFTER).await;
        Ok(())
    }

    /// Processes everything that is there.
    pub async fn drain(&mut self) -> Result<(), ProcessError> {
        loop {
            let batches = self.log.read(Topic::Inputs, self.partition, self.next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else { return Ok(()) };
            self.round(&batches).await?;
            self.next = end;
            self.finish_round().await?;
        }
    }

    /// Folds some batches and appends what they give: rows and controls to their views, decisions to the partition.
    async fn round(&mut self, batches: &[Stored]) -> Result<(), ProcessError> {
        let mut events: HashMap<u32, Vec<Batch>> = HashMap::new();
        let mut decisions = Vec::new();
        for stored in batches {
            let header = stored.header();
            let subject = || ProcessError::Subject { offset: stored.first, subject: header.subject.clone() };
            let stream = stream_of(header).ok_or_else(subject)?;
            self.load(&stream).await?;
            let state = self.states.get_mut(&stream).expect("the state was loaded just above");
            if stored.end() <= state.next.offset {
                continue;
            }
            let body = stored.body(Topic::Inputs, self.partition)?;
            let input = InputBatch {
                kind: header.kind,
                first: stored.first,
                count: header.count,
                logged_at: header.logged_at,
                body: &body,
            };
            let (scratch, partition) = (&mut self.scratch, self.partition);
            let outcome = tokio::task::block_in_place(|| step::fold(state, input, scratch))
                .map_err(|source| ProcessError::Step { partition, source })?;
            let partitions = self.log.partitions(Topic::Events);
            collect(outcome, header, partitions, &mut events, &mut decisions);
            self.touched.insert(stream);
        }
        for (partition, batches) in events {
            self.log.append(Topic::Events, partition, batches, Durability::Ordered).await?;
        }
        if !decisions.is_empty() {
            self.log.append(Topic::Decisions, self.partition, decisions, Durability::Ordered).await?;
        }
        Ok(())
    }

    async fn load(&mut self, stream: &StreamId) -> Result<(), ProcessError> {
        if !self.states.contains_key(stream) {
            let epoch = self.log.epoch(Topic::Inputs);
            let state = read_state(&*self.store, stream).await?;
            let state = state.unwrap_or_else(|| StreamState::new(stream.clone(), self.partition, epoch));
            self.states.insert(stream.clone(), state);
        }
        Ok(())
    }

    /// Writes back what changed, then the checkpoint: both stand behind the events in the engine's order.
    async fn finish_round(&mut self) -> Result<(), ProcessError> {
        for stream in self.touched.drain() {
            let Some(state) = self.states.get_mut(&stream) else { continue };
            let snapshot = state.snapshot().into();
            self.store.put(stream.tenant, Table::StreamStates, &stream.to_string(), snapshot, Expect::Any).await?;
        }
        if self.states.len() > STATES_MAX {
            self.states.clear();
        }
        write_checkpoint(&*self.store, Topic::Inputs, self.partition, "processor", self.next).await?;
        self.processed.send_replace(self.next);
        Ok(())
    }
}

/// Sorts an outcome into batches for the topics.
pub fn collect(
    outcome: Outcome,
    input: &BatchHeader,
    partitions: u32,
    events: &mut HashMap<u32, Vec<Batch>>,
    decisions: &mut Vec<Batch>,
) {
    let batch = |kind, subject: &str, count, body: Vec<u8>| {
        let (tenant, subject, logged_at) = (input.tenant, subject.to_owned(), input.logged_at);
        Batch { header: BatchHeader { kind, tenant, subject, count, logged_at, key_id: 0 }, body: body.into() }
    };
    if let Some(entity) = &outcome.entity {
        let to = events.entry(events_partition(input.tenant, entity, partitions)).or_default();
        for control in &outcome.controls {
            let body = serde_json::to_vec(control).expect("a control event has only text keys");
            to.push(batch(BatchKind::ViewControl, entity.as_str(), 1, body));
        }
        if let Some((rows, count)) = outcome.rows {
            to.push(batch(BatchKind::Rows, entity.as_str(), count, rows));
        }
    }
    if !outcome.decisions.is_empty() {
        let count = outcome.decisions.len() as u32;
        decisions.push(batch(BatchKind::Decisions, &input.subject, count, encode_decisions(&outcome.decisions)));
    }
}

/// The partition of `events` that a view lies in.
pub fn events_partition(tenant: TenantId, entity: &EntityName, partitions: u32) -> u32 {
    (schemas::ids::view_hash(tenant, entity) % u64::from(partitions)) as u32
}

fn encode_decisions(decisions: &[Decision]) -> Vec<u8> {
    let mut body = Vec::new();
    for decision in decisions {
        serde_json::to_writer(&mut body, decision).expect("writing to memory cannot fail");
        body.push(b'\n');
    }
    body
}

/// Reads the body of a batch of decisions.
pub fn decode_decisions(body: &[u8]) -> Result<Vec<Decision>, serde_json::Error> {
    body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}
