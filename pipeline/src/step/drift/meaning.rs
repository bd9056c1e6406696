//! Values that changed while their paths and types stayed: another unit, another way of writing, each other's. It is told
//! by the habits of the watched paths, looked at in the records whose values are profiled, and in every record as long as
//! something is suspect.

use std::borrow::Cow;

use schemas::decision::Fact;
use schemas::drift::{Change, Lost};
use schemas::shape::{ShapeTree, Slot, SlotKind, TypeClass, unescape};

use super::cases::Cause;
use super::former::take_of;
use super::habit::{Alarm, Habit, Held};
use super::style::{Reads, Style};
use super::traits::Traits;
use super::waning::Waning;
use super::watch::Watch;
use super::{Case, Drift, Passing, Phase};
use crate::step::rules::Rules;

/// Records that are looked at behind a suspect one.
const LOOKS: u8 = 16;
/// Of what is in a case for its type alone one record in so many is looked at for its nulls, as of all else.
const TYPED_EVERY: u64 = 31;
/// Fields whose texts are looked at for their traits: what a stream knows must fit a row of `Store`.
const TRAITS_MAX: usize = 256;

impl Drift {
    /// Has a habit for each watch; those of the same paths go on, and those of paths that have moved.
    pub(super) fn bind_habits(&mut self, rules: &Rules) {
        let mut before = std::mem::take(&mut self.habits);
        let mut traits_left = TRAITS_MAX;
        for watch in &self.watches {
            let known = take_of(&mut before, &watch.paths);
            let mut habit = known.unwrap_or_else(|| Habit::new(&watch.paths));
            (habit.reads, habit.is_shown) = reads(watch, rules);
            habit.has_traits = habit.reads == Reads::Text && traits_left > 0;
            traits_left -= usize::from(habit.has_traits);
            if !habit.has_traits {
                habit.traits = Traits::default();
            }
            self.habits.push(habit);
        }
    }

    /// Looks at the values of a record that flows.
    pub(super) fn see(&mut self, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        self.looks_left = self.looks_left.saturating_sub(1);
        let mut alarms = Vec::new();
        for (at, (watch, habit)) in self.watches.iter_mut().zip(&mut self.habits).enumerate() {
            // A record that brings nothing new was not looked at so far.
            watch.is_lacking(record.slots, record.payload.as_bytes());
            let value = value(watch, record);
            if watch.case.is_some() {
                // What flows though others lack it is of the old shape.
                let is_old = habit.held == Held::Nothing && !self.lacking.contains(&at);
                value.filter(|_| is_old).into_iter().for_each(|text| habit.learn(&text));
                continue;
            }
            let value = value.as_deref().map(str::trim_ascii).filter(|text| !text.is_empty());
            let is_null = is_null(watch, value);
            alarms.extend(habit.see(is_null, value, record.offset).map(|alarm| (at, alarm)));
            if habit.is_suspect() {
                self.looks_left = LOOKS;
            }
        }
        if !alarms.is_empty() {
            self.alarmed(alarms, record, tree, facts);
        }
    }

    /// Counts the nulls of what is in a case for its type alone: of all records, since of those that flow fewer have it.
    pub(super) fn see_typed(&mut self, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let mut alarms = Vec::new();
        for (at, (watch, habit)) in self.watches.iter().zip(&mut self.habits).enumerate() {
            if watch.is_typed && watch.usual.records.is_multiple_of(TYPED_EVERY) {
                let value = value(watch, record);
                let value = value.as_deref().map(str::trim_ascii).filter(|text| !text.is_empty());
                alarms.extend(habit.see_null(is_null(watch, value), record.offset).map(|alarm| (at, alarm)));
            }
        }
        if !alarms.is_empty() {
            self.alarmed(alarms, record, tree, facts);
        }
    }

    #[cold]
    fn alarmed(&mut self, alarms: Vec<(usize, Alarm)>, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let (nulls, alarms): (Vec<_>, Vec<_>) = alarms.into_iter().partition(|(_, a)| matches!(a, Alarm::Nulls(..)));
        self.alarmed_of_values(alarms, record, tree, facts);
        for (at, alarm) in nulls {
            if let Alarm::Nulls(before, now) = alarm {
                // Records that brought nothing new count as well.
                self.watches[at].count_as_ever(self.as_ever);
                if self.watches[at].may_lack {
                    // It may be null from here on, as a person accepted.
                    self.habits[at].rest();
                    continue;
                }
                let (change, since) = (Change::Nulls { before, now }, self.habits[at].since_nulls());
                if self.more_nulls(at, change, since, record.offset, tree, facts) {
                    self.habits[at].rest();
                }
            }
        }
    }

