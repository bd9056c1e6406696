//! Reading a partition of `events` and applying it to its views.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pipeline::Stored;
use schemas::event::ViewControl;
use schemas::{BatchKind, EntityName, Topic};
use tokio::sync::watch;

use super::upkeep::RETRY_AFTER;
use super::{Duty, Incomplete, Shared, Slot, ViewKey};
use crate::view::error::ViewError;
use crate::view::place::Access;

/// Packed bytes read at a time; what is applied between two looks at the budget.
const READ_BYTES: usize = 1 << 20;
/// How often an idle partition looks at the age of its tails.
const IDLE: Duration = Duration::from_millis(250);
/// How long events of a view that failed by its table do not have it opened again: that reads the table, and the log
/// from where the table ends, while the others wait. Queries open it at any time.
const REOPEN_AFTER: Duration = Duration::from_secs(60);

impl Shared {
    /// Folds a partition from its checkpoint until `shutdown` turns true.
    pub(super) async fn run_partition(
        self: &Arc<Self>,
        partition: u32,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), ViewError> {
        let mut offset = loop {
            match self.start(partition).await {
                Err(error) if error.is_retryable() && !*shutdown.borrow() => {
                    self.wait_for_room(partition, &error).await
                }
                started => break started?,
            }
        };
        while !*shutdown.borrow() {
            let batches = match self.log.read(Topic::Events, partition, offset, READ_BYTES).await {
                // Its servers may answer again.
                Err(error) if error.is_retryable() => {
                    self.wait_for_room(partition, &error.into()).await;
                    continue;
                }
                read => read?,
            };
            if batches.is_empty() {
                let ended = tokio::select! {
                    changed = shutdown.changed() => changed.is_err(),
                    beyond = self.log.wait_beyond(Topic::Events, partition, offset) => { beyond?; false }
                    () = tokio::time::sleep(IDLE) => false,
                };
                if ended {
                    break;
                }
            } else {
                match self.fold(partition, batches).await {
                    Ok(folded) => offset = folded,
                    // Applying is idempotent: the same batches are folded again once there is room.
                    Err(error) if error.is_retryable() => self.wait_for_room(partition, &error).await,
                    Err(error) => return Err(error),
                }
            }
            match self.upkeep(partition, &mut shutdown).await {
                Err(error) if error.is_retryable() => self.wait_for_room(partition, &error).await,
                outcome => {
                    outcome?;
                    self.partition(partition).stall.send_if_modified(|stall| stall.take().is_some());
                }
            }
        }
        Ok(())
    }
    /// A full disk stops nothing for good: what could not be written is tried again.
    async fn wait_for_room(&self, partition: u32, error: &ViewError) {
        tracing::warn!(partition, %error, "the projector waits and tries again");
        self.partition(partition).stall.send_replace(Some(error.to_string()));
        tokio::time::sleep(RETRY_AFTER).await;
    }
    async fn start(&self, number: u32) -> Result<u64, ViewError> {
        let partition = self.partition(number);
        let mut gate = partition.gate.lock().await;
        let offset = match self.duty {
            Duty::Write => {
                let (offset, version) = self.stored_checkpoint(number).await?;
                *partition.row.lock().await = version;
                offset
            }
            // Nothing is open yet; what is opened reads what it lacks.
            Duty::Follow => self.log.end(Topic::Events, number).await?,
        };
        let end = self.log.end(Topic::Events, number).await?;
        if offset > end {
            return Err(self.other_log(number, (None, offset)).await?);
        }
        *gate = offset;
        partition.checkpoint.store(offset, Ordering::Relaxed);
        partition.is_started.store(true, Ordering::Release);
        partition.position.send_replace(offset);
        Ok(offset)
    }
    /// Applies batches that follow the partition's position, and answers the new one.
    async fn fold(self: &Arc<Self>, number: u32, batches: Vec<Stored>) -> Result<u64, ViewError> {
        let partition = self.partition(number);
        let mut gate = partition.gate.lock().await;
        let mut offset = *gate;
        let mut work = Vec::with_capacity(batches.len());
        for stored in batches {
            offset = stored.end();
            if stored.is_forgotten() {
                continue;
            }
            match stored.header().kind {
                BatchKind::ViewControl => self.control(number, &stored).await?,
                BatchKind::Rows => {
                    if let Some(slot) = self.slot_for(number, &stored).await? {
                        work.push((slot, stored));
                    }
                }
                BatchKind::Records | BatchKind::Redriven | BatchKind::Control | BatchKind::Decisions => {
                    let reason = "it is of a kind that does not belong on events".to_owned();
                    return Err(ViewError::Control { offset: stored.first, reason });
                }
            }
        }
        if !work.is_empty() {
            let applied = tokio::task::spawn_blocking(move || apply_all(number, &work)).await;
            applied.unwrap_or(Err(ViewError::ShutDown))?;
        }
        *gate = offset;
        partition.position.send_replace(offset);
        Ok(offset)
    }
    /// The view that a batch of rows belongs to; `None` if that view has stopped.
    async fn slot_for(self: &Arc<Self>, number: u32, stored: &Stored) -> Result<Option<Arc<Slot>>, ViewError> {
        let Some(key) = key_of(stored) else {
            return Err(ViewError::Control { offset: stored.first, reason: "it names no entity".to_owned() });
        };
        if self.duty == Duty::Follow {
            return Ok(self.followed_slot(&key));
        }
        let incomplete = &self.partition(number).incomplete;
        let failed = incomplete.lock().get(&key).and_then(|view| view.failed);
        let rests = failed.is_some_and(|at| at.elapsed() < REOPEN_AFTER);
        if rests || self.is_left_to_who_opens(number, &key) {
            return Ok(None);
        }
        match self.open(number, &key, stored.first).await {
            Ok(slot) => Ok(slot.view.stopped().is_none().then_some(slot)),
            Err(error @ (ViewError::Log(_) | ViewError::Store(_))) => Err(error),
            Err(error) => {
                if self.is_of_all(&error).await {
                    // No other view can be opened either: they wait for it together.
                    return Err(error);
                }
                let (tenant, entity) = &key;
                let mut incomplete = incomplete.lock();
                // Told once, not at every batch.
                if !incomplete.contains_key(&key) {
                    tracing::error!(%tenant, %entity, %error, "a view cannot be opened; other views go on");
                }
                let missing = Incomplete { complete: stored.first, failed: None };
                incomplete.entry(key).or_insert(missing).failed = (!error.passes()).then(Instant::now);
                Ok(None)
            }
        }
    }
    /// Whether the storage of all tables cannot be used. What refuses one table alone, where others can be written, is of that
    /// one.
    pub(super) async fn is_of_all(&self, error: &ViewError) -> bool {
        error.is_of_the_storage()
            && !(matches!(error, ViewError::Denied { .. }) && self.place.check(Access::Write).await.is_ok())
    }
    async fn control(&self, number: u32, stored: &Stored) -> Result<(), ViewError> {
        let Some(body) = stored.body(Topic::Events, number)? else { return Ok(()) };
        let unreadable = |e: serde_json::Error| ViewError::Control { offset: stored.first, reason: e.to_string() };
        match serde_json::from_slice(&body).map_err(unreadable)? {
            ViewControl::Progress { input } => {
                let mut progress = self.partition(number).progress.lock();
                let known = progress.entry(input.partition).or_insert(input);
                *known = (*known).max(input);
                Ok(())
            }
            ViewControl::EntityDefined { text, .. } => {
                let entity: schemas::Entity = serde_json::from_str(&text).map_err(unreadable)?;
                match self.duty {
                    Duty::Write => self.define(stored.header().tenant, entity).await,
                    Duty::Follow => {
                        self.define_followed(stored.header().tenant, &entity);
                        Ok(())
                    }
                }
            }
        }
    }
}

fn apply_all(number: u32, work: &[(Arc<Slot>, Stored)]) -> Result<(), ViewError> {
    for (slot, stored) in work {
        let was_running = slot.view.stopped().is_none();
        let Some(body) = stored.body(Topic::Events, number)? else { continue };
        match slot.view.apply(stored.first, stored.header().count, &body) {
            Err(error) if was_running => {
                let (tenant, entity) = slot.key();
                tracing::error!(%tenant, %entity, %error, "a view stops; other views go on");
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// The view that a batch is for.
pub(super) fn key_of(stored: &Stored) -> Option<ViewKey> {
    let header = stored.header();
    Some((header.tenant, EntityName::new(&header.subject).ok()?))
}
