//! What the command line understands: the options of each command stand in a file of their own.

mod advice;
mod cases;
mod ingest;
mod log;
mod mappings;
mod migrate;
mod policy;
mod quarantine;
mod query;
mod serve;
mod server;
mod tenant;
mod views;
mod webhooks;

use std::path::PathBuf;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use schemas::TenantName;
use serde::{Deserialize, Serialize};

pub use advice::AdviceCommand;
pub use cases::{CaseArgs, CasesArgs, CasesCommand, DecideArgs, DryRunArgs, EditArgs, PartArgs, SnoozeArgs};
pub use ingest::{Behalf, IngestArgs, Mode};
pub use log::{CatArgs, LogCommand, RefoldArgs, StatArgs};
pub use mappings::{DiffArgs, DriftCommand, MappingsCommand, SetMappingArgs, ShowMappingArgs, StreamArgs, TenantArgs};
pub use migrate::MigrateArgs;
pub use policy::{BacktestArgs, ModelWanted, PolicyArgs, PolicyCommand, RepairsWanted, SetPolicyArgs};
pub use quarantine::{ForeignArgs, QuarantineArgs, QuarantineCommand, SettleArgs, ShowArgs};
pub use query::QueryArgs;
pub use serve::{DemoArgs, ServeArgs};
pub use server::{LoginArgs, ServerArgs};
pub use tenant::{DeleteArgs, ExportArgs, InviteArgs, TenantCommand};
pub use views::{DescribeArgs, ViewArgs, ViewsCommand};
pub use webhooks::{AddWebhookArgs, FormWanted, WebhookArgs, WebhooksArgs, WebhooksCommand};

use super::match_;

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
    /// Or a server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Top,
}

impl Cli {
    /// Reads the command line of this process; ends it when that is wrong.
    pub fn read() -> Self {
        let matches = Self::command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let is_said = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
        match (is_said("server"), is_said("data_dir")) {
            (true, true) => wrong(ErrorKind::ArgumentConflict, "say --server or --data-dir, not both"),
            // What is said here counts more than what the environment says.
            (false, true) => cli.server.server = None,
            _ => {}
        }
        if is_said("server") && matches!(&cli.command, Top::Serve(_) | Top::Demo(_) | Top::Migrate(_)) {
            let ours = "serve, demo and migrate are for who operates a server: run them there, without --server";
            wrong(ErrorKind::ArgumentConflict, ours)
        }
        let is_unnamed = matches!(&cli.command, Top::Folder(command) if command.whose() == Whose::One(None));
        if is_unnamed && cli.server.server.is_none() {
            wrong(ErrorKind::MissingRequiredArgument, "name the tenant with --tenant, or a server with --server");
        }
        cli
    }
}

fn wrong(kind: ErrorKind, message: &str) -> ! {
    Cli::command().error(kind, message).exit()
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Top {
    /// Run every role, or some, until stopped: watch the configured folders, keep the views, answer commands.
    Serve(ServeArgs),
    /// Make a demo folder and serve it: real files through the real line.
    Demo(DemoArgs),
    /// Match the fields in a file of cases, and print the answers: no folder, no network.
    Match(match_::MatchArgs),
    /// Move log and store to a cluster or a folder, every record with its place and time; or make a cluster ready.
    Migrate(MigrateArgs),
    /// Sign in to a server; the password is asked for, or is a line of standard input.
    Login(LoginArgs),
    /// Sign out of a server.
    Logout,
    /// Show who is signed in to a server.
    Whoami,
    /// A command that works on a folder, or at a server.
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
    /// List, describe, flush or rebuild views.
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
    Mappings(MappingsCommand),
    /// How the shapes of streams have changed, and what became of it.
    #[command(subcommand)]
    Drift(DriftCommand),
    /// By what cases are decided, and what that would have done.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Who is told of cases.
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// What questions to a language model have cost.
    #[command(subcommand)]
    Advice(AdviceCommand),
    /// Invite an admin of a tenant; export or delete one.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Check the folder and say what to do.
    Doctor,
}

/// Whose things a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// One tenant's, and it must be named on a folder; a server knows it by the credential.
    One(Option<&'a str>),
    /// One tenant's, or on a folder all of them.
    OneOrAll(Option<&'a str>),
    /// The operator's: it works on a folder alone.
    Operator,
}

impl Command {
    /// Whether it changes nothing, neither on the log nor of the views.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Query(_) | Self::Log(_) | Self::Drift(_) | Self::Doctor => true,
            Self::Quarantine(QuarantineCommand::Foreign(args)) => !args.seen,
            Self::Quarantine(command) => matches!(command, QuarantineCommand::List(_) | QuarantineCommand::Show(_)),
            Self::Views(command) => matches!(command, ViewsCommand::List(_) | ViewsCommand::Describe(_)),
            Self::Cases(command) => {
                matches!(command, CasesCommand::List(_) | CasesCommand::Show(_) | CasesCommand::DryRun(_))
            }
            Self::Mappings(command) => !matches!(command, MappingsCommand::Set(_)),
            Self::Policy(command) => command.only_reads(),
            Self::Webhooks(command) => matches!(command, WebhooksCommand::List(_)),
            Self::Advice(command) => matches!(command, AdviceCommand::Usage(_)),
            Self::Ingest(_) | Self::Tenant(_) => false,
        }
    }

    /// Whose things it is about.
    pub fn whose(&self) -> Whose<'_> {
        match self {
            Self::Ingest(args) => Whose::One(args.tenant.as_deref()),
            Self::Query(args) => Whose::One(args.tenant.as_deref()),
            Self::Views(ViewsCommand::List(args)) => Whose::OneOrAll(args.tenant.as_deref()),
            Self::Views(ViewsCommand::Describe(args)) => Whose::One(args.tenant.as_deref()),
            Self::Views(ViewsCommand::Flush(_) | ViewsCommand::Rebuild(_)) => Whose::Operator,
            Self::Log(LogCommand::Stat(args)) => Whose::OneOrAll(args.tenant.as_deref()),
            Self::Log(LogCommand::Cat(args)) => Whose::One(args.tenant.as_deref()),
            Self::Log(LogCommand::Refold(_)) | Self::Doctor => Whose::Operator,
            Self::Quarantine(QuarantineCommand::Foreign(_)) => Whose::Operator,
            Self::Quarantine(command) => Whose::One(command.tenant()),
            Self::Cases(command) => Whose::One(command.tenant()),
            Self::Mappings(command) => Whose::One(command.tenant()),
            Self::Drift(command) => Whose::One(command.tenant()),
            Self::Policy(command) => Whose::One(command.tenant()),
            Self::Webhooks(command) => Whose::One(command.tenant()),
            Self::Advice(command) => Whose::One(command.tenant()),
            Self::Tenant(command) => Whose::One(Some(command.tenant())),
        }
    }
}

fn limit(text: &str) -> Result<usize, String> {
    let wanted: usize = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (1..=10_000).contains(&wanted) { Ok(wanted) } else { Err("from 1 to 10000".to_owned()) }
}

/// The tenant that is named, as a folder needs it.
pub fn tenant_name(said: &Option<String>) -> anyhow::Result<TenantName> {
    Ok(said.as_deref().context("name the tenant with --tenant")?.parse()?)
}
