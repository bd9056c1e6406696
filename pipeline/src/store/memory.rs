//! A store in memory: for tests, and for whatever need not outlive the process.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use schemas::TenantId;

use super::{Expect, Row, Store, StoreError, Table, check_key, check_value};

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    rows: Mutex<BTreeMap<(TenantId, Table, String), Row>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        Ok(self.rows.lock().get(&(tenant, table, key.to_owned())).cloned())
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
        let mut rows = self.rows.lock();
        let key = (tenant, table, key.to_owned());
        let found = rows.get(&key).map(|row| row.version);
        expect.check(found)?;
        let version = expect.next(found);
        rows.insert(key, Row { value, version });
        Ok(version)
    }

    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        let key = (tenant, table, key.to_owned());
        expect.check(rows.get(&key).map(|row| row.version))?;
        rows.remove(&key);
        Ok(())
    }

    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        let at = |key: &str| (tenant, table, key.to_owned());
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(at(after)),
            _ => Bound::Included(at(prefix)),
        };
        let rows = self.rows.lock();
        let of_prefix = rows
            .range((start, Bound::Unbounded))
            .take_while(|((t, tb, key), _)| (*t, *tb) == (tenant, table) && key.starts_with(prefix));
        Ok(of_prefix.take(limit).map(|((_, _, key), row)| (key.clone(), row.clone())).collect())
    }
}
