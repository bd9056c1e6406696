//! Options of `migrate`.

use std::path::PathBuf;

use clap::Args;

/// Options of `migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// What moves: a data folder that nobody holds, or a configuration file (.yaml) that names a log and a store. Without it
    /// nothing moves: topics and tables are made, and brought to what this build needs.
    #[arg(long, value_name = "FOLDER|FILE")]
    pub from: Option<PathBuf>,
    /// Where to: the same, and empty, or what a move that was cut off has left.
    #[arg(long, value_name = "FOLDER|FILE")]
    pub to: PathBuf,
}
