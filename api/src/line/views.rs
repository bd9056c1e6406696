//! A tenant's views: what can be asked of them and done to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use projections::ViewSnapshot;
use projections::sql::{BatchStream, QueryEngine, QueryLimits};
use projections::view::{Holdings, TableInfo, View, ViewError};
use schemas::{EntityName, StreamId, TenantId};
use url::Url;

use super::Line;
use crate::roles::Role;
use crate::roles::requests::{self, Deed};

/// The longest that reading a stream's keys may take.
pub(super) const SCAN_MAX: Duration = Duration::from_secs(3600);

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
    pub async fn superseded(&self, counting: &Superseded) -> anyhow::Result<u64> {
        let (tenant, entity) = (counting.view.tenant(), counting.view.entity().clone());
        self.wait_view(tenant, &entity).await?;
        let now = self.roles.projector.view(tenant, &entity).await?;
        if let Some(stopped) = counting.view.stopped() {
            return Err(stopped.into());
        }
        let same = now.is_some_and(|now| Arc::ptr_eq(&now, &counting.view));
        let counted = counting.view.watched(counting.watch).filter(|_| same);
        Ok(counted.ok_or(NotCounted(entity))?)
    }

    /// Makes a tenant's tables as fresh as the log.
    pub async fn flush(&self, tenant: TenantId, entity: Option<&EntityName>) -> anyhow::Result<()> {
        self.catch_up().await?;
        let projector = &self.roles.projector;
        if projector.writes() {
            return self.or_failure(Role::Projector, projector.flush(tenant, entity)).await;
        }
        let entities = match entity {
            Some(entity) => vec![entity.clone()],
            None => projector.entities(tenant).await?.into_iter().map(|entity| entity.entity).collect(),
        };
        for entity in entities {
            self.ask_writer(Deed::Flush, tenant, &entity).await?;
        }
        Ok(())
    }

    /// Has the process that writes a view's table do something to it.
    async fn ask_writer(&self, deed: Deed, tenant: TenantId, entity: &EntityName) -> anyhow::Result<()> {
        requests::ask((&*self.log, &*self.store), &self.roles.projector, deed, (tenant, entity)).await
    }

    /// Makes a tenant's table as fresh as what is folded already, if this process writes it.
    pub async fn flush_folded(&self, tenant: TenantId, entity: &EntityName) -> anyhow::Result<()> {
        if !self.roles.projector.writes() {
            return Ok(());
        }
        self.or_failure(Role::Projector, self.roles.projector.flush(tenant, Some(entity))).await
    }

    /// Waits until everything is in the views, and makes all tables that this process writes as fresh as the log.
    pub async fn flush_all(&self) -> anyhow::Result<()> {
        self.catch_up().await?;
        if !self.roles.projector.writes() {
            return Ok(());
        }
        self.or_failure(Role::Projector, self.roles.projector.flush_all()).await
    }

    /// Makes a view again from the log.
    pub async fn rebuild(&self, tenant: TenantId, entity: &EntityName) -> anyhow::Result<()> {
        self.wait_view(tenant, entity).await?;
        if !self.roles.projector.writes() {
            return self.ask_writer(Deed::Rebuild, tenant, entity).await;
        }
        self.or_failure(Role::Projector, self.roles.projector.rebuild(tenant, entity)).await.map(|_| ())
    }

    /// A tenant's views, by their tables' names; each says itself whether it can be opened.
    pub async fn views(&self, tenant: TenantId) -> anyhow::Result<Vec<ViewStatus>> {
        let mut all = Vec::new();
        for entity in self.roles.projector.entities(tenant).await? {
            let opened = self.roles.projector.view(tenant, &entity.entity).await;
            let info = match opened {
                Ok(Some(view)) => Ok(view.info()),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            all.push(ViewStatus { entity: entity.entity, table: entity.table.to_string(), info });
        }
        all.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(all)
    }

    /// What all open views hold together.
    pub fn holdings(&self) -> Holdings {
        self.roles.projector.holdings()
    }

    /// The folder of a view's table, or its URL, for any Delta reader.
    pub fn view_folder(&self, tenant: TenantId, table: &str) -> PathBuf {
        let (own, url) = (self.folder.join("views"), self.roles.projector.url());
        let is_own = own.canonicalize().is_ok_and(|own| Url::from_directory_path(own).as_ref() == Ok(url));
        let elsewhere = || url.to_file_path().unwrap_or_else(|()| PathBuf::from(url.as_str()));
        let views = if is_own { own } else { elsewhere() };
        views.join(tenant.to_string()).join(table)
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

    /// The visible rows of a stream as they are now; `None` if their entity has no view.
    pub async fn stream_rows(&self, stream: &StreamId, entity: &EntityName) -> anyhow::Result<Option<StreamRows>> {
        self.wait_view(stream.tenant, entity).await?;
        let snapshot = self.roles.projector.snapshot(stream.tenant, entity, None).await?;
        let Some(snapshot) = snapshot else { return Ok(None) };
        // Names of connections and streams hold no quotes: their types see to that.
        let sql = format!(
            "select _key from {} where _connection = '{}' and _stream = '{}'",
            snapshot.table, stream.connection, stream.stream
        );
        // A scan that nobody typed: it holds a batch at a time, and its length is that of the table.
        let limits =
            QueryLimits { timeout: SCAN_MAX, result_bytes_max: usize::MAX, concurrent: 1, ..Default::default() };
        Ok(Some(StreamRows { engine: Arc::new(QueryEngine::new(limits)?), tenant: stream.tenant, snapshot, sql }))
    }
}

/// What superseded what cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("everything is in, but the view of {0} was opened again meanwhile: what superseded what was not counted")]
pub struct NotCounted(EntityName);

/// A view, or why it cannot be opened.
pub struct ViewStatus {
    /// The entity.
    pub entity: EntityName,
    /// The table's name in SQL.
    pub table: String,
    /// What it holds.
    pub info: Result<TableInfo, ViewError>,
}

impl ViewStatus {
    /// Why the view takes no events, if it does not.
    pub fn stopped(&self) -> Option<String> {
        match &self.info {
            Ok(info) => info.stopped.clone(),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// The visible rows of a stream, pinned: reading them twice gives the same.
pub struct StreamRows {
    engine: Arc<QueryEngine>,
    tenant: TenantId,
    snapshot: Arc<ViewSnapshot>,
    sql: String,
}

impl StreamRows {
    /// Reads their keys, the one column of each batch.
    pub async fn read_keys(&self) -> anyhow::Result<BatchStream> {
        let mut batches = self.engine.query(self.tenant, vec![self.snapshot.clone()], &self.sql).await?.batches;
        // An engine that is dropped ends its queries.
        batches.hold(self.engine.clone());
        Ok(batches)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Top, ingest};
    use crate::output::Silent;
    use clap::Parser;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_count_that_is_left_does_not_hold_the_view_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.ndjson");
        std::fs::write(&file, "{\"Id\":\"1\",\"LastModifiedDate\":\"2026-01-01T10:00:00Z\"}\n").unwrap();
        let line = Line::open(&folder.path().join("data")).await.unwrap();
        let words = ["autonomos", "ingest", "--tenant", "acme", "--connection", "crm", "--system", "salesforce"];
        let words = words.into_iter().chain(["--stream", "opportunity", file.to_str().unwrap()]);
        let Top::Folder(Command::Ingest(args)) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        ingest::run(&args, &line, &mut Silent).await.unwrap();
        let (tenant, entity) = (line.tenant(&"acme".parse().unwrap()).await.unwrap(), "opportunity".parse().unwrap());
        let (connection, stream) = ("crm".parse().unwrap(), "opportunity".parse().unwrap());
        let view = line.roles.projector.view(tenant, &entity).await.unwrap().unwrap();
        assert!(view.is_idle());
        let counting = line.count_superseded(&StreamId { tenant, connection, stream }, &entity, 0).await.unwrap();
        assert!(!view.is_idle());
        drop(counting);
        assert!(view.is_idle(), "a view that nobody watches may be closed");
        line.close().await.unwrap();
    }
}
