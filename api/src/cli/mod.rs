//! The command line: one binary, every command with `--json`.

pub mod cases;
pub mod doctor;
pub mod dry_run;
pub mod ingest;
pub mod log;
pub mod mappings;
pub mod match_;
pub mod plan;
pub mod policy;
pub mod quarantine;
pub mod query;
pub mod snapshot;
pub mod tenant;
pub mod views;
pub mod webhooks;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use connectors::file::Bounds;
use schemas::TenantId;
use serde::{Deserialize, Serialize};

use crate::connections::roots::DeclaredRoot;
use crate::line::Line;
use crate::output::Output;

/// The system of record for data that keeps changing shape.
#[derive(Debug, Parser)]
#[command(name = "autonomos", version, max_term_width = 110)]
pub struct Cli {
    /// The data folder.
    #[arg(long, global = true, env = "AUTONOMOS_DATA_DIR", default_value = "./autonomos-data")]
    pub data_dir: PathBuf,
    /// Answer in JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Top,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Top {
    /// Run every role until stopped: watch the configured folders, keep the views, answer commands.
    Serve(ServeArgs),
    /// Make a demo folder and serve it: real files through the real line.
    Demo(DemoArgs),
    /// Match the fields in a file of cases, and print the answers: no folder, no network.
    Match(match_::MatchArgs),
    /// A command that works on a folder, or on the server that holds it.
    #[command(flatten)]
    Folder(Command),
}

/// Commands that a folder or its server answers.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum Command {
    /// Read files into the line and wait until every record has its fate.
    Ingest(Box<IngestArgs>),
    /// Ask a tenant's views with SQL.
    Query(QueryArgs),
    /// List, flush or rebuild views.
    #[command(subcommand)]
    Views(ViewsCommand),
    /// Look at the log.
    #[command(subcommand)]
    Log(LogCommand),
    /// Look at what was set aside, retry or discard it.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Look at drift, and decide it.
    #[command(subcommand)]
    Cases(CasesCommand),
    /// The mappings of streams: what is in force, what was, and putting another one in force.
    #[command(subcommand)]
    Mappings(mappings::MappingsCommand),
    /// How the shapes of streams have changed, and what became of it.
    #[command(subcommand)]
    Drift(mappings::DriftCommand),
    /// By what cases are decided, and what that would have done.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Who is told of cases.
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
    /// Tenants and their first admins.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Check the folder and say what to do.
    Doctor,
}

impl Command {
    /// Whether it changes nothing, neither on the log nor of the views.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Query(_) | Self::Log(_) | Self::Doctor => true,
            Self::Quarantine(command) => matches!(command, QuarantineCommand::List(_) | QuarantineCommand::Show(_)),
            Self::Views(command) => matches!(command, ViewsCommand::List { .. }),
            Self::Cases(command) => {
                matches!(command, CasesCommand::List(_) | CasesCommand::Show(_) | CasesCommand::DryRun(_))
            }
            Self::Policy(command) => command.only_reads(),
            Self::Drift(_) => true,
            Self::Mappings(command) => !matches!(command, mappings::MappingsCommand::Set(_)),
            Self::Webhooks(command) => matches!(command, webhooks::WebhooksCommand::List(_)),
            Self::Ingest(_) | Self::Tenant(_) => false,
        }
    }
}

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// What to watch: a YAML list of streams, by default `autonomos.yaml` in the data folder.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Where the API answers. Beyond loopback it takes TLS, which the configuration names.
    #[arg(long, default_value = "127.0.0.1:7400")]
    pub listen: std::net::SocketAddr,
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
}

/// What `ingest` reads, and as what.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestArgs {
    /// The tenant; made when the name is new.
    #[arg(long)]
    pub tenant: String,
    /// The connection.
    #[arg(long)]
    pub connection: String,
    /// The stream within the connection.
    #[arg(long)]
    pub stream: String,
    /// The source system whose shipped mapping is used.
    #[arg(long, required_unless_present = "mapping")]
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
    /// Text encoding, for example windows-1252; by default told by the content.
    #[arg(long)]
    #[serde(default)]
    pub encoding: Option<String>,
    /// Excel: the sheet; by default the first.
    #[arg(long)]
    #[serde(default)]
    pub sheet: Option<String>,
    /// Return when everything is durable, before it is visible; its fates are pending then.
    #[arg(long)]
    #[serde(default)]
    pub no_wait: bool,
    /// Show shape, mapping and what stays unmapped; write nothing.
    #[arg(long)]
    #[serde(default)]
    pub dry_run: bool,
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

