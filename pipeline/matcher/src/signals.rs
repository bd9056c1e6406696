//! Signals: what speaks for and against one source field being one target field. Each is defined here and nowhere else;
//! the fit reads them from this crate.

use crate::embedding::dot;
use crate::side::{Entry, Likeness, Weighed};
use crate::text;

/// From this likeness on two words are taken for the same, and from this one on for forms of one word.
const SURE: f32 = 0.9;
const EQUAL: f32 = 0.95;

/// A group of signals that is left out together when their worth is measured.
pub type Group = &'static str;

/// Every signal with its group and with which way it speaks: 1 for a match, -1 against it, 0 either way.
pub const SIGNALS: [(&str, Group, i8); 38] = [
    ("same_path", "names", 1),
    ("same_leaf", "names", 1),
    ("words_f", "words", 1),
    ("words_of_source", "words", 1),
    ("words_of_target", "words", 1),
    ("words_least", "words", 1),
    ("words_sure", "words", 1),
    ("head", "words", 1),
    ("modifiers", "words", 1),
    ("jaro_winkler", "names", 1),
    ("trigrams", "names", 1),
    ("contained", "names", 1),
    ("meaning", "embeddings", 1),
    ("meaning_described", "embeddings", 1),
    ("against", "words", -1),
    ("side_source", "words", -1),
    ("side_target", "words", 0),
    ("left_source", "words", -1),
    ("left_target", "words", -1),
    ("both_bare", "words", 1),
    ("source_bare", "words", 0),
    ("same_type", "types", 1),
    ("compatible_type", "types", 1),
    ("same_native_type", "types", 1),
    ("formats", "formats", 1),
    ("formats_differ", "formats", -1),
    ("masks", "formats", 1),
    ("equal_values", "overlap", 1),
    ("equal_words", "overlap", 1),
    ("lengths", "formats", 1),
    ("signs", "distributions", 1),
    ("ranges", "distributions", 1),
    ("middles", "distributions", 1),
    ("distinct", "distributions", 1),
    ("nulls", "distributions", 1),
    ("path_depth", "names", 0),
    ("source_distinct", "distributions", 0),
    ("words_equal", "words", 1),
];

/// The signals of one pair, in the order of [`SIGNALS`].
pub type Signals = [f32; SIGNALS.len()];

/// Where the signals stand that competition and evidence look at again.
pub mod at {
    /// Same letters and digits in the whole path.
    pub const SAME_PATH: usize = 0;
    /// Weighed share of words that both names have.
    pub const WORDS_F: usize = 2;
    /// Weighed share of words that both names surely have.
    pub const WORDS_SURE: usize = 6;
    /// Likeness of meaning.
    pub const MEANING: usize = 12;
    /// Words that never mean the same.
    pub const AGAINST: usize = 14;
    /// The source is marked as an alternative.
    pub const SIDE_SOURCE: usize = 15;
    /// The target is marked as an alternative.
    pub const SIDE_TARGET: usize = 16;
    /// What the source's name says besides.
    pub const LEFT_SOURCE: usize = 17;
    /// Likeness of types.
    pub const COMPATIBLE_TYPE: usize = 22;
    /// Same type in the words of their system.
    pub const SAME_NATIVE_TYPE: usize = 23;
    /// Likeness of formats.
    pub const FORMATS: usize = 24;
    /// Share of equal values.
    pub const EQUAL_VALUES: usize = 27;
    /// Likeness of lengths.
    pub const LENGTHS: usize = 29;
    /// Likeness of the mixtures of signs.
    pub const SIGNS: usize = 30;
    /// How near the middles of numbers or days are.
    pub const MIDDLES: usize = 32;
    /// Likeness of the shares of nulls.
    pub const NULLS: usize = 34;
    /// Share of the source's values that differ from each other.
    pub const SOURCE_DISTINCT: usize = 36;
    /// Weighed share of words that both names have, whatever their form.
    pub const WORDS_EQUAL: usize = 37;
}

/// Compares one source field with one target field.
pub fn signals(source: &Entry, target: &Entry, likeness: &Likeness) -> Signals {
    let words = Words::compare(source, target, likeness);
    let (p, q) = (&source.profile, &target.profile);
    let formats = p.format_likeness(q);
    let natives = match (source.native_type.as_str(), target.native_type.as_str()) {
        ("", _) | (_, "") => 0.5,
        (one, other) => flag(one == other),
    };
    let jaro = |a: &str, b: &str| text::jaro_winkler(a.as_bytes(), b.as_bytes());
    [
        flag(source.full == target.full && !source.full.is_empty()),
        flag(source.leaf == target.leaf && !source.leaf.is_empty()),
        words.f(),
        words.source,
        words.target,
        words.source.min(words.target),
        words.sure,
        words.head,
        words.modifiers,
        jaro(&source.leaf, &target.leaf).max(jaro(&source.full, &target.full)),
        text::dice(&source.trigrams, &target.trigrams),
        contained(&source.full, &target.full),
        dot(&source.meaning, &target.meaning),
        dot(&source.meaning, &target.described),
        words.against,
        words.side_source,
        words.side_target,
        words.left_source,
        words.left_target,
        flag(is_bare(source) && is_bare(target)),
        flag(is_bare(source)),
        flag(source.kind == target.kind),
        source.kind.compatibility(target.kind),
        natives,
        formats,
        flag(formats < 0.1 && p.count > 2 && q.count > 2),
        p.mask_overlap(q),
        p.value_overlap(q),
        p.word_overlap(q),
        p.length_likeness(q),
        p.sign_likeness(q),
        p.range_likeness(q),
        p.middle_likeness(q),
        p.distinct_likeness(q),
        p.null_likeness(q),
        source.depth as f32 - target.depth as f32,
        p.distinct(),
        words.equal,
    ]
}

