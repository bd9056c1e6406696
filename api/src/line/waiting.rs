//! Waiting for what the roles have done.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::bail;
use schemas::{EntityName, Position, TenantId, Topic};

use super::Line;
use crate::roles::Role;

/// A command does not wait for a disk that is full.
#[derive(Debug, thiserror::Error)]
#[error(
    "not everything on the log is in its views yet: {0}; what was acknowledged is kept, free space and run the command again"
)]
pub struct Stalled(String);

/// A case goes from suspicion to rows in fewer rounds; with more, others keep the partition busy.
const SETTLE_ROUNDS: usize = 8;

impl Line {
    /// Why a role has stopped, if one has; else why a stream that is watched is not read.
    pub fn failure(&self) -> Option<String> {
        let first = self.roles.failures.borrow().values().next().cloned();
        let folding = || self.roles.projector.failure().map(|error| format!("the projector has stopped: {error}"));
        first.or_else(folding).or_else(|| self.troubles.lock().values().next().cloned())
    }

    /// Waits for the work of a role, until that role has stopped; a command's line also until one does not get on.
    pub(super) async fn or_failure<T, E: Into<anyhow::Error>>(
        &self,
        role: Role,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        let mut failed = self.roles.failures.subscribe();
        tokio::select! {
            biased;
            done = work => match done {
                Ok(done) => Ok(done),
                Err(error) => match self.roles.failures.borrow().get(&role) {
                    Some(why) => bail!(why.clone()),
                    None => Err(error.into()),
                },
            },
            Ok(why) = failed.wait_for(|failures| failures.contains_key(&role)) => {
                bail!(why.get(&role).cloned().unwrap_or_default())
            }
            why = self.stalled(), if !self.is_patient => Err(Stalled(why).into()),
        }
    }

    /// Ends when a role does not get on, and says why.
    async fn stalled(&self) -> String {
        let stalls = self.roles.stalls.iter().cloned().map(|mut stall| {
            Box::pin(async move {
                let why = stall.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
                match why {
                    Some(why) => why,
                    // A role that has stopped is no role that waits.
                    None => std::future::pending().await,
                }
            })
        });
        futures::future::select_all(stalls).await.0
    }

    /// Waits until everything that stands in a partition of `inputs` now is processed.
    pub async fn wait_processed(&self, partition: u32) -> anyhow::Result<()> {
        let end = self.log.end(Topic::Inputs, partition).await?;
        let mut processed = self.roles.processed[partition as usize].clone();
        self.or_failure(Role::Processor(partition), processed.wait(end)).await
    }

    /// Waits until everything before a position of `inputs` is processed and folded into its views; false when there is
    /// no such position.
    pub async fn wait_input(&self, position: Position) -> anyhow::Result<bool> {
        let Position { epoch, partition, offset } = position;
        let is_known = epoch == self.log.epoch(Topic::Inputs)
            && partition < self.log.partitions(Topic::Inputs)
            && offset <= self.log.end(Topic::Inputs, partition).await?;
        if !is_known {
            return Ok(false);
        }
        let mut processed = self.roles.processed[partition as usize].clone();
        self.or_failure(Role::Processor(partition), processed.wait(offset)).await?;
        for partition in 0..self.log.partitions(Topic::Events) {
            self.wait_events(partition).await?;
        }
        Ok(true)
    }

    /// Waits until everything that stands on `inputs` now is processed.
    pub async fn wait_all_processed(&self) -> anyhow::Result<()> {
        for partition in 0..self.log.partitions(Topic::Inputs) {
            self.wait_processed(partition).await?;
        }
        Ok(())
    }

    /// Waits until the notes of everything that was set aside by now are kept.
    pub async fn wait_quarantined(&self) -> anyhow::Result<()> {
        self.wait_all_processed().await?;
        for (partition, kept) in self.roles.kept.iter().enumerate() {
            let end = self.log.end(Topic::Decisions, partition as u32).await?;
            let mut kept = kept.clone();
            let is_kept = async move { kept.wait_for(|next| *next >= end).await.map(|_| ()) };
            self.or_failure(Role::QuarantineKeeper(partition as u32), is_kept).await?;
        }
        Ok(())
    }

