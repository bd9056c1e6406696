//! Watches: what the mapping reads out of a record, and how often that is there.

use schemas::drift::{Lost, feeds};
use schemas::shape::{Slot, SlotKind, TypeClass};
use serde::{Deserialize, Serialize};

use super::sparse;
use super::waning::Waning;
use crate::step::rules::{Choice, Rules};

/// Present in so many records in a row, what is missing is missed …
const RUN: u64 = 20;
/// … or in so many, and in 99.9 % of all.
const MANY: u64 = 1_000;
/// Of what many records lack, a run must be so many times as long as runs of it usually are, to be missed: of a million
/// records that lack one at random in twenty, or more, it is once in a while.
const RUNS: u64 = 12;
/// Within so many records since something was first missed it is told whether it is back.
const WINDOW: u64 = 1_000;
/// So many records tell as much as waiting on would, when they all say the same.
const ENOUGH: u64 = 20;
/// What was accepted as gone is missed again once so many records in a row had it, and so many times as many as ever lacked
/// it in a row since it was first missed.
const STAYS: u64 = 1_000;
const STAYS_RUNS: u64 = 12;
/// Values of what only some records have, that must have come before a new type that most of them have is judged for want of
/// more.
const TELLING: u64 = 5;

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
    fn tolerated(&self, records: u64, with_new: bool) -> u64 {
        let usual = 2 * (self.absent() + 3) * records / self.records.max(1);
        let was_absent = self.absent() * 1_000 > self.records;
        let more = if was_absent && !with_new { 3 } else { 0 };
        usual.max(if with_new { 0 } else { records / 20 }) + more
    }
}

/// What was seen since something was first missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Since {
    pub(super) lacking: u64,
    pub(super) having: u64,
    /// Of the lacking: had it, but of a type that it never had, and these types.
    pub(super) strange: u64,
    pub(super) types: u8,
    /// Records in a row that had it, up to the last.
    #[serde(default)]
    pub(super) run: u64,
    /// Records without a value, of what is in a case for its type.
    #[serde(default)]
    pub(super) passed: u64,
}

/// Records in a row that lacked something, since it was first missed: up to the last, and the most there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Away {
    now: u64,
    most: u64,
}

impl Away {
    fn lack(&mut self, records: u64) {
        self.now += records;
        self.most = self.most.max(self.now);
    }

    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the records since then must say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Not yet.
    No,
    /// Their time is over; where too few came to tell, it may go on.
    Yes,
    /// It went on often enough.
    Last,
}

/// What the records since then say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is back at its usual rate.
    Back,
    /// It is gone, or rarer than it was.
    Gone,
    /// Too early to say.
    Unclear,
}

