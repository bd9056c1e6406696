//! Records: told apart by lane and ordinal, walked once, mapped to a row or set aside with a reason.

use schemas::decision::Fact;
use schemas::event::{EventBatchWriter, RowKind};
use schemas::reason::Reason;
use schemas::record::{RECORD_BYTES_MAX, RecordBatchReader};
use schemas::shape::{NodeId, ShapeTree, Slot};
use schemas::version::Version;
use schemas::wire::WireError;
use schemas::{BatchKind, Decision, Lane, Op, Policy, Record};

use super::drift::{Drift, Passing, anchor};
use super::extras::write_extras;
use super::fields::map_fields;
use super::key::{is_deleted, key_and_version};
use super::rules::Rules;
use super::state::Counters;
use super::view::View;
use super::waiting::Waiting;
use super::{CURSOR_BYTES_MAX, InputBatch, Outcome, Scratch, StepError, StreamState, shared};

/// Stand behind the case that a batch of records is looked at again for.
const RECALLED: u8 = 1;
const REVERTED: u8 = 2;
/// Rows or decisions of about so many bytes are handed over at once.
pub(super) const PIECE_BYTES: usize = 8 << 20;
/// What a decision counts beside its text.
const DECISION_BYTES: usize = 256;
/// A larger row is refused, in bytes: it comes of a large value that several fields are mapped from.
pub(super) const ROW_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// The fold of a batch of records, in pieces.
pub(super) struct RecordFold<'a> {
    input: InputBatch<'a>,
    reader: RecordBatchReader<'a>,
    /// The case that the records come again for, and why they do.
    freed_by: Option<(u64, Again)>,
    /// Records that are folded.
    folded: u32,
    /// Whether one of them was new.
    has_new: bool,
    is_done: bool,
}

impl<'a> RecordFold<'a> {
    pub(super) fn new(input: InputBatch<'a>) -> Result<Self, StepError> {
        let reader = RecordBatchReader::new(input.body).map_err(|e| malformed(input, e))?;
        let freed_by = match input.kind {
            BatchKind::Redriven => Some(freed_by(reader.cursor).map_err(|e| malformed(input, e))?),
            _ => None,
        };
        Ok(Self { input, reader, freed_by, folded: 0, has_new: false, is_done: false })
    }

