//! What a case looks like outside.

use std::collections::BTreeMap;

use pipeline::repair::{Approval, Case, Decided};
use poem_openapi::Object;
use poem_openapi::types::Any;
use schemas::advice::{Coverage, ModelCall};
use schemas::drift::{DriftKind, Lost, Move, Tried, Verdict};
use schemas::mapping::Rule;
use serde_json::Value;

use super::evidence::EvidenceInfo;
use crate::http::problem::Problem;
use crate::http::routes::advice::dollars;
use crate::http::text::Text;
use crate::http::time;

/// A page of cases.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CasePage {
    /// The cases.
    pub cases: Vec<CaseInfo>,
    /// For the next page; left out at the end.
    pub next: Option<String>,
}

/// A case of drift.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CaseInfo {
    /// Its id: the position of the input at which it began.
    pub case: String,
    /// Its stream: `connection/stream`.
    pub stream: String,
    /// watching, open, rejected, repaired, removed, released, reverted or noted.
    pub status: String,
    /// The first of `kinds`.
    pub kind: String,
    /// renamed, nested, unnested, split, merged, retyped, removed, added or nulls, as far as anybody knows: of each lost
    /// path, and of what came.
    pub kinds: Vec<String>,
    /// How much hangs on it: info, warning or breaking.
    pub severity: String,
    /// The mapping version that a decision is made on.
    pub mapping_version: u32,
    /// The case's version, raised by everything that changes what is to be decided; a decision may name it.
    pub version: u32,
    /// What its records lack.
    pub lost: Vec<LostInfo>,
    /// The lost paths that nobody has decided; a part of a case can be.
    #[oai(default)]
    pub undecided: Vec<String>,
    /// Whether something was decided of it that can be taken back: of a stream's decided cases the last eight, and none of a
    /// key, a version or a sign of deletion.
    #[oai(default)]
    pub revertible: bool,
    /// Paths that came with them and that no rule named.
    pub added: Vec<String>,
    /// Paths that came beside those that are named.
    pub added_more: u64,
    /// Where what was lost has gone, likelier than not: what `approve` approves.
    pub moves: Vec<MoveInfo>,
    /// Where else it may have gone, the likeliest first.
    pub alternatives: Vec<MoveInfo>,
    /// Why it waits for a person.
    pub waits: Option<String>,
    /// Records that lacked something, when it opened.
    pub lacking: u64,
    /// Records since it began that had everything, when it opened.
    pub having: u64,
    /// Records held for it.
    pub held: u64,
    /// Held records that came again.
    pub redriven: u64,
    /// When it began.
    pub began_at: String,
    /// When it opened.
    pub opened_at: Option<String>,
    /// Until when it is put off.
    pub snoozed_until: Option<String>,
    /// When it is rejected, and holds on, if nobody decides it before.
    pub expires_at: Option<String>,
    /// A decision that another person must approve, too.
    pub approval: Option<ApprovalInfo>,
    /// What the proposal would break: why it waits whatever its confidence.
    pub breaks: Option<String>,
    /// What became of the last held records when the proposal was tried on them.
    pub tried: Option<TriedInfo>,
    /// How much of what is uncertain approved mappings cover, where a language model may be asked.
    pub coverage: Option<CoverageInfo>,
    /// The last call of a language model about it.
    pub call: Option<CallInfo>,
    /// What was decided, in order.
    pub decided: Vec<DecidedInfo>,
    /// What a person needs to see to decide it; only where one case is shown.
    pub evidence: Option<EvidenceInfo>,
}

impl CaseInfo {
    /// The case with its evidence, and the addresses of those who decided something.
    pub fn with(mut self, evidence: EvidenceInfo, names: &BTreeMap<String, String>) -> Self {
        for decided in &mut self.decided {
            let known: Vec<&str> =
                decided.by.split(" and ").filter_map(|by| names.get(by)).map(String::as_str).collect();
            decided.name = (!known.is_empty()).then(|| known.join(" and "));
        }
        Self { evidence: Some(evidence), ..self }
    }
}

/// A decision that another person must approve, too.
#[derive(Debug, Object)]
pub struct ApprovalInfo {
    /// approve, edit, accept_as_removed or revert.
    pub decision: String,
    /// Why it takes two: key, renamed, retyped, split, merged, removed or reverted.
    pub class: String,
    /// What an edit moves.
    pub moves: Vec<MoveInfo>,
    /// The lost paths that it is confined to.
    pub only: Vec<String>,
    /// Who approved it.
    pub by: String,
}

/// How much of what is uncertain is known from approved mappings.
#[derive(Debug, Object)]
pub struct CoverageInfo {
    /// Fields that are uncertain.
    pub fields: u32,
    /// Those with an approved mapping that is like it.
    pub matched: u32,
    /// The share of these, from 0 to 1.
    pub share: f64,
    /// ask, proceed (much is known) or skip (enough is known).
    pub recommendation: String,
    /// Some of the fields without a match.
    pub missing: Vec<String>,
    /// Whether no model was asked for it.
    pub skipped: bool,
    /// What the call would have cost at most, in dollars.
    pub saved_cost: f64,
}

