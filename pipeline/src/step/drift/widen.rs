//! What is in a case for its type alone, and is missing as well: nobody would hear of it as long as the case waits.

use std::collections::BTreeSet;

use schemas::decision::Fact;
use schemas::shape::ShapeTree;

use super::look::Look;
use super::watch::Watch;
use super::{Drift, Passing, Phase};

impl Drift {
    /// What the record lacks of such, where that would begin a case by itself, is lost to the case as well from here on.
    pub(super) fn widen(&mut self, record: &Passing<'_>, tree: &ShapeTree) {
        if !self.watches.iter().any(|watch| watch.is_typed) {
            return;
        }
        let freed_by = record.freed_by.and_then(|case| self.cases.get(&case));
        let is_freed = |watch: &Watch| freed_by.is_some_and(|case| case.freed.contains(&watch.paths));
        let mut sparse = BTreeSet::new();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            let is_free = watch.is_needless(record.has_key, record.has_version) || is_freed(watch);
            if is_free || !watch.widen(record.has_fresh()) {
                continue;
            }
            if let Err(place) = self.lacking.binary_search(&at) {
                self.lacking.insert(place, at);
            }
            sparse.extend(watch.case.filter(|_| watch.is_sparse));
        }
        // What came between the case's first record and this one took the place of nothing that was there until now.
        for id in sparse {
            let is_its = |watch: &&Watch| watch.case == Some(id) && watch.is_sparse;
            let is_alone = self.watches.iter().filter(is_its).count() == 1;
            let (new_from, strays) = self.new_with(record, tree);
            if let Some(case) = self.cases.get_mut(&id).filter(|_| is_alone) {
                (case.new_from, case.strays) = (new_from, strays);
            }
        }
    }

    /// Tells an open case again once something of it is gone as well.
    pub(super) fn look_widened(&mut self, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let mut gone = BTreeSet::new();
        for watch in self.watches.iter_mut().filter(|watch| watch.is_widened()) {
            if watch.look_widened() == Look::Gone {
                gone.extend(watch.case);
            }
        }
        gone.retain(|id| self.cases.get(id).is_some_and(|case| case.phase == Phase::Open));
        gone.into_iter().for_each(|id| self.told(id, tree, facts));
    }
}
