//! The repairer: reads `decisions`, keeps the cases, and sends back in by the front door what they call for: suggestions
//! of the matcher, times that have come, held records that may go.

mod asking;
mod backtest;
mod case;
mod deed;
mod evidence;
mod history;
mod knowledge;
mod mask;
mod names;
mod near;
mod places;
mod portion;
mod redrive;
mod revert;
mod suggest;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::advice::Asked;
use schemas::decision::Fact;
use schemas::drift::{Move, Tried, Verdict};
use schemas::{BatchKind, Decision, Input, Position, StreamId, Topic};
use tokio::sync::watch;

pub use asking::Asking;
pub use backtest::Backtest;
pub(crate) use case::RULES;
pub use case::{Case, HELD_KEPT, find, list};
pub use deed::{Approval, Decided, Deed, Status};
pub use evidence::{
    Alternative, Change, DryRun, Evidence, EvidenceError, Mapped, PathDiff, RecordHeld, RowBefore, Sample, Seen,
    SetAside, Spread, dry_run, evidence,
};
pub use history::{MappingVersion, Origin, ShapeChange, shapes, version, versions};
pub use knowledge::Knowledge;
pub use mask::{MASKED, Mask};
pub(crate) use suggest::{field as field_of, thousandths};

use crate::advice;
use crate::ingest::{Ingest, OpenStream};
use crate::log::{Log, LogError, Stored};
use crate::process::{Checkpoint, Mark, ProcessError, RETRY_AFTER, Stall, decode_decisions, read_snapshot, stream_of};
use crate::step::{StreamState, is_still_read};
use crate::store::{Expect, Store, StoreError, Table};
use asking::Doubt;
use case::{case_of, key_of};
use places::{NOTED_EVERY, Places};
use portion::ROWS_MAX;
use redrive::Redrive;
use revert::Revert;
use timers::{Timer, Timers};

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

/// What a decision calls for.
enum Call {
    Suggest(u64),
    Redrive(u64),
    Revert(Revert),
    Time(Timer),
    /// A case still waits: it should not wait for records that were sent.
    EndRecalls(u64),
    /// A command was refused since records are looked at again: no case should wait for those that were sent, and the register is
    /// to know if the command put a mapping in force.
    StillRead(String),
    /// Another mapping is in force: what was suggested for the open cases was made on a former one.
    Again,
}

