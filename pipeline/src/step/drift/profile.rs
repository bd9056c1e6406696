//! Profiles: what the values at each path of a stream look like, in bounded bytes and whole numbers alone.

use std::collections::{BTreeMap, BTreeSet};

use schemas::shape::{NodeId, ShapeTree, SlotKind, TypeClass, leaves, unescape};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::format::{FORMATS, Format, format};
use super::quantiles::Quantiles;

/// Paths with a profile; those that come later have none, unless keys of maps give way.
pub const PATHS_MAX: usize = 2_000;
/// Values kept of a path: those whose hashes are the smallest, so that each distinct value is as likely as another.
pub const SAMPLES_MAX: usize = 20;
/// A kept value's bytes as a snapshot writes them, escapes and all; of a longer one the beginning is kept.
const SAMPLE_BYTES_MAX: usize = 48;
/// So many records are looked at wholly, and behind them …
const WHOLE: u64 = 1_000;
/// … one of so many: a prime, which no habit of a source divides.
const EVERY: u64 = 31;

/// The profiles of a stream's paths.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Profiles {
    /// Records that might have been looked at.
    records: u64,
    pub(super) paths: BTreeMap<NodeId, Profile>,
    /// Paths came for which there was no room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_full: bool,
    /// Objects whose keys are data: what is in them has no profile.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) maps: BTreeSet<NodeId>,
    /// Places that were given to other paths.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) given: u64,
    /// Records until it is looked for room again.
    #[serde(default, skip_serializing_if = "is_none_left")]
    pub(super) rest: u8,
    /// Behind the last path of the tree, when a record was looked at last; 0 while there is room for all.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    next: NodeId,
}

/// What the values at one path look like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Offset of the input at which the path was first looked at.
    pub first: u64,
    /// Records that flowed and had been looked at by then; an earlier release did not count them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub came: u64,
    /// It was there before and had found no place: how often it was there is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_late: bool,
    /// Values looked at, nulls among them.
    pub values: u64,
    /// Nulls.
    pub nulls: u64,
    /// Values of each class, in the order of [`TypeClass::ALL`].
    pub classes: [u64; TypeClass::ALL.len()],
    /// Texts and numbers of each format.
    pub formats: [u64; FORMATS],
    /// How large its numbers are. An earlier release counted their digits alone.
    #[serde(default, skip_serializing_if = "Quantiles::is_empty")]
    pub numbers: Quantiles,
    /// Some distinct values, ordered by their hashes.
    pub samples: Vec<Sample>,
    /// Values that stood in held records where something else was missing, which came back then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub instead: u64,
}

/// A value that is kept: its hash, whether it is a text and not JSON of its own, the text or the JSON. A list, because a
/// snapshot holds many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample(u32, bool, String);

impl Sample {
    /// Whether it is a text, and not JSON of its own.
    pub fn is_text(&self) -> bool {
        self.1
    }

    /// The text, or the JSON.
    pub fn value(&self) -> &str {
        &self.2
    }
}

impl Profiles {
    /// Whether the next record that flows is to be looked at wholly.
    pub(super) fn is_due(&mut self) -> bool {
        self.records += 1;
        self.records <= WHOLE || self.records.is_multiple_of(EVERY)
    }

    /// Looks at every value of a record, and hands each over with what is known of its path by then.
    pub(super) fn look(
        &mut self,
        tree: &ShapeTree,
        payload: &str,
        offset: u64,
        visit: &mut impl FnMut(NodeId, SlotKind, &Profile),
    ) {
        let (came, next) = (self.looked(), self.next);
        leaves(tree, payload, &mut |node, kind, text| {
            let has_room = self.paths.len() < PATHS_MAX;
            if (!has_room || !self.maps.is_empty()) && !self.paths.contains_key(&node) {
                let is_key = self.is_in_map(tree, node);
                self.is_full |= !has_room && !is_key;
                if !has_room || is_key {
                    return;
                }
            }
            let new = || Profile { first: offset, came, is_late: node < next, ..Profile::default() };
            let profile = self.paths.entry(node).or_insert_with(new);
            profile.add(kind, text);
            visit(node, kind, profile);
        });
        if self.is_full || self.next > 0 {
            self.next = tree.nodes().end;
        }
    }

    /// Whether paths came for which there was no room: what is at them is not known.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Records that flowed and were looked at.
    pub(super) fn looked(&self) -> u64 {
        looked(self.records)
    }

    /// Those of them that are among the last so many records that flowed.
    pub(super) fn looked_of_last(&self, records: u64) -> u64 {
        self.looked() - looked(self.records.saturating_sub(records))
    }

