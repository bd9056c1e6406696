//! The only place where things are wired together: which log, which store, which roles run in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use pipeline::engine::{Embedded, Partitions};
use pipeline::ingest::Ingest;
use pipeline::process::{Processed, Processor, read_state};
use pipeline::quarantine::QuarantineKeeper;
use pipeline::step::StreamState;
use pipeline::{Log, Store, Table, definitions};
use projections::ViewSnapshot;
use projections::sql::{QueryEngine, QueryLimits};
use projections::view::{Budget, Projector, ProjectorHandle, TableInfo, View};
use schemas::mapping::MappingFile;
use schemas::{Entity, EntityName, StreamId, TenantId, TenantName, Topic, ontology};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::ingest::Plan;

/// Rows of a scan at a time.
const PAGE: usize = 1000;

/// Every role of the line over one data folder, in one process.
pub struct Line {
    /// The data folder.
    pub folder: PathBuf,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The front door.
    pub ingest: Ingest,
    /// SQL.
    pub queries: QueryEngine,
    processed: Vec<Processed>,
    kept: Vec<watch::Receiver<u64>>,
    projector: ProjectorHandle,
    shutdown: watch::Sender<bool>,
    tasks: Mutex<JoinSet<anyhow::Result<()>>>,
    failure: watch::Sender<Option<String>>,
}

impl Line {
    /// Opens a folder, made when it is not there, and starts every role on it.
    pub async fn open(folder: &Path) -> anyhow::Result<Self> {
        let engine = Embedded::open(folder, Partitions::default())?;
        let (log, store): (Arc<dyn Log>, Arc<dyn Store>) = (engine.log(), engine.store());
        let (shutdown, stop) = watch::channel(false);
        let (failure, _) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let (mut processed, mut kept) = (Vec::new(), Vec::new());
        for partition in 0..log.partitions(Topic::Inputs) {
            let (processor, done) = Processor::start(log.clone(), store.clone(), partition).await?;
            processed.push(done);
            tasks.spawn(watched(failure.clone(), "processor", processor.run(stop.clone())));
            let (keeper, done) = QuarantineKeeper::start(log.clone(), store.clone(), partition).await?;
            kept.push(done);
            tasks.spawn(watched(failure.clone(), "quarantine keeper", keeper.run(stop.clone())));
        }
        let views = folder.join("views");
        std::fs::create_dir_all(&views).with_context(|| format!("making {}", views.display()))?;
        let projector = Projector::new(log.clone(), store.clone(), &views, Budget::default())
            .with_context(|| format!("opening {}", views.display()))?;
        let handle = projector.handle();
        tasks.spawn(watched(failure.clone(), "projector", projector.run(stop)));
        let queries = QueryEngine::new(QueryLimits::default())?;
        let ingest = Ingest::new(log.clone(), store.clone());
        let (folder, tasks) = (folder.to_owned(), Mutex::new(tasks));
        let projector = handle;
        Ok(Self { folder, log, store, ingest, queries, processed, kept, projector, shutdown, tasks, failure })
    }

    /// Flushes every view, stops every role and waits for each.
    pub async fn close(self) -> anyhow::Result<()> {
        let flushed = self.flush_all().await;
        self.shutdown.send_replace(true);
        let mut tasks = self.tasks.into_inner();
        while let Some(ended) = tasks.join_next().await {
            ended.context("a role ended early")??;
        }
        self.log.sync().await?;
        flushed
    }

