//! Quantiles of numbers, from how many fell into each of some buckets: a sketch as DDSketch is one. A bucket is told from a
//! number's digits, in whole numbers alone, and in whatever order numbers come, the buckets are the same.

use serde::{Deserialize, Serialize};

/// Where buckets begin among the numbers of one size, by their first three digits: each is a tenth above the last, so that
/// a number is within 5 % of the middle of its own.
const BOUNDS: [u16; 25] = [
    100, 110, 121, 133, 146, 161, 177, 195, 214, 236, 259, 285, 314, 345, 380, 418, 459, 505, 556, 612, 673, 740, 814,
    895, 985,
];
/// Buckets that are kept, four powers of ten of them; where there are more, the lowest become one.
const BUCKETS_MAX: usize = 96;
/// Digits before the point, beyond which a number is as good as the largest …
const DIGITS_MAX: i32 = 40;
/// … and zeros behind it, beyond which it is as good as 0.
const ZEROS_MAX: i32 = 20;

/// How many numbers there were of each bucket, the lowest first. Buckets are counted from 0, which has 0 alone, upwards,
/// and downwards for what is negative.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles(Vec<(i16, u32)>);

impl Quantiles {
    /// Takes in a number as it is written; what is none is left out.
    pub(super) fn add(&mut self, text: &str) {
        let Some(bucket) = bucket(text) else { return };
        let Self(counts) = self;
        match counts.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => counts[at].1 = counts[at].1.saturating_add(1),
            Err(at) => counts.insert(at, (bucket, 1)),
        }
        if counts.len() > BUCKETS_MAX {
            let (_, lowest) = counts.remove(0);
            counts[0].1 = counts[0].1.saturating_add(lowest);
        }
    }

    /// Whether there was no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number that so many in a thousand are below, within 5 %; unless it is one of the lowest, and all of them are spread
    /// over more than four powers of ten, those of negative ones counted, too. For people: nothing is decided by it.
    pub fn below(&self, per_thousand: u64) -> Option<f64> {
        let all: u64 = self.0.iter().map(|(_, count)| u64::from(*count)).sum();
        let mut rank = all.checked_sub(1)? * per_thousand / 1_000;
        let found = self.0.iter().find(|(_, count)| match rank.checked_sub(u64::from(*count)) {
            Some(left) => {
                rank = left;
                false
            }
            None => true,
        });
        found.or(self.0.last()).map(|(bucket, _)| middle(*bucket))
    }
}

fn bucket(text: &str) -> Option<i16> {
    let text = text.trim_ascii();
    let digits = text.trim_start_matches(['-', '+']);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    let zeros = fraction.bytes().take_while(|b| *b == b'0').count();
    let before = if whole.is_empty() { -i32::try_from(zeros).ok()? } else { i32::try_from(whole.len()).ok()? };
    let mut significant = whole.bytes().chain(fraction.bytes()).filter(u8::is_ascii_digit).skip_while(|b| *b == b'0');
    let mut next = || u16::from(significant.next().unwrap_or(b'0') - b'0');
    let first = next() * 100 + next() * 10 + next();
    let size = before.saturating_add(exponent).min(DIGITS_MAX);
    if first == 0 || size < -ZEROS_MAX {
        return Some(0);
    }
    let of_size = BOUNDS.partition_point(|bound| *bound <= first).checked_sub(1)?;
    let place = usize::try_from(size + ZEROS_MAX).ok()? * BOUNDS.len() + of_size + 1;
    let bucket = i16::try_from(place).ok()?;
    Some(if text.starts_with('-') { -bucket } else { bucket })
}

/// A number that is as far, in proportion, from the least of a bucket as from the greatest.
fn middle(bucket: i16) -> f64 {
    let Some(place) = usize::from(bucket.unsigned_abs()).checked_sub(1) else { return 0.0 };
    let (size, of_size) = (place / BOUNDS.len(), place % BOUNDS.len());
    let bound = |at: usize| BOUNDS.get(at).map_or(1_000, |bound| u32::from(*bound));
    let (least, greatest) = (bound(of_size), bound(of_size + 1));
    let digits = 20 * least * greatest / (least + greatest);
    let sign = if bucket < 0 { "-" } else { "" };
    let power = i32::try_from(size).unwrap_or_default() - ZEROS_MAX - 4;
    format!("{sign}{digits}e{power}").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: impl IntoIterator<Item = String>) -> Quantiles {
        let mut all = Quantiles::default();
        texts.into_iter().for_each(|text| all.add(&text));
        all
    }

    #[test]
    fn every_number_is_within_a_twentieth_of_its_bucket() {
        let numbers = (1..3_000).map(|n| f64::from(n) * f64::from(n) / 7.0);
        for number in numbers.flat_map(|n| [n, n / 1e6, n * 1e9, -n]) {
            let found = middle(bucket(&number.to_string()).unwrap());
            assert!((found - number).abs() <= number.abs() * 0.05, "{number} and {found}");
        }
        for (text, expected) in [("0", 0.0), ("-0.00", 0.0), ("1e-30", 0.0), ("1.5e3", 1500.0), ("+2E-3", 0.002)] {
            let found = middle(bucket(text).unwrap());
            assert!((found - expected).abs() <= expected * 0.05, "{text} and {found}");
        }
        assert_eq!((bucket("1e5.3"), bucket("99999999999e99")), (None, bucket("99999999999e98")));
    }

    #[test]
    fn quantiles_are_those_of_the_numbers_whatever_their_order_and_sign() {
        let all = of((1..=2_000).map(|n| (n * 37 % 2_001).to_string()));
        for (per_thousand, expected) in [(50, 100.0), (500, 1_000.0), (950, 1_900.0), (1_000, 2_000.0)] {
            let found = all.below(per_thousand).unwrap();
            assert!((found - expected).abs() <= expected * 0.055, "{per_thousand}: {found}");
        }
        assert_eq!(all, of((1..=2_000).rev().map(|n| n.to_string())));
        let signed = of((-50..=50).map(|n| format!("{n}.5")));
        assert!(signed.below(50).unwrap() < -42.0 && signed.below(500).unwrap().abs() < 1.0);
        assert_eq!(Quantiles::default().below(500), None);
    }

    #[test]
    fn what_is_spread_over_many_powers_of_ten_stays_small_and_loses_its_lowest_alone() {
        let texts: Vec<String> = (0..4_000).map(|n| format!("{}e{}", 1 + n * 7 % 9_973, n % 12)).collect();
        let all = of(texts.clone());
        assert!(all.0.len() <= BUCKETS_MAX && serde_json::to_vec(&all).unwrap().len() < 1_200);
        assert_eq!(all, of(texts.iter().rev().cloned()));
        let mut numbers: Vec<f64> = texts.iter().map(|text| text.parse().unwrap()).collect();
        numbers.sort_by(f64::total_cmp);
        for per_thousand in [900, 950, 990] {
            let (found, exact) = (all.below(per_thousand).unwrap(), numbers[3_999 * per_thousand as usize / 1_000]);
            assert!((found - exact).abs() <= exact * 0.05, "{found} and {exact}");
        }
    }
}