    fn alarmed_of_values(
        &mut self,
        alarms: Vec<(usize, Alarm)>,
        record: &Passing<'_>,
        tree: &ShapeTree,
        facts: &mut Vec<Fact>,
    ) {
        // A case is named by its input, so one that begins with another waits for the next look.
        let is_taken = self.notices.contains_key(&record.offset) || self.cases.contains_key(&record.offset);
        if is_taken && self.changed_case().is_none() {
            return;
        }
        let (mut since, mut is_told) = (u64::MAX, false);
        for (at, alarm) in alarms {
            if self.watches.get(at).is_none_or(|watch| watch.case.is_some()) {
                continue;
            }
            let (changed, began) = self.changed(at, &alarm, tree);
            since = since.min(began.filter(|_| !changed.is_empty()).unwrap_or(since));
            self.habits[at].take_as_usual(&alarm);
            for (at, change, held) in changed {
                self.hold_values(at, change, held, record.offset);
                is_told = true;
            }
        }
        if let Some(case) = self.changed_case().filter(|_| is_told) {
            self.told(case, tree, facts);
            self.recall(case, since, record.offset, facts);
        }
    }

    /// Has the records that were accepted behind an input looked at again, each once.
    fn recall(&mut self, id: u64, since: u64, until: u64, facts: &mut Vec<Fact>) {
        let Some(case) = self.cases.get_mut(&id) else { return };
        let ranges = match case.recalled {
            None => vec![(since, until)],
            Some((low, high)) => vec![(since, low), (since.max(high), until)],
        };
        case.recalled = Some((case.recalled.map_or(since, |(low, _)| low.min(since)), until));
        for (since, last) in ranges.into_iter().filter(|(since, last)| since < last) {
            case.reading.insert((until, since));
            facts.push(Fact::RecordsRecalled { case: id, since, until: last });
        }
    }

    /// What changed at a watch, and at the one that it was swapped with; and the input behind which it did.
    fn changed(&self, at: usize, alarm: &Alarm, tree: &ShapeTree) -> (Vec<(usize, Change, Held)>, Option<u64>) {
        let habit = &self.habits[at];
        let is_free = |other: &usize| *other != at && self.watches[*other].case.is_none();
        let others = || (0..self.habits.len()).filter(is_free);
        let with = |at: usize| Change::Swapped { with: self.path_of(at, tree) };
        if let Some(partner) = others().find(|other| habit.is_swapped(&self.habits[*other])) {
            let changed = vec![(at, with(partner), Held::All), (partner, with(at), Held::All)];
            return (changed, habit.since(alarm).or_else(|| habit.since(&Alarm::Strange)));
        }
        let exchanged = |other: usize| Some((other, habit.exchanged(&self.habits[other])?));
        if let Some((partner, began)) = others().find_map(exchanged) {
            let held = |at: usize| Held::Others(self.habits[at].paths.clone());
            return (vec![(at, with(partner), held(partner)), (partner, with(at), held(at))], Some(began));
        }
        let change = habit.change(alarm).map(|(change, held)| (at, change, held));
        (change.into_iter().collect(), habit.since(alarm))
    }

    fn path_of(&self, at: usize, tree: &ShapeTree) -> String {
        self.watches.get(at).and_then(|watch| self.seen_path(watch, tree)).unwrap_or_default()
    }

    /// The case of changed values that waits, if one does.
    fn changed_case(&self) -> Option<u64> {
        let is_it = |case: &Case| case.cause == Cause::Values && case.phase == Phase::Open;
        self.cases.iter().find(|(_, case)| is_it(case)).map(|(id, _)| *id)
    }

    fn hold_values(&mut self, at: usize, change: Change, held: Held, offset: u64) {
        let id = self.changed_case().unwrap_or(offset);
        let case = Case { cause: Cause::Values, phase: Phase::Open, ..Case::default() };
        self.cases.entry(id).or_insert(case);
        let (watch, habit) = (&mut self.watches[at], &mut self.habits[at]);
        (watch.case, habit.held, habit.change) = (Some(id), held, Some(change));
    }

    /// Adds to what a record lacks the watches whose values are held for what they mean.
    pub(super) fn lack_changed(&mut self, record: &Passing<'_>) {
        for (at, (watch, habit)) in self.watches.iter().zip(&self.habits).enumerate() {
            if watch.case.is_none() || watch.now == 0 || habit.held == Held::Nothing {
                continue;
            }
            let is_held = match &habit.held {
                Held::Others(paths) if record.is_recalled => self.may_be_swapped((watch, habit), paths, record),
                _ => {
                    let style = value(watch, record).and_then(|text| Style::of(&text, habit.reads));
                    habit.holds(style, record.is_recalled)
                }
            };
            if is_held && let Err(place) = self.lacking.binary_search(&at) {
                self.lacking.insert(place, at);
            }
        }
    }

    /// Whether the texts of a watch and of the one with these paths may be each other's in a record.
    fn may_be_swapped(&self, (watch, habit): (&Watch, &Habit), paths: &[String], record: &Passing<'_>) -> bool {
        let other = self.watches.iter().zip(&self.habits).find(|(_, other)| other.paths == paths);
        other.is_none_or(|(partner, other)| {
            let (own, others) = (value(watch, record), value(partner, record));
            habit.traits.may_be_exchanged(own.as_deref(), &other.traits, others.as_deref())
        })
    }

