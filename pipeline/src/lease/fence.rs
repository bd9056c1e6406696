//! A store that takes no writes once a lease is over.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::TenantId;

use super::{Share, Trust};
use crate::store::{Expect, Row, Store, StoreError, Table};

/// A store for who works on a share: it refuses writes as [`StoreError::Fenced`] as soon as the lease may be another's. A
/// process that was stopped for long finds out at its first write, whatever that expects to find.
pub struct FencedStore {
    inner: Arc<dyn Store>,
    share: Share,
    trust: Trust,
}

impl FencedStore {
    /// Over `inner`, for as long as `trust` holds.
    pub fn new(inner: Arc<dyn Store>, share: Share, trust: Trust) -> Self {
        Self { inner, share, trust }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.trust.holds() { Ok(()) } else { Err(StoreError::Fenced(self.share.to_string())) }
    }
}

#[async_trait]
impl Store for FencedStore {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.inner.get(tenant, table, key).await
    }

    async fn put(
        &self,
        tenant: TenantId,
        table: Table,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<u64, StoreError> {
        self.check()?;
        self.inner.put(tenant, table, key, value, expect).await
    }

    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        self.check()?;
        self.inner.delete(tenant, table, key, expect).await
    }

    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        self.inner.scan(tenant, table, prefix, after, limit).await
    }
}
