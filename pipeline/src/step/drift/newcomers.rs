//! Fields that came to a stream whose source declares none: told by evidence, since optional fields come late, too.

use schemas::decision::Fact;
use schemas::shape::{NodeId, ShapeTree};
use serde::{Deserialize, Serialize};

use super::{Drift, Passing};

/// Records looked at before a path is new.
const LEARNT: u64 = 200;
/// A new path is judged after so many further ones …
const LOOKS: u64 = 64;
/// … and has come to stay if so many of them had it.
const HAD: u64 = 58;

/// Paths that may have come to stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Newcomers {
    /// Records looked at.
    looks: u64,
    /// Paths that were known after the last of them.
    known: usize,
    /// New ones, and `looks` when they came.
    paths: Vec<(NodeId, u64)>,
}

impl Drift {
    /// Looks for new paths in a record that flows, and was profiled.
    pub(super) fn look_for_new(&mut self, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let newcomers = &mut self.newcomers;
        newcomers.looks += 1;
        if self.profiles.count() > newcomers.known {
            newcomers.known = self.profiles.count();
            if newcomers.looks > LEARNT {
                newcomers.paths.extend(self.profiles.since(record.offset).map(|node| (node, newcomers.looks)));
            }
        }
        let Newcomers { looks, paths, .. } = &self.newcomers;
        if paths.first().is_none_or(|(_, came)| looks - came < LOOKS) {
            return;
        }
        let due = paths.partition_point(|(_, came)| looks - came >= LOOKS);
        let had = |node: &NodeId| self.profiles.of(*node).is_some_and(|p| p.values.saturating_sub(p.nulls) >= HAD);
        let stay: Vec<NodeId> = paths.iter().take(due).map(|(node, _)| *node).filter(had).collect();
        if self.came(&stay, record.offset, tree, facts) {
            self.newcomers.paths.drain(..due);
        }
    }
}
