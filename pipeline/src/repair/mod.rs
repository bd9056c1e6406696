//! The repairer: reads `decisions`, keeps the cases, and sends back in by the front door what they call for: suggestions
//! of the matcher, times that have come, held records that may go.

mod asking;
mod backtest;
mod call;
mod case;
mod cases;
mod deed;
mod dry_run;
mod evidence;
mod history;
mod keeping;
mod knowledge;
mod mask;
mod names;
mod near;
mod places;
mod portion;
mod redrive;
mod revert;
mod suggest;
mod suggesting;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemas::{BatchKind, Input, StreamId, Topic};
use tokio::sync::watch;

pub use asking::Asking;
pub use backtest::Backtest;
pub(crate) use case::RULES;
pub use case::{Case, HELD_KEPT};
pub use cases::{find, list};
pub use deed::{Approval, Decided, Deed, Status};
pub use dry_run::{DryRun, Sample, SetAside, dry_run};
pub use evidence::{
    Alternative, Change, Evidence, EvidenceError, Mapped, PathDiff, RecordHeld, RowBefore, Seen, Spread, evidence,
};
pub use history::{MappingVersion, Origin, ShapeChange, shapes, version, versions};
pub use knowledge::Knowledge;
pub use mask::{MASKED, Mask};
pub(crate) use suggest::{field as field_of, thousandths};

use crate::ingest::{Ingest, OpenStream};
use crate::log::{Log, LogError, Stored};
use crate::process::{Checkpoint, ProcessError, RETRY_AFTER, Stall, read_snapshot};
use crate::step::StreamState;
use crate::store::{Store, StoreError};
use call::Call;
use places::{NOTED_EVERY, Places};
use portion::ROWS_MAX;
use timers::Timers;

pub(crate) const READER: &str = "repairer";
const READ_BYTES: usize = 1 << 20;
/// How long the step is given before the next look at what it has written: twice as long each time, up to the greatest. Each
/// look may be a read by the majority of a cluster.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(20);

/// Repairs the streams of one partition.
pub struct Repairer {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    ingest: Ingest,
    partition: u32,
    checkpoint: Checkpoint,
    timers: Timers,
    stop: watch::Receiver<bool>,
    kept: watch::Sender<u64>,
    done: watch::Sender<u64>,
    stall: Stall,
    /// Who is asked what stays uncertain, if anybody is.
    asking: Option<Arc<Asking>>,
    /// What was suggested and may not be in the states that are read: case, and the input behind it, by stream.
    sent: BTreeMap<StreamId, Vec<(u64, u64)>>,
    /// Behind the last record that was sent back to be looked at again, by stream.
    looked_at_again: BTreeMap<StreamId, u64>,
    /// From where on rows are looked for.
    places: Places,
    /// Of the inputs that were last sent back in: where the batch stands, and its body. Only until there is nothing to do.
    inputs_at_hand: Option<(u64, Bytes)>,
    /// Rows of which it is kept in memory whether they are to be looked at again.
    rows_max: usize,
}

/// How far a repairer is on `decisions`.
#[derive(Debug, Clone)]
pub struct Repaired {
    /// The cases of everything below are kept.
    pub kept: watch::Receiver<u64>,
    /// What everything below calls for is on `inputs`.
    pub done: watch::Receiver<u64>,
}

impl Repairer {
    /// A repairer of `partition`, at its checkpoint, and a view on how far it is.
    pub async fn start(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        partition: u32,
        stop: watch::Receiver<bool>,
    ) -> Result<(Self, Repaired), ProcessError> {
        let checkpoint = Checkpoint::read(&*log, &*store, Topic::Decisions, partition, READER).await?;
        let timers = Timers::read(&*store, partition).await?;
        let places = Places::read(&*log, &*store, partition).await?;
        // Nothing is done before what is due by now is told.
        let ((kept, kept_too), (done, done_too)) = (watch::channel(0), watch::channel(0));
        let repaired = Repaired { kept: kept_too, done: done_too };
        let ingest = Ingest::new(log.clone(), store.clone());
        Ok((
            Self {
                log,
                store,
                ingest,
                partition,
                checkpoint,
                timers,
                stop,
                kept,
                done,
                stall: Stall::new(None),
                asking: None,
                sent: BTreeMap::new(),
                looked_at_again: BTreeMap::new(),
                places,
                inputs_at_hand: None,
                rows_max: ROWS_MAX,
            },
            repaired,
        ))
    }

