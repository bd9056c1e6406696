//! Options of `serve` and `demo`.

use std::path::PathBuf;

use clap::Args;

use crate::connections::roots::DeclaredRoot;
use crate::roles::RoleName;

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// What to watch: a YAML list of streams, by default `autonomos.yaml` in the data folder.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The roles that this process takes, by default every one; others take the rest. Only where log and store are on servers.
    #[arg(long, value_enum, env = "AUTONOMOS_ROLES", value_delimiter = ',')]
    pub roles: Vec<RoleName>,
    /// Where the API answers, by default 127.0.0.1:7400. Beyond loopback it takes TLS, which the configuration names. A process
    /// without the role api answers nothing by default, and /healthz, /readyz and /metrics where this says.
    #[arg(long)]
    pub listen: Option<std::net::SocketAddr>,
    /// Listen beyond loopback without TLS: only behind a proxy that encrypts.
    #[arg(long)]
    pub allow_plain_http: bool,
    /// A folder in which files of a tenant's API connections may lie; to be repeated. In the variable `;` divides them.
    #[arg(long, value_name = "TENANT=FOLDER", env = "AUTONOMOS_FILES_ROOTS", value_delimiter = ';')]
    pub files_root: Vec<DeclaredRoot>,
    /// A file with the token that /metrics takes from elsewhere than loopback.
    #[arg(long, value_name = "FILE", env = "AUTONOMOS_METRICS_TOKEN_FILE")]
    pub metrics_token_file: Option<PathBuf>,
    /// A query with more rows than this is refused; by default its bytes and its time alone are limited.
    #[arg(long)]
    pub max_rows: Option<usize>,
}

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Seed of the generated records.
    #[arg(long, default_value_t = 2026)]
    pub seed: u64,
    /// Where the API answers; a loopback address.
    #[arg(long, default_value = "127.0.0.1:7400")]
    pub listen: std::net::SocketAddr,
    /// Stop once the drift drop is told, instead of serving on.
    #[arg(long)]
    pub once: bool,
    /// Where log, store and views are: a configuration file. What it names has to be empty, as the demo makes its folder, and
    /// with that its master.key, anew at every start.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
