//! Maps: objects whose keys are data. Every record brings paths of its own there, and they took nobody's place.

use schemas::shape::{NodeId, ShapeTree};

use super::Drift;

/// An object is a map if more of its members than this were seen in one record only …
pub(super) const ONCE_MAX: usize = 64;
/// … of so many that came first.
const MEMBERS: usize = 256;

impl Drift {
    /// Whether a path that is new is one of a map, as the paths up to `known` tell.
    pub(super) fn is_key(&self, tree: &ShapeTree, node: NodeId, known: NodeId) -> bool {
        self.is_in_map(tree, anchor(tree, node, known), known)
    }

    /// Whether an object is a map, or lies in one.
    pub(in crate::step) fn is_in_map(&self, tree: &ShapeTree, object: NodeId, known: NodeId) -> bool {
        let mut at = object;
        while at != 0 && !self.is_map(tree, at, known) {
            at = tree.parent(at);
        }
        at != 0 || self.is_map(tree, 0, known)
    }

    fn is_map(&self, tree: &ShapeTree, object: NodeId, known: NodeId) -> bool {
        if self.profiles.is_map(object) {
            return true;
        }
        let is_once = |child: &&NodeId| match self.profiles.of(**child) {
            Some(profile) => profile.values <= 1 && !profile.is_late,
            // What was never looked at is rare, unless there was no room for it.
            None => !self.profiles.is_full() && !tree.is_requested(**child),
        };
        let members = tree.children(object).iter().take_while(|child| **child <= known).take(MEMBERS);
        members.filter(is_once).count() > ONCE_MAX
    }
}

/// The nearest object around a path that is one of those up to `known`.
pub(in crate::step) fn anchor(tree: &ShapeTree, node: NodeId, known: NodeId) -> NodeId {
    let mut at = tree.parent(node);
    while at > known {
        at = tree.parent(at);
    }
    at
}
