//! How log and store lie in the database: one keyspace a topic, one for rows.

use fjall::config::{CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use schemas::{TenantId, Topic};

use crate::store::Table;

/// What a memtable may hold before it goes to disk. Three topics and the rows have one each, and at most two wait.
pub(super) const MEMTABLE_BYTES: u64 = 16 << 20;
/// Values from this size on are written to disk once and never moved again; below are control batches.
const SEPARATE_FROM_BYTES: u32 = 4 << 10;
const CACHE_BYTES: u64 = 16 << 20;
/// Bounds what must be replayed after a crash.
const JOURNALS_BYTES_MAX: u64 = 128 << 20;
/// One: with two or more, the first spins while another compacts.
const WORKERS: usize = 1;

/// The keyspaces of the database.
pub(crate) struct Keyspaces {
    topics: [Keyspace; 3],
    /// Tenant, table, key → version, value.
    pub(crate) rows: Keyspace,
}

impl Keyspaces {
    /// Opens or makes them.
    pub(super) fn open(database: &Database) -> fjall::Result<Self> {
        let topic = |topic: Topic| database.keyspace(topic.name(), batch_options);
        Ok(Self {
            topics: [topic(Topic::Inputs)?, topic(Topic::Events)?, topic(Topic::Decisions)?],
            rows: database.keyspace("rows", row_options)?,
        })
    }

    /// Partition, offset of the first item → batch.
    pub(crate) fn topic(&self, topic: Topic) -> &Keyspace {
        match topic {
            Topic::Inputs => &self.topics[0],
            Topic::Events => &self.topics[1],
            Topic::Decisions => &self.topics[2],
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Keyspace> {
        self.topics.iter().chain([&self.rows])
    }
}

/// Opens or makes the database in a folder.
pub(super) fn open_database(folder: &std::path::Path) -> fjall::Result<Database> {
    Database::builder(folder)
        .journal_compression(CompressionType::None)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNALS_BYTES_MAX)
        .worker_threads(WORKERS)
        .open()
}

/// Batches are packed already, are never changed, and are found by range only.
fn batch_options() -> KeyspaceCreateOptions {
    let separation =
        KvSeparationOptions::default().compression(CompressionType::None).separation_threshold(SEPARATE_FROM_BYTES);
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_compression_policy(CompressionPolicy::disabled())
        .filter_policy(FilterPolicy::disabled())
        .with_kv_separation(Some(separation))
}

fn row_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
}

/// The key of a batch.
pub(crate) fn batch_key(partition: u32, first: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&partition.to_be_bytes());
    key[4..].copy_from_slice(&first.to_be_bytes());
    key
}

/// The offset in a batch's key.
pub(crate) fn batch_offset(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(4..)?.try_into().ok()?))
}

/// Bytes before the text in a row's key: every tenant and table has a prefix of its own, all of one length.
pub(crate) const ROW_KEY_PREFIX_BYTES: usize = 17;

/// The key of a row.
pub(crate) fn row_key(tenant: TenantId, table: Table, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROW_KEY_PREFIX_BYTES + key.len());
    bytes.extend_from_slice(&tenant.to_bytes());
    bytes.push(table as u8);
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_keys_sort_by_partition_then_offset() {
        assert!(batch_key(1, u64::MAX) < batch_key(2, 0));
        assert!(batch_key(1, 255) < batch_key(1, 256));
        assert_eq!(batch_offset(&batch_key(3, 42)), Some(42));
        assert_eq!(batch_offset(b"short"), None);
    }
}
