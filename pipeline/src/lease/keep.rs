//! Working on what is leased: taken up when it is taken, drained when it is given up, dropped when it is lost.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::failures::Failures;
use super::node::{Joining, LeaseError, Node, Share, Trust};

/// How the work on a share has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, and everything is put away.
    Stopped,
    /// Another process has written what only one may write, or the lease may be another's: it starts again if the lease
    /// is still there.
    Overtaken,
    /// It cannot go on in this process; another one may, and so may this one later.
    Failed,
}

/// Works on a share until it is told to stop. Dropped when the lease is lost: like a crash.
pub type Work = Arc<dyn Fn(Share, Trust, watch::Receiver<bool>) -> BoxFuture<'static, Ended> + Send + Sync>;

/// Works on what the process has by its leases, until `shutdown` says true; then it drains that and gives it up.
pub async fn keep(joining: Joining, work: Work, mut shutdown: watch::Receiver<bool>) {
    let mut beats = interval(joining.pace.beat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (running, failures, tasks) = (BTreeMap::new(), Failures::default(), JoinSet::new());
    let mut keeper = Keeper { joining, work, node: None, running, failures, tasks };
    loop {
        // What has ended is noted before the next turn: it is given up then, and nothing else in its place.
        tokio::select! {
            biased;
            _ = async { shutdown.wait_for(|stop| *stop).await.map(|_| ()) } => break,
            Some(ended) = keeper.tasks.join_next() => keeper.note(ended.ok()),
            _ = beats.tick() => keeper.turn().await,
        }
    }
    keeper.leave(beats).await;
}

/// What runs on a share.
struct Running {
    stop: watch::Sender<bool>,
    begun: Instant,
    /// How it has ended, once it has.
    ended: Option<Ended>,
}

struct Keeper {
    joining: Joining,
    work: Work,
    node: Option<Node>,
    running: BTreeMap<Share, Running>,
    failures: Failures,
    tasks: JoinSet<(Share, Ended)>,
}

impl Keeper {
    /// Says that the process lives, takes and gives up shares, and has what it has worked on.
    async fn turn(&mut self) {
        let turned = self.try_turn().await;
        self.joining.lives.send_if_modified(|lives| std::mem::replace(lives, turned.is_ok()) != turned.is_ok());
        match turned {
            Ok(()) => {}
            Err(error @ LeaseError::Lost) => {
                tracing::warn!(%error, "all work on partitions is dropped; the process joins again");
                self.node = None;
                self.tasks.shutdown().await;
                self.running.clear();
            }
            Err(LeaseError::Store(error)) => {
                tracing::warn!(%error, "the leases cannot be looked after; trying again");
            }
        }
    }

    async fn try_turn(&mut self) -> Result<(), LeaseError> {
        let limit = self.joining.pace.dead_after;
        let mut node = match self.node.take() {
            Some(node) => node,
            None => within(limit, async { Ok(Node::join(self.joining.clone()).await?) }).await?,
        };
        node.leave_alone(self.failures.left_alone((self.joining.clock)()));
        let turned = within(limit, async {
            self.put_back(&mut node).await?;
            node.turn().await
        });
        let turned = turned.await;
        // What was taken before something failed is worked on, too.
        self.begin(&node);
        self.node = Some(node);
        for share in turned? {
            if let Some(running) = self.running.get(&share) {
                running.stop.send_replace(true);
            }
        }
        Ok(())
    }

    /// Gives up what is worked on no more; what was overtaken begins again.
    async fn put_back(&mut self, node: &mut Node) -> Result<(), LeaseError> {
        let ended: Vec<(Share, Ended)> =
            self.running.iter().filter_map(|(share, running)| Some((share.clone(), running.ended?))).collect();
        for (share, ended) in ended {
            match ended {
                Ended::Overtaken => {}
                Ended::Stopped | Ended::Failed => node.release(&share).await?,
            }
            self.running.remove(&share);
        }
        Ok(())
    }

    /// Has everything worked on that the process has.
    fn begin(&mut self, node: &Node) {
        let new: Vec<Share> = node.held().filter(|share| !self.running.contains_key(*share)).cloned().collect();
        for share in new {
            tracing::info!(
                role = share.role,
                partition = share.partition,
                token = node.token(&share),
                "works on a partition"
            );
            let (stop, stopped) = watch::channel(false);
            let work = AssertUnwindSafe((self.work)(share.clone(), node.trust(), stopped)).catch_unwind();
            let of = share.clone();
            self.tasks.spawn(async move { (of, work.await.unwrap_or(Ended::Failed)) });
            self.running.insert(share, Running { stop, begun: (self.joining.clock)(), ended: None });
        }
    }

    /// Notes how the work on a share has ended; nothing of one that was dropped.
    fn note(&mut self, ended: Option<(Share, Ended)>) {
        let Some((share, ended)) = ended else { return };
        tracing::info!(role = share.role, partition = share.partition, ?ended, "works on a partition no more");
        if let Some(running) = self.running.get_mut(&share) {
            running.ended = Some(ended);
            if ended == Ended::Failed {
                self.failures.note(&share, running.begun, (self.joining.clock)());
            }
        }
    }

    /// Drains everything, and goes. Meanwhile the process goes on saying that it lives.
    async fn leave(mut self, mut beats: Interval) {
        self.running.values().for_each(|running| _ = running.stop.send_replace(true));
        let Some(mut node) = self.node.take() else { return };
        node.quit_all();
        while self.running.values().any(|running| running.ended.is_none()) {
            let beaten = tokio::select! {
                Some(ended) = self.tasks.join_next() => { self.note(ended.ok()); self.put_back(&mut node).await }
                _ = beats.tick() => within(self.joining.pace.dead_after, node.beat()).await,
            };
            match beaten {
                Ok(()) => {}
                // Others work on it by now.
                Err(LeaseError::Lost) => return self.tasks.shutdown().await,
                Err(LeaseError::Store(error)) => tracing::warn!(%error, "a lease cannot be given up; trying again"),
            }
        }
        if let Err(error) = node.leave().await {
            tracing::warn!(%error, "the leases could not be given up; others take over once they are silent for long enough");
        }
    }
}

/// The same, as long as the store answers in time: how a write under way has ended is found out at the next.
async fn within<T>(
    limit: std::time::Duration,
    work: impl Future<Output = Result<T, LeaseError>>,
) -> Result<T, LeaseError> {
    let late = || crate::store::StoreError::Unreachable("it does not answer in time".to_owned());
    timeout(limit, work).await.unwrap_or_else(|_| Err(late().into()))
}
