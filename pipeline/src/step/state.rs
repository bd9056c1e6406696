//! A stream's state: a fold of its inputs, kept as a snapshot in `Store`.

use std::collections::{BTreeMap, VecDeque};

use schemas::input::DefinitionHash;
use schemas::mapping::{FieldRules, Repairs};
use schemas::shape::ShapeTree;
use schemas::{Entity, Lane, Mapping, Policy, Position, StreamId};
use serde::{Deserialize, Serialize};

use super::DEFINITION_BYTES_MAX;
use super::drift::Drift;
use super::rules::Rules;
use super::settle::Settlement;
use super::waiting::Waiting;

/// What a stream's records came to. In = accepted + deleted + quarantined + discarded + held + duplicate.
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
    /// Kept back, for now.
    #[serde(default)]
    pub held: u64,
    /// Set aside, and given up by a person.
    #[serde(default)]
    pub discarded: u64,
}

impl Counters {
    /// Records with a fate; all that were taken.
    pub fn fates(&self) -> u64 {
        self.accepted + self.deleted + self.quarantined + self.discarded + self.held + self.duplicate
    }
}

/// A lane's place, as the line holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneState {
    /// The last ordinal taken.
    pub ordinal: u64,
    /// Offset of its last input: what orders the states of one lane.
    #[serde(default)]
    pub at: u64,
    /// The connector's note with it, in hex.
    #[serde(with = "hex_bytes")]
    pub cursor: Vec<u8>,
}

/// How many ids of commands are remembered; a command that comes again after so many others is carried out again.
const COMMANDS_MAX: usize = 64;
/// Texts of definitions that may wait for their use, in bytes.
const PENDING_BYTES_MAX: usize = 2 * DEFINITION_BYTES_MAX;

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
    /// Lanes that were read. Who folds a batch of a lane that was read before must have it here; others may lie elsewhere.
    pub lanes: BTreeMap<Lane, LaneState>,
    pub(super) shape: ShapeTree,
    pub(super) opened: Option<Opened>,
    /// Definitions that were given and not yet used.
    pub(super) definitions: BTreeMap<String, String>,
    /// What the records usually have, and what was held for want of it.
    #[serde(default)]
    pub(super) drift: Drift,
    /// By what cases are decided, and the tenant's number of it.
    #[serde(default)]
    pub(super) policy: Policy,
    #[serde(default)]
    pub(super) policy_number: u64,
    /// What is known of the cases that wait for people.
    #[serde(default)]
    pub(super) waiting: Waiting,
    /// Settlements that are under way, by the offset of the input that asked for them.
    #[serde(default)]
    pub(super) settlements: BTreeMap<u64, Settlement>,
    /// Ids of the last commands, oldest first.
    #[serde(default)]
    commands: VecDeque<String>,
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
            drift: Drift::default(),
            policy: Policy::default(),
            policy_number: 0,
            waiting: Waiting::default(),
            settlements: BTreeMap::new(),
            commands: VecDeque::new(),
            rules: None,
            missing_now: Vec::new(),
        }
    }

    /// Reads a snapshot.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut state: Self = serde_json::from_slice(bytes)?;
        if let Some(Opened { mapping, .. }) = &state.opened {
            let fields = mapping.fields.values().flat_map(FieldRules::paths);
            let others =
                mapping.key.0.iter().chain(&mapping.version).chain(mapping.deleted.iter().map(|sign| &sign.field));
            state.drift.name_as_now(fields.chain(others));
        }
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

    /// By what its cases are decided.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who decides a repair: what policy and mapping say, the stricter of the two.
    pub fn repairs(&self) -> Repairs {
        self.policy.repairs(self.opened.as_ref().and_then(|opened| opened.mapping.repairs))
    }

    /// What it knows of its drift.
    pub fn drift(&self) -> &Drift {
        &self.drift
    }

    /// The version of a case that waits for people.
    pub fn case_version(&self, case: u64) -> Option<u32> {
        self.waiting.version(case)
    }

    /// Whether a command or a suggestion of this id is among the last ones.
    pub(crate) fn has_taken(&self, id: &str) -> bool {
        self.commands.iter().any(|known| known == id)
    }

    /// Keeps a definition for its use. One that is no use (too long, or not the text of its name) is left out, and
    /// whoever names it is refused.
    pub(super) fn define(&mut self, hash: DefinitionHash, text: String) {
        if text.len() > DEFINITION_BYTES_MAX || DefinitionHash::of(&text) != hash {
            return;
        }
        if self.definitions.values().map(String::len).sum::<usize>() + text.len() > PENDING_BYTES_MAX {
            self.definitions.clear();
        }
        self.definitions.insert(hash.as_str().to_owned(), text);
    }

    /// Notes the id of a command; false when it was among the last ones.
    pub(super) fn take_command(&mut self, id: &str) -> bool {
        if self.has_taken(id) {
            return false;
        }
        if self.commands.len() == COMMANDS_MAX {
            self.commands.pop_front();
        }
        self.commands.push_back(id.to_owned());
        true
    }

    pub(super) fn bind(&mut self) {
        self.settle_missing();
        if let Some(opened) = &self.opened {
            let rules = Rules::bind(&opened.mapping, &opened.entity, &mut self.shape);
            self.drift.bind(&rules, opened.version);
            self.drift.set_stops(self.policy.repairs(opened.mapping.repairs) == Repairs::Stop);
            self.rules = Some(rules);
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
