//! Habits: what the values of a watched path usually are. How many are null, how they are written, how large they are.
//!
//! Each is a sum that falls while records are as usual and rises while they are not, so that a few strange ones tell
//! nothing and many in a row tell soon (Page's cumulative sum). Sums are whole numbers: sixteenths of bits, thousandths.

use std::collections::BTreeSet;

use schemas::drift::Change;
use serde::{Deserialize, Serialize};

use super::counts::{BIT, Counts, SHIFTS, bits};
use super::style::{Reads, Style, UNKNOWN};
use super::traits::Traits;

/// A share of nulls that is so much above the usual, in thousandths, is not yet more than usual.
const SLACK: u64 = 75;
/// So many nulls too many, in thousandths, are a jump.
const JUMP: u64 = 25_000;
/// From so many on every record is looked at: of many records one in thirty is looked at, and while it rises all the others
/// flow without a value.
const RISING: u64 = 6_000;
/// Records before there is a usual share.
const SHARE_MIN: u64 = 50;

/// So much evidence is enough for a way of writing …
const SURE_STYLE: i32 = 40 * BIT;
/// … and for a unit.
const SURE_UNIT: i32 = 36 * BIT;
/// From so much on every record is looked at.
const SUSPECT: i32 = 6 * BIT;
/// Values before there is a usual way of writing …
const STYLE_MIN: u32 = 20;
/// … and a usual size.
const SIZE_MIN: u32 = 40;
/// Counts are halved when they come to so many: what was long ago counts less.
const COUNTED_MAX: u32 = 512;
/// From so many on what is learnt anew is known.
const YOUNG_MAX: u32 = COUNTED_MAX / 2;
/// The last values count for nothing yet: what is strange must not become usual while it is judged.
const RECENT: usize = 48;
/// Of them the first, which were as usual when the last began to be strange …
const OLDER: usize = 16;
/// … and the last, by which it is told what changed.
const LATEST: usize = 12;
/// Of so many values in a row, these many of one size make the size one that the values may come back to.
const BLOCK: usize = 16;
const BLOCK_MIN: usize = 8;
/// Counts of all values are halved when they come to so many, as a bound.
const HISTORY_MAX: u32 = 1 << 24;
/// Values of held records that are counted.
const FRESH_MAX: u32 = 1_000;

/// What the values of a watched path usually are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Habit {
    /// The paths of the watch.
    pub(super) paths: Vec<String>,
    #[serde(skip)]
    pub(super) reads: Reads,
    /// Whether a view shows it, so that nulls are missed.
    #[serde(skip)]
    pub(super) is_shown: bool,
    /// Whether its texts are looked at for their traits.
    #[serde(skip)]
    pub(super) has_traits: bool,
    /// Whether a decision has it go on at another path, until the mapping of that is bound.
    #[serde(skip)]
    pub(super) goes_on: bool,
    /// Since a decision its values are learnt anew, and few were seen so far.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_young: bool,
    nulls: Nulls,
    /// How often each way of writing was seen, and all together.
    styles: Counts,
    /// The sizes of all its numbers, not only of the last ones.
    #[serde(default)]
    sizes: Sizes,
    /// The last values, the latest at the end, each with its leading digits.
    recent: Vec<(Style, u8)>,
    /// What its texts look like besides; of texts alone.
    #[serde(default)]
    pub(super) traits: Traits,
    /// How strange the last ways of writing are.
    strange: Sum,
    /// How well the last numbers fit each of [`SHIFTS`].
    shifts: Vec<Sum>,
    /// What is held while a case is open.
    pub(super) held: Held,
    /// What changed, by that case.
    pub(super) change: Option<Change>,
    /// How the values of held records are written.
    fresh: Counts,
}

/// The sizes of all numbers so far: a file that is sorted by them begins again with sizes that the last values lack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sizes {
    counts: Counts,
    /// A bit for each size that most of some values in a row had.
    blocks: u32,
}

