//! Cases as people see them: rows of `Store`, folded from `decisions`.

use std::collections::VecDeque;

use schemas::advice::{Coverage, ModelCall};
use schemas::decision::Fact;
use schemas::drift::{Change, DriftKind, Lost, Move, Severity, Tried};
use schemas::{Decision, Position};
use serde::{Deserialize, Serialize};

use super::deed::{Approval, Decided, Deed, Status};

/// Of the records that a case holds, the last so many are known by their places: what decisions are tried on.
pub const HELD_KEPT: usize = 100;
/// Who decides when nobody need be asked.
pub(crate) const RULES: &str = "rules";

/// A case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// The input at which it began: its id.
    pub position: Position,
    /// Its stream: `connection/stream`.
    pub stream: String,
    /// Where it is.
    pub status: Status,
    /// How much hangs on it.
    #[serde(default)]
    pub severity: Severity,
    /// The mapping version that a decision must be made on.
    pub mapping_version: u32,
    /// Raised by everything that changes what is to be decided.
    #[serde(default)]
    pub version: u32,
    /// What its records lack.
    pub lost: Vec<Lost>,
    /// Paths that came with them and that no rule named.
    pub added: Vec<String>,
    /// Paths that came beside those that are named.
    #[serde(default)]
    pub added_more: u64,
    /// Where what was lost has gone, likelier than not.
    pub moves: Vec<Move>,
    /// Where else it may have gone.
    #[serde(default)]
    pub alternatives: Vec<Move>,
    /// What was proposed for lost paths that are decided by now, while others wait.
    #[serde(default)]
    pub settled: Vec<Move>,
    /// Why it waits for a person.
    pub waits: Option<String>,
    /// What the proposal would break: why it waits whatever its confidence.
    #[serde(default)]
    pub breaks: Option<String>,
    /// What was proposed for lost paths that are decided by now broke something.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled_breaks: bool,
    /// It took the place of a case whose decision was taken back: only a person decides it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_reverted: bool,
    /// What was decided of it is not remembered any more: it cannot be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_forgotten: bool,
    /// What became of the last held records when the proposal was tried on them.
    #[serde(default)]
    pub tried: Option<Tried>,
    /// How much of what is uncertain was known already, when that was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// The last call of a language model about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<ModelCall>,
    /// Whether something was proposed, be it nothing.
    #[serde(default)]
    pub is_proposed: bool,
    /// When it opened: records since it began that lack something, and that have everything.
    pub lacking: u64,
    /// See `lacking`.
    pub having: u64,
    /// Records held for it.
    pub held: u64,
    /// Held records that came again.
    pub redriven: u64,
    /// When it began, in microseconds since 1970 UTC.
    pub began_at: i64,
    /// When it opened.
    pub opened_at: Option<i64>,
    /// What was decided, in order.
    pub decided: Vec<Decided>,
    /// Until when it is put off.
    #[serde(default)]
    pub snoozed_until: Option<i64>,
    /// When it is rejected, if nobody decides it before.
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// A decision that another person must approve, too.
    #[serde(default)]
    pub approval: Option<Approval>,
    /// Offset on `decisions` from which on its held records stand.
    pub first: u64,
    /// The last records held: where each stands on `inputs`, and where it first entered.
    #[serde(default)]
    pub last_held: VecDeque<(u64, u64)>,
    /// The last decision that is folded in: input offset and ordinal.
    mark: Option<(u64, u32)>,
}

impl Case {
    /// A case that begins.
    pub(super) fn new(position: Position, stream: String, first: u64, began_at: i64) -> Self {
        Self {
            position,
            stream,
            status: Status::Watching,
            severity: Severity::default(),
            mapping_version: 0,
            version: 0,
            lost: vec![],
            added: vec![],
            added_more: 0,
            moves: vec![],
            alternatives: vec![],
            settled: vec![],
            waits: None,
            breaks: None,
            settled_breaks: false,
            is_reverted: false,
            is_forgotten: false,
            tried: None,
            coverage: None,
            call: None,
            is_proposed: false,
            lacking: 0,
            having: 0,
            held: 0,
            redriven: 0,
            began_at,
            opened_at: None,
            decided: vec![],
            snoozed_until: None,
            expires_at: None,
            approval: None,
            first,
            last_held: VecDeque::new(),
            mark: None,
        }
    }

