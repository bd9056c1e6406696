//! Cases: what is held for one cause, from the first record that lacks something to the last that came again.

use std::collections::{BTreeMap, BTreeSet};

use schemas::decision::Fact;
use schemas::drift::{Change, Lost, Move, Severity};
use schemas::mapping::Path;
use schemas::shape::{NodeId, ShapeTree};
use serde::{Deserialize, Serialize};

use super::look::{Due, Look};
use super::usual::Usual;
use super::watch::Watch;
use super::{Drift, RELEASED_MAX};

/// After so long, in microseconds, it is told whether what was missed is back, however few records came.
const HOLD_MICROS: i64 = 30_000_000;
/// Where too few came to tell, it is waited on twice as long each time, so often: a day and a half in all.
const WAITS_MAX: u8 = 11;
/// Added paths that a case names.
pub(super) const ADDED_MAX: usize = 200;
/// A watch that no case is about joins one that opens when so many held records all lack it.
const BESIDE_MIN: u64 = 20;
/// A case that opened at once is told again after so many held records: more can be said of what they have.
pub(super) const TOLD_AGAIN: u64 = 20;
const TIMER: &str = "hold-";

/// A case that is not over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Where it is.
    pub phase: Phase,
    /// Records that it held.
    pub held: u64,
    /// Held records that had a path which was never seen before the case.
    pub with_new: u64,
    /// Held records that came again.
    pub redriven: u64,
    /// Paths for want of which it holds nothing again: they were released, or are gone for good.
    pub freed: Vec<Vec<String>>,
    /// The moves proposed, for each lost field the likeliest first.
    pub moves: Vec<Move>,
    /// It took the place of a decision that was taken back: only a person decides it, and records that were accepted
    /// come again under it.
    #[serde(default)]
    pub is_reverted: bool,
    /// The input at which the first of the cases began that this one took the place of.
    #[serde(default)]
    pub since: Option<u64>,
    /// What it is about.
    #[serde(default)]
    pub(super) cause: Cause,
    /// Paths from this one on are new to it.
    #[serde(default)]
    pub(super) new_from: Option<NodeId>,
    /// It opened at once, as the source declared the change.
    #[serde(default)]
    pub(super) is_early: bool,
    /// What was accepted behind the first of these inputs, and up to the second, comes again under it: it was not sure yet.
    #[serde(default)]
    pub(super) recalled: Option<(u64, u64)>,
    /// What is looked at again for it and has not all come: the inputs that asked for it, and those behind which it stands.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) reading: BTreeSet<(u64, u64)>,
    /// Paths that were never, or hardly ever, there before, with how many of its held records have them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) fresh: BTreeMap<NodeId, u64>,
    /// How often its time was over and too few records had come to tell.
    #[serde(default)]
    pub(super) waits: u8,
    /// Paths that had come before it, and are as good as new to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) strays: Vec<NodeId>,
    /// Paths that had come to stay before it, though not with the stream, with how many of its held records have them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) beside: BTreeMap<NodeId, u64>,
}

/// What a case is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cause {
    /// Something is missing, or of another type.
    #[default]
    Absence,
    /// Values mean something else, though their type stayed.
    Values,
}

/// Where a case is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Records are held; whether what they lack is back is not told yet.
    #[default]
    Watching,
    /// It is not back: somebody must decide.
    Open,
    /// Over: what it held may go.
    Over,
}

/// The timer of a case.
pub(super) fn timer(case: u64, now: i64) -> Fact {
    timer_after(case, now, 0)
}

fn timer_after(case: u64, now: i64, waits: u8) -> Fact {
    Fact::TimerSet { id: format!("{TIMER}{case}"), at: now.saturating_add(HOLD_MICROS << waits.min(WAITS_MAX)) }
}

/// Nothing joins the case that was told last: it is told once more.
pub(super) fn once_more(facts: &mut [Fact]) {
    if let Some(Fact::DriftDetected { again, .. }) = facts.last_mut() {
        *again = true;
    }
}

impl Drift {
    /// The time of a timer has come.
    pub(in crate::step) fn time_passed(&mut self, id: &str, now: i64, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let Some(id) = id.strip_prefix(TIMER).and_then(|case| case.parse().ok()) else { return };
        let is_watching = |case: &&mut Case| case.phase == Phase::Watching;
        let Some(case) = self.cases.get_mut(&id).filter(is_watching) else { return };
        let due = if case.waits < WAITS_MAX { Due::Yes } else { Due::Last };
        self.settle(id, due, tree, facts);
        let is_unclear = self.looks(id, due).any(|look| look == Look::Unclear);
        if let Some(case) = self.cases.get_mut(&id).filter(is_watching) {
            // What waits for others to come again is looked at as soon as before.
            case.waits = if is_unclear { case.waits.saturating_add(1) } else { 0 };
            facts.push(timer_after(id, now, case.waits));
        }
    }

