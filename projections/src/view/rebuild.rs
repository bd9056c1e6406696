//! A rebuild: the view is folded from zero beside itself, then one commit puts the new files in place of the old.

use std::sync::Arc;
use std::time::Instant;

use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::error::ViewError;
use super::state::State;
use super::{Applied, Flushed, Standing, View, write_parts};

/// Rows are written to files when so many are in memory.
const SPILL_ROWS: usize = 256 << 10;

/// A view that is being folded from zero; its files lie in the view's folder and no version of the table names them
/// yet.
pub struct Rebuild {
    view: Arc<View>,
    state: State,
    gone: Vec<Path>,
}

impl Rebuild {
    /// Starts at event 0 of the view's partition.
    pub fn new(view: Arc<View>) -> Result<Self, ViewError> {
        let (entity, schema, standing) =
            view.with_state(|s| (s.entity.clone(), s.columns.schema.clone(), s.standing.clone()));
        let mut position = standing.position;
        position.offset = 0;
        let state = State::new(entity, schema, Standing::start(position, standing.input_epoch))?;
        Ok(Self { view, state, gone: Vec::new() })
    }
    /// The next event to apply.
    pub fn position(&self) -> u64 {
        self.state.position().offset
    }
    /// Applies a batch of the view.
    pub async fn apply(&mut self, first: u64, count: u32, body: &[u8]) -> Result<Applied, ViewError> {
        let applied = self.state.apply(first, count, body)?;
        if self.state.tail.rows() >= SPILL_ROWS {
            self.spill().await?;
        }
        Ok(applied)
    }
    /// Everything before `offset` is known not to concern the view.
    pub fn advance(&mut self, offset: u64) {
        self.state.advance(offset);
    }
    async fn spill(&mut self) -> Result<(), ViewError> {
        let Some(mut plan) = self.state.prepare()? else { return Ok(()) };
        let parts = write_parts(&self.view.place, &plan).await?;
        let tombstones = std::mem::take(&mut plan.tombstones);
        // No version of the table names these files, so nobody reads them.
        self.gone.extend(plan.files.iter().map(|(_, f)| self.view.place.file(&f.file.name)));
        self.state.finish(plan, parts, None);
        self.state.tombstones = tombstones;
        Ok(())
    }
    /// Puts the new files in place of the view's own, in one commit. Both must stand at the same position, and no event
    /// may be applied to the view meanwhile.
    pub async fn commit(mut self) -> Result<Flushed, ViewError> {
        let view = self.view.clone();
        let mut disk = view.disk.lock().await;
        self.state.define(&view.with_state(|s| s.entity.clone()))?;
        self.spill().await?;
        let (position, deleted) = view.with_state(|s| (s.position(), s.standing.deleted));
        if position != self.state.position() {
            let reason = format!("the rebuild stands at {}, the view at {position}", self.state.position());
            return Err(ViewError::Table { table: view.place.name().to_owned(), reason });
        }
        let mut plan = self.state.plan_all();
        plan.standing.deleted = deleted;
        let add: Vec<_> = self.state.files.values().map(|f| f.file.clone()).collect();
        let remove = disk.main.files()?;
        let (rows, files, bytes) = (add.iter().map(|f| f.rows).sum(), add.len(), add.iter().map(|f| f.bytes).sum());
        let deleted = match disk.commit(&plan, add, remove, true).await {
            Ok(deleted) => deleted,
            Err(error) => {
                view.state.lock().stop(error.clone());
                return Err(error);
            }
        };
        let now = Instant::now();
        disk.gone.extend(std::mem::take(&mut self.gone).into_iter().map(|path| (now, path)));
        let mut state = view.state.lock();
        self.state.succeed(&mut state);
        self.state.standing.deleted = deleted;
        *state = self.state;
        Ok(Flushed { version: disk.main.version(), position, rows, files, bytes })
    }
    /// Gives up and deletes what was written.
    pub async fn abandon(self) {
        let written = self.state.files.values().map(|f| self.view.place.file(&f.file.name));
        for path in written.chain(self.gone) {
            // What stays is swept when the view is opened again.
            let _ = self.view.place.views.delete(&path).await;
        }
    }
}
