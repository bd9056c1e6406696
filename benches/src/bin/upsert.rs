//! What does a row cost a view: applying events to the tail, and flushing it whenever it has grown as large as the
//! projector lets it, beside reading the same events and keeping nothing?

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use benches::Input;
use benches::input::lines;
use benches::measure::{Cost, Running, print_row, rounded};
use benches::stream::{self, Rows};
use clap::{Parser, ValueEnum};
use pipeline::{Log, MemoryLog, Partitions};
use projections::view::marks::Standing;
use projections::view::{Budget, GRACE, Place, View};
use schemas::event::EventBatchReader;
use schemas::{Entity, Position, TenantId};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Events into a view, without log and step")]
struct Arguments {
    /// What the events go into.
    #[arg(long, value_enum, default_value_t = Kind::Delta)]
    view: Kind,
    /// Where the tables are made; on the disk that you mean to measure.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    #[command(flatten)]
    input: Input,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Our view: a Delta table and its tail.
    Delta,
    /// Nothing: each row and its values are read and let go.
    Null,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { view, dir, input } = Arguments::parse();
    let scratch = tempfile::tempdir_in(dir)?;
    let (mut cost, mut records, mut done) = (Cost::default(), 0, Done::default());
    for text in input.texts(scratch.path())? {
        let batches = events(&text?)?;
        records += batches.iter().map(|(_, count, _)| u64::from(*count)).sum::<u64>();
        match view {
            Kind::Delta => fill(&batches, scratch.path(), &mut cost, &mut done).await?,
            Kind::Null => {
                let running = Running::start()?;
                read(&batches)?;
                cost += running.stop()?;
            }
        }
    }
    match view {
        Kind::Delta => print_row(
            "upsert",
            "autonomos",
            records,
            &cost,
            json!({
                "rows": done.rows, "flushes": done.flushes, "rows_written": done.rows_written,
                "open_ms": rounded(done.open_ms),
            }),
        ),
        Kind::Null => print_row("upsert", "null view", records, &cost, json!({})),
    }
    Ok(())
}

/// The rows that the step makes of a file.
fn events(text: &[u8]) -> Result<Vec<Rows>> {
    let mut state = stream::opened(TenantId::generate())?;
    stream::fold(&mut state, &stream::batches(&lines(text), 0))
}

#[derive(Default)]
struct Done {
    rows: usize,
    flushes: u32,
    rows_written: usize,
    /// The slowest opening of a table that was filled before.
    open_ms: f64,
}

/// Applies everything to a new view, flushes as the projector's budget asks, and opens the table once more.
async fn fill(batches: &[Rows], folder: &Path, cost: &mut Cost, done: &mut Done) -> Result<()> {
    let (_, entity) = stream::definition()?;
    let (tenant, budget) = (TenantId::generate(), Budget::default());
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Partitions::default()));
    let running = Running::start()?;
    let view = Arc::new(open(folder, tenant, &entity).await?);
    for (first, count, body) in batches {
        view.apply(*first, *count, body)?;
        let load = view.load();
        if load.tail_rows >= budget.tail_rows.max(load.rows / budget.tail_share) {
            flush(&view, &log, done).await?;
        }
    }
    flush(&view, &log, done).await?;
    *cost += running.stop()?;
    let rows = view.info().rows;
    drop(view);
    let started = Instant::now();
    let again = open(folder, tenant, &entity).await?;
    done.open_ms = done.open_ms.max(started.elapsed().as_secs_f64() * 1000.0);
    ensure!(again.info().rows == rows, "the table has {} rows, the view had {rows}", again.info().rows);
    done.rows += rows;
    Ok(())
}

async fn open(folder: &Path, tenant: TenantId, entity: &Entity) -> Result<View> {
    let start = Standing::start(Position { epoch: 1, partition: 0, offset: 0 }, 1);
    View::open(&Place::local(folder)?, tenant, entity.clone(), start, GRACE).await.context("opening the view")
}

async fn flush(view: &Arc<View>, log: &Arc<dyn Log>, done: &mut Done) -> Result<()> {
    if let Some(flushed) = view.flush(log.clone()).await? {
        done.flushes += 1;
        done.rows_written += flushed.rows;
    }
    Ok(())
}

fn read(batches: &[Rows]) -> Result<()> {
    let (_, entity) = stream::definition()?;
    for (_, _, body) in batches {
        let mut reader = EventBatchReader::new(body)?;
        while let Some(mut row) = reader.next_row()? {
            for _ in &entity.fields {
                std::hint::black_box(row.values.next_value()?);
            }
        }
    }
    Ok(())
}
