//! What is done with a case, and where it is.

use schemas::drift::{Move, Verdict};
use schemas::policy::DecisionClass;
use serde::{Deserialize, Serialize};

/// Where a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Records are held; whether what they lack is back is not told yet.
    Watching,
    /// It waits for a suggestion, or for a person.
    Open,
    /// The proposal was rejected; it waits for another decision, and holds.
    Rejected,
    /// Repaired: by rules or by a person.
    Repaired,
    /// Accepted as removed, by a person.
    Removed,
    /// What was missing came back.
    Released,
    /// The decision was taken back; another case holds in its place.
    Reverted,
    /// A person has seen it; nothing was to be done.
    Noted,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Watching,
        Self::Open,
        Self::Rejected,
        Self::Repaired,
        Self::Removed,
        Self::Released,
        Self::Reverted,
        Self::Noted,
    ];

    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Open => "open",
            Self::Rejected => "rejected",
            Self::Repaired => "repaired",
            Self::Removed => "removed",
            Self::Released => "released",
            Self::Reverted => "reverted",
            Self::Noted => "noted",
        }
    }

    /// Whether it was decided, and is over.
    pub const fn is_decided(self) -> bool {
        matches!(self, Self::Repaired | Self::Removed)
    }

    /// Whether somebody can decide it.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Open | Self::Rejected)
    }
}

/// What somebody did with a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// Approved a decision that takes two people, as the first of them.
    Approved,
    /// Repaired it.
    Repaired,
    /// Accepted what is lost as removed.
    Removed,
    /// Rejected the proposal.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// Took the decision back.
    Reverted,
    /// Put it off.
    Snoozed,
    /// Saw it; nothing was to be done.
    Noted,
}

impl Deed {
    /// Every deed.
    pub const ALL: [Self; 8] = [
        Self::Approved,
        Self::Repaired,
        Self::Removed,
        Self::Rejected,
        Self::Expired,
        Self::Reverted,
        Self::Snoozed,
        Self::Noted,
    ];

    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Repaired => "repaired",
            Self::Removed => "removed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Reverted => "reverted",
            Self::Snoozed => "snoozed",
            Self::Noted => "noted",
        }
    }
}

/// The first of the two approvals that a decision takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What was approved.
    pub verdict: Verdict,
    /// Why it takes two.
    pub class: DecisionClass,
    /// Who approved.
    pub by: String,
}

/// What was decided of a case, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// What was done.
    pub status: Deed,
    /// What was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// Paths accepted as removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, in microseconds since 1970 UTC.
    pub at: i64,
}
