//! Decisions that can be taken back, and what becomes of them.

use std::collections::BTreeMap;

use schemas::EntityName;
use schemas::decision::Fact;
use schemas::drift::Lost;
use schemas::mapping::FieldRules;
use schemas::shape::ShapeTree;
use serde::{Deserialize, Serialize};

use super::watch::Since;
use super::{Case, Drift, Phase};

/// Decisions that are remembered; older ones cannot be taken back.
const APPLIED_MAX: usize = 8;

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
}

impl Drift {
    /// Remembers a decision.
    pub(in crate::step) fn remember(&mut self, case: u64, applied: Applied) {
        match self.applied.get_mut(&case) {
            // The first of several decisions of one case stands for all of them.
            Some(known) => {
                known.lost.extend(applied.lost);
                known.former.extend(applied.former);
            }
            None => _ = self.applied.insert(case, applied),
        }
        while self.applied.len() > APPLIED_MAX {
            self.applied.pop_first();
        }
    }

    /// The decision of a case, if it can be taken back.
    pub(in crate::step) fn applied(&self, case: u64) -> Option<&Applied> {
        self.applied.get(&case)
    }

    /// A case that holds for the want that a decision had settled. The former rules are bound already.
    pub(in crate::step) fn reopen(&mut self, old: u64, new: u64, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let Some(applied) = self.applied.remove(&old) else { return };
        // What stood on it cannot be taken back by itself any more.
        let is_same = |lost: &Lost| applied.lost.iter().any(|other| other.feeds == lost.feeds);
        self.applied.retain(|_, later| !later.lost.iter().any(is_same));
        let cause = self.hold_values_again(&applied.lost);
        for watch in &mut self.watches {
            if watch.case.is_none() && applied.lost.iter().any(|lost| lost.paths == watch.paths) {
                (watch.case, watch.since) = (Some(new), Since::default());
            }
        }
        let (phase, since) = (Phase::Open, Some(applied.since));
        self.cases.insert(new, Case { phase, is_reverted: true, since, cause, ..Case::default() });
        self.detected(new, 0, 0, tree, facts);
    }

    /// Whether records that were accepted before it was sure come again under this case.
    pub(in crate::step) fn is_recalling(&self, case: u64) -> bool {
        self.cases.get(&case).is_some_and(|case| case.recalled.is_some() && case.phase == Phase::Open)
    }

    /// Whether records that were accepted come again under this case.
    pub(in crate::step) fn is_reverting(&self, case: u64) -> bool {
        self.cases.get(&case).is_some_and(|case| case.is_reverted && case.phase == Phase::Open)
    }
}
