//! The store on the embedded engine.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::TenantId;

use super::{Expect, Row, Store, StoreError, Table, check_key, check_value};
use crate::engine::{Engine, Failure, ROW_KEY_PREFIX_BYTES, row_key};

/// The store on the embedded engine. Writes go through the engine's committer, one after the other.
pub struct EmbeddedStore {
    engine: Arc<Engine>,
}

impl EmbeddedStore {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let found = self.engine.shared().keyspaces.rows.get(row_key(tenant, table, key)).map_err(failed)?;
        Ok(found.map(decode_row).transpose()?)
    }

    async fn put(
        &self,
        tenant: TenantId,
        table: Table,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<u64, StoreError> {
        check_key(key)?;
        check_value(&value)?;
        self.engine.write_row(row_key(tenant, table, key), Some(value), expect).await
    }

    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        check_key(key)?;
        self.engine.write_row(row_key(tenant, table, key), None, expect).await.map(|_| ())
    }

    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        let shared = self.engine.shared().clone();
        let prefix_key = row_key(tenant, table, prefix);
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(row_key(tenant, table, after)),
            _ => Bound::Included(prefix_key.clone()),
        };
        let scan = move || {
            let mut rows = Vec::new();
            for entry in shared.keyspaces.rows.range((start, Bound::Unbounded)).take(limit) {
                let (key, value) = entry.into_inner().map_err(failed)?;
                if !key.starts_with(&prefix_key) {
                    break;
                }
                rows.push((key_text(&key)?, decode_row(value)?));
            }
            Ok(rows)
        };
        let outcome = tokio::task::spawn_blocking(scan).await;
        outcome.unwrap_or_else(|e| Err(StoreError::Failed(format!("scanning rows: {e}"))))
    }
}

fn failed(error: fjall::Error) -> StoreError {
    StoreError::Failed(format!("reading from disk failed: {error}"))
}

fn key_text(key: &[u8]) -> Result<String, Failure> {
    let text = key.get(ROW_KEY_PREFIX_BYTES..).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.map(str::to_owned).ok_or_else(|| Failure::Failed("a row's key is damaged: restore from a backup".into()))
}

/// A row as it lies in the database: version, then value.
pub(crate) fn encode_row(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + row.value.len());
    bytes.extend_from_slice(&row.version.to_be_bytes());
    bytes.extend_from_slice(&row.value);
    bytes
}

/// Reads a row from its bytes.
pub(crate) fn decode_row(bytes: fjall::Slice) -> Result<Row, Failure> {
    let bytes = Bytes::from_owner(bytes);
    let version = bytes.get(..8).and_then(|version| version.try_into().ok()).map(u64::from_be_bytes);
    let damaged = || Failure::Failed("a row is damaged: restore from a backup".into());
    Ok(Row { version: version.ok_or_else(damaged)?, value: bytes.slice(8..) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_a_cut_one_is_noticed() {
        let row = Row { value: Bytes::from_static(b"value"), version: 7 };
        let bytes = encode_row(&row);
        assert_eq!(decode_row(bytes.as_slice().into()).unwrap(), row);
        assert!(decode_row(bytes[..7].into()).is_err());
    }
}
