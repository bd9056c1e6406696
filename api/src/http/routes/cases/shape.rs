//! What a case looks like outside.

use pipeline::repair::{Case, Decided};
use poem_openapi::Object;
use schemas::drift::{DriftKind, Lost, Move};

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
    /// What its records lack.
    pub lost: Vec<LostInfo>,
    /// Paths that came with them and that no rule named.
    pub added: Vec<String>,
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
    /// What was decided, in order.
    pub decided: Vec<DecidedInfo>,
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
    /// The signals that spoke for it most.
    pub signals: Vec<SignalInfo>,
}

/// A signal behind a move.
#[derive(Debug, Object)]
pub struct SignalInfo {
    /// Its name.
    pub name: String,
    /// Its strength.
    pub strength: f64,
}

/// What was decided.
#[derive(Debug, Object)]
pub struct DecidedInfo {
    /// repaired, removed, rejected, reverted or noted.
    pub status: String,
    /// What was changed.
    pub moves: Vec<MoveInfo>,
    /// Paths accepted as removed.
    pub removed: Vec<String>,
    /// Who: `rules`, `command line`, `user:ID` or `key:ID`.
    pub by: String,
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
}

/// A case as it is shown.
pub fn case(case: Case) -> CaseInfo {
    let (kind, kinds) = (case.kind(), case.kinds());
    CaseInfo {
        case: case.position.to_string(),
        stream: case.stream,
        status: case.status.name().to_owned(),
        kind: kind.name().to_owned(),
        kinds: kinds.into_iter().map(|kind| kind.name().to_owned()).collect(),
        severity: case.severity.name().to_owned(),
        mapping_version: case.mapping_version,
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
        decided: case.decided.into_iter().map(decided).collect(),
    }
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
        why: decided.why,
        at: time::of_micros(decided.at),
    }
}

fn shown(to: Move) -> MoveInfo {
    let signal = |s: schemas::drift::Signal| SignalInfo { name: s.name, strength: f64::from(s.strength) / 1000.0 };
    MoveInfo {
        kind: to.kind.name().to_owned(),
        from: to.from,
        to: to.to,
        confidence: f64::from(to.confidence) / 1000.0,
        part: to.part.and_then(|part| u32::try_from(part).ok()),
        change: to.change.map(|change| change.to_string()),
        signals: to.signals.into_iter().map(signal).collect(),
    }
}

/// A move that somebody wants.
pub fn wanted(wanted: MoveWanted) -> Move {
    let MoveWanted { from, to, part } = wanted;
    let kind = match (to.len(), part) {
        (_, Some(_)) => DriftKind::Merged,
        (1, None) => DriftKind::Renamed,
        _ => DriftKind::Split,
    };
    let (from, to) = (from.into(), to.into_iter().map(String::from).collect());
    Move { from, to, kind, confidence: 1000, part: part.map(|part| part as usize), change: None, signals: vec![] }
}