    /// Has a language model asked what stays uncertain.
    pub fn asking(self, asking: Option<Arc<Asking>>) -> Self {
        Self { asking, ..self }
    }

    /// Why it does not get on, as long as it does not.
    pub fn stall(&self) -> watch::Receiver<Option<String>> {
        self.stall.subscribe()
    }

    /// Repairs until it is stopped.
    pub async fn run(mut self) -> Result<(), ProcessError> {
        let mut stop = self.stop.clone();
        loop {
            let done = match self.tell_due(now()).await {
                Ok(()) => self.drain().await,
                failed => failed,
            };
            match done {
                Ok(()) => _ = self.stall.send_if_modified(|stall| stall.take().is_some()),
                // What was not noted is done again: every input that it sends is taken once. Whoever has changed a case
                // meanwhile changes the checkpoint, too: that says which of the two goes on.
                Err(error)
                    if error.is_retryable() || matches!(error, ProcessError::Store(StoreError::Conflict { .. })) =>
                {
                    self.stall.send_replace(Some(error.to_string()));
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(error),
            }
            let due = self.timers.next().map(|at| u64::try_from(at.saturating_sub(now())).unwrap_or(0));
            let due = async {
                match due {
                    Some(micros) => tokio::time::sleep(Duration::from_micros(micros)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                waited = self.log.wait_beyond(Topic::Decisions, self.partition, self.checkpoint.offset()) => waited?,
                () = due => {}
                () = tokio::time::sleep(NOTED_EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Tells every time that has come by `now`, in microseconds since 1970 UTC.
    pub async fn tell_due(&mut self, now: i64) -> Result<(), ProcessError> {
        while let Some((key, timer)) = self.timers.due(now) {
            let open = self.open(&timer.stream);
            match self.ingest.send(&open, &[Input::TimePassed { id: timer.id }]).await {
                // Nobody is left whose time could come.
                Ok(_) | Err(LogError::Forgotten) => {}
                Err(error) => return Err(error.into()),
            }
            self.timers.forget(&*self.store, &key).await?;
        }
        Ok(())
    }

    fn open(&self, stream: &StreamId) -> OpenStream {
        OpenStream { id: stream.clone(), partition: self.partition }
    }

    /// Does everything that the decisions which are there call for.
    pub async fn drain(&mut self) -> Result<(), ProcessError> {
        loop {
            self.places.note(&*self.log, &*self.store).await;
            let next = self.checkpoint.offset();
            let batches = self.log.read(Topic::Decisions, self.partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else {
                self.inputs_at_hand = None;
                self.kept.send_replace(next);
                self.done.send_replace(next);
                return Ok(());
            };
            let (mut calls, mut mark) = (Vec::new(), self.checkpoint.mark());
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Decisions) {
                calls.extend(self.take(stored, &mut mark).await?);
            }
            self.kept.send_replace(end);
            if !self.answer_all(calls, end).await? {
                return Ok(());
            }
            self.checkpoint.write_with(&*self.store, end, mark).await?;
            self.done.send_replace(end);
        }
    }

    /// Does what decisions below `end` call for; false when it is to stop before.
    async fn answer_all(&mut self, calls: Vec<(StreamId, u64, Call)>, end: u64) -> Result<bool, ProcessError> {
        for (stream, offset, call) in calls {
            match self.answer(&stream, offset, call, end).await {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // Nothing of a tenant that was deleted is repaired.
                Err(ProcessError::Log(LogError::Forgotten)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// A stream's state once it covers an input; nothing when it is to stop before.
    async fn state_behind(&self, stream: &StreamId, offset: u64) -> Result<Option<StreamState>, ProcessError> {
        let mut pause = LOOK_AGAIN;
        loop {
            match read_snapshot(&*self.store, stream).await? {
                Some(state) if state.next.offset > offset => return Ok(Some(state)),
                _ if self.is_stopping() => return Ok(None),
                None if self.is_forgotten(offset).await? => return Err(LogError::Forgotten.into()),
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
    }

    /// Whether the tenant of an input was deleted: no state of its streams is ever written again.
    async fn is_forgotten(&self, offset: u64) -> Result<bool, LogError> {
        Ok(self.log.read(Topic::Inputs, self.partition, offset, 1).await?.first().is_some_and(Stored::is_forgotten))
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
