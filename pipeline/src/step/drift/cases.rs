//! Cases: what is held for one cause, from the first record that lacks something to the last that came again.

use schemas::decision::Fact;
use schemas::drift::{Lost, Move};
use schemas::shape::{NodeId, ShapeTree};
use serde::{Deserialize, Serialize};

use super::watch::{Look, Since, Usual, Watch};
use super::{Drift, RELEASED_MAX};

/// After so long, in microseconds, it is told whether what was missed is back, however few records came.
const HOLD_MICROS: i64 = 30_000_000;
/// Added paths that a case names.
const ADDED_MAX: usize = 200;
/// A watch that no case is about joins one that opens when so many held records all lack it.
const BESIDE_MIN: u64 = 20;
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
    Fact::TimerSet { id: format!("{TIMER}{case}"), at: now.saturating_add(HOLD_MICROS) }
}

impl Drift {
    /// The time of a timer has come.
    pub(in crate::step) fn time_passed(&mut self, id: &str, now: i64, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let Some(case) = id.strip_prefix(TIMER).and_then(|case| case.parse().ok()) else { return };
        if self.cases.get(&case).is_none_or(|case| case.phase != Phase::Watching) {
            return;
        }
        self.settle(case, true, tree, facts);
        if self.cases.get(&case).is_some_and(|case| case.phase == Phase::Watching) {
            facts.push(timer(case, now));
        }
    }

    /// Opens a case or releases what it holds, once the records since it began tell which.
    pub(super) fn settle(&mut self, id: u64, is_due: bool, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let Some(case) = self.cases.get(&id) else { return };
        let with_new = case.with_new * 2 >= case.held;
        let mine = |watch: &&Watch| watch.case == Some(id);
        let looks: Vec<Look> = self.watches.iter().filter(mine).map(|watch| watch.look(with_new, is_due)).collect();
        if looks.contains(&Look::Gone) {
            self.open(id, with_new, is_due, tree, facts);
        } else if looks.iter().all(|look| *look == Look::Back) && self.waiting() < RELEASED_MAX {
            self.let_go(id, |_| true);
            self.end(id, "what was missing is back at its usual rate", facts);
        }
    }

    /// Takes watches out of a case, and never again holds for want of them what it held.
    fn let_go(&mut self, id: u64, is_wanted: impl Fn(&Watch) -> bool) {
        let Some(case) = self.cases.get_mut(&id) else { return };
        for watch in self.watches.iter_mut().filter(|watch| watch.case == Some(id) && is_wanted(watch)) {
            watch.settle();
            case.freed.push(watch.paths.clone());
        }
    }

    fn waiting(&self) -> usize {
        self.cases.values().filter(|case| case.phase == Phase::Over).count()
    }

    fn open(&mut self, id: u64, with_new: bool, is_due: bool, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let Some(case) = self.cases.get_mut(&id) else { return };
        case.phase = Phase::Open;
        let held = case.held;
        self.let_go(id, |watch| watch.look(with_new, is_due) == Look::Back);
        let (mut lacking, mut having) = (0, u64::MAX);
        for watch in &mut self.watches {
            let is_beside = watch.case.is_none() && held >= BESIDE_MIN && watch.beside == held;
            if is_beside && watch.usual.is_common() {
                watch.case = Some(id);
                watch.since.lacking = held;
            }
            if watch.case != Some(id) {
                continue;
            }
            (lacking, having) = (watch.since.lacking.max(lacking), watch.since.having.min(having));
        }
        let added = self.added(id, tree);
        let lost = self.lost(id, tree);
        facts.push(Fact::DriftDetected {
            case: id,
            lost,
            added,
            lacking,
            having,
            mapping_version: self.mapping_version,
        });
    }

    /// Paths that came since the case began and that no rule names.
    pub fn added(&self, case: u64, tree: &ShapeTree) -> Vec<String> {
        let text = |node| schemas::mapping::Path::of_parts(&tree.parts(node)).ok().map(|path| path.as_str().to_owned());
        self.added_nodes(case, tree).filter_map(text).take(ADDED_MAX).collect()
    }

    /// Their nodes.
    pub fn added_nodes<'a>(&'a self, case: u64, tree: &'a ShapeTree) -> impl Iterator<Item = NodeId> + 'a {
        self.profiles.since(case).filter(|node| !tree.is_requested(*node))
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

    /// The case, while it waits for a decision.
    pub(in crate::step) fn open_case(&mut self, id: u64) -> Option<&mut Case> {
        self.cases.get_mut(&id).filter(|case| case.phase == Phase::Open)
    }

    /// Paths of a case that were decided: repaired ones are missed again where the new path is absent, too; removed ones
    /// are not missed until they were there for a while. The case ends when nothing is left of it.
    pub(in crate::step) fn decide(
        &mut self,
        id: u64,
        lost: &[Lost],
        is_removed: bool,
        why: &str,
        facts: &mut Vec<Fact>,
    ) {
        let is_meant = |watch: &Watch| lost.iter().any(|lost| lost.paths == watch.paths);
        if is_removed {
            self.let_go(id, is_meant);
        }
        for watch in self.watches.iter_mut().filter(|watch| is_meant(watch)) {
            if is_removed {
                watch.usual = Usual::default();
            }
            (watch.case, watch.since) = (None, Since::default());
        }
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
        }
    }
}
