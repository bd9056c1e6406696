//! What a view holds in memory and how events change it. No I/O, no waiting.

mod flush;
mod follow;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use schemas::Entity;
use schemas::event::{EventBatch, EventBatchReader, EventRow, RowKind};
use schemas::{Position, Topic};

use super::columns::Columns;
use super::counters::{Fates, StreamCounts};
use super::error::ViewError;
use super::files::KeyHasher;
use super::index::{Admission, KeyIndex, Loc, OrderKey, PackedVersion, RowPlace};
use super::marks::{Mark, Standing};
use super::memory::{Charge, Memory};
use super::moves::Moves;
use super::place::TablePlace;
use super::table::TableFile;
use super::tail::Tail;
use crate::snapshot::{FileSnapshot, Lost, RowSet, ViewSnapshot};

pub use flush::{Plan, Written};

/// What system columns and offsets take per row beside the event's own bytes.
const SYSTEM_ROW_BYTES: usize = 120;
/// What an open view takes beside its rows: definition, columns, the table's snapshot, builders of columns.
const OPEN_BYTES: usize = 64 << 10;
/// What a file takes in the table's snapshot and here.
const FILE_ENTRY_BYTES: usize = 1 << 10;

/// A file of the table and its dead rows.
#[derive(Debug, Clone)]
pub struct ViewFile {
    /// The file.
    pub file: TableFile,
    /// Rows that no longer count.
    pub dead: Arc<RowSet>,
}

/// A key that was deleted.
#[derive(Debug, Clone)]
pub struct Tombstone {
    /// The connection.
    pub connection: schemas::ConnectionName,
    /// The stream.
    pub stream: schemas::StreamName,
    /// The source key.
    pub key: String,
    /// The delete's order key.
    pub order: OrderKey,
    /// Partition of the input.
    pub partition: u32,
}

impl Tombstone {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.len()
    }
}

/// What a batch of events came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Rows of the batch that lay at or beyond the view's position.
    pub rows: u64,
    /// What became of them.
    pub counts: StreamCounts,
}

/// The counts that views share: of all that they hold, and of what flushes give back.
#[derive(Debug, Clone, Default)]
pub struct Budgeted {
    /// All.
    pub all: Memory,
    /// Tails and keys deleted since the last flush.
    pub tails: Memory,
}

/// What a view holds in memory.
#[derive(Debug)]
pub struct State {
    /// The definition in force.
    pub entity: Entity,
    /// The columns.
    pub columns: Arc<Columns>,
    /// The key index.
    pub index: KeyIndex,
    /// Rows that are in no file.
    pub tail: Tail,
    /// The files of the table by their numbers here.
    pub files: BTreeMap<u32, ViewFile>,
    /// How far the view has come.
    pub standing: Standing,
    /// Keys deleted since the last flush.
    pub tombstones: Vec<Tombstone>,
    /// What became of rows.
    pub fates: Fates,
    tombstone_bytes: usize,
    moves: Option<Moves>,
    held: Charge,
    held_tail: Charge,
    next_file: u32,
    frozen: u32,
    committed_schema: SchemaRef,
    committed: u64,
    dirty_since: Option<Instant>,
    stopped: Option<ViewError>,
    snapshot: Option<Arc<ViewSnapshot>>,
    lost: Lost,
    hasher: KeyHasher,
}