/// Cases by their keys, each with the version of its row, 0 for none.
type Cases = BTreeMap<String, (Option<Case>, u64)>;

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
                self.kept.send_replace(next);
                self.done.send_replace(next);
                return Ok(());
            };
            let (mut calls, mut mark) = (Vec::new(), self.checkpoint.mark());
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Decisions) {
                calls.extend(self.take(stored, &mut mark).await?);
            }
            self.kept.send_replace(end);
            for (stream, offset, call) in calls {
                match self.answer(&stream, offset, call, end).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    // Nothing of a tenant that was deleted is repaired.
                    Err(ProcessError::Log(LogError::Forgotten)) => {}
                    Err(error) => return Err(error),
                }
            }
            self.checkpoint.write_with(&*self.store, end, mark).await?;
            self.done.send_replace(end);
        }
    }

    /// Keeps the cases of a batch, and says what it calls for: each with the offset of its input.
    async fn take(&mut self, stored: &Stored, mark: &mut Mark) -> Result<Vec<(StreamId, u64, Call)>, ProcessError> {
        let header = stored.header();
        let subject = || ProcessError::Subject { offset: stored.first, subject: header.subject.clone() };
        let stream = stream_of(header).ok_or_else(subject)?;
        let Some(body) = stored.body(Topic::Decisions, self.partition)? else { return Ok(Vec::new()) };
        let mut decisions = decode_decisions(&body)
            .map_err(|e| ProcessError::State { stream: stream.to_string(), message: e.to_string() })?;
        decisions.retain(|decision| mark.take(decision));
        let mut cases = Cases::new();
        let mut calls = Vec::new();
        for decision in &decisions {
            self.keep(&stream, stored, decision, &mut cases).await?;
            calls.extend(call(&stream, decision).map(|call| (stream.clone(), decision.input_offset, call)));
        }
        self.write(&stream, cases).await?;
        self.keep_history(&stream, stored, &decisions).await?;
        Ok(calls)
    }

    async fn keep(
        &self,
        stream: &StreamId,
        stored: &Stored,
        decision: &Decision,
        cases: &mut Cases,
    ) -> Result<(), StoreError> {
        let at = stored.header().logged_at;
        if matches!(decision.fact, Fact::MappingActivated { .. }) {
            self.load_waiting(stream, cases).await?;
            let waiting =
                cases.values_mut().filter_map(|(case, _)| case.as_mut().filter(|case| case.status.is_waiting()));
            waiting.for_each(|case| case.apply(decision, at));
            return Ok(());
        }
        let Some(number) = case_of(&decision.fact) else { return Ok(()) };
        let key = key_of(&stream.to_string(), number);
        if !cases.contains_key(&key) {
            let row = self.store.get(stream.tenant, Table::Cases, &key).await?;
            let version = row.as_ref().map_or(0, |row| row.version);
            let known = row.map(|row| case::read(&key, &row)).transpose()?;
            let epoch = self.log.epoch(Topic::Inputs);
            let position = Position { epoch, partition: self.partition, offset: number };
            // A run that stands twice does not bring back a case that is over and forgotten.
            let begins = matches!(decision.fact, Fact::TimerSet { .. } | Fact::DriftDetected { .. });
            let new = || begins.then(|| Case::new(position, stream.to_string(), stored.first, at));
            cases.insert(key.clone(), (known.or_else(new), version));
        }
        if let Some((Some(case), _)) = cases.get_mut(&key) {
            case.apply(decision, at);
        }
        Ok(())
    }

    /// Reads the stream's cases that somebody can decide.
    async fn load_waiting(&self, stream: &StreamId, cases: &mut Cases) -> Result<(), StoreError> {
        const PAGE: usize = 1_000;
        let mut after: Option<String> = None;
        loop {
            let prefix = format!("{stream}/");
            let page = self.store.scan(stream.tenant, Table::Cases, &prefix, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, row) in page {
                let case = case::read(&key, &row)?;
                if case.status.is_waiting() {
                    cases.entry(key).or_insert((Some(case), row.version));
                }
            }
        }
    }

    /// Writes cases back; an absence that was an accident, and is over, leaves nothing behind.
    async fn write(&self, stream: &StreamId, cases: Cases) -> Result<(), StoreError> {
        for (key, (case, version)) in &cases {
            let Some(case) = case else { continue };
            // What another process has written meanwhile stays.
            let expect = Expect::Ordered(*version);
            if case.status == Status::Released && case.redriven == case.held && case.opened_at.is_none() {
                if *version > 0 {
                    self.store.delete(stream.tenant, Table::Cases, key, expect).await?;
                }
                continue;
            }
            let value = serde_json::to_vec(case).expect("a case has only text keys");
            self.store.put(stream.tenant, Table::Cases, key, value.into(), expect).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, stream: &StreamId, offset: u64, call: Call, end: u64) -> Result<bool, ProcessError> {
        match call {
            Call::Time(timer) => self.timers.set(&*self.store, timer).await?,
            Call::Suggest(case) => return self.suggest(stream, offset, Some(case)).await,
            Call::Revert(revert) => {
                let open = self.open(stream);
                return self.revert(&open, offset, &revert).await;
            }
            Call::EndRecalls(only) => return self.end_recalls(&self.open(stream), offset, Some(only)).await,
            Call::StillRead(id) => {
                let open = self.open(stream);
                self.ingest.refused(&open, &id).await?;
                return self.end_recalls(&open, offset, None).await;
            }
            Call::Again => return self.suggest(stream, offset, None).await,
            Call::Redrive(case) => {
                let key = key_of(&stream.to_string(), case);
                let row = self.store.get(stream.tenant, Table::Cases, &key).await?;
                // What is forgotten was re-driven to its end.
                let Some(row) = row else { return Ok(true) };
                let from = case::read(&key, &row)?.first;
                return self.redrive(&Redrive { open: self.open(stream), case, from, to: end }).await;
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

    /// Suggests repairs for a case, or for every open one of the stream, once the state behind the decision is written.
    async fn suggest(&mut self, stream: &StreamId, offset: u64, only: Option<u64>) -> Result<bool, ProcessError> {
        let Some(state) = self.state_behind(stream, offset).await? else { return Ok(false) };
        let (Some((_, mapping_version)), Some(_)) = (state.mapping(), state.entity()) else { return Ok(true) };
        let is_meant = |case: &u64| only.is_none_or(|only| only == *case);
        let waiting: Vec<u64> = state.drift().waiting().filter(is_meant).collect();
        if waiting.is_empty() {
            return Ok(true);
        }
        let known = Knowledge::read(&*self.store, stream.tenant).await?;
        for case in waiting {
            let suggested = tokio::task::block_in_place(|| suggest::suggest(&state, case, &known));
            let suggested = suggested.unwrap_or_else(|error| {
                tracing::warn!(%stream, case, %error, "nothing is suggested for a case");
                suggest::Suggested::default()
            });
            let row = self.kept_case(&state, case).await?;
            let doubt = self.asking.as_ref().and_then(|asking| {
                let names = state.policy().mask.as_deref().unwrap_or_default();
                let mask = row.as_ref().and_then(|case| Mask::of_case(&state, case, names));
                tokio::task::block_in_place(|| asking.doubt(&state, case, &suggested, &known, mask.as_ref()))
            });
            let coverage = doubt.as_ref().map(|(_, coverage)| coverage.clone());
            let suggest::Suggested { moves, alternatives } = suggested.clone();
            // A case that is told again is suggested for again.
            let id = format!("suggest-{case}-{mapping_version}-{offset}");
            let tried = match &row {
                Some(row) => self.tried(&state, row, &moves).await?,
                None => None,
            };
            let asked = coverage.map(|coverage| Asked { coverage: Some(coverage), call: None });
            // It may have been proposed before a restart.
            let is_new = !state.has_taken(&id);
            let version = self.version_behind(&state, case, is_new);
            let suggestion =
                Input::Suggestion { id, case, mapping_version, moves, alternatives, tried, asked, version: None };
            let end = self.ingest.send(&self.open(stream), &[suggestion]).await?;
            if is_new && self.asking.is_some() {
                self.sent.entry(stream.clone()).or_default().push((case, end));
            }
            if let (Some(asking), Some((question, coverage))) = (&self.asking, doubt) {
                let open = self.open(stream);
                match coverage.skipped {
                    true => advice::saved(&*self.store, stream.tenant, coverage.saved_micros).await?,
                    false => asking.start(
                        self.store.clone(),
                        self.ingest.clone(),
                        Doubt { open, case, mapping_version, version, offset, question, suggested, tried },
                    ),
                }
            }
        }
        Ok(true)
    }

    /// The version that a case has once everything that was suggested is proposed, and one more if that is new; a case that
    /// changes otherwise meanwhile has a later one.
    fn version_behind(&mut self, state: &StreamState, case: u64, is_new: bool) -> Option<u32> {
        let under_way = self.sent.get_mut(&state.stream).map_or(0, |sent| {
            sent.retain(|(_, end)| *end > state.next.offset);
            sent.iter().filter(|(of, _)| *of == case).count()
        });
        let proposals = u32::try_from(under_way + usize::from(is_new)).ok()?;
        state.case_version(case)?.checked_add(proposals)
    }

    /// The case as it is kept.
    async fn kept_case(&self, state: &StreamState, case: u64) -> Result<Option<Case>, StoreError> {
        let key = key_of(&state.stream.to_string(), case);
        let row = self.store.get(state.stream.tenant, Table::Cases, &key).await?;
        row.map(|row| case::read(&key, &row)).transpose()
    }

    /// What becomes of the last records that a case holds by these moves; nothing where they leave something lost.
    async fn tried(&self, state: &StreamState, case: &Case, moves: &[Move]) -> Result<Option<Tried>, ProcessError> {
        let lost = state.drift().lost(case.position.offset, state.shape());
        let best: Vec<Move> =
            lost.iter().filter_map(|lost| moves.iter().find(|to| to.from == lost.path)).cloned().collect();
        if best.len() < lost.len() || best.is_empty() {
            return Ok(None);
        }
        let verdict = Verdict::Edit { moves: best };
        match dry_run(&*self.log, state, case, &Mask::default(), verdict, HELD_KEPT).await {
            Ok(run) => Ok(Some(run.tried())),
            Err(EvidenceError::Refused(_)) => Ok(None),
            Err(EvidenceError::Log(error)) => Err(error.into()),
            Err(EvidenceError::Step(source)) => Err(ProcessError::Step { partition: self.partition, source }),
        }
    }
}

/// What a decision calls for.
fn call(stream: &StreamId, decision: &Decision) -> Option<Call> {
    match &decision.fact {
        Fact::TimerSet { id, at } => Some(Call::Time(Timer { stream: stream.clone(), id: id.clone(), at: *at })),
        Fact::DriftDetected { case, .. } => Some(Call::Suggest(*case)),
        // Of one that was rejected, or has expired, nobody is reminded any more.
        Fact::CaseReminded { case } | Fact::RepairRejected { case, .. } => Some(Call::EndRecalls(*case)),
        Fact::CommandRefused { id, reason } if is_still_read(reason) => Some(Call::StillRead(id.clone())),
        Fact::MappingActivated { version, .. } if *version > 1 => Some(Call::Again),
        Fact::RecordsReleased { case, count, .. } if *count > 0 => Some(Call::Redrive(*case)),
        Fact::RepairReverted { into, since, .. } => {
            let until = decision.input_offset;
            Some(Call::Revert(Revert { into: *into, since: *since, until, is_recall: false }))
        }
        Fact::RecordsRecalled { case, since, until } => {
            Some(Call::Revert(Revert { into: *case, since: *since, until: *until, is_recall: true }))
        }
        _ => None,
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
