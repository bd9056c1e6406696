//! Options of `quarantine`.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::limit;

/// What to see of the quarantine.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum QuarantineCommand {
    /// List records that were set aside, with their reasons.
    List(QuarantineArgs),
    /// Show one with its bytes.
    Show(ShowArgs),
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
