//! How fast is the log on Kafka? Batches of the workload's records, many under way at once; then all of them are read by a log
//! that has read nothing. `kafka.py` runs this and Kafka's own tools by turns, on one broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use benches::measure::{Running, print_row};
use benches::{Workload, stream};
use bytes::Bytes;
use clap::{Args, Parser, Subcommand};
use futures::StreamExt;
use pipeline::log::kafka::{KafkaLog, Settings};
use pipeline::{Durability, Log, Partitions};
use schemas::batch::pack;
use schemas::{Batch, BatchHeader, BatchKind, TenantId, Topic};
use serde_json::json;

/// Records of a batch, and so of a message: about as many as `ingest` appends at once.
const BATCH_RECORDS: usize = 1000;
/// So many bodies take turns.
const BODIES: usize = 16;
/// Appends under way: some 32 MB, as many as Kafka's own producer has by default.
const UNDER_WAY: usize = 400;
const READ_BYTES: usize = 2 << 20;
const TOPIC: Topic = Topic::Inputs;

#[derive(Parser)]
#[command(about = "Appends to the log on Kafka, or reads it; or writes what Kafka's own tools are to send")]
struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand)]
enum Work {
    /// Appends batches to topics that are made for it.
    Append(Place),
    /// Reads what was appended, from the beginning.
    Read(Place),
    /// Writes the values of the messages that `append` sends as lines of text, which ProducerPerformance reads.
    Payloads {
        /// The file.
        file: PathBuf,
        /// The records themselves instead, a line each.
        #[arg(long)]
        records: bool,
    },
}

#[derive(Args)]
struct Place {
    /// The brokers: host:port.
    #[arg(long)]
    brokers: String,
    /// What stands before the names of the topics.
    #[arg(long)]
    prefix: String,
    /// Records; whole batches of them.
    #[arg(long, default_value_t = 4_000_000)]
    records: u64,
    /// Has the log pack bodies, and unpack what it reads. Without, they are packed before, as where tenants have keys.
    #[arg(long)]
    pack: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().work {
        Work::Append(place) => append(&place).await,
        Work::Read(place) => read(&place).await,
        Work::Payloads { file, records: false } => payloads(&file),
        Work::Payloads { file, records: true } => Ok(fs::write(file, lines().concat())?),
    }
}

impl Place {
    async fn open(&self) -> Result<KafkaLog> {
        let mut settings = Settings::at(self.brokers.as_str());
        settings.topic_prefix.clone_from(&self.prefix);
        settings.partitions = Partitions { inputs: 1, events: 1, decisions: 1 };
        Ok(KafkaLog::open(settings).await?)
    }

    fn messages(&self) -> usize {
        usize::try_from(self.records).unwrap_or(usize::MAX).div_ceil(BATCH_RECORDS)
    }
}

async fn append(place: &Place) -> Result<()> {
    let (batches, messages) = (batches(place.pack), place.messages());
    let sizes: Vec<usize> = batches.iter().map(|batch| batch.encode().len()).collect();
    let log = Arc::new(place.open().await?);
    let one = |n: usize| {
        let (log, batch) = (log.clone(), batches[n % BODIES].clone());
        tokio::spawn(async move { log.append(TOPIC, 0, vec![batch], Durability::Durable).await })
    };
    let running = Running::start()?;
    let mut appends = futures::stream::iter(0..messages).map(one).buffer_unordered(UNDER_WAY);
    while let Some(appended) = appends.next().await {
        appended??;
    }
    let cost = running.stop()?;
    let bytes: usize = (0..messages).map(|n| sizes[n % BODIES]).sum();
    print_row("append", "autonomos", records(messages), &cost, json!({ "messages": messages, "mb": megabytes(bytes) }));
    Ok(())
}

async fn read(place: &Place) -> Result<()> {
    let log = place.open().await?;
    let (mut next, mut messages, mut bytes) = (0, 0, 0);
    let running = Running::start()?;
    loop {
        let batches = log.read(TOPIC, 0, next, READ_BYTES).await?;
        let Some(last) = batches.last() else { break };
        next = last.end();
        for batch in &batches {
            messages += 1;
            bytes += match place.pack {
                true => batch.body(TOPIC, 0)?.map_or(0, |body| body.len()),
                false => batch.packed.packed_bytes(),
            };
        }
    }
    let cost = running.stop()?;
    ensure!(messages == place.messages(), "{messages} messages were read, {} were appended", place.messages());
    ensure!(next == records(messages), "{next} records were read, {} were appended", records(messages));
    print_row("read", "autonomos", next, &cost, json!({ "messages": messages, "mb": megabytes(bytes) }));
    Ok(())
}

/// What ProducerPerformance takes for a payload is text, so every byte loses its top bit and none ends a line. Lengths stay,
/// and what stands twice in a message does so in its line.
fn payloads(file: &Path) -> Result<()> {
    let as_text = |byte: &u8| if byte & 0x7f == b'\n' { b' ' } else { byte & 0x7f };
    let line = |batch: &Batch| batch.encode().iter().map(as_text).chain([b'\n']).collect::<Vec<u8>>();
    Ok(fs::write(file, batches(false).iter().flat_map(line).collect::<Vec<u8>>())?)
}

/// The first records of the workload, a line each with its end.
fn lines() -> Vec<Vec<u8>> {
    let workload = Workload { tenants: 1, ..Workload::default() };
    workload.lines(0).take(BATCH_RECORDS * BODIES).collect()
}

/// The batches that take turns.
fn batches(pack_later: bool) -> Vec<Batch> {
    let lines = lines();
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.trim_ascii_end()).collect();
    let batch = move |chunk: &[&[u8]]| {
        stream::batches(chunk, 0).into_iter().map(move |batch| {
            let mut body = batch.body;
            if !pack_later {
                let mut packed = Vec::new();
                pack(&body, &mut packed);
                body = packed;
            }
            let header = BatchHeader {
                kind: BatchKind::Records,
                tenant: TenantId::from_bytes([7; 16]),
                subject: "crm/opportunity".into(),
                count: batch.count,
                logged_at: 0,
                key_id: u32::from(!pack_later),
                trace: None,
            };
            Batch { header, body: Bytes::from(body) }
        })
    };
    lines.chunks(BATCH_RECORDS).flat_map(batch).collect()
}

fn records(messages: usize) -> u64 {
    (messages * BATCH_RECORDS) as u64
}

fn megabytes(bytes: usize) -> f64 {
    (bytes as f64 / 1e6).round()
}
