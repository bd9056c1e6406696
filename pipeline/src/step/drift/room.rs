//! Room for profiles: there are so many places. Where all are taken and another path comes, the keys of maps give theirs
//! back, for good.

use std::collections::{BTreeMap, BTreeSet};

use schemas::shape::{NodeId, ShapeTree};

use super::blanks::node_of;
use super::cases::ADDED_MAX;
use super::maps::ONCE_MAX;
use super::profile::{PATHS_MAX, Profile, Profiles};
use super::{Drift, Phase};

/// A path hardly ever was there if, of so many records that were looked at since it came, no more than one had it.
const RARE: u64 = 100;
/// An object is a map for good if so many times as many of its members hardly ever were there as came more often.
const RARER: usize = 16;
/// It is looked for maps again after so many records.
const REST: u8 = 8;

impl Drift {
    /// Makes room where paths came that found none.
    pub(super) fn make_room(&mut self, tree: &ShapeTree) {
        if std::mem::take(&mut self.is_bound) && self.profiles.has_maps() {
            // What is mapped by now is data no more.
            let around = self.around_mapped(tree);
            self.profiles.forget_maps(&around);
        }
        if self.profiles.wants_room() {
            let (around, mut kept) = (self.around_mapped(tree), self.named(tree));
            kept.extend(self.mapped(tree).chain(around.iter().copied()));
            self.profiles.make_room(tree, &around, &kept);
        }
    }

    fn mapped<'a>(&'a self, tree: &'a ShapeTree) -> impl Iterator<Item = NodeId> + 'a {
        self.watches.iter().flat_map(|watch| &watch.paths).filter_map(move |path| node_of(tree, path))
    }

    /// The objects around what the mapping reads.
    fn around_mapped(&self, tree: &ShapeTree) -> BTreeSet<NodeId> {
        let mut around = BTreeSet::from([0]);
        for node in self.mapped(tree) {
            let mut at = tree.parent(node);
            while around.insert(at) {
                at = tree.parent(at);
            }
        }
        around
    }

    /// The paths that the cases that wait name, or may have to name.
    fn named(&self, tree: &ShapeTree) -> BTreeSet<NodeId> {
        let mut named: BTreeSet<NodeId> = BTreeSet::new();
        for (id, case) in self.cases.iter().filter(|(_, case)| case.phase != Phase::Over) {
            named.extend(case.fresh.keys().chain(case.beside.keys()).chain(&case.strays));
            named.extend(self.added_nodes(*id, tree).take(ADDED_MAX));
        }
        for (id, notice) in &self.notices {
            match notice.lost.is_empty() {
                true => named.extend(notice.added.iter().filter_map(|path| node_of(tree, path))),
                false => named.extend(self.added_nodes(*id, tree).take(ADDED_MAX)),
            }
        }
        named
    }
}

impl Profiles {
    /// Whether an object is a map for good: what is in it is not looked at.
    pub(super) fn is_map(&self, object: NodeId) -> bool {
        self.maps.contains(&object)
    }

    fn has_maps(&self) -> bool {
        !self.maps.is_empty()
    }

    fn forget_maps(&mut self, around: &BTreeSet<NodeId>) {
        self.maps.retain(|object| !around.contains(object));
    }

    /// Whether a path that has no place gets none, since it lies in a map.
    pub(super) fn is_in_map(&self, tree: &ShapeTree, node: NodeId) -> bool {
        is_inside(tree, node, &self.maps)
    }

    /// Whether paths found no place, and none was looked for in the last records.
    fn wants_room(&mut self) -> bool {
        self.rest = self.rest.saturating_sub(1);
        let wants = self.is_full && self.rest == 0;
        if wants {
            self.rest = REST;
        }
        wants
    }

    /// Takes the places of the keys of maps back, but for what is `kept`; no object `around` what is mapped is a map.
    fn make_room(&mut self, tree: &ShapeTree, around: &BTreeSet<NodeId>, kept: &BTreeSet<NodeId>) {
        let maps = self.new_maps(tree, around, kept);
        if maps.is_empty() {
            return;
        }
        let before = self.paths.len();
        self.maps.extend(maps);
        let Self { paths, maps, .. } = self;
        paths.retain(|node, _| kept.contains(node) || !is_inside(tree, *node, maps));
        self.given += (before - self.paths.len()) as u64;
        self.is_full = self.paths.len() >= PATHS_MAX;
    }

