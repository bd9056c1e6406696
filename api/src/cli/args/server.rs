//! Which server is asked, and how.

use std::path::PathBuf;

use clap::Args;

use crate::client::Address;

/// Which server is asked, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "A server, instead of a folder")]
pub struct ServerArgs {
    /// Ask the server at this address, as who signed in there with `login`, or as the program whose API key is in the
    /// variable AUTONOMOS_API_KEY. The tenant is theirs.
    #[arg(long, global = true, env = "AUTONOMOS_SERVER", value_name = "URL")]
    pub server: Option<Address>,
    /// PEM certificates to trust besides the system's.
    #[arg(long, global = true, env = "AUTONOMOS_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Send credentials beyond this machine without TLS: only where something else encrypts.
    #[arg(long, global = true)]
    pub insecure_http: bool,
    /// How long to try again what the server cannot do just now, in seconds.
    #[arg(long, global = true, env = "AUTONOMOS_RETRY_FOR", value_name = "SECONDS", default_value_t = 60)]
    pub retry_for: u64,
}

/// Options of `login`.
#[derive(Debug, Clone, Args)]
pub struct LoginArgs {
    /// The address to sign in with; asked for when it is left out.
    #[arg(long)]
    pub email: Option<String>,
    /// The tenant, when several know the address.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Read an API key from standard input, and sign in with that.
    #[arg(long, conflicts_with_all = ["email", "tenant"])]
    pub api_key_stdin: bool,
}