impl Sizes {
    /// The first of some values in a row is one of all.
    fn add(&mut self, first: Style, row: &[(Style, u8)]) {
        if !first.is_plain() {
            return;
        }
        self.counts.add(first, 1);
        self.counts.halve_at(HISTORY_MAX);
        if row.iter().take(BLOCK).filter(|(style, _)| *style == first).count() >= BLOCK_MIN {
            self.blocks |= first.size_bit();
        }
    }

    /// Evidence that numbers are by `shift` powers of ten larger than all so far, at most.
    fn for_shift(&self, style: Style, shift: i8) -> i32 {
        match self.blocks & style.size_bit() {
            0 => self.counts.for_shift(style, shift),
            _ => 0,
        }
    }
}

/// Which values are held for what they mean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Held {
    /// None.
    #[default]
    Nothing,
    /// All: nothing tells an old value from a new one, but that a number is likelier to be one of them.
    Unit(i8),
    /// What is written so, and what was never written so before.
    Written(Vec<Style>),
    /// All, until it is decided what they are.
    All,
    /// All, and of those from before it was sure what may be of the watch with these paths.
    Others(Vec<String>),
}

/// What the values that were seen last are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Alarm {
    /// More of them are null: the share before and now, in thousandths.
    Nulls(u16, u16),
    /// They are strange; whether so is for others to say.
    Strange,
    /// They are by so many powers of ten too large.
    Unit(i8),
    /// They are texts unlike its own; whether another's is for others to say.
    Unlike,
}

/// A sum of evidence, and the input up to which there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sum(i32, u64);

impl Sum {
    fn add(&mut self, evidence: i32, offset: u64) {
        self.0 = (self.0 + evidence).max(0);
        if self.0 == 0 {
            self.1 = offset;
        }
    }
}

/// Nulls so far, and since their share rises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Nulls {
    looks: u64,
    nulls: u64,
    rise: u64,
    /// `looks` and `nulls` when it began to rise, and the input.
    from: (u64, u64),
    since: u64,
    /// The input that was looked at last.
    #[serde(default)]
    last: u64,
}

impl Nulls {
    fn see(&mut self, is_null: bool, offset: u64) -> Option<Alarm> {
        let usual = self.nulls * 1_000 / self.looks.max(1);
        if self.rise == 0 {
            // What came behind the last one that was as usual was not looked at.
            let last = if self.last > 0 { self.last } else { offset };
            (self.from, self.since) = ((self.looks, self.nulls), last);
        }
        self.last = offset;
        let risen = self.rise + if is_null { 1_000 } else { 0 };
        self.rise = if self.looks < SHARE_MIN { 0 } else { risen.saturating_sub(usual + SLACK) };
        self.looks += 1;
        self.nulls += u64::from(is_null);
        if self.rise < JUMP {
            return None;
        }
        let share = |nulls: u64, looks: u64| u16::try_from(nulls * 1_000 / looks.max(1)).unwrap_or(1_000);
        let (looks, nulls) = self.from;
        Some(Alarm::Nulls(share(nulls, looks), share(self.nulls - nulls, self.looks - looks)))
    }
}

/// The first two digits of a number, zeros before them left out.
fn leading_digits(text: &str) -> u8 {
    let digits = text.bytes().filter(u8::is_ascii_digit).skip_while(|b| *b == b'0').take(2);
    digits.fold(0, |number, digit| number * 10 + (digit - b'0'))
}

impl Habit {
    /// Of a watch that reads these paths, of which nothing is known yet.
    pub(super) fn new(paths: &[String]) -> Self {
        Self { paths: paths.to_vec(), ..Self::default() }
    }

    /// Whether it reads these paths, and maybe others.
    pub(super) fn is_of(&self, paths: &[String]) -> bool {
        paths.iter().all(|path| self.paths.contains(path))
    }

