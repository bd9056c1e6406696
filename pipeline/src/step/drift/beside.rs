//! Paths that stood beside what is lost: a source that renames a field may write both names for a while and drop the old one
//! then. Such a path did not come with the loss, so nobody but a person decides that it is the one.

use std::collections::BTreeMap;

use schemas::drift::Lost;
use schemas::shape::{NodeId, ShapeTree};

use super::Drift;
use super::blanks::node_of;
use super::cases::ADDED_MAX;

/// A path came later than another one if so many records had been looked at meanwhile: one that is in almost all records is
/// in one of them if it was always there.
pub(super) const LATER: u64 = 20;
/// One in so many held records may lack it.
const ALMOST_ALL: u64 = 20;

/// Counts a held record for a path that came later than what is lost; of many such paths the first ones are counted.
pub(super) fn count_beside(beside: &mut BTreeMap<NodeId, u64>, node: NodeId) {
    let has_room = beside.len() < ADDED_MAX;
    match beside.get_mut(&node) {
        Some(held) => *held += 1,
        None if has_room => _ = beside.insert(node, 1),
        None => {}
    }
}

impl Drift {
    /// The paths that came later than what a case lost, stood beside it, and are in almost all records that it holds.
    pub fn beside(&self, id: u64, tree: &ShapeTree) -> Vec<NodeId> {
        let Some((case, came)) = self.cases.get(&id).zip(self.lost_came(id, tree)) else { return Vec::new() };
        let held = case.looked_at();
        let is_later = |node: &NodeId| self.profiles.of(*node).is_some_and(|profile| profile.came >= came + LATER);
        let almost_all = case.beside.iter().filter(|(_, count)| held.saturating_sub(**count) * ALMOST_ALL <= held);
        almost_all.map(|(node, _)| *node).filter(|node| is_later(node) && !tree.is_requested(*node)).collect()
    }

    /// Records that had been looked at when the first of what a case lost came.
    pub(super) fn lost_came(&self, id: u64, tree: &ShapeTree) -> Option<u64> {
        let lost = self.watches.iter().filter(|watch| watch.case == Some(id));
        let seen = lost.filter_map(|watch| node_of(tree, &self.seen_path(watch, tree)?));
        seen.filter_map(|node| self.profiles.of(node)).map(|profile| profile.came).min()
    }

    /// Whether a path was there, and not just in a stray record, before something was lost.
    pub fn was_there(&self, lost: &Lost, path: &str, tree: &ShapeTree) -> bool {
        let case = self.watches.iter().find(|watch| watch.paths == lost.paths).and_then(|watch| watch.case);
        let Some((case, node)) = case.zip(node_of(tree, path)) else { return false };
        let Some(profile) = self.profiles.of(node) else { return false };
        profile.is_late || (profile.first < self.since(case) && !self.came_back(case).contains(&node))
    }
}
