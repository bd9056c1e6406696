//! The port `Store`: small rows that change, with versions.

pub mod conformance;
pub(crate) mod embedded;
mod memory;
#[cfg(feature = "scylla")]
pub mod scylla;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::TenantId;

pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;
#[cfg(feature = "scylla")]
pub use scylla::ScyllaStore;

use crate::payload::SealingKey;

/// Every kind of row that is stored, with its key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// System. `NAME` of a tenant → its id (JSON). A tenant's own row with an empty key → its name (JSON).
    Tenants = 1,
    /// System. `TOPIC/PARTITION/READER` → where the reader starts: the topic's epoch (4 bytes), for readers of `decisions` the
    /// last one taken (its input's offset, 8 bytes, and ordinal, 4 bytes), and the offset (8 bytes), big-endian; a
    /// projector's that is older has the offset alone, and its key ends with `@URL` where views lie in a place that was named.
    Checkpoints = 2,
    /// `CONNECTION/STREAM` → partition, entity, mapping (JSON): what was asked for last.
    Streams = 3,
    /// `CONNECTION/STREAM` → the step's state (a snapshot with the input position that it covers), of its lanes only those
    /// read lately.
    StreamStates = 4,
    /// `ENTITY` → its definition in force (JSON).
    Entities = 5,
    /// `CONNECTION/STREAM/OFFSET` → a quarantined record's note (JSON). System. `TOPIC/EPOCH/PARTITION/MESSAGE` → the note of a
    /// message on the log's servers that is none of the line's (JSON).
    Quarantine = 7,
    /// `ENTITY` → a note of the view: `since`, the event position before which it has none (JSON). `ENTITY@URL` where
    /// views lie in a place that was named. System. `asked/PARTITION/TIME` → what is asked of who writes tables that processes share
    /// (JSON).
    Views = 9,
    /// `CONNECTION/STREAM/LANE` → a lane's place (JSON), where the snapshot does not have the lane.
    Lanes = 10,
    /// `TABLE` → the entity that fills it (JSON).
    TableNames = 11,
    /// `USER` → an account: address, role, password hash (JSON).
    Users = 12,
    /// System. `ADDRESS/TENANT` → the user who signs in with that address there (JSON).
    Addresses = 13,
    /// `SESSION` → who signed in, when, until when (JSON).
    Sessions = 14,
    /// `KEY` → an API key: the hash of its secret, role, streams, expiry (JSON).
    ApiKeys = 15,
    /// `HASH` of a one-use token → what it lets its bearer do: join, or set a new password (JSON).
    Invitations = 16,
    /// `TIME-NUMBER` → who did what (JSON).
    Journal = 17,
    /// `CONNECTION` → a connection made through the API: connector, settings, streams, whether it is paused (JSON).
    /// System. `TENANT` → something of them has changed, where processes share the store.
    Connections = 18,
    /// `HASH` of caller, route and idempotency key → the answer that was given (JSON).
    Answers = 19,
    /// `CONNECTION/STREAM` → how the runs of a connection's stream ended (JSON).
    Syncs = 20,
    /// System. `TENANT` → the tenant's payload key, sealed by the master key; or that there was one.
    PayloadKeys = 21,
    /// System. `TENANT` → its name (JSON): a deletion that is under way. `gone/TIME/TENANT` → its key was destroyed: for processes
    /// that share the store.
    Deletions = 22,
    /// One row with an empty key → bytes of records that the tenant has brought in (JSON).
    Usage = 23,
    /// `CONNECTION/STREAM/OFFSET` of the input at which it began → a case (JSON).
    Cases = 24,
    /// System. `PARTITION/TIME/TENANT/CONNECTION/STREAM/TIMER` → a time that the step asked for (JSON).
    Timers = 25,
    /// One row with an empty key → by what a tenant's cases are decided (JSON). System. `TENANT` → its streams are to be
    /// told of it.
    Policies = 26,
    /// `CONNECTION/STREAM/OFFSET` → the note of a quarantined record that was retried or discarded, by whom and why (JSON).
    Settled = 27,
    /// `CONNECTION/STREAM/VERSION` → a version of the stream's mapping, who or what made it (JSON).
    Mappings = 28,
    /// `CONNECTION/STREAM/OFFSET` of the input that showed it → what was new of the stream's shape (JSON).
    Shapes = 29,
    /// `WEBHOOK` → who is told of a tenant's cases, and how (JSON).
    Webhooks = 30,
    /// `WEBHOOK/KEY` → something that a webhook is to be told (JSON). System. `TENANT/WEBHOOK` → it has such rows.
    Notices = 31,
    /// One row with an empty key → what language models have cost the tenant since it was reset (JSON).
    ModelUsage = 32,
    /// System. `node/ID` → a process that takes part, written again as long as it lives; `share/ROLE/PARTITION` → which one
    /// works on it (JSON). `master` → which master key all processes have. `cluster` → an id that the store was given by the
    /// first of them. In a data folder: `folder` → what it was made for, `cluster` → the id of the store that it belongs to,
    /// `views` → the URL of the place at which its server has the views, if one was named.
    Leases = 33,
    /// System. `PARTITION/OFFSET` of `inputs` → where the partitions of `events` ended before that input was there, and the epochs
    /// of both topics (JSON).
    Places = 34,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 32] = [
        Self::Tenants,
        Self::Checkpoints,
        Self::Streams,
        Self::StreamStates,
        Self::Entities,
        Self::Quarantine,
        Self::Views,
        Self::Lanes,
        Self::TableNames,
        Self::Users,
        Self::Addresses,
        Self::Sessions,
        Self::ApiKeys,
        Self::Invitations,
        Self::Journal,
        Self::Connections,
        Self::Answers,
        Self::Syncs,
        Self::PayloadKeys,
        Self::Deletions,
        Self::Usage,
        Self::Cases,
        Self::Timers,
        Self::Policies,
        Self::Settled,
        Self::Mappings,
        Self::Shapes,
        Self::Webhooks,
        Self::Notices,
        Self::ModelUsage,
        Self::Leases,
        Self::Places,
    ];
}