/// A call of a language model.
#[derive(Debug, Object)]
pub struct CallInfo {
    /// The model.
    pub model: String,
    /// answered, useless (it named nothing that there is), timed_out, limited, failed or over_budget (it was not asked).
    pub outcome: String,
    /// Tokens that were read.
    pub input_tokens: u64,
    /// Tokens that were written.
    pub output_tokens: u64,
    /// What it cost, in dollars.
    pub cost: f64,
}

/// What became of the last held records when a proposal was tried on them.
#[derive(Debug, Object)]
pub struct TriedInfo {
    /// Records that were tried.
    pub records: u64,
    /// Those that would be rows or deletes. Rows that would be blank where there was a value before are counted nowhere.
    pub accepted: u64,
    /// Those that would be set aside.
    pub quarantined: u64,
    /// Those that would be held on.
    pub held: u64,
}

/// A path that is lost.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct LostInfo {
    /// The path.
    pub path: String,
    /// What it fills: fields of the entity, or `$key`, `$version`, `$deleted`.
    pub feeds: Vec<String>,
    /// It is there, but of a type that it never had.
    pub retyped: bool,
    /// What changed in its values, in words, where that is known.
    pub change: Option<String>,
}

/// Where a lost path may have gone.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct MoveInfo {
    /// The lost path.
    pub from: String,
    /// Where it is now; several paths when it was split.
    pub to: Vec<String>,
    /// The kind of change.
    pub kind: String,
    /// The probability, from 0 to 1.
    pub confidence: f64,
    /// Which part of it, when several became one.
    pub part: Option<u32>,
    /// How its values changed, in words: the repaired mapping reads them so.
    pub change: Option<String>,
    /// How the value is transformed, where a person said so: a rule without a source.
    pub transform: Option<Any<Value>>,
    /// The signals that weigh most, for it or against it.
    pub signals: Vec<SignalInfo>,
}

/// A signal behind a move.
#[derive(Debug, Object)]
pub struct SignalInfo {
    /// Its name.
    pub name: String,
    /// Its strength.
    pub strength: f64,
    /// Its weight: what the log-odds of the pair would lose without it; below nothing it speaks against it.
    pub weight: f64,
}

/// What was decided.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct DecidedInfo {
    /// approved (by the first of two), repaired, removed, rejected, expired, reverted, snoozed or noted.
    pub status: String,
    /// What was changed.
    pub moves: Vec<MoveInfo>,
    /// Paths accepted as removed.
    pub removed: Vec<String>,
    /// Who: `rules`, `command line`, `user:ID` or `key:ID`.
    pub by: String,
    /// The address, where one case is shown and a user decided.
    pub name: Option<String>,
    /// Why.
    pub why: String,
    /// When.
    pub at: String,
}

/// Where a lost path has gone.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct MoveWanted {
    /// The lost path, as the case shows it.
    #[oai(validator(min_length = 1, max_length = 8192))]
    pub from: Text,
    /// Where it is now; several paths are joined by a blank.
    #[oai(validator(min_items = 1, max_items = 20))]
    pub to: Vec<Text>,
    /// Which part of it, parted by blanks and counted from 0, when several became one.
    pub part: Option<u32>,
    /// How the value is to be transformed, as in a mapping: a rule without a source, for example `{"unit": "cents"}`. As
    /// before, when left out. With the lost path itself as the target it changes what the path means.
    pub transform: Option<Any<Value>>,
}

/// A case as it is shown.
pub fn case(case: Case) -> CaseInfo {
    let (kind, kinds) = (case.kind(), case.kinds());
    let revertible = case.is_revertible();
    let undecided = case.undecided().map(|lost| lost.path.clone()).collect();
    CaseInfo {
        case: case.position.to_string(),
        stream: case.stream,
        status: case.status.name().to_owned(),
        kind: kind.name().to_owned(),
        kinds: kinds.into_iter().map(|kind| kind.name().to_owned()).collect(),
        severity: case.severity.name().to_owned(),
        mapping_version: case.mapping_version,
        version: case.version,
        lost: case.lost.into_iter().map(lost).collect(),
        undecided,
        revertible,
        added: case.added,
        added_more: case.added_more,
        moves: case.moves.into_iter().map(shown).collect(),
        alternatives: case.alternatives.into_iter().map(shown).collect(),
        waits: case.waits,
        lacking: case.lacking,
        having: case.having,
        held: case.held,
        redriven: case.redriven,
        began_at: time::of_micros(case.began_at),
        opened_at: case.opened_at.map(time::of_micros),
        snoozed_until: case.snoozed_until.map(time::of_micros),
        expires_at: case.expires_at.map(time::of_micros),
        approval: case.approval.map(approval),
        breaks: case.breaks,
        tried: case.tried.map(tried),
        coverage: case.coverage.map(coverage),
        call: case.call.map(call),
        decided: case.decided.into_iter().map(decided).collect(),
        evidence: None,
    }
}

