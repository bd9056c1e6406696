//! What a case looks like outside.

use std::collections::BTreeMap;

use pipeline::repair::{Approval, Case, Decided};
use poem_openapi::Object;
use poem_openapi::types::Any;
use schemas::drift::{DriftKind, Lost, Move, Tried, Verdict};
use schemas::mapping::Rule;
use serde_json::Value;

use super::evidence::EvidenceInfo;
use crate::http::problem::Problem;
use crate::http::time;

/// A page of cases.
#[derive(Debug, Object)]
pub struct CasePage {
    /// The cases.
    pub cases: Vec<CaseInfo>,
    /// For the next page; null at the end.
    pub next: Option<String>,
}

/// A case of drift.
#[derive(Debug, Object)]
pub struct CaseInfo {
    /// Its id: the position of the input at which it began.
    case: String,
    /// Its stream: `connection/stream`.
    stream: String,
    /// watching, open, rejected, repaired, removed, released or reverted.
    status: String,
    /// renamed, nested, unnested, split, merged, retyped or removed, as far as anybody knows.
    kind: String,
    /// The mapping version that a decision is made on.
    mapping_version: u32,
    /// The case's version, raised by everything that changes what is to be decided; a decision may name it.
    version: u32,
    /// What its records lack.
    lost: Vec<LostInfo>,
    /// Paths that came with them and that no rule named.
    added: Vec<String>,
    /// Where what was lost has gone, likelier than not: what `approve` approves.
    moves: Vec<MoveInfo>,
    /// Where else it may have gone, the likeliest first.
    alternatives: Vec<MoveInfo>,
    /// Why it waits for a person.
    waits: Option<String>,
    /// Records that lacked something, when it opened.
    lacking: u64,
    /// Records since it began that had everything, when it opened.
    having: u64,
    /// Records held for it.
    held: u64,
    /// Held records that came again.
    redriven: u64,
    /// When it began.
    began_at: String,
    /// When it opened.
    opened_at: Option<String>,
    /// Until when it is put off.
    snoozed_until: Option<String>,
    /// When it is rejected, and holds on, if nobody decides it before.
    expires_at: Option<String>,
    /// A decision that another person must approve, too.
    approval: Option<ApprovalInfo>,
    /// What the proposal would break: why it waits whatever its confidence.
    breaks: Option<String>,
    /// What became of the last held records when the proposal was tried on them.
    tried: Option<TriedInfo>,
    /// What was decided, in order.
    decided: Vec<DecidedInfo>,
    /// What a person needs to see to decide it; only where one case is shown.
    evidence: Option<EvidenceInfo>,
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
struct ApprovalInfo {
    /// approve, edit, accept_as_removed or revert.
    decision: String,
    /// Why it takes two: key, renamed, retyped, split, merged, removed or reverted.
    class: String,
    /// What an edit moves.
    moves: Vec<MoveInfo>,
    /// The lost paths that it is confined to.
    only: Vec<String>,
    /// Who approved it.
    by: String,
}

/// What became of the last held records when a proposal was tried on them.
#[derive(Debug, Object)]
struct TriedInfo {
    /// Records that were tried.
    records: u64,
    /// Those that would be rows or deletes.
    accepted: u64,
    /// Those that would be set aside.
    quarantined: u64,
    /// Those that would be held on.
    held: u64,
}

/// A path that is lost.
#[derive(Debug, Object)]
struct LostInfo {
    /// The path.
    path: String,
    /// What it fills: fields of the entity, or `$key`, `$version`, `$deleted`.
    feeds: Vec<String>,
    /// It is there, but of a type that it never had.
    retyped: bool,
}

/// Where a lost path may have gone.
#[derive(Debug, Object)]
pub struct MoveInfo {
    /// The lost path.
    from: String,
    /// Where it is now; several paths when it was split.
    to: Vec<String>,
    /// The kind of change.
    kind: String,
    /// The probability, from 0 to 1.
    confidence: f64,
    /// Which part of it, when several became one.
    part: Option<u32>,
    /// How the value is transformed, where a person said so: a rule without a source.
    transform: Option<Any<Value>>,
    /// The signals that weigh most, for it or against it.
    signals: Vec<SignalInfo>,
}

/// A signal behind a move.
#[derive(Debug, Object)]
struct SignalInfo {
    /// Its name.
    name: String,
    /// Its strength.
    strength: f64,
    /// Its weight: what the log-odds of the pair would lose without it; below nothing it speaks against it.
    weight: f64,
}

/// What was decided.
#[derive(Debug, Object)]
struct DecidedInfo {
    /// approved (by the first of two), repaired, removed, rejected, expired, reverted or snoozed.
    status: String,
    /// What was changed.
    moves: Vec<MoveInfo>,
    /// Paths accepted as removed.
    removed: Vec<String>,
    /// Who: `rules`, `command line`, `user:ID` or `key:ID`.
    by: String,
    /// The address, where one case is shown and a user decided.
    name: Option<String>,
    /// Why.
    why: String,
    /// When.
    at: String,
}

/// Where a lost path has gone.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct MoveWanted {
    /// The lost path, as the case shows it.
    #[oai(validator(min_length = 1, max_length = 8192))]
    from: String,
    /// Where it is now; several paths are joined by a blank.
    #[oai(validator(min_items = 1, max_items = 20))]
    to: Vec<String>,
    /// Which part of it, parted by blanks and counted from 0, when several became one.
    part: Option<u32>,
    /// How the value is to be transformed, as in a mapping: a rule without a source, for example `{"unit": "cents"}`. As
    /// before, when left out. With the lost path itself as the target it changes what the path means.
    transform: Option<Any<Value>>,
}

/// A case as it is shown.
pub fn case(case: Case) -> CaseInfo {
    let kind = name(case.kind());
    CaseInfo {
        case: case.position.to_string(),
        stream: case.stream,
        status: case.status.name().to_owned(),
        kind,
        mapping_version: case.mapping_version,
        version: case.version,
        lost: case.lost.into_iter().map(lost).collect(),
        added: case.added,
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

fn tried(tried: Tried) -> TriedInfo {
    let Tried { records, accepted, quarantined, held } = tried;
    TriedInfo { records, accepted, quarantined, held }
}

fn lost(lost: Lost) -> LostInfo {
    LostInfo { path: lost.path, feeds: lost.feeds, retyped: lost.retyped }
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
        kind: name(to.kind),
        from: to.from,
        to: to.to,
        confidence: f64::from(to.confidence) / 1000.0,
        part: to.part.and_then(|part| u32::try_from(part).ok()),
        transform: to.transform.and_then(|rule| serde_json::to_value(rule).ok()).map(Any),
        signals: to.signals.into_iter().map(signal).collect(),
    }
}

fn name(kind: DriftKind) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A move that somebody wants.
pub fn wanted(wanted: MoveWanted) -> Result<Move, Problem> {
    let MoveWanted { from, to, part, transform } = wanted;
    let kind = match (&to[..], part) {
        (_, Some(_)) => DriftKind::Merged,
        ([to], None) if *to == from => DriftKind::Retyped,
        ([_], None) => DriftKind::Renamed,
        _ => DriftKind::Split,
    };
    let transform = transform.map(|Any(rule)| serde_json::from_value::<Rule>(rule)).transpose();
    let transform = transform.map_err(|e| Problem::invalid(format!("the transform of {from:.80} is no rule: {e}")))?;
    let (part, transform) = (part.map(|part| part as usize), transform.map(Box::new));
    Ok(Move { from, to, kind, confidence: 1000, part, transform, signals: vec![] })
}
