//! Records: told apart by lane and ordinal, walked once, mapped to a row or set aside with a reason.

use std::borrow::Cow;

use schemas::decision::Fact;
use schemas::event::{EventBatchWriter, RowKind};
use schemas::mapping::{Deleted, Dialect};
use schemas::reason::Reason;
use schemas::record::{RECORD_BYTES_MAX, RecordBatchReader};
use schemas::shape::{ShapeTree, Slot, SlotKind, Walker, unescape};
use schemas::version::Version;
use schemas::wire::WireError;
use schemas::{BatchKind, Decision, Lane, Mapping, Op, Policy, Record};

use super::cast::{Token, boolean, shorten};
use super::drift::{Drift, Passing};
use super::extended_json;
use super::extras::write_extras;
use super::fields::map_fields;
use super::rules::{Choice, FieldRule, Rules};
use super::state::Counters;
use super::waiting::Waiting;
use super::{CURSOR_BYTES_MAX, InputBatch, Outcome, Scratch, StepError, StreamState, shared};

const VERSION_MISSING: &str =
    "the version is absent, null or empty (a source without versions is opened with version none)";
/// A longer key is refused, in bytes.
const KEY_BYTES_MAX: usize = 4096;
const KEY_UNREADABLE: &str = "a key is a text, number or boolean of at most 4,096 bytes";
/// A longer version is refused, in bytes.
const VERSION_BYTES_MAX: usize = 4096;
const VERSION_TOO_LONG: &str = "a version has at most 4,096 bytes";

/// Rows or decisions of about so many bytes are handed over at once.
const PIECE_BYTES: usize = 8 << 20;
/// What a decision counts beside its text.
const DECISION_BYTES: usize = 256;
/// A larger row is refused, in bytes: it comes of a large value that several fields are mapped from.
pub(super) const ROW_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// The fold of a batch of records, in pieces.
pub(super) struct RecordFold<'a> {
    input: InputBatch<'a>,
    reader: RecordBatchReader<'a>,
    /// The case that held the records before.
    freed_by: Option<u64>,
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
        let mut fold = Fold {
            rules,
            shape: &mut state.shape,
            missing: &mut state.missing_now,
            drift: &mut state.drift,
            waiting: &mut state.waiting,
            policy: &state.policy,
            logged_at: input.logged_at,
            freed_by: self.freed_by,
            origin: 0,
            scratch,
            rows: EventBatchWriter::new(&shared, (input.body.len() / 2).min(PIECE_BYTES)),
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
                // What is re-driven was taken in once: when it comes twice, nothing is counted.
                Some(case) if is_new && fold.drift.is_awaited(case) => {
                    state.counters.held = state.counters.held.saturating_sub(1);
                    fold.record(&record, &mut state.counters);
                    fold.redriven(case);
                }
                Some(case) if is_new && fold.drift.is_reverting(case) => fold.again(&record, &mut state.counters),
                Some(id) if is_new && let Some(settlement) = state.settlements.get_mut(&id) => {
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
            if self.has_new && lane.cursor != cursor && cursor.len() <= CURSOR_BYTES_MAX {
                lane.cursor = cursor.to_vec();
            }
        }
        state.next.offset = fold.offset;
        let Fold { rows, decisions, .. } = fold;
        let count = rows.count();
        let rows = if count > 0 { vec![(rows.finish(), count)] } else { Vec::new() };
        Ok(Outcome { entity, controls: Vec::new(), rows, decisions })
    }
}