/// Something that the mapping reads: one path, or several of which any will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) paths: Vec<String>,
    pub(super) feeds: Vec<String>,
    #[serde(skip)]
    pub(super) slots: Vec<u32>,
    /// The objects around its paths: where one of them is null, it is null and not absent.
    #[serde(skip)]
    pub(super) around: Vec<u32>,
    pub(super) usual: Usual,
    /// The case that its absence belongs to.
    pub(super) case: Option<u64>,
    pub(super) since: Since,
    /// Held records that lack it, while it is in no case.
    pub(super) beside: u64,
    /// The types that it has, as bits, and how many values told so.
    pub(super) types: u8,
    pub(super) learnt: u64,
    /// In a case though only some records had it: those that have a new path are held for it, the others flow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_sparse: bool,
    /// In a case for a type that it never had, though only some records had it: its values tell, and what lacks it flows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_typed: bool,
    /// In such a case, and missed besides: what was seen of its type, until it is told whether it is back, or gone as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) of_type: Option<Box<Since>>,
    /// The source declares it no more, or of another type: it is missed from the first record on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_due: bool,
    /// A person accepted that it is gone: that a schema or a record lacks it is nothing new, until it has come to stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) may_lack: bool,
    /// How long it was away, while it is in a case or may be missing.
    #[serde(default, skip_serializing_if = "Away::is_none")]
    pub(super) away: Away,
    /// Whether it is there less often for good.
    #[serde(default)]
    pub(super) waning: Waning,
    /// The type in the record at hand, as a bit; 0 where there is no value.
    #[serde(skip)]
    pub(super) now: u8,
    /// Whether the record at hand lacks it; one that has it as null does not.
    #[serde(skip)]
    is_absent: bool,
    /// Whether the records that are not counted yet lack it; and how many records were counted, of those in a row that
    /// bring nothing new.
    #[serde(skip)]
    lacks: bool,
    #[serde(skip)]
    counted: u64,
}

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
    /// misses. Such records are not counted one by one: `so_far` of them came before this one.
    #[inline]
    pub(super) fn is_as_ever(&mut self, slots: &[Slot], payload: &[u8], so_far: u64) -> bool {
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

    /// What the record at hand lacks of it begins a case.
    pub(super) fn begin(&mut self, case: u64) {
        self.case = Some(case);
        if !self.may_lack {
            self.away = Away::default();
        }
        self.is_typed = self.is_strange() && !self.is_missed();
        self.is_sparse = !self.is_typed && !self.is_missed();
    }

    /// In a case for its type alone: the record at hand lacks it, which would begin a case by itself, and is missed from here
    /// on. One of what only some records have does where it came `with_new` paths. True when it is so.
    pub(super) fn widen(&mut self, with_new: bool) -> bool {
        let is_missed = self.is_missed();
        let is_wider = self.is_typed && self.is_absent && (is_missed || (with_new && self.is_sometimes()));
        if is_wider {
            self.of_type = Some(Box::new(std::mem::take(&mut self.since)));
            (self.is_typed, self.is_sparse, self.beside) = (false, !is_missed, 0);
        }
        is_wider
    }

    /// Whether it is missed beside its type, and not told yet whether it is back.
    pub(super) fn is_widened(&self) -> bool {
        self.of_type.is_some()
    }

    /// What the records say since it was missed beside its type. Back, it is in the case for its type alone again.
    pub(super) fn look_widened(&mut self) -> Look {
        let look = self.look(self.beside.max(1), 0, Due::No);
        if look == Look::Unclear {
            return look;
        }
        let mut of_type = self.of_type.take().unwrap_or_default();
        if look == Look::Gone {
            self.since.types |= of_type.types;
            return look;
        }
        let case = self.case;
        of_type.types |= std::mem::take(&mut self.since.types);
        self.settle();
        (self.case, self.since, self.is_typed) = (case, *of_type, true);
        look
    }

    /// The types that it has are all that it may have.
    pub(super) fn know_types(&mut self) {
        self.learnt = self.learnt.max(RUN);
    }

    /// Whether a record that lacks it is suspect.
    pub(super) fn is_missed(&self) -> bool {
        self.is_due || (!self.may_lack && self.usual.is_steady())
    }

    /// Whether it is known how often it comes, though no single absence tells anything.
    pub(super) fn is_sometimes(&self) -> bool {
        self.usual.is_known() && !self.is_missed()
    }

    /// A person accepted that it is gone, or decided otherwise of it.
    pub(super) fn decided(&mut self, may_lack: bool) {
        self.may_lack = may_lack;
        if !may_lack {
            self.away = Away::default();
        }
    }

    /// What it has been so far counts no more.
    pub(super) fn forget_types(&mut self) {
        (self.types, self.learnt) = (0, 0);
    }

    /// Whether a record that brings its key or version itself can do without it.
    pub(super) fn is_needless(&self, has_key: bool, has_version: bool) -> bool {
        self.feeds.iter().all(|feed| (has_key && feed == feeds::KEY) || (has_version && feed == feeds::VERSION))
    }

    /// What the records since it was first missed say; at the end of the time they must say something. Of `held` records
    /// `with_new` had a path that was new.
    pub(super) fn look(&self, held: u64, with_new: u64, due: Due) -> Look {
        let Since { mut lacking, mut having, strange, .. } = self.since;
        if self.is_widened() {
            // What is of another type is there.
            (lacking, having) = (lacking - strange, having + strange);
        }
        let (records, with_new) = (lacking + having, with_new * 2 >= held);
        if self.is_due && lacking > 0 {
            return Look::Gone;
        }
        let due = if records + self.since.passed >= WINDOW { Due::Last } else { due };
        if self.is_sparse {
            let since = Since { lacking, having, ..self.since };
            return sparse::look(&self.usual, &since, held, due);
        }
        // Of its type only what had it tells.
        let before = self.usual.present.saturating_sub(records);
        let usual = if self.is_typed { Usual { records: before, present: before, run: 0 } } else { self.usual };
        let is_rarer = lacking > usual.tolerated(records, with_new);
        let told = |is_rarer: bool| if is_rarer { Look::Gone } else { Look::Back };
        let is_few = records < ENOUGH && having > lacking;
        match due {
            // Of too few one that lacks it is one too many, unless most say the same: they are waited on …
            Due::Yes if (is_few && is_rarer) || (self.is_typed && records < TELLING) => Look::Unclear,
            // … and where no others come, one says nothing.
            Due::Last if is_few => told(lacking > usual.tolerated(ENOUGH, with_new)),
            Due::Yes | Due::Last => told(is_rarer),
            Due::No if !is_rarer && having >= ENOUGH => Look::Back,
            Due::No if is_rarer && lacking >= ENOUGH && lacking * 2 > records => Look::Gone,
            Due::No => Look::Unclear,
        }
    }

    /// The same, of all that a case is about: what is missed beside its type has an end of its own.
    pub(super) fn look_at_case(&self, held: u64, with_new: u64, due: Due) -> Look {
        match self.look(held, with_new, due) {
            Look::Back if self.is_widened() && due != Due::Last => Look::Unclear,
            look => look,
        }
    }

    /// It belongs to no case any more; what was seen meanwhile counts.
    pub(super) fn settle(&mut self) {
        let Since { lacking, having, strange, types, run, .. } = std::mem::take(&mut self.since);
        self.types |= types | self.of_type.take().map_or(0, |of_type| of_type.types);
        // Of what is in a case for its type every record has counted already.
        if !self.is_typed {
            self.usual.records += lacking + having;
            self.usual.present += having + strange;
            // What had it since then says as much as it would have said before: the next without it is suspect again.
            self.usual.run = run;
        }
        self.leave();
    }

    /// It belongs to no case any more.
    pub(super) fn leave(&mut self) {
        (self.case, self.since, self.beside) = (None, Since::default(), 0);
        (self.is_sparse, self.is_typed, self.is_due, self.of_type) = (false, false, false, None);
    }

    pub(super) fn lost(&self, seen: Option<String>) -> Lost {
        let last = || self.paths.last().cloned().unwrap_or_default();
        let since = self.of_type.as_deref().unwrap_or(&self.since);
        let retyped = since.strange * 2 > since.lacking;
        let (paths, feeds) = (self.paths.clone(), self.feeds.clone());
        Lost { path: seen.unwrap_or_else(last), paths, feeds, retyped, change: None }
    }
}

