//! What the evidence of a case looks like outside.

use std::collections::BTreeMap;

use pipeline::repair::{self, Change, DryRun, Evidence, Mapped, Seen};
use poem_openapi::Object;
use poem_openapi::types::Any;
use schemas::Position;
use schemas::shape::TypeClass;
use serde_json::{Map, Value};

use super::shape::{MoveInfo, shown};
use crate::auth::{Caller, Role};
use crate::http::time;
use crate::line::{Consumer, Impact};

/// Values by path or field, as JSON.
type Values = BTreeMap<String, Any<Value>>;

/// What a person needs to see to decide a case. Sensitive values are masked as `***`.
#[derive(Debug, Object)]
pub struct EvidenceInfo {
    /// What changed of the schema: lost paths, then those that came.
    schema_diff: Vec<PathDiffInfo>,
    /// The last rows from before the case, as they were mapped.
    before: Vec<RowBeforeInfo>,
    /// Where each lost path may have gone, the proposed first.
    alternatives: Vec<AlternativeInfo>,
    /// The last records that it holds, and what each alternative would make of them.
    held: Vec<RecordHeldInfo>,
    /// Whom it concerns.
    impact: ImpactInfo,
}

/// A path before the case, and in the records that it holds.
#[derive(Debug, Object)]
struct PathDiffInfo {
    /// The path.
    path: String,
    /// lost, retyped or added.
    change: String,
    /// What it fills: fields of the entity, or `$key`, `$version`, `$deleted`.
    feeds: Vec<String>,
    /// In the last records before the case.
    before: SeenInfo,
    /// In the last records that it holds.
    held: SeenInfo,
}

/// How often a path was there among some records, and as what.
#[derive(Debug, Object)]
struct SeenInfo {
    /// Records that were looked at.
    records: u64,
    /// Those in which it is there.
    present: u64,
    /// boolean, number, text, object or array.
    types: Vec<String>,
}

/// A row from before the case.
#[derive(Debug, Object)]
struct RowBeforeInfo {
    /// Where its record stands on `inputs`.
    position: String,
    /// When the log took it.
    logged_at: String,
    /// Its key.
    key: String,
    /// What stood at the paths concerned.
    source: Values,
    /// The fields concerned.
    fields: Values,
}

/// Where a lost path may have gone.
#[derive(Debug, Object)]
struct AlternativeInfo {
    /// Whether it is the one that `approve` approves.
    proposed: bool,
    /// The move.
    to: MoveInfo,
}

/// A record that the case holds.
#[derive(Debug, Object)]
struct RecordHeldInfo {
    /// Where it stands on `inputs`.
    position: String,
    /// When the log took it.
    logged_at: String,
    /// What stands at the paths concerned.
    source: Values,
    /// What each alternative alone would make of it, in their order.
    mapped: Vec<MappedInfo>,
}

/// What would become of a record.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct MappedInfo {
    /// accepted, deleted, held or quarantined.
    outcome: String,
    /// The fields concerned, when it would be a row.
    fields: Option<Values>,
    /// Why it would be set aside, as a stable code.
    reason: Option<String>,
    /// The field or path that it would be set aside for.
    field: Option<String>,
    /// What exactly would be wrong.
    detail: Option<String>,
}

/// Whom a case concerns.
#[derive(Debug, Object)]
struct ImpactInfo {
    /// The views that its stream feeds.
    views: Vec<ViewImpactInfo>,
    /// Records that it holds now.
    rows_held: u64,
}

/// What a case concerns of a view.
#[derive(Debug, Object)]
struct ViewImpactInfo {
    /// The table that SQL asks.
    view: String,
    /// What its rows are.
    entity: String,
    /// The columns that are filled from what is lost; `$key`, `$version` and `$deleted` concern the rows themselves.
    columns: Vec<String>,
    /// Rows of the case's stream in it; null when they could not be counted now.
    rows: Option<u64>,
    /// Who asked for one of the columns last, since the server started.
    consumers: Vec<ConsumerInfo>,
}

/// Somebody who asked a view.
#[derive(Debug, Object)]
struct ConsumerInfo {
    /// Who: `user:ID` or `key:ID`.
    by: String,
    /// When last.
    at: String,
    /// The statement: one's own, an admin sees all.
    statement: Option<String>,
}

/// What a decision would do to the last records that a case holds.
#[derive(Debug, Object)]
pub struct DryRunInfo {
    /// The case.
    case: String,
    /// Records that were tried.
    records: u64,
    /// Whether every one would become a row or a delete.
    clean: bool,
    /// Those that would be rows.
    accepted: u64,
    /// Those that would be deletes.
    deleted: u64,
    /// Those that would stay held, or be held again for want of what the decision reads.
    held: u64,
    /// Those that would be set aside.
    quarantined: Vec<SetAsideInfo>,
    /// Some of each kind.
    samples: Vec<SampleInfo>,
}

