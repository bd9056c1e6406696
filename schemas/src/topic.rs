//! The three topics of the line.

use serde::{Deserialize, Serialize};

/// A topic of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Partitioned by stream: records, commands, `StreamOpened`, definitions, `TimePassed`.
    Inputs,
    /// Partitioned by view: what changes a view.
    Events,
    /// Partitioned by stream: everything else that the step says.
    Decisions,
}

impl Topic {
    /// All topics, in the order of the line.
    pub const ALL: [Self; 3] = [Self::Inputs, Self::Events, Self::Decisions];

    /// The topic's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Events => "events",
            Self::Decisions => "decisions",
        }
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Topic {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|t| t.name() == s)
            .ok_or_else(|| format!("there is no topic {s:?}: choose inputs, events or decisions"))
    }
}
