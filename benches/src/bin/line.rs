//! What does the whole line cost inside one process, and how much of it are log and views? Files in, a tenant each, until
//! visible and flushed; log and view may be replaced by ones that do nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use benches::Input;
use benches::measure::{Running, print_row};
use benches::null::{NullLog, NullView};
use benches::stream;
use clap::{Parser, ValueEnum};
use connectors::file::{FileSettings, FileSource};
use pipeline::ingest::{Ingest, OpenStream};
use pipeline::process::{Processed, Processor, read_state};
use pipeline::quarantine::QuarantineKeeper;
use pipeline::{Embedded, Log, MemoryStore, Partitions, Source, Store};
use projections::view::{Budget, Projector, ProjectorHandle};
use schemas::{Entity, Mapping, TenantId, Topic};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Bytes of records that go to the log at once, as `ingest` does it.
const BATCH_BYTES: usize = 512 << 10;

#[derive(Parser)]
#[command(about = "The whole line in one process, with or without its log and its views")]
struct Arguments {
    /// The log and the store.
    #[arg(long, value_enum, default_value_t = LogKind::Embedded)]
    log: LogKind,
    /// The views.
    #[arg(long, value_enum, default_value_t = ViewKind::Delta)]
    view: ViewKind,
    /// Where the data folder is made; on the disk that you mean to measure.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    #[command(flatten)]
    input: Input,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogKind {
    /// The embedded engine, as the product has it.
    Embedded,
    /// Packs and hands on: no disk.
    Null,
}

#[derive(Clone, Copy, ValueEnum)]
enum ViewKind {
    /// Delta tables with their tails, as the product has them.
    Delta,
    /// Only counts rows.
    Null,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { log, view, dir, input } = Arguments::parse();
    let scratch = tempfile::tempdir_in(dir)?;
    let files = input.files(scratch.path())?;
    let name = match (log, view) {
        (LogKind::Embedded, ViewKind::Delta) => "in one process",
        (LogKind::Null, ViewKind::Delta) => "… null log",
        (LogKind::Embedded, ViewKind::Null) => "… null view",
        (LogKind::Null, ViewKind::Null) => "… null log and view",
    };
    let running = Running::start()?;
    let line = Line::open(&scratch.path().join("data"), log, view).await?;
    let (mut records, mut events, mut rows) = (0, 0, 0);
    for file in &files {
        let done = line.take(file).await?;
        (records, events, rows) = (records + done.records, events + done.events, rows + done.rows);
    }
    line.close().await?;
    let cost = running.stop()?;
    let more = match view {
        ViewKind::Delta => json!({ "rows": rows }),
        ViewKind::Null => {
            ensure!(rows == events, "the step gave {events} events, the null view counted {rows}");
            json!({ "events": events })
        }
    };
    print_row("whole line", name, records, &cost, more);
    Ok(())
}

/// The roles of the line over one log.
struct Line {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    ingest: Ingest,
    definition: (Mapping, Entity),
    processed: Vec<Processed>,
    views: Views,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

enum Views {
    Delta(ProjectorHandle),
    Null { rows: Arc<AtomicU64>, reached: Vec<watch::Receiver<u64>> },
}

/// What became of a file.
struct Taken {
    records: u64,
    events: u64,
    /// Rows of its view, or those that the null view counted.
    rows: u64,
}

impl Line {
    async fn open(folder: &Path, log: LogKind, view: ViewKind) -> Result<Self> {
        let (log, store): (Arc<dyn Log>, Arc<dyn Store>) = match log {
            LogKind::Embedded => {
                let engine = Embedded::open(folder, Partitions::default())?;
                (engine.log(), engine.store())
            }
            LogKind::Null => (Arc::new(NullLog::new(Partitions::default())), Arc::new(MemoryStore::new())),
        };
        let (stop, stopped) = watch::channel(false);
        let (mut tasks, mut processed) = (JoinSet::new(), Vec::new());
        for partition in 0..log.partitions(Topic::Inputs) {
            let (processor, done) = Processor::start(log.clone(), store.clone(), partition).await?;
            let (keeper, _) = QuarantineKeeper::start(log.clone(), store.clone(), partition).await?;
            let (processor, keeper) = (processor.run(stopped.clone()), keeper.run(stopped.clone()));
            tasks.spawn(async move { processor.await.context("the processor") });
            tasks.spawn(async move { keeper.await.context("the quarantine keeper") });
            processed.push(done);
        }
        let views = match view {
            ViewKind::Delta => {
                let projector = Projector::new(log.clone(), store.clone(), &folder.join("views"), Budget::default())?;
                let handle = projector.handle();
                tasks.spawn(async move { projector.run(stopped).await.context("the projector") });
                Views::Delta(handle)
            }
            ViewKind::Null => null_views(&log, &stopped, &mut tasks),
        };
        let (ingest, definition) = (Ingest::new(log.clone(), store.clone()), stream::definition()?);
        Ok(Self { log, store, ingest, definition, processed, views, stop, tasks })
    }

