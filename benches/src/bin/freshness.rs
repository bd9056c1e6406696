//! How soon can a query show a row? Events arrive at a fixed rate; now and then one bears a mark, and from its
//! acknowledgement on a query asks for it until it is there. Prints percentiles, the disk's fsync beside them.
//!
//! `cargo run -p benches --bin freshness -- [RATE] [SECONDS]`

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::cli::plan::plan;
use api::line::Line;
use benches::Workload;
use benches::command::{ingest_arguments, query_number};
use pipeline::ingest::OpenStream;
use schemas::record::RecordBatchWriter;
use schemas::{Lane, Op, Record, Version};
use serde_json::json;
use tokio::sync::mpsc;

/// Events that are appended together.
const PERIOD: Duration = Duration::from_millis(10);
/// One batch in so many has a marked record.
const MARK_EVERY: u64 = 25;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rate: u64 = arguments.next().map_or(Ok(20_000), |n| n.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(60), |n| n.parse())?;
    let folder = tempfile::tempdir()?;
    let workload = Workload { records: rate * seconds, tenants: 1, ..Workload::default() };
    let mut ndjson = Vec::new();
    workload.write(0, &mut ndjson)?;
    let sample = folder.path().join("sample.ndjson");
    std::fs::write(&sample, ndjson.split_inclusive(|b| *b == b'\n').take(1).collect::<Vec<_>>().concat())?;

    let line = Arc::new(Line::open(&folder.path().join("data")).await?);
    let plan = plan(&ingest_arguments("bench", &["--deleted", "IsDeleted=true"], &sample)?, &line).await?;
    let open = line.ingest.open(&plan.stream, &plan.mapping, plan.entity.as_ref(), "bench").await?;
    let (marks, acknowledged) = mpsc::channel(16);
    let asking = tokio::spawn(ask(line.clone(), plan.stream.tenant, acknowledged));
    let disk = tokio::task::spawn_blocking({
        let folder = folder.path().to_owned();
        move || fsyncs(&folder, Duration::from_secs(seconds))
    });
    let appended = feed(&line, &open, &ndjson, rate, marks).await?;
    let mut fresh = asking.await??;
    let mut synced = disk.await??;
    println!(
        "{}",
        json!({
            "rate": rate, "seconds": seconds, "batches": appended.batches, "late_batches": appended.late,
            "marks": fresh.len(), "fresh_ms": percentiles(&mut fresh), "append_ms": percentiles(&mut appended.took.clone()),
            "fsync_ms": percentiles(&mut synced),
        })
    );
    if let Ok(line) = Arc::try_unwrap(line) {
        line.close().await?;
    }
    Ok(())
}

struct Appended {
    batches: u64,
    /// Batches that began more than a period behind their time: the line did not keep up.
    late: u64,
    took: Vec<Duration>,
}

/// Appends the lines at `rate` and tells of each marked record once it is acknowledged.
async fn feed(
    line: &Line,
    open: &OpenStream,
    ndjson: &[u8],
    rate: u64,
    marks: mpsc::Sender<(String, Instant)>,
) -> anyhow::Result<Appended> {
    let lines: Vec<&[u8]> = ndjson.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    let batch_records = (rate as u128 * PERIOD.as_millis() / 1000).max(1) as usize;
    let mut appended = Appended { batches: 0, late: 0, took: Vec::new() };
    let mut ordinal = 0;
    let started = Instant::now();
    for batch in lines.chunks(batch_records) {
        let due = started + PERIOD * u32::try_from(appended.batches)?;
        match due.checked_duration_since(Instant::now()) {
            Some(early) => tokio::time::sleep(early).await,
            None => appended.late += u64::from(due.elapsed() > PERIOD),
        }
        let mut writer = RecordBatchWriter::new(Lane(1), ordinal, batch_records * 512);
        let mark = (appended.batches % MARK_EVERY == 0).then(|| format!("mark-{}", appended.batches));
        let marked = mark.as_ref().map(|mark| {
            format!(r#"{{"Id":"{mark}","Name":"marked","LastModifiedDate":"2030-01-01T00:00:00Z","IsDeleted":false}}"#)
        });
        for payload in batch.iter().copied().chain(marked.as_ref().map(String::as_bytes)) {
            ordinal += 1;
            let (op, version) = (Op::Upsert, Version::None);
            writer.push(&Record { ordinal, op, key: None, version, defect: None, payload });
        }
        let before = Instant::now();
        line.ingest.append(open, writer.finish(b"")).await?;
        let acknowledged = Instant::now();
        appended.took.push(acknowledged - before);
        appended.batches += 1;
        if let Some(mark) = mark {
            // A full queue means that the last mark is still being asked for: leave this one out rather than wait.
            let _ = marks.try_send((mark, acknowledged));
        }
    }
    Ok(appended)
}

/// Asks for each marked record until a query shows it. Answers how long that took from its acknowledgement on.
async fn ask(
    line: Arc<Line>,
    tenant: schemas::TenantId,
    mut acknowledged: mpsc::Receiver<(String, Instant)>,
) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    while let Some((mark, since)) = acknowledged.recv().await {
        let sql = format!("select count(*) from opportunities where opportunity_id = '{mark}'");
        while query_number(&line, tenant, &sql).await.unwrap_or(0) == 0 {
            tokio::task::yield_now().await;
            anyhow::ensure!(since.elapsed() < Duration::from_secs(60), "{mark} was not visible within a minute");
        }
        took.push(since.elapsed());
    }
    Ok(took)
}

/// How long the disk takes to make 4 KiB durable, ten times a second beside the load.
fn fsyncs(folder: &Path, during: Duration) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create(folder.join("probe"))?;
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < during {
        let before = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(before.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(took)
}

fn percentiles(took: &mut [Duration]) -> serde_json::Value {
    took.sort();
    let at = |part: f64| {
        let place = ((took.len() as f64 * part).ceil() as usize).clamp(1, took.len().max(1)) - 1;
        took.get(place).map(|d| (d.as_secs_f64() * 100_000.0).round() / 100.0)
    };
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)})
}
