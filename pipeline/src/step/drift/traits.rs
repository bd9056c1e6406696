//! Traits: what texts look like besides their format, so that two fields of one format are told apart once they have each
//! other's values. A trait is a small number; of each kind it is counted how often each was seen. Whole numbers alone.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::counts::{BIT, bits};

/// Kinds of traits: which text it is, its mask, its length, how it begins, how it ends.
const KINDS: usize = 5;
/// How many traits there are of each kind …
const SIZES: [u8; KINDS] = [64, 32, 32, 64, 32];
/// … and where they begin among all.
const FIRSTS: [u8; KINDS] = [0, 64, 96, 128, 192];
const ALL: usize = 224;
/// Bytes of a text that are looked at, and of its mask.
const LOOKED_AT_MAX: usize = 256;
const MASKED_MAX: usize = 32;
/// Bytes at either end that tell how it begins and ends.
const EDGE: usize = 3;

/// Texts before it is known what is usual.
const USUAL_MIN: u32 = 16;
/// Counts are halved when they come to so many: what was long ago counts less.
const COUNTED_MAX: u32 = 4_096;
/// The last texts count for nothing yet: what is unlike must not become usual while it is judged.
const RECENT: usize = 64;
/// Of them the first, which must be as usual for the last to be another's: what drifts was unlike before.
const OLDER: usize = 12;
/// So many texts are taken between two looks at what they are.
const EVERY: u8 = 8;
/// At these looks it is judged how much stranger than usual so many last texts are; it tells how steady the texts are once
/// none of them is among the last.
const LOOKED_BACK: usize = 40;
const LOOKS_LATE: usize = RECENT / EVERY as usize;
/// Looks before it is known how steady texts are …
const LOOKS_MIN: u8 = 4;
/// … and what strangeness of the last ones steady texts do not come to: counted and sorted ones do again and again.
const STEADY_MAX: i32 = 64 * BIT;
/// By one of so many parts it is forgotten at each look.
const FORGETS: i32 = 256;
/// The last few that make it worth to look at every record, if they are so much stranger than usual.
const FEW: usize = 4;
const FEW_STRANGE: i32 = 12 * BIT;
/// What one text tells at most.
const TELLS_MAX: i32 = 3 * BIT;
/// A record from before it was sure is an old one only if its texts say so plainly.
const PLAINLY: i32 = -3 * BIT;

/// Of which last texts it is judged whether they are another's.
struct Window {
    texts: usize,
    /// How much stranger than usual they are on one side at least.
    strange: i32,
    /// How much likelier the other's on either side.
    sure: i32,
    /// How many different texts, or where many traits are usual different traits, must say so on each side, and on both:
    /// flags that were sorted are not each other's.
    distinct: (usize, usize),
    /// Whether what one's own texts often have tells nothing.
    only_unusual: bool,
}

/// A few texts that were never like this, or many that are seldom so.
const WINDOWS: [Window; 2] = [
    Window { texts: 12, strange: 16 * BIT, sure: 18 * BIT, distinct: (1, 4), only_unusual: true },
    Window { texts: 40, strange: 20 * BIT, sure: 24 * BIT, distinct: (8, 16), only_unusual: false },
];

/// The traits of one text, one of each kind, as places among all.
type Looks = [u8; KINDS];

/// What the texts of a watched path look like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Traits {
    /// How often each trait was seen; empty before the first text.
    counts: Vec<u16>,
    /// Texts that were counted.
    all: u32,
    /// How surprising the traits of each kind usually are.
    usual: [i32; KINDS],
    /// The last texts with their inputs, the latest at the end.
    recent: VecDeque<(u64, Looks)>,
    /// Texts since they were judged.
    since: u8,
    /// How much stranger than usual the last ones were by each kind, at the last looks, the latest at the end.
    strangeness: VecDeque<[i32; KINDS]>,
    /// The most of it at the looks before those, and how many looks these were.
    strangest: [i32; KINDS],
    looks: u8,
}

impl Traits {
    /// A text; true when the last ones are so unlike the others that another's should be looked for.
    pub(super) fn see(&mut self, text: &str, offset: u64) -> bool {
        if self.recent.len() == RECENT
            && let Some((_, old)) = self.recent.pop_front()
        {
            self.count(old);
        }
        self.recent.push_back((offset, looks(text)));
        self.since = (self.since + 1) % EVERY;
        if self.since > 0 || self.all < USUAL_MIN {
            return false;
        }
        self.look_back();
        (0..KINDS).any(|kind| self.is_steady(kind) && self.is_strange(kind))
    }

