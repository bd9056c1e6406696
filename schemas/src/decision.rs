//! What the step says besides rows. Each stands in `decisions`, in its stream's order.

use serde::{Deserialize, Serialize};

use crate::advice::{Coverage, ModelCall, Recommendation};
use crate::drift::{Lost, Move, Severity, Tried, Verdict};
use crate::ids::EntityName;
use crate::input::DefinitionHash;
use crate::policy::{DecisionClass, Policy};
use crate::reason::{QuarantineStage, Reason};
use crate::settle::{Action, Settle, Settled};
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

/// A hash over a stream's decisions in their order: two folds that give the same hash decided the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecisionHash {
    /// The hash so far.
    pub head: u128,
    /// Decisions so far.
    pub count: u64,
}

impl DecisionHash {
    /// Takes in one decision; fails if it cannot be written as JSON.
    pub fn extend(&mut self, decision: &Decision) -> Result<(), serde_json::Error> {
        let mut bytes = self.head.to_be_bytes().to_vec();
        serde_json::to_writer(&mut bytes, decision)?;
        self.head = xxhash_rust::xxh3::xxh3_128(&bytes);
        self.count += 1;
        Ok(())
    }
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
        /// The mapping's text, where a repair made it and no input brought it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        text: Option<String>,
        /// Why, where somebody said so.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        why: Option<String>,
    },
    /// A record lacks what was (almost) always there: it is kept back, and its bytes stay at the input offset.
    RecordHeld {
        /// The case that it waits for: the offset of the input at which that began.
        case: u64,
        /// Where the record first entered.
        origin: u64,
    },
    /// A time is asked for.
    TimerSet {
        /// The timer's id.
        id: String,
        /// When, in microseconds since 1970 UTC.
        at: i64,
    },
    /// Something changed and does not go by itself: a case is open. One that grows is told again.
    DriftDetected {
        /// The case.
        case: u64,
        /// What the records lack.
        lost: Vec<Lost>,
        /// Paths that came with them and that no rule names.
        added: Vec<String>,
        /// Records since the case began that lack something of it.
        lacking: u64,
        /// Records since then that have it all.
        having: u64,
        /// The stream's mapping version.
        mapping_version: u32,
        /// How much hangs on it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        severity: Option<Severity>,
        /// It was told before, and more of it is known by now. One that was rejected is told anew when something joins it.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        again: bool,
        /// Paths that came beside those in `added`, which names some hundreds at most.
        #[serde(skip_serializing_if = "is_zero", default)]
        more: u64,
    },
    /// Values began to mean something else before that was sure: what was accepted since then is looked at again.
    RecordsRecalled {
        /// The case that holds them.
        case: u64,
        /// Records that were accepted behind this input …
        since: u64,
        /// … and up to this one.
        until: u64,
    },
    /// Somebody who matched the fields proposes a repair.
    RepairProposed {
        /// The case.
        case: u64,
        /// The mapping version that it was made on.
        mapping_version: u32,
        /// Where each lost path has gone, likelier than not.
        moves: Vec<Move>,
        /// Where else it may have gone, the likeliest first.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        alternatives: Vec<Move>,
        /// Why it waits for a person; none when it is applied at once.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        waits: Option<String>,
        /// What it would break: why it waits whatever its confidence.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        breaks: Option<String>,
        /// What became of the last held records when it was tried on them.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        tried: Option<Tried>,
    },
    /// What is uncertain of a case was compared with the mappings that were approved before.
    RagCoverageCheck {
        /// The case.
        case: u64,
        /// What is known.
        #[serde(flatten)]
        coverage: Coverage,
        /// The share that is known, in thousandths.
        share: u16,
        /// What that recommends.
        recommendation: Recommendation,
    },
    /// A language model was asked about a case.
    ModelAsked {
        /// The case.
        case: u64,
        /// The call.
        #[serde(flatten)]
        call: ModelCall,
    },
    /// A repair is in force from here on.
    RepairApplied {
        /// The case.
        case: u64,
        /// What was changed.
        moves: Vec<Move>,
        /// Paths that are gone for good: their fields are null from here on.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        removed: Vec<String>,
        /// Who decided: a person, or `rules`.
        by: String,
        /// Why.
        why: String,
    },
    /// A decision was taken back: the former rules are in force again.
    RepairReverted {
        /// The case that was decided.
        case: u64,
        /// The case that holds for the same want from here on.
        into: u64,
        /// Records that were accepted behind this input are looked at again.
        since: u64,
        /// Who decided.
        by: String,
        /// Why.
        why: String,
    },
    /// A proposal was rejected; what is held stays held.
    RepairRejected {
        /// The case.
        case: u64,
        /// Who decided.
        by: String,
        /// Why.
        why: String,
    },
    /// The case is over: what it held may go, by the rules in force.
    RecordsReleased {
        /// The case.
        case: u64,
        /// Records that it holds.
        count: u64,
        /// Why.
        why: String,
    },
    /// Everything that the case held has come again.
    RecordsRedriven {
        /// The case.
        case: u64,
        /// How many.
        count: u64,
    },
    /// One of the two people that a decision takes has approved it.
    ApprovalGiven {
        /// The case.
        case: u64,
        /// What was approved.
        verdict: Verdict,
        /// Why it takes two.
        class: DecisionClass,
        /// Who approved.
        by: String,
        /// Why.
        why: String,
    },
    /// A case is put off.
    CaseSnoozed {
        /// The case.
        case: u64,
        /// Until when, in microseconds since 1970 UTC.
        until: i64,
        /// Who put it off.
        by: String,
        /// Why.
        why: String,
    },
    /// A case still waits, or the time that it was put off to has come.
    CaseReminded {
        /// The case.
        case: u64,
    },
    /// Somebody settles records that were set aside: they come again, or are given up.
    SettlementBegun {
        /// The settlement: the offset of the input that asked for it.
        settlement: u64,
        /// What is done with which records, by whom and why.
        settle: Settle,
    },
    /// A record that was set aside is given up.
    RecordDiscarded {
        /// The settlement.
        settlement: u64,
        /// Where its bytes are on `inputs`.
        offset: u64,
    },
    /// Everything that a settlement is about has its fate.
    SettlementEnded {
        /// The settlement.
        settlement: u64,
        /// What was done.
        action: Action,
        /// What became of the records.
        #[serde(flatten)]
        settled: Settled,
    },
    /// Cases are decided by this policy from here on.
    PolicySet {
        /// The tenant's number of it.
        number: u64,
        /// The policy.
        policy: Policy,
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

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Fact {
    /// The case of which it changes what is to be decided: the case's version counts these.
    pub const fn case_changed(&self) -> Option<u64> {
        match self {
            Self::DriftDetected { case, .. }
            | Self::RepairProposed { case, .. }
            | Self::RepairApplied { case, .. }
            | Self::RepairRejected { case, .. }
            | Self::ApprovalGiven { case, .. } => Some(*case),
            _ => None,
        }
    }

    /// The CloudEvents type of the fact.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::ShapeObserved { .. } => "ShapeObserved",
            Self::RecordQuarantined { .. } => "RecordQuarantined",
            Self::MappingActivated { .. } => "MappingActivated",
            Self::RecordHeld { .. } => "RecordHeld",
            Self::TimerSet { .. } => "TimerSet",
            Self::DriftDetected { .. } => "DriftDetected",
            Self::RecordsRecalled { .. } => "RecordsRecalled",
            Self::RepairProposed { .. } => "RepairProposed",
            Self::RagCoverageCheck { .. } => "RagCoverageCheck",
            Self::ModelAsked { .. } => "ModelAsked",
            Self::RepairApplied { .. } => "RepairApplied",
            Self::RepairReverted { .. } => "RepairReverted",
            Self::RepairRejected { .. } => "RepairRejected",
            Self::RecordsReleased { .. } => "RecordsReleased",
            Self::RecordsRedriven { .. } => "RecordsRedriven",
            Self::ApprovalGiven { .. } => "ApprovalGiven",
            Self::CaseSnoozed { .. } => "CaseSnoozed",
            Self::CaseReminded { .. } => "CaseReminded",
            Self::SettlementBegun { .. } => "SettlementBegun",
            Self::RecordDiscarded { .. } => "RecordDiscarded",
            Self::SettlementEnded { .. } => "SettlementEnded",
            Self::PolicySet { .. } => "PolicySet",
            Self::CommandApplied { .. } => "CommandApplied",
            Self::CommandRefused { .. } => "CommandRefused",
        }
    }
}