fn flag(is: bool) -> f32 {
    f32::from(u8::from(is))
}

/// Every word of the name says little or names the entity itself: `id`, `deal_id` of deals.
fn is_bare(entry: &Entry) -> bool {
    entry.words.iter().all(|w| w.is_own || w.is_weak || w.weight < 0.3)
        || entry.words.iter().filter(|w| !w.is_own && !w.is_weak).count() == 1
}

fn contained(one: &str, other: &str) -> f32 {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if short.len() < 3 || !long.contains(short) { 0.0 } else { short.len() as f32 / long.len() as f32 }
}

/// How the words of two names fit each other.
#[derive(Debug, Default)]
struct Words {
    source: f32,
    target: f32,
    sure: f32,
    equal: f32,
    head: f32,
    modifiers: f32,
    against: f32,
    side_source: f32,
    side_target: f32,
    left_source: f32,
    left_target: f32,
}

impl Words {
    fn f(&self) -> f32 {
        let sum = self.source + self.target;
        if sum > 0.0 { 2.0 * self.source * self.target / sum } else { 0.0 }
    }

    fn compare(source: &Entry, target: &Entry, likeness: &Likeness) -> Self {
        let (a, b) = (&source.words, &target.words);
        let like = |x: Weighed, y: Weighed| likeness.of(x, y);
        let best_of_source = |x: Weighed| b.iter().map(|y| like(x, *y)).fold(0.0, f32::max);
        let best_of_target = |y: Weighed| a.iter().map(|x| like(*x, y)).fold(0.0, f32::max);
        let one = Coverage::of(a, best_of_source);
        let other = Coverage::of(b, best_of_target);
        // Words that both names have cannot stand against each other.
        let mut against = 0.0;
        for x in a.iter().filter(|x| best_of_source(**x) < 0.95) {
            if b.iter().any(|y| likeness.are_against(*x, *y) && best_of_target(*y) < 0.95) {
                against += 1.0;
            }
        }
        let head = |words: &[Weighed]| words.iter().rev().find(|w| !w.is_weak).or(words.last()).copied();
        Self {
            source: one.share,
            target: other.share,
            sure: one.sure.min(other.sure),
            equal: one.equal.min(other.equal),
            head: head(a).zip(head(b)).map_or(0.0, |(x, y)| like(x, y)),
            modifiers: one.modifiers.min(other.modifiers),
            against,
            side_source: one.side,
            side_target: other.side,
            left_source: one.left,
            left_target: other.left,
        }
    }
}

#[derive(Debug, Default)]
struct Coverage {
    share: f32,
    sure: f32,
    equal: f32,
    modifiers: f32,
    side: f32,
    left: f32,
}

impl Coverage {
    fn of(words: &[Weighed], best: impl Fn(Weighed) -> f32) -> Self {
        let (mut out, mut all, mut before, mut before_like) = (Self::default(), 0.0, 0.0, 0.0);
        for (at, word) in words.iter().enumerate() {
            let like = best(*word);
            all += word.weight;
            out.share += word.weight * like;
            out.sure += if like >= SURE { word.weight } else { 0.0 };
            out.equal += if like >= EQUAL { word.weight } else { 0.0 };
            if at + 1 < words.len() {
                before += word.weight;
                before_like += word.weight * like;
            }
            if like < 0.8 {
                out.side += flag(word.is_side);
                out.left += if word.is_weak || word.is_own { 0.0 } else { word.weight * (1.0 - like) };
            }
        }
        let all = if all > 0.0 { all } else { 1.0 };
        out.share /= all;
        out.sure /= all;
        out.equal /= all;
        out.modifiers = if before > 0.0 { before_like / before } else { 0.5 };
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_places_are_those_of_the_signals() {
        let places = [
            (at::SAME_PATH, "same_path"),
            (at::WORDS_F, "words_f"),
            (at::WORDS_SURE, "words_sure"),
            (at::MEANING, "meaning"),
            (at::AGAINST, "against"),
            (at::SIDE_SOURCE, "side_source"),
            (at::SIDE_TARGET, "side_target"),
            (at::LEFT_SOURCE, "left_source"),
            (at::COMPATIBLE_TYPE, "compatible_type"),
            (at::SAME_NATIVE_TYPE, "same_native_type"),
            (at::FORMATS, "formats"),
            (at::EQUAL_VALUES, "equal_values"),
            (at::LENGTHS, "lengths"),
            (at::SIGNS, "signs"),
            (at::MIDDLES, "middles"),
            (at::NULLS, "nulls"),
            (at::SOURCE_DISTINCT, "source_distinct"),
            (at::WORDS_EQUAL, "words_equal"),
        ];
        for (place, name) in places {
            assert_eq!(SIGNALS[place].0, name);
        }
    }
}