    /// A text that is as its texts are, whatever it is.
    pub(super) fn learn(&mut self, text: &str) {
        self.count(looks(text));
    }

    /// Whether what was seen last is strange enough to look at every record.
    pub(super) fn is_suspect(&self) -> bool {
        let is_strange = |kind: &usize| self.is_steady(*kind) && self.is_stranger(*kind, 1, FEW_STRANGE / FEW as i32);
        (0..KINDS).filter(is_strange).any(|kind| self.is_stranger(kind, FEW, FEW_STRANGE))
    }

    /// Whether the last texts of two are each other's; the input behind which they are.
    pub(super) fn exchanged(&self, other: &Self) -> Option<u64> {
        let is_it = |kind: &usize| {
            let is_steady = self.is_steady(*kind) && other.is_steady(*kind);
            let is_strange = is_steady && (self.is_strange(*kind) || other.is_strange(*kind));
            is_strange && WINDOWS.iter().any(|window| self.are_exchanged(other, *kind, window))
        };
        let kind = (0..KINDS).find(is_it)?;
        Some(self.began(other, kind).min(other.began(self, kind)))
    }

    /// Whether a text and the other's in one record are likelier to be in each other's place, or it cannot be told.
    pub(super) fn may_be_exchanged(&self, text: Option<&str>, other: &Self, others: Option<&str>) -> bool {
        let sum = |looks: Looks, one: &Self, two: &Self| looks.iter().map(|place| one.tells(*place, two)).sum::<i32>();
        let own = text.map_or(0, |text| sum(looks(text), self, other));
        own + others.map_or(0, |text| sum(looks(text), other, self)) >= PLAINLY
    }

    fn look_back(&mut self) {
        let strangeness = std::array::from_fn(|kind| self.strangeness_of(kind, LOOKED_BACK));
        self.strangeness.push_back(strangeness);
        if self.strangeness.len() > LOOKS_LATE
            && let Some(old) = self.strangeness.pop_front()
        {
            self.looks = self.looks.saturating_add(1);
            for (strangest, old) in self.strangest.iter_mut().zip(old) {
                *strangest = (*strangest - *strangest / FORGETS).max(old);
            }
        }
    }

    /// Whether the texts are always as they are by a kind, as far as is known.
    fn is_steady(&self, kind: usize) -> bool {
        self.looks >= LOOKS_MIN && self.strangest[kind] <= STEADY_MAX
    }