/// The case that a batch of re-driven records names, where others have their cursor.
fn freed_by(cursor: &[u8]) -> Result<u64, WireError> {
    cursor.try_into().map(u64::from_be_bytes).map_err(|_| WireError::Invalid("the case that was decided"))
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

    /// Looks for drift; true when the record is held.
    fn is_held(&mut self, record: &Record<'_>, payload: &str, rules: &Rules) -> bool {
        let Scratch { walker, facts, .. } = &mut *self.scratch;
        let view = View { payload, slots: &walker.slots, dialect: rules.dialect };
        let passing = Passing {
            payload,
            slots: view.slots,
            offset: self.offset,
            origin: self.origin,
            logged_at: self.logged_at,
            has_key: record.key.is_some(),
            has_version: record.version != Version::None,
            freed_by: self.freed_by,
        };
        let is_deleted = || is_deleted(&view, rules).unwrap_or(false);
        let is_held = self.drift.examine(&passing, self.shape, facts, is_deleted);
        if !facts.is_empty() {
            self.tell();
        }
        is_held
    }

    /// A record that was accepted comes again, because the repair that it was accepted by was taken back.
    fn again(&mut self, record: &Record<'_>, counters: &mut Counters) {
        let before = *counters;
        self.record(record, counters);
        let is_held = counters.held > before.held;
        // It had its fate; now it has another one, or the same again.
        counters.accepted = counters.accepted.saturating_sub(1);
        if is_held {
            self.withdraw(record);
        }
    }

    /// Takes the row of a record back: it stands there as deleted until the record comes again.
    fn withdraw(&mut self, record: &Record<'_>) {
        let (Some(rules), Ok(payload)) = (self.rules, std::str::from_utf8(record.payload)) else { return };
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
        self.scratch.walker.walk(self.shape, payload).map_err(|error| {
            let near = payload.get(error.at..).map_or_else(String::new, |rest| rest.chars().take(20).collect());
            Refused::new(error.reason, None, format!("at byte {}: {near:?}", error.at))
        })?;
        for seen in std::mem::take(&mut self.scratch.walker.observed) {
            let path = self.shape.path(seen.node);
            let fingerprint = self.shape.fingerprint().to_string();
            self.decision_bytes += path.len();
            self.decide(Fact::ShapeObserved { path, class: seen.class, fingerprint });
        }
        if record.op == Op::Upsert && self.is_held(record, payload, rules) {
            return Ok(Fate::Held);
        }
        let Scratch { walker, values, taken, extras, key: read, absent, .. } = &mut *self.scratch;
        let view = View { payload, slots: &walker.slots, dialect: rules.dialect };
        let (key, version) = key_and_version(record, &view, rules, read)?;
        if record.op == Op::Delete || is_deleted(&view, rules)? {
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
}

pub(super) fn row_too_large(field: Option<&str>) -> Refused {
    Refused::new(Reason::RecordTooLarge, field, "the row is larger than 32 MiB; map fewer fields from one large value")
}

fn read_detail(reason: Reason) -> &'static str {
    match reason {
        Reason::RecordTooLarge => "larger than 16 MiB; the bytes kept say where in the source it stands",
        Reason::InvalidEncoding => "the bytes are not valid in the file's encoding",
        Reason::RowTooLong => "the row has more cells than the header has columns",
        _ => "the row could not be taken apart",
    }
}

/// A walked payload.
pub(super) struct View<'a> {
    pub(super) payload: &'a str,
    pub(super) slots: &'a [Slot],
    dialect: Option<Dialect>,
}

