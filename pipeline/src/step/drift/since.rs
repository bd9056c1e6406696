//! What was seen of something since it was first missed.

use serde::{Deserialize, Serialize};

/// What was seen since something was first missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Since {
    pub(super) lacking: u64,
    pub(super) having: u64,
    /// Of the lacking: had it, but of a type that it never had, and these types.
    pub(super) strange: u64,
    pub(super) types: u8,
    /// Records in a row that had it, up to the last.
    #[serde(default)]
    pub(super) run: u64,
    /// Records without a value, of what is in a case for its type.
    #[serde(default)]
    pub(super) passed: u64,
}

/// Records in a row that lacked something, since it was first missed: up to the last, and the most there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Away {
    pub(super) now: u64,
    pub(super) most: u64,
}

impl Away {
    pub(super) fn lack(&mut self, records: u64) {
        self.now += records;
        self.most = self.most.max(self.now);
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
