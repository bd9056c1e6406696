//! Keeping views within their budget: flushes, closing, and the checkpoint that follows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::{Expect, Table};
use schemas::TenantId;

use super::fold::checkpoint_key;
use super::{Shared, Slot};
use crate::view::Load;
use crate::view::error::ViewError;

/// A flush that failed is not tried again before.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A checkpoint is written no sooner after the one before, unless something was flushed on purpose.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

impl Shared {
    /// Starts the flushes that age and budget ask for, closes views that are too many, and moves the checkpoint.
    pub(super) async fn upkeep(self: &Arc<Self>, partition: u32) -> Result<(), ViewError> {
        let mine: Vec<_> = self.open_views(Some(partition)).into_iter().map(|s| (s.view.load(), s)).collect();
        for (load, slot) in &mine {
            if self.is_due(load) {
                self.start_flush(slot);
            }
        }
        let all = self.held_bytes();
        if all > self.budget.bytes {
            self.relieve(partition, mine, all - self.budget.bytes).await;
        }
        while self.held_bytes() > self.budget.bytes / 2 * 3 {
            let flushed = self.flushed.notified();
            if !self.open_views(None).iter().any(|s| s.is_flushing.load(Ordering::Acquire)) {
                break;
            }
            flushed.await;
        }
        let is_time = self.partition(partition).checkpointed.lock().is_none_or(|at| at.elapsed() >= CHECKPOINT_EVERY);
        if is_time { self.checkpoint(partition).await } else { Ok(()) }
    }
    fn is_due(&self, load: &Load) -> bool {
        let rows_max = self.budget.tail_rows.max(load.rows / self.budget.tail_share.max(1));
        !load.is_stopped
            && load
                .dirty_since
                .is_some_and(|since| load.tail_rows >= rows_max || since.elapsed() >= self.budget.flush_age)
    }
    fn held_bytes(&self) -> usize {
        self.open_views(None).iter().map(|s| s.view.memory_bytes()).sum()
    }
    /// Flushes the largest tails of the partition, then closes what was not used for longest.
    async fn relieve(self: &Arc<Self>, partition: u32, mut views: Vec<(Load, Arc<Slot>)>, mut excess: usize) {
        views.sort_by_key(|(load, _)| std::cmp::Reverse(load.tail_bytes));
        for (load, slot) in &views {
            if excess == 0 || load.tail_bytes == 0 {
                break;
            }
            excess = excess.saturating_sub(load.tail_bytes);
            self.start_flush(slot);
        }
        if excess == 0 {
            return;
        }
        let _gate = self.partition(partition).gate.lock().await;
        views.sort_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed));
        for (load, slot) in &views {
            if excess == 0 {
                break;
            }
            if self.close(slot) {
                excess = excess.saturating_sub(load.bytes);
            }
        }
    }
    /// Flushes a view in the background, unless that is under way.
    fn start_flush(self: &Arc<Self>, slot: &Arc<Slot>) {
        if slot.is_flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, slot) = (self.clone(), slot.clone());
        tokio::spawn(async move {
            let permit = shared.permits.clone().acquire_owned().await;
            // The error is told where it is handled: in `flush`.
            let has_failed = shared.flush(&slot).await.is_err();
            drop(permit);
            if has_failed {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            slot.is_flushing.store(false, Ordering::Release);
            shared.flushed.notify_waiters();
        });
    }
    /// Flushes a view and deals with what goes wrong.
    pub(super) async fn flush(&self, slot: &Arc<Slot>) -> Result<(), ViewError> {
        let Err(error) = slot.view.flush(self.log.clone()).await else { return Ok(()) };
        let (tenant, entity) = slot.key();
        match &error {
            ViewError::Conflict { .. } | ViewError::Table { .. } | ViewError::DiskFull => {
                tracing::error!(%tenant, %entity, %error, "a view could not be flushed");
                if slot.view.stopped().is_some() {
                    self.drop_stopped(slot);
                }
            }
            // Told when it stopped.
            ViewError::Stopped(_) => {}
            _ => tracing::error!(%tenant, %entity, %error, "a view could not be flushed"),
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
    /// Writes the lowest position that an open view's table does not have, if it has moved.
    pub(super) async fn checkpoint(&self, number: u32) -> Result<(), ViewError> {
        let partition = self.partition(number);
        *partition.checkpointed.lock() = Some(Instant::now());
        let lowest = {
            // Under the gate no view is between being opened and being listed.
            let gate = partition.gate.lock().await;
            let open = self.open_views(Some(number));
            let committed = open.iter().map(|slot| slot.view.committed());
            let incomplete = partition.incomplete.lock();
            committed.chain(incomplete.values().copied()).min().unwrap_or(*gate).min(*gate)
        };
        if lowest <= partition.checkpoint.load(Ordering::Relaxed) {
            return Ok(());
        }
        let value = Bytes::copy_from_slice(&lowest.to_be_bytes());
        self.store.put(TenantId::SYSTEM, Table::Checkpoints, &checkpoint_key(number), value, Expect::Any).await?;
        partition.checkpoint.fetch_max(lowest, Ordering::Relaxed);
        Ok(())
    }
}
