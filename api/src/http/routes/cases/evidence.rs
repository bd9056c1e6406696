//! What the evidence of a case looks like outside.

use std::collections::BTreeMap;

use pipeline::repair::{self, Change, DryRun, Evidence, Mapped, Seen, Spread};
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
pub type Values = BTreeMap<String, Any<Value>>;

/// What a person needs to see to decide a case. Sensitive values are masked as `***`.
#[derive(Debug, Object)]
pub struct EvidenceInfo {
    /// What changed of the schema: lost paths, then those that came.
    pub schema_diff: Vec<PathDiffInfo>,
    /// The last rows from before the case, as they were mapped.
    pub before: Vec<RowBeforeInfo>,
    /// Where each lost path may have gone, the proposed first.
    pub alternatives: Vec<AlternativeInfo>,
    /// The last records that it holds, and what each alternative would make of them.
    pub held: Vec<RecordHeldInfo>,
    /// Whom it concerns.
    pub impact: ImpactInfo,
}

/// A path before the case, and in the records that it holds.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct PathDiffInfo {
    /// The path.
    pub path: String,
    /// lost, retyped or added.
    pub change: String,
    /// What it fills: fields of the entity, or `$key`, `$version`, `$deleted`.
    pub feeds: Vec<String>,
    /// In the last records before the case.
    pub before: SeenInfo,
    /// In the last records that it holds.
    pub held: SeenInfo,
    /// How large its numbers were in the last records before the case; null without any, and where they are masked.
    pub numbers_before: Option<SpreadInfo>,
    /// How large they are in the last records that it holds.
    pub numbers_held: Option<SpreadInfo>,
    /// How large they are among all that were looked at, the held ones too, within 5 %.
    pub numbers_ever: Option<SpreadInfo>,
}

/// How numbers are spread.
#[derive(Debug, Object)]
pub struct SpreadInfo {
    /// One in twenty is below.
    pub p05: f64,
    /// Half of them are.
    pub p50: f64,
    /// All but one in twenty are.
    pub p95: f64,
}

/// How often a path was there among some records, and as what.
#[derive(Debug, Object)]
pub struct SeenInfo {
    /// Records that were looked at.
    pub records: u64,
    /// Those in which it is there.
    pub present: u64,
    /// boolean, number, text, object or array.
    pub types: Vec<String>,
}

/// A row from before the case.
#[derive(Debug, Object)]
pub struct RowBeforeInfo {
    /// Where its record stands on `inputs`.
    pub position: String,
    /// When the log took it.
    pub logged_at: String,
    /// Its key.
    pub key: String,
    /// What stood at the paths concerned.
    pub source: Values,
    /// The fields concerned.
    pub fields: Values,
}

/// Where a lost path may have gone.
#[derive(Debug, Object)]
pub struct AlternativeInfo {
    /// Whether it is the one that `approve` approves.
    pub proposed: bool,
    /// The move.
    pub to: MoveInfo,
}

/// A record that the case holds.
#[derive(Debug, Object)]
pub struct RecordHeldInfo {
    /// Where it stands on `inputs`.
    pub position: String,
    /// When the log took it.
    pub logged_at: String,
    /// What stands at the paths concerned.
    pub source: Values,
    /// What each alternative alone would make of it, in their order.
    pub mapped: Vec<MappedInfo>,
}

/// What would become of a record.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct MappedInfo {
    /// accepted, deleted, held or quarantined.
    pub outcome: String,
    /// The fields concerned, when it would be a row.
    pub fields: Option<Values>,
    /// Why it would be set aside, as a stable code.
    pub reason: Option<String>,
    /// The field or path that it would be set aside for.
    pub field: Option<String>,
    /// What exactly would be wrong.
    pub detail: Option<String>,
}

/// Whom a case concerns.
#[derive(Debug, Object)]
pub struct ImpactInfo {
    /// The views that its stream feeds.
    pub views: Vec<ViewImpactInfo>,
    /// Records that it holds now.
    pub rows_held: u64,
}