    /// A record has it so, or as null. Says what is wrong once that is sure.
    pub(super) fn see(&mut self, is_null: bool, value: Option<&str>, offset: u64) -> Option<Alarm> {
        let nulls = self.see_null(is_null, offset);
        let value = value.and_then(|text| Some((Style::of(text, self.reads)?, text)));
        let Some((style, text)) = value else { return nulls };
        let sure = self.judge(style, offset);
        self.take(style, text);
        let is_unlike = self.has_traits && self.traits.see(text, offset);
        sure.or(is_unlike.then_some(Alarm::Unlike)).or(nulls)
    }

    /// A record has it as null, or not; nothing is said of its value.
    pub(super) fn see_null(&mut self, is_null: bool, offset: u64) -> Option<Alarm> {
        if self.is_shown { self.nulls.see(is_null, offset) } else { None }
    }

    /// A value is as its values are, whatever it is.
    pub(super) fn learn(&mut self, value: &str) {
        if let Some(style) = Style::of(value, self.reads) {
            self.take(style, value);
            if self.has_traits {
                self.traits.learn(value);
            }
        }
    }

    fn take(&mut self, style: Style, value: &str) {
        if self.recent.len() == RECENT {
            let (old, _) = self.recent[0];
            self.sizes.add(old, &self.recent);
            self.recent.remove(0);
            self.styles.add(old, 1);
            self.styles.halve_at(COUNTED_MAX);
            self.is_young &= self.styles.1 < YOUNG_MAX;
        }
        self.recent.push((style, leading_digits(value)));
    }

    fn judge(&mut self, style: Style, offset: u64) -> Option<Alarm> {
        let Counts(_, all) = self.styles;
        if all < STYLE_MIN {
            return None;
        }
        // Against a change to whatever: as if one in eight were written so.
        let strange = bits(all + 16) - bits(self.styles.of(style) + 1) - 3 * BIT;
        self.strange.add(strange.clamp(-4 * BIT, 3 * BIT), offset);
        if self.reads == Reads::Number && style.is_plain() && all >= SIZE_MIN {
            self.shifts.resize(SHIFTS.len(), Sum(0, offset));
            for (sum, shift) in self.shifts.iter_mut().zip(SHIFTS) {
                // A size that is usual among all numbers is no other unit, however unlike the last ones it is.
                let evidence = self.styles.for_shift(style, shift);
                sum.add(evidence.min(self.sizes.for_shift(style, shift)), offset);
            }
        }
        let sums = self.shifts.iter().map(|sum| sum.0).zip(SHIFTS);
        match sums.max_by_key(|(sum, _)| *sum) {
            Some((sum, shift)) if sum >= SURE_UNIT => Some(Alarm::Unit(shift)),
            _ if self.strange.0 >= SURE_STYLE => Some(Alarm::Strange),
            _ => None,
        }
    }

    /// Whether what was seen last is strange enough to look at every record.
    pub(super) fn is_suspect(&self) -> bool {
        let is_rising = self.is_shown && self.nulls.rise >= RISING;
        let is_of_another_unit = self.shifts.iter().any(|sum| sum.0 >= SUSPECT);
        is_rising || self.strange.0 >= SUSPECT || is_of_another_unit || self.traits.is_suspect()
    }

    /// The input behind which the evidence of an alarm began.
    pub(super) fn since(&self, alarm: &Alarm) -> Option<u64> {
        let of_shift = |shift: i8| SHIFTS.iter().position(|known| *known == shift).and_then(|at| self.shifts.get(at));
        match alarm {
            Alarm::Unit(shift) => of_shift(*shift).map(|sum| sum.1),
            Alarm::Strange => Some(self.strange.1),
            Alarm::Nulls(..) | Alarm::Unlike => None,
        }
    }

    /// The input behind which the share of nulls began to rise.
    pub(super) fn since_nulls(&self) -> u64 {
        self.nulls.since
    }

