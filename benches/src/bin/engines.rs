//! What should log and store stand on? The same packed batches, one fsync each, into one embedded database or into plain
//! files, then all of them read back. Each engine runs in a process of its own.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Parser;
use pipeline::{Durability, Embedded, Log, Partitions};
use schemas::{Batch, BatchHeader, BatchKind, PackedBatch, TenantId, Topic};

/// Compares engines for the log: CPU, wall time, disk and memory of durable appends and of a full read.
#[derive(Parser)]
struct Arguments {
    /// Records of about 450 bytes to append.
    #[arg(long, default_value_t = 400_000)]
    records: u64,
    /// Bytes of records in a batch before packing.
    #[arg(long, default_value_t = 256 << 10)]
    batch_bytes: usize,
    /// Where the engines put their files; on the disk that you mean to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Run this engine alone, in this process.
    #[arg(long)]
    engine: Option<String>,
}

const ENGINES: &[&str] = &[
    "null",
    "segments",
    "embedded",
    "fjall",
    "fjall-inline",
    #[cfg(feature = "redb")]
    "redb",
];
const PARTITIONS: u32 = 4;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(engine) = &arguments.engine {
        return run(engine, &arguments);
    }
    println!("{:<13} {:>12} {:>9} {:>12} {:>9} {:>9} {:>9}", "engine", "append", "", "read", "", "disk", "peak RSS");
    println!(
        "{:<13} {:>12} {:>9} {:>12} {:>9} {:>9} {:>9}",
        "", "CPU µs/rec", "wall s", "CPU µs/rec", "wall s", "MB", "MB"
    );
    for engine in ENGINES {
        let status = Command::new(std::env::current_exe()?)
            .args(["--engine", engine, "--records", &arguments.records.to_string()])
            .args(["--batch-bytes", &arguments.batch_bytes.to_string()])
            .arg("--dir")
            .arg(&arguments.dir)
            .status()?;
        if !status.success() {
            bail!("{engine} ended with {status}");
        }
    }
    Ok(())
}

fn run(engine: &str, arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir_in(&arguments.dir)?;
    let input = Input::new(arguments.records, arguments.batch_bytes);
    let path = folder.path();
    let (append, read) = match engine {
        "null" => measure(&input, &mut Null::default())?,
        "segments" => measure(&input, &mut Segments::open(path)?)?,
        "embedded" => measure(&input, &mut ThroughPort::open(path)?)?,
        "fjall" => measure(&input, &mut Fjall::open(path, true)?)?,
        "fjall-inline" => measure(&input, &mut Fjall::open(path, false)?)?,
        #[cfg(feature = "redb")]
        "redb" => measure(&input, &mut Redb::open(path)?)?,
        _ => bail!("no engine {engine:?}: choose one of {ENGINES:?}"),
    };
    let per_record = |cost: &Cost| cost.cpu_seconds * 1e6 / arguments.records as f64;
    println!(
        "{engine:<13} {:>12.2} {:>9.2} {:>12.2} {:>9.2} {:>9.1} {:>9.1}",
        per_record(&append),
        append.wall_seconds,
        per_record(&read),
        read.wall_seconds,
        disk_bytes(path)? as f64 / 1e6,
        peak_rss_bytes()? as f64 / 1e6,
    );
    Ok(())
}

/// Batches of made-up opportunities; a few bodies take turns, because no engine packs again.
struct Input {
    bodies: Vec<(u32, Bytes)>,
    records: u64,
}

impl Input {
    fn new(records: u64, batch_bytes: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let bodies = (0..16).map(|_| body(&mut random, batch_bytes)).collect();
        Self { bodies, records }
    }

    fn batches(&self) -> impl Iterator<Item = Batch> {
        let mut left = self.records;
        self.bodies.iter().cycle().map_while(move |(count, body)| {
            let count = u64::from(*count).min(left) as u32;
            left -= u64::from(count);
            let header = BatchHeader {
                kind: BatchKind::Records,
                tenant: TenantId::from_bytes([7; 16]),
                subject: "crm/opportunity".into(),
                count,
                logged_at: 1_700_000_000_000_000,
                key_id: 0,
            };
            (count > 0).then(|| Batch { header, body: body.clone() })
        })
    }
}

