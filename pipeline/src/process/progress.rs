//! How far the processor is, told to every partition of `events`: so that freshness moves even when inputs yield nothing.

use std::time::Duration;

use schemas::event::ViewControl;
use schemas::{Batch, BatchHeader, BatchKind, Position, TenantId, Topic};
use tokio::time::Instant;

use super::{Checkpoint, ProcessError};
use crate::log::{Durability, Log};
use crate::store::Store;

/// Progress is told at once when it was not told for so long, else when that time is over.
const INTERVAL: Duration = Duration::from_millis(500);

/// Tells `Progress`. It has no ordinal, is in no hash, and may be told twice.
pub(super) struct ProgressTeller {
    partition: u32,
    /// Up to where it was told.
    told: Checkpoint,
    at: Option<Instant>,
    /// How often.
    pub(super) interval: Duration,
}

impl ProgressTeller {
    pub(super) async fn start(log: &dyn Log, store: &dyn Store, partition: u32) -> Result<Self, ProcessError> {
        let told = Checkpoint::read(log, store, Topic::Inputs, partition, "progress").await?;
        Ok(Self { partition, told, at: None, interval: INTERVAL })
    }

    /// Tells that everything below `next` is processed, unless it was told lately.
    pub(super) async fn tell_if_due(
        &mut self,
        log: &dyn Log,
        store: &dyn Store,
        next: u64,
    ) -> Result<(), ProcessError> {
        if self.at.is_some_and(|at| at.elapsed() < self.interval) { Ok(()) } else { self.tell(log, store, next).await }
    }

    /// Tells it now.
    pub(super) async fn tell(&mut self, log: &dyn Log, store: &dyn Store, next: u64) -> Result<(), ProcessError> {
        if next <= self.told.offset() {
            return Ok(());
        }
        let input = Position { epoch: log.epoch(Topic::Inputs), partition: self.partition, offset: next };
        let body = serde_json::to_vec(&ViewControl::Progress { input }).expect("a control event has only text keys");
        let (kind, tenant, subject) = (BatchKind::ViewControl, TenantId::SYSTEM, String::new());
        let header = BatchHeader { kind, tenant, subject, count: 1, logged_at: 0, key_id: 0, trace: None };
        let batch = Batch { header, body: body.into() };
        for partition in 0..log.partitions(Topic::Events) {
            log.append(Topic::Events, partition, vec![batch.clone()], Durability::Ordered).await?;
        }
        self.at = Some(Instant::now());
        self.told.write(store, next).await
    }

    /// Ends when what is not told yet is due; never when there is nothing to tell.
    pub(super) fn due(&self, next: u64) -> impl Future<Output = ()> + use<> {
        let at = (next > self.told.offset()).then(|| self.at.map_or_else(Instant::now, |at| at + self.interval));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }
}
