//! Typed rows of `Store`: JSON values of one table.

use std::marker::PhantomData;
use std::sync::Arc;

use pipeline::{Expect, Store, StoreError, Table};
use schemas::TenantId;
use serde::Serialize;
use serde::de::DeserializeOwned;

const PAGE: usize = 256;

/// A row could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not what the table holds, or cannot be written as JSON.
    #[error("a row of {table:?} is not usable: {error}")]
    Unusable {
        /// The table.
        table: Table,
        /// What JSON says of it.
        error: serde_json::Error,
    },
}

/// The rows of one table, as values of one type.
pub struct Rows<T> {
    store: Arc<dyn Store>,
    table: Table,
    of: PhantomData<fn() -> T>,
}

/// A value and the version of its row.
#[derive(Debug, Clone)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The version that a change must expect.
    pub version: u64,
}

impl<T: Serialize + DeserializeOwned> Rows<T> {
    /// The rows of `table`.
    pub fn new(store: Arc<dyn Store>, table: Table) -> Self {
        Self { store, table, of: PhantomData }
    }

    /// A row, or nothing.
    pub async fn get(&self, tenant: TenantId, key: &str) -> Result<Option<Versioned<T>>, RowError> {
        let row = self.store.get(tenant, self.table, key).await?;
        row.map(|row| Ok(Versioned { value: self.read(&row.value)?, version: row.version })).transpose()
    }

    /// Writes a new row; false when there is one.
    pub async fn insert(&self, tenant: TenantId, key: &str, value: &T) -> Result<bool, RowError> {
        self.write(tenant, key, value, Expect::Absent).await
    }

    /// Changes the row that was read; false when somebody was faster.
    pub async fn replace(&self, tenant: TenantId, key: &str, value: &T, version: u64) -> Result<bool, RowError> {
        self.write(tenant, key, value, Expect::Version(version)).await
    }

    /// Changes a row as often as it takes; nothing when it is not there.
    pub async fn update(&self, tenant: TenantId, key: &str, change: impl Fn(&mut T)) -> Result<Option<T>, RowError> {
        loop {
            let Some(mut row) = self.get(tenant, key).await? else { return Ok(None) };
            change(&mut row.value);
            if self.replace(tenant, key, &row.value, row.version).await? {
                return Ok(Some(row.value));
            }
        }
    }

    /// Removes a row at the version that was read; false when it changed or is gone.
    pub async fn take(&self, tenant: TenantId, key: &str, version: u64) -> Result<bool, RowError> {
        match self.store.delete(tenant, self.table, key, Expect::Version(version)).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a row; true when it was there.
    pub async fn remove(&self, tenant: TenantId, key: &str) -> Result<bool, RowError> {
        loop {
            let Some(row) = self.store.get(tenant, self.table, key).await? else { return Ok(false) };
            if self.take(tenant, key, row.version).await? {
                return Ok(true);
            }
        }
    }

    /// Removes the rows of which `is_over` says so, page by page. One that is written meanwhile is asked about anew.
    /// Answers how many there were.
    pub async fn sweep(&self, tenant: TenantId, is_over: impl Fn(&T) -> bool) -> Result<u64, RowError> {
        let (mut after, mut removed) = (None::<String>, 0);
        loop {
            let page = self.page(tenant, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(removed) };
            after = Some(last.clone());
            for (key, _) in page.iter().filter(|(_, value)| is_over(value)) {
                // Read again: a page takes a while, and rows that come anew have the versions of those that went.
                let Some(row) = self.get(tenant, key).await? else { continue };
                if is_over(&row.value) && self.take(tenant, key, row.version).await? {
                    removed += 1;
                }
            }
        }
    }

    /// At most `limit` rows whose key begins with `prefix` and lies behind `after`, in key order.
    pub async fn page(
        &self,
        tenant: TenantId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, RowError> {
        let rows = self.store.scan(tenant, self.table, prefix, after, limit).await?;
        rows.into_iter().map(|(key, row)| Ok((key, self.read(&row.value)?))).collect()
    }

    /// Every row whose key begins with `prefix`.
    pub async fn all(&self, tenant: TenantId, prefix: &str) -> Result<Vec<(String, T)>, RowError> {
        let mut all: Vec<(String, T)> = Vec::new();
        loop {
            let after = all.last().map(|(key, _)| key.clone());
            let page = self.page(tenant, prefix, after.as_deref(), PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    async fn write(&self, tenant: TenantId, key: &str, value: &T, expect: Expect) -> Result<bool, RowError> {
        let bytes = serde_json::to_vec(value).map_err(|error| RowError::Unusable { table: self.table, error })?;
        match self.store.put(tenant, self.table, key, bytes.into(), expect).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<T, RowError> {
        serde_json::from_slice(bytes).map_err(|error| RowError::Unusable { table: self.table, error })
    }
}
