//! Profiles: what a field's sample values look like.

use serde_json::Value;

use crate::format::{FORMATS, Format, format, kinship};
use crate::text;

/// Samples that are looked at.
pub const SAMPLES_MAX: usize = 64;
/// Characters of a sample that are looked at.
const SAMPLE_CHARS_MAX: usize = 256;

/// What a field's values look like together.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// Values that are not null.
    pub count: usize,
    /// Share of nulls.
    pub null_rate: Option<f32>,
    formats: [f32; FORMATS],
    is_list: bool,
    values: Vec<u64>,
    words: Vec<u64>,
    masks: Vec<u64>,
    /// Mean length in characters, as a logarithm.
    length: f32,
    /// Shares of digits, letters, capitals, spaces and other signs.
    signs: [f32; 5],
    /// Numbers or days, sorted.
    numbers: Vec<f64>,
    distinct: f32,
}

impl Profile {
    /// Looks at values.
    pub fn new(samples: &[Value], null_rate: Option<f32>) -> Self {
        let mut profile = Self { null_rate, ..Self::default() };
        let samples = &samples[..samples.len().min(SAMPLES_MAX)];
        let nulls = samples.iter().filter(|s| s.is_null()).count();
        if null_rate.is_none() && nulls > 0 {
            profile.null_rate = Some(nulls as f32 / samples.len() as f32);
        }
        for sample in samples {
            profile.add(sample);
        }
        profile.finish();
        profile
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(b) => {
                self.note(Format::Boolean, if *b { "true" } else { "false" }, Some(f64::from(u8::from(*b))))
            }
            Value::Number(n) => self.add_text(&n.to_string()),
            Value::String(s) => self.add_text(s.trim()),
            Value::Array(list) => {
                self.is_list = true;
                list.iter().filter(|v| !v.is_array()).take(4).for_each(|v| self.add(v));
            }
            Value::Object(map) => {
                map.keys().take(16).for_each(|key| self.words.push(hash(key)));
                self.note(Format::Object, "{}", None);
            }
        }
    }

    fn add_text(&mut self, text: &str) {
        let text: &str = text.char_indices().nth(SAMPLE_CHARS_MAX).map_or(text, |(at, _)| &text[..at]);
        if text.is_empty() {
            return;
        }
        let (format, number) = format(text);
        self.note(format, text, number);
        if matches!(format, Format::Phrase | Format::Text | Format::Word) {
            let words = text.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() > 2);
            self.words.extend(words.map(|w| hash(&w.to_lowercase())));
        }
    }

    fn note(&mut self, format: Format, text: &str, number: Option<f64>) {
        self.count += 1;
        self.formats[format as usize] += 1.0;
        self.values.push(hash(&text.to_lowercase()));
        self.masks.push(hash(&mask(text)));
        self.numbers.extend(number.filter(|n| n.is_finite()));
        self.length += text.len() as f32;
        for c in text.chars() {
            let sign = if c.is_numeric() {
                0
            } else if c.is_uppercase() {
                2
            } else if c.is_alphabetic() {
                1
            } else if c.is_whitespace() {
                3
            } else {
                4
            };
            self.signs[sign] += 1.0;
        }
    }

    fn finish(&mut self) {
        let count = self.count.max(1) as f32;
        for set in [&mut self.values, &mut self.words, &mut self.masks] {
            set.sort_unstable();
            set.dedup();
        }
        self.distinct = self.values.len() as f32 / count;
        self.length = (1.0 + self.length / count).ln();
        self.formats.iter_mut().for_each(|f| *f /= count);
        let signs: f32 = self.signs.iter().sum::<f32>().max(1.0);
        self.signs.iter_mut().for_each(|s| *s /= signs);
        self.numbers.sort_by(f64::total_cmp);
    }

    /// One value in a list of few: enumerations repeat themselves.
    pub fn distinct(&self) -> f32 {
        self.distinct
    }

    /// How alike the formats are: 1 for the same mixture, 0 for formats that have nothing in common.
    pub fn format_likeness(&self, other: &Self) -> f32 {
        let product = |a: &Self, b: &Self| {
            let mut sum = 0.0;
            for (i, x) in a.formats.iter().enumerate().filter(|(_, x)| **x > 0.0) {
                for (j, y) in b.formats.iter().enumerate().filter(|(_, y)| **y > 0.0) {
                    sum += x * y * kinship(i, j);
                }
            }
            sum
        };
        let own = (product(self, self) * product(other, other)).sqrt();
        let lists = if self.is_list == other.is_list { 1.0 } else { 0.7 };
        if own > 0.0 { lists * (product(self, other) / own).min(1.0) } else { 0.5 }
    }

    /// Share of equal values.
    pub fn value_overlap(&self, other: &Self) -> f32 {
        text::jaccard(&self.values, &other.values)
    }

    /// Share of equal words, or of equal keys.
    pub fn word_overlap(&self, other: &Self) -> f32 {
        let few = self.words.len().min(other.words.len());
        if few == 0 { 0.0 } else { text::shared(&self.words, &other.words) as f32 / few as f32 }
    }

    /// Share of equal masks: `AB-12` and `CD-34` have one mask.
    pub fn mask_overlap(&self, other: &Self) -> f32 {
        text::jaccard(&self.masks, &other.masks)
    }

    /// How alike the lengths are.
    pub fn length_likeness(&self, other: &Self) -> f32 {
        if self.count == 0 || other.count == 0 { 0.5 } else { (-(self.length - other.length).abs()).exp() }
    }

    /// How alike the mixtures of signs are.
    pub fn sign_likeness(&self, other: &Self) -> f32 {
        if self.count == 0 || other.count == 0 {
            return 0.5;
        }
        1.0 - self.signs.iter().zip(&other.signs).map(|(a, b)| (a - b).abs()).sum::<f32>() / 2.0
    }

    /// How far two ranges of numbers or days cover each other, on a logarithmic scale; 0.5 where there are none.
    pub fn range_likeness(&self, other: &Self) -> f32 {
        let (Some(a), Some(b)) = (span(&self.numbers), span(&other.numbers)) else { return 0.5 };
        let both = (a.1.min(b.1) - a.0.max(b.0) + 0.1).max(0.0);
        let either = a.1.max(b.1) - a.0.min(b.0) + 0.1;
        (both / either) as f32
    }

    /// How near the middles of two sets of numbers are; 0.5 where there are none.
    pub fn middle_likeness(&self, other: &Self) -> f32 {
        let (Some(a), Some(b)) = (middle(&self.numbers), middle(&other.numbers)) else { return 0.5 };
        (-(a - b).abs() / 1.5).exp() as f32
    }

    /// How alike the shares of repeated values are.
    pub fn distinct_likeness(&self, other: &Self) -> f32 {
        if self.count == 0 || other.count == 0 { 0.5 } else { 1.0 - (self.distinct - other.distinct).abs() }
    }

    /// How near the shares of nulls are; 0.5 where nobody knows.
    pub fn null_likeness(&self, other: &Self) -> f32 {
        let (Some(a), Some(b)) = (self.null_rate, other.null_rate) else { return 0.5 };
        1.0 - (a - b).abs().min(1.0)
    }
}