impl State {
    /// An empty view whose table has `schema`; what it holds is counted on `memory`.
    pub fn new(entity: Entity, schema: SchemaRef, standing: Standing, memory: &Budgeted) -> Result<Self, ViewError> {
        let columns = Arc::new(Columns::of(schema.clone(), &entity)?);
        Ok(Self {
            tail: Tail::new(columns.clone()),
            entity,
            columns,
            index: KeyIndex::default(),
            files: BTreeMap::new(),
            committed: standing.position.offset,
            standing,
            tombstones: Vec::new(),
            fates: Fates::default(),
            tombstone_bytes: 0,
            moves: None,
            held: memory.all.charge(),
            held_tail: memory.tails.charge(),
            next_file: 0,
            frozen: 0,
            committed_schema: schema,
            dirty_since: None,
            stopped: None,
            snapshot: None,
            lost: Lost::default(),
            hasher: KeyHasher::default(),
        })
    }
    /// Adds a file of the table; its rows are offered to the index by [`State::index_row`].
    pub fn add_file(&mut self, file: TableFile) -> u32 {
        let number = self.next_file;
        self.next_file += 1;
        self.files.insert(number, ViewFile { file, dead: Arc::default() });
        number
    }
    /// Offers a row of a file. A table that another writer filled may hold a key twice: the newest counts.
    pub fn index_row(&mut self, file: u32, row: usize, hash: u128, order: OrderKey) {
        let loc = Loc::file(file, row as u32);
        match self.index.admit(hash, order, false, loc) {
            Admission::New => {}
            Admission::Replaced { was, .. } => self.kill(was),
            Admission::Late | Admission::Repeated => self.kill(loc),
        }
    }
    /// Offers a deleted key of the companion table.
    pub fn index_deleted(&mut self, hash: u128, order: OrderKey) {
        if let Admission::Replaced { was, .. } = self.index.admit(hash, order, false, Loc::DELETED) {
            self.kill(was);
        }
    }
    /// Why the view takes no more events.
    pub fn stopped(&self) -> Option<&ViewError> {
        self.stopped.as_ref()
    }
    /// The view takes no more events, and nobody reads it: it holds nothing any more.
    pub fn stop(&mut self, error: ViewError) {
        self.committed = self.committed();
        self.stopped.get_or_insert(error);
        self.index = KeyIndex::default();
        self.tail = Tail::new(self.columns.clone());
        self.tombstones = Vec::new();
        self.tombstone_bytes = 0;
        self.snapshot = None;
        self.recount();
    }
    /// Counts anew what is held.
    pub fn recount(&mut self) {
        self.held.set(self.bytes());
        self.held_tail.set(self.tail_bytes());
    }
    fn check_running(&self) -> Result<(), ViewError> {
        match &self.stopped {
            Some(error) => Err(ViewError::Stopped(Box::new(error.clone()))),
            None => Ok(()),
        }
    }

