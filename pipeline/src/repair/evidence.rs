//! Evidence: what a person needs to see to decide a case. Real rows from before it and real records that it holds, read
//! from the log and mapped by the step; every alternative on each of them.

use schemas::Mapping;
use schemas::drift::{Lost, Move};
use schemas::mapping::{Method, Path};
use schemas::reason::Reason;
use schemas::shape::{ELEMENTS, TypeClass};
use serde::Serialize;
use serde_json::{Map, Value};

use super::case::HELD_KEPT;
use super::{Case, Mask};
use crate::log::{Log, LogError};
use crate::records::{self, Found};
use crate::step::{Fate, StepError, StreamState};

/// Rows and records that are shown.
pub(super) const SHOWN: usize = 5;
/// Alternatives of one lost path that held records are mapped by.
const ALTERNATIVES_MAX: usize = 6;
/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 200;

/// What a person needs to see to decide a case.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// The paths concerned: what is lost, then what came.
    pub diff: Vec<PathDiff>,
    /// The last rows from before the case, as they were mapped.
    pub before: Vec<RowBefore>,
    /// Where each lost path may have gone, in the order of the lost paths, the proposed first.
    pub alternatives: Vec<Alternative>,
    /// The last records that the case holds.
    pub held: Vec<RecordHeld>,
}

/// A path before the case, and in the records that it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathDiff {
    /// The path.
    pub path: String,
    /// What became of it.
    pub change: Change,
    /// What it fills: fields of the entity, or `$key`, `$version`, `$deleted`.
    pub feeds: Vec<String>,
    /// In the last records before the case.
    pub before: Seen,
    /// In the last records that it holds.
    pub held: Seen,
    /// How large its numbers were in the last records before the case, where there are some and they are not masked …
    pub numbers_before: Option<Spread>,
    /// … are in the last records that it holds …
    pub numbers_held: Option<Spread>,
    /// … and among all that were looked at, held ones too, within 5 %.
    pub numbers_ever: Option<Spread>,
}

/// How numbers are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// One in twenty is below.
    pub p05: f64,
    /// Half of them are.
    pub p50: f64,
    /// All but one in twenty are.
    pub p95: f64,
}

impl Spread {
    /// By what so many in a thousand are below.
    fn by(below: impl Fn(u64) -> Option<f64>) -> Option<Self> {
        Some(Self { p05: below(50)?, p50: below(500)?, p95: below(950)? })
    }

    /// Of the numbers at a path of some records, also of those that stand as text.
    fn of(payloads: &[Value], path: &str) -> Option<Self> {
        let number = |value: &Value| match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let there = payloads.iter().filter_map(|payload| value_at(payload, path));
        let mut numbers: Vec<f64> = there.filter_map(number).filter(|number| number.is_finite()).collect();
        numbers.sort_by(f64::total_cmp);
        let last = numbers.len().checked_sub(1)? as u64;
        Self::by(|per_thousand| numbers.get((last * per_thousand / 1_000) as usize).copied())
    }
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is gone.
    Lost,
    /// It is there, of a type that it never had.
    Retyped,
    /// It is new.
    Added,
}

/// How often a path was there among some records, and as what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Records that were looked at.
    pub records: usize,
    /// Those in which it has a value.
    pub present: usize,
    /// The types of the values.
    pub types: Vec<TypeClass>,
}

/// A row from before the case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowBefore {
    /// Where its record stands on `inputs`.
    pub offset: u64,
    /// When the log took it, in microseconds since 1970 UTC.
    pub logged_at: i64,
    /// Its key.
    pub key: String,
    /// What stood at the paths concerned.
    pub source: Map<String, Value>,
    /// The fields concerned.
    pub fields: Map<String, Value>,
}

/// Where a lost path may have gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// The move.
    pub to: Move,
    /// Whether it is the one that `approve` approves.
    pub is_proposed: bool,
}

/// A record that the case holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordHeld {
    /// Where it stands on `inputs`.
    pub offset: u64,
    /// When the log took it, in microseconds since 1970 UTC.
    pub logged_at: i64,
    /// What stands at the paths concerned.
    pub source: Map<String, Value>,
    /// What each alternative alone would make of it, in their order.
    pub mapped: Vec<Mapped>,
}