    /// What changed, if the last values are plainly something that can be said: else it is as good as usual.
    pub(super) fn change(&self, alarm: &Alarm) -> Option<(Change, Held)> {
        match alarm {
            Alarm::Unit(shift) => {
                let is_it = self.styles.shift_of(&self.latest()) == Some(*shift) && self.is_jump(*shift);
                is_it.then_some((Change::Unit { shift: *shift }, Held::Unit(*shift)))
            }
            Alarm::Strange if self.reads == Reads::Time || self.reads == Reads::Number => self.rewritten(),
            Alarm::Strange | Alarm::Nulls(..) | Alarm::Unlike => None,
        }
    }

    /// Whether the last numbers are as far from those shortly before as from all others, and as many: numbers that grow
    /// come from the next size, and a number that is always the same is no other unit.
    fn is_jump(&self, shift: i8) -> bool {
        let latest = self.latest();
        let Some(older) = self.recent.get(..OLDER).filter(|_| self.recent.len() == RECENT) else { return false };
        let mut before = Counts::default();
        older.iter().for_each(|(style, _)| before.add(*style, 1));
        let nearer = (0..shift.abs()).map(|near| near * shift.signum());
        let is_far = before.likely(&latest, shift) > nearer.map(|near| before.likely(&latest, near)).max().unwrap_or(0);
        let distinct = |values: &[(Style, u8)]| values.iter().map(|(_, digits)| digits).collect::<BTreeSet<_>>().len();
        is_far && distinct(self.last()) * 2 >= distinct(older) && !self.is_sorted()
    }

    /// Whether the numbers before the last grew, or sank, from size to size: another unit is one step, a sorted file has
    /// several.
    fn is_sorted(&self) -> bool {
        let before = self.recent.get(..self.recent.len().saturating_sub(1)).unwrap_or_default();
        let sizes = || before.iter().map(|(style, _)| *style);
        let first = sizes().take(OLDER).filter(|style| before.first().is_some_and(|(first, _)| first == style)).count();
        let is_ordered = sizes().is_sorted() || sizes().rev().is_sorted();
        is_ordered && first >= BLOCK_MIN && sizes().collect::<BTreeSet<_>>().len() > 2
    }

    fn rewritten(&self) -> Option<(Change, Held)> {
        let mut now = Counts::default();
        self.latest().iter().for_each(|style| now.add(*style, 1));
        let (from, to) = (self.styles.name()?, now.name()?);
        let written = now.0.iter().map(|(style, _)| *style).filter(|style| !style.is_plain()).collect();
        (from != to).then_some((Change::Format { from, to }, Held::Written(written)))
    }

    fn last(&self) -> &[(Style, u8)] {
        self.recent.get(self.recent.len().saturating_sub(LATEST)..).unwrap_or_default()
    }

    fn latest(&self) -> Vec<Style> {
        self.last().iter().map(|(style, _)| *style).collect()
    }

    /// Whether the last values of two are each other's.
    pub(super) fn is_swapped(&self, other: &Self) -> bool {
        self.reads == other.reads && self.has_those_of(other) && other.has_those_of(self)
    }

    /// Whether the last texts of two are each other's, by what they look like; the input behind which they are.
    pub(super) fn exchanged(&self, other: &Self) -> Option<u64> {
        if self.has_traits && other.has_traits { self.traits.exchanged(&other.traits) } else { None }
    }

    /// Evidence that the last values are another's rather than one's own: three bits of every second value.
    fn has_those_of(&self, other: &Self) -> bool {
        let share = |counts: &Counts, style: Style| bits(counts.of(style) + 1) - bits(counts.1 + 16);
        let evidence = |style: &Style| (share(&other.styles, *style) - share(&self.styles, *style)).min(3 * BIT);
        let latest = self.latest();
        latest.len() == LATEST && latest.iter().map(evidence).sum::<i32>() >= LATEST as i32 * BIT * 3 / 2
    }