fn approval(approval: Approval) -> ApprovalInfo {
    let (decision, moves, only) = match approval.verdict {
        Verdict::Approve { only } => ("approve", vec![], only),
        Verdict::Edit { moves } => ("edit", moves, vec![]),
        Verdict::AcceptAsRemoved { only } => ("accept_as_removed", vec![], only),
        Verdict::Revert => ("revert", vec![], vec![]),
        Verdict::Reject | Verdict::Snooze { .. } => ("reject", vec![], vec![]),
    };
    let moves = moves.into_iter().map(shown).collect();
    ApprovalInfo { decision: decision.into(), class: approval.class.name().into(), moves, only, by: approval.by }
}

fn coverage(coverage: Coverage) -> CoverageInfo {
    CoverageInfo {
        share: f64::from(coverage.share()) / 1000.0,
        recommendation: coverage.recommendation().name().to_owned(),
        fields: coverage.fields,
        matched: coverage.matched,
        missing: coverage.missing,
        skipped: coverage.skipped,
        saved_cost: dollars(coverage.saved_micros),
    }
}

fn call(call: ModelCall) -> CallInfo {
    let ModelCall { model, outcome, input_tokens, output_tokens, cost_micros } = call;
    CallInfo { model, outcome: outcome.name().to_owned(), input_tokens, output_tokens, cost: dollars(cost_micros) }
}

fn tried(tried: Tried) -> TriedInfo {
    let Tried { records, accepted, quarantined, held } = tried;
    TriedInfo { records, accepted, quarantined, held }
}

fn lost(lost: Lost) -> LostInfo {
    let change = lost.change.map(|change| change.to_string());
    LostInfo { path: lost.path, feeds: lost.feeds, retyped: lost.retyped, change }
}

fn decided(decided: Decided) -> DecidedInfo {
    DecidedInfo {
        status: decided.status.name().to_owned(),
        moves: decided.moves.into_iter().map(shown).collect(),
        removed: decided.removed,
        by: decided.by,
        name: None,
        why: decided.why,
        at: time::of_micros(decided.at),
    }
}

/// A move as it is shown.
pub fn shown(to: Move) -> MoveInfo {
    let signal = |s: schemas::drift::Signal| SignalInfo {
        name: s.name,
        strength: f64::from(s.strength) / 1000.0,
        weight: f64::from(s.weight) / 1000.0,
    };
    MoveInfo {
        kind: to.kind.name().to_owned(),
        from: to.from,
        to: to.to,
        confidence: f64::from(to.confidence) / 1000.0,
        part: to.part.and_then(|part| u32::try_from(part).ok()),
        change: to.change.map(|change| change.to_string()),
        transform: to.transform.and_then(|rule| serde_json::to_value(rule).ok()).map(Any),
        signals: to.signals.into_iter().map(signal).collect(),
    }
}

/// The moves that somebody wants: one of each path, since the step would take one of several and drop the others.
pub fn all_wanted(moves: Vec<MoveWanted>) -> Result<Vec<Move>, Problem> {
    let moves: Vec<Move> = moves.into_iter().map(wanted).collect::<Result<_, _>>()?;
    match twice(&moves) {
        Some(from) => Err(Problem::invalid(format!(
            "the moves name {from:.80?} twice: say where it has gone once, with several in `to` when it was split"
        ))),
        None => Ok(moves),
    }
}

/// A path that two moves are of.
pub fn twice(moves: &[Move]) -> Option<&str> {
    let is_again = |(at, to): &(usize, &Move)| moves[..*at].iter().any(|other| other.from == to.from);
    moves.iter().enumerate().find(is_again).map(|(_, to)| to.from.as_str())
}

/// A move that somebody wants.
fn wanted(wanted: MoveWanted) -> Result<Move, Problem> {
    let MoveWanted { from, to, part, transform } = wanted;
    let kind = match (&to[..], part) {
        (_, Some(_)) => DriftKind::Merged,
        ([to], None) if *to == from => DriftKind::Retyped,
        ([_], None) => DriftKind::Renamed,
        _ => DriftKind::Split,
    };
    let transform = transform.map(|Any(rule)| serde_json::from_value::<Rule>(rule)).transpose();
    let transform =
        transform.map_err(|e| Problem::invalid(format!("the transform of {:.80} is no rule: {e}", &*from)))?;
    let (part, transform) = (part.map(|part| part as usize), transform.map(Box::new));
    let (from, to) = (from.into(), to.into_iter().map(String::from).collect());
    Ok(Move { from, to, kind, confidence: 1000, part, change: None, transform, signals: vec![] })
}
