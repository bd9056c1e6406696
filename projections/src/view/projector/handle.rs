//! What queries, commands and the ingest's end hold of the projector.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipeline::Table;
use schemas::ids::EntityName;
use schemas::{BatchKind, Entity, Position, TenantId, Topic};
use tokio::sync::watch;

use super::fold::key_of;
use super::{Partition, Shared, Slot, ViewKey};
use crate::snapshot::ViewSnapshot;
use crate::view::error::ViewError;
use crate::view::rebuild::Rebuild;
use crate::view::{Flushed, View};

const REBUILD_BYTES: usize = 4 << 20;
const ENTITIES_AT_A_TIME: usize = 256;

/// A clonable handle of the projector.
#[derive(Clone)]
pub struct ProjectorHandle {
    shared: Arc<Shared>,
}

/// A view as `views list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableInfo {
    /// The entity.
    pub entity: EntityName,
    /// The table's name in SQL.
    pub table: String,
    /// Rows that count.
    pub rows: usize,
    /// Those of them that are in no file yet.
    pub tail_rows: usize,
    /// Files of the table.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes in memory.
    pub memory_bytes: usize,
    /// The next event that it will apply.
    pub position: Position,
    /// Why it has stopped, if it has.
    pub stopped: Option<String>,
}

/// What all open views hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Open views.
    pub open: usize,
    /// Views that take no more events, or could not be opened when events came for them.
    pub stopped: usize,
    /// Rows and deleted keys that are in no file yet.
    pub tail_rows: usize,
    /// Their bytes.
    pub tail_bytes: usize,
    /// Bytes in memory: tails, indexes, and what flushes and rebuilds hold.
    pub memory_bytes: usize,
}

