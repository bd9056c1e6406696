//! Refills: records that were accepted as null since nobody knew where the value had gone. Once that is decided, they are
//! mapped again.

use std::collections::BTreeSet;

use schemas::decision::Fact;
use schemas::drift::{Lost, Move};
use schemas::shape::{Slot, SlotKind};
use serde::{Deserialize, Serialize};

use super::Drift;

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

    /// Whether a walked record was null in what a case was about, and has it elsewhere.
    pub(in crate::step) fn is_refilled(&self, case: u64, payload: &str, slots: &[Slot]) -> bool {
        let has_value = |slot: u32| {
            let Slot { kind, start, end } = slots.get(slot as usize).copied().unwrap_or_default();
            let is_blank = || payload.get(start..end).is_none_or(|text| text.trim_ascii().is_empty());
            !matches!(kind, SlotKind::Absent | SlotKind::Null) && !(kind == SlotKind::Text && is_blank())
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