/// What a case concerns of a view.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ViewImpactInfo {
    /// The table that SQL asks.
    pub view: String,
    /// What its rows are.
    pub entity: String,
    /// The columns that are filled from what is lost; `$key`, `$version` and `$deleted` concern the rows themselves.
    pub columns: Vec<String>,
    /// Rows of the case's stream in it; null when they could not be counted now.
    pub rows: Option<u64>,
    /// Who asked for one of the columns last, or for every one, since the server started; with `$key`, `$version` or
    /// `$deleted` among the columns, who asked the view at all. A key that is bound to connections sees itself alone.
    pub consumers: Vec<ConsumerInfo>,
}

/// Somebody who asked a view.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ConsumerInfo {
    /// Who: `user:ID` or `key:ID`.
    pub by: String,
    /// When last.
    pub at: String,
    /// The statement: one's own, an admin sees all.
    pub statement: Option<String>,
}

/// What a decision would do to the last records that a case holds.
#[derive(Debug, Object)]
pub struct DryRunInfo {
    /// The case.
    pub case: String,
    /// Records that were tried.
    pub records: u64,
    /// Whether every one would become a row or a delete, and none blank where there was a value before.
    pub clean: bool,
    /// Those that would be rows.
    pub accepted: u64,
    /// Of those, the ones that would be blank where there was a value before.
    #[oai(default)]
    pub blank: u64,
    /// Those that would be deletes.
    pub deleted: u64,
    /// Those that would stay held, or be held again for want of what the decision reads.
    pub held: u64,
    /// Those that would be set aside.
    pub quarantined: Vec<SetAsideInfo>,
    /// Some of each kind.
    pub samples: Vec<SampleInfo>,
}

/// Records that would be set aside for one reason.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct SetAsideInfo {
    /// Why, as a stable code.
    pub reason: String,
    /// The field or path concerned.
    pub field: Option<String>,
    /// How many.
    pub count: u64,
}

/// A record that was tried.
#[derive(Debug, Object)]
pub struct SampleInfo {
    /// Where it stands on `inputs`.
    pub position: String,
    /// What would become of it.
    pub mapped: MappedInfo,
}

/// Evidence as `caller` may see it, or the operator; `case` is the place of the case.
pub fn evidence(evidence: Evidence, impact: Impact, case: Position, caller: Option<&Caller>) -> EvidenceInfo {
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

fn impact(impact: Impact, caller: Option<&Caller>) -> ImpactInfo {
    // A statement may ask for what other connections brought, and so may whoever asks it.
    let is_told = |consumer: &Consumer| caller.is_none_or(|caller| !caller.is_bound() || consumer.by == caller.label());
    let may_see = |by: &str| caller.is_none_or(|caller| caller.role == Role::Admin || by == caller.label());
    let consumer = |consumer: Consumer| ConsumerInfo {
        at: time::of_micros(consumer.at),
        statement: may_see(&consumer.by).then_some(consumer.statement),
        by: consumer.by,
    };
    let view = |view: crate::line::ViewImpact| ViewImpactInfo {
        view: view.view,
        entity: view.entity,
        columns: view.columns,
        rows: view.rows,
        consumers: view.consumers.into_iter().filter(|consumer| is_told(consumer)).map(consumer).collect(),
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
        blank: run.blank as u64,
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
    PathDiffInfo {
        path: diff.path,
        change: change.to_owned(),
        feeds: diff.feeds,
        before: seen(diff.before),
        held: seen(diff.held),
        numbers_before: diff.numbers_before.map(spread),
        numbers_held: diff.numbers_held.map(spread),
        numbers_ever: diff.numbers_ever.map(spread),
    }
}

fn spread(Spread { p05, p50, p95 }: Spread) -> SpreadInfo {
    SpreadInfo { p05, p50, p95 }
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
