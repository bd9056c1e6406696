//! The stages shown live. One list, here.

use serde::{Deserialize, Serialize};

/// A stage of the line that people watch, derived from log positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Durable in `inputs`.
    Ingested,
    /// Mapped to its entity.
    Canonicalized,
    /// Folded into its view.
    Materialized,
    /// Read by a query (per query, not per row).
    Viewed,
    /// Set aside with a reason.
    Quarantined,
    /// The source's shape changed.
    Drift,
    /// A command was given.
    Intent,
    /// A command's outcome was written.
    Journaled,
}
