//! What a row costs a view: applying events, a snapshot after every batch, flushing, opening again.
//!
//! `cargo run -p benches --bin upsert [ROWS] [KEYS] [FOLDER]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use pipeline::{Log, MemoryLog, Partitions};
use projections::view::marks::Standing;
use projections::view::{GRACE, Place, View};
use schemas::event::{EventBatch, EventBatchWriter, RowKind, put_value};
use schemas::{ConnectionName, Entity, Position, StreamName, TenantId, Value, Version};

const BATCH: u64 = 4096;

const ENTITY: &str = r#"{"entity":"deal","table":"deals","fields":[
  {"name":"id","type":"text"},{"name":"name","type":"text"},{"name":"account_id","type":"text"},
  {"name":"owner_name","type":"text"},{"name":"owner_email","type":"text"},{"name":"stage","type":"text"},
  {"name":"amount","type":"decimal"},{"name":"probability","type":"decimal"},{"name":"currency","type":"text"},
  {"name":"is_closed","type":"boolean"},{"name":"close_date","type":"date"},{"name":"created_at","type":"timestamp"},
  {"name":"updated_at","type":"timestamp"}]}"#;

fn body(first: u64, keys: u64, random: &mut fastrand::Rng) -> Vec<u8> {
    let shared = EventBatch {
        connection: ConnectionName::new("crm").expect("a valid name"),
        stream: StreamName::new("opportunity").expect("a valid name"),
        input_epoch: 1,
        input_partition: 0,
        logged_at: 1_700_000_000_000_000,
        mapping_version: 1,
        confidence: 980,
    };
    let mut writer = EventBatchWriter::new(&shared, 1 << 20);
    let mut values = Vec::with_capacity(512);
    for input in first..first + BATCH {
        let key = format!("006{:015}", if input < keys { input } else { random.u64(..keys) });
        let at = 1_700_000_000_000_000 + input as i64 * 1_000;
        values.clear();
        for value in [
            Value::Text(&key),
            Value::Text("Acme Corp renewal, three years"),
            Value::Text("001000000000042AAA"),
            Value::Text("Maria Lindqvist"),
            Value::Text("maria.lindqvist@example.com"),
            Value::Text("Negotiation"),
            Value::Decimal(i128::from(random.u64(..1_000_000_000))),
            Value::Decimal(7_500),
            Value::Text("EUR"),
            Value::Boolean(input % 3 == 0),
            Value::Date(19_700),
            Value::Timestamp(at - 1_000_000),
            Value::Timestamp(at),
        ] {
            put_value(&mut values, value);
        }
        writer.push(
            RowKind::Accepted,
            input,
            0,
            input,
            &key,
            &Version::Time(at),
            13,
            &values,
            b"{\"Type\":\"New Business\"}",
        );
    }
    writer.finish()
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).take(2).map(|a| a.parse::<u64>());
    let rows = arguments.next().transpose()?.unwrap_or(1_000_000);
    let keys = arguments.next().transpose()?.unwrap_or(100_000);
    let folder = tempfile::tempdir_in(".")?;
    let kept = std::env::args().nth(3).map(std::path::PathBuf::from);
    let place = Place::local(kept.as_deref().unwrap_or(folder.path()))?;
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Partitions::default()));
    let entity: Entity = serde_json::from_str(ENTITY)?;
    let tenant = TenantId::generate();
    let start = || Standing::start(Position { epoch: 1, partition: 0, offset: 0 }, 1);
    let view = Arc::new(View::open(&place, tenant, entity.clone(), start(), GRACE).await?);
    let mut random = fastrand::Rng::with_seed(1);
    let (mut applying, mut snapshots, mut slowest, mut flushing) =
        (Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut flushes, mut written) = (0u32, 0);
    let mut first = 0;
    while first < rows {
        let body = body(first, keys, &mut random);
        let at = Instant::now();
        view.apply(first, BATCH as u32, &body)?;
        applying += at.elapsed();
        let at = Instant::now();
        let _ = view.snapshot()?;
        slowest = slowest.max(at.elapsed());
        snapshots += at.elapsed();
        first += BATCH;
        if view.tail_rows() >= 128 << 10 {
            let at = Instant::now();
            written += view.flush(log.clone()).await?.map_or(0, |f| f.rows);
            flushing += at.elapsed();
            flushes += 1;
        }
    }
    let at = Instant::now();
    written += view.flush(log.clone()).await?.map_or(0, |f| f.rows);
    let last = at.elapsed();
    let batches = (first / BATCH) as u32;
    println!("rows {first}, keys {keys}");
    println!(
        "apply      {:>9.0} rows/s, {:.3} µs a row",
        first as f64 / applying.as_secs_f64(),
        applying.as_secs_f64() * 1e6 / first as f64
    );
    println!("snapshot   {:?} on average after {BATCH} rows, {slowest:?} at most", snapshots / batches);
    println!("flush      {flushes} in {flushing:?}, then the rest in {last:?}; {written} rows written");
    let info = view.info();
    println!(
        "table      {} rows, {} files, {} bytes, {} bytes in memory",
        info.rows, info.files, info.bytes, info.memory_bytes
    );
    let at = Instant::now();
    let opened = View::open(&place, tenant, entity, start(), GRACE).await?;
    println!("open       {:?} for {} rows", at.elapsed(), opened.info().rows);
    Ok(())
}
