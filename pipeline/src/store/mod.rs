//! The port `Store`: small rows that change, with versions.

pub mod conformance;
pub(crate) mod embedded;
mod memory;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::TenantId;

pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;

/// Every kind of row that is stored, with its key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// System. `NAME` of a tenant → its id (JSON). A tenant's own row with an empty key → its name (JSON).
    Tenants = 1,
    /// System. `TOPIC/PARTITION/READER` → the offset from which the reader starts (8 bytes, big-endian).
    Checkpoints = 2,
    /// `CONNECTION/STREAM` → partition, entity, mapping (JSON): what `StreamOpened` said.
    Streams = 3,
    /// `CONNECTION/STREAM` → the step's state (a snapshot with the input position that it covers).
    StreamStates = 4,
    /// `ENTITY` → its definition in force (JSON).
    Entities = 5,
    /// `HASH` → a definition's text (JSON).
    Definitions = 6,
    /// `CONNECTION/STREAM/OFFSET` → a quarantined record's note (JSON).
    Quarantine = 7,
    /// `CONNECTION/STREAM/ID` → a command's outcome (JSON).
    Outcomes = 8,
    /// `ENTITY` → notes of the view: its counters, the rebuild under way (JSON).
    Views = 9,
    /// `USER` → an account: address, role, password hash (JSON).
    Users = 10,
    /// System. `ADDRESS/TENANT` → the user who signs in with that address there (JSON).
    Addresses = 11,
    /// `SESSION` → who signed in, when, until when (JSON).
    Sessions = 12,
    /// `KEY` → an API key: the hash of its secret, role, streams, expiry (JSON).
    ApiKeys = 13,
    /// `HASH` of a one-use token → what it lets its bearer do: join, or set a new password (JSON).
    Invitations = 14,
    /// `TIME-NUMBER` → who did what (JSON).
    Journal = 15,
    /// `CONNECTION` → a connection made through the API: connector, settings, streams, whether it is paused (JSON).
    Connections = 16,
    /// `HASH` of caller, route and idempotency key → the answer that was given (JSON).
    Answers = 17,
}

/// A stored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The value.
    pub value: Bytes,
    /// 1 when it was made, one more at every change.
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
}

impl Expect {
    /// Compares with the version found; `None` is no row.
    pub fn check(self, found: Option<u64>) -> Result<(), StoreError> {
        let met = match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Version(version) => found == Some(version),
        };
        if met { Ok(()) } else { Err(StoreError::Conflict { expected: self, found }) }
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
    /// The engine failed; the store takes no more until it is opened again.
    #[error("the store failed and must be opened again: {0}")]
    Failed(String),
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
    Err(StoreError::Failed(format!("a key has {} bytes, {KEY_BYTES_MAX} are allowed; it was refused", key.len())))
}

fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::Failed(format!("a value has {} bytes, {VALUE_BYTES_MAX} are allowed; it was refused", value.len())))
}
