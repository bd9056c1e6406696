//! Notices: cases that hold nothing. More nulls than usual, and fields that came. A stream has one of each at most; what
//! else is found of the kind joins it.

use std::collections::BTreeSet;

use schemas::decision::Fact;
use schemas::drift::{Change, Lost, Move};
use schemas::mapping::Path;
use schemas::shape::{NodeId, ShapeTree};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Drift;
use super::cases::{ADDED_MAX, once_more};

/// Fields that came or went are told once, as long as they are among the last so many: as many as a schema may declare.
const TOLD_MAX: usize = 4_096;

/// A case that holds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What is null more often than usual; nothing where it tells of new fields.
    pub lost: Vec<Lost>,
    /// Fields that came.
    pub added: Vec<String>,
    /// Fields that came beside those that are named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// Fields that no rule reads and that the declared schema has no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// The moves proposed.
    pub moves: Vec<Move>,
    /// The input behind which it began.
    pub since: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A field that no rule reads, and that is gone.
pub(super) fn unread(path: &str) -> Lost {
    let (path, paths) = (path.to_owned(), vec![path.to_owned()]);
    Lost { path, paths, feeds: vec![], retyped: false, change: None }
}

/// What is kept of the path of a field that was told, however it is escaped.
fn mark(path: &str) -> u64 {
    let parsed = Path::new(path).ok().filter(|path| path.choices().len() == 1);
    let text = parsed.and_then(|path| path.texts().next());
    xxh3_64(text.as_deref().unwrap_or(path).as_bytes())
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

    /// A watch has more nulls than usual, or is missing more often, since an input; true when it was told, or need not be.
    pub(super) fn more_nulls(
        &mut self,
        at: usize,
        change: Change,
        since: u64,
        offset: u64,
        tree: &ShapeTree,
        facts: &mut Vec<Fact>,
    ) -> bool {
        let (Some(watch), Some(id)) = (self.watches.get(at), self.notice_of(true, offset)) else { return false };
        let lost = Lost { change: Some(change), retyped: false, ..self.lost_of(watch, tree) };
        let notice = self.notices.entry(id).or_insert_with(|| Notice { since, ..Notice::default() });
        if notice.lost.iter().any(|known| known.paths == lost.paths) {
            return true;
        }
        notice.lost.push(lost);
        // Its nulls may have begun before those of the first were told.
        notice.since = notice.since.min(since);
        self.detected(id, 0, 0, tree, facts);
        true
    }

    /// Fields came that no rule names; true when it was told, or need not be.
    pub(super) fn came(&mut self, nodes: &[NodeId], offset: u64, tree: &ShapeTree, facts: &mut Vec<Fact>) -> bool {
        let text = |node: &NodeId| Path::of_parts(&tree.parts(*node)).ok().map(|path| path.as_str().to_owned());
        let paths = nodes.iter().filter(|node| !tree.is_requested(**node)).filter_map(text).collect();
        self.changed_at(paths, vec![], offset, tree, facts)
    }

    /// Fields came that no rule names, and others that no rule reads went; true when it was told, or need not be.
    pub(super) fn changed_at(
        &mut self,
        mut came: Vec<String>,
        mut gone: Vec<String>,
        offset: u64,
        tree: &ShapeTree,
        facts: &mut Vec<Fact>,
    ) -> bool {
        let earlier = std::mem::take(&mut self.told_gone);
        self.note_told(earlier.iter());
        let told: BTreeSet<u64> = self.told_fields.iter().copied().collect();
        let is_named = |path: &String| self.notices.values().any(|notice| notice.added.contains(path));
        // A field that comes and goes is told once.
        let is_known = |path: &String| told.contains(&mark(path)) || is_named(path);
        came.retain(|path| !is_known(path));
        gone.retain(|path| !is_known(path));
        if came.is_empty() && gone.is_empty() {
            return true;
        }
        let Some(id) = self.notice_of(false, offset) else { return false };
        self.note_told(came.iter().chain(&gone));
        let notice = self.notices.entry(id).or_insert_with(|| Notice { since: offset, ..Notice::default() });
        notice.added.extend(came);
        notice.more += notice.added.len().saturating_sub(ADDED_MAX) as u64;
        notice.added.truncate(ADDED_MAX);
        let room = ADDED_MAX.saturating_sub(notice.gone.len());
        notice.gone.extend(gone.into_iter().take(room));
        self.detected(id, 0, 0, tree, facts);
        // Rejected or not, it is noted in the end.
        once_more(facts);
        true
    }

    /// Notes fields as told; of too many the oldest are forgotten.
    fn note_told<'a>(&mut self, paths: impl Iterator<Item = &'a String>) {
        let mut known: BTreeSet<u64> = self.told_fields.iter().copied().collect();
        self.told_fields.extend(paths.map(|path| mark(path)).filter(|mark| known.insert(*mark)));
        self.told_fields.drain(..self.told_fields.len().saturating_sub(TOLD_MAX));
    }

    /// Fields that came and are mapped by now need nobody's look.
    pub(in crate::step) fn end_mapped(&mut self, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let is_mapped = |path: &String| {
            let node = Path::new(path).ok().and_then(|path| tree.find(path.choices().first()?));
            node.is_some_and(|node| tree.is_requested(node))
        };
        let of_fields = self.notices.iter_mut().filter(|(_, notice)| !notice.is_of_nulls());
        let mut changed = Vec::new();
        for (id, notice) in of_fields {
            let before = notice.added.len();
            notice.added.retain(|path| !is_mapped(path));
            if notice.added.len() < before {
                changed.push((*id, notice.added.is_empty() && notice.gone.is_empty() && notice.more == 0));
            }
        }
        for (id, is_over) in changed {
            match is_over {
                true => self.settle_notice(id, &[], "what came is mapped now", facts),
                false => {
                    self.detected(id, 0, 0, tree, facts);
                    once_more(facts);
                }
            }
        }
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