    /// Opens a case or releases what it holds, once the records since it began tell which.
    pub(super) fn settle(&mut self, id: u64, due: Due, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let (mut is_gone, mut is_back, mut is_unclear) = (false, false, false);
        for look in self.looks(id, due) {
            match look {
                Look::Gone => is_gone = true,
                Look::Back => is_back = true,
                Look::Unclear => is_unclear = true,
            }
        }
        if is_gone {
            self.open(id, tree, facts);
        } else if !is_unclear {
            if self.may_release() {
                self.let_go(id, |_| true);
                self.were_strays(id);
                self.end(id, "what was missing is back at its usual rate", facts);
            }
        } else if due != Due::No && is_back {
            // What is back flows, though the rest is waited on.
            let (held, with_new) = self.cases.get(&id).map_or((0, 0), |case| (case.held, case.with_new));
            self.let_go(id, |watch| watch.look_at_case(held, with_new, due) == Look::Back);
        }
    }

    /// What the records since it began say of each thing that a case is about.
    fn looks(&self, id: u64, due: Due) -> impl Iterator<Item = Look> {
        let (held, with_new) = self.cases.get(&id).map_or((0, 0), |case| (case.held, case.with_new));
        let mine = self.watches.iter().filter(move |watch| watch.case == Some(id));
        mine.map(move |watch| watch.look_at_case(held, with_new, due))
    }

    /// Takes watches out of a case, and never again holds for want of them what it held.
    fn let_go(&mut self, id: u64, is_wanted: impl Fn(&Watch) -> bool) {
        let Some(case) = self.cases.get_mut(&id) else { return };
        for watch in self.watches.iter_mut().filter(|watch| watch.case == Some(id) && is_wanted(watch)) {
            watch.settle();
            case.freed.push(watch.paths.clone());
        }
    }

    /// Ends the cases whose paths the mapping in force reads no more.
    pub(in crate::step) fn end_orphans(&mut self, facts: &mut Vec<Fact>) {
        let has_watch = |id: &u64| self.watches.iter().any(|watch| watch.case == Some(*id));
        let orphan = |(id, case): (&u64, &Case)| (case.phase != Phase::Over && !has_watch(id)).then_some(*id);
        let orphans: Vec<u64> = self.cases.iter().filter_map(orphan).collect();
        for id in orphans {
            self.end(id, "the mapping in force does not read it", facts);
        }
        self.has_orphan = false;
    }

    /// Whether few enough cases wait for their records to come again.
    fn may_release(&mut self) -> bool {
        if !self.is_crowded {
            let released = self.cases.values().filter(|case| case.phase == Phase::Over).count();
            self.is_crowded = released >= RELEASED_MAX;
        }
        !self.is_crowded
    }

    fn open(&mut self, id: u64, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let is_early = self.watches.iter().any(|watch| watch.case == Some(id) && watch.is_due);
        let Some(case) = self.cases.get_mut(&id) else { return };
        (case.phase, case.is_early) = (Phase::Open, is_early);
        let (held, with_new) = (case.held, case.with_new);
        self.let_go(id, |watch| !watch.is_widened() && watch.look(held, with_new, Due::Last) == Look::Back);
        for watch in &mut self.watches {
            let is_beside = watch.case.is_none() && held >= BESIDE_MIN && watch.beside == held;
            if is_beside && watch.usual.is_common() {
                watch.case = Some(id);
                watch.since.lacking = held;
            }
        }
        self.told(id, tree, facts);
    }

    /// Tells of a case, with what its records came to so far: it has opened, or something joins it.
    pub(super) fn told(&self, id: u64, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let (mut lacking, mut having) = (0, u64::MAX);
        for watch in self.watches.iter().filter(|watch| watch.case == Some(id)) {
            (lacking, having) = (watch.since.lacking.max(lacking), watch.since.having.min(having));
        }
        self.detected(id, lacking, having, tree, facts);
    }

    pub(super) fn detected(&self, case: u64, lacking: u64, having: u64, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let (lost, mapping_version) = (self.told_lost(case, tree), self.mapping_version);
        let (added, more) = self.added_and_more(case, tree);
        let severity = Some(self.severity(&lost));
        // Whoever follows the cases that wait knows which ones were told before.
        let again = false;
        facts.push(Fact::DriftDetected { case, lost, added, lacking, having, mapping_version, severity, again, more });
    }

    /// How much hangs on what is lost.
    fn severity(&self, lost: &[Lost]) -> Severity {
        let is_needed = |feed: &String| feed.starts_with('$') || self.required.contains(feed);
        let means_other = |lost: &Lost| matches!(&lost.change, Some(c) if !matches!(c, Change::Nulls { .. }));
        if lost.iter().any(|lost| means_other(lost) || lost.feeds.iter().any(is_needed)) {
            return Severity::Breaking;
        }
        if lost.iter().all(|lost| lost.feeds.is_empty()) { Severity::Info } else { Severity::Warning }
    }

    /// Paths that came since the case began and that no rule names; of many some.
    pub fn added(&self, case: u64, tree: &ShapeTree) -> Vec<String> {
        self.added_and_more(case, tree).0
    }

