//! `autonomos`: one binary, every role.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use api::cli::{Cli, Command, MappingsCommand, ServerArgs, TenantCommand, Top, dry_run, sign_in};
use api::client::Client;
use api::line::{Definitions, Line, Stalled};
use api::output::{NewFile, Output, Terminal, is_reader_gone};
use pipeline::MemoryStore;
use pipeline::engine::{OpenError, format_version};
use pipeline::onboarding::visible;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::read();
    match cli.command {
        Top::Serve(_) | Top::Demo(_) => give_back_memory_sooner("20"),
        Top::Folder(Command::Ingest(_)) => give_back_memory_sooner("200"),
        _ => {}
    }
    // A server tells what it does; a command only what went wrong.
    let usual = match cli.command {
        Top::Serve(_) => "warn,api=info,pipeline=info,connectors=info,projections=info",
        Top::Migrate(_) => "warn,api=info",
        // What is wrong with a certificate the command says itself.
        _ => "warn,rustls_platform_verifier=off",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("AUTONOMOS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    if cli.json {
        logs.json().init()
    } else {
        logs.with_target(false).init()
    }
    let json = cli.json;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("starting the runtime").and_then(|runtime| {
        let ended = runtime.block_on(run(cli));
        // Blocking work that nobody waits for any more must not hold the exit back.
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if json {
                eprintln!("{}", serde_json::json!({ "error": format!("{error:#}") }));
            } else {
                let text = format!("error: {error:#}");
                text.lines().for_each(|line| eprintln!("{}", visible(line)));
            }
            ExitCode::FAILURE
        }
    }
}

/// Has the allocator give memory back after so many milliseconds instead of a second. A server that answers while much comes
/// in holds 500 MB after 20 ms, not 600 as after 100 ms or 750, for some 8 % fewer answers (`benches/doors.py`). An `ingest` of
/// many keys holds an eighth less after 200 ms, for the same CPU; 100 ms would take 5 % more of it. The allocator reads
/// its options before `main`, so the process becomes itself once more, under the same number; where that cannot be, it goes
/// on as it is.
fn give_back_memory_sooner(milliseconds: &str) {
    const OPTION: &str = "MIMALLOC_PURGE_DELAY";
    if std::env::var_os(OPTION).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let mut itself = std::process::Command::new(program);
        let mut words = std::env::args_os();
        itself.arg0(words.next().unwrap_or_default()).args(words).env(OPTION, milliseconds);
        let again = itself.exec();
        eprintln!("warning: {OPTION} cannot be set, memory is given back later: {again}");
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Top::Serve(args) => api::serve::run(&cli.data_dir, &args).await,
        Top::Demo(args) => api::demo::run(&cli.data_dir, &args, cli.json).await,
        Top::Match(args) => api::cli::match_::run(&args),
        Top::Migrate(args) => api::cli::migrate::run(&args, &mut Terminal::new(cli.json)).await,
        Top::Login(args) => sign_in::login(&args, &cli.server, &mut Terminal::new(cli.json)).await,
        Top::Logout => sign_in::logout(&cli.server, &mut Terminal::new(cli.json)).await,
        Top::Whoami => sign_in::whoami(&cli.server, &mut Terminal::new(cli.json)).await,
        Top::Folder(command) => {
            let command = complete(command)?;
            match file_of(&command)? {
                Some(mut file) => {
                    carry_out_at(&cli.data_dir, &cli.server, command, &mut file).await?;
                    Ok(file.keep()?)
                }
                None => carry_out_at(&cli.data_dir, &cli.server, command, &mut Terminal::new(cli.json)).await,
            }
        }
    }
}

/// Has the server that is named carry a command out, or does so on the folder.
async fn carry_out_at(
    folder: &Path,
    server: &ServerArgs,
    command: Command,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    match &server.server {
        Some(address) => api::cli::ask(&command, &Client::signed_in(server, address).await?, out).await,
        None => on_folder(folder, command, out).await,
    }
}

/// The file that a command's answer goes to, instead of the terminal.
fn file_of(command: &Command) -> anyhow::Result<Option<NewFile>> {
    match command {
        Command::Tenant(TenantCommand::Export(args)) if args.out != Path::new("-") => {
            let file = NewFile::create(&args.out);
            Ok(Some(file.with_context(|| format!("making {}", args.out.display()))?))
        }
        _ => Ok(None),
    }
}

/// Makes a command independent of this process: files by their full names, the mapping by its text.
fn complete(mut command: Command) -> anyhow::Result<Command> {
    if let Command::Mappings(MappingsCommand::Set(args)) = &mut command {
        let text = std::fs::read_to_string(&args.file);
        args.text = Some(text.with_context(|| format!("reading {}", args.file.display()))?);
    }
    if let Command::Ingest(args) = &mut command {
        for file in &mut args.files {
            *file = std::path::absolute(&*file)?;
        }
        if let Some(mapping) = &args.mapping {
            let text = std::fs::read_to_string(mapping);
            args.mapping_text = Some(text.with_context(|| format!("reading the mapping {}", mapping.display()))?);
        }
    }
    Ok(command)
}

/// Carries a command out on the folder, or has the process that holds it do so.
async fn on_folder(folder: &Path, command: Command, out: &mut dyn Output) -> anyhow::Result<()> {
    let creates = match &command {
        // A dry run leaves nothing behind, not even a data folder.
        Command::Ingest(args) if args.dry_run && format_version(folder)?.is_none() => {
            let nothing = MemoryStore::default();
            return dry_run::run(args, Definitions::new(folder, &nothing), out).await;
        }
        Command::Ingest(args) => !args.dry_run,
        _ => false,
    };
    if matches!(command, Command::Doctor) {
        return examine(folder, out).await;
    }
    api::folder::check(folder, creates)?;
    on_line(Line::open(folder).await, folder, command, out).await
}

/// Checks servers and folder. What is wrong at the servers may be why nothing opens, or nothing was made yet: that is said first.
async fn examine(folder: &Path, out: &mut dyn Output) -> anyhow::Result<()> {
    let servers = api::cli::doctor::servers(folder, out).await?;
    let examined = match servers.may_be_opened {
        true => match api::folder::check(folder, false) {
            Ok(()) => on_line(Line::open_at(folder, &servers.backends).await, folder, Command::Doctor, out).await,
            no_folder => no_folder,
        },
        false => Ok(()),
    };
    servers.and(examined)
}

/// Carries a command out on the line over a folder, if it was opened, or has the process that holds the folder do so.
async fn on_line(
    opened: anyhow::Result<Line>,
    folder: &Path,
    command: Command,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    match opened {
        Ok(line) => {
            let done = carry_out(command, &line, out).await;
            let closed = line.close().await;
            done.and(closed)
        }
        Err(error) => match error.downcast_ref::<OpenError>() {
            Some(OpenError::Held { .. }) => match api::socket::ask(folder, &command, out).await? {
                Some(()) => Ok(()),
                None => Err(error.context("another process holds the folder and does not answer commands")),
            },
            _ => Err(error),
        },
    }
}

async fn carry_out(command: Command, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    // What looks for the reason why a line does not move must not wait for it.
    if !matches!(command, Command::Doctor)
        && let Err(error) = line.catch_up().await
    {
        // What is there can be read; what writes would meet the full disk itself.
        match error.downcast_ref::<Stalled>() {
            Some(stalled) if command.only_reads() => tracing::warn!("{stalled}"),
            _ => return Err(error),
        }
    }
    api::cli::run(command, line, out).await
}
