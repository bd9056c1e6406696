//! Options of `views`.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// What to do with views.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum ViewsCommand {
    /// Show each view with its rows, files and position.
    List(ViewArgs),
    /// Show the columns of one, and their types.
    Describe(DescribeArgs),
    /// Make a folder's tables as fresh as the log, for external readers.
    Flush(ViewArgs),
    /// Make a folder's tables again from the log.
    Rebuild(ViewArgs),
}

/// Which views.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ViewArgs {
    /// Whose views; all tenants' when left out.
    #[arg(long)]
    pub tenant: Option<String>,
    /// One entity, or its table; all when left out.
    pub entity: Option<String>,
}

/// Options of `views describe`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DescribeArgs {
    /// Whose view.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Its table or its entity, as `views list` prints them.
    pub view: String,
}
