//! Refills: records that were accepted as null since nobody knew where the value had gone. Once that is decided, they are
//! mapped again.

use std::collections::BTreeSet;

use schemas::decision::Fact;
use schemas::drift::{Lost, Move};
use schemas::shape::{ShapeTree, Slot, SlotKind};
use serde::{Deserialize, Serialize};

use super::{Case, Drift, Passing};

/// Decided cases whose records may be on their way again.
const REFILLS_MAX: usize = 8;

/// A path whose values were null, and those that have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refill {
    old: Vec<String>,
    new: Vec<String>,
}

impl Drift {
    /// Has what was accepted since a jump of nulls, and up to an input, looked at again.
    pub(in crate::step) fn refill(&mut self, case: u64, until: u64, moves: &[(Lost, Move)], facts: &mut Vec<Fact>) {
        let of = |(lost, to): &(Lost, Move)| Refill { old: lost.paths.clone(), new: to.to.clone() };
        self.refills.entry(case).or_default().extend(moves.iter().map(of));
        while self.refills.len() > REFILLS_MAX {
            self.refills.pop_first();
        }
        let since = self.since(case);
        facts.push(Fact::RecordsRecalled { case, since, until });
    }

    /// Whether records come again for a case that is decided, to be mapped where they were null.
    pub(in crate::step) fn is_refilling(&self, case: u64) -> bool {
        self.refills.contains_key(&case)
    }

    /// Whether a walked record that was accepted is held by now, or is to be, by a case that waits.
    pub(in crate::step) fn is_anothers(&mut self, record: &Passing<'_>, tree: &ShapeTree) -> bool {
        if self.cases.is_empty() {
            return false;
        }
        self.lacking.clear();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            let is_lacking = watch.is_lacking(record.slots, record.payload.as_bytes());
            if is_lacking && watch.case.is_some() && !watch.is_needless(record.has_key, record.has_version) {
                self.lacking.push(at);
            }
        }
        self.lack_changed(record);
        if self.holder(record, tree).is_some() {
            return true;
        }
        // Values that a revert holds are held whatever they are likelier to be.
        self.lack_changed(&Passing { is_recalled: false, ..*record });
        let case_of = |at: &usize| self.watches.get(*at).and_then(|watch| self.cases.get(&watch.case?));
        // What is from before such a case is none of its records.
        let is_its = |case: &Case| case.is_reverted && case.since.is_none_or(|since| record.origin > since);
        self.lacking.iter().filter_map(case_of).any(is_its)
    }

    /// Whether a walked record was null in what a case was about, and has it elsewhere.
    pub(in crate::step) fn is_refilled(&self, case: u64, payload: &str, slots: &[Slot]) -> bool {
        let has_value = |slot: u32| {
            let Slot { kind, start, end } = slots.get(slot as usize).copied().unwrap_or_default();
            let is_blank = || payload.get(start..end).is_none_or(|text| text.trim_ascii().is_empty());
            !(matches!(kind, SlotKind::Absent | SlotKind::Null) || (kind == SlotKind::Text && is_blank()))
        };
        let of_case = self.refills.get(&case).map_or(&[][..], Vec::as_slice);
        of_case.iter().any(|Refill { old, new }| {
            self.watches.iter().any(|watch| {
                let there = watch.paths.iter().zip(&watch.slots).filter(|(_, slot)| has_value(**slot));
                let there: BTreeSet<&String> = there.map(|(path, _)| path).collect();
                let is_it = old.iter().all(|path| watch.paths.contains(path));
                is_it && new.iter().any(|path| there.contains(path)) && !old.iter().any(|path| there.contains(path))
            })
        })
    }
}