/// Options of `query`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct QueryArgs {
    /// Whose views.
    #[arg(long)]
    pub tenant: String,
    /// How to answer.
    #[arg(long, default_value = "table", value_parser = ["table", "csv", "json", "arrow"])]
    pub format: String,
    /// Refuse a result of more rows.
    #[arg(long)]
    pub max_rows: Option<usize>,
    /// One SELECT.
    pub sql: String,
}

/// What to do with views.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum ViewsCommand {
    /// Show each view with its rows, files and position.
    List(ViewArgs),
    /// Make the tables as fresh as the log, for external readers.
    Flush(ViewArgs),
    /// Make the tables again from the log.
    Rebuild(ViewArgs),
}

/// Which views.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ViewArgs {
    /// Whose views; all tenants' when left out.
    #[arg(long)]
    pub tenant: Option<String>,
    /// One entity; all when left out.
    pub entity: Option<String>,
}

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

/// What to see of the log.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum LogCommand {
    /// Show each partition's end, and a tenant's streams with their counters.
    Stat(StatArgs),
    /// Print a tenant's events or decisions as CloudEvents, or its inputs, one a line.
    Cat(CatArgs),
    /// Fold a tenant's inputs anew and compare the hash of each stream's events with the stored ones.
    Refold(RefoldArgs),
}

/// Options of `log stat`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct StatArgs {
    /// Whose streams; all tenants' when left out.
    #[arg(long)]
    pub tenant: Option<String>,
}

/// Options of `log cat`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CatArgs {
    /// Whose items.
    #[arg(long)]
    pub tenant: String,
    /// inputs, events or decisions.
    #[arg(long, default_value = "events")]
    pub topic: String,
    /// From this offset of each partition on.
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// At most so many items.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

/// Options of `log refold`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct RefoldArgs {
    /// Whose streams; all tenants' when left out.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Inputs folded at once.
    #[arg(long, default_value_t = 1000)]
    pub batch: usize,
    /// Partitions folded side by side.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

/// What to see of the quarantine.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum QuarantineCommand {
    /// List records that were set aside, with their reasons.
    List(QuarantineArgs),
    /// Show one with its bytes.
    Show(ShowArgs),
    /// Have records come again, by the mapping in force: they become rows, or are set aside again.
    Retry(quarantine::SettleArgs),
    /// Give records up. Their bytes stay on the log.
    Discard(quarantine::SettleArgs),
}

/// Options of `quarantine list`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct QuarantineArgs {
    /// Whose records.
    #[arg(long)]
    pub tenant: String,
    /// Only this stream: CONNECTION/STREAM.
    #[arg(long)]
    pub stream: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = limit)]
    pub limit: usize,
    /// Only what comes behind this one, as the end of a longer list names it.
    #[arg(long)]
    pub after: Option<String>,
    /// Those that were retried or discarded, instead of those that wait.
    #[arg(long)]
    pub settled: bool,
}

fn limit(text: &str) -> Result<usize, String> {
    let wanted: usize = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (1..=10_000).contains(&wanted) { Ok(wanted) } else { Err("from 1 to 10000".to_owned()) }
}

/// Options of `quarantine show`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ShowArgs {
    /// Whose record.
    #[arg(long)]
    pub tenant: String,
    /// Write its bytes and nothing else.
    #[arg(long)]
    pub raw: bool,
    /// Its position, as `quarantine list` prints it.
    pub position: String,
}