    /// Waits until the cases of everything that is processed by now are kept.
    pub async fn wait_kept(&self, partition: u32) -> anyhow::Result<()> {
        let end = self.log.end(Topic::Decisions, partition).await?;
        let mut kept = self.roles.repaired[partition as usize].kept.clone();
        self.or_failure(Role::Repairer(partition), async move { kept.wait_for(|next| *next >= end).await.map(|_| ()) })
            .await
    }

    /// Waits until what everything that is processed by now calls for is on `inputs`.
    async fn wait_repaired(&self, partition: u32) -> anyhow::Result<()> {
        let end = self.log.end(Topic::Decisions, partition).await?;
        let mut done = self.roles.repaired[partition as usize].done.clone();
        self.or_failure(Role::Repairer(partition), async move { done.wait_for(|next| *next >= end).await.map(|_| ()) })
            .await
    }

    /// Waits until everything that stands in a partition of `inputs` now is processed, and so is what the repairer sends
    /// back in for it: what is held then waits for a person or a time.
    pub async fn wait_settled(&self, partition: u32) -> anyhow::Result<()> {
        for _ in 0..SETTLE_ROUNDS {
            let end = self.log.end(Topic::Inputs, partition).await?;
            self.wait_processed(partition).await?;
            self.wait_repaired(partition).await?;
            if self.log.end(Topic::Inputs, partition).await? == end {
                return Ok(());
            }
        }
        self.wait_processed(partition).await
    }

    /// Waits until everything that stands on the log now is processed, repaired and folded into its views.
    pub async fn catch_up(&self) -> anyhow::Result<()> {
        for partition in 0..self.log.partitions(Topic::Inputs) {
            self.wait_settled(partition).await?;
        }
        for partition in 0..self.log.partitions(Topic::Events) {
            self.wait_events(partition).await?;
        }
        Ok(())
    }

    /// Waits until the views of a partition of `events` hold everything before an offset.
    pub async fn wait_folded(&self, partition: u32, offset: u64) -> anyhow::Result<()> {
        self.or_failure(Role::Projector, self.roles.projector.wait_position(partition, offset)).await
    }

    async fn wait_events(&self, partition: u32) -> anyhow::Result<()> {
        let end = self.log.end(Topic::Events, partition).await?;
        self.or_failure(Role::Projector, self.roles.projector.wait_position(partition, end)).await
    }

    pub(super) async fn wait_view(&self, tenant: TenantId, entity: &EntityName) -> anyhow::Result<()> {
        self.wait_events(self.roles.projector.partition_of(tenant, entity)).await
    }

    /// The age of the oldest record that is not in its view.
    pub async fn behind(&self) -> anyhow::Result<Duration> {
        let mut oldest = None;
        for (partition, processed) in self.roles.processed.iter().enumerate() {
            oldest = earlier(oldest, self.logged_at(Topic::Inputs, partition as u32, processed.next()).await?);
        }
        for partition in 0..self.log.partitions(Topic::Events) {
            let next = self.roles.projector.position(partition);
            oldest = earlier(oldest, self.logged_at(Topic::Events, partition, next).await?);
        }
        let since = oldest.and_then(|at| u64::try_from(at).ok()).map(|at| UNIX_EPOCH + Duration::from_micros(at));
        Ok(since.and_then(|since| since.elapsed().ok()).unwrap_or_default())
    }

    /// When the log took the item at `offset`, in microseconds since 1970 UTC; `None` behind the end.
    async fn logged_at(&self, topic: Topic, partition: u32, offset: u64) -> anyhow::Result<Option<i64>> {
        Ok(self.log.read(topic, partition, offset, 1).await?.first().map(|stored| stored.header().logged_at))
    }
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}
