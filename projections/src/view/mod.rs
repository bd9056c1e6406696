//! Views: one Delta Lake table per (tenant, entity) at a log position, and a tail of newer rows in memory.
//!
//! Read in this order: [`columns`] is what a table holds, [`row`] how events become columns, [`index`] which row of a
//! key counts, [`tail`] what is not yet in a file, [`state`] the fold of events over these, by the [`marks`] of its sources
//! and with its [`counters`]. [`files`], [`table`] and [`deleted`] put it on disk, at a [`mod@place`] and [`durable`], `disk`
//! reads it again; [`moves`] tell where a flush put its rows. [`View`] is both, `follow` one whose tables another process
//! writes, [`projector`] keeps all views of a partition within [`memory`], and [`rebuild`] makes one anew.

pub mod columns;
pub mod counters;
pub mod index;
pub mod marks;
pub mod memory;
pub mod row;
pub mod state;
pub mod tail;

pub mod deleted;
mod disk;
pub mod durable;
pub mod encoding;
pub mod files;
pub mod moves;
pub mod place;
pub mod stats;
pub mod table;

pub mod error;
mod follow;
pub mod projector;
pub mod rebuild;
mod trouble;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use pipeline::Log;
use schemas::ids::{ConnectionName, EntityName, StreamName};
use schemas::{Entity, Position, TenantId};

pub use counters::StreamCounts;
pub use error::ViewError;
pub use follow::Look;
pub use place::{Access, Place, PlaceError};
pub use projector::{Budget, Holdings, Projector, ProjectorHandle, TableInfo};
pub use state::Applied;

use crate::snapshot::ViewSnapshot;
use columns::Columns;
use deleted::DeletedKeys;
use disk::{Disk, FlushError, load, write_parts};
use files::discard;
use follow::Followed;
use index::SHARDS;
use marks::Standing;
use place::TablePlace;
use state::{Budgeted, Plan, State, Written};
use table::{Change, Table};

/// How long a file that has gone from the table stays for the queries that read it.
pub const GRACE: Duration = Duration::from_secs(600);

/// One tenant's view of one entity.
pub struct View {
    tenant: TenantId,
    name: EntityName,
    place: TablePlace,
    deleted_place: TablePlace,
    grace: Duration,
    memory: Budgeted,
    state: Mutex<State>,
    tables: Tables,
}

/// A view's tables, by what this process does with them.
enum Tables {
    /// It writes them.
    Own(Arc<tokio::sync::Mutex<Disk>>),
    /// Another one does, and this one follows it.
    Followed(Box<tokio::sync::Mutex<Followed>>),
}

/// What a view holds, as the budget sees it.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Bytes in memory.
    pub bytes: usize,
    /// Those that a flush gives back.
    pub tail_bytes: usize,
    /// Rows and deleted keys that are in no table.
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