fn body(random: &mut fastrand::Rng, bytes: usize) -> (u32, Bytes) {
    let mut lines = String::with_capacity(bytes);
    let mut count = 0;
    while lines.len() < bytes {
        let id = random.u64(0..100_000);
        let word = |random: &mut fastrand::Rng| (0..8).map(|_| random.lowercase()).collect::<String>();
        lines.push_str(&format!(
            concat!(
                r#"{{"attributes":{{"type":"Opportunity","url":"/services/data/v61.0/sobjects/Opportunity/006{:015}"}},"#,
                r#""Id":"006{:015}","Name":"{} {} renewal","AccountId":"001{:015}","StageName":"Negotiation","Amount":{}.{:02},"#,
                r#""Probability":{},"CloseDate":"2026-{:02}-{:02}","IsClosed":false,"IsWon":false,"LeadSource":null,"#,
                r#""Owner":{{"Id":"005{:015}","Name":"{}"}},"LastModifiedDate":"2026-03-{:02}T{:02}:{:02}:{:02}.000+0000"}}"#,
                "\n"
            ),
            id, id, word(random), word(random), random.u64(0..20_000), random.u32(0..900_000), random.u32(0..100),
            random.u32(0..100), random.u32(1..13), random.u32(1..29), random.u64(0..500), word(random),
            random.u32(1..29), random.u32(0..24), random.u32(0..60), random.u32(0..60),
        ));
        count += 1;
    }
    (count, lines.into())
}

/// Something that keeps packed batches.
trait Engine {
    /// Packs a batch and makes it durable.
    fn append(&mut self, partition: u32, batch: Batch) -> Result<()>;
    /// Called between writing and reading.
    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }
    /// Gives every batch, its checksum verified.
    fn read(&mut self, each: &mut dyn FnMut(&PackedBatch)) -> Result<()>;
}

struct Cost {
    cpu_seconds: f64,
    wall_seconds: f64,
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let (cpu, wall) = (cpu_seconds()?, Instant::now());
    work()?;
    Ok(Cost { wall_seconds: wall.elapsed().as_secs_f64(), cpu_seconds: cpu_seconds()? - cpu })
}

fn measure(input: &Input, engine: &mut dyn Engine) -> Result<(Cost, Cost)> {
    let append = timed(|| {
        (0..PARTITIONS)
            .cycle()
            .zip(input.batches())
            .try_for_each(|(partition, batch)| engine.append(partition, batch))?;
        // What an engine still does in the background belongs to its price.
        engine.reopen()
    })?;
    let mut records = 0;
    let read = timed(|| engine.read(&mut |batch| records += u64::from(batch.header.count)))?;
    if records != input.records {
        bail!("{records} of {} records were read back", input.records);
    }
    Ok((append, read))
}

/// Packs and forgets: what all engines pay.
#[derive(Default)]
struct Null {
    records: u64,
    last: Vec<u8>,
}

impl Engine for Null {
    fn append(&mut self, _: u32, batch: Batch) -> Result<()> {
        self.records += u64::from(batch.header.count);
        self.last = batch.encode();
        Ok(())
    }

    fn read(&mut self, each: &mut dyn FnMut(&PackedBatch)) -> Result<()> {
        let mut batch = PackedBatch::decode(&Bytes::from(std::mem::take(&mut self.last)))?;
        batch.header.count = self.records as u32;
        each(&batch);
        Ok(())
    }
}

/// One file a partition: length, bytes, fdatasync.
struct Segments(Vec<File>, PathBuf);

impl Segments {
    fn open(folder: &Path) -> Result<Self> {
        let file = |partition| File::create(folder.join(format!("{partition}.log")));
        Ok(Self((0..PARTITIONS).map(file).collect::<std::io::Result<_>>()?, folder.to_owned()))
    }
}

impl Engine for Segments {
    fn append(&mut self, partition: u32, batch: Batch) -> Result<()> {
        let bytes = batch.encode();
        let file = &mut self.0[partition as usize];
        file.write_all(&(bytes.len() as u32).to_be_bytes())?;
        file.write_all(&bytes)?;
        Ok(file.sync_data()?)
    }

    fn read(&mut self, each: &mut dyn FnMut(&PackedBatch)) -> Result<()> {
        for partition in 0..PARTITIONS {
            let mut file = BufReader::new(File::open(self.1.join(format!("{partition}.log")))?);
            let mut len = [0; 4];
            while file.read_exact(&mut len).is_ok() {
                let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
                file.read_exact(&mut bytes)?;
                each(&PackedBatch::decode(&bytes.into())?);
            }
        }
        Ok(())
    }
}

/// The embedded log as the line uses it.
struct ThroughPort {
    folder: PathBuf,
    embedded: Option<Embedded>,
    runtime: tokio::runtime::Runtime,
}