    /// The same, and how many there are beside those.
    fn added_and_more(&self, case: u64, tree: &ShapeTree) -> (Vec<String>, u64) {
        if let Some(notice) = self.notices.get(&case).filter(|notice| notice.lost.is_empty()) {
            return (notice.added.clone(), notice.more);
        }
        let text = |node| Path::of_parts(&tree.parts(node)).ok().map(|path| path.as_str().to_owned());
        let mut all = self.added_nodes(case, tree).filter_map(text);
        let named = all.by_ref().take(ADDED_MAX).collect();
        (named, all.count() as u64)
    }

    /// The input behind which a path is new to a case.
    pub fn since(&self, case: u64) -> u64 {
        let of_notice = self.notices.get(&case).map(|notice| notice.since);
        self.cases.get(&case).and_then(|case| case.since).or(of_notice).unwrap_or(case)
    }

    /// Their nodes; also those below a path that became an object.
    pub fn added_nodes<'a>(&'a self, case: u64, tree: &'a ShapeTree) -> impl Iterator<Item = NodeId> + 'a {
        let retyped: Vec<NodeId> = self
            .lost(case, tree)
            .into_iter()
            .filter(|lost| lost.retyped)
            .filter_map(|lost| tree.find(Path::new(&lost.path).ok()?.choices().first()?))
            .collect();
        let is_below = move |node| retyped.iter().any(|retyped| tree.is_below(node, *retyped));
        let since = self.since(case);
        let is_older = move |node: &NodeId| self.profiles.of(*node).is_some_and(|profile| profile.first < since);
        let back = self.came_back(case).into_iter().filter(is_older);
        self.profiles.since(since).chain(back).filter(move |node| !tree.is_requested(*node) || is_below(*node))
    }

    /// Ends a case: what it holds may go.
    fn end(&mut self, id: u64, why: &str, facts: &mut Vec<Fact>) {
        let Some(case) = self.cases.get_mut(&id) else { return };
        case.phase = Phase::Over;
        case.moves.clear();
        let count = case.held;
        facts.push(Fact::RecordsReleased { case: id, count, why: why.to_owned() });
        if count == 0 {
            self.cases.remove(&id);
        }
    }

    /// Whether a case waits for a decision.
    pub(in crate::step) fn is_open(&self, id: u64) -> bool {
        self.notices.contains_key(&id) || self.cases.get(&id).is_some_and(|case| case.phase == Phase::Open)
    }

    /// The moves that are proposed for a case.
    pub(in crate::step) fn proposed(&self, id: u64) -> &[Move] {
        let of_notice = self.notices.get(&id).map(|notice| &notice.moves);
        self.cases.get(&id).map(|case| &case.moves).or(of_notice).map_or(&[], Vec::as_slice)
    }

    /// Keeps the moves that are proposed for a case.
    pub(in crate::step) fn propose(&mut self, id: u64, moves: Vec<Move>) {
        if let Some(case) = self.cases.get_mut(&id) {
            case.moves = moves;
        } else if let Some(notice) = self.notices.get_mut(&id) {
            notice.moves = moves;
        }
    }

    /// Paths of a case that were decided: repaired ones are missed again where the new path is absent, too; removed ones
    /// are not missed until they have come to stay. The case ends when nothing is left of it.
    pub(in crate::step) fn decide(
        &mut self,
        id: u64,
        lost: &[Lost],
        is_removed: bool,
        why: &str,
        facts: &mut Vec<Fact>,
    ) {
        if self.notices.contains_key(&id) {
            self.forget_values(lost, is_removed);
            return self.settle_notice(id, lost, why, facts);
        }
        let is_meant = |watch: &Watch| lost.iter().any(|lost| lost.paths == watch.paths);
        if is_removed {
            self.let_go(id, is_meant);
        }
        for watch in self.watches.iter_mut().filter(|watch| is_meant(watch)) {
            if is_removed {
                watch.usual = Usual::default();
                watch.forget_types();
            }
            // What is there, and of another type or meaning from here on, may not be missing for that.
            let is_gone = |lost: &Lost| lost.paths == watch.paths && !lost.retyped && lost.change.is_none();
            let may_lack = is_removed && lost.iter().any(is_gone);
            watch.decided(may_lack);
            watch.leave();
        }
        self.forget_values(lost, is_removed);
        if !self.watches.iter().any(|watch| watch.case == Some(id)) {
            self.end(id, why, facts);
        }
    }

    /// A held record has come again; false when no case waits for it.
    pub(in crate::step) fn is_awaited(&self, id: u64) -> bool {
        self.cases.get(&id).is_some_and(|case| case.phase == Phase::Over && case.redriven < case.held)
    }

    /// Counts a held record that has come again.
    pub(in crate::step) fn redriven(&mut self, id: u64, facts: &mut Vec<Fact>) {
        let Some(case) = self.cases.get_mut(&id) else { return };
        case.redriven += 1;
        if case.redriven == case.held {
            facts.push(Fact::RecordsRedriven { case: id, count: case.held });
            self.cases.remove(&id);
            self.is_crowded = false;
        }
    }
}