/// What would become of a record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Mapped {
    /// It would be a row.
    Accepted {
        /// The fields concerned.
        fields: Map<String, Value>,
    },
    /// It would be a delete.
    Deleted,
    /// It would stay held, or be held again.
    Held,
    /// It would be set aside.
    Quarantined {
        /// Why.
        reason: Reason,
        /// The field concerned.
        field: Option<String>,
        /// What exactly would be wrong.
        detail: String,
    },
}

/// Evidence cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The records cannot be folded.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The decision would be refused.
    #[error("{0}")]
    Refused(String),
}

/// Looks at a case of a stream, whose state covers what it holds.
pub async fn evidence(log: &dyn Log, state: &StreamState, case: &Case, mask: &Mask) -> Result<Evidence, EvidenceError> {
    let Some((mapping, _)) = state.mapping() else { return Ok(Evidence::default()) };
    let held = held(log, state, case).await?;
    let since = state.drift().since(case.position.offset);
    let before = records::before(log, &state.stream, case.position.partition, since, HELD_KEPT).await?;
    let look = Look { state, mapping, case, mask };
    let (alternatives, mapped) = look.alternatives(&held)?;
    Ok(Evidence { diff: look.diff(&before, &held), before: look.rows(&before)?, alternatives, held: mapped })
}

/// The last records that a case holds, as far as the state covers them.
pub(super) async fn held(log: &dyn Log, state: &StreamState, case: &Case) -> Result<Vec<Found>, LogError> {
    let offsets = case.last_held.iter().map(|(offset, _)| *offset).filter(|offset| *offset < state.next.offset);
    records::at(log, case.position.partition, &offsets.collect::<Vec<_>>()).await
}

/// A look at one case.
struct Look<'a> {
    state: &'a StreamState,
    mapping: &'a Mapping,
    case: &'a Case,
    mask: &'a Mask,
}

impl Look<'_> {
    fn diff(&self, before: &[Found], held: &[Found]) -> Vec<PathDiff> {
        let (before, held) = (payloads(before), payloads(held));
        let spread = |payloads: &[Value], path: &str| {
            if self.mask.hides_path(path) { None } else { Spread::of(payloads, path) }
        };
        let diff = |path: &str, change, feeds| PathDiff {
            path: path.to_owned(),
            change,
            feeds,
            before: seen(&before, path),
            held: seen(&held, path),
            numbers_before: spread(&before, path),
            numbers_held: spread(&held, path),
            numbers_ever: self.ever(path),
        };
        let change = |lost: &Lost| if lost.retyped { Change::Retyped } else { Change::Lost };
        let lost = self.case.lost.iter().map(|lost| diff(&lost.path, change(lost), lost.feeds.clone()));
        lost.chain(self.case.added.iter().map(|path| diff(path, Change::Added, vec![]))).collect()
    }

    /// How large the numbers at a path were, as its profile tells, unless they are masked.
    fn ever(&self, path: &str) -> Option<Spread> {
        if self.mask.hides_path(path) {
            return None;
        }
        let node = self.state.shape().find(Path::new(path).ok()?.choices().first()?)?;
        let profile = self.state.drift().profiles().of(node)?;
        Spread::by(|per_thousand| profile.numbers.below(per_thousand))
    }

    /// The last rows: what the mapping in force makes of their records, which it still reads as before.
    fn rows(&self, before: &[Found]) -> Result<Vec<RowBefore>, EvidenceError> {
        let last = &before[before.len().saturating_sub(SHOWN)..];
        let mut trial = self.state.under(self.mapping.clone()).map_err(EvidenceError::Refused)?;
        let fates = trial.fates(last)?;
        let row = |(record, fate): (&Found, Fate)| match fate {
            Fate::Accepted { key, row } => Some(RowBefore {
                offset: record.offset,
                logged_at: record.logged_at,
                key: self.mask.key(key),
                source: self.source(record),
                fields: fields(row, &self.fields(), self.mask),
            }),
            _ => None,
        };
        Ok(last.iter().zip(fates).filter_map(row).collect())
    }

    /// The alternatives of every lost path, and what each makes of the last held records.
    fn alternatives(&self, held: &[Found]) -> Result<(Vec<Alternative>, Vec<RecordHeld>), EvidenceError> {
        let last = &held[held.len().saturating_sub(SHOWN)..];
        let mut records: Vec<RecordHeld> = last.iter().map(|record| self.record(record)).collect();
        let mut all = Vec::new();
        for lost in &self.case.lost {
            let of = |m: &&Move| m.from == lost.path;
            let proposed = self.case.moves.iter().filter(of).map(|to| (to, true));
            let others = self.case.alternatives.iter().filter(of).map(|to| (to, false));
            for (to, is_proposed) in proposed.chain(others).take(ALTERNATIVES_MAX) {
                let mapping = self.mapping.moved(lost, to, Method::Human);
                let trial = mapping.map_err(|e| e.to_string()).and_then(|mapping| self.state.under(mapping));
                // One that no mapping can be made of is named all the same.
                let Ok(mut trial) = trial else { continue };
                let mask = self.mask.moved(&self.case.lost, std::slice::from_ref(to));
                for (record, fate) in records.iter_mut().zip(trial.fates(last)?) {
                    record.mapped.push(mapped(fate, &lost.feeds, &mask));
                }
                all.push(Alternative { to: to.clone(), is_proposed });
            }
        }
        Ok((all, records))
    }

    fn record(&self, record: &Found) -> RecordHeld {
        let (offset, logged_at, source) = (record.offset, record.logged_at, self.source(record));
        RecordHeld { offset, logged_at, source, mapped: vec![] }
    }

    /// What stands at the paths concerned, where something does.
    fn source(&self, record: &Found) -> Map<String, Value> {
        let Ok(payload) = serde_json::from_slice::<Value>(&record.payload) else { return Map::new() };
        let paths = self.case.lost.iter().map(|lost| &lost.path).chain(&self.case.added);
        let there = paths.filter_map(|path| Some((path, value_at(&payload, path)?)));
        there.map(|(path, value)| (path.clone(), self.mask.path(path, shown(value)))).collect()
    }

    fn fields(&self) -> Vec<String> {
        self.case.lost.iter().flat_map(|lost| lost.feeds.clone()).collect()
    }
}