    /// Reads a file into a new tenant's view: waits until everything is processed, visible and flushed.
    async fn take(&self, file: &Path) -> Result<Taken> {
        let (mapping, entity) = &self.definition;
        let stream = stream::id(TenantId::generate())?;
        let open = self.ingest.open(&stream, mapping, Some(entity), "bench").await?;
        let records = self.read(&open, file).await?;
        let end = self.log.end(Topic::Inputs, open.partition).await?;
        self.processed[open.partition as usize].clone().wait(end).await?;
        let rows = self.settle(stream.tenant).await?;
        let state = read_state(&*self.store, &stream).await?.context("the stream has no state")?;
        let counters = state.counters;
        ensure!(counters.taken == records, "{records} records were acknowledged, {counters:?}");
        Ok(Taken { records, events: counters.accepted + counters.deleted, rows })
    }

    /// Waits until the views hold everything, and flushes those of the tenant. Answers how many rows there are.
    async fn settle(&self, tenant: TenantId) -> Result<u64> {
        for partition in 0..self.log.partitions(Topic::Events) {
            let end = self.log.end(Topic::Events, partition).await?;
            match &self.views {
                Views::Delta(handle) => handle.wait_position(partition, end).await?,
                Views::Null { reached, .. } => {
                    reached[partition as usize].clone().wait_for(|next| *next >= end).await?;
                }
            }
        }
        match &self.views {
            Views::Delta(handle) => {
                handle.flush(tenant, None).await?;
                Ok(handle.tables(tenant).await?.iter().map(|table| table.rows as u64).sum())
            }
            Views::Null { rows, .. } => Ok(rows.swap(0, Ordering::Relaxed)),
        }
    }

    /// Appends a file; reading goes on while the log writes.
    async fn read(&self, open: &OpenStream, file: &Path) -> Result<u64> {
        let files = vec![file.to_str().context("the path is not text")?.to_owned()];
        let mut source = FileSource::open(FileSettings { files, ..FileSettings::default() }, Vec::new())?;
        let (sender, mut receiver) = mpsc::channel(2);
        let reading = tokio::spawn(async move {
            while let Some(batch) = source.next(BATCH_BYTES).await? {
                sender.send(batch).await?;
            }
            anyhow::Ok(())
        });
        let mut records = 0;
        while let Some(batch) = receiver.recv().await {
            records += u64::from(batch.records.count);
            self.ingest.append(open, batch.records).await?;
        }
        reading.await??;
        Ok(records)
    }

    /// Stops every role and waits for each.
    async fn close(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.log.sync().await?)
    }
}

fn null_views(log: &Arc<dyn Log>, stop: &watch::Receiver<bool>, tasks: &mut JoinSet<Result<()>>) -> Views {
    let rows = Arc::new(AtomicU64::new(0));
    let mut reached = Vec::new();
    for partition in 0..log.partitions(Topic::Events) {
        let (view, far) = NullView::new(log.clone(), partition, rows.clone());
        let running = view.run(stop.clone());
        tasks.spawn(async move { running.await.context("the null view") });
        reached.push(far);
    }
    Views::Null { rows, reached }
}
