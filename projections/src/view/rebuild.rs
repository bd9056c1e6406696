//! A rebuild: the view is folded from zero beside itself, then one commit puts the new files in place of the old.

use std::sync::Arc;
use std::time::Instant;

use object_store::path::Path;
use parking_lot::Mutex;
use pipeline::{Log, Stored};
use schemas::{Entity, Topic};

use super::disk::{FlushError, write_parts};
use super::error::ViewError;
use super::files::discard;
use super::index::SHARDS;
use super::state::State;
use super::table::{Change, TableFile};
use super::{Flushed, Standing, View, deleted};

/// Rows are written to files when so many are in memory, or so many bytes.
pub(super) const SPILL_ROWS: usize = 256 << 10;
pub(super) const SPILL_BYTES: usize = 64 << 20;

/// A view that is being folded from zero; its files lie in the view's folder and no version of the table names them
/// yet.
pub struct Rebuild {
    view: Arc<View>,
    state: Arc<Mutex<State>>,
    deleted: Vec<TableFile>,
    gone: Vec<TableFile>,
}

impl Rebuild {
    /// Starts at event 0 of the view's partition.
    pub fn new(view: Arc<View>) -> Result<Self, ViewError> {
        let (entity, schema, standing) =
            view.with_state(|s| (s.entity.clone(), s.columns.schema.clone(), s.standing.clone()));
        let mut position = standing.position;
        position.offset = 0;
        let state = State::new(entity, schema, Standing::start(position, standing.input_epoch), &view.memory)?;
        Ok(Self { view, state: Arc::new(Mutex::new(state)), deleted: Vec::new(), gone: Vec::new() })
    }
    /// The next event to apply.
    pub fn position(&self) -> u64 {
        self.state.lock().position().offset
    }
    /// Applies a batch of the view.
    pub async fn apply(&mut self, stored: Stored) -> Result<(), ViewError> {
        let state = self.state.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut state = state.lock();
            if let Some(body) = stored.body(Topic::Events, state.position().partition)? {
                state.apply(stored.first, stored.header().count, &body)?;
            }
            Ok(state.tail_rows() >= SPILL_ROWS || state.tail_bytes() >= SPILL_BYTES)
        });
        let is_full = work.await.unwrap_or(Err(ViewError::ShutDown))?;
        if is_full { self.spill().await } else { Ok(()) }
    }
    /// Takes a newer definition of the entity; new fields become columns.
    pub fn define(&mut self, entity: &Entity) -> Result<(), ViewError> {
        self.state.lock().define(entity)
    }
    /// Everything before `offset` is known not to concern the view.
    pub fn advance(&mut self, offset: u64) {
        self.state.lock().advance(offset);
    }
    async fn spill(&mut self) -> Result<(), ViewError> {
        let Some(plan) = self.state.lock().prepare()? else { return Ok(()) };
        let memory = &self.view.memory.all;
        self.deleted.extend(deleted::write(&self.view.deleted_place, &plan.tombstones, memory).await?);
        let written = write_parts(&self.view.place, &plan, memory).await?;
        // No version of the table names these files, so nobody reads them.
        self.gone.extend(plan.files.iter().map(|(_, f)| f.file.clone()));
        let mut state = self.state.lock();
        state.finish(plan, written, None);
        (0..SHARDS).for_each(|shard| state.settle(shard));
        Ok(())
    }
    /// Puts the new files in place of the view's own, in one commit. Both must stand at the same position, and no event
    /// may be applied to the view meanwhile.
    pub async fn commit(mut self, log: &dyn Log) -> Result<Flushed, ViewError> {
        match self.swap(log).await {
            Ok(flushed) => Ok(flushed),
            Err(FlushError::Before(error)) => {
                self.abandon().await;
                Err(error)
            }
            Err(FlushError::Commit(error)) => {
                self.view.state.lock().stop(error.clone());
                Err(error)
            }
        }
    }
    async fn swap(&mut self, log: &dyn Log) -> Result<Flushed, FlushError> {
        let view = self.view.clone();
        let before = FlushError::Before;
        let mut disk = view.own_tables().map_err(before)?.lock().await;
        self.state.lock().define(&view.with_state(|s| s.entity.clone())).map_err(before)?;
        self.spill().await.map_err(before)?;
        // A table must not be ahead of the log after a power cut.
        log.sync().await.map_err(|e| before(e.into()))?;
        let (position, deleted) = view.with_state(|s| (s.position(), s.standing.deleted));
        let (mut standing, schema, add) = {
            let state = self.state.lock();
            let add: Vec<_> = state.files.values().map(|f| f.file.clone()).collect();
            (state.standing.clone(), state.columns.schema.clone(), add)
        };
        if position != standing.position {
            let reason = format!("the rebuild stands at {}, the view at {position}", standing.position);
            return Err(before(ViewError::Table { table: view.place.name().to_owned(), reason }));
        }
        standing.deleted = deleted;
        let remove = disk.main.files().map_err(before)?;
        let (rows, files, bytes) = (add.iter().map(|f| f.rows).sum(), add.len(), add.iter().map(|f| f.bytes).sum());
        let change = Change { schema: Some(schema), add, remove, ..Change::default() };
        let tombstones = std::mem::take(&mut self.deleted);
        let deleted = disk.commit(&standing, change, None, tombstones, &view.memory.all).await?;
        let now = Instant::now();
        let path = |file: &TableFile| -> Path { view.place.file(&file.name) };
        disk.gone.extend(self.gone.iter().map(|file| (now, path(file))));
        let (mut state, mut own) = (view.state.lock(), self.state.lock());
        own.succeed(&mut state);
        own.standing.deleted = deleted;
        std::mem::swap(&mut *state, &mut *own);
        Ok(Flushed { version: disk.main.version(), position, rows, files, bytes })
    }
    /// Gives up and deletes what was written.
    pub async fn abandon(self) {
        let written: Vec<_> = self.state.lock().files.values().map(|f| f.file.clone()).collect();
        discard(&self.view.place, &written).await;
        discard(&self.view.place, &self.gone).await;
        discard(&self.view.deleted_place, &self.deleted).await;
    }
}
