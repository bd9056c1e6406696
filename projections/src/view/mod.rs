//! Views: one Delta Lake table per (tenant, entity) at a log position, and a tail of newer rows in memory.
//!
//! Read in this order: [`columns`] is what a table holds, [`row`] how events become columns, [`index`] which row of a
//! key counts, [`tail`] what is not yet in a file, [`state`] the fold of events over these. [`files`], [`table`] and
//! [`deleted`] put it on disk; [`View`] is both, and [`projector`] keeps all views of a partition.

pub mod columns;
pub mod counters;
pub mod index;
pub mod marks;
pub mod row;
pub mod state;
pub mod tail;

pub mod deleted;
pub mod durable;
pub mod files;
pub mod place;
pub mod stats;
pub mod table;

pub mod error;
pub mod projector;
pub mod rebuild;

use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use parking_lot::Mutex;
use pipeline::Log;
use schemas::ids::{ConnectionName, EntityName, StreamName};
use schemas::{Entity, Position, TenantId};

pub use counters::StreamCounts;
pub use error::ViewError;
pub use place::Place;
pub use projector::{Budget, Holdings, Projector, ProjectorHandle, TableInfo};
pub use state::Applied;

use crate::snapshot::ViewSnapshot;
use columns::Columns;
use deleted::DeletedKeys;
use files::{Keys, Part, PartWriter, read_file, read_keys};
use index::Loc;
use marks::Standing;
use place::TablePlace;
use state::{Plan, State};
use table::{Change, Table, TableFile};
use tail::{keep_bits, live_rows};

/// How long a file that has gone from the table stays for the queries that read it.
pub const GRACE: Duration = Duration::from_secs(600);

/// One tenant's view of one entity.
pub struct View {
    tenant: TenantId,
    name: EntityName,
    place: TablePlace,
    grace: Duration,
    state: Mutex<State>,
    disk: Arc<tokio::sync::Mutex<Disk>>,
}

/// The open tables, and the files that have gone from them.
struct Disk {
    main: Table,
    deleted: DeletedKeys,
    gone: Vec<(Instant, Path)>,
}

/// What a view holds, as the budget sees it.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Bytes in memory.
    pub bytes: usize,
    /// Those of the tail.
    pub tail_bytes: usize,
    /// Rows of the tail.
    pub tail_rows: usize,
    /// Rows that count.
    pub rows: usize,
    /// Since when something is not in the table.
    pub dirty_since: Option<Instant>,
    /// Whether the view takes no more events.
    pub is_stopped: bool,
}

/// What a flush did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// The table's version now.
    pub version: u64,
    /// The event position that it stands at.
    pub position: Position,
    /// Rows written, those of rewritten files too.
    pub rows: usize,
    /// Files written.
    pub files: usize,
    /// Bytes written.
    pub bytes: u64,
}

/// Which part of a flush failed.
enum FlushError {
    /// Nothing was committed.
    Before(ViewError),
    /// Something may have been.
    Commit(ViewError),
}

