//! A stream's state: a fold of its inputs, kept as a snapshot in `Store`.

use std::collections::BTreeMap;

use schemas::shape::ShapeTree;
use schemas::{Entity, Lane, Mapping, Position, StreamId};
use serde::{Deserialize, Serialize};

use super::rules::Rules;

/// What a stream's records came to. In = accepted + deleted + quarantined + duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Records read from `inputs`.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Upserts mapped to a row.
    pub accepted: u64,
    /// Deletes.
    pub deleted: u64,
    /// Set aside.
    pub quarantined: u64,
    /// At or below their lane's last ordinal.
    pub duplicate: u64,
}

/// A lane's place, as the line holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneState {
    /// The last ordinal taken.
    pub ordinal: u64,
    /// The connector's note with it, in hex.
    #[serde(with = "hex_bytes")]
    pub cursor: Vec<u8>,
}

/// A stream's definition in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) entity: Entity,
    pub(super) mapping: Mapping,
    pub(super) version: u32,
}

/// The state of a stream after all inputs below [`StreamState::next`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamState {
    /// The stream.
    pub stream: StreamId,
    /// The first input that is not folded in.
    pub next: Position,
    /// What became of its records.
    pub counters: Counters,
    /// How often each mapped field was absent or null.
    pub missing: BTreeMap<String, u64>,
    /// Every lane that was read.
    pub lanes: BTreeMap<Lane, LaneState>,
    pub(super) shape: ShapeTree,
    pub(super) opened: Option<Opened>,
    /// Definitions that were given and not yet used.
    pub(super) definitions: BTreeMap<String, String>,
    #[serde(skip)]
    pub(super) rules: Option<Rules>,
    /// Absences since the last snapshot, by field; folded into `missing`.
    #[serde(skip)]
    pub(super) missing_now: Vec<u64>,
}

impl StreamState {
    /// The state before the first input.
    pub fn new(stream: StreamId, partition: u32, epoch: u32) -> Self {
        Self {
            stream,
            next: Position { epoch, partition, offset: 0 },
            counters: Counters::default(),
            missing: BTreeMap::new(),
            lanes: BTreeMap::new(),
            shape: ShapeTree::default(),
            opened: None,
            definitions: BTreeMap::new(),
            rules: None,
            missing_now: Vec::new(),
        }
    }

    /// Reads a snapshot.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut state: Self = serde_json::from_slice(bytes)?;
        state.bind();
        Ok(state)
    }

    /// Writes a snapshot: the same state gives the same bytes.
    pub fn snapshot(&mut self) -> Vec<u8> {
        self.settle_missing();
        serde_json::to_vec(self).expect("a state has only text keys")
    }

    /// The shape seen so far.
    pub fn shape(&self) -> &ShapeTree {
        &self.shape
    }

    /// The entity that the stream feeds, once it is open.
    pub fn entity(&self) -> Option<&Entity> {
        self.opened.as_ref().map(|o| &o.entity)
    }

    /// The mapping in force and its version.
    pub fn mapping(&self) -> Option<(&Mapping, u32)> {
        self.opened.as_ref().map(|o| (&o.mapping, o.version))
    }

    pub(super) fn bind(&mut self) {
        self.settle_missing();
        if let Some(opened) = &self.opened {
            self.rules = Some(Rules::bind(&opened.mapping, &opened.entity, &mut self.shape));
            self.missing_now = vec![0; opened.entity.fields.len()];
        }
    }

    fn settle_missing(&mut self) {
        let Some(rules) = &self.rules else { return };
        for (field, count) in rules.fields.iter().zip(&mut self.missing_now) {
            if *count > 0 {
                *self.missing.entry(field.name.clone()).or_default() += std::mem::take(count);
            }
        }
    }
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        serializer.serialize_str(&hex)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let hex = String::deserialize(deserializer)?;
        let pairs = hex.as_bytes().chunks(2);
        pairs
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()))
            .collect::<Option<Vec<u8>>>()
            .ok_or_else(|| serde::de::Error::custom("not hex"))
    }
}
