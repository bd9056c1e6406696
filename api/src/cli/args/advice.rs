//! Options of `advice`.

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::TenantArgs;

/// What to do with what questions to a language model have cost.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum AdviceCommand {
    /// Show calls, tokens, cost, what was saved, and the budget.
    Usage(TenantArgs),
    /// Count from nothing again, and free the budget.
    Reset(TenantArgs),
}

impl AdviceCommand {
    /// Whose questions.
    pub fn tenant(&self) -> Option<&str> {
        let (Self::Usage(args) | Self::Reset(args)) = self;
        args.tenant.as_deref()
    }
}
