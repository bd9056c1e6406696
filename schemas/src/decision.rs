//! What the step says besides rows. Each stands in `decisions`, in its stream's order.

use serde::{Deserialize, Serialize};

use crate::ids::EntityName;
use crate::input::DefinitionHash;
use crate::reason::{QuarantineStage, Reason};
use crate::shape::TypeClass;

/// A decision of the step, with the input that it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Offset of the input in the stream's partition.
    pub input_offset: u64,
    /// Place among the decisions of that input.
    pub ordinal: u32,
    /// What was decided.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Fact {
    /// A path was seen with a type that it did not have before.
    ShapeObserved {
        /// The path, its parts joined by dots, `[]` for the elements of an array.
        path: String,
        /// The type.
        class: TypeClass,
        /// The stream's fingerprint from here on, in hex.
        fingerprint: String,
    },
    /// A record was set aside. Its bytes are at the input offset.
    RecordQuarantined {
        /// Why, as a stable code.
        reason: Reason,
        /// Where on the line.
        stage: QuarantineStage,
        /// The field or path concerned, if there is one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        field: Option<String>,
        /// What exactly was wrong, for people.
        detail: String,
        /// Where in the source the record lies: the lane and the ordinal.
        lane: crate::Lane,
        /// The ordinal in that lane.
        lane_ordinal: u64,
    },
    /// A mapping is in force from here on.
    MappingActivated {
        /// The stream's mapping version, counted from 1.
        version: u32,
        /// The entity.
        entity: EntityName,
        /// The mapping's text.
        mapping: DefinitionHash,
        /// The entity's text.
        entity_definition: DefinitionHash,
        /// Who wanted it.
        by: String,
    },
    /// A command was carried out.
    CommandApplied {
        /// Its id.
        id: String,
    },
    /// A command was refused; nothing changed.
    CommandRefused {
        /// Its id.
        id: String,
        /// Why.
        reason: String,
    },
}

impl Fact {
    /// The CloudEvents type of the fact.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::ShapeObserved { .. } => "ShapeObserved",
            Self::RecordQuarantined { .. } => "RecordQuarantined",
            Self::MappingActivated { .. } => "MappingActivated",
            Self::CommandApplied { .. } => "CommandApplied",
            Self::CommandRefused { .. } => "CommandRefused",
        }
    }
}