/// What to do with cases of drift.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum CasesCommand {
    /// List cases that wait, or all of them.
    List(CasesArgs),
    /// Show one: what is lost, real rows and held records, where it may have gone, whom it concerns, what was decided.
    Show(CaseArgs),
    /// Say what a decision would do to the last held records; nothing is changed.
    DryRun(DryRunArgs),
    /// The proposed repair is right: the new paths are read before the old ones.
    Approve(DecideArgs),
    /// Another repair is right.
    Edit(EditArgs),
    /// The proposal is wrong; what is held stays held.
    Reject(DecideArgs),
    /// The lost paths are gone for good: their fields are null from here on.
    AcceptRemoved(DecideArgs),
    /// A decision was wrong: the former rules again; what was accepted since is looked at again, and held for want.
    Revert(DecideArgs),
    /// Ask again later.
    Snooze(SnoozeArgs),
}

/// Options of `cases list`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CasesArgs {
    /// Whose cases.
    #[arg(long)]
    pub tenant: String,
    /// Only of this stream: CONNECTION/STREAM.
    #[arg(long)]
    pub stream: Option<String>,
    /// Also those that are decided or released, and those that are not told yet.
    #[arg(long)]
    pub all: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = limit)]
    pub limit: usize,
}

/// Which case.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CaseArgs {
    /// Whose case.
    #[arg(long)]
    pub tenant: String,
    /// Its id, as `cases list` prints it.
    pub case: String,
}

/// A decision to try; the proposed repair, unless moves or removal are named.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DryRunArgs {
    /// The case.
    #[command(flatten)]
    pub of: CaseArgs,
    /// Only this lost path; to be repeated.
    #[arg(long, value_name = "PATH")]
    pub only: Vec<String>,
    /// Where a lost path has gone instead, as for `cases edit`; to be repeated.
    #[arg(long = "move", value_name = "FROM=TO", conflicts_with_all = ["only", "removed"])]
    pub moves: Vec<String>,
    /// How its value is to be transformed, as for `cases edit`; to be repeated.
    #[arg(long = "transform", value_name = "FROM=RULE", requires = "moves")]
    pub transforms: Vec<String>,
    /// The lost paths are gone for good.
    #[arg(long)]
    pub removed: bool,
    /// The last so many of the records that it holds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub records: u32,
}

/// A decision of a case.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DecideArgs {
    /// The case.
    #[command(flatten)]
    pub of: CaseArgs,
    /// Only this lost path; to be repeated.
    #[arg(long, value_name = "PATH")]
    pub only: Vec<String>,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    pub why: String,
    /// The mapping version that the decision was made on; by default the one in force.
    #[arg(long)]
    pub mapping_version: Option<u32>,
    /// The version of the case that the decision was made on; by default the one that it has.
    #[arg(long)]
    pub case_version: Option<u32>,
}

/// Options of `cases edit`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct EditArgs {
    /// The decision.
    #[command(flatten)]
    pub decision: DecideArgs,
    /// Where a lost path has gone; FROM=A+B when it was split; to be repeated.
    #[arg(long = "move", value_name = "FROM=TO", required = true)]
    pub moves: Vec<String>,
    /// How the value of a lost path is to be transformed, as in a mapping file: 'Total={unit: cents}'; to be repeated.
    #[arg(long = "transform", value_name = "FROM=RULE")]
    pub transforms: Vec<String>,
}

/// Options of `cases snooze`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SnoozeArgs {
    /// The decision.
    #[command(flatten)]
    pub decision: DecideArgs,
    /// For how long.
    #[arg(long, default_value_t = 24)]
    pub hours: u32,
}

/// Carries out a command on an open line.
pub async fn run(command: Command, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        Command::Ingest(args) if args.dry_run => dry_run::run(&args, line.definitions(), out).await,
        Command::Ingest(args) => ingest::run(&args, line, out).await.map(|_| ()),
        Command::Query(args) => query::run(args, line, out).await,
        Command::Views(command) => views::run(command, line, out).await,
        Command::Log(command) => log::run(command, line, out).await,
        Command::Quarantine(command) => quarantine::run(command, line, out).await,
        Command::Cases(command) => cases::run(command, line, out).await,
        Command::Mappings(command) => mappings::run(command, line, out).await,
        Command::Drift(command) => mappings::drift(command, line, out).await,
        Command::Policy(command) => policy::run(command, line, out).await,
        Command::Webhooks(command) => webhooks::run(command, line, out).await,
        Command::Tenant(command) => tenant::run(command, line, out).await,
        Command::Doctor => doctor::run(line, out).await,
    }
}
