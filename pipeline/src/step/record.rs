//! Records: told apart by lane and ordinal, walked once, mapped to a row or set aside with a reason.

use std::borrow::Cow;

use schemas::decision::Fact;
use schemas::event::{EventBatchWriter, RowKind, put_value};
use schemas::mapping::{Deleted, Dialect};
use schemas::reason::Reason;
use schemas::record::RecordBatchReader;
use schemas::shape::{ShapeTree, Slot, SlotKind, Walker, unescape};
use schemas::value::{FieldType, Value};
use schemas::version::Version;
use schemas::{Decision, Lane, Mapping, Op, Record};

use super::cast::{Token, as_json, boolean, cast, cast_transformed, shorten, transform};
use super::extended_json;
use super::rules::{Choice, FieldPlan, FieldRule, Rules, Spare};
use super::state::Counters;
use super::{InputBatch, Outcome, Scratch, StepError, StreamState, shared};

const VERSION_MISSING: &str =
    "the version is absent, null or empty (a source without versions is opened with version none)";
/// A longer key is refused, in bytes.
const KEY_BYTES_MAX: usize = 4096;

pub(super) fn fold_records(
    state: &mut StreamState,
    input: InputBatch<'_>,
    scratch: &mut Scratch,
) -> Result<Outcome, StepError> {
    let malformed = |source| StepError::Malformed { offset: input.first, source };
    let mut reader = RecordBatchReader::new(input.body).map_err(malformed)?;
    let opened = state.opened.as_ref();
    let (version, entity) = opened.map_or((0, None), |o| (o.version, Some(o.entity.entity.clone())));
    let rules = state.rules.as_ref();
    let shared = shared(state, input.logged_at, version, rules.map_or(0, |r| r.confidence));
    let lane = state.lanes.entry(reader.lane).or_default();
    let mut fold = Fold {
        rules,
        shape: &mut state.shape,
        missing: &mut state.missing_now,
        scratch,
        rows: EventBatchWriter::new(&shared, input.body.len() / 2),
        decisions: Vec::new(),
        offset: input.first,
        ordinal: 0,
        lane: reader.lane,
    };
    while let Some(record) = reader.next_record().map_err(malformed)? {
        state.counters.taken += 1;
        if record.ordinal <= lane.ordinal {
            state.counters.duplicate += 1;
        } else {
            lane.ordinal = record.ordinal;
            fold.record(&record, &mut state.counters);
        }
        fold.offset += 1;
        fold.ordinal = 0;
    }
    if lane.cursor != reader.cursor {
        lane.cursor = reader.cursor.to_vec();
    }
    let Fold { rows, decisions, .. } = fold;
    let count = rows.count();
    let rows = (count > 0).then(|| (rows.finish(), count));
    Ok(Outcome { entity, controls: Vec::new(), rows, decisions })
}

/// Why a record is set aside.
struct Refused {
    reason: Reason,
    field: Option<String>,
    detail: String,
}

impl Refused {
    fn new(reason: Reason, field: Option<&str>, detail: impl Into<String>) -> Self {
        Self { reason, field: field.map(str::to_owned), detail: detail.into() }
    }
}

/// The fold of one batch: what it reads and what it fills.
struct Fold<'a> {
    rules: Option<&'a Rules>,
    shape: &'a mut ShapeTree,
    missing: &'a mut [u64],
    scratch: &'a mut Scratch,
    rows: EventBatchWriter,
    decisions: Vec<Decision>,
    offset: u64,
    ordinal: u32,
    lane: Lane,
}

impl Fold<'_> {
    fn record(&mut self, record: &Record<'_>, counters: &mut Counters) {
        match self.row(record) {
            Ok(RowKind::Accepted) => counters.accepted += 1,
            Ok(RowKind::Deleted) => counters.deleted += 1,
            Err(refused) => {
                counters.quarantined += 1;
                let Refused { reason, field, detail } = refused;
                let (stage, lane, lane_ordinal) = (reason.stage(), self.lane, record.ordinal);
                self.decide(Fact::RecordQuarantined { reason, stage, field, detail, lane, lane_ordinal });
            }
        }
    }

    fn decide(&mut self, fact: Fact) {
        self.decisions.push(Decision { input_offset: self.offset, ordinal: self.ordinal, fact });
        self.ordinal += 1;
    }

    fn row(&mut self, record: &Record<'_>) -> Result<RowKind, Refused> {
        if let Some(reason) = record.defect {
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
            self.decide(Fact::ShapeObserved { path, class: seen.class, fingerprint });
        }
        let view = View { payload, slots: &self.scratch.walker.slots, dialect: rules.dialect };
        let key = match record.key {
            Some(key) => key,
            None => {
                read_key(&view, &rules.key, &mut self.scratch.key)?;
                &self.scratch.key
            }
        };
        let version = match (&record.version, &rules.version) {
            (Version::None, Some((choice, version_type))) if record.op == Op::Upsert => {
                read_version(&view, choice, *version_type)?
            }
            (version, _) => version.clone(),
        };
        if record.op == Op::Delete || is_deleted(&view, rules)? {
            self.rows.push(RowKind::Deleted, self.offset, 0, self.offset, key, &version, 0, &[], &[]);
            return Ok(RowKind::Deleted);
        }
        let values = &mut self.scratch.values;
        values.clear();
        let taken = &mut self.scratch.taken;
        taken.clear();
        taken.resize(view.slots.len(), false);
        let count = map_fields(&view, &rules.fields, self.missing, taken, values)?;
        write_extras(&view, rules, taken, &self.scratch.walker, &mut self.scratch.extras);
        let extras = &self.scratch.extras;
        self.rows.push(RowKind::Accepted, self.offset, 0, self.offset, key, &version, count, values, extras);
        Ok(RowKind::Accepted)
    }
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
struct View<'a> {
    payload: &'a str,
    slots: &'a [Slot],
    dialect: Option<Dialect>,
}

