//! What does a durable append cost, and what could the log stand on instead? Packed batches of the workload's records, one
//! fsync each, into one engine; then all of them are read back.

mod engines;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use benches::measure::{Cost, Running, print_row, rounded};
use benches::{Workload, stream};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use engines::Engine;
use schemas::{Batch, BatchHeader, BatchKind, TenantId};
use serde_json::json;

/// Records of a batch: about 256 KiB before packing.
const BATCH_RECORDS: usize = 580;
/// So many bodies take turns, because no engine packs a batch again.
const BODIES: usize = 16;
const PARTITIONS: u32 = 4;

#[derive(Parser)]
#[command(about = "Durable appends of the workload's records into one engine, then a full read")]
struct Arguments {
    /// What the log stands on.
    #[arg(long, value_enum, default_value_t = Kind::Embedded)]
    engine: Kind,
    /// Records to append.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Where the engine puts its files; on the disk that you mean to measure.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Packs and forgets: what all engines pay.
    Null,
    /// One plain file a partition.
    Segments,
    /// The embedded log behind its port, as the line uses it.
    Embedded,
    /// Its database alone.
    Fjall,
    /// The same with values among the keys.
    FjallInline,
    #[cfg(feature = "redb")]
    Redb,
}

fn main() -> Result<()> {
    let Arguments { engine, records, dir } = Arguments::parse();
    let folder = tempfile::tempdir_in(dir)?;
    let path = folder.path();
    let bodies = bodies()?;
    let (name, mut engine): (_, Box<dyn Engine>) = match engine {
        Kind::Null => ("null log", Box::<engines::Null>::default()),
        Kind::Segments => ("plain files", Box::new(engines::Segments::open(path)?)),
        Kind::Embedded => ("autonomos", Box::new(engines::ThroughPort::open(path)?)),
        Kind::Fjall => ("fjall", Box::new(engines::Fjall::open(path, true)?)),
        Kind::FjallInline => ("fjall, values among keys", Box::new(engines::Fjall::open(path, false)?)),
        #[cfg(feature = "redb")]
        Kind::Redb => ("redb", Box::new(engines::Redb::open(path)?)),
    };
    let running = Running::start()?;
    for (partition, batch) in (0..PARTITIONS).cycle().zip(batches(&bodies, records)) {
        engine.append(partition, batch)?;
    }
    // What an engine still does in the background belongs to its price.
    engine.reopen()?;
    let appended = running.stop()?;
    let read = read_back(&mut *engine, records)?;
    print_row(
        "append",
        name,
        records,
        &appended,
        json!({
            "read_cpu_s_per_m": rounded(read.cpu_seconds / records as f64 * 1e6),
            "disk_mb": (disk_bytes(path)? as f64 / 1e6).round(),
        }),
    );
    Ok(())
}

fn read_back(engine: &mut dyn Engine, records: u64) -> Result<Cost> {
    let mut found = 0;
    let running = Running::start()?;
    engine.read(&mut |batch| found += u64::from(batch.header.count))?;
    let cost = running.stop()?;
    ensure!(found == records, "{found} of {records} records were read back");
    Ok(cost)
}

/// The first records of the workload as bodies of batches.
fn bodies() -> Result<Vec<(u32, Bytes)>> {
    let workload = Workload { tenants: 1, ..Workload::default() };
    let lines: Vec<_> = workload.lines(0).take(BATCH_RECORDS * BODIES).collect();
    let batch = |chunk: &[Vec<u8>]| {
        let lines: Vec<_> = chunk.iter().map(|line| line.trim_ascii_end()).collect();
        stream::batches(&lines, 0).into_iter().map(|batch| (batch.count, Bytes::from(batch.body)))
    };
    Ok(lines.chunks(BATCH_RECORDS).flat_map(batch).collect())
}

fn batches(bodies: &[(u32, Bytes)], mut left: u64) -> impl Iterator<Item = Batch> {
    bodies.iter().cycle().map_while(move |(count, body)| {
        let count = u64::from(*count).min(left) as u32;
        left -= u64::from(count);
        let header = BatchHeader {
            kind: BatchKind::Records,
            tenant: TenantId::from_bytes([7; 16]),
            subject: "crm/opportunity".into(),
            count,
            logged_at: 1_700_000_000_000_000,
            key_id: 0,
            trace: None,
        };
        (count > 0).then(|| Batch { header, body: body.clone() })
    })
}

/// Bytes that the files take, holes not counted.
fn disk_bytes(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