/// A stored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The value.
    pub value: Bytes,
    /// 1 when it was made, one more at every change; kept when the row moves to another store.
    pub version: u64,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing.
    Absent,
    /// The row at this version.
    Version(u64),
    /// The row at this version, 0 for none; and whoever writes does not wait until it is durable. For what can be made
    /// again from the log, but only by one writer.
    Ordered(u64),
    /// Nothing; and the row gets this version, 1 at least: the one that it had in another store, from which it moves here.
    /// Whoever writes does not wait until it is durable.
    Moved(u64),
}

impl Expect {
    /// Compares with the version found; `None` is no row.
    pub fn check(self, found: Option<u64>) -> Result<(), StoreError> {
        let met = match self {
            Self::Any => true,
            Self::Absent | Self::Moved(_) => found.is_none(),
            Self::Version(version) => found == Some(version),
            Self::Ordered(version) => found.unwrap_or(0) == version,
        };
        if met { Ok(()) } else { Err(StoreError::Conflict { expected: self, found }) }
    }

    /// The version that a write makes of the one found.
    pub(crate) fn next(self, found: Option<u64>) -> u64 {
        match self {
            Self::Moved(version) => version.max(1),
            Self::Any | Self::Absent | Self::Version(_) | Self::Ordered(_) => found.unwrap_or(0) + 1,
        }
    }
}

/// A store cannot do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another writer was faster; read again.
    #[error("the row changed meanwhile: expected {expected:?}, found version {found:?}")]
    Conflict {
        /// What the writer expected.
        expected: Expect,
        /// The version found; `None` when there is no row.
        found: Option<u64>,
    },
    /// The disk is full. Free some room and try again.
    #[error("the disk is full: free some room in the data folder's filesystem; nothing acknowledged is lost")]
    DiskFull,
    /// The caller's mistake; nothing was written, and the store goes on.
    #[error("the row was refused: {0}")]
    Refused(String),
    /// A row's value is not what it should be; other rows are not touched by it.
    #[error("a stored row cannot be read: {0}")]
    Unreadable(String),
    /// The store's servers do not answer. They may again, without anything being opened anew; a write under way may be there.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The process works on the partition no more: another one may by now. A write that was under way may have been done.
    #[error("nothing more is written here: the lease on {0} may be another process's by now")]
    Fenced(String),
    /// The engine failed; the store takes no more until it is opened again.
    #[error("the store failed and must be opened again: {0}")]
    Failed(String),
}

impl StoreError {
    /// Whether the same call may work later, without opening the store again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::DiskFull | Self::Unreachable(_) => true,
            Self::Conflict { .. } | Self::Refused(_) | Self::Unreadable(_) | Self::Fenced(_) | Self::Failed(_) => false,
        }
    }
}

/// Rows by (tenant, table, key), each with a version.
///
/// - **Atomicity.** A write of one row is atomic, and its expectation is checked in the same step: of several writers
///   that expect the same version exactly one wins, the others get [`StoreError::Conflict`].
/// - **Order.** On one backend that also is the log: a row is never found after a crash without everything that was
///   appended before it was written. `sync` of the log makes rows durable too; a write with `Expect::Absent` or
///   `Expect::Version` is durable when it is answered.
/// - **Keys** are UTF-8 of at most 1,024 bytes and sort by their bytes; values have at most 16 MiB.
/// - The tenant is part of the key: no call reaches another tenant's rows.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// A row, or nothing.
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError>;

    /// Writes a row and answers its new version.
    async fn put(
        &self,
        tenant: TenantId,
        table: Table,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<u64, StoreError>;

    /// Removes a row; one that is not there is no error unless it was expected.
    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError>;

    /// Rows whose key starts with `prefix` and is greater than `after` (when given), in key order, at most `limit`.
    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError>;
}

const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 16 << 20;

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.len() <= KEY_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::Refused(format!("a key has {} bytes, {KEY_BYTES_MAX} are allowed", key.len())))
}

/// A sealed value begins with this byte, which no text begins with.
pub(crate) const SEALED: u8 = 0xff;

fn check_value(value: &[u8]) -> Result<(), StoreError> {
    let added = if value.first() == Some(&SEALED) { SealingKey::ADDED_BYTES + 1 } else { 0 };
    check_length(value, VALUE_BYTES_MAX + added)
}

/// Refuses a value that would be too large without what sealing adds.
pub(crate) fn check_unsealed(value: &[u8]) -> Result<(), StoreError> {
    check_length(value, VALUE_BYTES_MAX)
}

fn check_length(value: &[u8], max: usize) -> Result<(), StoreError> {
    if value.len() <= max {
        return Ok(());
    }
    Err(StoreError::Refused(format!("a value has {} bytes, {max} are allowed", value.len())))
}
