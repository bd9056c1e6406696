//! How often each way of writing values was seen, and what that tells of others.

use serde::{Deserialize, Serialize};

use super::style::Style;

/// One bit of evidence.
pub(super) const BIT: i32 = 16;
/// Powers of ten between two units that are looked for.
pub(super) const SHIFTS: [i8; 6] = [2, -2, 3, -3, 6, -6];
/// Powers of ten that could explain numbers.
const SHIFT_MAX: i8 = 8;

/// How often each way of writing was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts(pub(super) Vec<(Style, u32)>, pub(super) u32);

impl Counts {
    pub(super) fn of(&self, style: Style) -> u32 {
        self.0.binary_search_by_key(&style, |(known, _)| *known).ok().and_then(|at| self.0.get(at)).map_or(0, |c| c.1)
    }

    pub(super) fn add(&mut self, style: Style, count: u32) {
        match self.0.binary_search_by_key(&style, |(known, _)| *known) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (style, count)),
        }
        self.1 += count;
    }

    pub(super) fn halve_at(&mut self, max: u32) {
        if self.1 < max {
            return;
        }
        self.0.iter_mut().for_each(|(_, count)| *count /= 2);
        self.0.retain(|(_, count)| *count > 0);
        self.1 = self.0.iter().map(|(_, count)| count).sum();
    }

    /// Whether one in `share` or more are written so.
    pub(super) fn is_usual(&self, style: Style, share: u32) -> bool {
        self.of(style) * share >= self.1.max(1)
    }

    /// How most are written.
    fn most(&self) -> Option<Style> {
        let of_manner = |manner: Style| self.0.iter().filter(|(s, _)| s.manner() == manner).map(|c| c.1).sum::<u32>();
        let (most, _) = self.0.iter().max_by_key(|(style, _)| of_manner(style.manner()))?;
        // Of days that could be months, those that could not tell which they are.
        let telling = |(style, _): &&(Style, u32)| style.is_same_day(*most) && !style.is_unclear();
        let told = self.0.iter().filter(telling).max_by_key(|(_, count)| *count);
        Some(told.map_or(*most, |(style, _)| *style))
    }

    pub(super) fn name(&self) -> Option<String> {
        self.most().map(Style::name)
    }

    /// Evidence that numbers are by `shift` powers of ten larger than these.
    pub(super) fn for_shift(&self, style: Style, shift: i8) -> i32 {
        let before = style.shifted(-shift).map_or(0, |before| self.of(before));
        (bits(before + 1) - bits(self.of(style) + 1)).clamp(-3 * BIT, 2 * BIT)
    }

    /// By how many powers of ten numbers are larger than these, if they are otherwise as these are: no other power may
    /// explain them better. Numbers that grow have the next size first.
    pub(super) fn shift_of(&self, numbers: &[Style]) -> Option<i8> {
        let nearest_first = (1..=SHIFT_MAX).flat_map(|shift| [shift, -shift]);
        let likely = |shift: i8| self.likely(numbers, shift);
        let best = nearest_first.fold(0, |best, shift| if likely(shift) > likely(best) { shift } else { best });
        let fits = |style: &&Style| style.shifted(-best).is_some_and(|before| self.is_usual(before, 64));
        let fitting = numbers.iter().filter(fits).count();
        (SHIFTS.contains(&best) && fitting * 10 >= numbers.len() * 9).then_some(best)
    }

    /// How likely numbers are if they are these, so many powers of ten larger.
    pub(super) fn likely(&self, numbers: &[Style], shift: i8) -> i32 {
        let before = |style: &Style| style.shifted(-shift).map_or(0, |before| self.of(before));
        numbers.iter().map(|style| bits(before(style) + 1)).sum()
    }
}

/// The logarithm of a number, in sixteenths of bits.
pub(super) fn bits(number: u32) -> i32 {
    let number = number.max(1);
    let whole = number.ilog2();
    let part = (u64::from(number) << 4 >> whole) as i32 - BIT;
    whole as i32 * BIT + part
}