    /// Notes how the values of a held record are written.
    pub(super) fn note_held(&mut self, record: &Passing<'_>) {
        for at in &self.lacking {
            let (Some(watch), Some(habit)) = (self.watches.get(*at), self.habits.get_mut(*at)) else { continue };
            if let Some(style) = value(watch, record).and_then(|text| Style::of(&text, habit.reads)) {
                habit.hold(style);
            }
        }
    }

    /// What was held and comes again teaches what is learnt anew since a decision: most of what tells it has come so.
    pub(super) fn teach(&mut self, record: &Passing<'_>) {
        let decided = record.freed_by.and_then(|case| self.cases.get(&case));
        if decided.is_none_or(|case| case.phase != Phase::Over) {
            return;
        }
        for (watch, habit) in self.watches.iter().zip(&mut self.habits) {
            if habit.is_young
                && watch.case.is_none()
                && let Some(text) = value(watch, record)
            {
                habit.learn(&text);
            }
        }
    }

    /// What changed in the values of a watch that is in a case.
    pub(super) fn change_of(&self, watch: &Watch, is_retyped: bool) -> Option<Change> {
        let habit = self.habits.iter().find(|habit| habit.paths == watch.paths)?;
        habit.change.clone().or_else(|| habit.fresh_format().filter(|_| is_retyped))
    }

    /// How the values at a path differ from those that were lost, in size or in the way of writing.
    pub fn change_between(&self, lost: &Lost, path: &str, tree: &ShapeTree) -> Option<Change> {
        let habit = self.habits.iter().find(|habit| habit.paths == lost.paths)?;
        let parts = schemas::mapping::Path::new(path).ok().and_then(|path| path.choices().first().cloned())?;
        let profile = self.profiles.of(tree.find(&parts)?)?;
        let styles = profile.samples.iter().filter_map(|sample| Style::of(sample.value(), habit.reads));
        habit.change_to(&styles.collect::<Vec<_>>())
    }

    /// What the values of decided paths were says nothing of what they are, unless they go on elsewhere; nor does how many
    /// there were, of what is accepted as removed.
    pub(super) fn forget_values(&mut self, lost: &[Lost], is_removed: bool) {
        for habit in self.habits.iter_mut().filter(|habit| lost.iter().any(|lost| lost.paths == habit.paths)) {
            let were_nulls = |l: &Lost| l.paths == habit.paths && matches!(l.change, Some(Change::Nulls { .. }));
            if is_removed || lost.iter().any(were_nulls) {
                habit.forget_nulls();
            }
            match habit.goes_on && !is_removed {
                true => habit.let_go(),
                false => habit.forget_styles(),
            }
        }
        for watch in self.watches.iter_mut().filter(|watch| lost.iter().any(|lost| lost.paths == watch.paths)) {
            let is_share = |l: &Lost| l.paths == watch.paths && matches!(l.change, Some(Change::Nulls { .. }));
            let is_accepted = is_removed && lost.iter().any(is_share);
            watch.waning = if is_accepted { watch.waning.once_accepted() } else { Waning::default() };
        }
    }

    /// Holds for what values mean again, as a decision that is taken back had let them go.
    pub(super) fn hold_values_again(&mut self, lost: &[Lost]) -> Cause {
        let mut cause = Cause::Absence;
        for lost in lost {
            let change = lost.change.clone().filter(|change| !matches!(change, Change::Nulls { .. }));
            let habit = self.habits.iter_mut().find(|habit| habit.paths == lost.paths);
            if let (Some(change), Some(habit)) = (change, habit) {
                (habit.held, habit.change, cause) = (Held::All, Some(change), Cause::Values);
            }
        }
        cause
    }
}

/// What the values of a watch become, and whether a view shows them.
fn reads(watch: &Watch, rules: &Rules) -> (Reads, bool) {
    let of_feed = |feed: &String| rules.fields.iter().find(|field| field.name == *feed);
    let types: Vec<Reads> = watch.feeds.iter().filter_map(of_feed).map(|field| Reads::of(field.field_type)).collect();
    let first = |wanted: &Reads| types.contains(wanted);
    let reads = [Reads::Time, Reads::Number, Reads::Text].into_iter().find(first).unwrap_or_default();
    (reads, !types.is_empty())
}

/// Whether a record has nothing there, or a text without anything in it.
fn is_null(watch: &Watch, value: Option<&str>) -> bool {
    watch.now == 0 || (value.is_none() && watch.now == TypeClass::Text as u8)
}

/// The value of a watch in a record, if it is a text or a number.
fn value<'a>(watch: &Watch, record: &Passing<'a>) -> Option<Cow<'a, str>> {
    let slot = |slot: &u32| record.slots.get(*slot as usize).copied().unwrap_or_default();
    let has_value = |slot: &Slot| !matches!(slot.kind, SlotKind::Absent | SlotKind::Null);
    let found = watch.slots.iter().map(slot).find(has_value)?;
    let text = record.payload.get(found.start..found.end)?;
    match found.kind {
        SlotKind::Text | SlotKind::Number => Some(Cow::Borrowed(text)),
        SlotKind::EscapedText => {
            let mut plain = String::with_capacity(text.len());
            unescape(text, &mut plain);
            Some(Cow::Owned(plain))
        }
        _ => None,
    }
}
