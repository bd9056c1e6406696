//! Options of `policy`.

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// What to do with policies.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum PolicyCommand {
    /// Show what is in force, and who says so.
    Show(PolicyArgs),
    /// Change what is named, for what comes from now on; the rest stays.
    Set(SetPolicyArgs),
    /// Take a policy away: the connection's is as the tenant's, the tenant's as usual.
    Clear(PolicyArgs),
    /// Say what thresholds would have done to the past cases.
    Backtest(BacktestArgs),
}

/// Whose policy.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct PolicyArgs {
    /// Whose cases.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only those of this connection.
    #[arg(long)]
    pub connection: Option<String>,
}

/// Options of `policy set`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SetPolicyArgs {
    /// Whose policy.
    #[command(flatten)]
    pub of: PolicyArgs,
    /// Who decides a repair.
    #[arg(long, value_enum)]
    pub repairs: Option<RepairsWanted>,
    /// With automatic: from this confidence on, from 0 to 1.
    #[arg(long, value_parser = probability, allow_negative_numbers = true)]
    pub at_least: Option<f64>,
    /// What a language model may be told of what stays uncertain, where the operator has set one up.
    #[arg(long, value_enum)]
    pub model: Option<ModelWanted>,
    /// What two people decide: all, key, renamed, retyped, split, merged, removed, reverted; several joined by commas,
    /// `none` for nothing.
    #[arg(long, value_delimiter = ',')]
    pub two_persons: Option<Vec<String>>,
    /// Fields and source paths whose values are masked where people decide, and told no model, with whatever feeds them or
    /// is made of them; several joined by commas, `*` is all, `none` for nothing.
    #[arg(long, value_delimiter = ',')]
    pub mask: Option<Vec<String>>,
    /// After so many hours people are reminded of a case that waits.
    #[arg(long)]
    pub remind_hours: Option<u32>,
    /// After so many hours a case that nobody decided is rejected, and holds on.
    #[arg(long)]
    pub expire_hours: Option<u32>,
}

/// Options of `policy backtest`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct BacktestArgs {
    /// Whose cases.
    #[command(flatten)]
    pub of: PolicyArgs,
    /// This threshold; some usual ones when left out.
    #[arg(long, value_parser = probability, allow_negative_numbers = true)]
    pub at_least: Option<f64>,
}

/// Who decides a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepairsWanted {
    /// What is likelier than not and breaks nothing is applied by itself.
    Propagate,
    /// What is sure, breaks nothing and fits the last held records is applied by itself.
    Automatic,
    /// A person decides every one.
    Approve,
    /// A person decides every one, and until then everything that comes is held.
    Stop,
}

/// What a language model may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelWanted {
    /// Nothing: none is asked.
    Never,
    /// Names and types of fields.
    Names,
    /// Some values, too, except those that are masked.
    Values,
}

/// Refused here, since what is no number would travel to a server as nothing.
fn probability(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("it is no probability: from 0 to 1".to_owned()) }
}

impl PolicyCommand {
    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Show(_) | Self::Backtest(_))
    }

    /// Whose policy.
    pub fn tenant(&self) -> Option<&str> {
        let of = match self {
            Self::Show(args) | Self::Clear(args) => args,
            Self::Set(args) => &args.of,
            Self::Backtest(args) => &args.of,
        };
        of.tenant.as_deref()
    }
}