    /// What kinds of change it is, as far as anybody knows, the gravest first: of each lost path where it has gone, and of
    /// what came with them and is nothing that was lost.
    pub fn kinds(&self) -> Vec<DriftKind> {
        let decided = || self.decided.iter().flat_map(|decided| &decided.moves);
        let moves: Vec<&Move> = decided().chain(&self.moves).collect();
        let of_lost = |lost: &Lost| {
            let to = moves.iter().find(|to| to.from == lost.path);
            match to {
                // Where it has gone it may also have changed.
                Some(to) => {
                    let of_array = to.is_into_array().then_some(DriftKind::Retyped);
                    [Some(to.kind), to.change.as_ref().map(Change::kind).or(of_array)]
                }
                None => [Some(lost.kind()), None],
            }
        };
        let mut kinds: Vec<DriftKind> = self.lost.iter().flat_map(of_lost).flatten().collect();
        let is_moved = |path: &&String| moves.iter().any(|to| to.to.contains(path));
        if self.added.iter().any(|path| !is_moved(&path)) {
            kinds.push(DriftKind::Added);
        }
        let mut known = std::collections::BTreeSet::new();
        kinds.retain(|kind| known.insert(*kind));
        if kinds.is_empty() { vec![DriftKind::Removed] } else { kinds }
    }

    /// The first of its kinds.
    pub fn kind(&self) -> DriftKind {
        self.kinds().first().copied().unwrap_or(DriftKind::Removed)
    }

    /// Folds a decision in, once.
    pub(super) fn apply(&mut self, decision: &Decision, at: i64) {
        let place = (decision.input_offset, decision.ordinal);
        if self.mark.is_some_and(|mark| place <= mark) {
            return;
        }
        self.mark = Some(place);
        if decision.fact.case_changed().is_some() {
            self.version += 1;
            self.approval = None;
        }
        match &decision.fact {
            Fact::RecordHeld { origin, .. } => self.hold(decision.input_offset, *origin),
            Fact::DriftDetected { lost, added, lacking, having, mapping_version, severity, more, .. } => {
                // One that grows is told again.
                self.status = Status::Open;
                (self.opened_at, self.severity) = (self.opened_at.or(Some(at)), severity.unwrap_or_default());
                (self.lost, self.added, self.added_more) = (lost.clone(), added.clone(), *more);
                (self.lacking, self.having, self.mapping_version) = (*lacking, *having, *mapping_version);
            }
            Fact::RepairProposed { moves, alternatives, waits, breaks, tried, .. } => {
                (self.status, self.is_proposed) = (Status::Open, true);
                let is_gone =
                    |lost: &&Lost| lost.kind() == DriftKind::Removed && !moves.iter().any(|m| m.from == lost.path);
                // What a part of it was decided to be is gone no more.
                if self.undecided().any(|lost| is_gone(&lost)) || moves.iter().any(Move::is_into_array) {
                    self.severity = Severity::Breaking;
                }
                (self.moves, self.alternatives, self.waits) = (moves.clone(), alternatives.clone(), waits.clone());
                (self.breaks, self.tried) = (breaks.clone(), *tried);
            }
            Fact::RagCoverageCheck { coverage, .. } => self.coverage = Some(coverage.clone()),
            Fact::ModelAsked { call, .. } => self.call = Some(call.clone()),
            Fact::RepairApplied { moves, removed, by, why, .. } => {
                let deed = match (moves.is_empty(), removed.is_empty()) {
                    (true, true) => Deed::Noted,
                    (true, false) => Deed::Removed,
                    (false, _) => Deed::Repaired,
                };
                let is_meant = |m: &Move| moves.iter().any(|to| to.from == m.from) || removed.contains(&m.from);
                let settled = self.moves.iter().filter(|m| is_meant(m)).cloned();
                self.settled.extend(settled);
                self.settled_breaks |= self.breaks.is_some();
                self.decided.push(Decided {
                    moves: moves.clone(),
                    removed: removed.clone(),
                    ..done(deed, by, why, at)
                });
                self.is_forgotten &= !self.decided.last().is_some_and(|decided| self.changed_rules(decided));
            }
            Fact::ApprovalGiven { verdict, class, by, why, .. } => {
                self.approval = Some(Approval { verdict: verdict.clone(), class: *class, by: by.clone() });
                self.decided.push(done(Deed::Approved, by, why, at));
            }
            Fact::RepairRejected { by, why, .. } => {
                self.status = Status::Rejected;
                let deed = if by == RULES { Deed::Expired } else { Deed::Rejected };
                self.decided.push(done(deed, by, why, at));
            }
            Fact::RepairReverted { by, why, .. } => {
                (self.status, self.approval) = (Status::Reverted, None);
                self.settled.clear();
                self.settled_breaks = false;
                self.decided.push(done(Deed::Reverted, by, why, at));
            }
            Fact::CaseSnoozed { until, by, why, .. } => {
                self.snoozed_until = Some(*until);
                self.decided.push(done(Deed::Snoozed, by, why, at));
            }
            Fact::CaseReminded { .. } => self.snoozed_until = None,
            Fact::RecordsReleased { .. } => self.status = self.decided_as().unwrap_or(Status::Released),
            Fact::RecordsRedriven { count, .. } => self.redriven = *count,
            Fact::TimerSet { id, at } if id.starts_with("expire-") => self.expires_at = Some(*at),
            Fact::MappingActivated { version, .. } => self.mapping_version = *version,
            _ => {}
        }
    }