    /// Applies the rows of a batch that lie at or beyond the view's position. After an error the view is stopped.
    pub fn apply(&mut self, first: u64, count: u32, body: &[u8]) -> Result<Applied, ViewError> {
        self.check_running()?;
        let applied = self.fold(first, count, body);
        if let Err(error) = &applied {
            self.stop(error.clone());
        }
        applied
    }
    fn fold(&mut self, first: u64, count: u32, body: &[u8]) -> Result<Applied, ViewError> {
        let mut applied = Applied::default();
        let end = first + u64::from(count);
        if end <= self.standing.position.offset {
            return Ok(applied);
        }
        // Events come in the log's order: what stands before was of other views.
        self.advance(first);
        let unreadable = |source| ViewError::Events { offset: first, source };
        let mut reader = EventBatchReader::new(body).map_err(unreadable)?;
        let shared = reader.shared.clone();
        if shared.input_epoch != self.standing.input_epoch {
            let (expected, found) = (self.standing.input_epoch, shared.input_epoch);
            return Err(ViewError::Epoch { topic: Topic::Inputs, expected, found });
        }
        self.tail.begin(&shared);
        self.hasher.set_stream(shared.connection.as_str(), shared.stream.as_str());
        let stream = self.fates.stream(&shared.connection, &shared.stream);
        let row_bytes = body.len() / (count.max(1) as usize) + SYSTEM_ROW_BYTES;
        let mut mark = self.standing.marks.get(&shared.input_partition).copied();
        let mut offset = first;
        while let Some(mut row) = reader.next_row().map_err(unreadable)? {
            let is_known = offset < self.standing.position.offset;
            offset += 1;
            if is_known {
                continue;
            }
            applied.rows += 1;
            let here = Mark { offset: row.input_offset, ordinal: row.ordinal };
            if mark.is_some_and(|mark| here <= mark) {
                applied.counts.repeated += 1;
                continue;
            }
            mark = Some(here);
            self.row(&shared, stream, &mut row, row_bytes, &mut applied.counts)?;
        }
        if let Some(mark) = mark {
            self.standing.marks.insert(shared.input_partition, mark);
        }
        self.finish_batch(end, stream, applied.counts);
        Ok(applied)
    }
    fn finish_batch(&mut self, end: u64, stream: usize, counts: StreamCounts) {
        if counts.applied + counts.deleted > 0 {
            self.soil();
        }
        self.standing.position.offset = end;
        let total = &mut self.fates.at(stream).counts;
        total.applied += counts.applied;
        total.late += counts.late;
        total.replaced += counts.replaced;
        total.deleted += counts.deleted;
        total.repeated += counts.repeated;
        for (hash, from, to) in self.tail.compact(self.frozen) {
            self.index.relocate(hash, from, to);
        }
        self.recount();
    }
    #[inline]
    fn row(
        &mut self,
        shared: &EventBatch,
        stream: usize,
        row: &mut EventRow<'_>,
        bytes: usize,
        counts: &mut StreamCounts,
    ) -> Result<(), ViewError> {
        let hash = self.hasher.hash(row.key);
        let version = PackedVersion::from(std::mem::take(&mut row.version));
        let is_delete = row.kind == RowKind::Deleted;
        let inherits_version = is_delete && version == PackedVersion::None;
        let loc = if is_delete { Loc::DELETED } else { self.tail.next() };
        let order = OrderKey { version: version.clone(), origin: row.origin, position: row.input_offset };
        match self.index.admit(hash, order, inherits_version, loc) {
            Admission::New => {}
            Admission::Replaced { was, position } => {
                // A delete that is displaced counts no row, but its record no longer says what is visible.
                counts.replaced += u64::from(was != Loc::DELETED);
                self.fates.at(stream).superseded(position);
                self.kill(was);
            }
            Admission::Late => {
                counts.late += 1;
                self.fates.at(stream).superseded(row.input_offset);
                return Ok(());
            }
            Admission::Repeated => {
                counts.repeated += 1;
                return Ok(());
            }
        }
        if is_delete {
            counts.deleted += 1;
            self.bury(shared, row.key, hash);
            return Ok(());
        }
        counts.applied += 1;
        self.tail.append(row, hash, &version, bytes)
    }
    fn bury(&mut self, shared: &EventBatch, key: &str, hash: u128) {
        let Some(order) = self.index.order(hash) else { return };
        let tombstone = Tombstone {
            connection: shared.connection.clone(),
            stream: shared.stream.clone(),
            key: key.to_owned(),
            order,
            partition: shared.input_partition,
        };
        self.tombstone_bytes += tombstone.bytes();
        self.tombstones.push(tombstone);
    }
    fn kill(&mut self, loc: Loc) {
        // The index may not know yet where the last flush put the row.
        let moved = self.moves.as_ref().and_then(|moves| moves.to(loc));
        match moved.unwrap_or(loc).place() {
            RowPlace::File { file, row } => {
                if let Some(file) = self.files.get_mut(&file) {
                    Arc::make_mut(&mut file.dead).insert(row as usize);
                }
            }
            RowPlace::Tail { chunk, row } => self.tail.kill(chunk, row),
            RowPlace::Deleted => {}
        }
    }

