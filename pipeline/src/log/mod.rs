//! The port `Log`: the one door between rooms.

pub mod conformance;
mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
mod memory;
pub(crate) mod oddities;
pub(crate) mod partition;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::batch::{BatchError, unpack};
use schemas::{Batch, BatchHeader, PackedBatch, Topic};

pub use embedded::EmbeddedLog;
#[cfg(feature = "kafka")]
pub use kafka::KafkaLog;
pub use memory::MemoryLog;
pub use oddities::{Foreign, Oddities};

use crate::payload::{self, SealingKey};

/// When an append is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the batches would survive a power cut (fsync; acknowledged by all replicas). Ingest uses it.
    Durable,
    /// Once the batches stand in order. They may be lost in a crash, but never without everything that was appended or
    /// stored after them. For what can be made again from `inputs`.
    Ordered,
}

/// A log cannot do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// No such partition.
    #[error("topic {topic} has no partition {partition}; it has {partitions}")]
    NoPartition {
        /// The topic.
        topic: Topic,
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// A batch cannot be read.
    #[error(
        "topic {topic}, partition {partition}, offset {offset} cannot be read: {source}; what stands before it is whole, \
         other partitions go on, and this one takes no more: restore it from a backup"
    )]
    Unreadable {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// Offset of the batch's first item.
        offset: u64,
        /// What is wrong with it.
        source: BatchError,
    },
    /// A batch is not there, though others behind it are.
    #[error("topic {topic}, partition {partition} lacks the batch at offset {offset}: restore it from a backup")]
    Missing {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// Offset of its first item.
        offset: u64,
    },
    /// The caller's mistake; nothing was appended, and the log goes on.
    #[error("the append was refused: {0}")]
    Refused(String),
    /// The tenant is forgotten; nothing was appended, and the log goes on for others.
    #[error("the tenant was deleted")]
    Forgotten,
    /// The disk is full. Nothing was acknowledged; free some room and try again.
    #[error("the disk is full: free some room in the data folder's filesystem; nothing acknowledged is lost")]
    DiskFull,
    /// The log's servers do not answer. They may again, without anything being opened anew; an append under way may be there.
    #[error("the log cannot be reached: {0}")]
    Unreachable(String),
    /// The engine failed; the outcome of appends under way is unknown, and the log takes no more until it is opened again.
    #[error("the log failed and must be opened again: {0}")]
    Failed(String),
}

impl LogError {
    /// Whether the same call may work later, without opening the log again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::DiskFull | Self::Unreachable(_) => true,
            Self::NoPartition { .. }
            | Self::Unreadable { .. }
            | Self::Missing { .. }
            | Self::Refused(_)
            | Self::Forgotten
            | Self::Failed(_) => false,
        }
    }
}

/// A batch on the log.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Offset of its first item.
    pub first: u64,
    /// The batch, its body packed.
    pub packed: PackedBatch,
    /// What opens its body, if it is sealed.
    pub(crate) key: BodyKey,
}

/// What opens the body of a batch that is sealed.
#[derive(Debug, Clone)]
pub(crate) enum BodyKey {
    /// Nothing that is here.
    None,
    /// This key.
    Key(Arc<SealingKey>),
    /// Nothing ever again: its key was destroyed.
    Forgotten,
}

impl Stored {
    /// A batch at its place.
    pub fn new(first: u64, packed: PackedBatch) -> Self {
        Self { first, packed, key: BodyKey::None }
    }
    /// What stands in clear.
    pub fn header(&self) -> &BatchHeader {
        &self.packed.header
    }
    /// The offset behind its last item.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.packed.header.count)
    }
    /// Whether its tenant is forgotten: it has a place and no body.
    pub fn is_forgotten(&self) -> bool {
        matches!(self.key, BodyKey::Forgotten)
    }
    /// The body, opened and unpacked; nothing when the tenant is forgotten, and readers go on behind it.
    pub fn body(&self, topic: Topic, partition: u32) -> Result<Option<Bytes>, LogError> {
        let offset = self.first;
        self.open().map_err(|source| LogError::Unreadable { topic, partition, offset, source })
    }
    /// The batch as the log has it: with its time, and sealed if it is.
    pub fn as_it_lies(&self, topic: Topic, partition: u32) -> Result<Batch, LogError> {
        let offset = self.first;
        let body = self.packed.sealed().unwrap_or_else(|| self.packed.body());
        let body = body.map_err(|source| LogError::Unreadable { topic, partition, offset, source })?;
        Ok(Batch { header: self.header().clone(), body })
    }
    fn open(&self) -> Result<Option<Bytes>, BatchError> {
        let header = self.header();
        let Some(sealed) = self.packed.sealed() else { return self.packed.body().map(Some) };
        match &self.key {
            BodyKey::None => Err(BatchError::Sealed(header.key_id)),
            BodyKey::Forgotten => Ok(None),
            BodyKey::Key(key) => {
                let opened = payload::open(key, header, &sealed?).ok_or(BatchError::Sealed(header.key_id))?;
                unpack(&opened.into()).map(Some)
            }
        }
    }
}

/// A partitioned, append-only log of batches.
///
/// - **Order.** A partition's items have offsets 0, 1, 2, … in the order in which their batches were appended; the batches
///   of one `append` stand together and in order, all of them or none. Appends to one partition that overlap in time
///   stand in some order.
/// - **Durability.** See [`Durability`]. An append that fails may still be found later: an error is an unknown outcome.
/// - **Time.** The log sets each batch's `logged_at` when it takes it; in a partition it never goes back. What is adopted
///   keeps the time that another log set.
/// - **Sealing.** A log may seal bodies, and sets `key_id` then; a batch whose key is destroyed keeps its offsets.
/// - **Damage** is of one partition: what stands before it is read, the read that meets it fails and names it, and from
///   then on (or from the start, when it is found then) appends to the partition fail the same way. Others go on.
/// - **Reading** sees what was appended, durable or not, and never a part of a batch.
/// - **Retention** is unlimited.
/// - A topic's partition count and epoch never change while it is open.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// How many partitions a topic has.
    fn partitions(&self, topic: Topic) -> u32;

    /// The topic's generation, raised when it is restored or made again.
    fn epoch(&self, topic: Topic) -> u32;

    /// Appends batches and answers the offset of each one's first item. An empty batch (`count` 0) is an error of the caller.
    async fn append(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<Batch>,
        durability: Durability,
    ) -> Result<Vec<u64>, LogError>;

    /// Appends batches of another log as that one has them: with their time, and sealed if they are. They are durable after
    /// the next `sync`. A time before that of the partition's last batch is an error of the caller. A log that is only a
    /// view of another takes none.
    async fn adopt(&self, topic: Topic, partition: u32, batches: Vec<Batch>) -> Result<Vec<u64>, LogError> {
        let _ = (topic, partition, batches);
        Err(LogError::Refused("this log takes no batches of another: give them to the one behind it".into()))
    }

    /// Batches from the one that holds `from` on, until `max_bytes` of packed bodies are exceeded: at least one if
    /// there is any, none at the end.
    async fn read(&self, topic: Topic, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Stored>, LogError>;

    /// The offset behind the last item.
    async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError>;

    /// Returns once the partition's end is beyond `offset`.
    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError>;

    /// What is wrong with a partition, if something was found.
    fn damage(&self, topic: Topic, partition: u32) -> Option<LogError> {
        let _ = (topic, partition);
        None
    }

    /// What readers met on the log's servers and went on behind, if it has servers.
    fn oddities(&self) -> Option<&Oddities> {
        None
    }

    /// Makes everything appended so far durable.
    async fn sync(&self) -> Result<(), LogError>;
}