    /// What was decided of it and not taken back.
    fn in_force(&self) -> impl Iterator<Item = &Decided> {
        let last = self.decided.iter().rposition(|decided| decided.status == Deed::Reverted);
        let later = self.decided.iter().skip(last.map_or(0, |last| last + 1));
        later.filter(|decided| matches!(decided.status, Deed::Repaired | Deed::Removed))
    }

    /// What it lacks and nobody has decided.
    pub fn undecided(&self) -> impl Iterator<Item = &Lost> {
        self.lost.iter().filter(move |lost| !self.is_decided(lost))
    }

    fn is_decided(&self, lost: &Lost) -> bool {
        let is_of = |decided: &Decided| {
            decided.moves.iter().any(|to| to.from == lost.path) || decided.removed.contains(&lost.path)
        };
        self.in_force().any(is_of)
    }

    /// Whether something was decided of it that can be taken back: all of it, or a part while the rest waits.
    pub fn is_revertible(&self) -> bool {
        self.has_decision() && self.stays().is_none()
    }

    /// Why what was decided of it cannot be taken back, where something was.
    pub fn stays(&self) -> Option<&'static str> {
        let is_of_rows = |lost: &Lost| lost.feeds.iter().any(|feed| feed.starts_with('$')) && self.is_decided(lost);
        if !self.has_decision() {
            None
        } else if !self.in_force().any(|decided| self.changed_rules(decided)) {
            Some("it changed no rule: nulls were accepted as they are")
        } else if self.is_forgotten {
            Some("of a stream's decided cases only the last eight are remembered, and as many began later")
        } else if self.lost.iter().any(is_of_rows) {
            Some("it concerned a key, a version or a sign of deletion: rows are found by them")
        } else {
            None
        }
    }

    fn has_decision(&self) -> bool {
        (self.status.is_decided() || self.status.is_waiting()) && self.in_force().next().is_some()
    }

    /// Whether a decision of it is one that the step remembers. That nulls were accepted changed nothing that could be put
    /// back.
    fn changed_rules(&self, decided: &Decided) -> bool {
        let is_of_nulls = self.lost.iter().any(|lost| matches!(lost.change, Some(Change::Nulls { .. })));
        let is_kept = matches!(decided.status, Deed::Repaired | Deed::Removed);
        is_kept && (!is_of_nulls || decided.moves.iter().any(|to| !to.is_in_place()))
    }

    /// Whether the step remembers something that was decided of it.
    pub(super) fn is_remembered(&self) -> bool {
        !self.is_forgotten && self.in_force().any(|decided| self.changed_rules(decided))
    }

    /// Whether something that came later than a decision is folded in.
    pub(super) fn is_ahead_of(&self, decision: &Decision) -> bool {
        self.mark.is_some_and(|mark| mark > (decision.input_offset, decision.ordinal))
    }

    /// Where a case is whose records may go, by what was decided last.
    fn decided_as(&self) -> Option<Status> {
        self.decided.iter().rev().find_map(|decided| match decided.status {
            Deed::Repaired => Some(Status::Repaired),
            Deed::Removed => Some(Status::Removed),
            Deed::Reverted => Some(Status::Reverted),
            Deed::Noted => Some(Status::Noted),
            Deed::Approved | Deed::Rejected | Deed::Expired | Deed::Snoozed => None,
        })
    }

    fn hold(&mut self, offset: u64, origin: u64) {
        self.held += 1;
        if self.last_held.len() == HELD_KEPT {
            self.last_held.pop_front();
        }
        self.last_held.push_back((offset, origin));
    }
}

