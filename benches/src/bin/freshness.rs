//! How soon can a query show a row? Records arrive at a fixed rate; now and then one bears a mark, and from its
//! acknowledgement on a query asks for it until it is there. The disk's fsync is measured beside it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use benches::Workload;
use benches::command::Product;
use benches::feed::feed;
use benches::measure::{Running, percentile, print_row};
use clap::Parser;
use serde_json::json;
use tokio::sync::mpsc;

/// One batch in so many has a marked record.
const MARK_EVERY: u64 = 25;
/// A mark that no query shows by then never comes.
const GIVE_UP: Duration = Duration::from_secs(600);

#[derive(Parser)]
#[command(about = "From an append's acknowledgement to the first query that shows the row")]
struct Arguments {
    /// Records a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// For so long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the data folder is made; on the disk that you mean to measure.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { rate, seconds, dir } = Arguments::parse();
    let folder = tempfile::tempdir_in(dir)?;
    let workload = Workload { records: rate * seconds, tenants: 1, ..Workload::default() };
    let sample = folder.path().join("sample.ndjson");
    std::fs::write(&sample, workload.lines(0).next().context("there is nothing to append: raise --rate")?)?;

    let product = Product::open(&folder.path().join("data")).await?;
    let open = product.open_stream("bench", &sample).await?;
    let running = Running::start()?;
    let (marks, acknowledged) = mpsc::channel(16);
    let asking = tokio::spawn(ask(product.clone(), open.id.tenant, acknowledged));
    let disk = tokio::task::spawn_blocking({
        let folder = folder.path().to_owned();
        move || fsyncs(&folder, Duration::from_secs(seconds))
    });
    let mut dropped = 0;
    let acknowledged = |batch, at| {
        if is_marked(batch) {
            // A full queue means that earlier marks are still being asked for: this one is left out rather than late.
            dropped += u64::from(marks.try_send((name(batch), at)).is_err());
        }
    };
    let mark = |batch| is_marked(batch).then(|| marked(batch));
    let mut fed = feed(&product, &open, workload.lines(0), rate, mark, acknowledged).await?;
    drop(marks);
    let mut fresh = asking.await??;
    let mut synced = disk.await??;
    let cost = running.stop()?;
    print_row(
        "freshness",
        "autonomos",
        fed.records,
        &cost,
        json!({
            "wanted_rate": rate, "rate": fed.rate(), "late_batches": fed.late, "marks": fresh.len(),
            "dropped_marks": dropped, "p50_ms": percentile(&mut fresh, 0.5), "p99_ms": percentile(&mut fresh, 0.99),
            "max_ms": percentile(&mut fresh, 1.0), "append_p99_ms": percentile(&mut fed.append_ms, 0.99),
            "fsync_p99_ms": percentile(&mut synced, 0.99),
        }),
    );
    product.close().await
}

fn is_marked(batch: u64) -> bool {
    batch.is_multiple_of(MARK_EVERY)
}

fn name(batch: u64) -> String {
    format!("mark-{batch}")
}

fn marked(batch: u64) -> String {
    let id = name(batch);
    format!(r#"{{"Id":"{id}","Name":"marked","LastModifiedDate":"2030-01-01T00:00:00Z","IsDeleted":false}}"#)
}

/// Asks for each marked record until a query shows it. Answers how many milliseconds that took from its acknowledgement.
async fn ask(
    product: Product,
    tenant: schemas::TenantId,
    mut acknowledged: mpsc::Receiver<(String, Instant)>,
) -> anyhow::Result<Vec<f64>> {
    let mut took = Vec::new();
    while let Some((mark, since)) = acknowledged.recv().await {
        let sql = format!("select count(*) from opportunities where opportunity_id = '{mark}'");
        while product.query_number(tenant, &sql).await? == 0 {
            ensure!(since.elapsed() < GIVE_UP, "{mark} was not visible within {GIVE_UP:?}");
            tokio::task::yield_now().await;
        }
        took.push(since.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(took)
}

/// How many milliseconds the disk takes to make 4 KiB durable, ten times a second beside the load.
fn fsyncs(folder: &Path, during: Duration) -> std::io::Result<Vec<f64>> {
    let mut file = File::create(folder.join("probe"))?;
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < during {
        let before = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(before.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(took)
}