impl<'a> View<'a> {
    /// The first alternative that has a value; else the first that is blank or is an object or array where none is due.
    #[inline]
    pub(super) fn find(&self, choice: &Choice) -> Option<Token<'a>> {
        self.token(self.chosen(choice)?)
    }

    /// The slot of the alternative that [`View::find`] finds.
    #[inline]
    pub(super) fn chosen(&self, choice: &Choice) -> Option<u32> {
        let mut stand_in = None;
        for slot in &choice.slots {
            match self.presence(*slot, choice) {
                Presence::Value => return Some(*slot),
                Presence::StandIn => stand_in = stand_in.or(Some(*slot)),
                Presence::Nothing => {}
            }
        }
        stand_in
    }

    #[inline(always)]
    fn presence(&self, slot: u32, choice: &Choice) -> Presence {
        let Some(Slot { kind, start, end }) = self.slots.get(slot as usize) else { return Presence::Nothing };
        let raw = || self.payload.as_bytes().get(*start..*end).unwrap_or_default();
        match kind {
            SlotKind::Absent | SlotKind::Null => Presence::Nothing,
            SlotKind::Text if is_blank(raw()) => Presence::StandIn,
            SlotKind::Nested if !choice.takes_nested => match raw() {
                [b'[', inside @ .., b']'] if is_blank(inside) => Presence::Nothing,
                _ => Presence::StandIn,
            },
            _ => Presence::Value,
        }
    }

    /// The rule that fills a field: the first whose source has a value; else the last, which may have a constant.
    #[inline]
    pub(super) fn rule<'r>(&self, rules: &'r [FieldRule]) -> Option<&'r FieldRule> {
        let ([] | [_]) = rules else {
            let has_value = |c: &Choice| c.slots.iter().any(|s| matches!(self.presence(*s, c), Presence::Value));
            return rules.iter().find(|rule| rule.from.iter().any(has_value)).or(rules.last());
        };
        rules.first()
    }

    #[inline]
    pub(super) fn token(&self, slot: u32) -> Option<Token<'a>> {
        let slot = self.slots.get(slot as usize)?;
        let raw = self.payload.get(slot.start..slot.end)?;
        let text = match slot.kind {
            SlotKind::Absent | SlotKind::Null => return None,
            SlotKind::EscapedText => {
                let mut text = String::with_capacity(raw.len());
                unescape(raw, &mut text);
                Cow::Owned(text)
            }
            SlotKind::Nested if self.dialect == Some(Dialect::ExtendedJson) => {
                return Some(extended_json::unwrap(raw).unwrap_or(Token { kind: slot.kind, text: raw.into() }));
            }
            _ => Cow::Borrowed(raw),
        };
        Some(Token { kind: slot.kind, text })
    }

    pub(super) fn wraps_one_value(&self, slot: u32) -> bool {
        self.dialect == Some(Dialect::ExtendedJson) && self.token(slot).is_some_and(|t| t.kind != SlotKind::Nested)
    }
}

/// What an alternative has to give.
enum Presence {
    Nothing,
    /// Blank, or an object or array where none is due: counts when no other alternative has a value.
    StandIn,
    Value,
}

#[inline]
fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

/// The key and the version: what the source itself gives, else what the mapping reads.
fn key_and_version<'k>(
    record: &Record<'k>,
    view: &View<'_>,
    rules: &Rules,
    read: &'k mut String,
) -> Result<(&'k str, Version), Refused> {
    let key = match record.key {
        Some(key) if key.len() <= KEY_BYTES_MAX => key,
        Some(_) => return Err(Refused::new(Reason::KeyUnreadable, None, KEY_UNREADABLE)),
        None => {
            read_key(view, &rules.key, read)?;
            read
        }
    };
    let version = match (&record.version, &rules.version) {
        (Version::None, Some((choice, version_type))) if record.op == Op::Upsert => {
            read_version(view, choice, *version_type)?
        }
        (Version::Text(text), _) if text.len() > VERSION_BYTES_MAX => {
            return Err(Refused::new(Reason::VersionUnreadable, None, VERSION_TOO_LONG));
        }
        (version, _) => version.clone(),
    };
    Ok((key, version))
}