    /// Notes how often paths stood in held records that something else was back in.
    pub(super) fn stood_instead(&mut self, counts: &BTreeMap<NodeId, u64>) {
        for (node, count) in counts {
            if let Some(profile) = self.paths.get_mut(node) {
                profile.instead += count;
            }
        }
    }

    /// Paths that ever had a profile.
    pub(super) fn count(&self) -> usize {
        self.paths.len().saturating_add(self.given as usize)
    }

    /// The profile of a path.
    pub fn of(&self, node: NodeId) -> Option<&Profile> {
        self.paths.get(&node)
    }

    /// Paths that came at `since` or later.
    pub(super) fn since(&self, since: u64) -> impl Iterator<Item = NodeId> {
        self.paths.iter().filter(move |(_, profile)| profile.is_new_since(since)).map(|(node, _)| *node)
    }
}

impl Profile {
    /// Whether the path came at `since` or later.
    pub(super) fn is_new_since(&self, since: u64) -> bool {
        self.first >= since && !self.is_late
    }

    fn add(&mut self, kind: SlotKind, text: &str) {
        self.values += 1;
        let class = match kind {
            SlotKind::Absent | SlotKind::Null => {
                self.nulls += 1;
                return;
            }
            SlotKind::True | SlotKind::False => TypeClass::Boolean,
            SlotKind::Number => TypeClass::Number,
            SlotKind::Text | SlotKind::EscapedText => TypeClass::Text,
            SlotKind::Nested if text.starts_with('[') => TypeClass::Array,
            SlotKind::Nested => TypeClass::Object,
        };
        self.classes[place(class)] += 1;
        if matches!(class, TypeClass::Object | TypeClass::Array) {
            return;
        }
        let mut plain = String::new();
        let value = match kind {
            SlotKind::EscapedText => {
                unescape(text, &mut plain);
                &plain
            }
            _ => text,
        };
        let found = format(value);
        self.formats[found as usize] += 1;
        if matches!(found, Format::Integer | Format::Decimal) {
            self.numbers.add(value);
        }
        self.keep(value, class == TypeClass::Text);
    }

    fn keep(&mut self, value: &str, is_text: bool) {
        let hash = (xxh3_64(value.as_bytes()) >> 32) as u32;
        let Err(at) = self.samples.binary_search_by_key(&hash, |sample| sample.0) else { return };
        if at == SAMPLES_MAX {
            return;
        }
        let kept = beginning(value, SAMPLE_BYTES_MAX);
        // A number that is cut off would be another number.
        if kept.len() < value.len() && !is_text {
            return;
        }
        self.samples.insert(at, Sample(hash, is_text, kept.to_owned()));
        self.samples.truncate(SAMPLES_MAX);
    }

    /// How many distinct values there were, about: exact while they are few.
    pub fn distinct(&self) -> u64 {
        match self.samples.last() {
            Some(last) if self.samples.len() == SAMPLES_MAX => {
                (SAMPLES_MAX as u64 - 1) * (1 << 32) / u64::from(last.0).max(1)
            }
            _ => self.samples.len() as u64,
        }
    }

    /// The classes seen, as bits of [`TypeClass`].
    pub fn types(&self) -> u8 {
        let seen = TypeClass::ALL.iter().zip(self.classes).filter(|(_, count)| *count > 0);
        seen.fold(0, |bits, (class, _)| bits | *class as u8)
    }
}

/// Of the first so many records those that are looked at.
fn looked(records: u64) -> u64 {
    records.min(WHOLE) + records.saturating_sub(WHOLE) / EVERY
}

/// The longest beginning of a value that takes so many bytes at most as JSON.
fn beginning(value: &str, bytes_max: usize) -> &str {
    let mut bytes = 0;
    let too_long = value.char_indices().find(|(_, char)| {
        bytes += bytes_written(*char);
        bytes > bytes_max
    });
    &value[..too_long.map_or(value.len(), |(at, _)| at)]
}