fn done(status: Deed, by: &str, why: &str, at: i64) -> Decided {
    Decided { status, moves: vec![], removed: vec![], by: by.to_owned(), why: why.to_owned(), at }
}

/// The case that a decision is about, by the offset of the input at which it began.
pub(super) fn case_of(fact: &Fact) -> Option<u64> {
    match fact {
        Fact::RecordHeld { case, .. }
        | Fact::DriftDetected { case, .. }
        | Fact::RecordsRecalled { case, .. }
        | Fact::RepairProposed { case, .. }
        | Fact::RagCoverageCheck { case, .. }
        | Fact::ModelAsked { case, .. }
        | Fact::RepairApplied { case, .. }
        | Fact::RepairRejected { case, .. }
        | Fact::RepairReverted { case, .. }
        | Fact::ApprovalGiven { case, .. }
        | Fact::CaseSnoozed { case, .. }
        | Fact::CaseReminded { case }
        | Fact::RecordsReleased { case, .. }
        | Fact::RecordsRedriven { case, .. } => Some(*case),
        Fact::TimerSet { id, .. } => id.split_once('-')?.1.parse().ok(),
        Fact::ShapeObserved { .. }
        | Fact::RecordQuarantined { .. }
        | Fact::MappingActivated { .. }
        | Fact::PolicySet { .. }
        | Fact::SettlementBegun { .. }
        | Fact::RecordDiscarded { .. }
        | Fact::SettlementEnded { .. }
        | Fact::CommandApplied { .. }
        | Fact::CommandRefused { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(path: &str) -> Lost {
        let (path, paths, feeds) = (path.to_owned(), vec![path.to_owned()], vec![path.to_lowercase()]);
        Lost { path, paths, feeds, retyped: false, change: None }
    }

    fn to(from: &str, to: &str) -> Move {
        let (from, to, kind) = (from.to_owned(), vec![to.to_owned()], DriftKind::Renamed);
        Move { from, to, kind, confidence: 950, part: None, change: None, transform: None, signals: vec![] }
    }

    fn proposed(moves: Vec<Move>) -> Fact {
        let (alternatives, waits, breaks, tried) = (vec![], None, None, None);
        Fact::RepairProposed { case: 5, mapping_version: 1, moves, alternatives, waits, breaks, tried }
    }

    fn applied(moves: Vec<Move>) -> Fact {
        Fact::RepairApplied { case: 5, moves, removed: vec![], by: "ada".into(), why: String::new() }
    }

    fn folded(facts: Vec<Fact>) -> Case {
        let mut case = Case::new(Position { epoch: 1, partition: 0, offset: 5 }, "crm/orders".into(), 0, 0);
        let detected = Fact::DriftDetected {
            case: 5,
            lost: vec![lost("Total"), lost("Note")],
            added: vec!["Sum".into(), "Remark".into()],
            lacking: 20,
            having: 0,
            mapping_version: 1,
            severity: Some(Severity::Warning),
            again: false,
            more: 0,
        };
        for (offset, fact) in (6..).zip(std::iter::once(detected).chain(facts)) {
            case.apply(&Decision { input_offset: offset, ordinal: 0, fact }, 0);
        }
        case
    }

    #[test]
    fn what_a_part_of_a_case_was_approved_to_be_is_gone_no_more_and_can_be_taken_back() {
        let part = || vec![proposed(vec![to("Total", "Sum"), to("Note", "Remark")]), applied(vec![to("Total", "Sum")])];
        let mut facts = part();
        facts.push(proposed(vec![to("Note", "Remark")]));
        let case = folded(facts.clone());
        assert_eq!((case.status, case.severity), (Status::Open, Severity::Warning), "the rest is proposed");
        assert_eq!(case.undecided().map(|lost| &*lost.path).collect::<Vec<_>>(), ["Note"]);
        assert!(case.is_revertible());
        facts.push(Fact::RepairReverted { case: 5, into: 5, since: 9, by: "ada".into(), why: String::new() });
        let case = folded(facts);
        assert_eq!(case.undecided().count(), 2);
        assert!(!case.is_revertible(), "nothing is left to take back");
        let mut facts = part();
        facts.push(proposed(vec![]));
        assert_eq!(folded(facts).severity, Severity::Breaking, "nothing took the place of the note");
    }

    fn accepted(paths: &[&str], moves: Vec<Move>) -> Fact {
        let removed = paths.iter().map(|path| (*path).to_owned()).collect();
        Fact::RepairApplied { case: 5, moves, removed, by: "ada".into(), why: String::new() }
    }

    fn released() -> Fact {
        Fact::RecordsReleased { case: 5, count: 20, why: "repaired".into() }
    }

    #[test]
    fn what_the_step_would_not_take_back_is_not_said_to_be_revertible_and_says_why() {
        let all = || vec![applied(vec![to("Total", "Sum"), to("Note", "Remark")]), released()];
        let plain = folded(all());
        assert!(plain.is_revertible() && plain.is_remembered() && plain.stays().is_none());
        let mut forgotten = plain.clone();
        forgotten.is_forgotten = true;
        assert!(!forgotten.is_revertible() && forgotten.stays().is_some_and(|why| why.contains("last eight")));
        let mut key = plain.clone();
        key.lost[1].feeds = vec!["$key".into()];
        assert!(!key.is_revertible() && key.stays().is_some_and(|why| why.contains("a key")));
        let open = folded(vec![]);
        assert!(!open.is_revertible() && open.stays().is_none(), "there is nothing yet");
    }

    #[test]
    fn nulls_that_were_accepted_leave_nothing_to_take_back_and_nulls_that_were_mapped_do() {
        let nulls = |decided: Fact| {
            let mut case = folded(vec![]);
            case.lost.iter_mut().for_each(|lost| lost.change = Some(Change::Nulls { before: 0, now: 500 }));
            for (offset, fact) in (50..).zip([decided, released()]) {
                case.apply(&Decision { input_offset: offset, ordinal: 0, fact }, 0);
            }
            case
        };
        let case = nulls(accepted(&["Total", "Note"], vec![]));
        assert_eq!((case.status, case.is_revertible(), case.is_remembered()), (Status::Removed, false, false));
        assert!(case.stays().is_some_and(|why| why.contains("changed no rule")));
        assert!(nulls(accepted(&["Note"], vec![to("Total", "Sum")])).is_revertible());
    }

    #[test]
    fn a_case_that_was_forgotten_is_remembered_again_with_another_decision_of_it() {
        let mut case = folded(vec![applied(vec![to("Total", "Sum")])]);
        case.is_forgotten = true;
        assert!(!case.is_remembered());
        let fact = applied(vec![to("Note", "Remark")]);
        case.apply(&Decision { input_offset: 60, ordinal: 0, fact }, 0);
        assert!(case.is_remembered() && case.is_revertible());
        let at = |input_offset, ordinal| Decision { input_offset, ordinal, fact: released() };
        assert_eq!([at(59, 9), at(60, 0), at(60, 1)].map(|decision| case.is_ahead_of(&decision)), [true, false, false]);
    }

    #[test]
    fn what_was_proposed_for_a_part_that_is_decided_is_kept() {
        let case = folded(vec![
            proposed(vec![to("Total", "Sum"), to("Note", "Remark")]),
            applied(vec![to("Total", "Sum")]),
            proposed(vec![to("Note", "Remark")]),
        ]);
        assert_eq!(case.settled, [to("Total", "Sum")]);
        assert_eq!(case.moves, [to("Note", "Remark")]);
    }
}