    pub(super) fn lane(&self) -> Lane {
        self.reader.lane
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Folds records until the piece is full or the batch ends.
    pub(super) fn next(&mut self, state: &mut StreamState, scratch: &mut Scratch) -> Result<Outcome, StepError> {
        let input = self.input;
        let opened = state.opened.as_ref();
        let (version, entity) = opened.map_or((0, None), |o| (o.version, Some(o.entity.entity.clone())));
        let rules = state.rules.as_ref();
        let shared = shared(state, input.logged_at, version, rules.map_or(0, |r| r.confidence));
        let lane = state.lanes.entry(self.reader.lane).or_default();
        let rows_room = scratch.rows_room(input.body.len());
        let mut fold = Fold {
            rules,
            shape: &mut state.shape,
            missing: &mut state.missing_now,
            drift: &mut state.drift,
            waiting: &mut state.waiting,
            policy: &state.policy,
            logged_at: input.logged_at,
            freed_by: self.freed_by.map(|(case, _)| case),
            is_recalled: self.freed_by.is_some_and(|(_, why)| why == Again::Recalled),
            new_from: None,
            has_stray: false,
            mark: 0,
            is_refilled: false,
            origin: 0,
            scratch,
            rows: EventBatchWriter::new(&shared, rows_room),
            row_bytes: 0,
            decisions: Vec::new(),
            decision_bytes: 0,
            offset: input.first + u64::from(self.folded),
            ordinal: 0,
            lane: self.reader.lane,
        };
        while fold.row_bytes < PIECE_BYTES && fold.decision_bytes < PIECE_BYTES {
            let Some(record) = self.reader.next_record().map_err(|e| malformed(input, e))? else {
                self.is_done = true;
                break;
            };
            if self.folded == input.count {
                return Err(malformed(input, WireError::Invalid("a count of records")));
            }
            fold.origin = self.reader.origin.unwrap_or(fold.offset);
            let is_new = record.ordinal > lane.ordinal;
            match self.freed_by {
                // Once its case is decided, what was accepted before stays as it is.
                Some((case, Again::Recalled)) if is_new && fold.drift.is_recalling(case) => {
                    fold.again(&record, &mut state.counters);
                }
                Some((case, Again::Recalled)) if is_new && fold.drift.is_refilling(case) => {
                    fold.refill(case, &record, &mut state.counters);
                }
                Some((case, Again::Reverted)) if is_new && fold.drift.is_reverting(case) => {
                    fold.again(&record, &mut state.counters);
                }
                Some((_, Again::Recalled | Again::Reverted)) => {}
                // What is re-driven was taken in once: when it comes twice, nothing is counted.
                Some((case, Again::Held)) if is_new && fold.drift.is_awaited(case) => {
                    state.counters.held = state.counters.held.saturating_sub(1);
                    fold.record(&record, &mut state.counters);
                    fold.redriven(case);
                }
                // Reverts of an earlier release had no mark of their own.
                Some((case, Again::Held)) if is_new && fold.drift.is_reverting(case) => {
                    fold.again(&record, &mut state.counters);
                }
                Some((id, Again::Held)) if is_new && let Some(settlement) = state.settlements.get_mut(&id) => {
                    state.counters.quarantined = state.counters.quarantined.saturating_sub(1);
                    let before = state.counters;
                    fold.record(&record, &mut state.counters);
                    settlement.count(&before, &state.counters);
                }
                Some(_) => {}
                None if is_new => {
                    state.counters.taken += 1;
                    fold.record(&record, &mut state.counters);
                }
                None => {
                    state.counters.taken += 1;
                    state.counters.duplicate += 1;
                }
            }
            if is_new {
                lane.ordinal = record.ordinal;
                self.has_new = true;
            }
            lane.at = fold.offset;
            fold.offset += 1;
            fold.ordinal = 0;
            self.folded += 1;
        }
        if self.is_done {
            if self.folded != input.count {
                return Err(malformed(input, WireError::Invalid("a count of records")));
            }
            // An old batch that comes again moves neither ordinal nor cursor.
            let cursor = self.reader.cursor;
            // A batch of re-driven records has the case's number there, and no place of a source.
            let is_place = self.freed_by.is_none() && cursor.len() <= CURSOR_BYTES_MAX;
            if self.has_new && is_place && lane.cursor != cursor {
                lane.cursor = cursor.to_vec();
            }
        }
        fold.drift.count_as_ever();
        state.next.offset = fold.offset;
        let Fold { rows, decisions, scratch, .. } = fold;
        let count = rows.count();
        let rows = if count > 0 { vec![(rows.finish(), count)] } else { Vec::new() };
        if let ([(rows, _)], true) = (&rows[..], self.folded == input.count) {
            scratch.rows_per_input = (rows.len(), input.body.len());
        }
        Ok(Outcome { entity, controls: Vec::new(), rows, decisions })
    }
}

/// Why records come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// They were held, or set aside.
    Held,
    /// They were accepted before their case was sure, or as null.
    Recalled,
    /// They were accepted by a decision that was taken back.
    Reverted,
}

/// The case that a batch of re-driven records names, where others have their cursor; and why they come again.
fn freed_by(cursor: &[u8]) -> Result<(u64, Again), WireError> {
    let (case, rest) = cursor.split_first_chunk().ok_or(WireError::Invalid("the case that was decided"))?;
    match rest {
        [] => Ok((u64::from_be_bytes(*case), Again::Held)),
        [RECALLED] => Ok((u64::from_be_bytes(*case), Again::Recalled)),
        [REVERTED] => Ok((u64::from_be_bytes(*case), Again::Reverted)),
        _ => Err(WireError::Invalid("the case that was decided")),
    }
}

