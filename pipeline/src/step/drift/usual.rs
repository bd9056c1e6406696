//! How often something that the mapping reads is there, as records flow.

use serde::{Deserialize, Serialize};

/// Present in so many records in a row, what is missing is missed …
pub(super) const RUN: u64 = 20;
/// … or in so many, and in 99.9 % of all.
const MANY: u64 = 1_000;
/// Of what many records lack, a run must be so many times as long as runs of it usually are, to be missed: of a million
/// records that lack one at random in twenty, or more, it is once in a while.
const RUNS: u64 = 12;
/// So many records tell as much as waiting on would, when they all say the same.
pub(super) const ENOUGH: u64 = 20;

/// How often something was there, up to the last record that flowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usual {
    pub(super) records: u64,
    pub(super) present: u64,
    /// Records in a row that had it.
    pub(super) run: u64,
}

impl Usual {
    #[inline]
    pub(super) fn have(&mut self, records: u64) {
        self.records += records;
        self.present += records;
        self.run += records;
    }

    pub(super) fn lack(&mut self, records: u64) {
        if records > 0 {
            self.records += records;
            self.run = 0;
        }
    }

    /// Whether a record that lacks it is suspect. Of what one record in twenty lacks, as many are known, twenty in a row
    /// are nothing: it must be longer by far than runs of it usually are. A record that lacks it never makes it so: those that
    /// follow are not asked about, as long as they lack it, too.
    pub(super) fn is_steady(&self) -> bool {
        if self.present >= MANY && self.absent() * 1_000 <= self.records {
            return true;
        }
        let is_rare = self.records >= MANY && self.absent() * 20 >= self.records;
        self.run >= RUN && (!is_rare || self.run * self.absent() >= RUNS * self.records)
    }

    /// Whether it is there often enough that many records without it would be strange.
    pub(super) fn is_common(&self) -> bool {
        self.records >= ENOUGH && self.present * 10 >= self.records * 3
    }

    fn absent(&self) -> u64 {
        self.records - self.present
    }

    /// Of so many records how many may lack it and it is still at its usual rate: twice what was usual, counted with
    /// three more than were seen, because few records without an absence say little; of what was absent before, three
    /// more. Below one in twenty nothing is called drift, unless the records came `with_new` paths.
    pub(super) fn tolerated(&self, records: u64, with_new: bool) -> u64 {
        let usual = 2 * (self.absent() + 3) * records / self.records.max(1);
        let was_absent = self.absent() * 1_000 > self.records;
        let more = if was_absent && !with_new { 3 } else { 0 };
        usual.max(if with_new { 0 } else { records / 20 }) + more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(present: u64, absent: u64, run: u64) -> Usual {
        Usual { records: present + absent, present, run }
    }

    #[test]
    fn what_was_in_twenty_records_in_a_row_or_in_almost_all_of_a_thousand_is_missed() {
        assert!(!usual(19, 0, 19).is_steady());
        assert!(usual(20, 0, 20).is_steady());
        assert!(usual(25, 5, 20).is_steady());
        assert!(!usual(990, 9, 3).is_steady());
        assert!(usual(1998, 2, 3).is_steady());
        assert!(!usual(1997, 3, 3).is_steady());
        assert!(usual(1000, 0, 3).is_steady() && usual(1000, 1, 0).is_steady());
        assert!(usual(960, 40, 20).is_steady());
        assert!(!usual(900, 100, 119).is_steady() && usual(900, 100, 120).is_steady(), "one in ten lacks it anyway");
    }

    #[test]
    fn nothing_is_missed_for_the_first_time_because_a_record_lacks_it() {
        for (present, absent) in (900..2_100).flat_map(|present| (0..4).map(move |absent| (present, absent))) {
            for run in [0, 3, 19] {
                let (before, mut after) = (usual(present, absent, run), usual(present, absent, run));
                after.lack(1);
                assert!(before.is_steady() || !after.is_steady(), "{before:?}");
            }
        }
    }
}