impl ThroughPort {
    fn open(folder: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let embedded = Some(Embedded::open(folder, Partitions::default())?);
        Ok(Self { folder: folder.to_owned(), embedded, runtime })
    }

    fn log(&self) -> Result<std::sync::Arc<pipeline::EmbeddedLog>> {
        Ok(self.embedded.as_ref().context("the folder is open")?.log())
    }
}

impl Engine for ThroughPort {
    fn append(&mut self, partition: u32, batch: Batch) -> Result<()> {
        let log = self.log()?;
        self.runtime.block_on(log.append(Topic::Inputs, partition, vec![batch], Durability::Durable))?;
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        self.embedded = None;
        self.embedded = Some(Embedded::open(&self.folder, Partitions::default())?);
        Ok(())
    }

    fn read(&mut self, each: &mut dyn FnMut(&PackedBatch)) -> Result<()> {
        let log = self.log()?;
        for partition in 0..PARTITIONS {
            let mut from = 0;
            loop {
                let batches = self.runtime.block_on(log.read(Topic::Inputs, partition, from, 1 << 20))?;
                let Some(last) = batches.last() else { break };
                from = last.end();
                batches.iter().for_each(|batch| each(&batch.packed));
            }
        }
        Ok(())
    }
}

/// The database without the port, its values separated from its keys or not.
struct Fjall {
    database: fjall::Database,
    batches: fjall::Keyspace,
    next: u64,
}

impl Fjall {
    fn open(folder: &Path, separate: bool) -> Result<Self> {
        use fjall::CompressionType::None as Unpacked;
        let database = fjall::Database::builder(folder)
            .journal_compression(Unpacked)
            .cache_size(16 << 20)
            .max_journaling_size(128 << 20)
            .worker_threads(1)
            .open()?;
        let separation = fjall::KvSeparationOptions::default().compression(Unpacked).separation_threshold(4 << 10);
        let batches = database.keyspace("inputs", || {
            fjall::KeyspaceCreateOptions::default()
                .max_memtable_size(16 << 20)
                .data_block_compression_policy(fjall::config::CompressionPolicy::disabled())
                .filter_policy(fjall::config::FilterPolicy::disabled())
                .with_kv_separation(separate.then_some(separation))
        })?;
        Ok(Self { database, batches, next: 0 })
    }
}

impl Engine for Fjall {
    fn append(&mut self, partition: u32, batch: Batch) -> Result<()> {
        let mut write = self.database.batch().durability(Some(fjall::PersistMode::SyncAll));
        write.insert(&self.batches, batch_key(partition, self.next), batch.encode());
        self.next += 1;
        Ok(write.commit()?)
    }

    fn read(&mut self, each: &mut dyn FnMut(&PackedBatch)) -> Result<()> {
        for entry in self.batches.iter() {
            each(&PackedBatch::decode(&Bytes::from_owner(entry.value()?))?);
        }
        Ok(())
    }
}

fn batch_key(partition: u32, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&partition.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(feature = "redb")]
struct Redb {
    database: redb::Database,
    next: u64,
}

#[cfg(feature = "redb")]
impl Redb {
    const BATCHES: redb::TableDefinition<'static, &'static [u8], &'static [u8]> = redb::TableDefinition::new("batches");

    fn open(folder: &Path) -> Result<Self> {
        let database = redb::Builder::new().set_cache_size(16 << 20).create(folder.join("redb"))?;
        Ok(Self { database, next: 0 })
    }
}

#[cfg(feature = "redb")]
impl Engine for Redb {
    fn append(&mut self, partition: u32, batch: Batch) -> Result<()> {
        let write = self.database.begin_write()?;
        let key = batch_key(partition, self.next);
        write.open_table(Self::BATCHES)?.insert(&key[..], batch.encode().as_slice())?;
        self.next += 1;
        Ok(write.commit()?)
    }

    fn read(&mut self, each: &mut dyn FnMut(&PackedBatch)) -> Result<()> {
        use redb::{ReadableDatabase, ReadableTable};
        let table = self.database.begin_read()?.open_table(Self::BATCHES)?;
        for entry in table.iter()? {
            each(&PackedBatch::decode(&Bytes::copy_from_slice(entry?.1.value()))?);
        }
        Ok(())
    }
}

/// User and system time of all threads of this process.
fn cpu_seconds() -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("the command ends with a bracket")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

fn peak_rss_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel tells VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

/// Bytes that the files take, holes not counted.
fn disk_bytes(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
