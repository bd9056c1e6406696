//! Paths that hardly ever were there before: a stray record had them, or a case that turned out to be a false alarm. What
//! was lost may have gone there as well as to a path that was never seen.

use std::collections::BTreeMap;

use schemas::shape::{NodeId, ShapeTree, SlotKind, leaves};
use serde::{Deserialize, Serialize};

use super::beside::{LATER, count_beside};
use super::cases::ADDED_MAX;
use super::profile::{Profile, Profiles};
use super::{Case, Drift, HELD_EVERY, HELD_WHOLE, Passing};

/// One in so many records that were looked at, and one more, may have had a path that hardly ever was there.
const RARE: u64 = 50;
/// One in so many held records must have it: a field that few have beside what was lost has come by chance.
const HELD_SHARE: u64 = 4;
/// Where more paths came since a case began, a record is taken apart at once, rather than each of them asked for.
const ASKED_MAX: usize = 64;
/// Strays that are known; with more, the oldest are forgotten.
const STRAYS_MAX: usize = 16;
/// A path that came so often has come to stay: it is an optional one, and no stray.
const SIGHTINGS_MAX: u8 = 3;

/// A path that came, and how often it was there since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stray {
    pub(super) node: NodeId,
    sightings: u8,
}

impl Stray {
    fn is_rare(&self) -> bool {
        self.sightings < SIGHTINGS_MAX
    }
}

impl Drift {
    /// Whether a stray path was in what was walked since a mark.
    #[inline]
    pub(in crate::step) fn stray_in(&self, tree: &ShapeTree, mark: u64) -> bool {
        self.strays.iter().any(|stray| stray.is_rare() && tree.is_in_walk(stray.node, mark))
    }

    /// Notes the paths of a record that are new to the stream, and the strays that are back in it.
    pub(super) fn note_strays(&mut self, record: &Passing<'_>, tree: &ShapeTree) {
        let Self { strays, .. } = self;
        strays.retain(Stray::is_rare);
        let new_from = record.new_from.unwrap_or(NodeId::MAX);
        leaves(tree, record.payload, &mut |node, kind, _| {
            let is_new = kind != SlotKind::Null && node >= new_from && !tree.is_requested(node);
            match strays.iter_mut().find(|stray| stray.node == node) {
                // One that stands there as null is an optional one, too.
                Some(stray) => stray.sightings += 1,
                None if is_new => strays.push(Stray { node, sightings: 1 }),
                None => {}
            }
        });
        strays.drain(..strays.len().saturating_sub(STRAYS_MAX));
    }

    /// Counts a held record for the paths that it has and that were never, or hardly ever, there before.
    pub(super) fn look_at_held(&mut self, holder: u64, record: &Passing<'_>, tree: &ShapeTree) {
        self.make_room(tree);
        let later = self.lost_came(holder, tree).map(|came| came + LATER);
        let Some(case) = self.cases.get_mut(&holder) else { return };
        let (looked, is_reverted) = (self.profiles.looked(), case.is_reverted);
        let known = case.new_from.map_or(0, |from| from.saturating_sub(1));
        let Case { fresh, beside, .. } = case;
        let mut new = Vec::new();
        self.profiles.look(tree, record.payload, record.offset, &mut |node, kind, profile| {
            let is_new = profile.is_new_since(holder);
            if is_new {
                new.push(node);
            }
            if let Some(held) = fresh.get_mut(&node) {
                *held += u64::from(kind != SlotKind::Null && !is_reverted);
                return;
            }
            if is_reverted || kind == SlotKind::Null || tree.is_requested(node) || profile.is_late {
                return;
            }
            if fresh.len() < ADDED_MAX && (is_new || is_rare(profile, 1, looked)) {
                fresh.insert(node, 1);
            } else if !is_new && later.is_some_and(|later| profile.came >= later) {
                count_beside(beside, node);
            }
        });
        let has_new = new.into_iter().any(|node| !self.is_key(tree, node, known));
        if let Some(case) = self.cases.get_mut(&holder) {
            case.with_new += u64::from(has_new);
        }
    }

