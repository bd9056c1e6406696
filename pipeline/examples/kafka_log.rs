//! How fast the log on Kafka appends and reads: `cargo run -p pipeline --features kafka --example kafka_log -- BROKERS [RECORDS]`.
//!
//! Records of 450 bytes that do not compress, 500 a batch, eight appends under way; then the same read by a log that has
//! read nothing. `ProducerPerformance` and `ConsumerPerformance` of Kafka with `--record-size 450` are the yardstick.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use pipeline::log::kafka::{KafkaLog, Settings};
use pipeline::{Durability, Log, LogError};
use schemas::{Batch, BatchHeader, BatchKind, TenantId, Topic};

const RECORD_BYTES: usize = 450;
const RECORDS_OF_BATCH: u32 = 500;
const UNDER_WAY: usize = 8;
const READ_BYTES: usize = 2 << 20;

fn batch(body: &bytes::Bytes) -> Batch {
    let header = BatchHeader {
        kind: BatchKind::Records,
        tenant: TenantId::from_bytes([7; 16]),
        subject: "bench/stream".into(),
        count: RECORDS_OF_BATCH,
        logged_at: 0,
        key_id: 0,
        trace: None,
    };
    Batch { header, body: body.clone() }
}

async fn append(log: &KafkaLog, batches: u64) -> Result<(), LogError> {
    let noise: Vec<u8> = (0..RECORD_BYTES * RECORDS_OF_BATCH as usize).map(|_| fastrand::u8(..)).collect();
    let body = bytes::Bytes::from(noise);
    let one = |_| async { log.append(Topic::Inputs, 0, vec![batch(&body)], Durability::Durable).await.map(drop) };
    stream::iter(0..batches).map(one).buffer_unordered(UNDER_WAY).try_collect::<Vec<()>>().await.map(drop)
}

async fn read(log: &KafkaLog) -> Result<u64, LogError> {
    let (mut next, mut bytes) = (0, 0);
    loop {
        let batches = log.read(Topic::Inputs, 0, next, READ_BYTES).await?;
        let Some(last) = batches.last() else { break };
        next = last.end();
        for stored in &batches {
            bytes += stored.body(Topic::Inputs, 0)?.map_or(0, |body| body.len());
        }
    }
    assert_eq!(bytes as u64, next * RECORD_BYTES as u64);
    Ok(next)
}

fn tell(what: &str, records: u64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    let megabytes = records as f64 * RECORD_BYTES as f64 / 1e6;
    println!(
        "{what:7} {records} records in {seconds:.2} s: {:.0} a second, {:.1} MB/s",
        records as f64 / seconds,
        megabytes / seconds
    );
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut settings = Settings::at(arguments.next().ok_or("say where the brokers are: host:port")?);
    let records: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    settings.topic_prefix = format!("bench-{}.", fastrand::u32(..));
    let log = Arc::new(KafkaLog::open(settings.clone()).await?);
    let batches = records.div_ceil(RECORDS_OF_BATCH.into());
    let started = Instant::now();
    append(&log, batches).await?;
    tell("append", batches * u64::from(RECORDS_OF_BATCH), started);
    let fresh = KafkaLog::open(settings).await?;
    let started = Instant::now();
    let found = read(&fresh).await?;
    tell("read", found, started);
    Ok(())
}
