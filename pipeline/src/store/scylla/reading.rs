//! Reading rows.

use futures::TryStreamExt;
use schemas::TenantId;
use scylla::response::query_result::QueryResult;
use scylla::statement::prepared::PreparedStatement;

use super::ScyllaStore;
use super::error::{Failed, of_page};
use super::head::Head;
use super::place::{Place, kind};
use super::range::Range;
use crate::store::Table;

impl ScyllaStore {
    pub(super) async fn head(&self, place: &Place<'_>, statement: &PreparedStatement) -> Result<Option<Head>, Failed> {
        let found = self.session.execute_unpaged(statement, place.values()).await?;
        let row = first_row::<(i64, Vec<u8>, i32)>(found)?;
        Ok(row.map(|(version, marks, parts)| Head { version, marks, parts }))
    }

    pub(super) async fn row(&self, place: &Place<'_>) -> Result<Option<(Head, Vec<u8>)>, Failed> {
        let found = self.session.execute_unpaged(&self.rows(place).get, place.values()).await?;
        let row = first_row::<(i64, Vec<u8>, i32, Vec<u8>)>(found)?;
        Ok(row.map(|(version, marks, parts, value)| (Head { version, marks, parts }, value)))
    }

    /// The rows of one bucket that a scan wants.
    pub(super) async fn scan_bucket(
        &self,
        (tenant, table, bucket): (TenantId, Table, i16),
        range: &Range,
        limit: i32,
    ) -> Result<Vec<(String, Head, Vec<u8>)>, Failed> {
        let scan = &self.statements.of(table).scan;
        let statement = &scan[usize::from(!range.inclusive)][usize::from(range.to.is_some())];
        let tenant = tenant.to_bytes();
        let (tenant, kind, from) = (tenant.as_slice(), kind(table), range.from.as_str());
        let pages = match &range.to {
            Some(to) => {
                let values = (tenant, kind, bucket, from, to.as_str(), limit);
                self.session.execute_iter(statement.clone(), values).await?
            }
            None => self.session.execute_iter(statement.clone(), (tenant, kind, bucket, from, limit)).await?,
        };
        let rows = pages.rows_stream::<(String, i64, Vec<u8>, i32, Vec<u8>)>();
        let rows = rows.map_err(|e| Failed::ForGood(e.to_string()))?;
        let row = |(key, version, marks, parts, value)| (key, Head { version, marks, parts }, value);
        rows.map_ok(row).try_collect().await.map_err(|e| of_page(e.to_string()))
    }
}

pub(super) fn first_row<R>(found: QueryResult) -> Result<Option<R>, Failed>
where
    R: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
{
    let rows = found.into_rows_result().map_err(|e| Failed::ForGood(e.to_string()))?;
    rows.maybe_first_row::<R>().map_err(|e| Failed::ForGood(e.to_string()))
}
