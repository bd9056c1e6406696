//! Keeping views within their budget: flushes, closing, and the checkpoint that follows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::quarantine::note_foreign;
use pipeline::{Expect, StoreError, Table};
use schemas::{Position, TenantId, Topic};
use tokio::sync::watch;

use super::{Duty, Shared, Slot};
use crate::view::Load;
use crate::view::error::ViewError;

/// A flush that failed is not tried again before.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A checkpoint is written no sooner after the one before, unless something was flushed on purpose.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

impl Shared {
    /// Starts the flushes that age and budget ask for, closes views that are too many, and moves the checkpoint.
    pub(super) async fn upkeep(
        self: &Arc<Self>,
        partition: u32,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), ViewError> {
        for slot in self.open_views(Some(partition)) {
            let is_due = match self.duty {
                Duty::Write => self.is_due(&slot.view.load()),
                Duty::Follow => self.is_look_due(&slot),
            };
            if is_due {
                self.start_flush(&slot);
            }
        }
        self.relieve(partition).await;
        self.wait_within_budget(partition, shutdown).await;
        if self.duty == Duty::Follow {
            return Ok(());
        }
        let is_time = self.partition(partition).checkpointed.lock().is_none_or(|at| at.elapsed() >= CHECKPOINT_EVERY);
        if is_time { self.checkpoint(partition).await } else { Ok(()) }
    }
    /// Returns once views are within their budget, no flush is under way that could help, or `shutdown` turns true.
    async fn wait_within_budget(self: &Arc<Self>, partition: u32, shutdown: &mut watch::Receiver<bool>) {
        while self.is_over() && !*shutdown.borrow() {
            let flushed = self.flushed.notified();
            if !self.open_views(None).iter().any(|s| s.is_flushing.load(Ordering::Acquire)) {
                break;
            }
            tokio::select! {
                () = flushed => {}
                changed = shutdown.changed() => if changed.is_err() { break },
            }
            if let Some(error) = &*self.full.lock() {
                self.partition(partition).stall.send_replace(Some(error.to_string()));
            }
            self.relieve(partition).await;
        }
    }
    fn is_due(&self, load: &Load) -> bool {
        let Some(since) = load.dirty_since.filter(|_| !load.is_stopped) else { return false };
        let share = load.rows / self.budget.tail_share.max(1);
        let is_long = load.tail_rows >= self.budget.tail_rows;
        let is_large = is_long || load.tail_bytes >= self.budget.tail_bytes;
        is_large && load.tail_rows >= share || since.elapsed() >= self.budget.flush_age
    }
    /// What tails may take: what the rest leaves of the budget, but a quarter of it at least, for flushing small tails
    /// over and over makes an index no smaller.
    fn tails_max(&self) -> usize {
        let rest = self.memory.all.bytes().saturating_sub(self.memory.tails.bytes());
        self.budget.bytes.saturating_sub(rest).max(self.budget.bytes / 4)
    }
    /// Whether folding has to wait for flushes.
    pub(super) fn is_over(&self) -> bool {
        let tails_max = self.tails_max() + self.budget.bytes / 2;
        self.memory.tails.bytes() > tails_max || self.views.lock().len() > self.budget.views / 2 * 3
    }
    /// Flushes the largest tails, then closes what was not used for longest.
    async fn relieve(self: &Arc<Self>, partition: u32) {
        let excess = self.memory.tails.bytes().saturating_sub(self.tails_max());
        if excess > 0 {
            self.flush_largest(excess);
        }
        // What is followed can be closed with its tail; it is in the log.
        let flushed = if self.duty == Duty::Write { excess } else { 0 };
        let held = self.memory.all.bytes().saturating_sub(flushed);
        let many = self.views.lock().len().saturating_sub(self.budget.views);
        if held > self.budget.bytes || many > 0 {
            self.close_unused(partition, held.saturating_sub(self.budget.bytes), many).await;
        }
    }
    fn flush_largest(self: &Arc<Self>, mut excess: usize) {
        let mut views: Vec<_> = self.open_views(None).into_iter().map(|s| (s.view.load(), s)).collect();
        views.sort_by_key(|(load, _)| std::cmp::Reverse(load.tail_bytes));
        for (load, slot) in views {
            if excess == 0 || load.tail_bytes == 0 {
                break;
            }
            excess = excess.saturating_sub(load.tail_bytes);
            self.start_flush(&slot);
        }
    }
    /// Closes views of the partition until there is room for `excess` bytes and `many` views; what cannot be closed
    /// because its table lacks something is flushed, and closed another time. The view that was used last stays, however
    /// large: it would be opened again at once.
    async fn close_unused(self: &Arc<Self>, partition: u32, mut excess: usize, mut many: usize) {
        let _gate = self.partition(partition).gate.lock().await;
        let used = |slot: &Slot| slot.used.load(Ordering::Relaxed);
        let all = self.open_views(None);
        let last = all.iter().map(|slot| used(slot)).max();
        let mut views: Vec<_> = all.into_iter().filter(|slot| slot.partition == partition).collect();
        views.sort_by_key(|slot| used(slot));
        for slot in views.iter().filter(|slot| Some(used(slot)) != last && !slot.is_young()) {
            if excess == 0 && many == 0 {
                break;
            }
            let load = slot.view.load();
            let is_dirty = self.duty == Duty::Write && load.dirty_since.is_some() && !load.is_stopped;
            if is_dirty {
                self.start_flush(slot);
            }
            if is_dirty || self.close(slot) {
                excess = excess.saturating_sub(load.bytes);
                many = many.saturating_sub(1);
            }
        }
    }
    /// Flushes a view in the background, or looks what was committed to one that is followed, unless that is under way.
    fn start_flush(self: &Arc<Self>, slot: &Arc<Slot>) {
        if slot.is_flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, slot) = (self.clone(), slot.clone());
        tokio::spawn(async move {
            let permit = shared.permits.clone().acquire_owned().await;
            // Errors are told where they are handled: in `flush` and `look`.
            let is_done = match shared.duty {
                Duty::Write => shared.flush(&slot).await.is_ok(),
                Duty::Follow => shared.look(&slot).await,
            };
            drop(permit);
            if !is_done {
                tokio::time::sleep(RETRY_AFTER).await;
                shared.open_again(&slot).await;
            }
            slot.is_flushing.store(false, Ordering::Release);
            shared.flushed.notify_waiters();
        });
    }
    /// Opens a view again whose commit met another's, or may have come through or not: what it lacks is folded and flushed
    /// without waiting for further events.
    async fn open_again(self: &Arc<Self>, slot: &Slot) {
        let is_passing = self.duty == Duty::Write && slot.view.stopped().is_some_and(|error| error.passes());
        if is_passing && let Err(error) = self.open_apart(slot.partition, &slot.key()).await {
            let (tenant, entity) = slot.key();
            tracing::warn!(%tenant, %entity, %error, "a view cannot be opened again yet");
        }
    }
    /// Flushes a view and deals with what goes wrong: a view that cannot be flushed for a reason that does not pass by
    /// itself is forgotten, and others go on.
    pub(super) async fn flush(&self, slot: &Arc<Slot>) -> Result<(), ViewError> {
        let error = match slot.view.flush(self.log.clone()).await {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {
                *self.full.lock() = None;
                return Ok(());
            }
            // Told when it stopped.
            Err(error @ ViewError::Stopped(_)) => return Err(error),
            Err(error) => error,
        };
        let (tenant, entity) = slot.key();
        tracing::error!(%tenant, %entity, %error, "a view could not be flushed");
        let is_of_others = self.is_of_all(&error).await
            || matches!(error, ViewError::DiskFull | ViewError::Log(_) | ViewError::Store(_));
        if is_of_others && error.is_retryable() {
            *self.full.lock() = Some(error.clone());
        }
        // A rebuild that is under way puts a table in place that can be written again.
        if !is_of_others && !slot.is_pinned.load(Ordering::Acquire) {
            slot.view.stop(error.clone());
        }
        if slot.view.stopped().is_some() {
            self.drop_stopped(slot, &error);
        }
        Err(error)
    }
    /// Flushes every open view that `wanted` names, then moves the checkpoints. Answers the first error, after all were
    /// tried.
    pub(super) async fn flush_where(&self, wanted: impl Fn(&Slot) -> bool) -> Result<(), ViewError> {
        let mut outcome = Ok(());
        for slot in self.open_views(None).iter().filter(|slot| wanted(slot)) {
            let flushed = self.flush(slot).await;
            if outcome.is_ok() {
                outcome = flushed;
            }
        }
        for partition in 0..self.partitions.len() as u32 {
            self.checkpoint(partition).await?;
        }
        outcome
    }
    /// Writes the lowest position from which on a view's table lacks events, if it has moved. A view whose table has all
    /// that came is complete up to the gate, open or closed.
    pub(super) async fn checkpoint(&self, number: u32) -> Result<(), ViewError> {
        let partition = self.partition(number);
        *partition.checkpointed.lock() = Some(Instant::now());
        let lowest = {
            // Under the gate no view is between being opened and being listed, and none has events before it to come.
            let gate = partition.gate.lock().await;
            let open = self.open_views(Some(number));
            let lacking = open.iter().filter_map(|slot| slot.view.lacks_from());
            let incomplete = partition.incomplete.lock();
            lacking.chain(incomplete.values().map(|view| view.complete)).min().unwrap_or(*gate).min(*gate)
        };
        let mut version = partition.row.lock().await;
        if lowest <= partition.checkpoint.load(Ordering::Relaxed) {
            return Ok(());
        }
        note_foreign(&*self.log, &*self.store, Topic::Events, number).await?;
        let (key, value) = (self.checkpoint_key(number), checkpoint_value(self.log.epoch(Topic::Events), lowest));
        let expect = Expect::Ordered(*version);
        *version = match self.store.put(TenantId::SYSTEM, Table::Checkpoints, &key, value, expect).await {
            Ok(version) => version,
            Err(StoreError::Conflict { .. }) => return Err(ViewError::Overtaken(number)),
            Err(error) => return Err(error.into()),
        };
        partition.checkpoint.fetch_max(lowest, Ordering::Relaxed);
        Ok(())
    }
    /// The checkpoint that the store has, and the version of its row; 0 for none. One of another log is refused.
    pub(super) async fn stored_checkpoint(&self, number: u32) -> Result<(u64, u64), ViewError> {
        let row = self.store.get(TenantId::SYSTEM, Table::Checkpoints, &self.checkpoint_key(number)).await?;
        let Some(row) = row else { return Ok((0, 0)) };
        let (epoch, offset) = read_checkpoint(&row.value);
        if epoch.is_some_and(|epoch| epoch != self.log.epoch(Topic::Events)) {
            return Err(self.other_log(number, (epoch, offset)).await?);
        }
        Ok((offset, row.version))
    }
    /// What is said of a checkpoint that the log cannot have come to.
    pub(super) async fn other_log(
        &self,
        partition: u32,
        (epoch, offset): (Option<u32>, u64),
    ) -> Result<ViewError, ViewError> {
        let found = self.log.epoch(Topic::Events);
        let end = Position { epoch: found, partition, offset: self.log.end(Topic::Events, partition).await? };
        let views = Position { epoch: epoch.unwrap_or(found), partition, offset };
        Ok(ViewError::OtherLog { views, end })
    }
    /// Under which the store has the checkpoint of a partition. It is one of these tables.
    fn checkpoint_key(&self, partition: u32) -> String {
        format!("{}/{partition}/projector{}", Topic::Events, self.place.mark())
    }
}

/// The epoch of `events` (4 bytes) and the offset (8 bytes).
fn checkpoint_value(epoch: u32, offset: u64) -> Bytes {
    [&epoch.to_be_bytes()[..], &offset.to_be_bytes()].concat().into()
}

/// Reads it. Older ones are the offset alone, and are taken to be of the epoch that is met. One that cannot be read costs time,
/// not rows.
fn read_checkpoint(value: &[u8]) -> (Option<u32>, u64) {
    let Some((before, offset)) = value.split_last_chunk::<8>() else { return (None, 0) };
    let offset = u64::from_be_bytes(*offset);
    match <[u8; 4]>::try_from(before) {
        Ok(epoch) => (Some(u32::from_be_bytes(epoch)), offset),
        Err(_) if before.is_empty() => (None, offset),
        Err(_) => (None, 0),
    }
}
