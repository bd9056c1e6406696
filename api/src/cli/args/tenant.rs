//! Options of `tenant`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// What to do with tenants.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum TenantCommand {
    /// Invite an admin: prints a token that is used once, with POST /api/v1/auth/accept.
    Invite(InviteArgs),
    /// Write everything that a tenant has to a file, one JSON object a line; without its last line, of kind end, it is
    /// not whole.
    Export(ExportArgs),
    /// Delete a tenant with everything that it has, for ever; its name is free then.
    Delete(DeleteArgs),
}

impl TenantCommand {
    /// The tenant.
    pub fn tenant(&self) -> &str {
        match self {
            Self::Invite(args) => &args.tenant,
            Self::Export(args) => &args.tenant,
            Self::Delete(args) => &args.tenant,
        }
    }
}

/// Options of `tenant export`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ExportArgs {
    /// The tenant.
    pub tenant: String,
    /// The file, which must not be there yet; `-` for standard output.
    pub out: PathBuf,
}

/// Options of `tenant delete`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DeleteArgs {
    /// The tenant.
    pub tenant: String,
    /// Do it: nothing brings it back.
    #[arg(long)]
    pub yes: bool,
}

/// Options of `tenant invite`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct InviteArgs {
    /// The tenant.
    pub tenant: String,
    /// The address to sign in with.
    pub email: String,
}
