//! Options of `quarantine`.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::limit;

/// What to see of the quarantine, and to do with it.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum QuarantineCommand {
    /// List records that were set aside, with their reasons.
    List(QuarantineArgs),
    /// Show one with its bytes.
    Show(ShowArgs),
    /// Have records come again, by the mapping in force: they become rows, or are set aside again.
    Retry(SettleArgs),
    /// Give records up. Their bytes stay on the log.
    Discard(SettleArgs),
    /// List messages on the log's servers that are none of the line's and were passed over: of no tenant, for who operates it.
    Foreign(ForeignArgs),
}

impl QuarantineCommand {
    /// Whose records.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::List(args) => args.tenant.as_deref(),
            Self::Show(args) => args.tenant.as_deref(),
            Self::Retry(args) | Self::Discard(args) => args.tenant.as_deref(),
            Self::Foreign(_) => None,
        }
    }
}

/// Options of `quarantine list`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct QuarantineArgs {
    /// Whose records.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this stream: CONNECTION/STREAM.
    #[arg(long)]
    pub stream: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = limit)]
    pub limit: usize,
    /// Only what comes behind this one, as the end of a longer list names it.
    #[arg(long)]
    pub after: Option<String>,
    /// Those that were retried or discarded, instead of those that wait.
    #[arg(long)]
    pub settled: bool,
}

/// Options of `quarantine foreign`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ForeignArgs {
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = limit)]
    pub limit: usize,
    /// Only what comes behind this one, as the end of a longer list names it.
    #[arg(long)]
    pub after: Option<String>,
    /// Note of all that are there now that they were seen to: `doctor` tells of them no more.
    #[arg(long)]
    pub seen: bool,
}

/// Options of `quarantine show`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ShowArgs {
    /// Whose record.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Write its bytes and nothing else.
    #[arg(long)]
    pub raw: bool,
    /// Its position, as `quarantine list` prints it.
    pub position: String,
}

/// Which records are retried or discarded, and why.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SettleArgs {
    /// Whose records.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only what was set aside of this stream: CONNECTION/STREAM.
    #[arg(long, conflicts_with = "positions")]
    pub stream: Option<String>,
    /// Only what was set aside for this reason.
    #[arg(long, conflicts_with = "positions")]
    pub reason: Option<String>,
    /// Only what was set aside for this field or path.
    #[arg(long, conflicts_with = "positions")]
    pub field: Option<String>,
    /// Why, for the record.
    #[arg(long)]
    pub why: String,
    /// These records, as `quarantine list` prints them.
    pub positions: Vec<String>,
}
