//! A log in memory: for tests, and for whatever need not outlive the process.

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use schemas::{Batch, PackedBatch, Topic};
use tokio::sync::{Mutex, watch};

use super::partition::{ByPartition, Stamp};
use super::{Durability, Log, LogError, Stored};
use crate::engine::Partitions;

/// A log in memory. `Durable` means for as long as it lives.
pub struct MemoryLog {
    counts: Partitions,
    epoch: u32,
    partitions: ByPartition<Partition>,
}

struct Partition {
    /// Held while batches are packed and put in place, so that times and offsets rise together.
    stamp: Mutex<Stamp>,
    batches: RwLock<Vec<Stored>>,
    end: watch::Sender<u64>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new(partitions: Partitions) -> Self {
        Self::of_epoch(partitions, 1)
    }

    /// An empty log of a generation: for what moves here from a log of that one.
    pub fn of_epoch(partitions: Partitions, epoch: u32) -> Self {
        let empty = || Partition {
            stamp: Mutex::new(Stamp::after(i64::MIN)),
            batches: RwLock::default(),
            end: watch::Sender::new(0),
        };
        let made = ByPartition::try_new(partitions, |_, _| Ok::<_, std::convert::Infallible>(empty()));
        let Ok(by_partition) = made;
        Self { counts: partitions, epoch, partitions: by_partition }
    }
}

impl Partition {
    fn put(&self, packed: Vec<(u32, Vec<u8>)>) -> Vec<u64> {
        let mut batches = self.batches.write();
        let mut end = *self.end.borrow();
        let mut offsets = Vec::with_capacity(packed.len());
        for (count, bytes) in packed {
            // Copied, because packing leaves room behind the bytes.
            let packed =
                PackedBatch::decode(&Bytes::copy_from_slice(&bytes)).expect("what was just packed can be read");
            offsets.push(end);
            batches.push(Stored::new(end, packed));
            end += u64::from(count);
        }
        drop(batches);
        self.end.send_replace(end);
        offsets
    }

    fn read(&self, from: u64, bytes_max: usize) -> Vec<Stored> {
        let batches = self.batches.read();
        let start = batches.partition_point(|batch| batch.end() <= from);
        let mut bytes = 0;
        let fits = |batch: &&Stored| {
            let fits = bytes < bytes_max || bytes == 0;
            bytes += batch.packed.packed_bytes().max(1);
            fits
        };
        batches[start..].iter().take_while(fits).cloned().collect()
    }
}

#[async_trait]
impl Log for MemoryLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.counts.of(topic)
    }

    fn epoch(&self, _: Topic) -> u32 {
        self.epoch
    }

    async fn append(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<Batch>,
        _: Durability,
    ) -> Result<Vec<u64>, LogError> {
        let partition = self.partitions.get(topic, partition)?;
        let mut stamp = partition.stamp.lock().await;
        Ok(partition.put(stamp.pack(batches)?))
    }

    async fn adopt(&self, topic: Topic, partition: u32, batches: Vec<Batch>) -> Result<Vec<u64>, LogError> {
        let partition = self.partitions.get(topic, partition)?;
        let mut stamp = partition.stamp.lock().await;
        Ok(partition.put(stamp.adopt(&batches)?))
    }

    async fn read(&self, topic: Topic, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Stored>, LogError> {
        Ok(self.partitions.get(topic, partition)?.read(from, max_bytes))
    }

    async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError> {
        Ok(*self.partitions.get(topic, partition)?.end.borrow())
    }

    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        let mut end = self.partitions.get(topic, partition)?.end.subscribe();
        let beyond = end.wait_for(|end| *end > offset).await;
        beyond.map(|_| ()).map_err(|_| LogError::Failed("the log in memory is gone".into()))
    }

    async fn sync(&self) -> Result<(), LogError> {
        Ok(())
    }
}
