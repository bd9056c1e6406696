//! `serve`: every role, or some, until stopped, the watched files, the folder's socket, and the HTTP API.

pub mod config;
pub mod llm;
mod meanwhile;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use pipeline::MemoryStore;
use pipeline::engine::{check_free, format_version};
use projections::sql::QueryLimits;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::backends::Patience;
use crate::cli::plan::Draft;
use crate::cli::{IngestArgs, ServeArgs};
use crate::connections::watching::Watched;
use crate::http::{Doors, app, listen, workers};
use crate::line::{Definitions, Line};
use crate::roles::{RoleName, Roster, Workers};
use crate::{folder, socket};
use config::Settings;
use llm::Llm;
use meanwhile::Meanwhile;

/// Where the API answers unless something else is said.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);
/// Draining is given up after so long; what starts processes usually kills them after half a minute.
const DRAIN_MAX: Duration = Duration::from_secs(25);

/// Runs until SIGTERM or Ctrl-C, then drains.
pub async fn run(folder: &Path, args: &ServeArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    folder::check(folder, true)?;
    let config = args.config.clone().unwrap_or_else(|| folder.join("autonomos.yaml"));
    let mut settings = config::read(&config, args.config.is_some())?;
    settings.operator.files_roots.extend(args.files_root.iter().cloned());
    if let Some(file) = &args.metrics_token_file {
        settings.operator.metrics_token = Some(config::metrics_token(file)?);
    }
    settings.roles = Roster::of(&args.roles);
    settings.roles.check(&settings.backends)?;
    if !settings.roles.has(RoleName::Api) {
        return work(folder, args, settings, &mut signals).await;
    }
    // What is in the folder is mended there; servers may be well for another process.
    let begins_anew = !settings.backends.are_embedded();
    let limits = QueryLimits { rows_max: args.max_rows, ..QueryLimits::default() };
    let server = tokio::select! {
        started = start(folder, args, settings, limits) => started?,
        () = signals.next() => return Ok(()),
    };
    tracing::info!(address = %server.address, folder = %folder.display(), "serving");
    let line = server.line.clone();
    let lost = tokio::select! {
        () = signals.next() => None,
        why = line.lost(), if begins_anew => Some(why),
    };
    drop(line);
    tracing::info!("stopping: draining and flushing");
    let drained = drain(server, &mut signals).await;
    begin_anew(lost, drained)
}

/// Has this process end, for whatever started it to start it again, where log or store have failed for it.
fn begin_anew(lost: Option<String>, stopped: anyhow::Result<()>) -> anyhow::Result<()> {
    match lost {
        Some(why) => bail!("log or store must be opened anew, so this process ends: start it again; {why}"),
        None => stopped,
    }
}

/// Takes roles without doors until SIGTERM or Ctrl-C, then drains.
async fn work(folder: &Path, args: &ServeArgs, settings: Settings, signals: &mut Signals) -> anyhow::Result<()> {
    check_free(folder)?;
    let bind = |address| listen::bind(address, settings.tls.as_ref(), args.allow_plain_http);
    let listener = args.listen.map(bind).transpose()?;
    let asking = settings.llm.as_ref().map(Llm::asking).transpose()?;
    let patience = Patience::default();
    let meanwhile = |listener| Meanwhile::at(listener, settings.tls.as_ref(), &patience);
    let meanwhile = listener.as_ref().map(meanwhile).transpose()?;
    let working = tokio::select! {
        started = Workers::start(folder, &settings.backends, &settings.roles, asking, &patience) => started?,
        () = signals.next() => return Ok(()),
    };
    drop(meanwhile);
    tracing::info!(roles = settings.roles.told(), folder = %folder.display(), "working");
    let (told_to_stop, stopped) = watch::channel(false);
    if let Some(listener) = listener {
        let endpoint = workers::app(working.health(), settings.operator.metrics_token.as_deref());
        tokio::spawn(listen::serve(endpoint, listener, settings.tls.clone(), stopped));
    }
    let lost = tokio::select! {
        () = signals.next() => None,
        why = working.lost() => Some(why),
    };
    tracing::info!("stopping: draining and giving up partitions");
    let stopped = tokio::select! {
        stopped = working.stop() => stopped,
        () = signals.next() => Err(anyhow!("stopped at a second signal, before everything was drained; nothing is lost")),
        () = tokio::time::sleep(DRAIN_MAX) => {
            Err(anyhow!("stopped after {} s, before everything was drained; nothing is lost", DRAIN_MAX.as_secs()))
        }
    };
    // Up to here whoever asks is told that it lives.
    told_to_stop.send_replace(true);
    begin_anew(lost, stopped)
}

async fn start(folder: &Path, args: &ServeArgs, settings: Settings, limits: QueryLimits) -> anyhow::Result<Server> {
    // Said first: that the address is taken by the same server would say less.
    check_free(folder)?;
    let listener = listen::bind(args.listen.unwrap_or(LISTEN), settings.tls.as_ref(), args.allow_plain_http)?;
    Server::start(folder, listener, settings, limits).await
}