impl View {
    /// Opens a view's table, or makes it. `start` names partition and epochs; its offset is where a new table starts.
    pub async fn open(
        place: &Place,
        tenant: TenantId,
        entity: Entity,
        start: Standing,
        grace: Duration,
    ) -> Result<Self, ViewError> {
        let (table_place, deleted_place) = (place.table(tenant, &entity.table), place.deleted(tenant, &entity.table));
        let main = match Table::open(table_place.clone(), None).await? {
            Some(table) => table,
            None => Table::create(table_place.clone(), &Columns::new(&entity)?.schema).await?,
        };
        let standing = start.read(&main.transactions().await?)?;
        let deleted = DeletedKeys::new(deleted_place);
        let name = entity.entity.clone();
        let state = load(&main, &deleted, entity, standing).await?;
        sweep(&main, grace).await?;
        let disk = Arc::new(tokio::sync::Mutex::new(Disk { main, deleted, gone: Vec::new() }));
        Ok(Self { tenant, name, place: table_place, grace, state: Mutex::new(state), disk })
    }
    /// The owner.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }
    /// The entity's name.
    pub fn entity(&self) -> &EntityName {
        &self.name
    }
    /// The name that SQL knows it by.
    pub fn table(&self) -> String {
        self.state.lock().entity.table.to_string()
    }
    /// Applies the rows of a batch whose first event stands at `first`. After an error the view is stopped.
    pub fn apply(&self, first: u64, count: u32, body: &[u8]) -> Result<Applied, ViewError> {
        self.state.lock().apply(first, count, body)
    }
    /// Takes a newer definition of the entity; new fields become columns.
    pub fn define(&self, entity: &Entity) -> Result<(), ViewError> {
        self.state.lock().define(entity)
    }
    /// Everything before `offset` is known not to concern the view.
    pub fn advance(&self, offset: u64) {
        self.state.lock().advance(offset);
    }
    /// The view as it is, for queries.
    pub fn snapshot(&self) -> Result<Arc<ViewSnapshot>, ViewError> {
        self.state.lock().snapshot(&self.place)
    }
    /// The next event that the view will apply.
    pub fn position(&self) -> Position {
        self.state.lock().position()
    }
    /// The position up to which the table on disk is complete.
    pub fn committed(&self) -> u64 {
        self.state.lock().committed()
    }
    /// Why the view takes no more events, if it does not.
    pub fn stopped(&self) -> Option<ViewError> {
        self.state.lock().stopped().cloned()
    }
    /// Bytes of tail and index, about.
    pub fn memory_bytes(&self) -> usize {
        self.state.lock().bytes()
    }
    /// What became of each stream's rows since the view was opened.
    pub fn counters(&self) -> Vec<(ConnectionName, StreamName, StreamCounts)> {
        self.state.lock().fates.counts()
    }
    /// Counts, from now on, rows of the stream's inputs from `from` on that are superseded. Answers the watch's number.
    pub fn watch(&self, connection: &ConnectionName, stream: &StreamName, from: u64) -> u64 {
        self.state.lock().fates.watch(connection, stream, from)
    }
    /// What a watch has counted so far.
    pub fn watched(&self, watch: u64) -> Option<u64> {
        self.state.lock().fates.watched(watch)
    }
    /// Ends a watch and answers what it has counted.
    pub fn unwatch(&self, watch: u64) -> Option<u64> {
        self.state.lock().fates.unwatch(watch)
    }
    /// What the budget has to know.
    pub fn load(&self) -> Load {
        let state = self.state.lock();
        Load {
            bytes: state.bytes(),
            tail_bytes: state.tail.bytes(),
            tail_rows: state.tail.rows(),
            rows: state.index.live(),
            dirty_since: state.dirty_since(),
            is_stopped: state.stopped().is_some(),
        }
    }
    /// The view as `views list` shows it.
    pub fn info(&self) -> TableInfo {
        let state = self.state.lock();
        TableInfo {
            entity: self.name.clone(),
            table: state.entity.table.to_string(),
            rows: state.index.live(),
            tail_rows: state.tail.live(),
            files: state.files.len(),
            bytes: state.files.values().map(|f| f.file.bytes).sum(),
            memory_bytes: state.bytes(),
            position: state.position(),
            stopped: state.stopped().map(ToString::to_string),
        }
    }
    /// Rows of the tail, dead ones too.
    pub fn tail_rows(&self) -> usize {
        self.state.lock().tail.rows()
    }
    /// Whether the table was made and nothing was ever applied.
    pub fn is_empty(&self) -> bool {
        self.with_state(|s| s.files.is_empty() && s.tail.rows() == 0 && s.standing.marks.is_empty())
    }
    /// Whether the view may be closed: its table has everything, it runs, and nobody watches it.
    pub fn is_idle(&self) -> bool {
        self.with_state(|s| !s.is_dirty() && s.stopped().is_none() && !s.fates.is_watched())
    }
    fn with_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock())
    }

    /// Writes what is not yet in the table and commits it; `None` if there is nothing. Events go on being applied
    /// meanwhile. Goes on if its caller goes away.
    pub async fn flush(self: &Arc<Self>, log: Arc<dyn Log>) -> Result<Option<Flushed>, ViewError> {
        let view = self.clone();
        tokio::spawn(async move { view.flush_now(log).await }).await.unwrap_or(Err(ViewError::ShutDown))
    }
    async fn flush_now(self: Arc<Self>, log: Arc<dyn Log>) -> Result<Option<Flushed>, ViewError> {
        let mut disk = self.disk.clone().lock_owned().await;
        let Some(plan) = self.state.lock().prepare()? else { return Ok(None) };
        // A table must not be ahead of the log after a power cut.
        if let Err(error) = log.sync().await {
            self.state.lock().abort(plan);
            return Err(error.into());
        }
        let runtime = tokio::runtime::Handle::current();
        let view = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let written = runtime.block_on(view.write(&mut disk, &plan));
            view.conclude(plan, written)
        });
        match work.await {
            Ok(outcome) => outcome.map(Some),
            Err(panicked) => {
                let error = ViewError::io(self.place.name(), &panicked);
                self.state.lock().stop(error.clone());
                Err(error)
            }
        }
    }
    fn conclude(
        &self,
        plan: Plan,
        written: Result<(Vec<Part>, Flushed, Option<u64>), FlushError>,
    ) -> Result<Flushed, ViewError> {
        let mut state = self.state.lock();
        match written {
            Ok((parts, flushed, deleted)) => {
                state.finish(plan, parts, deleted);
                Ok(flushed)
            }
            Err(FlushError::Before(error)) => {
                state.abort(plan);
                Err(error)
            }
            Err(FlushError::Commit(error)) => {
                state.stop(error.clone());
                Err(error)
            }
        }
    }
    async fn write(&self, disk: &mut Disk, plan: &Plan) -> Result<(Vec<Part>, Flushed, Option<u64>), FlushError> {
        let parts = write_parts(&self.place, plan).await.map_err(FlushError::Before)?;
        let remove = plan.files.iter().map(|(_, f)| f.file.clone()).collect();
        let deleted = disk
            .commit(plan, parts.iter().map(|p| p.file.clone()).collect(), remove, false)
            .await
            .map_err(FlushError::Commit)?;
        disk.vacuum(self.grace).await;
        let flushed = Flushed {
            version: disk.main.version(),
            position: plan.standing.position,
            rows: parts.iter().map(|p| p.file.rows).sum(),
            files: parts.len(),
            bytes: parts.iter().map(|p| p.file.bytes).sum(),
        };
        Ok((parts, flushed, deleted))
    }
}

