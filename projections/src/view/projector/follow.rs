//! Views that another process writes: opened when they are asked for, folded from the log, and brought to what that
//! process has committed. How fresh they are depends on the log alone; a projector that lags only makes tails longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::Stored;
use schemas::event::ViewControl;
use schemas::{BatchKind, Entity, Position, TenantId, Topic};

use super::fold::key_of;
use super::register::{CATCH_UP_BYTES, Note};
use super::{Shared, Slot, ViewKey};
use crate::view::error::ViewError;
use crate::view::marks::Standing;
use crate::view::{Look, View};

/// Tables that are looked at at a time.
pub(super) const LOOKS: usize = 4;
/// How long rows stay in the tail before the table is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(10);
/// A table is looked at so many times at least while files stay that have gone from it.
const LOOKS_PER_GRACE: u32 = 4;

impl Shared {
    /// The view of events that have come, if it is open. That events come is no use of it.
    pub(super) fn followed_slot(&self, key: &ViewKey) -> Option<Arc<Slot>> {
        let slot = self.views.lock().get(key).cloned();
        slot.filter(|slot| slot.view.stopped().is_none())
    }
    /// An open view takes a definition. The projector keeps it.
    pub(super) fn define_followed(&self, tenant: TenantId, entity: &Entity) {
        let open = self.views.lock().get(&(tenant, entity.entity.clone())).cloned();
        if let Some(slot) = open
            && let Err(error) = slot.view.define(entity)
        {
            tracing::error!(%tenant, entity = %entity.entity, %error, "a view cannot take a definition");
        }
    }
    /// Reads a view's tables. It stands then where nothing before can be missing.
    pub(super) async fn load_followed(&self, number: u32, key: &ViewKey) -> Result<Arc<View>, ViewError> {
        let (tenant, name) = key;
        let entity = self.entity(*tenant, name).await?.ok_or_else(|| ViewError::Undefined(name.clone()))?;
        // Before the table, so that whatever the projector does meanwhile only puts the table ahead of them.
        let (checkpoint, _) = self.stored_checkpoint(number).await?;
        let before = self.noted(key).await?;
        let start = Position { epoch: self.log.epoch(Topic::Events), partition: number, offset: 0 };
        let start = Standing::start(start, self.log.epoch(Topic::Inputs));
        let view = View::follow(&self.place, *tenant, entity, start, self.memory.clone()).await?;
        let after = self.noted(key).await?;
        match after {
            Some((Note { since, .. }, _)) if view.is_empty() => view.advance(since),
            // While it is caught up its table may lack anything behind its position.
            Some((note, _)) if note.is_partial || !is_same(before, after) => {}
            _ => view.advance(checkpoint),
        }
        Ok(Arc::new(view))
    }
    /// Brings a view that was just opened to `at`. What its table does not have yet is on the log, definitions too.
    pub(super) async fn catch_up_followed(
        &self,
        number: u32,
        key: &ViewKey,
        view: &Arc<View>,
        at: u64,
    ) -> Result<(), ViewError> {
        let end = self.log.end(Topic::Events, number).await?;
        let mut offset = view.position().offset;
        if offset > end {
            return Err(ViewError::WentBack { view: offset, log: end });
        }
        while offset < at {
            let batches = self.log.read(Topic::Events, number, offset, CATCH_UP_BYTES).await?;
            let Some(last) = batches.last() else { break };
            offset = last.end();
            let (caught_up, own) = (view.clone(), key.clone());
            let work = tokio::task::spawn_blocking(move || apply_own(number, &own, &caught_up, &batches, at));
            work.await.unwrap_or(Err(ViewError::ShutDown))?;
            if view.load().tail_bytes > self.budget.bytes / 2 {
                return Err(ViewError::Uncommitted { table: view.folder().to_owned() });
            }
        }
        view.advance(at);
        Ok(())
    }
    /// Whether a view's table is to be looked at: soon when something waits for it, and in any case before the files that
    /// the view reads can be gone.
    pub(super) fn is_look_due(&self, slot: &Slot) -> bool {
        let within = self.budget.grace / LOOKS_PER_GRACE;
        let after = if slot.view.load().dirty_since.is_some() { LOOK_AFTER.min(within) } else { within };
        slot.looked.lock().elapsed() >= after
    }
    /// Looks what was committed to a view and takes it over. A view that cannot be brought on that way is closed; it is
    /// opened anew when it is asked for. False if looking again at once would tell nothing else.
    pub(super) async fn look(&self, slot: &Arc<Slot>) -> bool {
        if slot.view.stopped().is_some() {
            // Told when it stopped. Perhaps the table is another by now.
            self.forget_followed(slot);
            return true;
        }
        // What was read of the log concerns the view or does not: it stands there now.
        let gate = *self.partition(slot.partition).gate.lock().await;
        slot.view.advance(gate);
        *slot.looked.lock() = Instant::now();
        match slot.view.look().await {
            Ok(Look::Taken) => {
                *self.full.lock() = None;
                true
            }
            Ok(Look::Other) => {
                self.forget_followed(slot);
                true
            }
            // The log could be folded up to the table only with room that the tail takes.
            Ok(Look::Ahead) if self.is_over() => {
                self.forget_followed(slot);
                *self.full.lock() = None;
                true
            }
            Ok(Look::Same | Look::Ahead) => {
                *self.full.lock() = Some(ViewError::Uncommitted { table: slot.view.folder().to_owned() });
                false
            }
            Err(error) => {
                let (tenant, entity) = slot.key();
                tracing::warn!(%tenant, %entity, %error, "what was committed to a view cannot be read");
                if error.is_retryable() {
                    *self.full.lock() = Some(error);
                } else {
                    self.forget_followed(slot);
                }
                false
            }
        }
    }
    fn forget_followed(&self, slot: &Arc<Slot>) {
        let (key, mut views) = (slot.key(), self.views.lock());
        if views.get(&key).is_some_and(|open| Arc::ptr_eq(open, slot)) {
            views.remove(&key);
        }
    }
}

/// Whether nobody wrote a note in between.
fn is_same(before: Option<(Note, u64)>, after: Option<(Note, u64)>) -> bool {
    before.map(|(_, version)| version) == after.map(|(_, version)| version)
}

/// Applies what a view has among the batches before `at`.
fn apply_own(number: u32, key: &ViewKey, view: &View, batches: &[Stored], at: u64) -> Result<(), ViewError> {
    for stored in batches.iter().filter(|s| s.first < at && key_of(s).as_ref() == Some(key)) {
        let Some(body) = stored.body(Topic::Events, number)? else { continue };
        match stored.header().kind {
            BatchKind::Rows => _ = view.apply(stored.first, stored.header().count, &body)?,
            BatchKind::ViewControl => {
                let unreadable =
                    |e: serde_json::Error| ViewError::Control { offset: stored.first, reason: e.to_string() };
                if let ViewControl::EntityDefined { text, .. } = serde_json::from_slice(&body).map_err(unreadable)? {
                    view.define(&serde_json::from_str(&text).map_err(unreadable)?)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
