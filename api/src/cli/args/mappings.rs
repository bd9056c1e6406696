//! Options of `mappings` and `drift`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// What to do with mappings.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum MappingsCommand {
    /// List the mappings in force, and who or what made each.
    List(TenantArgs),
    /// Show a stream's mapping: the one in force, or a version.
    Show(ShowMappingArgs),
    /// List the versions of a stream's mapping: who or what made each, when and why.
    History(StreamArgs),
    /// Tell what differs between two versions of a stream's mapping.
    Diff(DiffArgs),
    /// Suggest which fields the paths of a stream could fill that no rule reads, and print the mapping with what is sure.
    Suggest(StreamArgs),
    /// Put another mapping in force for what comes from now on.
    Set(SetMappingArgs),
}

impl MappingsCommand {
    /// Whose mappings.
    pub fn tenant(&self) -> Option<&str> {
        let stream = match self {
            Self::List(args) => return args.tenant.as_deref(),
            Self::Show(args) => &args.of,
            Self::History(args) | Self::Suggest(args) => args,
            Self::Diff(args) => &args.of,
            Self::Set(args) => &args.of,
        };
        stream.tenant.as_deref()
    }
}

/// What to see of drift.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum DriftCommand {
    /// List the streams, with their fingerprints and how many cases they had.
    List(TenantArgs),
    /// Show how a stream's shape changed, record by record, and its cases.
    Show(StreamArgs),
}

impl DriftCommand {
    /// Whose streams.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::List(args) => args.tenant.as_deref(),
            Self::Show(args) => args.tenant.as_deref(),
        }
    }
}

/// Whose things.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct TenantArgs {
    /// Whose.
    #[arg(long)]
    pub tenant: Option<String>,
}

/// Which stream.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct StreamArgs {
    /// Whose stream.
    #[arg(long)]
    pub tenant: Option<String>,
    /// The stream: CONNECTION/STREAM.
    pub stream: String,
}

/// Options of `mappings show`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ShowMappingArgs {
    /// The stream.
    #[command(flatten)]
    pub of: StreamArgs,
    /// This version; the one in force when left out.
    #[arg(long = "mapping-version")]
    pub version: Option<u32>,
}

/// Options of `mappings diff`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DiffArgs {
    /// The stream.
    #[command(flatten)]
    pub of: StreamArgs,
    /// The first version.
    #[arg(long)]
    pub from: u32,
    /// The second one; the one in force when left out.
    #[arg(long)]
    pub to: Option<u32>,
}

/// Options of `mappings set`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SetMappingArgs {
    /// The stream.
    #[command(flatten)]
    pub of: StreamArgs,
    /// A mapping file that has the stream, or a file with the stream's mapping alone; in YAML or JSON.
    pub file: PathBuf,
    /// The file's text; filled in by the command itself.
    #[arg(skip)]
    #[serde(default)]
    pub text: Option<String>,
    /// The mapping version that it was made on; by default the one in force.
    #[arg(long)]
    pub mapping_version: Option<u32>,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    pub why: String,
}
