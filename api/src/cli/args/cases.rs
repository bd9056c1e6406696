//! Options of `cases`.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::limit;

/// What to do with cases of drift.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum CasesCommand {
    /// List cases that wait, or others.
    List(CasesArgs),
    /// Show one: what is lost, real rows and held records, where it may have gone, whom it concerns, what was decided.
    Show(CaseArgs),
    /// Say what a decision would do to the last held records; nothing is changed.
    DryRun(DryRunArgs),
    /// The proposed repair is right: the new paths are read before the old ones.
    Approve(PartArgs),
    /// Another repair is right.
    Edit(EditArgs),
    /// The proposal is wrong; what is held stays held.
    Reject(DecideArgs),
    /// The lost paths are gone for good: their fields are null from here on.
    AcceptRemoved(PartArgs),
    /// A decision was wrong: the former rules again; what was accepted since is looked at again, and held for want.
    Revert(DecideArgs),
    /// Ask again later.
    Snooze(SnoozeArgs),
}

impl CasesCommand {
    /// Whose cases.
    pub fn tenant(&self) -> Option<&str> {
        let decision = match self {
            Self::List(args) => return args.tenant.as_deref(),
            Self::Show(args) => return args.tenant.as_deref(),
            Self::DryRun(args) => return args.of.tenant.as_deref(),
            Self::Approve(args) | Self::AcceptRemoved(args) => &args.decision,
            Self::Reject(args) | Self::Revert(args) => args,
            Self::Edit(args) => &args.decision,
            Self::Snooze(args) => &args.decision,
        };
        decision.of.tenant.as_deref()
    }
}

/// Options of `cases list`.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub struct CasesArgs {
    /// Whose cases.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only of this connection.
    #[arg(long, conflicts_with = "stream")]
    pub connection: Option<String>,
    /// Only of this stream: CONNECTION/STREAM.
    #[arg(long)]
    pub stream: Option<String>,
    /// Also those that are decided or released, and those that are not told yet.
    #[arg(long)]
    pub all: bool,
    /// Those of this status instead of those that wait: watching, open, rejected, repaired, removed, released, reverted or noted.
    #[arg(long, conflicts_with = "all")]
    pub status: Option<String>,
    /// Only of this severity: info, warning or breaking.
    #[arg(long)]
    pub severity: Option<String>,
    /// Only with this kind of change: renamed, nested, unnested, split, merged, retyped, removed, added or nulls.
    #[arg(long)]
    pub kind: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = limit)]
    pub limit: usize,
}

/// Which case.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CaseArgs {
    /// Whose case.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Its id, as `cases list` prints it.
    pub case: String,
}

/// A decision to try; the proposed repair, unless moves or removal are named.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DryRunArgs {
    /// The case.
    #[command(flatten)]
    pub of: CaseArgs,
    /// Only this lost path; to be repeated.
    #[arg(long, value_name = "PATH")]
    pub only: Vec<String>,
    /// Where a lost path has gone instead, as for `cases edit`; to be repeated.
    #[arg(long = "move", value_name = "FROM=TO", conflicts_with_all = ["only", "removed"])]
    pub moves: Vec<String>,
    /// How its value is to be transformed, as for `cases edit`; to be repeated.
    #[arg(long = "transform", value_name = "FROM=RULE", requires = "moves")]
    pub transforms: Vec<String>,
    /// The lost paths are gone for good.
    #[arg(long)]
    pub removed: bool,
    /// The last so many of the records that it holds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub records: u32,
}

/// A decision of a case.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DecideArgs {
    /// The case.
    #[command(flatten)]
    pub of: CaseArgs,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    pub why: String,
    /// The mapping version that the decision was made on; by default the one in force.
    #[arg(long)]
    pub mapping_version: Option<u32>,
    /// The version of the case that the decision was made on; by default approve takes the one that it has, others any.
    #[arg(long)]
    pub case_version: Option<u32>,
}

/// A decision of a case, or of some of what it has lost.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct PartArgs {
    /// The decision.
    #[command(flatten)]
    pub decision: DecideArgs,
    /// Only this lost path; to be repeated.
    #[arg(long, value_name = "PATH")]
    pub only: Vec<String>,
}

/// Options of `cases edit`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct EditArgs {
    /// The decision.
    #[command(flatten)]
    pub decision: DecideArgs,
    /// Where a lost path has gone; FROM=A+B when it was split; to be repeated, once for each path. What is not named waits on.
    #[arg(long = "move", value_name = "FROM=TO", required = true)]
    pub moves: Vec<String>,
    /// How the value of a lost path is to be transformed, as in a mapping file: 'Total={unit: cents}'; to be repeated.
    #[arg(long = "transform", value_name = "FROM=RULE")]
    pub transforms: Vec<String>,
}

/// Options of `cases snooze`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SnoozeArgs {
    /// The decision.
    #[command(flatten)]
    pub decision: DecideArgs,
    /// For how long, a year at most.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8784))]
    pub hours: u32,
}