/// What a batch of re-driven records has where others have their cursor.
pub(crate) fn redriven_for(case: u64, why: Again) -> Vec<u8> {
    let mut cursor = case.to_be_bytes().to_vec();
    cursor.extend(match why {
        Again::Held => None,
        Again::Recalled => Some(RECALLED),
        Again::Reverted => Some(REVERTED),
    });
    cursor
}

fn malformed(input: InputBatch<'_>, source: WireError) -> StepError {
    StepError::Malformed { offset: input.first, source }
}

/// Why a record is set aside.
pub(super) struct Refused {
    reason: Reason,
    field: Option<String>,
    detail: String,
}

impl Refused {
    pub(super) fn new(reason: Reason, field: Option<&str>, detail: impl Into<String>) -> Self {
        Self { reason, field: field.map(str::to_owned), detail: detail.into() }
    }
}

/// What became of a record that was not refused.
enum Fate {
    Row(RowKind),
    /// It waits for a case.
    Held,
}

/// The fold of one batch: what it reads and what it fills.
struct Fold<'a> {
    rules: Option<&'a Rules>,
    shape: &'a mut ShapeTree,
    missing: &'a mut [u64],
    drift: &'a mut Drift,
    waiting: &'a mut Waiting,
    policy: &'a Policy,
    logged_at: i64,
    freed_by: Option<u64>,
    /// It was accepted before that case was sure.
    is_recalled: bool,
    /// The first of its paths that was never seen before.
    new_from: Option<NodeId>,
    /// Whether it has one that hardly ever was there.
    has_stray: bool,
    /// Stands between the record and what was walked before.
    mark: u64,
    /// It was accepted, and is only mapped again.
    is_refilled: bool,
    /// Where the record first entered.
    origin: u64,
    scratch: &'a mut Scratch,
    rows: EventBatchWriter,
    row_bytes: usize,
    decisions: Vec<Decision>,
    decision_bytes: usize,
    offset: u64,
    ordinal: u32,
    lane: Lane,
}

