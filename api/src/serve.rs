//! `serve`: every role until stopped, the watched folders, and /healthz, /readyz, /metrics on loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use connectors::file::watch::{Pace, watch as watch_files};
use poem::http::StatusCode;
use poem::listener::TcpListener;
use poem::{EndpointExt, Route, get, handler, web::Data};
use schemas::Topic;
use tokio::sync::watch;

use crate::cli::ingest::Fates;
use crate::cli::{IngestArgs, ServeArgs};
use crate::line::Line;
use crate::output::{Output, Progress};

/// Files that could not be read to their end are read again after so long, even if nobody touches them.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Files are read again after so long whatever the watcher says: an unchanged one costs a look.
const RESCAN: Duration = Duration::from_secs(600);

/// Runs until SIGTERM or Ctrl-C, then drains.
pub async fn run(folder: &Path, args: &ServeArgs) -> anyhow::Result<()> {
    let config = args.config.clone().unwrap_or_else(|| folder.join("autonomos.yaml"));
    let streams = read_config(&config, args.config.is_some())?;
    let server = Server::start(folder, args.listen, streams).await?;
    tracing::info!(address = %args.listen, folder = %folder.display(), "serving");
    wait_for_signal().await?;
    tracing::info!("stopping: draining and flushing");
    server.stop().await
}

/// A running server.
pub struct Server {
    /// The line that it serves.
    pub line: Arc<Line>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Opens the folder and starts to serve it.
    pub async fn start(folder: &Path, listen: SocketAddr, streams: Vec<IngestArgs>) -> anyhow::Result<Self> {
        let line = Arc::new(Line::open(folder).await?);
        let (stop, stopped) = watch::channel(false);
        let socket = crate::socket::listen(folder)?;
        let mut tasks = vec![tokio::spawn(crate::socket::serve(line.clone(), socket, stopped.clone()))];
        let http = std::net::TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
        drop(http);
        tasks.push(tokio::spawn(http_server(line.clone(), listen, stopped.clone())));
        for stream in streams {
            tasks.push(tokio::spawn(watch_stream(line.clone(), stream, stopped.clone())));
        }
        Ok(Self { line, stop, tasks })
    }

    /// Stops taking commands, drains every role, flushes every view.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.context("a task of the server ended early")?;
        }
        std::fs::remove_file(crate::socket::path(&self.line.folder)).ok();
        let line = self.line;
        // Commands that are still being answered hold the line; they end with their processes.
        match Arc::try_unwrap(line) {
            Ok(line) => line.close().await,
            Err(line) => line.flush_all().await,
        }
    }
}

/// Returns on SIGTERM or Ctrl-C.
pub async fn wait_for_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        ended = tokio::signal::ctrl_c() => ended?,
    }
    Ok(())
}

/// Reads the list of streams to watch; relative paths count from the file's folder.
pub fn read_config(path: &Path, required: bool) -> anyhow::Result<Vec<IngestArgs>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        watch: Vec<IngestArgs>,
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let config: Config = serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    let mut streams = config.watch;
    for stream in &mut streams {
        stream.follow = true;
        stream.files.iter_mut().for_each(|file| *file = base.join(&*file));
        if let Some(mapping) = &mut stream.mapping {
            *mapping = base.join(&*mapping);
            stream.mapping_text =
                Some(std::fs::read_to_string(&*mapping).with_context(|| format!("reading {}", mapping.display()))?);
        }
    }
    Ok(streams)
}

