//! The command line: one binary, every command with `--json`.
//!
//! [`args`](self::Cli) is what it understands, [`backend`] where a tenant's things are: each command is written once, against
//! that. [`run`] carries commands out on a folder, [`ask`] at a server.

mod args;

pub mod advice;
pub mod backend;
pub mod cases;
pub mod doctor;
pub mod dry_run;
pub mod foreign;
pub mod ingest;
pub mod log;
pub mod mappings;
pub mod match_;
pub mod migrate;
pub mod plan;
pub mod policy;
pub mod quarantine;
pub mod query;
pub mod refold;
pub mod sign_in;
pub mod snapshot;
mod suggested;
pub mod tenant;
pub mod views;
pub mod webhooks;

use anyhow::{Context, bail};

use crate::client::Client;
use crate::line::Line;
use crate::output::Output;

pub use args::*;
use backend::Backend;
use backend::folder::Folder;

/// Carries out a command on an open line.
pub async fn run(command: Command, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        Command::Ingest(args) if args.dry_run => return dry_run::run(&args, line.definitions(), out).await,
        Command::Ingest(args) => return ingest::run(&args, line, out).await.map(|_| ()),
        Command::Views(ViewsCommand::Flush(args)) => return views::flush(&args, line, out).await,
        Command::Views(ViewsCommand::Rebuild(args)) => return views::rebuild(&args, line, out).await,
        Command::Log(LogCommand::Refold(args)) => return refold::run(&args, line, out).await,
        Command::Log(LogCommand::Stat(_)) => log::ends(line, out).await?,
        Command::Quarantine(QuarantineCommand::Foreign(args)) => return foreign::run(&args, line, out).await,
        Command::Doctor => return doctor::run(line, out).await,
        _ => {}
    }
    match command.whose() {
        Whose::OneOrAll(name) => for_each(&command, &Folder::tenants(line, name).await?, out).await,
        Whose::One(name) => {
            let name = name.context("name the tenant with --tenant")?;
            for_each(&command, &[Folder::tenant(line, name).await?], out).await
        }
        Whose::Operator => Ok(()),
    }
}

/// Has a server carry out a command.
pub async fn ask(command: &Command, server: &Client, out: &mut dyn Output) -> anyhow::Result<()> {
    match command.whose() {
        Whose::Operator => bail!("this is for who operates the server: run it where its folder is, with --data-dir"),
        Whose::One(Some(name)) | Whose::OneOrAll(Some(name)) if name != server.tenant() => {
            bail!("you are signed in to {} at {}, not to {name}", server.tenant(), server.address())
        }
        _ => {}
    }
    match command {
        Command::Ingest(args) if args.dry_run => dry_run::at(args, server, out).await,
        Command::Ingest(args) => ingest::at(args, server, out).await,
        command => for_each(command, std::slice::from_ref(server), out).await,
    }
}

/// Carries out a command for each tenant that it is about.
async fn for_each<B: Backend>(command: &Command, of: &[B], out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        Command::Views(ViewsCommand::List(args)) => return views::list(args, of, out).await,
        Command::Log(LogCommand::Stat(_)) => return log::stat(of, out).await,
        _ => {}
    }
    for backend in of {
        match command {
            Command::Query(args) => query::run(args, backend, out).await?,
            Command::Views(ViewsCommand::Describe(args)) => views::describe(args, backend, out).await?,
            Command::Log(LogCommand::Cat(args)) => log::cat(args, backend, out).await?,
            Command::Quarantine(command) => quarantine::run(command, backend, out).await?,
            Command::Cases(command) => cases::run(command, backend, out).await?,
            Command::Mappings(command) => mappings::run(command, backend, out).await?,
            Command::Drift(command) => mappings::drift(command, backend, out).await?,
            Command::Policy(command) => policy::run(command, backend, out).await?,
            Command::Webhooks(command) => webhooks::run(command, backend, out).await?,
            Command::Advice(command) => advice::run(command, backend, out).await?,
            Command::Tenant(command) => tenant::run(command, backend, out).await?,
            _ => {}
        }
    }
    Ok(())
}