    /// Takes a newer definition; new fields become columns.
    pub fn define(&mut self, entity: &Entity) -> Result<(), ViewError> {
        self.check_running()?;
        let refused = |e: schemas::entity::InvalidEntity| ViewError::Definition {
            entity: entity.entity.clone(),
            reason: e.to_string(),
        };
        let merged = self.entity.evolve(entity).map_err(refused)?;
        if merged == self.entity {
            return Ok(());
        }
        let columns = Arc::new(Columns::of(self.columns.schema.clone(), &merged)?);
        if columns.fields.len() != self.columns.fields.len() {
            self.tail.set_layout(columns.clone());
            self.columns = columns;
            self.snapshot = None;
            self.soil();
        }
        self.entity = merged;
        Ok(())
    }
    /// Everything before `offset` is known not to concern the view.
    pub fn advance(&mut self, offset: u64) {
        let position = &mut self.standing.position.offset;
        *position = offset.max(*position);
    }
    /// From the view's position on, the table lacks something.
    fn soil(&mut self) {
        if self.dirty_since.is_none() {
            self.committed = self.standing.position.offset;
            self.dirty_since = Some(Instant::now());
        }
    }
    /// Whether something is not yet in the table.
    pub fn is_dirty(&self) -> bool {
        self.dirty_since.is_some()
    }
    /// Since when something is not yet in the table.
    pub fn dirty_since(&self) -> Option<Instant> {
        self.dirty_since
    }
    /// The position up to which the table is complete.
    pub fn committed(&self) -> u64 {
        self.lacks_from().unwrap_or(self.standing.position.offset)
    }
    /// From where on the table may lack events; `None` if it has all that came.
    pub fn lacks_from(&self) -> Option<u64> {
        (self.is_dirty() || self.stopped.is_some()).then_some(self.committed)
    }
    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        let dead: usize = self.files.values().map(|f| f.dead.words().len() * 8 + FILE_ENTRY_BYTES).sum();
        self.tail_bytes() + self.index.bytes() + dead + OPEN_BYTES
    }
    /// Those of them that a flush gives back: rows and deleted keys that are in no table.
    pub fn tail_bytes(&self) -> usize {
        self.tail.bytes() + self.tombstone_bytes
    }
    /// Rows and deleted keys that are in no table.
    pub fn tail_rows(&self) -> usize {
        self.tail.rows() + self.tombstones.len()
    }

    /// Stops the view if a reader has found that a file is lost which the view still needs.
    fn look_for_loss(&mut self, place: &TablePlace) {
        let Some(lost) = self.lost.take() else { return };
        let needed = self.files.values().find(|f| place.file(&f.file.name) == lost.path);
        let Some(file) = needed.map(|f| f.file.name.clone()) else { return };
        let (table, expected) = (place.name().to_owned(), lost.expected);
        self.stop(match lost.found {
            Some(found) => ViewError::FileCut { table, file, expected, found },
            None => ViewError::FileGone { table, file },
        });
    }
    /// The view as it is, for queries.
    pub fn snapshot(&mut self, place: &TablePlace) -> Result<Arc<ViewSnapshot>, ViewError> {
        self.look_for_loss(place);
        self.check_running()?;
        if let Some(snapshot) = self.snapshot.as_ref().filter(|s| s.position == self.standing.position) {
            return Ok(snapshot.clone());
        }
        let file = |f: &ViewFile| FileSnapshot {
            path: place.file(&f.file.name),
            bytes: f.file.bytes,
            rows: f.file.rows,
            dead: f.dead.clone(),
        };
        let snapshot = Arc::new(ViewSnapshot {
            table: self.entity.table.to_string(),
            schema: self.columns.schema.clone(),
            store: place.views.clone(),
            files: self.files.values().map(file).collect(),
            tail: self.tail.snapshot(),
            position: self.standing.position,
            lost: self.lost.clone(),
        });
        self.snapshot = Some(snapshot.clone());
        self.recount();
        Ok(snapshot)
    }

    /// Takes the place of `former` after a rebuild: what outlives the rows is kept.
    pub fn succeed(&mut self, former: &mut Self) {
        std::mem::swap(&mut self.fates, &mut former.fates);
        self.committed = self.standing.position.offset;
        self.dirty_since = None;
        self.take_tombstones();
        self.snapshot = None;
        self.recount();
    }
    /// Where the view stands.
    pub fn position(&self) -> Position {
        self.standing.position
    }
}
