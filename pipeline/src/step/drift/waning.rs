//! What is there less often for good, though so seldom missing that each time it is soon back at its usual rate. Every record
//! counts, held or not: the sum rises with each that lacks it, and falls with all of them by as much as was to be expected
//! (Page's test, in millionths of a record).
//!
//! It takes absences for chance, each by itself. Where they come in a row, few of a row count; and of a share that comes and
//! goes by the hour it tells the highest once.
//!
//! How sure it is: of a field that as many records as half of the expected always lacked, the sum comes so high once in
//! e^(1.25 × 25), 4 × 10^13, absences. How many always lacked it is known from a thousand records at least, six absences
//! more than there were; that these are still too few by so much happens to one field in twenty thousand.

use schemas::decision::Fact;
use schemas::drift::Change;
use schemas::shape::ShapeTree;
use serde::{Deserialize, Serialize};

use super::Drift;

/// A whole record.
const WHOLE: u64 = 1_000_000;
/// Absences beyond the expected ones that are no chance.
const SURE: u64 = 25;
/// Of so many records it must be known how many lacked it …
const KNOWN_MIN: u64 = 1_000;
/// … and so many absences more than there were count.
const MORE: u64 = 6;
/// Of records in a row that lack it so many count: they may have one cause.
const ROW_MAX: u8 = 5;
/// Of a record so much is expected to lack it at least, of whatever never lacked it: one in five hundred …
const EXPECTED_MIN: u64 = 2_000;
/// … and of what more than half are expected to lack nothing is told here: the share of nulls tells it.
const EXPECTED_MAX: u64 = 500_000;

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How often something was missing, and evidence that it is missing more often by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waning {
    records: u64,
    absent: u64,
    /// The sum.
    rise: u64,
    /// `records` and `absent` when it began to rise.
    from: (u64, u64),
    /// Of the records in a row that lack it, up to the last, those that count.
    #[serde(default)]
    row: u8,
    /// So much is expected at least, since that was told already.
    #[serde(default, skip_serializing_if = "is_zero")]
    told: u64,
    /// The last input that was looked at before it rose.
    since: u64,
    /// How much of a record is expected to lack it, by `from`; 0 until that is asked for.
    #[serde(skip)]
    expected: u64,
}

impl Waning {
    /// So many records in a row had it.
    #[inline]
    pub(super) fn have(&mut self, records: u64) {
        if records == 0 {
            return;
        }
        if self.rise > 0 {
            let expected = self.expected();
            self.rise = self.rise.saturating_sub(expected.saturating_mul(records));
        }
        self.records += records;
        self.row = 0;
    }

    /// So many records in a row lacked it: they say the same, one by one or all at once.
    pub(super) fn lack(&mut self, records: u64) {
        if records == 0 {
            return;
        }
        if self.rise == 0 && self.row == 0 {
            (self.from, self.expected) = ((self.records, self.absent), 0);
        }
        let row = records.saturating_add(u64::from(self.row)).min(u64::from(ROW_MAX)) as u8;
        if self.may_rise() {
            let expected = self.expected();
            self.rise = self.rise.saturating_add((WHOLE - expected).saturating_mul(u64::from(row - self.row)));
        }
        self.records += records;
        self.absent += records;
        self.row = row;
    }

    /// What is told by now, to learn anew what is usual: the share that was told is no more than that, should it come again.
    pub(super) fn once_told(&self) -> Self {
        let (records, absent) = (self.records - self.from.0, self.absent - self.from.1);
        let now = (2 * absent).saturating_mul(WHOLE).checked_div(records).unwrap_or(0);
        Self { told: self.told.max(now), ..Self::default() }
    }

    /// The same, where a person accepted it.
    pub(super) fn once_accepted(&self) -> Self {
        Self { told: self.told, ..Self::default() }
    }

    /// Whether it is known how many lack it, and no more than half are expected to.
    fn may_rise(&self) -> bool {
        let (records, absent) = self.from;
        records >= KNOWN_MIN && 2 * (absent + MORE) * WHOLE <= records * EXPECTED_MAX && self.told <= EXPECTED_MAX
    }

    /// How much of a record is expected to lack it: twice as many as did before the sum rose.
    fn expected(&mut self) -> u64 {
        if self.expected == 0 {
            self.expected = self.expected_anew();
        }
        self.expected
    }

    fn expected_anew(&self) -> u64 {
        let (records, absent) = self.from;
        let usual = (2 * (absent + MORE)).saturating_mul(WHOLE).checked_div(records).unwrap_or(WHOLE);
        usual.max(EXPECTED_MIN).max(self.told)
    }