impl Disk {
    /// Commits the deleted keys, then the table that names them. Answers the version of the former.
    async fn commit(
        &mut self,
        plan: &Plan,
        add: Vec<TableFile>,
        remove: Vec<TableFile>,
        replaces: bool,
    ) -> Result<Option<u64>, ViewError> {
        let mut standing = plan.standing.clone();
        if !plan.tombstones.is_empty() || replaces && standing.deleted.is_some() {
            let (version, _) = self.deleted.commit(&plan.tombstones, replaces).await?;
            standing.deleted = Some(version);
        }
        let schema = plan.is_schema_new.then(|| plan.columns.schema.clone());
        let gone: Vec<_> = remove.iter().map(|f| self.main.place().file(&f.name)).collect();
        let change = Change { schema, add, remove, transactions: standing.to_transactions() };
        self.main.commit(change).await?;
        let now = Instant::now();
        self.gone.extend(gone.into_iter().map(|path| (now, path)));
        Ok(standing.deleted)
    }
    /// Deletes files that have been gone for longer than `grace`.
    async fn vacuum(&mut self, grace: Duration) {
        let (old, young) = std::mem::take(&mut self.gone).into_iter().partition(|(at, _)| at.elapsed() >= grace);
        self.gone = young;
        let store = self.main.place().views.clone();
        for (at, path) in <Vec<(Instant, Path)>>::into_iter(old) {
            match store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(%path, %error, "a file that has gone from a view could not be deleted");
                    self.gone.push((at, path));
                }
            }
        }
    }
}

/// Reads keys and order keys of all files and of the deleted keys into a new state.
async fn load(main: &Table, deleted: &DeletedKeys, entity: Entity, standing: Standing) -> Result<State, ViewError> {
    let version = standing.deleted;
    let mut state = State::new(entity, main.schema()?, standing)?;
    let files = main.files()?;
    state.index.reserve(files.iter().map(|f| f.rows).sum());
    for file in files {
        let number = state.add_file(file.clone());
        let rows = read_keys(main.place(), &file, |row, hash, order| state.index_row(number, row, hash, order)).await?;
        if let Some(file) = state.files.get_mut(&number) {
            file.file.rows = rows;
        }
    }
    if let Some(version) = version {
        deleted
            .read(version, |hash, order| {
                state.index.admit(hash, order, false, Loc::DELETED);
            })
            .await?;
    }
    Ok(state)
}

/// Deletes files that no version of the table names any more or never did, once they are older than `grace`.
async fn sweep(main: &Table, grace: Duration) -> Result<(), ViewError> {
    let place = main.place();
    let fail = |e: object_store::Error| ViewError::io(place.name(), &e);
    let known: std::collections::HashSet<_> = main.files()?.into_iter().map(|f| place.file(&f.name)).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let listed = place.views.list_with_delimiter(Some(&place.prefix)).await.map_err(fail)?;
    for object in listed.objects {
        let age = now.as_millis().cast_signed() - i128::from(object.last_modified.timestamp_millis());
        let is_data = object.location.as_ref().ends_with(".parquet");
        if is_data && !known.contains(&object.location) && age >= grace.as_millis().cast_signed() {
            place.views.delete(&object.location).await.map_err(fail)?;
        }
    }
    Ok(())
}

/// Writes the live rows of a plan's files and chunks into new files.
async fn write_parts(place: &TablePlace, plan: &Plan) -> Result<Vec<Part>, ViewError> {
    let mut writer = PartWriter::new(place.clone(), plan.columns.schema.clone());
    for (number, file) in &plan.files {
        let mut first = 0;
        for batch in read_file(place, &file.file).await? {
            let batch = batch.map_err(|e| ViewError::io(place.name(), &e))?;
            let keep = keep_bits(&file.dead, first, batch.num_rows());
            let mut keys = Keys::of(&batch, place.name())?;
            let rows: Vec<_> =
                keep.set_indices().map(|row| (keys.hash(row), Loc::file(*number, (first + row) as u32))).collect();
            let mask = arrow::array::BooleanArray::new(keep, None);
            let live =
                arrow::compute::filter_record_batch(&batch, &mask).map_err(|e| ViewError::io(place.name(), &e))?;
            first += batch.num_rows();
            writer.write(&live, rows).await?;
        }
    }
    for (number, chunk) in &plan.chunks {
        let live = chunk.hashes.iter().enumerate().filter(|(row, _)| !chunk.dead.contains(*row));
        let rows: Vec<_> = live.map(|(row, hash)| (*hash, Loc::tail(*number, row as u32))).collect();
        if !rows.is_empty() {
            writer.write(&live_rows(&chunk.batch, &chunk.dead), rows).await?;
        }
    }
    writer.finish().await
}
