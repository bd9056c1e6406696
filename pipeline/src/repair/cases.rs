//! Cases as rows: how their keys are made, and how they are read, listed and found.

use schemas::{Position, StreamId, TenantId};
use serde::Deserialize;

use super::Case;
use crate::store::{Row, Store, StoreError, Table};

/// The key of a case, by its stream and the offset of the input at which it began: they sort as they came.
pub(super) fn key_of(stream: &str, case: u64) -> String {
    format!("{stream}/{case:020}")
}

/// Reads the row of a case.
pub(super) fn read(key: &str, row: &Row) -> Result<Case, StoreError> {
    serde_json::from_slice(&row.value).map_err(|e| StoreError::Unreadable(format!("the case {key}: {e}")))
}

/// A tenant's cases, of one stream or all, from the first after `after` on.
pub async fn list(
    store: &dyn Store,
    tenant: TenantId,
    stream: Option<&StreamId>,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Case)>, StoreError> {
    let prefix = stream.map_or_else(String::new, |s| format!("{s}/"));
    let rows = store.scan(tenant, Table::Cases, &prefix, after, limit).await?;
    rows.into_iter().map(|(key, row)| read(&key, &row).map(|case| (key, case))).collect()
}

/// One case of a tenant, by its position: a stream of that partition has it. There are far fewer streams than cases.
pub async fn find(store: &dyn Store, tenant: TenantId, position: Position) -> Result<Option<Case>, StoreError> {
    const PAGE: usize = 1_000;
    let mut after: Option<String> = None;
    loop {
        let page = store.scan(tenant, Table::Streams, "", after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        after = Some(last.clone());
        for (stream, _) in page.iter().filter(|(_, row)| may_be_in(row, position.partition)) {
            let key = key_of(stream, position.offset);
            let case = store.get(tenant, Table::Cases, &key).await?.map(|row| read(&key, &row)).transpose()?;
            if let Some(case) = case.filter(|case| case.position == position) {
                return Ok(Some(case));
            }
        }
    }
}

/// Whether the stream of a row of the register is in a partition, as far as the row can be read.
fn may_be_in(row: &Row, partition: u32) -> bool {
    #[derive(Deserialize)]
    struct Placed {
        partition: u32,
    }
    serde_json::from_slice::<Placed>(&row.value).ok().is_none_or(|placed| placed.partition == partition)
}
