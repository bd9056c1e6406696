//! A process that works and answers nobody, but for whether it is well.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use pipeline::payload::follow_destroyed;
use pipeline::quarantine::watch_foreign;
use pipeline::repair::Asking;
use pipeline::{Log, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::at_work::AtWork;
use super::crew::Crew;
use super::peers::shared_place;
use super::{Notes, Role, RoleName, Roster};
use crate::backends::{Backends, Opened, Patience};
use crate::line::Lag;

/// A process without doors.
pub struct Workers {
    health: Arc<Health>,
    /// Holds the data folder.
    _local: Arc<dyn Store>,
    notes: Notes,
    shutdown: watch::Sender<bool>,
    work: JoinHandle<()>,
}

/// Whether a process without doors is well, and what it does.
pub struct Health {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) at_work: AtWork,
    failures: watch::Receiver<BTreeMap<Role, String>>,
    lives: watch::Receiver<bool>,
}

impl Health {
    /// Why the process is not ready, if it is not: it does not reach its peers, a role has stopped, or one does not get on.
    pub(crate) fn trouble(&self) -> Option<String> {
        if !*self.lives.borrow() {
            return Some("it does not reach the store, or has not yet".to_owned());
        }
        let failure = self.failures.borrow().values().next().cloned();
        failure.or_else(|| self.at_work.stall())
    }

    /// How many roles have stopped in a partition.
    pub(crate) fn stopped(&self) -> usize {
        self.failures.borrow().len()
    }

    /// How far the readers here are behind.
    pub(crate) async fn lags(&self) -> anyhow::Result<Vec<Lag>> {
        let mut lags = Vec::new();
        for at in self.at_work.reached() {
            let end = self.log.end(at.topic, at.partition).await?;
            let items = end.saturating_sub(at.next);
            lags.push(Lag { role: at.reader, topic: at.topic, partition: at.partition, items });
        }
        Ok(lags)
    }
}

impl Workers {
    /// Starts the roles of `roster`, which has no doors, once log and store are there.
    pub async fn start(
        folder: &Path,
        backends: &Backends,
        roster: &Roster,
        asking: Option<Arc<Asking>>,
        patience: &Patience,
    ) -> anyhow::Result<Self> {
        let Opened { log, store, local, keys } = backends.open(folder, Some(patience)).await?;
        let (shutdown, stop) = watch::channel(false);
        let notes = Notes::new();
        let views = backends.views.as_ref().filter(|_| roster.has(RoleName::Project));
        let place = shared_place(folder, views, roster).await?;
        backends.note_views(&*local).await?;
        let foreign = watch_foreign(log.clone(), store.clone(), stop.clone());
        let crew = Crew::new((log.clone(), store), place, asking, notes.clone());
        let forgetting = follow_destroyed(keys, crew.written().dropped(), stop.clone());
        let failures = notes.failures.subscribe();
        let health = Arc::new(Health { log, at_work: crew.at_work(), failures, lives: crew.lives() });
        let Some(work) = crew.keep(roster, stop) else { bail!("--roles {}: there is nothing to do", roster.told()) };
        let work = tokio::spawn(async move {
            tokio::join!(work, foreign, forgetting);
        });
        Ok(Self { health, _local: local, notes, shutdown, work })
    }

    /// Whether it is well.
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Returns once log or store have failed for this process, and says why.
    pub async fn lost(&self) -> String {
        super::lost(&self.notes.lost).await
    }

    /// Drains what this process works on, and gives it up. Fails if a role had failed before.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.send_replace(true);
        self.work.await.context("the work on partitions ended early")?;
        self.health.log.sync().await?;
        let failure = self.notes.failures.borrow().values().next().cloned();
        match failure {
            Some(failure) => bail!(failure),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline::lease::Share;
    use pipeline::{MemoryLog, Partitions};
    use poem::{Endpoint, Request};
    use schemas::Topic;

    use super::*;
    use crate::http::workers::app;

    type Failures = watch::Sender<BTreeMap<Role, String>>;

    fn health(at_work: &AtWork) -> (Health, Failures, watch::Sender<bool>) {
        let (told, lives) = (Failures::default(), watch::Sender::new(false));
        let log = Arc::new(MemoryLog::new(Partitions { inputs: 1, events: 1, decisions: 1 }));
        let (failures, lived) = (told.subscribe(), lives.subscribe());
        (Health { log, at_work: at_work.clone(), failures, lives: lived }, told, lives)
    }

    #[tokio::test]
    async fn it_answers_operators_and_nobody_else() {
        let at_work = AtWork::default();
        let (health, _failures, lives) = health(&at_work);
        let endpoint = app(Arc::new(health), Some("a-long-enough-token"));
        let ask = async |path: &str, token: &str| {
            let request = Request::builder().uri(path.parse().unwrap()).header("authorization", token).finish();
            let mut answer = endpoint.get_response(request).await;
            (answer.status().as_u16(), answer.take_body().into_string().await.unwrap())
        };
        assert_eq!(ask("/healthz", "").await, (200, "ok\n".to_owned()));
        assert_eq!(ask("/readyz", "").await.0, 503);
        lives.send_replace(true);
        assert_eq!(ask("/readyz", "").await.0, 200);
        assert_eq!(ask("/metrics", "Bearer another-token").await.0, 401);
        let _working = at_work.begin(&Share { role: "process".into(), partition: 3 });
        let (status, metrics) = ask("/metrics", "Bearer a-long-enough-token").await;
        let told = ["autonomos_ready 1", "autonomos_leases{role=\"process\",partition=\"3\"} 1"];
        assert!(status == 200 && told.iter().all(|line| metrics.contains(line)), "{metrics}");
        assert_eq!(ask("/api/v1/lag", "Bearer a-long-enough-token").await.0, 404);
    }

    #[tokio::test]
    async fn it_is_ready_while_it_reaches_its_peers_and_everything_here_gets_on() {
        let at_work = AtWork::default();
        let (health, failures, lives) = health(&at_work);
        assert!(health.trouble().unwrap().contains("does not reach the store"));
        lives.send_replace(true);
        assert_eq!((health.trouble(), health.lags().await.unwrap()), (None, vec![]));
        let working = at_work.begin(&Share { role: "process".into(), partition: 0 });
        let stall = watch::Sender::new(Some("the disk is full".to_owned()));
        working.reads("processor", Topic::Inputs, || 0, stall.subscribe());
        assert!(health.trouble().unwrap().ends_with("the disk is full"));
        let lag = Lag { role: "processor", topic: Topic::Inputs, partition: 0, items: 0 };
        assert_eq!(health.lags().await.unwrap(), [lag]);
        stall.send_replace(None);
        failures.send_modify(|failures| _ = failures.insert(Role::Processor(0), "it has stopped".to_owned()));
        assert_eq!((health.trouble().as_deref(), health.stopped()), (Some("it has stopped"), 1));
    }
}
