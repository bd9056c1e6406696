//! The store's part of a move.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use schemas::TenantId;

use super::{MigrateError, Part, Progress, Sum};
use crate::definitions;
use crate::store::{Expect, Row, Store, StoreError, Table};

/// Rows that are read, and written without waiting for one another, at a time.
const PAGE: usize = 32;

/// Among the leases, what is of the store as a whole: which master key its processes have, and which cluster it is.
const OF_THE_STORE: [&str; 2] = ["master", "cluster"];

/// Whether a row goes along: not what is of processes or of a folder alone.
fn moves(table: Table, key: &str) -> bool {
    table != Table::Leases || OF_THE_STORE.contains(&key)
}

/// The next rows that go along, behind `after`, which then is the last that was read; nothing at the end.
async fn page(
    store: &dyn Store,
    tenant: TenantId,
    table: Table,
    after: &mut Option<String>,
) -> Result<Option<Vec<(String, Row)>>, StoreError> {
    let mut rows = store.scan(tenant, table, "", after.as_deref(), PAGE).await?;
    let Some((last, _)) = rows.last() else { return Ok(None) };
    *after = Some(last.clone());
    rows.retain(|(key, _)| moves(table, key));
    Ok(Some(rows))
}

/// Whether there are rows of the system: no tenant has any without them.
pub(super) async fn has_rows(store: &dyn Store) -> Result<bool, StoreError> {
    for table in Table::ALL {
        let mut after = None;
        while let Some(rows) = page(store, TenantId::SYSTEM, table, &mut after).await? {
            if !rows.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Everybody who may have rows: the system, who is registered, who is being deleted, and who has or had a key.
pub(super) async fn tenants(store: &dyn Store) -> Result<BTreeSet<TenantId>, MigrateError> {
    let mut all = BTreeSet::from([TenantId::SYSTEM]);
    all.extend(definitions::tenants(store).await?.into_iter().map(|(_, id)| id));
    for table in [Table::PayloadKeys, Table::Deletions] {
        let mut after: Option<String> = None;
        loop {
            let rows = store.scan(TenantId::SYSTEM, table, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            all.extend(rows.iter().filter_map(|(key, _)| key.parse::<TenantId>().ok()));
        }
    }
    Ok(all)
}

/// Moves a table's rows that are not there yet.
pub(super) async fn copy(
    from: &dyn Store,
    to: &dyn Store,
    table: Table,
    tenants: &BTreeSet<TenantId>,
    told: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), MigrateError> {
    let (name, mut done) = (name(table), 0);
    for tenant in tenants {
        let mut after = None;
        while let Some(rows) = page(from, *tenant, table, &mut after).await? {
            try_join_all(rows.iter().map(|(key, row)| put(to, *tenant, table, key, row))).await?;
            done += rows.len() as u64;
            told(Progress { name: &name, done, total: None });
        }
    }
    Ok(())
}

async fn put(to: &dyn Store, tenant: TenantId, table: Table, key: &str, row: &Row) -> Result<(), MigrateError> {
    match to.put(tenant, table, key, row.value.clone(), Expect::Moved(row.version)).await {
        Ok(_) => Ok(()),
        // It came with a run before this one; in the end the values are compared.
        Err(StoreError::Conflict { found, .. }) if found == Some(row.version) => Ok(()),
        Err(StoreError::Conflict { .. }) => Err(MigrateError::Row { table, key: key.to_owned() }),
        Err(error) => Err(error.into()),
    }
}

/// Counts and hashes a table's rows.
pub(super) async fn sum(store: &dyn Store, table: Table, tenants: &BTreeSet<TenantId>) -> Result<Part, StoreError> {
    let (mut sum, mut count) = (Sum::new(), 0);
    for tenant in tenants {
        let mut after = None;
        while let Some(rows) = page(store, *tenant, table, &mut after).await? {
            count += rows.len() as u64;
            for (key, row) in rows {
                sum.bytes(&tenant.to_bytes());
                sum.bytes(key.as_bytes());
                sum.number(row.version);
                sum.bytes(&row.value);
            }
        }
    }
    Ok(Part { name: name(table), count, hash: sum.finish() })
}

fn name(table: Table) -> String {
    format!("{table:?}")
}
