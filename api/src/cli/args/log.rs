//! Options of `log`.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// What to see of the log.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum LogCommand {
    /// Show a tenant's streams with their counters, and of a folder each partition's end.
    Stat(StatArgs),
    /// Print a tenant's events or decisions as CloudEvents, or its inputs, one a line.
    Cat(CatArgs),
    /// Fold a folder's inputs anew and compare the hashes of each stream's events and decisions with the stored ones.
    Refold(RefoldArgs),
}

/// Options of `log stat`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct StatArgs {
    /// Whose streams; all tenants' when left out.
    #[arg(long)]
    pub tenant: Option<String>,
}

/// Options of `log cat`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CatArgs {
    /// Whose items.
    #[arg(long)]
    pub tenant: Option<String>,
    /// inputs, events or decisions.
    #[arg(long, default_value = "events")]
    pub topic: String,
    /// From this offset of each partition on.
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// At most so many items.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

/// Options of `log refold`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct RefoldArgs {
    /// Whose streams; all tenants' when left out.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Inputs folded at once.
    #[arg(long, default_value_t = 1000)]
    pub batch: usize,
    /// Partitions folded side by side.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}