impl Fold<'_> {
    fn record(&mut self, record: &Record<'_>, counters: &mut Counters) {
        match self.row(record) {
            Ok(Fate::Row(RowKind::Accepted)) => counters.accepted += 1,
            Ok(Fate::Row(RowKind::Deleted)) => counters.deleted += 1,
            Ok(Fate::Held) => counters.held += 1,
            Err(refused) => {
                counters.quarantined += 1;
                let Refused { reason, field, detail } = refused;
                let (stage, lane, lane_ordinal) = (reason.stage(), self.lane, record.ordinal);
                self.decide(Fact::RecordQuarantined { reason, stage, field, detail, lane, lane_ordinal });
            }
        }
    }

    /// Looks for drift; true when the record is held. What tells a delete is never suspect.
    fn is_held(&mut self, record: &Record<'_>, payload: &str) -> bool {
        if cfg!(feature = "null-profiler") {
            return false;
        }
        let passing = self.passing(record, payload, &self.scratch.walker.slots);
        let facts = &mut self.scratch.facts;
        let is_held = self.drift.examine(&passing, self.shape, facts);
        if !facts.is_empty() {
            self.tell();
        }
        is_held
    }

    /// A record on its way, as the drift sees it.
    #[inline]
    fn passing<'p>(&self, record: &Record<'_>, payload: &'p str, slots: &'p [Slot]) -> Passing<'p> {
        Passing {
            payload,
            slots,
            offset: self.offset,
            origin: self.origin,
            logged_at: self.logged_at,
            has_key: record.key.is_some(),
            has_version: record.version != Version::None,
            freed_by: self.freed_by,
            is_recalled: self.is_recalled,
            new_from: self.new_from,
            has_stray: self.has_stray,
            mark: self.mark,
        }
    }

    /// A record that was accepted comes again, because the repair that it was accepted by was taken back, or as its values
    /// began to mean something else.
    fn again(&mut self, record: &Record<'_>, counters: &mut Counters) {
        let before = *counters;
        self.record(record, counters);
        let is_no_row = counters.held > before.held || counters.quarantined > before.quarantined;
        // It had its fate; now it has another one, or the same again.
        counters.accepted = counters.accepted.saturating_sub(1);
        if is_no_row {
            self.withdraw(record);
        }
    }

    /// A record that was accepted as null is mapped again, if it has what it lacks where that has gone. What another case
    /// holds is left to that one: by its decision the record comes again, and is mapped as it is to be then.
    fn refill(&mut self, case: u64, record: &Record<'_>, counters: &mut Counters) {
        let Ok(payload) = std::str::from_utf8(record.payload) else { return };
        self.mark = self.shape.mark();
        if self.scratch.walker.walk(self.shape, payload).is_err() {
            return;
        }
        let slots = &self.scratch.walker.slots;
        let passing = Passing { new_from: None, has_stray: false, ..self.passing(record, payload, slots) };
        let is_refilled = self.drift.is_refilled(case, payload, passing.slots);
        if !is_refilled || self.drift.is_anothers(&passing, self.shape) {
            return;
        }
        self.is_refilled = true;
        let fate = self.row(record);
        self.is_refilled = false;
        // It has its fate and keeps it: where it cannot be mapped so, its row stays as it was.
        if let Ok(Fate::Row(RowKind::Deleted)) = fate {
            counters.accepted = counters.accepted.saturating_sub(1);
            counters.deleted += 1;
        }
    }

    /// Takes the row of a record back: it stands there as deleted until the record comes again.
    fn withdraw(&mut self, record: &Record<'_>) {
        let (Some(rules), Ok(payload)) = (self.rules, std::str::from_utf8(record.payload)) else { return };
        // What was refused may not have been walked.
        if self.scratch.walker.walk(self.shape, payload).is_err() {
            return;
        }
        let Scratch { walker, key: read, .. } = &mut *self.scratch;
        let view = View { payload, slots: &walker.slots, dialect: rules.dialect };
        let Ok((key, version)) = key_and_version(record, &view, rules, read) else { return };
        self.rows.push(RowKind::Deleted, self.offset, 0, self.origin, key, &version, 0, &[], &[]);
    }

    /// A held record has its fate.
    fn redriven(&mut self, case: u64) {
        self.drift.redriven(case, &mut self.scratch.facts);
        self.tell();
    }

    #[cold]
    fn tell(&mut self) {
        let mut facts = std::mem::take(&mut self.scratch.facts);
        self.waiting.follow(self.policy, self.logged_at, &mut facts);
        for fact in facts.drain(..) {
            self.decide(fact);
        }
        self.scratch.facts = facts;
    }

    fn decide(&mut self, fact: Fact) {
        self.decision_bytes += DECISION_BYTES;
        self.decisions.push(Decision { input_offset: self.offset, ordinal: self.ordinal, fact });
        self.ordinal += 1;
    }

    fn row(&mut self, record: &Record<'_>) -> Result<Fate, Refused> {
        let too_large = (record.payload.len() > RECORD_BYTES_MAX).then_some(Reason::RecordTooLarge);
        if let Some(reason) = record.defect.or(too_large) {
            return Err(Refused::new(reason, None, read_detail(reason)));
        }
        let Some(rules) = self.rules else {
            return Err(Refused::new(Reason::StreamNotOpened, None, "open the stream with a mapping, then retry"));
        };
        let payload = std::str::from_utf8(record.payload).map_err(|e| {
            Refused::new(Reason::InvalidEncoding, None, format!("not UTF-8 from byte {}", e.valid_up_to()))
        })?;
        // The last of the paths that were known before.
        let known = self.shape.nodes().end - 1;
        self.mark = self.shape.mark();
        self.scratch.walker.walk(self.shape, payload).map_err(|error| {
            let near = payload.get(error.at..).map_or_else(String::new, |rest| rest.chars().take(20).collect());
            Refused::new(error.reason, None, format!("at byte {}: {near:?}", error.at))
        })?;
        (self.new_from, self.has_stray) = (None, self.drift.stray_in(self.shape, self.mark));
        let mut last = None;
        for seen in std::mem::take(&mut self.scratch.walker.observed) {
            if self.shape.types(seen.node) == seen.class as u8 && !self.shape.is_requested(seen.node) {
                self.note_new(seen.node, known, &mut last);
            }
            let path = self.shape.path(seen.node);
            let fingerprint = self.shape.fingerprint().to_string();
            self.decision_bytes += path.len();
            self.decide(Fact::ShapeObserved { path, class: seen.class, fingerprint });
        }
        let view = View { payload, slots: &self.scratch.walker.slots, dialect: rules.dialect };
        let tells_delete = if record.op == Op::Delete { Ok(true) } else { is_deleted(&view, rules) };
        if !matches!(tells_delete, Ok(true)) && !self.is_refilled && self.is_held(record, payload) {
            return Ok(Fate::Held);
        }
        let Scratch { walker, values, taken, extras, key: read, absent, .. } = &mut *self.scratch;
        let view = View { payload, slots: &walker.slots, dialect: rules.dialect };
        let (key, version) = key_and_version(record, &view, rules, read)?;
        if tells_delete? {
            self.rows.push(RowKind::Deleted, self.offset, 0, self.origin, key, &version, 0, &[], &[]);
            return Ok(Fate::Row(RowKind::Deleted));
        }
        values.clear();
        absent.clear();
        taken.clear();
        taken.resize(view.slots.len(), false);
        let count = map_fields(&view, &rules.fields, absent, taken, values)?;
        write_extras(&view, rules, taken, walker, extras);
        let row_bytes = key.len() + values.len() + extras.len();
        if row_bytes > ROW_BYTES_MAX {
            return Err(row_too_large(None));
        }
        self.row_bytes += row_bytes;
        for field in absent {
            self.missing[*field] += 1;
        }
        self.rows.push(RowKind::Accepted, self.offset, 0, self.origin, key, &version, count, values, extras);
        Ok(Fate::Row(RowKind::Accepted))
    }

    /// Notes a path that is new, unless it is a key of a map. `last` is the object that the one before hung on, and whether
    /// it lies in a map: most hang on the same.
    fn note_new(&mut self, node: NodeId, known: NodeId, last: &mut Option<(NodeId, bool)>) {
        let anchor = anchor(self.shape, node, known);
        let is_key = match *last {
            Some((same, is_map)) if same == anchor => is_map,
            _ => self.drift.is_in_map(self.shape, anchor, known),
        };
        *last = Some((anchor, is_key));
        if !is_key {
            self.new_from = Some(self.new_from.map_or(node, |first| first.min(node)));
        }
    }
}

pub(super) fn row_too_large(field: Option<&str>) -> Refused {
    Refused::new(Reason::RecordTooLarge, field, "the row is larger than 32 MiB; map fewer fields from one large value")
}

fn read_detail(reason: Reason) -> &'static str {
    match reason {
        Reason::RecordTooLarge => "larger than 16 MiB; the bytes kept say where in the source it stands",
        Reason::InvalidEncoding => {
            "the bytes are not valid in the file's encoding; if it has another one, give it (--encoding)"
        }
        Reason::RowTooLong => "the row has more cells than the header has columns",
        Reason::NulByte => "the row has a NUL byte: the file is damaged, or in another encoding (--encoding)",
        _ => "the row could not be taken apart",
    }
}
