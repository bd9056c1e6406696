//! Decisions that can be taken back, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use schemas::EntityName;
use schemas::decision::Fact;
use schemas::drift::{Lost, Move};
use schemas::mapping::{FieldRules, Path};
use schemas::shape::{NodeId, ShapeTree};
use serde::{Deserialize, Serialize};

use super::cases::{Cause, once_more};
use super::since::Since;
use super::watch::Watch;
use super::{Case, Drift, Phase};

/// Cases whose decisions are remembered: of more those that began last. Decisions of the others cannot be taken back.
pub(crate) const APPLIED_MAX: usize = 8;

/// A decision that can be taken back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::step) struct Applied {
    /// The input that decided.
    pub(in crate::step) at: u64,
    /// The input behind which a path was new to the case.
    pub(in crate::step) since: u64,
    /// What was lost.
    pub(in crate::step) lost: Vec<Lost>,
    /// The rules of the fields concerned, before it.
    pub(in crate::step) former: BTreeMap<EntityName, FieldRules>,
    /// Paths that were known before the case, and that what was lost may have gone to all the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::step) fresh: BTreeMap<NodeId, u64>,
    /// What was new to the case; nothing where that is not known in full, or an earlier release decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::step) new: Option<NewPaths>,
    /// The types, as bits, that what was lost by its type had before; with the paths of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::step) types: Vec<(Vec<String>, u8)>,
    /// The mapping version that it left in force.
    #[serde(default)]
    pub(in crate::step) version: u32,
}

/// Paths that are new to a case: what was lost may have gone there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::step) struct NewPaths {
    /// All from this one on …
    from: NodeId,
    /// … and of those before it the strays, and where it was decided that what was lost has gone.
    strays: BTreeSet<NodeId>,
}

impl Drift {
    /// Remembers a decision.
    pub(in crate::step) fn remember(&mut self, case: u64, applied: Applied) {
        self.keep_former(case, &applied.lost);
        match self.applied.get_mut(&case) {
            // The first of several decisions of one case stands for all of them.
            Some(known) => {
                known.lost.extend(applied.lost);
                // What was changed twice goes back to what it was at first.
                for (field, rules) in applied.former {
                    known.former.entry(field).or_insert(rules);
                }
                known.fresh.extend(applied.fresh);
                known.new = known.new.take().zip(applied.new).map(|(mut new, more)| {
                    new.strays.extend(more.strays);
                    new
                });
                known.types.extend(applied.types);
                known.version = applied.version;
            }
            None => _ = self.applied.insert(case, applied),
        }
        while self.applied.len() > APPLIED_MAX {
            self.applied.pop_first();
        }
        self.former.retain(|case, _| self.applied.contains_key(case));
    }

