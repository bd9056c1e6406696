//! A store that takes no writes once a lease is over.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::TenantId;

use super::{Share, Trust};
use crate::store::{Expect, Row, Store, StoreError, Table};

/// A store for who works on a share: it refuses writes as [`StoreError::Fenced`] as soon as the lease may be another's. A
/// process that was stopped for long finds out at its first write, whatever that expects to find; a write that the store is
/// still at, asking servers again and again, is dropped.
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

    /// Does a write as long as the lease is sure. That is looked at before each of its steps: who was stopped between two of
    /// them does not do the next one. What was sent by then is the store's, which takes it over the version that it read.
    async fn while_sure<T>(&self, write: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let mut write = pin!(write);
        let mut over = pin!(self.trust.over());
        let step = poll_fn(|context| {
            if !self.trust.holds() || over.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(StoreError::Fenced(self.share.to_string())));
            }
            write.as_mut().poll(context)
        });
        step.await
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
        self.while_sure(self.inner.put(tenant, table, key, value, expect)).await
    }

    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        self.while_sure(self.inner.delete(tenant, table, key, expect)).await
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