fn fields(row: Map<String, Value>, wanted: &[String], mask: &Mask) -> Map<String, Value> {
    let wanted = row.into_iter().filter(|(name, _)| wanted.contains(name));
    wanted.map(|(name, value)| (name.clone(), mask.field(&name, shown(&value)))).collect()
}

pub(super) fn mapped(fate: Fate, wanted: &[String], mask: &Mask) -> Mapped {
    match fate {
        Fate::Accepted { row, .. } => Mapped::Accepted { fields: fields(row, wanted, mask) },
        Fate::Deleted => Mapped::Deleted,
        Fate::Held => Mapped::Held,
        // What is wrong is told with the value that is wrong.
        Fate::Quarantined { reason, field, detail } => {
            let detail = Value::from(detail);
            let masked = match &field {
                Some(name) if wanted.contains(name) => mask.field(name, detail),
                Some(name) if mask.hides_field(name) => super::mask::MASKED.into(),
                Some(name) => mask.path(name, detail),
                None => detail,
            };
            let detail = masked.as_str().unwrap_or_default().to_owned();
            Mapped::Quarantined { reason, field, detail }
        }
    }
}

fn payloads(records: &[Found]) -> Vec<Value> {
    records.iter().filter_map(|record| serde_json::from_slice(&record.payload).ok()).collect()
}

fn seen(payloads: &[Value], path: &str) -> Seen {
    let mut seen = Seen { records: payloads.len(), ..Seen::default() };
    for value in payloads.iter().filter_map(|payload| value_at(payload, path)) {
        seen.present += 1;
        if let Some(class) = class_of(value).filter(|class| !seen.types.contains(class)) {
            seen.types.push(class);
        }
    }
    seen.types.sort();
    seen
}

fn class_of(value: &Value) -> Option<TypeClass> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => TypeClass::Boolean,
        Value::Number(_) => TypeClass::Number,
        Value::String(_) => TypeClass::Text,
        Value::Array(_) => TypeClass::Array,
        Value::Object(_) => TypeClass::Object,
    })
}

/// What stands at a path as mappings write it; of an array the first element.
fn value_at<'a>(payload: &'a Value, path: &str) -> Option<&'a Value> {
    let path = Path::new(path).ok()?;
    let mut parts = path.choices().first()?.iter();
    parts.try_fold(payload, |value, part| match value {
        Value::Array(elements) if part == ELEMENTS => elements.first(),
        _ => value.get(part),
    })
}

/// A value that is not too long to be shown; of a longer one the beginning of its text.
fn shown(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
        _ => return value.clone(),
    };
    if text.chars().nth(VALUE_CHARS_MAX).is_none() {
        return value.clone();
    }
    let begin: String = text.chars().take(VALUE_CHARS_MAX).collect();
    format!("{begin}…").into()
}
