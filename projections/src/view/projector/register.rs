//! Which views are open: opening them at the partition's position, closing them, and their definitions in the store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use parking_lot::Mutex;
use pipeline::definitions::{self, DefinitionError};
use pipeline::{Expect, StoreError, Stored, Table};
use schemas::{BatchKind, Entity, EntityName, Position, TenantId, Topic};

use super::fold::key_of;
use super::{Duty, Incomplete, Loading, Shared, Slot, ViewKey};
use crate::view::View;
use crate::view::error::ViewError;
use crate::view::marks::Standing;
use crate::view::rebuild::{SPILL_BYTES, SPILL_ROWS};

pub(super) const CATCH_UP_BYTES: usize = 4 << 20;

/// What the store keeps of a view.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) struct Note {
    /// The view has no event before.
    pub(super) since: u64,
    /// Whether its table was committed while it was being caught up: from its position on it may lack events, wherever the
    /// partition's checkpoint stands.
    #[serde(default)]
    pub(super) is_partial: bool,
}

impl Note {
    fn to_bytes(self) -> Bytes {
        serde_json::to_vec(&self).expect("a note has no map keys that are not text").into()
    }
}

impl Shared {
    /// The definition in force.
    pub(super) async fn entity(&self, tenant: TenantId, name: &EntityName) -> Result<Option<Entity>, ViewError> {
        let Some(row) = self.store.get(tenant, Table::Entities, name.as_str()).await? else { return Ok(None) };
        read_entity(name, &row.value).map(Some)
    }
    /// Whether a table is the entity's own; another one may have been defined with it behind the front door's back.
    async fn owns_table(&self, tenant: TenantId, entity: &Entity) -> Result<bool, ViewError> {
        match definitions::claim_table(&*self.store, tenant, entity).await {
            Ok(()) => Ok(true),
            Err(DefinitionError::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::error!(%tenant, entity = %entity.entity, %error, "a definition is ignored");
                Ok(false)
            }
        }
    }
    /// Merges a definition into the one in force, in the store and in the open view.
    pub(super) async fn define(&self, tenant: TenantId, entity: Entity) -> Result<(), ViewError> {
        let name = entity.entity.clone();
        let merged = loop {
            let row = self.store.get(tenant, Table::Entities, name.as_str()).await?;
            let merged = match &row {
                None => {
                    if !self.owns_table(tenant, &entity).await? {
                        return Ok(());
                    }
                    entity.clone()
                }
                Some(row) => match read_entity(&name, &row.value)?.evolve(&entity) {
                    Ok(merged) => merged,
                    Err(error) => {
                        tracing::error!(%tenant, entity = %name, %error, "a definition does not fit and is ignored");
                        return Ok(());
                    }
                },
            };
            let text = merged.text();
            let expect = match row {
                Some(row) if row.value == text.as_bytes() => break merged,
                Some(row) => Expect::Version(row.version),
                None => Expect::Absent,
            };
            match self.store.put(tenant, Table::Entities, name.as_str(), Bytes::from(text), expect).await {
                Ok(_) => break merged,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let open = self.views.lock().get(&(tenant, name)).cloned();
        if let Some(slot) = open
            && let Err(error) = slot.view.define(&merged)
        {
            tracing::error!(%tenant, entity = %slot.view.entity(), %error, "a view cannot take a definition");
        }
        Ok(())
    }
    /// The view, if it is open.
    fn find(&self, key: &ViewKey) -> Option<Arc<Slot>> {
        let slot = self.views.lock().get(key).cloned()?;
        slot.used.store(self.turn(), Ordering::Relaxed);
        Some(slot)
    }
    /// The view, opened if need be. The caller holds the partition's gate; `at` is the next event to apply.
    pub(super) async fn open(self: &Arc<Self>, number: u32, key: &ViewKey, at: u64) -> Result<Arc<Slot>, ViewError> {
        if let Some(slot) = self.find(key) {
            return Ok(slot);
        }
        let started = Instant::now();
        let view = self.load(number, key, at).await?;
        self.catch_up(number, key, &view, at).await?;
        self.note_empty(key, &view, at).await?;
        self.list(number, key, view, started)
    }
    /// The view, opened if need be. Its tables are read without the gate, so that other views of the partition go on.
    pub(super) async fn open_apart(self: &Arc<Self>, number: u32, key: &ViewKey) -> Result<Arc<Slot>, ViewError> {
        if let Some(slot) = self.find(key) {
            return Ok(slot);
        }
        let loading = self.loading(number, key);
        let _turn = loading.turn.lock().await;
        self.open_in_turn(number, key, &loading).await
    }
    /// The same, for who has the turn.
    pub(super) async fn open_in_turn(
        self: &Arc<Self>,
        number: u32,
        key: &ViewKey,
        loading: &Loading,
    ) -> Result<Arc<Slot>, ViewError> {
        if let Some(slot) = self.find(key) {
            return Ok(slot);
        }
        let (started, partition) = (Instant::now(), self.partition(number));
        loading.is_stale.store(false, Ordering::Release);
        let at = *partition.position.borrow();
        let view = async {
            let permit = self.loads.acquire().await.map_err(|_| ViewError::ShutDown)?;
            let view = self.load(number, key, at).await?;
            drop(permit);
            self.catch_up(number, key, &view, at).await?;
            Ok::<_, ViewError>(view)
        };
        let view = view.await;
        let gate = partition.gate.lock().await;
        if let Some(slot) = self.find(key) {
            return Ok(slot);
        }
        if loading.is_stale.load(Ordering::Acquire) {
            // Somebody opened it, wrote to its tables and closed it.
            return self.open(number, key, *gate).await;
        }
        let view = view?;
        // What was defined meanwhile reached the open views only.
        if let Some(entity) = self.entity(key.0, &key.1).await? {
            view.define(&entity)?;
        }
        self.catch_up(number, key, &view, *gate).await?;
        self.note_empty(key, &view, *gate).await?;
        self.list(number, key, view, started)
    }
    /// What those share who open a view at the same time.
    pub(super) fn loading(&self, number: u32, key: &ViewKey) -> Arc<Loading> {
        let mut all = self.partition(number).loading.lock();
        if let Some(loading) = all.get(key).and_then(Weak::upgrade) {
            return loading;
        }
        all.retain(|_, loading| loading.strong_count() > 0);
        let loading = Arc::new(Loading::default());
        all.insert(key.clone(), Arc::downgrade(&loading));
        loading
    }
    /// Whether somebody opens, without the gate, a view whose table lacks events: what comes meanwhile is read from the log
    /// in the end.
    pub(super) fn is_left_to_who_opens(&self, number: u32, key: &ViewKey) -> bool {
        let partition = self.partition(number);
        let loading = partition.loading.lock().get(key).and_then(Weak::upgrade);
        loading.is_some_and(|loading| loading.turn.try_lock().is_err()) && partition.incomplete.lock().contains_key(key)
    }
    /// Whoever reads the view's tables without the gate has to read them again.
    pub(super) fn outdate(&self, number: u32, key: &ViewKey) {
        let all = self.partition(number).loading.lock();
        if let Some(loading) = all.get(key).and_then(Weak::upgrade) {
            loading.is_stale.store(true, Ordering::Release);
        }
    }
    /// Reads a view's tables; if there are none, new ones hold what comes from `at` on.
    async fn load(&self, number: u32, key: &ViewKey, at: u64) -> Result<Arc<View>, ViewError> {
        if self.duty == Duty::Follow {
            return self.load_followed(number, key).await;
        }
        let (tenant, name) = key;
        let entity = self.entity(*tenant, name).await?.ok_or_else(|| ViewError::Undefined(name.clone()))?;
        let since = self.note(key, at).await?.0.since;
        let epoch = self.log.epoch(Topic::Events);
        let start = Position { epoch, partition: number, offset: since };
        let start = Standing::start(start, self.log.epoch(Topic::Inputs));
        let (grace, memory) = (self.budget.grace, self.memory.clone());
        let view = View::open_within(&self.place, *tenant, entity, start, grace, memory).await?;
        if view.is_empty() && since < at {
            // What was noted may be beyond the last commit, which then held a definition alone.
            view.advance(since);
        }
        Ok(Arc::new(view))
    }
    /// Lists a view as open. The caller holds the partition's gate.
    fn list(&self, number: u32, key: &ViewKey, view: Arc<View>, started: Instant) -> Result<Arc<Slot>, ViewError> {
        let slot = Arc::new(Slot {
            view,
            partition: number,
            used: AtomicU64::new(self.turn()),
            opened: Instant::now(),
            opening: started.elapsed(),
            is_flushing: AtomicBool::new(false),
            is_pinned: AtomicBool::new(false),
            looked: Mutex::new(Instant::now()),
        });
        let mut views = self.views.lock();
        let shares = |other: &&Arc<Slot>| other.view.folder() == slot.view.folder();
        if let Some(other) = views.values().find(shares) {
            let reason = format!("entity {} fills the table that it names", other.view.entity());
            return Err(ViewError::Definition { entity: key.1.clone(), reason });
        }
        views.insert(key.clone(), slot.clone());
        drop(views);
        self.outdate(number, key);
        self.partition(number).incomplete.lock().remove(key);
        Ok(slot)
    }
    /// What is noted of the view, and the version of the note; if nothing is, that its first event stands at `at` or later,
    /// so that a table that was deleted is folded again from there.
    async fn note(&self, key: &ViewKey, at: u64) -> Result<(Note, u64), ViewError> {
        if let Some(noted) = self.noted(key).await? {
            return Ok(noted);
        }
        let note = Note { since: at, is_partial: false };
        match self.store.put(key.0, Table::Views, &self.note_key(key), note.to_bytes(), Expect::Absent).await {
            Ok(version) => Ok((note, version)),
            // Two open it at once: what the other noted is as good.
            Err(StoreError::Conflict { .. }) => Ok((note, 0)),
            Err(error) => Err(error.into()),
        }
    }
    /// What is noted of the view, and the version of the note.
    pub(super) async fn noted(&self, key: &ViewKey) -> Result<Option<(Note, u64)>, ViewError> {
        let row = self.store.get(key.0, Table::Views, &self.note_key(key)).await?;
        // An unreadable note costs time, not rows.
        let read = |value: &[u8]| serde_json::from_slice(value).unwrap_or(Note { since: 0, is_partial: true });
        Ok(row.map(|row| (read(&row.value), row.version)))
    }
    async fn put_note(&self, key: &ViewKey, note: Note) -> Result<(), ViewError> {
        self.store.put(key.0, Table::Views, &self.note_key(key), note.to_bytes(), Expect::Any).await?;
        Ok(())
    }
    /// Under which the store has a view's note. It is one of this table.
    fn note_key(&self, (_, name): &ViewKey) -> String {
        format!("{name}{}", self.place.mark())
    }
    /// Notes that a view without rows has no events before `at`, so that nobody looks for them again. The caller holds the
    /// partition's gate.
    async fn note_empty(&self, key: &ViewKey, view: &View, at: u64) -> Result<(), ViewError> {
        if self.duty == Duty::Follow || !view.is_empty() {
            return Ok(());
        }
        let (note, version) = self.note(key, at).await?;
        if note.since >= at || note.is_partial {
            return Ok(());
        }
        let value = Note { since: at, is_partial: false }.to_bytes();
        match self.store.put(key.0, Table::Views, &self.note_key(key), value, Expect::Ordered(version)).await {
            // Who works on the partition by now may have noted that its table is partial: that stays.
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
    /// Deletes the tables of a view that is not open. It is folded from zero when it is opened.
    pub(super) async fn delete_tables(&self, number: u32, key: &ViewKey) -> Result<(), ViewError> {
        let (tenant, name) = key;
        let partition = self.partition(number);
        let _gate = partition.gate.lock().await;
        let entity = self.entity(*tenant, name).await?.ok_or_else(|| ViewError::Undefined(name.clone()))?;
        self.outdate(number, key);
        partition.incomplete.lock().insert(key.clone(), Incomplete { complete: 0, failed: None });
        self.put_note(key, Note { since: 0, is_partial: false }).await?;
        for place in [self.place.table(*tenant, &entity.table), self.place.deleted(*tenant, &entity.table)] {
            let fail = |e: object_store::Error| ViewError::io(place.name(), &e);
            let listed: Vec<_> = place.views.list(Some(&place.prefix)).try_collect().await.map_err(fail)?;
            for object in listed {
                place.views.delete(&object.location).await.map_err(fail)?;
            }
        }
        Ok(())
    }
    /// Brings a view that was just opened to `at`: by reading the log where its table may lack events.
    async fn catch_up(&self, number: u32, key: &ViewKey, view: &Arc<View>, at: u64) -> Result<(), ViewError> {
        if self.duty == Duty::Follow {
            return self.catch_up_followed(number, key, view, at).await;
        }
        let end = self.log.end(Topic::Events, number).await?;
        let from = view.position().offset;
        if from > end {
            return Err(ViewError::WentBack { view: from, log: end });
        }
        let partition = self.partition(number);
        let (mut note, _) = self.note(key, at).await?;
        let is_new = from == 0 || view.committed() == from && view.is_empty();
        let lacks = is_new || note.is_partial || partition.incomplete.lock().contains_key(key);
        let (mut offset, mut is_noted) = (if lacks { from } else { at }, false);
        while offset < at {
            let batches = self.log.read(Topic::Events, number, offset, CATCH_UP_BYTES).await?;
            let Some(last) = batches.last() else { break };
            offset = last.end();
            let (caught_up, own) = (view.clone(), key.clone());
            let work = tokio::task::spawn_blocking(move || apply_own(number, &own, &caught_up, &batches, at));
            work.await.unwrap_or(Err(ViewError::ShutDown))?;
            let load = view.load();
            if load.tail_rows >= SPILL_ROWS || load.tail_bytes >= SPILL_BYTES {
                // Anew where it is partial already: what one before this one may have under way there is too late then.
                if !is_noted {
                    (note.is_partial, is_noted) = (true, true);
                    self.put_note(key, note).await?;
                }
                view.flush(self.log.clone()).await?;
            }
        }
        view.advance(at);
        if note.is_partial {
            view.flush(self.log.clone()).await?;
            self.put_note(key, Note { is_partial: false, ..note }).await?;
        }
        Ok(())
    }
    /// Forgets a view that has stopped because of its table, so that it is opened again; its rows come from the log.
    pub(super) fn drop_stopped(&self, slot: &Arc<Slot>, error: &ViewError) {
        let key = slot.key();
        let failed = (!error.passes()).then(Instant::now);
        let mut views = self.views.lock();
        if views.get(&key).is_some_and(|open| Arc::ptr_eq(open, slot)) {
            let incomplete = Incomplete { complete: slot.view.committed(), failed };
            if self.duty == Duty::Write {
                self.partition(slot.partition).incomplete.lock().insert(key.clone(), incomplete);
            }
            views.remove(&key);
        }
    }
    /// Closes a view that holds nothing which its table lacks. The caller holds the partition's gate.
    pub(super) fn close(&self, slot: &Arc<Slot>) -> bool {
        let is_busy = slot.is_flushing.load(Ordering::Acquire) || slot.is_pinned.load(Ordering::Acquire);
        let is_needed = match self.duty {
            Duty::Write => !slot.view.is_idle(),
            Duty::Follow => slot.view.is_watched(),
        };
        if is_busy || is_needed {
            return false;
        }
        self.views.lock().remove(&slot.key());
        true
    }
}

/// Applies what a view has among the batches before `at`.
fn apply_own(number: u32, key: &ViewKey, view: &View, batches: &[Stored], at: u64) -> Result<(), ViewError> {
    for stored in batches.iter().filter(|s| s.first < at && s.header().kind == BatchKind::Rows) {
        if key_of(stored).as_ref() == Some(key)
            && let Some(body) = stored.body(Topic::Events, number)?
        {
            view.apply(stored.first, stored.header().count, &body)?;
        }
    }
    Ok(())
}

fn read_entity(name: &EntityName, value: &[u8]) -> Result<Entity, ViewError> {
    serde_json::from_slice(value).map_err(|e| ViewError::Definition { entity: name.clone(), reason: e.to_string() })
}