impl View {
    /// Opens a view's table, or makes it. `start` names partition and epochs; its offset is where a new table starts.
    pub async fn open(
        place: &Place,
        tenant: TenantId,
        entity: Entity,
        start: Standing,
        grace: Duration,
    ) -> Result<Self, ViewError> {
        Self::open_within(place, tenant, entity, start, grace, Budgeted::default()).await
    }
    /// Opens a view whose memory is counted with that of others.
    pub async fn open_within(
        place: &Place,
        tenant: TenantId,
        entity: Entity,
        start: Standing,
        grace: Duration,
        memory: Budgeted,
    ) -> Result<Self, ViewError> {
        let name = entity.entity.clone();
        let refused =
            |e: schemas::entity::InvalidEntity| ViewError::Definition { entity: name.clone(), reason: e.to_string() };
        entity.validate().map_err(refused)?;
        let (table_place, deleted_place) = (place.table(tenant, &entity.table), place.deleted(tenant, &entity.table));
        let main = open_or_create(&table_place, &Columns::new(&entity)?.schema).await?;
        let transactions = main.transactions(&start).await?;
        let standing = start.read(&transactions)?;
        let deleted = DeletedKeys::new(deleted_place.clone());
        let (state, gone) = load(&main, &deleted, entity, standing, grace, &memory).await?;
        let tables = Tables::Own(Arc::new(tokio::sync::Mutex::new(Disk { main, deleted, gone })));
        Ok(Self { tenant, name, place: table_place, deleted_place, grace, memory, state: Mutex::new(state), tables })
    }
    /// The tables, for who writes them.
    fn own_tables(&self) -> Result<&Arc<tokio::sync::Mutex<Disk>>, ViewError> {
        match &self.tables {
            Tables::Own(disk) => Ok(disk),
            Tables::Followed(_) => Err(ViewError::Followed),
        }
    }
    /// Waits until nobody reads or writes the tables for the view.
    async fn quiesced(&self) {
        match &self.tables {
            Tables::Own(disk) => drop(disk.lock().await),
            Tables::Followed(followed) => drop(followed.lock().await),
        }
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
    /// The table's folder.
    pub fn folder(&self) -> &str {
        self.place.name()
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
    /// The view takes no more events, and holds nothing any more.
    pub fn stop(&self, error: ViewError) {
        self.state.lock().stop(error);
    }
    /// From where on the table on disk may lack events; `None` if it has all that came.
    pub fn lacks_from(&self) -> Option<u64> {
        self.state.lock().lacks_from()
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
            tail_bytes: state.tail_bytes(),
            tail_rows: state.tail_rows(),
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
    /// Whether somebody counts what becomes of its rows.
    pub fn is_watched(&self) -> bool {
        self.with_state(|s| s.fates.is_watched())
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
        let mut disk = self.own_tables()?.clone().lock_owned().await;
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
            // The tables stay locked until the index knows all.
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
    fn conclude(&self, plan: Plan, outcome: Result<Committed, FlushError>) -> Result<Flushed, ViewError> {
        match outcome {
            Ok(Committed { written, flushed, deleted }) => {
                self.state.lock().finish(plan, written, deleted);
                // Events may be applied between two shards.
                (0..SHARDS).for_each(|shard| self.state.lock().settle(shard));
                Ok(flushed)
            }
            Err(FlushError::Before(error)) => {
                self.state.lock().abort(plan);
                Err(error)
            }
            Err(FlushError::Commit(error)) => {
                self.state.lock().stop(error.clone());
                Err(error)
            }
        }
    }
    async fn write(&self, disk: &mut Disk, plan: &Plan) -> Result<Committed, FlushError> {
        let written = write_parts(&self.place, plan, &self.memory.all).await.map_err(FlushError::Before)?;
        let tombstones = match deleted::write(&self.deleted_place, &plan.tombstones, &self.memory.all).await {
            Ok(tombstones) => tombstones,
            Err(error) => {
                discard(&self.place, &written.files).await;
                return Err(FlushError::Before(error));
            }
        };
        let remove = plan.files.iter().map(|(_, f)| f.file.clone()).collect();
        let schema = plan.is_schema_new.then(|| plan.columns.schema.clone());
        let change = Change { schema, add: written.files.clone(), remove, ..Change::default() };
        let base = plan.standing.deleted;
        let committed = disk.commit(&plan.standing, change, base, tombstones, &self.memory.all).await;
        if let Err(FlushError::Before(_)) = &committed {
            discard(&self.place, &written.files).await;
        }
        let deleted = committed?;
        disk.vacuum(self.grace).await;
        let flushed = Flushed {
            version: disk.main.version(),
            position: plan.standing.position,
            rows: written.files.iter().map(|f| f.rows).sum(),
            files: written.files.len(),
            bytes: written.files.iter().map(|f| f.bytes).sum(),
        };
        Ok(Committed { written, flushed, deleted })
    }
}

/// A flush that is in the tables.
struct Committed {
    written: Written,
    flushed: Flushed,
    deleted: Option<u64>,
}

/// The table. In one process nobody opens one while another is made; of several processes that make one at once, each gets
/// the one that was made.
async fn open_or_create(place: &TablePlace, schema: &SchemaRef) -> Result<Table, ViewError> {
    let opened = {
        let _opening = place.making.read().await;
        Table::open(place.clone(), None).await?
    };
    if let Some(table) = opened {
        return Ok(table);
    }
    let _making = place.making.write().await;
    if let Some(table) = Table::open(place.clone(), None).await? {
        return Ok(table);
    }
    match Table::create(place.clone(), schema).await {
        Err(error @ ViewError::Conflict { .. }) => Table::open(place.clone(), None).await?.ok_or(error),
        made => made,
    }
}