fn scaled(number: f64) -> f64 {
    number.signum() * number.abs().ln_1p()
}

fn span(sorted: &[f64]) -> Option<(f64, f64)> {
    Some((scaled(*sorted.first()?), scaled(*sorted.last()?)))
}

fn middle(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).map(|n| scaled(*n))
}

/// The shape of a text: runs of letters are `a`, of digits `9`, everything else stands for itself.
fn mask(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(64) {
        let sign = if c.is_numeric() {
            '9'
        } else if c.is_alphabetic() {
            'a'
        } else {
            c
        };
        if !out.ends_with(sign) {
            out.push(sign);
        }
    }
    out
}

/// FNV-1a: the same on every machine and in every run.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn likeness_is_highest_with_oneself() {
        let money = Profile::new(&[json!(12.5), json!(900.0), json!(33.1)], Some(0.0));
        let cents = Profile::new(&[json!(1250), json!(90000), json!(3310)], Some(0.0));
        let dates = Profile::new(&[json!("2024-01-01"), json!("2025-01-01")], Some(0.3));
        assert!((money.format_likeness(&money) - 1.0).abs() < 1e-6);
        assert!(money.format_likeness(&cents) > money.format_likeness(&dates));
        assert!(money.range_likeness(&money) > money.range_likeness(&cents));
        assert!(money.null_likeness(&dates) < 1.0);
    }

    #[test]
    fn nulls_objects_lists_and_hostile_values_are_looked_at() {
        let odd = [
            json!(null),
            json!({"a": [1, 2]}),
            json!([[1], "x", {"b": 1}]),
            json!("\u{0}é".repeat(9000)),
            json!(1e300),
            json!(""),
        ];
        let profile = Profile::new(&odd, None);
        assert!(profile.count >= 4 && profile.null_rate == Some(1.0 / 6.0));
        let empty = Profile::new(&[], None);
        assert!(empty.format_likeness(&profile) >= 0.0 && empty.range_likeness(&profile) == 0.5);
    }
}
