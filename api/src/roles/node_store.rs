//! The store of a projector that keeps tables of its own, beside others that keep theirs.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pipeline::{Expect, Row, Store, StoreError, Table};
use schemas::TenantId;

/// What is of the tables of this process, how far they are and what they lack, lies in its own data folder: lost and restored
/// with them. All else is shared.
pub(super) struct NodeStore {
    shared: Arc<dyn Store>,
    own: Arc<dyn Store>,
}

impl NodeStore {
    pub(super) fn new(shared: Arc<dyn Store>, own: Arc<dyn Store>) -> Self {
        Self { shared, own }
    }

    fn of(&self, table: Table) -> &dyn Store {
        if matches!(table, Table::Checkpoints | Table::Views) { &*self.own } else { &*self.shared }
    }
}

#[async_trait]
impl Store for NodeStore {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.of(table).get(tenant, table, key).await
    }

    async fn put(
        &self,
        tenant: TenantId,
        table: Table,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<u64, StoreError> {
        self.of(table).put(tenant, table, key, value, expect).await
    }

    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        self.of(table).delete(tenant, table, key, expect).await
    }

    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        self.of(table).scan(tenant, table, prefix, after, limit).await
    }
}
