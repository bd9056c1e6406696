//! What records have of something that the mapping reads, counted as they come.

use schemas::drift::feeds;
use schemas::shape::{Slot, SlotKind, TypeClass};

use super::since::Away;
use super::usual::{RUN, Usual};
use super::waning::Waning;
use super::watch::Watch;

/// What was accepted as gone is missed again once so many records in a row had it, and so many times as many as ever lacked
/// it in a row since it was first missed.
const STAYS: u64 = 1_000;
const STAYS_RUNS: u64 = 12;

/// What a record has of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Absent,
    /// It, or an object around it.
    Null,
    /// A value of this type, as a bit.
    Value(u8),
}

impl Watch {
    #[inline]
    fn see(&self, slots: &[Slot], payload: &[u8]) -> Seen {
        let slot = |slot: &u32| slots.get(*slot as usize).copied().unwrap_or_default();
        let mut seen = Seen::Absent;
        for found in self.slots.iter().map(slot) {
            let class = match found.kind {
                SlotKind::Absent => continue,
                SlotKind::Null => {
                    seen = Seen::Null;
                    continue;
                }
                SlotKind::True | SlotKind::False => TypeClass::Boolean,
                SlotKind::Number => TypeClass::Number,
                SlotKind::Text | SlotKind::EscapedText => TypeClass::Text,
                SlotKind::Nested if payload.get(found.start) == Some(&b'[') => TypeClass::Array,
                SlotKind::Nested => TypeClass::Object,
            };
            return Seen::Value(class as u8);
        }
        let is_null = || self.around.iter().any(|around| slot(around).kind == SlotKind::Null);
        if seen == Seen::Absent && is_null() { Seen::Null } else { seen }
    }

    /// Whether a record brings nothing new: it has what it should and of a type that it had before, or lacks what nobody
    /// misses, and no case is about it. Such records are not counted one by one: `so_far` of them came before this one.
    #[inline]
    pub(super) fn is_as_ever(&mut self, slots: &[Slot], payload: &[u8], so_far: u64) -> bool {
        if self.case.is_some() {
            return false;
        }
        let lacks = match self.see(slots, payload) {
            Seen::Absent => true,
            Seen::Null => false,
            Seen::Value(class) if class & self.types != 0 && self.learnt >= RUN => false,
            Seen::Value(_) => return false,
        };
        lacks == self.lacks || self.turns(lacks, so_far)
    }

    /// The records before had it and this one lacks it, or the other way round. False when that says something.
    fn turns(&mut self, lacks: bool, so_far: u64) -> bool {
        self.count_as_ever(so_far);
        let is_only = |feed: &String| feed == feeds::KEY || feed == feeds::VERSION;
        if lacks && (self.is_missed() || self.feeds.iter().all(is_only)) {
            return false;
        }
        self.lacks = lacks;
        true
    }

    /// Counts the records that brought nothing new, which are so many by now.
    pub(super) fn count_as_ever(&mut self, so_far: u64) {
        let records = so_far - std::mem::replace(&mut self.counted, so_far);
        match self.lacks {
            true => self.lack(records),
            false => self.had(records),
        }
    }

    /// So many records in a row had it.
    #[inline]
    fn had(&mut self, records: u64) {
        self.usual.have(records);
        self.waning.have(records);
        if self.may_lack && records > 0 {
            self.came_back();
        }
    }

    /// What may be missing is there: for so long, it is as if it never had been away.
    fn came_back(&mut self) {
        self.away.now = 0;
        let run = self.usual.run;
        if run >= STAYS.max(self.away.most.saturating_mul(STAYS_RUNS)) {
            (self.may_lack, self.away) = (false, Away::default());
            self.usual = Usual { records: run, present: run, run };
            self.waning = Waning::default();
            self.waning.have(run);
        }
    }

    /// So many records in a row lacked it, and flowed.
    pub(super) fn lack(&mut self, records: u64) {
        self.usual.lack(records);
        self.waning.lack(records);
        if self.may_lack {
            self.away.lack(records);
        }
    }

    /// The next records are looked at one by one, or are the first ones.
    pub(super) fn start_over(&mut self) {
        (self.lacks, self.counted) = (false, 0);
    }

    /// Looks for it in a record; true when it lacks it: none of its paths is there, or what is there is of a type that
    /// it never had. In a case for its type alone, only the latter counts.
    #[inline]
    pub(super) fn is_lacking(&mut self, slots: &[Slot], payload: &[u8]) -> bool {
        let seen = self.see(slots, payload);
        self.now = if let Seen::Value(class) = seen { class } else { 0 };
        self.is_absent = seen == Seen::Absent;
        (self.is_absent && !self.is_typed) || self.is_strange()
    }

    /// Whether what is there is of a type that it never had.
    #[inline]
    pub(super) fn is_strange(&self) -> bool {
        self.now & !self.types != 0 && self.learnt >= RUN
    }

    /// The record has it and flows.
    #[inline]
    pub(super) fn have(&mut self) {
        self.had(1);
        if self.now & !self.types != 0 || self.learnt < RUN {
            self.types |= self.now;
            self.learnt += u64::from(self.now != 0);
        }
    }

    /// A record since it was first missed. Of what is in a case for its type every one tells what is usual, and its values of
    /// what type it is.
    pub(super) fn count(&mut self, is_lacking: bool) {
        if self.is_typed {
            match self.is_absent {
                true => self.lack(1),
                false => self.had(1),
            }
            if self.now == 0 {
                self.since.passed += 1;
                return;
            }
        } else {
            self.count_waning();
        }
        if !is_lacking {
            self.since.having += 1;
            self.since.run += 1;
            self.away.now = 0;
            return;
        }
        match self.is_absent {
            true => self.away.lack(1),
            false => self.away.now = 0,
        }
        self.since.run = 0;
        self.since.lacking += 1;
        self.since.strange += u64::from(self.now != 0);
        self.since.types |= self.now;
    }

    /// Whether it is there less often is told by every record as it comes.
    fn count_waning(&mut self) {
        match self.is_absent {
            true => self.waning.lack(1),
            false => self.waning.have(1),
        }
    }
}
