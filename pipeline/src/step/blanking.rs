//! What a repair would come to: where it leads to nothing it is refused, and where it ends blank it is a removal, whatever
//! it is called.

use schemas::drift::{Change, Lost, Move};
use schemas::mapping::{Path, Paths, Rule, Split};
use schemas::policy::DecisionClass;
use schemas::shape::{NodeId, SlotKind};

use super::StreamState;
use super::cast::{Token, transform};
use super::drift::{Blanks, Profile};

impl StreamState {
    /// Refuses moves to what is missing itself, and to what no record had.
    pub(super) fn check_targets(&self, moves: &[(Lost, Move)]) -> Result<(), String> {
        for (lost, to) in moves {
            for text in &to.to {
                let Ok(path) = Path::new(text) else { continue };
                let is_itself = path.texts().all(|text| lost.paths.contains(&text));
                if is_itself && !lost.retyped && lost.change.is_none() {
                    return Err(format!(
                        "{text} is what the records lack: name the path that has its values now, or accept it as removed"
                    ));
                }
                if !self.targets(lost, to, &[path]).any(|node| self.is_seen(node)) {
                    return Err(format!("no record had {text}: name a path that some have, as the case shows them"));
                }
            }
        }
        Ok(())
    }

    /// The class for which two people decide these moves and removals, if there is one. What ends blank is removed; what
    /// ends in an array is of another type.
    pub(super) fn for_two(&self, moves: &[(Lost, Move)], removed: &[Lost]) -> Option<DecisionClass> {
        let of_kind = self.policy.two_persons(moves.iter().map(|(lost, to)| (lost, to)), removed.iter());
        let (gone, retyped) = (DecisionClass::Removed, DecisionClass::Retyped);
        if of_kind.is_some() {
            of_kind
        } else if self.policy.wants_two(gone) && moves.iter().any(|(lost, to)| self.ends_blank(lost, to)) {
            Some(gone)
        } else {
            let is_retyped = self.policy.wants_two(retyped) && moves.iter().any(|(_, to)| to.is_into_array());
            is_retyped.then_some(retyped)
        }
    }

    /// Whether what was lost would be blank by a move, more often than it was: by what is known of the values there.
    pub(super) fn ends_blank(&self, lost: &Lost, to: &Move) -> bool {
        let paths: Vec<Path> = to.to.iter().filter_map(|text| Path::new(text).ok()).collect();
        let seen = self.targets(lost, to, &paths).filter(|node| self.is_seen(*node));
        let seen: Vec<Blanks> = seen.map(|node| self.drift.blanks_at(node, &self.shape)).collect();
        if seen.is_empty() {
            return true;
        }
        match &lost.change {
            // They stay what they are.
            Some(Change::Nulls { .. }) if to.is_in_place() => return true,
            // What stands there is from before they were swapped.
            Some(Change::Swapped { .. }) => return false,
            _ => {}
        }
        let usual = self.drift.blanks_before(lost, &self.shape);
        // Of several that are joined, one with a value is enough.
        let as_they_are = seen.into_iter().min_by_key(|blanks| blanks.share()).unwrap_or_default();
        (to.is_in_place() && self.drift.blanks_of_other_types(lost, &self.shape).is_more_than(usual))
            || as_they_are.is_more_than(usual)
            || self.transformed(lost, to, &paths).is_more_than(usual)
    }

    /// What a part or a transform makes of the values that are kept of its paths.
    fn transformed(&self, lost: &Lost, to: &Move, paths: &[Path]) -> Blanks {
        if to.part.is_none() && to.transform.is_none() {
            return Blanks::default();
        }
        let profile = |node| self.drift.profiles().of(node);
        let of_path = |path: &Path| self.targets(lost, to, std::slice::from_ref(path)).find_map(profile);
        let kept: Vec<&Profile> = paths.iter().filter_map(of_path).collect();
        let base = to.transform.as_deref().cloned().unwrap_or_default();
        let split = to.part.map(|part| Split { by: " ".to_owned(), part }).or_else(|| base.split.clone());
        let rule = Rule { from: Paths(paths.to_vec()), split, ..base };
        let mut blanks = Blanks::default();
        for at in 0..kept.iter().map(|profile| profile.samples.len()).max().unwrap_or(0) {
            let token = |text: &str| Token { kind: SlotKind::Text, text: text.to_owned().into() };
            let texts = kept.iter().filter_map(|profile| profile.samples.get(at)).map(|sample| sample.value());
            let parts: Vec<Token<'_>> = texts.filter(|text| !is_blank(text)).map(token).collect();
            if parts.is_empty() {
                continue;
            }
            let is_blank = transform(&parts, &rule).is_none_or(|text| is_blank(&text));
            blanks.values += 1;
            blanks.blank += u64::from(is_blank);
        }
        blanks
    }

    /// The nodes that a move leads to by these of its paths. Among alternatives what is missing itself is none.
    fn targets<'a>(&'a self, lost: &'a Lost, to: &'a Move, paths: &'a [Path]) -> impl Iterator<Item = NodeId> + 'a {
        let of_path = move |path: &'a Path| {
            let is_sole = to.is_in_place() || path.choices().len() == 1;
            let targets = path.choices().iter().zip(path.texts());
            targets.filter(move |(_, text)| is_sole || !lost.paths.contains(text)).map(|(parts, _)| parts)
        };
        paths.iter().flat_map(of_path).filter_map(move |parts| self.shape.find(parts))
    }

    /// Whether a record had something there, be it null.
    fn is_seen(&self, node: NodeId) -> bool {
        self.shape.types(node) != 0 || self.drift.profiles().of(node).is_some_and(|profile| profile.values > 0)
    }
}

fn is_blank(text: &str) -> bool {
    text.trim_ascii().is_empty()
}