/// Ingests a stream's files again whenever something changes under their folders.
async fn watch_stream(line: Arc<Line>, args: IngestArgs, mut stop: watch::Receiver<bool>) {
    let settings = match crate::cli::ingest::settings(&args, false) {
        Ok(settings) => settings,
        Err(error) => {
            return tracing::error!(error = format!("{error:#}"), stream = args.stream, "its settings are wrong");
        }
    };
    let mut changes = match watch_files(settings, Pace::default()).await {
        Ok(changes) => changes,
        Err(error) => return tracing::error!(%error, stream = args.stream, "its files cannot be watched"),
    };
    loop {
        let name = format!("{}/{}", args.connection, args.stream);
        let mut again = RESCAN;
        match crate::cli::ingest::run(&args, &line, &mut Quiet).await {
            Ok(Fates { taken, visible, superseded, quarantined, duplicate, .. }) if taken > 0 => {
                let tenant = &args.tenant;
                tracing::info!(tenant, stream = name, taken, visible, superseded, quarantined, duplicate, "ingested");
            }
            Ok(_) => {}
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(tenant = args.tenant, stream = name, error, "not all was ingested; trying again");
                again = RETRY_AFTER;
            }
        }
        tokio::select! {
            changed = changes.changed() => if let Err(error) = changed {
                return tracing::error!(%error, stream = name, "its files are no longer watched");
            },
            () = tokio::time::sleep(again) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Nobody looks.
struct Quiet;

impl Output for Quiet {
    fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn progress(&mut self, _: &Progress) {}
    fn json(&self) -> bool {
        true
    }
}

async fn http_server(line: Arc<Line>, listen: SocketAddr, mut stop: watch::Receiver<bool>) {
    let app =
        Route::new().at("/healthz", get(healthz)).at("/readyz", get(readyz)).at("/metrics", get(metrics)).data(line);
    let ended = poem::Server::new(TcpListener::bind(listen))
        .run_with_graceful_shutdown(
            app,
            async move { _ = stop.wait_for(|stop| *stop).await },
            Some(Duration::from_secs(2)),
        )
        .await;
    if let Err(error) = ended {
        tracing::error!(%error, "the HTTP listener has stopped");
    }
}

#[handler]
fn healthz() -> &'static str {
    "ok\n"
}

/// Ready means: every role runs, and the processors are at most a little behind.
#[handler]
async fn readyz(line: Data<&Arc<Line>>) -> (StatusCode, String) {
    if let Some(failure) = line.failure() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n"));
    }
    match line.lag().await {
        Ok(lags) => (StatusCode::OK, format!("ready, {} inputs behind\n", lags.iter().sum::<u64>())),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")),
    }
}

/// Prometheus text format. No tenant is named: a label per tenant would know no bound.
#[handler]
async fn metrics(line: Data<&Arc<Line>>) -> poem::Result<String> {
    let internal =
        |error: anyhow::Error| poem::Error::from_string(format!("{error:#}"), StatusCode::SERVICE_UNAVAILABLE);
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, values: Vec<(String, u64)>| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in values {
            text.push_str(&format!("{name}{labels} {value}\n"));
        }
    };
    let mut ends = Vec::new();
    for topic in Topic::ALL {
        for partition in 0..line.log.partitions(topic) {
            let end = line.log.end(topic, partition).await.map_err(|e| internal(e.into()))?;
            ends.push((format!("{{topic=\"{topic}\",partition=\"{partition}\"}}"), end));
        }
    }
    family("autonomos_log_items_total", "counter", "items ever appended to a partition", ends);
    let lags = line.lag().await.map_err(internal)?;
    let lags = lags.into_iter().enumerate().map(|(p, lag)| (format!("{{partition=\"{p}\"}}"), lag)).collect();
    family("autonomos_processor_lag_inputs", "gauge", "inputs that are not processed yet", lags);
    let (totals, tenants) = line.totals().await.map_err(internal)?;
    let fates = [
        ("accepted", totals.accepted),
        ("deleted", totals.deleted),
        ("quarantined", totals.quarantined),
        ("duplicate", totals.duplicate),
    ];
    let fates = fates.into_iter().map(|(fate, n)| (format!("{{fate=\"{fate}\"}}"), n)).collect();
    family("autonomos_records_total", "counter", "records by what the step made of them", fates);
    family("autonomos_tenants", "gauge", "tenants", vec![(String::new(), tenants as u64)]);
    Ok(text)
}
