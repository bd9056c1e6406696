//! Notices: cases that hold nothing. More nulls than usual, and fields that came. A stream has one of each at most; what
//! else is found of the kind joins it.

use schemas::decision::Fact;
use schemas::drift::{Change, Lost, Move};
use schemas::mapping::Path;
use schemas::shape::{NodeId, ShapeTree};
use serde::{Deserialize, Serialize};

use super::Drift;
use super::cases::ADDED_MAX;

/// A case that holds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What is null more often than usual; nothing where it tells of new fields.
    pub lost: Vec<Lost>,
    /// Fields that came.
    pub added: Vec<String>,
    /// The moves proposed.
    pub moves: Vec<Move>,
    /// The input behind which it began.
    pub since: u64,
}

impl Notice {
    fn is_of_nulls(&self) -> bool {
        !self.lost.is_empty()
    }
}

impl Drift {
    /// The notices that wait, by the offset of the input at which they began.
    pub(in crate::step) fn notice(&self, id: u64) -> Option<&Notice> {
        self.notices.get(&id)
    }

    /// The notice of a kind that waits, or the number of a new one; none while another case has that number.
    fn notice_of(&self, of_nulls: bool, offset: u64) -> Option<u64> {
        let known = self.notices.iter().find(|(_, notice)| notice.is_of_nulls() == of_nulls);
        let is_free = !self.cases.contains_key(&offset) && !self.notices.contains_key(&offset);
        known.map(|(id, _)| *id).or(is_free.then_some(offset))
    }

    /// A watch has more nulls than usual.
    pub(super) fn more_nulls(
        &mut self,
        at: usize,
        change: Change,
        offset: u64,
        tree: &ShapeTree,
        facts: &mut Vec<Fact>,
    ) {
        let (Some(watch), Some(id)) = (self.watches.get(at), self.notice_of(true, offset)) else { return };
        let lost = Lost { change: Some(change), ..self.lost_of(watch, tree) };
        let habit = &mut self.habits[at];
        let since = habit.since_nulls();
        habit.rest();
        let notice = self.notices.entry(id).or_insert_with(|| Notice { since, ..Notice::default() });
        if notice.lost.iter().any(|known| known.paths == lost.paths) {
            return;
        }
        notice.lost.push(lost);
        self.detected(id, 0, 0, tree, facts);
    }

    /// Fields came that no rule names; true when it was told, or need not be.
    pub(super) fn came(&mut self, nodes: &[NodeId], offset: u64, tree: &ShapeTree, facts: &mut Vec<Fact>) -> bool {
        let text = |node: &NodeId| Path::of_parts(&tree.parts(*node)).ok().map(|path| path.as_str().to_owned());
        let paths = nodes.iter().filter(|node| !tree.is_requested(**node)).filter_map(text).collect();
        self.came_at(paths, offset, tree, facts)
    }

    /// The same, of paths.
    pub(super) fn came_at(
        &mut self,
        mut paths: Vec<String>,
        offset: u64,
        tree: &ShapeTree,
        facts: &mut Vec<Fact>,
    ) -> bool {
        let known = |path: &String| self.notices.values().any(|notice| notice.added.contains(path));
        paths.retain(|path| !known(path));
        if paths.is_empty() {
            return true;
        }
        let Some(id) = self.notice_of(false, offset) else { return false };
        let notice = self.notices.entry(id).or_insert_with(|| Notice { since: offset, ..Notice::default() });
        let before = notice.added.len();
        notice.added.extend(paths);
        notice.added.truncate(ADDED_MAX);
        if notice.added.len() > before {
            self.detected(id, 0, 0, tree, facts);
        }
        true
    }

    /// Ends a notice, or what of it was decided.
    pub(in crate::step) fn settle_notice(&mut self, id: u64, lost: &[Lost], why: &str, facts: &mut Vec<Fact>) {
        let Some(notice) = self.notices.get_mut(&id) else { return };
        notice.lost.retain(|known| !lost.iter().any(|lost| lost.paths == known.paths));
        if notice.lost.is_empty() {
            self.notices.remove(&id);
            facts.push(Fact::RecordsReleased { case: id, count: 0, why: why.to_owned() });
        }
    }
}