    /// What is new to a case of which it is decided that its lost paths have gone so; nothing where that is not known in full.
    pub(in crate::step) fn new_paths<'a>(
        &self,
        case: u64,
        moves: impl Iterator<Item = &'a Move>,
        tree: &ShapeTree,
    ) -> Option<NewPaths> {
        let case = self.cases.get(&case)?;
        let mut strays: BTreeSet<NodeId> = case.strays.iter().copied().collect();
        for text in moves.flat_map(|to| &to.to) {
            for parts in Path::new(text).ok()?.choices() {
                strays.insert(tree.find(parts)?);
            }
        }
        Some(NewPaths { from: case.new_from?, strays })
    }

    /// The types that lost paths had, of those that were lost by their type: an acceptance has them learnt anew.
    pub(in crate::step) fn former_types(&self, lost: &[Lost]) -> Vec<(Vec<String>, u8)> {
        let is_meant = |watch: &&Watch| lost.iter().any(|lost| lost.retyped && lost.paths == watch.paths);
        self.watches.iter().filter(is_meant).map(|watch| (watch.paths.clone(), watch.types)).collect()
    }

    /// The decision of a case, if it can be taken back.
    pub(in crate::step) fn applied(&self, case: u64) -> Option<&Applied> {
        self.applied.get(&case)
    }

    /// A later decision of the same fields: its rules would go with those of this one.
    pub(in crate::step) fn stands_on(&self, case: u64) -> Option<u64> {
        let applied = self.applied.get(&case)?;
        let is_same = |lost: &Lost| lost.feeds.iter().any(|feed| applied.lost.iter().any(|l| l.feeds.contains(feed)));
        let later = self.applied.iter().filter(|(id, later)| **id != case && later.at > applied.at);
        later.filter(|(_, later)| later.lost.iter().any(is_same)).map(|(id, _)| *id).next_back()
    }

    /// A case that holds for the want that a decision had settled: another one, or the same if it is open still. The former
    /// rules are bound already; what was accepted since is looked at again, as the input `at` says.
    pub(in crate::step) fn reopen(&mut self, old: u64, new: u64, at: u64, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let Some(applied) = self.applied.remove(&old) else { return };
        let asked = (at, applied.at);
        self.refills.remove(&old);
        self.give_back(old);
        let cause = self.hold_values_again(&applied.lost);
        let new_from = applied.new.as_ref().map(|new| new.from);
        let decided = applied.new.iter().flat_map(|new| &new.strays);
        let strays: BTreeSet<NodeId> = applied.fresh.keys().chain(decided).copied().collect();
        for watch in &mut self.watches {
            let lost = applied.lost.iter().find(|lost| lost.paths == watch.paths);
            if let Some(lost) = lost.filter(|_| watch.case.is_none()) {
                watch.decided(false);
                (watch.case, watch.since) = (Some(new), Since::default());
                // The type that was accepted is as strange again as it was.
                if let Some((_, types)) = applied.types.iter().find(|(paths, _)| *paths == watch.paths) {
                    watch.types = *types;
                    watch.know_types();
                }
                watch.is_typed = lost.retyped && !watch.is_missed();
                // What only some records have is held where it may have gone, if it is known where that is; what has neither
                // flows on.
                let is_absence = !watch.is_typed && lost.change.is_none();
                watch.is_sparse = is_absence && watch.usual.is_sparse() && new_from.is_some();
            }
        }
        let is_meant = |paths: &Vec<String>| applied.lost.iter().any(|lost| lost.paths == *paths);
        let fresh = self.fresh(new);
        if let Some(case) = self.cases.get_mut(&new) {
            case.freed.retain(|paths| !is_meant(paths));
            case.moves.clear();
            case.is_reverted = true;
            case.reading.insert(asked);
            case.strays.extend(strays);
            case.fresh = fresh.into_iter().chain(applied.fresh).collect();
            if cause == Cause::Values {
                case.cause = cause;
            }
            self.told(new, tree, facts);
            return once_more(facts);
        }
        let (phase, since, fresh) = (Phase::Open, Some(applied.since), applied.fresh);
        let (reading, strays) = (BTreeSet::from([asked]), strays.into_iter().collect());
        let case = Case { phase, is_reverted: true, since, cause, fresh, reading, strays, new_from, ..Case::default() };
        self.cases.insert(new, case);
        self.detected(new, 0, 0, tree, facts);
        // What else of a notice waits for a decision waits on.
        if self.notices.contains_key(&old) {
            self.detected(old, 0, 0, tree, facts);
            once_more(facts);
        }
    }

    /// Whether records that were accepted before it was sure come again under this case.
    pub(in crate::step) fn is_recalling(&self, case: u64) -> bool {
        self.cases.get(&case).is_some_and(|case| case.recalled.is_some() && case.phase == Phase::Open)
    }

    /// Whether not all records that are looked at again for a case have come.
    pub(in crate::step) fn is_reading(&self, case: u64) -> bool {
        self.cases.get(&case).is_some_and(|case| !case.reading.is_empty())
    }

    /// What is looked at again and has not all come: the cases, the inputs that asked for it, and those behind which it stands.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.cases.iter().flat_map(|(id, case)| case.reading.iter().map(move |(at, since)| (*id, *at, *since)))
    }

    /// All records have come that an input asked for, behind another one.
    pub(in crate::step) fn recall_ended(&mut self, case: u64, asked: (u64, u64)) {
        if let Some(case) = self.cases.get_mut(&case) {
            case.reading.remove(&asked);
        }
    }

    /// Whether records that were accepted come again under this case.
    pub(in crate::step) fn is_reverting(&self, case: u64) -> bool {
        self.cases.get(&case).is_some_and(|case| case.is_reverted && case.phase == Phase::Open)
    }
}