    fn count(&mut self, seen: Looks) {
        self.counts.resize(ALL, 0);
        for place in seen {
            if let Some(count) = self.counts.get_mut(usize::from(place)) {
                *count = count.saturating_add(1);
            }
        }
        self.all += 1;
        if self.all >= COUNTED_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.all /= 2;
        }
        if self.all.is_multiple_of(u32::from(EVERY)) {
            self.usual = std::array::from_fn(|kind| self.entropy(kind));
        }
    }

    fn entropy(&self, kind: usize) -> i32 {
        let first = FIRSTS[kind];
        let places = (first..first + SIZES[kind]).filter(|place| self.of(*place) > 0);
        let sum: i64 = places.map(|place| i64::from(self.of(place)) * i64::from(self.surprise(place))).sum();
        i32::try_from(sum / i64::from(self.all.max(1))).unwrap_or(i32::MAX)
    }

    fn of(&self, place: u8) -> u32 {
        self.counts.get(usize::from(place)).map_or(0, |count| u32::from(*count))
    }

    /// How surprising a trait is, in sixteenths of bits.
    fn surprise(&self, place: u8) -> i32 {
        bits(self.all + 16) - bits(self.of(place) + 1)
    }

    /// Evidence that a trait is of the other.
    fn tells(&self, place: u8, other: &Self) -> i32 {
        let evidence = (self.surprise(place) - other.surprise(place)).clamp(-TELLS_MAX, TELLS_MAX);
        // What neither had is new, and of neither.
        if other.of(place) == 0 { evidence.min(0) } else { evidence }
    }

    fn last(&self, texts: usize) -> impl Iterator<Item = &Looks> {
        self.recent.iter().skip(self.recent.len().saturating_sub(texts)).map(|(_, looks)| looks)
    }

    fn is_strange(&self, kind: usize) -> bool {
        WINDOWS.iter().any(|window| self.is_stranger(kind, window.texts, window.strange))
    }

    /// Whether the last texts are so much stranger than usual.
    fn is_stranger(&self, kind: usize, texts: usize, by: i32) -> bool {
        self.recent.len() >= texts && self.strangeness_of(kind, texts) >= by
    }

    fn strangeness_of(&self, kind: usize, texts: usize) -> i32 {
        self.last(texts).map(|looks| self.surprise(looks[kind]) - self.usual[kind]).sum()
    }

    fn are_exchanged(&self, other: &Self, kind: usize, window: &Window) -> bool {
        let (one, two) = (self.those_of(other, kind, window), other.those_of(self, kind, window));
        let (each, both) = window.distinct;
        one.zip(two).is_some_and(|(one, two)| one >= each && two >= each && one + two >= both)
    }

    /// How many different texts say that the last ones are another's, if they are and those shortly before were not.
    fn those_of(&self, other: &Self, kind: usize, window: &Window) -> Option<usize> {
        if self.recent.len() < RECENT {
            return None;
        }
        let is_usual = |place: u8| self.of(place) * 64 >= self.all;
        let (mut last, mut saying) = (0, BTreeSet::new());
        for looks in self.last(window.texts) {
            let place = looks[kind];
            let tells = self.tells(place, other);
            let tells = if window.only_unusual && is_usual(place) { tells.min(0) } else { tells };
            last += tells;
            if tells > 0 {
                saying.insert(if window.only_unusual { looks[0] } else { place });
            }
        }
        let older: i32 = self.recent.iter().take(OLDER).map(|(_, looks)| self.tells(looks[kind], other)).sum();
        // A quarter as plainly one's own, of as many, as the last are the other's.
        let were_own = older * 4 * window.texts as i32 <= -last * OLDER as i32;
        (last >= window.sure && were_own).then_some(saying.len())
    }

    /// The input behind which the texts are likeliest to have become another's.
    fn began(&self, other: &Self, kind: usize) -> u64 {
        let (mut sum, mut most, mut began) = (0, 0, u64::MAX);
        let before = self.recent.iter().rev().skip(1).map(|(offset, _)| *offset);
        for ((_, looks), before) in self.recent.iter().rev().zip(before) {
            sum += self.tells(looks[kind], other);
            if sum >= most {
                (most, began) = (sum, before);
            }
        }
        began
    }
}

fn looks(text: &str) -> Looks {
    let bytes = text.trim_ascii().as_bytes();
    let bytes = &bytes[..bytes.len().min(LOOKED_AT_MAX)];
    let (head, tail) = (&bytes[..bytes.len().min(EDGE)], &bytes[bytes.len().saturating_sub(EDGE)..]);
    let hashes = [hash(bytes), mask(bytes), length(bytes.len()), hash(head), hash(tail)];
    std::array::from_fn(|kind| FIRSTS[kind] + hashes[kind] % SIZES[kind])
}

/// The lowest bits: sizes are powers of two.
fn hash(bytes: &[u8]) -> u8 {
    xxh3_64(bytes).to_le_bytes()[0]
}

/// Short ones one by one, longer ones in fours.
fn length(bytes: usize) -> u8 {
    let step = if bytes < 16 { bytes } else { (16 + (bytes - 16) / 4).min(31) };
    u8::try_from(step).unwrap_or(u8::MAX)
}

/// Runs of letters and digits as one sign each: `Ann Lee 12` is `Aa Aa 9`.
fn mask(bytes: &[u8]) -> u8 {
    let sign = |byte: &u8| match byte {
        b'A'..=b'Z' => b'A',
        b'a'..=b'z' => b'a',
        b'0'..=b'9' => b'9',
        128.. => b'x',
        other => *other,
    };
    let (mut mask, mut length) = ([0; MASKED_MAX], 0);
    for sign in bytes.iter().take(MASKED_MAX).map(sign) {
        if length == 0 || mask[length - 1] != sign {
            mask[length] = sign;
            length += 1;
        }
    }
    hash(&mask[..length])
}