impl<'a> View<'a> {
    /// The first alternative that has a value; else the first that is blank or is an object or array where none is due.
    #[inline]
    fn find(&self, choice: &Choice) -> Option<Token<'a>> {
        self.token(self.chosen(choice)?)
    }

    /// The slot of the alternative that [`View::find`] finds.
    #[inline]
    fn chosen(&self, choice: &Choice) -> Option<u32> {
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
    fn rule<'r>(&self, rules: &'r [FieldRule]) -> Option<&'r FieldRule> {
        let ([] | [_]) = rules else {
            let has_value = |c: &Choice| c.slots.iter().any(|s| matches!(self.presence(*s, c), Presence::Value));
            return rules.iter().find(|rule| rule.from.iter().any(has_value)).or(rules.last());
        };
        rules.first()
    }

    #[inline]
    fn token(&self, slot: u32) -> Option<Token<'a>> {
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

    fn wraps_one_value(&self, slot: u32) -> bool {
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
            return Err(Refused::new(
                Reason::KeyUnreadable,
                path,
                "a key is a text, number or boolean of at most 4,096 bytes",
            ));
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
    Ok(())
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

/// Appends a value for each field up to the last that is not null; answers how many.
fn map_fields(
    view: &View<'_>,
    fields: &[FieldPlan],
    missing: &mut [u64],
    taken: &mut [bool],
    values: &mut Vec<u8>,
) -> Result<usize, Refused> {
    let (mut count, mut end) = (0, 0);
    for (at, field) in fields.iter().enumerate() {
        let filled = map_field(view, field, taken, values)?;
        if filled {
            (count, end) = (at + 1, values.len());
            continue;
        }
        if field.required {
            let detail = "the field is required and absent, null or empty";
            return Err(Refused::new(Reason::RequiredMissing, Some(&field.name), detail));
        }
        if !field.rules.is_empty() {
            missing[at] += 1;
        }
    }
    values.truncate(end);
    Ok(count)
}

/// Appends one field's value; false when it is null. Notes the slots that it was made of.
#[inline]
fn map_field(view: &View<'_>, field: &FieldPlan, taken: &mut [bool], values: &mut Vec<u8>) -> Result<bool, Refused> {
    let refuse = |detail| Refused::new(Reason::CastFailed, Some(&field.name), detail);
    let mut put = |value: Value<'_>| {
        let value = if field.required && value == Value::Text("") { Value::Null } else { value };
        put_value(values, value);
        value != Value::Null
    };
    let mut take = |choice: &Choice| {
        let slot = view.chosen(choice)?;
        taken[slot as usize] = true;
        view.token(slot)
    };
    let Some(rule) = view.rule(&field.rules) else { return Ok(put(Value::Null)) };
    let is_json = field.field_type == FieldType::Json;
    if rule.plain {
        let Some(token) = take(&rule.from[0]) else { return Ok(put(Value::Null)) };
        let token = if is_json { as_json(token) } else { token };
        return cast(&token, field.field_type, rule.scaling).map(put).map_err(refuse);
    }
    let parts: Vec<Token<'_>> = rule.from.iter().filter_map(take).collect();
    if parts.iter().any(|p| p.kind == SlotKind::Nested) {
        return Err(refuse("an object or array cannot be transformed".to_owned()));
    }
    let Some(text) = transform(&parts, &rule.rule) else { return Ok(put(Value::Null)) };
    let token = Token { kind: SlotKind::Text, text: text.into() };
    let token = if is_json { as_json(token) } else { token };
    cast_transformed(&token, field.field_type, rule).map(put).map_err(refuse)
}

/// Closes `extras`: what the walk kept, and alternatives that were present and that no field took.
fn write_extras(view: &View<'_>, rules: &Rules, taken: &[bool], walker: &Walker, extras: &mut Vec<u8>) {
    extras.clear();
    let mut add = |member: &[u8]| {
        extras.push(if extras.is_empty() { b'{' } else { b',' });
        extras.extend_from_slice(member);
    };
    if !walker.extras.is_empty() {
        add(&walker.extras);
    }
    for spare in &rules.spares {
        let slot = &view.slots[spare.slot as usize];
        if matches!(slot.kind, SlotKind::Absent | SlotKind::Null) || taken[spare.slot as usize] {
            continue;
        }
        if !(view.wraps_one_value(spare.slot) && is_taken_within(spare, rules, taken)) {
            add(unchosen(view, slot, &spare.path).as_bytes());
        }
    }
    if !extras.is_empty() {
        extras.push(b'}');
    }
}

/// Whether a field was made of something below this slot.
fn is_taken_within(spare: &Spare, rules: &Rules, taken: &[bool]) -> bool {
    let within = |other: &&Spare| other.path.strip_prefix(&*spare.path).is_some_and(|rest| rest.starts_with('.'));
    rules.spares.iter().filter(within).any(|other| taken[other.slot as usize])
}

fn unchosen(view: &View<'_>, slot: &Slot, path: &str) -> String {
    let Slot { kind, start, end } = *slot;
    let quoted = matches!(kind, SlotKind::Text | SlotKind::EscapedText);
    let raw = if quoted { &view.payload[start - 1..=end] } else { &view.payload[start..end] };
    format!("{}:{raw}", serde_json::Value::from(path))
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