/// Stops a server, and gives up at a second signal or when it takes too long.
pub async fn drain(server: Server, signals: &mut Signals) -> anyhow::Result<()> {
    // A task of its own: a server that does not end must not hold back who has given it up.
    let stopping = tokio::spawn(server.stop());
    let not_drained = "before everything was processed and flushed; nothing acknowledged is lost";
    tokio::select! {
        stopped = stopping => stopped?,
        () = signals.next() => bail!("stopped at a second signal, {not_drained}"),
        () = tokio::time::sleep(DRAIN_MAX) => bail!("stopped after {} s, {not_drained}", DRAIN_MAX.as_secs()),
    }
}

/// A running server.
pub struct Server {
    /// The line that it serves.
    pub line: Arc<Line>,
    /// The doors that it keeps open.
    pub doors: Arc<Doors>,
    /// Where it answers HTTP.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Opens the folder and starts to serve it, once log and store are there. Fails when a stream cannot be watched as it is
    /// configured.
    pub async fn start(
        folder: &Path,
        listener: TcpListener,
        settings: Settings,
        limits: QueryLimits,
    ) -> anyhow::Result<Self> {
        let Settings { streams, tls, operator, llm, backends, roles } = settings;
        let address = listener.local_addr()?;
        check_streams(&streams, folder).await?;
        let asking = llm.as_ref().map(Llm::asking).transpose()?;
        let patience = Patience::default();
        let meanwhile = Meanwhile::at(&listener, tls.as_ref(), &patience)?;
        let line = Arc::new(Line::open_on(folder, &backends, &roles, limits, Some(&patience), asking).await?);
        let doors = Arc::new(Doors::open(line.clone(), &operator).await?);
        let mut watched = Vec::new();
        for stream in streams {
            let name = named(&stream);
            watched.push(Watched::start(stream, &line).await.context(name)?);
        }
        drop(meanwhile);
        let (stop, stopped) = watch::channel(false);
        let socket = socket::listen(folder)?;
        let mut tasks = vec![
            tokio::spawn(socket::serve(line.clone(), socket, stopped.clone())),
            tokio::spawn(listen::serve(app(&doors), listener, tls, stopped.clone())),
        ];
        for stream in watched {
            tasks.push(tokio::spawn(stream.run(line.clone(), stopped.clone())));
        }
        Ok(Self { line, doors, address, stop, tasks })
    }

    /// Stops taking commands, drains every role, flushes every view.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let mut ended = Ok(());
        for task in self.tasks {
            ended = ended.and(task.await.context("a task of the server ended early"));
        }
        self.doors.connections.stop().await;
        self.doors.notices.stop().await;
        std::fs::remove_file(socket::path(&self.line.folder)).ok();
        // Whatever became of its tasks, nothing stays undrained.
        self.line.close().await.and(ended)
    }
}

/// Fails when a stream of a folder that is not there yet cannot be watched as it is configured, so that none is made for
/// it. What a folder holds can say otherwise: there the line is asked.
async fn check_streams(streams: &[IngestArgs], folder: &Path) -> anyhow::Result<()> {
    if format_version(folder)?.is_some() {
        return Ok(());
    }
    let nothing = MemoryStore::default();
    for stream in streams {
        Draft::new(stream, Definitions::new(folder, &nothing)).await.with_context(|| named(stream))?;
    }
    Ok(())
}

fn named(stream: &IngestArgs) -> String {
    let tenant = stream.tenant.as_deref().unwrap_or_default();
    format!("the stream {}/{} of {tenant}", stream.connection, stream.stream)
}

/// Returns once a server that says `stop` wants its tasks to end.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Who would say so is gone: that is an end too.
    _ = stop.wait_for(|stop| *stop).await;
}

/// The signals that end a process, noticed from here on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them from their usual effect.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns at the next SIGTERM or Ctrl-C.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn started(data: &Path, settings: Settings) -> anyhow::Result<Server> {
        let listener = listen::bind("127.0.0.1:0".parse().unwrap(), None, false).unwrap();
        Server::start(data, listener, settings, QueryLimits::default()).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_that_cannot_be_watched_leaves_no_folder_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path().join("data"), folder.path().join("watch.yaml"));
        let watch = "watch:\n  - {tenant: acme, connection: c, stream: nothing, system: salesforce, files: [x.csv]}";
        std::fs::write(&file, watch).unwrap();
        let refused = started(&data, config::read(&file, true).unwrap()).await.err().unwrap();
        assert!(format!("{refused:#}").starts_with("the stream c/nothing of acme"), "{refused:#}");
        assert!(!data.exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_does_not_drain_is_given_up_at_a_second_signal() {
        let folder = tempfile::tempdir().unwrap();
        let mut signals = Signals::new().unwrap();
        let mut server = started(&folder.path().join("data"), Settings::default()).await.unwrap();
        server.tasks.push(tokio::spawn(std::future::pending()));
        let own = std::process::id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &own]).status().unwrap().success());
        let given_up = drain(server, &mut signals).await.unwrap_err();
        assert!(given_up.to_string().contains("second signal"), "{given_up}");
    }
}
