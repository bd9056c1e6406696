//! Options of `query`.

use clap::Args;
use serde::{Deserialize, Serialize};

/// Options of `query`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct QueryArgs {
    /// Whose views.
    #[arg(long)]
    pub tenant: Option<String>,
    /// How to answer.
    #[arg(long, default_value = "table", value_parser = ["table", "csv", "json", "arrow"])]
    pub format: String,
    /// Refuse a result of more rows.
    #[arg(long)]
    pub max_rows: Option<usize>,
    /// One SELECT.
    pub sql: String,
}