/// Bytes of a character in a text of JSON.
fn bytes_written(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        control if control < ' ' => 6,
        other => other.len_utf8(),
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn is_none_left(count: &u8) -> bool {
    *count == 0
}

fn is_none_yet(node: &NodeId) -> bool {
    *node == 0
}

fn place(class: TypeClass) -> usize {
    (class as u8).trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemas::shape::Walker;

    use super::*;

    fn profiled(payloads: &[String]) -> (ShapeTree, Profiles) {
        let (mut tree, mut profiles, mut walker) = (ShapeTree::default(), Profiles::default(), Walker::default());
        for (offset, payload) in (0..).zip(payloads) {
            walker.walk(&mut tree, payload).unwrap();
            profiles.look(&tree, payload, offset, &mut |_, _, _| {});
        }
        (tree, profiles)
    }

    fn of<'a>((tree, profiles): &'a (ShapeTree, Profiles), path: &str) -> &'a Profile {
        profiles.of(tree.find(&[path]).unwrap()).unwrap()
    }

    #[test]
    fn a_profile_tells_types_nulls_formats_quantiles_and_distinct_values() {
        let record = |n: usize| {
            let status = ["open", "won", "lost"][n % 3];
            let chance = if n.is_multiple_of(4) { "null".to_owned() } else { format!("0.{n}") };
            format!(r#"{{"id":"00{n}","status":"{status}","chance":{chance},"cents":{},"tags":["a"]}}"#, 1000 + n)
        };
        let all = profiled(&(0..100).map(record).collect::<Vec<_>>());
        let status = of(&all, "status");
        assert_eq!((status.values, status.distinct(), status.samples.len()), (100, 3, 3));
        assert_eq!(of(&all, "chance").nulls, 25);
        assert_eq!(of(&all, "chance").types(), TypeClass::Number as u8);
        let half = of(&all, "cents").numbers.below(500).unwrap();
        assert!((1_000.0..1_100.0).contains(&half), "{half}");
        assert!(of(&all, "status").numbers.is_empty());
        assert_eq!(of(&all, "cents").formats[Format::Integer as usize], 100);
        assert_eq!(of(&all, "tags").types(), TypeClass::Array as u8);
        let ids = of(&all, "id").distinct();
        assert!((50..200).contains(&ids), "about 100, not {ids}");
    }

    #[test]
    fn a_profile_stays_small_whatever_comes() {
        let record = |n: usize| format!(r#"{{"text":"{}{n}","number":9{n}{}}}"#, "é".repeat(9000), "0".repeat(3000));
        let all = profiled(&(0..200).map(record).collect::<Vec<_>>());
        let bytes = serde_json::to_vec(&all.1).unwrap().len();
        assert!(bytes < 4_000, "{bytes} bytes");
        assert!(of(&all, "number").samples.is_empty(), "a number is kept whole or not at all");
    }

    #[test]
    fn values_that_grow_when_they_are_written_leave_a_profile_small() {
        let ugly = |n: usize| format!("{}{}", n % 10, "\u{1}\"\n".repeat(1 + n));
        let record = |n: usize| serde_json::json!({ "text": ugly(n), "other": "9".repeat(1 + n % 60) }).to_string();
        let all = profiled(&(0..200).map(record).collect::<Vec<_>>());
        for path in ["text", "other"] {
            let bytes = serde_json::to_vec(of(&all, path)).unwrap().len();
            assert!(bytes < 3_500, "{path}: {bytes} bytes");
        }
        for sample in &of(&all, "text").samples {
            let written = serde_json::to_string(sample.value()).unwrap().len() - 2;
            assert!((9..=SAMPLE_BYTES_MAX).contains(&written), "{sample:?}");
        }
        assert_eq!(beginning(&"é".repeat(30), 48), "é".repeat(24));
        for char in ('\0'..='\u{ff}').chain(['\u{2028}', '😀']) {
            let text = char.to_string();
            assert_eq!(bytes_written(char), serde_json::to_string(&text).unwrap().len() - 2, "{char:?}");
        }
    }

    #[test]
    fn a_profile_that_an_earlier_release_has_written_is_read_and_goes_on() {
        let all = profiled(&[r#"{"v":12}"#.to_owned()]);
        let mut earlier = serde_json::to_value(of(&all, "v")).unwrap();
        let members = earlier.as_object_mut().unwrap();
        members.remove("numbers");
        members.insert("magnitudes".to_owned(), serde_json::json!({ "2": 1 }));
        let mut profile: Profile = serde_json::from_value(earlier).unwrap();
        assert!(profile.values == 1 && profile.numbers.is_empty());
        profile.add(SlotKind::Number, "40");
        assert!(profile.numbers.below(500).is_some_and(|half| (38.0..42.0).contains(&half)));
    }

    proptest! {
        #[test]
        fn the_order_of_records_makes_no_difference(values: Vec<(bool, i64, String)>, seed: u64) {
            let record = |(is_text, number, text): &(bool, i64, String)| {
                let value = if *is_text { serde_json::json!(text) } else { serde_json::json!(number) };
                serde_json::json!({ "v": value }).to_string()
            };
            let mut payloads: Vec<String> = values.iter().map(record).collect();
            prop_assume!(!payloads.is_empty());
            let before = of(&profiled(&payloads), "v").clone();
            let turn = seed as usize % payloads.len();
            payloads.rotate_left(turn);
            let turned = profiled(&payloads);
            prop_assert_eq!(&before, of(&turned, "v"));
        }
    }
}