    /// The paths that hardly ever were there before a case, and are in its records.
    pub(super) fn came_back(&self, id: u64) -> Vec<NodeId> {
        let Some(case) = self.cases.get(&id) else { return Vec::new() };
        let back = case.fresh.iter().filter(|(node, held)| is_back(&self.profiles, case, **node, **held));
        back.map(|(node, _)| *node).collect()
    }

    /// What a case was about is back: the paths of its records were strays.
    pub(super) fn were_strays(&mut self, id: u64) {
        if let Some(case) = self.cases.get(&id) {
            self.profiles.stood_instead(&case.fresh);
        }
    }

    /// Whether a path that came is in so many of a case's records that its name is none of their values: one in four of those
    /// that it holds, and that were looked at, have it, and two at least where no schema declares it. Of a case that holds
    /// nothing, one in four of those that were looked at since it began; `next` is the input that comes next.
    pub fn is_common(&self, id: u64, node: Option<NodeId>, tree: &ShapeTree, next: u64) -> bool {
        // What has come to stay is in most records, or declared.
        let is_of_fields = self.notices.get(&id).is_some_and(|notice| notice.lost.is_empty());
        let Some(node) = node.filter(|_| !is_of_fields) else { return is_of_fields };
        let since = self.since(id);
        let seen = || {
            let profile = self.profiles.of(node).filter(|profile| profile.first >= since);
            profile.map_or(0, |profile| profile.values.saturating_sub(profile.nulls))
        };
        let is_share = |count: u64, all: u64| count >= 2 && count * HELD_SHARE >= all;
        let Some(case) = self.cases.get(&id) else {
            let looked = self.profiles.looked_of_last(next.saturating_sub(since));
            return self.notices.contains_key(&id) && is_share(seen(), looked);
        };
        match case.fresh.get(&node) {
            Some(held) if case.is_reverted => *held >= 2,
            Some(held) if case.is_early => held * HELD_SHARE >= case.looked_at(),
            Some(held) => is_share(*held, case.looked_at()),
            // What a path has inside that became an object is not counted by the case.
            None if tree.is_requested(node) => is_share(seen(), case.looked_at()),
            None => case.beside.get(&node).is_some_and(|held| is_share(*held, case.looked_at())),
        }
    }

    /// The paths that a case may have lost something to, for the case that takes its place.
    pub(in crate::step) fn fresh(&self, id: u64) -> BTreeMap<NodeId, u64> {
        let Some(case) = self.cases.get(&id) else { return BTreeMap::new() };
        self.came_back(id).into_iter().filter_map(|node| case.fresh.get(&node).map(|held| (node, *held))).collect()
    }
}

impl Case {
    /// Of the records that it held those that were looked at.
    pub(super) fn looked_at(&self) -> u64 {
        self.held.min(HELD_WHOLE) + self.held.saturating_sub(HELD_WHOLE) / HELD_EVERY
    }

    /// Whether a walked record may have a path that is new to the case. Most have none, and are not taken apart again.
    pub(super) fn may_be_in(&self, record: &Passing<'_>, tree: &ShapeTree) -> bool {
        let is_there = |node: &NodeId| tree.is_elements(*node) || tree.is_in_walk(*node, record.mark);
        let mut new = self.new_from.map_or(0..0, |from| from..tree.nodes().end);
        new.len() > ASKED_MAX || new.any(|node| is_there(&node)) || self.strays.iter().any(is_there)
    }
}

/// Whether a path hardly ever was there, but for so many held records of a case.
fn is_rare(profile: &Profile, held: u64, looked: u64) -> bool {
    let outside = profile.values.saturating_sub(profile.nulls + profile.instead + held);
    outside <= 1 + looked / RARE
}

fn is_back(profiles: &Profiles, case: &Case, node: NodeId, held: u64) -> bool {
    let is_rare = || profiles.of(node).is_some_and(|profile| is_rare(profile, held, profiles.looked()));
    case.is_reverted || (held * HELD_SHARE >= case.looked_at() && is_rare())
}