impl ProjectorHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
    /// The URL of the folder of all views.
    pub fn url(&self) -> &url::Url {
        self.shared.place.url()
    }
    /// The partition of `events` that carries a view.
    pub fn partition_of(&self, tenant: TenantId, entity: &EntityName) -> u32 {
        self.shared.partition_of(tenant, entity)
    }
    /// The definitions of a tenant's entities.
    pub async fn entities(&self, tenant: TenantId) -> Result<Vec<Entity>, ViewError> {
        let mut entities = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let store = &self.shared.store;
            let rows = store.scan(tenant, Table::Entities, "", after.as_deref(), ENTITIES_AT_A_TIME).await?;
            let Some((last, _)) = rows.last() else { return Ok(entities) };
            after = Some(last.clone());
            for (name, row) in rows {
                let unreadable =
                    |reason: String| ViewError::Control { offset: 0, reason: format!("entity {name}: {reason}") };
                entities.push(serde_json::from_slice(&row.value).map_err(|e| unreadable(e.to_string()))?);
            }
        }
    }
    /// The view, opened if need be; `None` if the tenant has no such entity.
    pub async fn view(&self, tenant: TenantId, entity: &EntityName) -> Result<Option<Arc<View>>, ViewError> {
        Ok(self.slot(tenant, entity).await?.map(|slot| slot.view.clone()))
    }
    async fn slot(&self, tenant: TenantId, entity: &EntityName) -> Result<Option<Arc<Slot>>, ViewError> {
        let shared = &self.shared;
        let key: ViewKey = (tenant, entity.clone());
        let is_open = shared.views.lock().contains_key(&key);
        if !is_open {
            let number = shared.partition_of(tenant, entity);
            shared.check_running(number)?;
            // Opened at position 0, a view that has to be read from the log would be taken for complete.
            self.wait(number, |shared| shared.partition(number).is_started.load(Ordering::Acquire)).await?;
            if shared.entity(tenant, entity).await?.is_none() {
                return Ok(None);
            }
        }
        shared.open_apart(shared.partition_of(tenant, entity), &key).await.map(Some)
    }
    /// The view as it is; `None` if the tenant has no such entity. With `at`, once it stands there or beyond.
    pub async fn snapshot(
        &self,
        tenant: TenantId,
        entity: &EntityName,
        at: Option<u64>,
    ) -> Result<Option<Arc<ViewSnapshot>>, ViewError> {
        if let Some(offset) = at {
            self.wait_position(self.partition_of(tenant, entity), offset).await?;
        }
        let Some(slot) = self.slot(tenant, entity).await? else { return Ok(None) };
        match slot.view.snapshot() {
            Err(ViewError::Stopped(why)) if matches!(*why, ViewError::FileGone { .. } | ViewError::FileCut { .. }) => {
                // A reader found it out. What the table says now is told, whatever that is.
                self.shared.drop_stopped(&slot, &why);
                let Some(slot) = self.slot(tenant, entity).await? else { return Ok(None) };
                slot.view.snapshot().map(Some)
            }
            snapshot => snapshot.map(Some),
        }
    }
    /// All views of a tenant; closed ones are opened.
    pub async fn tables(&self, tenant: TenantId) -> Result<Vec<TableInfo>, ViewError> {
        let mut tables = Vec::new();
        for entity in self.entities(tenant).await? {
            if let Some(slot) = self.slot(tenant, &entity.entity).await? {
                tables.push(slot.view.info());
            }
        }
        Ok(tables)
    }
    /// What the open views hold together; none is opened for it.
    pub fn holdings(&self) -> Holdings {
        let open = self.shared.open_views(None);
        let closed = |key: &ViewKey| !open.iter().any(|slot| slot.key() == *key);
        let incomplete = |p: &Partition| p.incomplete.lock().keys().filter(|key| closed(key)).count();
        let memory_bytes = self.shared.memory.all.bytes();
        let mut held = Holdings { open: open.len(), memory_bytes, ..Holdings::default() };
        held.stopped = self.shared.partitions.iter().map(incomplete).sum();
        for load in open.iter().map(|slot| slot.view.load()) {
            held.stopped += usize::from(load.is_stopped);
            held.tail_rows += load.tail_rows;
            held.tail_bytes += load.tail_bytes;
        }
        held
    }
    /// Whether this process writes the views, and does not only follow who does.
    pub fn writes(&self) -> bool {
        self.shared.check_writes().is_ok()
    }
    /// Flushes one view of a tenant, or all of them.
    pub async fn flush(&self, tenant: TenantId, entity: Option<&EntityName>) -> Result<(), ViewError> {
        self.shared.check_writes()?;
        let wanted = |s: &Slot| s.view.tenant() == tenant && entity.is_none_or(|e| s.view.entity() == e);
        self.shared.flush_where(wanted).await
    }
    /// Flushes every view.
    pub async fn flush_all(&self) -> Result<(), ViewError> {
        self.shared.check_writes()?;
        self.shared.flush_where(|_| true).await
    }
    /// The next event of a partition that will be applied.
    pub fn position(&self, partition: u32) -> u64 {
        *self.shared.partition(partition).position.borrow()
    }
    /// Up to where the tables have every event of a partition, as the checkpoint of whoever writes them says.
    pub async fn in_tables(&self, partition: u32) -> Result<u64, ViewError> {
        self.shared.stored_checkpoint(partition).await.map(|(offset, _)| offset)
    }
    /// Why a partition is folded no more; the first of them.
    pub fn failure(&self) -> Option<ViewError> {
        self.shared.partitions.iter().find_map(|partition| partition.failed.lock().clone())
    }
    /// Why each partition does not get on, as long as it does not.
    pub fn stalls(&self) -> Vec<watch::Receiver<Option<String>>> {
        self.shared.partitions.iter().map(|partition| partition.stall.subscribe()).collect()
    }
    /// Returns once every event of the partition below `offset` is applied.
    pub async fn wait_position(&self, partition: u32, offset: u64) -> Result<(), ViewError> {
        self.wait(partition, |shared| *shared.partition(partition).position.borrow() >= offset).await
    }
    /// How far the inputs of each partition have come in a partition of `events`: the next input to be processed.
    pub fn progress(&self, partition: u32) -> BTreeMap<u32, Position> {
        self.shared.partition(partition).progress.lock().clone()
    }
    async fn wait(&self, partition: u32, reached: impl Fn(&Shared) -> bool) -> Result<(), ViewError> {
        let mut position = self.shared.partition(partition).position.subscribe();
        loop {
            position.mark_unchanged();
            if reached(&self.shared) {
                return Ok(());
            }
            self.shared.check_running(partition)?;
            position.changed().await.map_err(|_| ViewError::ShutDown)?;
        }
    }

    /// Folds a view from zero into new files, which one commit then puts in place of the old; the view goes on
    /// meanwhile. A view whose table cannot be opened is deleted and folded again. `None` if the tenant has no such
    /// entity.
    pub async fn rebuild(&self, tenant: TenantId, entity: &EntityName) -> Result<Option<Flushed>, ViewError> {
        self.shared.check_writes()?;
        let slot = match self.slot(tenant, entity).await {
            Ok(None) => return Ok(None),
            Ok(Some(slot)) => slot,
            Err(error) if error.is_of_the_table() => self.open_anew(tenant, entity).await?,
            Err(error) => return Err(error),
        };
        slot.is_pinned.store(true, Ordering::Release);
        let handle = self.clone();
        // A caller that goes away must not leave the view pinned.
        let work = tokio::spawn(async move {
            let outcome = handle.rebuild_slot(&slot).await;
            slot.is_pinned.store(false, Ordering::Release);
            outcome
        });
        work.await.unwrap_or(Err(ViewError::ShutDown)).map(Some)
    }
    async fn rebuild_slot(&self, slot: &Arc<Slot>) -> Result<Flushed, ViewError> {
        let (shared, number) = (&self.shared, slot.partition);
        let partition = shared.partition(number);
        let mut rebuild = Rebuild::new(slot.view.clone())?;
        let outcome = async {
            let target = *partition.position.borrow();
            self.refold(&mut rebuild, slot, target).await?;
            let gate = partition.gate.lock().await;
            self.refold(&mut rebuild, slot, *gate).await?;
            let is_listed = shared.views.lock().get(&slot.key()).is_some_and(|open| Arc::ptr_eq(open, slot));
            if !is_listed {
                // It stopped and was opened again; that one has the table now.
                return Err(ViewError::Conflict { table: slot.view.table() });
            }
            slot.view.advance(*gate);
            Ok(gate)
        };
        match outcome.await {
            // The gate is held until the new files are in place.
            Ok(_gate) => {
                let committed = rebuild.commit(&*shared.log).await;
                if let Err(error) = &committed
                    && slot.view.stopped().is_some()
                {
                    shared.drop_stopped(slot, error);
                }
                committed
            }
            Err(error) => {
                rebuild.abandon().await;
                Err(error)
            }
        }
    }
    async fn refold(&self, rebuild: &mut Rebuild, slot: &Slot, to: u64) -> Result<(), ViewError> {
        let key = slot.key();
        // What stands before `to` may have fields that were defined since the rebuild began. The store knows them, even
        // if the view has stopped.
        if let Some(entity) = self.shared.entity(key.0, &key.1).await? {
            rebuild.define(&entity)?;
        }
        while rebuild.position() < to {
            let from = rebuild.position();
            let batches = self.shared.log.read(Topic::Events, slot.partition, from, REBUILD_BYTES).await?;
            let Some(last) = batches.last() else { break };
            let end = last.end().min(to);
            for stored in batches.into_iter().filter(|s| s.first < to && s.header().kind == BatchKind::Rows) {
                if key_of(&stored).as_ref() == Some(&key) {
                    rebuild.apply(stored).await?;
                }
            }
            rebuild.advance(end);
        }
        Ok(())
    }
    /// Deletes the tables of a view that cannot be opened, and opens it anew: it is folded from zero, while others go on.
    async fn open_anew(&self, tenant: TenantId, name: &EntityName) -> Result<Arc<Slot>, ViewError> {
        let (shared, key) = (&self.shared, (tenant, name.clone()));
        let number = shared.partition_of(tenant, name);
        let loading = shared.loading(number, &key);
        let _turn = loading.turn.lock().await;
        match shared.open_in_turn(number, &key, &loading).await {
            // Somebody else made it work meanwhile.
            Ok(slot) => return Ok(slot),
            Err(error) if error.is_of_the_table() => {}
            Err(error) => return Err(error),
        }
        shared.delete_tables(number, &key).await?;
        shared.open_in_turn(number, &key, &loading).await
    }
}