fn read_key(view: &View<'_>, parts: &[Choice], key: &mut String) -> Result<(), Refused> {
    key.clear();
    let mut texts = Vec::new();
    for part in parts {
        let path = part.paths.first().map(String::as_str);
        let token = view.find(part).filter(|t| !t.text.is_empty());
        let Some(token) = token else {
            return Err(Refused::new(Reason::KeyMissing, path, "the key is absent, null or empty"));
        };
        if token.kind == SlotKind::Nested || token.text.len() > KEY_BYTES_MAX {
            return Err(Refused::new(Reason::KeyUnreadable, path, KEY_UNREADABLE));
        }
        if parts.len() == 1 {
            key.push_str(&token.text);
            return Ok(());
        }
        texts.push(token.text);
    }
    if texts.is_empty() {
        return Err(Refused::new(Reason::KeyMissing, None, "neither the source nor the mapping gives a key"));
    }
    // Several parts are written as a JSON array, so that no two keys look alike.
    *key = serde_json::to_string(&texts).unwrap_or_default();
    let path = parts.first().and_then(|part| part.paths.first()).map(String::as_str);
    if key.len() > KEY_BYTES_MAX { Err(Refused::new(Reason::KeyUnreadable, path, KEY_UNREADABLE)) } else { Ok(()) }
}

fn read_version(view: &View<'_>, choice: &Choice, version_type: schemas::VersionType) -> Result<Version, Refused> {
    let path = choice.paths.first().map(String::as_str);
    let token = view.find(choice).filter(|t| !t.text.is_empty());
    let Some(token) = token else {
        return Err(Refused::new(Reason::VersionMissing, path, VERSION_MISSING));
    };
    Version::parse(&token.text, version_type).filter(|_| token.kind != SlotKind::Nested).ok_or_else(|| {
        let detail = format!("{:?} is no version of type {version_type:?}", shorten(&token.text));
        Refused::new(Reason::VersionUnreadable, path, detail)
    })
}

fn is_deleted(view: &View<'_>, rules: &Rules) -> Result<bool, Refused> {
    for (choice, sign) in &rules.deleted {
        let Some(token) = view.find(choice) else { continue };
        if says_deleted(&token, sign).map_err(|detail| {
            Refused::new(Reason::DeletedUnreadable, choice.paths.first().map(String::as_str), detail)
        })? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn says_deleted(token: &Token<'_>, sign: &Deleted) -> Result<bool, String> {
    if let Some(expected) = &sign.equals {
        return Ok(token.text.trim_ascii().eq_ignore_ascii_case(expected));
    }
    if token.text.trim_ascii().is_empty() {
        return Ok(false);
    }
    // A time of deletion says yes as well.
    let time = || schemas::time::parse_timestamp(&token.text).map(|_| true);
    boolean(&token.text)
        .or_else(time)
        .ok_or_else(|| format!("{:?} is neither yes nor no, nor a time", shorten(&token.text)))
}

/// Reads keys out of payloads as the step does, without folding them.
pub struct KeyReader {
    shape: ShapeTree,
    parts: Vec<Choice>,
    dialect: Option<Dialect>,
    walker: Walker,
    key: String,
}

impl KeyReader {
    /// A reader of the keys that a stream's mapping gives.
    pub fn of(mapping: &Mapping) -> Self {
        Self::reading(&mapping.key.0, mapping.dialect)
    }

    /// A reader of the keys that these paths give.
    pub fn new(paths: &[schemas::mapping::Path]) -> Self {
        Self::reading(paths, None)
    }

    fn reading(paths: &[schemas::mapping::Path], dialect: Option<Dialect>) -> Self {
        let mut shape = ShapeTree::default();
        let bind = |path| super::rules::bind(path, &mut shape, false, dialect.is_some());
        let parts = paths.iter().map(bind).collect();
        Self { shape, parts, dialect, walker: Walker::default(), key: String::new() }
    }

    /// The key of a payload; nothing when it has none that can be read.
    pub fn read(&mut self, payload: &[u8]) -> Option<&str> {
        let payload = std::str::from_utf8(payload).ok()?;
        self.walker.walk(&mut self.shape, payload).ok()?;
        let view = View { payload, slots: &self.walker.slots, dialect: self.dialect };
        read_key(&view, &self.parts, &mut self.key).ok()?;
        Some(&self.key)
    }
}
