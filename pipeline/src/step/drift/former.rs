//! What the values of a path were once a decision is made of it: they go on where they have gone, and are back when the
//! decision is taken back.

use schemas::drift::{Change, DriftKind, Lost, Move};
use schemas::shape::ShapeTree;

use super::Drift;
use super::habit::Habit;

/// Habits that are kept for decisions that may be taken back; of older ones the values are learnt anew.
const FORMER_MAX: usize = 64;

impl Drift {
    /// What was lost goes on where it has gone, with the nulls that it had; and with its values, where they are as they were.
    pub(in crate::step) fn hand_over(&mut self, moves: &[(Lost, Move)], tree: &ShapeTree) {
        for (lost, to) in moves {
            let is_same = self.leaves_values(lost, to, tree);
            for habit in self.habits.iter_mut().filter(|habit| habit.is_of(&lost.paths)) {
                habit.goes_on = true;
                if !is_same {
                    habit.forget_styles();
                }
            }
        }
    }

    /// Whether values that have moved are what they were: nothing is made of them, and they look like it.
    fn leaves_values(&self, lost: &Lost, to: &Move, tree: &ShapeTree) -> bool {
        let is_plain = matches!(to.kind, DriftKind::Renamed | DriftKind::Nested | DriftKind::Unnested);
        let is_made = to.transform.is_some() || to.change.is_some() || to.part.is_some();
        let is_told = !matches!(lost.change, None | Some(Change::Nulls { .. }));
        let [new] = &to.to[..] else { return false };
        is_plain && !is_made && !is_told && self.change_between(lost, new, tree).is_none()
    }

    /// Keeps the habits of what a decision is about, as they are before it.
    pub(super) fn keep_former(&mut self, case: u64, lost: &[Lost]) {
        let is_meant = |habit: &&Habit| lost.iter().any(|lost| habit.is_of(&lost.paths));
        let former = self.habits.iter().filter(is_meant).take(FORMER_MAX).cloned();
        self.former.entry(case).or_default().extend(former);
        while self.former.values().map(Vec::len).sum::<usize>() > FORMER_MAX {
            self.former.pop_first();
        }
    }

    /// A decision is taken back: the values are what they were before it.
    pub(super) fn give_back(&mut self, case: u64) {
        for former in self.former.remove(&case).unwrap_or_default() {
            if let Some(habit) = self.habits.iter_mut().find(|habit| habit.paths == former.paths) {
                habit.restore(former);
            }
        }
    }
}

/// Takes out the habit of these paths, or the one that goes on there: new paths stand before the old ones.
pub(super) fn take_of(habits: &mut [Habit], paths: &[String]) -> Option<Habit> {
    let same = habits.iter().position(|habit| habit.paths == paths);
    let moved = || {
        let going = habits.iter().enumerate().filter(|(_, habit)| habit.goes_on && paths.ends_with(&habit.paths));
        going.max_by_key(|(_, habit)| habit.paths.len()).map(|(at, _)| at)
    };
    let at = same.or_else(moved)?;
    let mut habit = habits.get_mut(at).map(std::mem::take)?;
    (habit.paths, habit.goes_on) = (paths.to_vec(), false);
    Some(habit)
}
