//! Options of `ingest`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use connectors::file::Bounds;
use schemas::TenantId;
use serde::{Deserialize, Serialize};

/// What `ingest` reads, and as what.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestArgs {
    /// The tenant; made when the name is new.
    #[arg(long)]
    #[serde(default)]
    pub tenant: Option<String>,
    /// The connection.
    #[arg(long)]
    pub connection: String,
    /// The stream within the connection.
    #[arg(long)]
    pub stream: String,
    /// The source system whose shipped mapping is used.
    #[arg(long, required_unless_present_any = ["mapping", "dry_run"])]
    #[serde(default)]
    pub system: Option<String>,
    /// A mapping file, instead of a shipped one.
    #[arg(long)]
    #[serde(default)]
    pub mapping: Option<PathBuf>,
    /// The mapping file's text; filled in by the command itself.
    #[arg(skip)]
    #[serde(default)]
    pub mapping_text: Option<String>,
    /// The key's path in the source, several joined by commas; instead of the mapping's.
    #[arg(long)]
    #[serde(default)]
    pub key: Option<String>,
    /// The version's path in the source, instead of the mapping's; `none` for a source without versions.
    #[arg(long)]
    #[serde(default)]
    pub version: Option<String>,
    /// The version's type: time, integer or text; by default what the first record shows.
    #[arg(long)]
    #[serde(default)]
    pub version_type: Option<String>,
    /// COLUMN or COLUMN=VALUE that tells a deleted row; instead of the mapping's.
    #[arg(long, value_name = "COLUMN[=VALUE]")]
    #[serde(default)]
    pub deleted: Option<String>,
    /// `append` reads what is new; `snapshot` also deletes what is missing.
    #[arg(long, value_enum, default_value_t = Mode::Append)]
    #[serde(default)]
    pub mode: Mode,
    /// The largest share of rows, in percent, that a snapshot may delete.
    #[arg(long, default_value_t = 20)]
    #[serde(default = "twenty")]
    pub max_deletes: u8,
    /// The file format; by default told by name and content.
    #[arg(long)]
    #[serde(default)]
    pub format: Option<String>,
    /// CSV: what divides cells; by default told by the header.
    #[arg(long)]
    #[serde(default)]
    pub delimiter: Option<String>,
    /// CSV: what quotes cells.
    #[arg(long)]
    #[serde(default)]
    pub quote: Option<char>,
    /// Text encoding, for example shift_jis; by default told by the content: UTF-8, UTF-16, or else windows-1252 where
    /// that makes sense.
    #[arg(long)]
    #[serde(default)]
    pub encoding: Option<String>,
    /// Excel: the sheet; by default the first.
    #[arg(long)]
    #[serde(default)]
    pub sheet: Option<String>,
    /// Answer when everything is durable, before it is visible; its fates are pending then. Where no server holds the folder,
    /// the command still processes it all before it ends.
    #[arg(long)]
    #[serde(default)]
    pub no_wait: bool,
    /// Show shape, mapping, what stays unmapped and what it could fill; suggest a mapping where there is none; write nothing.
    #[arg(long)]
    #[serde(default)]
    pub dry_run: bool,
    /// With --dry-run, of a stream without a mapping: the entity that it shall fill; by default the one that fits best.
    #[arg(long, requires = "dry_run")]
    #[serde(default)]
    pub entity: Option<String>,
    /// The files are watched, and may still be written; set by `serve`.
    #[arg(skip)]
    #[serde(default)]
    pub follow: bool,
    /// Set when somebody who is not the operator named the files.
    #[arg(skip)]
    #[serde(skip)]
    pub behalf: Option<Behalf>,
    /// Files, globs or folders.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// For whom files are read that somebody other than the operator named. It never travels: who opens sets it each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behalf {
    /// The tenant. It is there; its name alone would make it again when it is gone.
    pub tenant: TenantId,
    /// Where the files must lie.
    pub bounds: Bounds,
}

fn twenty() -> u8 {
    20
}

/// How files relate to the rows that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Read what is new.
    #[default]
    Append,
    /// The files are everything: what is missing is deleted.
    Snapshot,
}
