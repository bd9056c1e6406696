//! What enters by the front door besides records: streams being opened, definitions, commands, time.

use serde::{Deserialize, Serialize};

use crate::advice::Asked;
use crate::drift::{Decide, Move, Tried};
use crate::ids::{EntityName, StreamId};
use crate::policy::Policy;
use crate::settle::Settle;
use crate::shape::TypeClass;

/// The name of a definition's text: the first 128 bits of its SHA-256, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DefinitionHash(String);

impl DefinitionHash {
    /// The name of `text`.
    pub fn of(text: &str) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(text.as_bytes());
        Self(digest[..16].iter().map(|b| format!("{b:02x}")).collect())
    }
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DefinitionHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a definition defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefinitionKind {
    /// A [`crate::Mapping`] of one stream.
    Mapping,
    /// An [`crate::Entity`].
    Entity,
}

/// More fields than this are not declared: such a source's drift is told by its records alone.
pub const DECLARED_FIELDS_MAX: usize = 4_096;

/// A field that a source says its records have: a column of a file's header, of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredField {
    /// Its path, as mappings write it.
    pub path: String,
    /// Its type, where the source tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<TypeClass>,
}

/// An input that is no record. Each stands alone in its batch, as JSON, in its stream's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// A text that later inputs of the stream name by its hash; it stands before them. A stream's definitions are its
    /// own, so that its state is a fold of its own inputs: the same text may stand again for another one.
    Definition {
        /// Its name.
        hash: DefinitionHash,
        /// What it defines.
        kind: DefinitionKind,
        /// The text: canonical JSON.
        text: String,
    },
    /// A stream is opened for one entity, for ever.
    StreamOpened {
        /// The stream.
        stream: StreamId,
        /// What its records are.
        entity: EntityName,
        /// The mapping in force from here on.
        mapping: DefinitionHash,
        /// The entity's definition in force from here on.
        entity_definition: DefinitionHash,
    },
    /// Somebody wants something done to the stream.
    Command {
        /// Chosen by the caller; the outcome names it, and one with the id of one of the stream's last 64 is ignored.
        id: String,
        /// What is wanted.
        command: Command,
    },
    /// Somebody who matched the fields says where the lost ones of a case may have gone.
    Suggestion {
        /// As a command's.
        id: String,
        /// The case: the offset of the input at which it began.
        case: u64,
        /// The mapping version that it was made on; the step refuses any other.
        mapping_version: u32,
        /// For each lost path where it has gone, likelier than not.
        moves: Vec<Move>,
        /// Where else it may have gone, the likeliest first.
        #[serde(default)]
        alternatives: Vec<Move>,
        /// What became of the last held records when the moves were tried on them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tried: Option<Tried>,
        /// What was looked up and asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<Asked>,
        /// The version of the case that it was made on, if it matters; the step refuses any other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u32>,
    },
    /// Records of a settlement are given up, in the order of their offsets.
    Discarded {
        /// The settlement: the offset of the input that asked for it.
        settlement: u64,
        /// The records.
        offsets: Vec<u64>,
    },
    /// Everything that a settlement is about has come.
    SettlementEnded {
        /// The settlement.
        settlement: u64,
    },
    /// All records that a recall or a revert has looked at again have come.
    RecallEnded {
        /// The case that they were looked at for.
        case: u64,
        /// The input that asked for it.
        at: u64,
        /// The input behind which they stand.
        since: u64,
    },
    /// The records that follow have these fields: their source says so itself.
    SchemaDeclared {
        /// The fields, in the source's order.
        fields: Vec<DeclaredField>,
    },
    /// A time that the step asked for has come.
    TimePassed {
        /// The timer's id.
        id: String,
    },
}

/// A command to a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Use another mapping, or a newer definition of the same entity, from here on.
    ActivateMapping {
        /// The mapping.
        mapping: DefinitionHash,
        /// The entity's definition.
        entity_definition: DefinitionHash,
        /// Who wants it.
        by: String,
        /// Whether the key may change: every row then stands twice, under its old key and its new one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
        /// The mapping version that it was made on, if it matters; the step refuses any other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made_on: Option<u32>,
        /// Why, where somebody says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// As a decision's: the step refuses it where it changes what a case is about for which records are looked at again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        once_read: bool,
    },
    /// Decide a case.
    Decide(Decide),
    /// Retry or discard records that were set aside.
    Settle(Settle),
    /// Decide cases by this policy from here on.
    SetPolicy {
        /// The tenant's number of it; the stream takes none that is not greater than the one before.
        number: u64,
        /// The policy of the stream's connection.
        policy: Policy,
        /// Who wants it.
        by: String,
    },
}