/// Records that would be set aside for one reason.
#[derive(Debug, Object)]
struct SetAsideInfo {
    /// Why, as a stable code.
    reason: String,
    /// The field or path concerned.
    field: Option<String>,
    /// How many.
    count: u64,
}

/// A record that was tried.
#[derive(Debug, Object)]
struct SampleInfo {
    /// Where it stands on `inputs`.
    position: String,
    /// What would become of it.
    mapped: MappedInfo,
}

/// Evidence as `caller` may see it; `case` is the place of the case.
pub fn evidence(evidence: Evidence, impact: Impact, case: Position, caller: &Caller) -> EvidenceInfo {
    let at = |offset| Position { offset, ..case }.to_string();
    let before = |row: repair::RowBefore| RowBeforeInfo {
        position: at(row.offset),
        logged_at: time::of_micros(row.logged_at),
        key: row.key,
        source: values(row.source),
        fields: values(row.fields),
    };
    let held = |record: repair::RecordHeld| RecordHeldInfo {
        position: at(record.offset),
        logged_at: time::of_micros(record.logged_at),
        source: values(record.source),
        mapped: record.mapped.into_iter().map(mapped).collect(),
    };
    let alternative = |a: repair::Alternative| AlternativeInfo { proposed: a.is_proposed, to: shown(a.to) };
    EvidenceInfo {
        schema_diff: evidence.diff.into_iter().map(diff).collect(),
        before: evidence.before.into_iter().map(before).collect(),
        alternatives: evidence.alternatives.into_iter().map(alternative).collect(),
        held: evidence.held.into_iter().map(held).collect(),
        impact: self::impact(impact, caller),
    }
}

fn impact(impact: Impact, caller: &Caller) -> ImpactInfo {
    let consumer = |consumer: Consumer| ConsumerInfo {
        at: time::of_micros(consumer.at),
        statement: (caller.role == Role::Admin || consumer.by == caller.label()).then_some(consumer.statement),
        by: consumer.by,
    };
    let view = |view: crate::line::ViewImpact| ViewImpactInfo {
        view: view.view,
        entity: view.entity,
        columns: view.columns,
        rows: view.rows,
        consumers: view.consumers.into_iter().map(consumer).collect(),
    };
    ImpactInfo { views: impact.views.into_iter().map(view).collect(), rows_held: impact.rows_held }
}

/// A dry run as it is shown; `case` is the place of the case.
pub fn dry_run(run: DryRun, case: Position) -> DryRunInfo {
    let clean = run.is_clean();
    let aside =
        |a: repair::SetAside| SetAsideInfo { reason: a.reason.code().into(), field: a.field, count: a.count as u64 };
    let sample = |sample: repair::Sample| SampleInfo {
        position: Position { offset: sample.offset, ..case }.to_string(),
        mapped: mapped(sample.mapped),
    };
    DryRunInfo {
        case: case.to_string(),
        records: run.records as u64,
        clean,
        accepted: run.accepted as u64,
        deleted: run.deleted as u64,
        held: run.held as u64,
        quarantined: run.quarantined.into_iter().map(aside).collect(),
        samples: run.samples.into_iter().map(sample).collect(),
    }
}

fn diff(diff: repair::PathDiff) -> PathDiffInfo {
    let change = match diff.change {
        Change::Lost => "lost",
        Change::Retyped => "retyped",
        Change::Added => "added",
    };
    let (path, change, feeds) = (diff.path, change.to_owned(), diff.feeds);
    PathDiffInfo { path, change, feeds, before: seen(diff.before), held: seen(diff.held) }
}

fn seen(seen: Seen) -> SeenInfo {
    let name = |class: TypeClass| format!("{class:?}").to_lowercase();
    let types = seen.types.into_iter().map(name).collect();
    SeenInfo { records: seen.records as u64, present: seen.present as u64, types }
}

fn mapped(mapped: Mapped) -> MappedInfo {
    let nothing = |outcome: &str| MappedInfo {
        outcome: outcome.to_owned(),
        fields: None,
        reason: None,
        field: None,
        detail: None,
    };
    match mapped {
        Mapped::Accepted { fields } => MappedInfo { fields: Some(values(fields)), ..nothing("accepted") },
        Mapped::Deleted => nothing("deleted"),
        Mapped::Held => nothing("held"),
        Mapped::Quarantined { reason, field, detail } => {
            let reason = Some(reason.code().to_owned());
            MappedInfo { reason, field, detail: Some(detail), ..nothing("quarantined") }
        }
    }
}

fn values(map: Map<String, Value>) -> Values {
    map.into_iter().map(|(name, value)| (name, Any(value))).collect()
}
