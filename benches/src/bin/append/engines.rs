//! What a log may stand on, each behind the same small trait.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use pipeline::{Durability, Embedded, Log, Partitions};
use schemas::{Batch, PackedBatch, Topic};

use super::PARTITIONS;

/// Something that keeps packed batches.
pub trait Engine {
    /// Packs a batch and makes it durable.
    fn append(&mut self, partition: u32, batch: Batch) -> Result<()>;
    /// Called between writing and reading.
    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }
    /// Gives every batch, its checksum verified.
    fn read(&mut self, each: &mut dyn FnMut(&PackedBatch)) -> Result<()>;
}

/// Packs and forgets: what all engines pay.
#[derive(Default)]
pub struct Null {
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
pub struct Segments(Vec<File>, PathBuf);

impl Segments {
    pub fn open(folder: &Path) -> Result<Self> {
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
pub struct ThroughPort {
    folder: PathBuf,
    embedded: Option<Embedded>,
    runtime: tokio::runtime::Runtime,
}

impl ThroughPort {
    pub fn open(folder: &Path) -> Result<Self> {
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
pub struct Fjall {
    database: fjall::Database,
    batches: fjall::Keyspace,
    next: u64,
}

impl Fjall {
    pub fn open(folder: &Path, separate: bool) -> Result<Self> {
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
pub struct Redb {
    database: redb::Database,
    next: u64,
}

#[cfg(feature = "redb")]
impl Redb {
    const BATCHES: redb::TableDefinition<'static, &'static [u8], &'static [u8]> = redb::TableDefinition::new("batches");

    pub fn open(folder: &Path) -> Result<Self> {
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
