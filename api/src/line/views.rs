//! A tenant's views: what can be asked of them and done to them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use projections::ViewSnapshot;
use projections::view::{TableInfo, View};
use schemas::{EntityName, StreamId, TenantId};

use super::Line;

impl Line {
    /// Starts to count which rows of a stream, from an input on, are beaten by others.
    pub async fn count_superseded(
        &self,
        stream: &StreamId,
        entity: &EntityName,
        from: u64,
    ) -> anyhow::Result<Superseded> {
        self.wait_view(stream.tenant, entity).await?;
        let view = self.roles.projector.view(stream.tenant, entity).await?;
        let view = view.with_context(|| format!("the view of {entity} was not defined; see autonomos log cat"))?;
        let watch = view.watch(&stream.connection, &stream.stream, from);
        Ok(Superseded { view, watch })
    }

    /// Waits until a view holds everything that was processed; answers how many of the counted rows were beaten.
    pub async fn superseded(&self, counting: Superseded) -> anyhow::Result<u64> {
        let (tenant, entity) = (counting.view.tenant(), counting.view.entity().clone());
        self.wait_view(tenant, &entity).await?;
        let now = self.roles.projector.view(tenant, &entity).await?;
        if let Some(stopped) = counting.view.stopped() {
            return Err(stopped.into());
        }
        let same = now.is_some_and(|now| Arc::ptr_eq(&now, &counting.view));
        counting.view.watched(counting.watch).filter(|_| same).with_context(|| {
            format!("everything is in, but the view of {entity} was opened again meanwhile: what superseded what was not counted")
        })
    }

    /// Makes a tenant's tables as fresh as the log.
    pub async fn flush(&self, tenant: TenantId, entity: Option<&EntityName>) -> anyhow::Result<()> {
        self.catch_up().await?;
        self.or_failure(self.roles.projector.flush(tenant, entity)).await
    }

    /// Makes all tables as fresh as the log.
    pub async fn flush_all(&self) -> anyhow::Result<()> {
        self.catch_up().await?;
        self.or_failure(self.roles.projector.flush_all()).await
    }

    /// Makes a view again from the log.
    pub async fn rebuild(&self, tenant: TenantId, entity: &EntityName) -> anyhow::Result<()> {
        self.wait_view(tenant, entity).await?;
        self.or_failure(self.roles.projector.rebuild(tenant, entity)).await.map(|_| ())
    }

    /// A tenant's views.
    pub async fn views(&self, tenant: TenantId) -> anyhow::Result<Vec<TableInfo>> {
        let mut all = self.roles.projector.tables(tenant).await?;
        all.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(all)
    }

    /// The folder of a view's table, for any Delta reader.
    pub fn view_folder(&self, tenant: TenantId, table: &str) -> PathBuf {
        self.folder.join("views").join(tenant.to_string()).join(table)
    }

    /// The tenant's views that a statement may name, pinned now. Nothing is waited for: a view is milliseconds behind
    /// what was acknowledged.
    pub async fn snapshots(&self, tenant: TenantId, sql: &str) -> anyhow::Result<Vec<Arc<ViewSnapshot>>> {
        let lower = sql.to_lowercase();
        let mut tables = Vec::new();
        // Views that the statement cannot name need not be opened for it; the catalogue names them all.
        let every = lower.contains("information_schema") || lower.contains("show") || lower.contains("describe");
        for entity in self.roles.projector.entities(tenant).await? {
            if every || lower.contains(entity.table.as_str()) {
                tables.extend(self.roles.projector.snapshot(tenant, &entity.entity, None).await?);
            }
        }
        Ok(tables)
    }

    /// The keys of a stream's visible rows.
    pub async fn visible_keys(&self, stream: &StreamId, entity: &EntityName) -> anyhow::Result<Vec<String>> {
        use arrow::array::AsArray;
        use futures::StreamExt;
        self.wait_view(stream.tenant, entity).await?;
        let snapshot = self.roles.projector.snapshot(stream.tenant, entity, None).await?;
        let Some(snapshot) = snapshot else { return Ok(Vec::new()) };
        // Names of connections and streams hold no quotes: their types see to that.
        let sql = format!(
            "select _key from {} where _connection = '{}' and _stream = '{}'",
            snapshot.table, stream.connection, stream.stream
        );
        let mut result = self.queries.query(vec![snapshot], &sql).await?;
        let mut keys = Vec::new();
        while let Some(batch) = result.batches.next().await {
            let batch = batch?;
            let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8)?;
            keys.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
        }
        Ok(keys)
    }
}

/// Counts which rows of a run are beaten by others, until it is dropped.
pub struct Superseded {
    view: Arc<View>,
    watch: u64,
}

impl Drop for Superseded {
    fn drop(&mut self) {
        // A view that is watched is never closed.
        self.view.unwatch(self.watch);
    }
}