/// What a mapping reads. A field of several rules is there when the source of any of them is.
pub(super) fn watches(rules: &Rules) -> Vec<Watch> {
    let mut all = Vec::new();
    for part in &rules.key {
        add(&mut all, &[part], feeds::KEY);
    }
    if let Some((version, _)) = &rules.version {
        add(&mut all, &[version], feeds::VERSION);
    }
    for (sign, _) in &rules.deleted {
        add(&mut all, &[sign], feeds::DELETED);
    }
    for field in &rules.fields {
        match &field.rules[..] {
            [rule] => rule.from.iter().for_each(|part| add(&mut all, &[part], &field.name)),
            rules => add(&mut all, &rules.iter().flat_map(|rule| &rule.from).collect::<Vec<_>>(), &field.name),
        }
    }
    all
}

fn add(all: &mut Vec<Watch>, choices: &[&Choice], feed: &str) {
    let (mut slots, mut paths, mut around) = (Vec::new(), Vec::new(), Vec::new());
    for choice in choices {
        around.extend_from_slice(&choice.around);
        for (slot, path) in choice.slots.iter().zip(&choice.paths) {
            if !slots.contains(slot) {
                slots.push(*slot);
                paths.push(path.clone());
            }
        }
    }
    if slots.is_empty() {
        return;
    }
    match all.iter_mut().find(|watch| watch.slots == slots) {
        Some(watch) if watch.feeds.iter().any(|known| known == feed) => {}
        Some(watch) => watch.feeds.push(feed.to_owned()),
        None => all.push(Watch { paths, feeds: vec![feed.to_owned()], slots, around, ..Watch::default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(present: u64, absent: u64, run: u64) -> Usual {
        Usual { records: present + absent, present, run }
    }

    fn look(usual: Usual, lacking: u64, having: u64, is_due: bool) -> Look {
        let since = Since { lacking, having, ..Since::default() };
        let due = if is_due { Due::Yes } else { Due::No };
        Watch { usual, since, case: Some(1), ..Watch::default() }.look(1, 0, due)
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

    #[test]
    fn a_field_that_is_gone_is_told_from_one_that_is_rare() {
        let always = usual(10_000, 0, 10_000);
        assert_eq!(look(always, 19, 0, false), Look::Unclear);
        assert_eq!(look(always, 20, 0, false), Look::Gone);
        assert_eq!(look(always, 1, 20, false), Look::Back);
        assert_eq!(look(always, 3, 20, false), Look::Unclear);
        assert_eq!(look(always, 500, 500, false), Look::Gone);
        assert_eq!(look(always, 1, 0, true), Look::Gone, "nothing says that it is back");
        let often = usual(9_500, 500, 20);
        assert_eq!(look(often, 2, 0, true), Look::Back, "one in twenty was always missing");
        assert_eq!(look(often, 60, 940, false), Look::Back);
        assert_eq!(look(often, 20, 0, false), Look::Gone);
        assert_eq!(look(always, 1, 1, true), Look::Gone, "half of them lack it");
        assert_eq!(look(always, 1, 10, true), Look::Unclear, "it is waited on");
        assert_eq!(look(usual(20, 0, 20), 40, 960, false), Look::Back, "twenty records know little of what is rare");
    }
}