    /// Why a role has stopped, if one has.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    async fn or_failure<T, E: Into<anyhow::Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        let mut failed = self.failure.subscribe();
        tokio::select! {
            done = work => done.map_err(Into::into),
            Ok(why) = failed.wait_for(Option::is_some) => bail!(why.clone().unwrap_or_default()),
        }
    }

    /// Waits until everything that stands in a partition of `inputs` now is processed.
    pub async fn wait_processed(&self, partition: u32) -> anyhow::Result<()> {
        let end = self.log.end(Topic::Inputs, partition).await?;
        let mut processed = self.processed[partition as usize].clone();
        self.or_failure(processed.wait(end)).await
    }

    /// Waits until everything that stands on `inputs` now is processed.
    pub async fn wait_all_processed(&self) -> anyhow::Result<()> {
        for partition in 0..self.log.partitions(Topic::Inputs) {
            self.wait_processed(partition).await?;
        }
        Ok(())
    }

    /// Waits until the notes of everything that was set aside by now are kept.
    pub async fn wait_quarantined(&self) -> anyhow::Result<()> {
        self.wait_all_processed().await?;
        for (partition, kept) in self.kept.iter().enumerate() {
            let end = self.log.end(Topic::Decisions, partition as u32).await?;
            let mut kept = kept.clone();
            self.or_failure(async move { kept.wait_for(|next| *next >= end).await.map(|_| ()) }).await?;
        }
        Ok(())
    }

    /// A stream's state as it was last written.
    pub async fn stream_state(&self, stream: &StreamId) -> anyhow::Result<Option<StreamState>> {
        Ok(read_state(&*self.store, stream).await?)
    }

    /// All streams of a tenant with their states.
    pub async fn streams(&self, tenant: TenantId) -> anyhow::Result<Vec<(StreamId, StreamState)>> {
        let mut all: Vec<(StreamId, StreamState)> = Vec::new();
        loop {
            let after = all.last().map(|(stream, _)| stream.to_string());
            let rows = self.store.scan(tenant, Table::StreamStates, "", after.as_deref(), PAGE).await?;
            if rows.is_empty() {
                return Ok(all);
            }
            for (key, row) in rows {
                let state = StreamState::from_snapshot(&row.value).with_context(|| format!("the state of {key}"))?;
                all.push((state.stream.clone(), state));
            }
        }
    }

    /// The id of a tenant that exists.
    pub async fn tenant(&self, name: &TenantName) -> anyhow::Result<TenantId> {
        match definitions::find_tenant(&*self.store, name).await? {
            Some(id) => Ok(id),
            None => bail!("there is no tenant {name}: ingest something for it first"),
        }
    }

    /// The id of a tenant; made when the name is new.
    pub async fn ensure_tenant(&self, name: &TenantName) -> anyhow::Result<TenantId> {
        Ok(definitions::ensure_tenant(&*self.store, name).await?)
    }

    /// The id of a tenant, or the one that it could get: nothing is written.
    pub async fn tenant_or_new(&self, name: &TenantName) -> anyhow::Result<TenantId> {
        Ok(definitions::find_tenant(&*self.store, name).await?.unwrap_or_else(TenantId::generate))
    }

    /// All tenants.
    pub async fn tenants(&self) -> anyhow::Result<Vec<(TenantName, TenantId)>> {
        Ok(definitions::tenants(&*self.store).await?)
    }

    /// An entity's definition in force for a tenant.
    pub async fn entity(&self, tenant: TenantId, name: &EntityName) -> anyhow::Result<Option<Entity>> {
        Ok(definitions::entity(&*self.store, tenant, name).await?)
    }

    /// The definition of an entity that the operator put into the folder `ontology`.
    pub fn folder_entity(&self, name: &EntityName) -> anyhow::Result<Option<Entity>> {
        self.folder_text("ontology", name.as_str())?
            .map(|(file, text)| Ok(ontology::read_entity(&file, &text)?))
            .transpose()
    }

    /// The mapping file of a system that the operator put into the folder `mappings`.
    pub fn folder_mapping(&self, system: &str) -> anyhow::Result<Option<MappingFile>> {
        let named_safely = system.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !named_safely {
            bail!("a system's name has letters, digits, - and _ only; {system:?} has others");
        }
        self.folder_text("mappings", system)?.map(|(file, text)| Ok(ontology::read_mapping(&file, &text)?)).transpose()
    }

    fn folder_text(&self, kind: &str, name: &str) -> anyhow::Result<Option<(String, String)>> {
        let path = self.folder.join(kind).join(format!("{name}.yaml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path.display().to_string(), text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Waits until everything that stands on the log now is processed and folded into its views.
    pub async fn catch_up(&self) -> anyhow::Result<()> {
        self.wait_all_processed().await?;
        for partition in 0..self.log.partitions(Topic::Events) {
            self.wait_events(partition).await?;
        }
        Ok(())
    }

    async fn wait_events(&self, partition: u32) -> anyhow::Result<()> {
        let end = self.log.end(Topic::Events, partition).await?;
        self.or_failure(self.projector.wait_position(partition, end)).await
    }

    async fn wait_view(&self, tenant: TenantId, entity: &EntityName) -> anyhow::Result<()> {
        self.wait_events(self.projector.partition_of(tenant, entity)).await
    }

    /// Starts to count which rows of a stream, from an input on, are beaten by others.
    pub async fn watch(&self, plan: &Plan, from: u64) -> anyhow::Result<Watch> {
        let (stream, entity) = (&plan.stream, &plan.mapping.entity);
        self.wait_view(stream.tenant, entity).await?;
        let view = self.projector.view(stream.tenant, entity).await?;
        let view = view.with_context(|| format!("the view of {entity} was not defined; see autonomos log cat"))?;
        let id = view.watch(&stream.connection, &stream.stream, from);
        Ok(Watch { view, id })
    }

    /// Waits until a view holds everything that was processed; answers how many of the watched rows were beaten.
    pub async fn settle(&self, plan: &Plan, watch: Watch) -> anyhow::Result<u64> {
        let (tenant, entity) = (plan.stream.tenant, &plan.mapping.entity);
        self.wait_view(tenant, entity).await?;
        let now = self.projector.view(tenant, entity).await?;
        if let Some(stopped) = watch.view.stopped() {
            return Err(stopped.into());
        }
        let same = now.is_some_and(|now| Arc::ptr_eq(&now, &watch.view));
        watch.view.unwatch(watch.id).filter(|_| same).with_context(|| {
            format!("everything is in, but the view of {entity} was opened again meanwhile: what superseded what was not counted")
        })
    }

    /// Makes a tenant's tables as fresh as the log.
    pub async fn flush(&self, tenant: TenantId, entity: Option<&EntityName>) -> anyhow::Result<()> {
        self.catch_up().await?;
        self.or_failure(self.projector.flush(tenant, entity)).await
    }

    /// Makes all tables as fresh as the log.
    pub async fn flush_all(&self) -> anyhow::Result<()> {
        self.catch_up().await?;
        self.or_failure(self.projector.flush_all()).await
    }

    /// Makes a view again from the log.
    pub async fn rebuild(&self, tenant: TenantId, entity: &EntityName) -> anyhow::Result<()> {
        self.wait_view(tenant, entity).await?;
        self.or_failure(self.projector.rebuild(tenant, entity)).await.map(|_| ())
    }

    /// A tenant's views.
    pub async fn views(&self, tenant: TenantId) -> anyhow::Result<Vec<TableInfo>> {
        let mut all = self.projector.tables(tenant).await?;
        all.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(all)
    }

    /// The folder of a view's table, for any Delta reader.
    pub fn view_folder(&self, tenant: TenantId, table: &str) -> PathBuf {
        self.folder.join("views").join(tenant.to_string()).join(table)
    }

    /// The tenant's views that a statement may name, pinned now, each as fresh as what was acknowledged before.
    pub async fn snapshots(&self, tenant: TenantId, sql: &str) -> anyhow::Result<Vec<Arc<ViewSnapshot>>> {
        let lower = sql.to_lowercase();
        let mut tables = Vec::new();
        // Views that the statement cannot name need not be opened for it; the catalogue names them all.
        let every = lower.contains("information_schema") || lower.contains("show") || lower.contains("describe");
        for entity in self.projector.entities(tenant).await? {
            if every || lower.contains(entity.table.as_str()) {
                tables.extend(self.projector.snapshot(tenant, &entity.entity, None).await?);
            }
        }
        Ok(tables)
    }

    /// The keys of a stream's visible rows.
    pub async fn visible_keys(&self, stream: &StreamId, entity: &EntityName) -> anyhow::Result<Vec<String>> {
        use arrow::array::AsArray;
        use futures::StreamExt;
        self.wait_view(stream.tenant, entity).await?;
        let Some(snapshot) = self.projector.snapshot(stream.tenant, entity, None).await? else { return Ok(Vec::new()) };
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

    /// How far each processor is behind, in inputs.
    pub async fn lag(&self) -> anyhow::Result<Vec<u64>> {
        let mut lags = Vec::new();
        for (partition, processed) in self.processed.iter().enumerate() {
            let end = self.log.end(Topic::Inputs, partition as u32).await?;
            lags.push(end.saturating_sub(processed.next()));
        }
        Ok(lags)
    }
}

/// Counts, until it is settled, which rows of a run are beaten by others.
pub struct Watch {
    view: Arc<View>,
    id: u64,
}

/// Runs a role; its error is noted once, where everybody who waits for it can see it.
async fn watched<E: Into<anyhow::Error>>(
    failure: watch::Sender<Option<String>>,
    role: &'static str,
    work: impl Future<Output = Result<(), E>>,
) -> anyhow::Result<()> {
    work.await.map_err(|error| {
        let error: anyhow::Error = error.into();
        let error = error.context(format!("the {role} has stopped"));
        tracing::error!(error = format!("{error:#}"), "a role has stopped");
        failure.send_replace(Some(format!("{error:#}")));
        error
    })
}