    /// What an alarm was about is usual from here on.
    pub(super) fn take_as_usual(&mut self, alarm: &Alarm) {
        match alarm {
            Alarm::Unit(shift) => {
                let sums = self.shifts.iter_mut().zip(SHIFTS).filter(|(_, known)| known == shift);
                sums.for_each(|(sum, _)| sum.0 = 0);
            }
            Alarm::Strange | Alarm::Nulls(..) => self.strange.0 = 0,
            Alarm::Unlike => {}
        }
    }

    /// The jump of nulls was told.
    pub(super) fn rest(&mut self) {
        self.nulls.rise = 0;
    }

    /// The share of nulls is what it is from here on.
    pub(super) fn forget_nulls(&mut self) {
        self.nulls = Nulls::default();
    }

    /// What its values were says nothing of what they are.
    pub(super) fn forget_styles(&mut self) {
        let Self { paths, reads, is_shown, goes_on, nulls, .. } = std::mem::take(self);
        *self = Self { paths, reads, is_shown, goes_on, nulls, is_young: true, ..Self::default() };
    }

    /// Its case is decided: nothing of it is held, and its values are what they were.
    pub(super) fn let_go(&mut self) {
        (self.held, self.change, self.fresh) = (Held::Nothing, None, Counts::default());
    }

    /// Its values are what they were before a decision.
    pub(super) fn restore(&mut self, former: Self) {
        let Self { reads, is_shown, has_traits, .. } = *self;
        *self = Self { reads, is_shown, has_traits, ..former };
        if !has_traits {
            self.traits = Traits::default();
        }
        self.let_go();
    }

    /// Whether a value is held; one from before it was sure only if it is likelier to be a new one.
    pub(super) fn holds(&self, style: Option<Style>, is_recalled: bool) -> bool {
        match (&self.held, style) {
            (Held::Nothing, _) => false,
            (Held::Unit(shift), Some(style)) if is_recalled => self.styles.for_shift(style, *shift) > 0,
            (Held::Written(written), Some(style)) => {
                written.contains(&style) || !(style.is_plain() || self.styles.is_usual(style, 64))
            }
            (Held::Written(_), None) => false,
            (Held::All, Some(style)) if is_recalled => !self.styles.is_usual(style, 8),
            (Held::Unit(_) | Held::All | Held::Others(_), _) => true,
        }
    }

    /// A held record has it so.
    pub(super) fn hold(&mut self, style: Style) {
        if self.fresh.1 < FRESH_MAX {
            self.fresh.add(style, 1);
        }
    }

    /// How its values are, the last ones among them.
    fn all(&self) -> Counts {
        let mut all = self.styles.clone();
        self.recent.iter().for_each(|(style, _)| all.add(*style, 1));
        all
    }

    /// How the values of held records are written, where that is not as it was.
    pub(super) fn fresh_format(&self) -> Option<Change> {
        let (from, to) = (self.all().name()?, self.fresh.name()?);
        let is_told = matches!(self.reads, Reads::Time | Reads::Number) && to != UNKNOWN;
        (is_told && from != to).then_some(Change::Format { from, to })
    }

    /// How values of elsewhere differ from its own.
    pub(super) fn change_to(&self, values: &[Style]) -> Option<Change> {
        let (before, mut now) = (self.all(), Counts::default());
        if before.1 < STYLE_MIN || values.len() < 3 || !matches!(self.reads, Reads::Number | Reads::Time) {
            return None;
        }
        values.iter().for_each(|style| now.add(*style, 1));
        let (from, to) = (before.name()?, now.name()?);
        if from != to {
            return Some(Change::Format { from, to });
        }
        let numbers: Vec<Style> = values.iter().copied().filter(|style| style.is_plain()).collect();
        let shift = before.shift_of(&numbers).filter(|_| self.reads == Reads::Number)?;
        Some(Change::Unit { shift })
    }
}