    /// The objects that turn out to be maps by the members that hardly ever were there.
    fn new_maps(&self, tree: &ShapeTree, around: &BTreeSet<NodeId>, kept: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let (mut members, looked): (BTreeMap<NodeId, usize>, _) = (BTreeMap::new(), self.looked());
        let is_rare = |node: &NodeId, profile: &Profile| profile.is_rare_since(looked) && !kept.contains(node);
        for (node, _) in self.paths.iter().filter(|(node, profile)| is_rare(node, profile)) {
            *members.entry(tree.parent(*node)).or_default() += 1;
        }
        let is_often = |node: &&NodeId| {
            // What came only now may come again.
            let profile = self.of(**node).filter(|profile| profile.came + RARE <= looked);
            profile.is_some_and(|profile| !profile.is_rare_since(looked))
        };
        let often = |object| tree.children(object).iter().filter(is_often).count();
        let is_map = |(object, count): &(NodeId, usize)| {
            *count > ONCE_MAX && !around.contains(object) && often(*object) * RARER <= *count
        };
        members.into_iter().filter(is_map).map(|(object, _)| object).collect()
    }
}

impl Profile {
    /// Whether it hardly ever was there since it came.
    fn is_rare_since(&self, looked: u64) -> bool {
        self.values.saturating_mul(RARE) <= looked.saturating_sub(self.came)
    }
}

/// Whether a path lies inside one of these objects.
fn is_inside(tree: &ShapeTree, node: NodeId, objects: &BTreeSet<NodeId>) -> bool {
    let mut at = tree.parent(node);
    while at != 0 && !objects.contains(&at) {
        at = tree.parent(at);
    }
    at != 0
}

#[cfg(test)]
mod tests {
    use schemas::shape::Walker;

    use super::*;

    fn looked_at(payloads: impl Iterator<Item = String>) -> (ShapeTree, Profiles) {
        let (mut tree, mut profiles, mut walker) = (ShapeTree::default(), Profiles::default(), Walker::default());
        for (offset, payload) in (0..).zip(payloads) {
            assert!(profiles.is_due());
            walker.walk(&mut tree, &payload).unwrap();
            profiles.look(&tree, &payload, offset, &mut |_, _, _| {});
        }
        (tree, profiles)
    }

    fn has((tree, profiles): &(ShapeTree, Profiles), path: &[&str]) -> bool {
        profiles.of(tree.find(path).unwrap()).is_some()
    }

    #[test]
    fn an_object_whose_members_hardly_ever_come_again_is_a_map_for_good_unless_something_in_it_is_mapped() {
        for is_mapped in [false, true] {
            let mut all = looked_at((0..200).map(|n| format!(r#"{{"id":{n},"by_id":{{"k{n}":{{"at":1}}}}}}"#)));
            let by_id = all.0.find(&["by_id"]).unwrap();
            let around = if is_mapped { BTreeSet::from([0, by_id]) } else { BTreeSet::from([0]) };
            all.1.make_room(&all.0, &around, &BTreeSet::new());
            assert_eq!(all.1.is_map(by_id), !is_mapped);
            assert_eq!(has(&all, &["by_id", "k199", "at"]), is_mapped, "nothing in a map has a place");
            assert!(has(&all, &["by_id"]));
            assert_eq!(has(&all, &["by_id", "k0"]), is_mapped);
            let payload = r#"{"by_id":{"k0":{"at":1}}}"#;
            all.1.look(&all.0, payload, 200, &mut |_, _, _| {});
            assert_eq!(has(&all, &["by_id", "k0", "at"]), is_mapped);
        }
    }

    #[test]
    fn an_object_of_which_many_members_come_again_is_no_map() {
        let often = |n: usize| (0..10).map(|at| format!(r#""o{at}":{n},"#)).collect::<String>();
        let mut all = looked_at((0..200).map(|n| format!(r#"{{"more":{{{}"k{n}":1}}}}"#, often(n))));
        let more = all.0.find(&["more"]).unwrap();
        all.1.make_room(&all.0, &BTreeSet::from([0]), &BTreeSet::new());
        assert!(!all.1.is_map(more) && has(&all, &["more", "o9"]) && has(&all, &["more", "k0"]));
    }
}
