//! A store whose values are sealed, over any other.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::TenantId;

use super::Keyring;
use super::keyring::Known;
use crate::store::{Expect, Row, SEALED, Store, StoreError, Table, check_unsealed};

/// A store that seals the values of tenants' rows above another store. The system's own rows stay in clear, and so do
/// keys. A value that is not marked as sealed was written before there were keys.
pub struct SealedStore {
    inner: Arc<dyn Store>,
    keys: Arc<Keyring>,
}

impl SealedStore {
    /// Over `inner`, with the keys of `keys`.
    pub fn new(inner: Arc<dyn Store>, keys: Arc<Keyring>) -> Self {
        Self { inner, keys }
    }

    /// Whether the tenant is forgotten: its rows are not there.
    async fn is_forgotten(&self, tenant: TenantId) -> Result<bool, StoreError> {
        Ok(tenant != TenantId::SYSTEM && self.keys.is_destroyed(tenant).await?)
    }

    async fn open(&self, tenant: TenantId, table: Table, key: &str, row: Row) -> Result<Option<Row>, StoreError> {
        let Some((&SEALED, sealed)) = row.value.split_first().filter(|_| tenant != TenantId::SYSTEM) else {
            return Ok(Some(row));
        };
        let unreadable = || StoreError::Unreadable(format!("{table:?} {key:?} does not open with its tenant's key"));
        match self.keys.find(tenant).await? {
            Some(Known::Key(secret)) => {
                let value = secret.open(&bound(tenant, table, key), sealed).ok_or_else(unreadable)?;
                Ok(Some(Row { value: value.into(), version: row.version }))
            }
            Some(Known::Forgotten) => Ok(None),
            None => Err(unreadable()),
        }
    }
}

/// What a value is bound to: its place.
fn bound(tenant: TenantId, table: Table, key: &str) -> Vec<u8> {
    [&tenant.to_bytes()[..], &[table as u8], key.as_bytes()].concat()
}

#[async_trait]
impl Store for SealedStore {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        if self.is_forgotten(tenant).await? {
            return Ok(None);
        }
        match self.inner.get(tenant, table, key).await? {
            Some(row) => self.open(tenant, table, key, row).await,
            None => Ok(None),
        }
    }

    async fn put(
        &self,
        tenant: TenantId,
        table: Table,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<u64, StoreError> {
        if tenant == TenantId::SYSTEM {
            return self.inner.put(tenant, table, key, value, expect).await;
        }
        check_unsealed(&value)?;
        match self.keys.to_seal(tenant).await? {
            Known::Key(secret) => {
                let sealed =
                    secret.seal(&bound(tenant, table, key), &[SEALED], |out| out.extend_from_slice(&value)).into();
                self.inner.put(tenant, table, key, sealed, expect).await
            }
            // Whoever was at work for the tenant goes on; nothing of it stays.
            Known::Forgotten => match expect {
                Expect::Version(version) | Expect::Ordered(version) => Ok(version + 1),
                Expect::Any | Expect::Absent => Ok(1),
                Expect::Moved(version) => Ok(version.max(1)),
            },
        }
    }

    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        if self.is_forgotten(tenant).await? {
            return Ok(());
        }
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
        if self.is_forgotten(tenant).await? {
            return Ok(Vec::new());
        }
        let mut opened = Vec::new();
        for (key, row) in self.inner.scan(tenant, table, prefix, after, limit).await? {
            if let Some(row) = self.open(tenant, table, &key, row).await? {
                opened.push((key, row));
            }
        }
        Ok(opened)
    }
}