    fn is_sure(&self) -> bool {
        self.rise >= SURE * WHOLE
    }

    /// An input was looked at.
    fn note(&mut self, offset: u64) {
        if self.rise == 0 {
            self.since = offset;
        }
    }

    fn change(&self) -> Change {
        let share = |absent: u64, records: u64| u16::try_from(absent * 1_000 / records.max(1)).unwrap_or(1_000);
        let (records, absent) = self.from;
        Change::Nulls { before: share(absent, records), now: share(self.absent - absent, self.records - records) }
    }
}

impl Drift {
    /// Tells what is there less often for good. It is looked for at records that are looked at anyway, wherever batches end.
    pub(super) fn look_for_waning(&mut self, offset: u64, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let so_far = self.as_ever;
        let mut waning = Vec::new();
        for (at, (watch, habit)) in self.watches.iter_mut().zip(&self.habits).enumerate() {
            // What brings nothing new goes on being counted together.
            watch.count_as_ever(so_far);
            watch.waning.note(offset);
            let is_seen = !watch.may_lack && (watch.case.is_none() || watch.is_typed);
            if habit.is_shown && is_seen && watch.waning.is_sure() {
                waning.push((at, watch.waning));
            }
        }
        for (at, found) in waning {
            if self.more_nulls(at, found.change(), found.since, offset, tree, facts) {
                // What it is from here on is learnt anew.
                self.watches[at].waning = self.watches[at].waning.once_told();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many records that all had it, every so many lack it: how many came until that is sure.
    fn sure_after(records: u64, one_in: u64, most: u64) -> Option<u64> {
        let mut waning = Waning::default();
        waning.have(records);
        (1..=most).find(|n| {
            if n.is_multiple_of(one_in) {
                waning.lack(1)
            } else {
                waning.have(1)
            }
            waning.is_sure()
        })
    }

    #[test]
    fn the_rarer_it_is_that_something_lacks_the_longer_it_takes_until_it_is_sure() {
        assert_eq!(sure_after(10_000, 2, 100), Some(52));
        assert!(sure_after(10_000, 25, 1_000).is_some_and(|n| (600..=750).contains(&n)));
        assert!(sure_after(10_000, 100, 5_000).is_some_and(|n| (3_000..=3_600).contains(&n)));
        assert_eq!(sure_after(10_000, 500, 100_000), None, "one in five hundred is told to nobody");
        assert_eq!(sure_after(100, 25, 20_000), None, "it always was so, as far as is known");
    }

    #[test]
    fn absences_that_come_in_rows_are_no_more_of_them() {
        let mut waning = Waning::default();
        waning.have(10_000);
        for rows in [19, 13, 19] {
            waning.lack(rows);
            waning.have(500);
            assert!(!waning.is_sure(), "{rows}");
        }
        let mut often = Waning::default();
        often.have(10_000);
        (0..9).for_each(|_| {
            often.lack(3);
            often.have(20);
        });
        assert!(often.is_sure(), "short ones again and again are");
    }

    #[test]
    fn a_share_that_was_told_is_not_told_again_when_it_comes_back_and_a_larger_one_is() {
        let feed = |waning: &mut Waning, records: u64, one_in: u64| {
            (1..=records).any(|n| {
                match n.is_multiple_of(one_in) {
                    true => waning.lack(1),
                    false => waning.have(1),
                }
                waning.is_sure()
            })
        };
        let mut waning = Waning::default();
        assert!(!feed(&mut waning, 10_000, 100) && feed(&mut waning, 10_000, 20), "by night, and by day");
        let mut accepted = waning.once_told().once_accepted();
        for _ in 0..5 {
            assert!(!feed(&mut accepted, 10_000, 100) && !feed(&mut accepted, 10_000, 20));
        }
        assert!(feed(&mut accepted, 10_000, 4));
    }

    #[test]
    fn records_that_are_counted_together_say_what_they_say_one_by_one() {
        for (records, absent) in [(998, 0), (5_000, 7), (5_000, 1_200), (0, 3)] {
            let mut one = Waning::default();
            one.have(records);
            one.lack(absent);
            one.have(1);
            let mut all = one;
            for (having, lacking) in [(30, 2), (0, 3), (40, 1), (700, 9), (1, 0)] {
                (0..having).for_each(|_| one.have(1));
                (0..lacking).for_each(|_| one.lack(1));
                all.have(having);
                all.lack(lacking);
                assert_eq!(one, all);
            }
        }
    }
}
