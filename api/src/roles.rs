//! The only place where things are wired together: which log, which store, which roles run in this process.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use pipeline::engine::{Embedded, Partitions};
use pipeline::ingest::Ingest;
use pipeline::process::{Processed, Processor};
use pipeline::quarantine::QuarantineKeeper;
use pipeline::repair::{Repaired, Repairer};
use pipeline::{Log, Store};
use projections::sql::{QueryEngine, QueryLimits};
use projections::view::{Budget, Projector, ProjectorHandle};
use schemas::Topic;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::line::Line;

/// The roles that run in this process, and how far they are.
pub(crate) struct Roles {
    pub(crate) processed: Vec<Processed>,
    pub(crate) kept: Vec<watch::Receiver<u64>>,
    pub(crate) repaired: Vec<Repaired>,
    pub(crate) projector: ProjectorHandle,
    pub(crate) failure: watch::Sender<Option<String>>,
    shutdown: watch::Sender<bool>,
    tasks: Mutex<JoinSet<anyhow::Result<()>>>,
}

impl Line {
    /// Opens a folder, made when it is not there, and starts every role on it.
    pub async fn open(folder: &Path) -> anyhow::Result<Self> {
        Self::open_with(folder, QueryLimits::default()).await
    }

    /// Opens a folder whose queries may take so much.
    pub async fn open_with(folder: &Path, limits: QueryLimits) -> anyhow::Result<Self> {
        let engine = Embedded::open(folder, Partitions::default())?;
        let (log, store): (Arc<dyn Log>, Arc<dyn Store>) = (engine.log(), engine.store());
        let roles = Roles::start(&log, &store, folder).await?;
        let queries = QueryEngine::new(limits)?;
        let ingest = Ingest::new(log.clone(), store.clone());
        let (folder, turns) = (folder.to_owned(), Default::default());
        Ok(Self { folder, log, store, ingest, queries, roles, turns })
    }

    /// Lets every role do what is there to do, flushes every view and stops. Fails if a role had failed before, or what
    /// is on the log is not on disk; a view that could not be flushed is told in the log output and comes from the log.
    pub async fn close(&self) -> anyhow::Result<()> {
        if let Err(error) = self.catch_up().await {
            tracing::warn!(error = format!("{error:#}"), "not everything was processed before the end");
        }
        let failure = self.failure();
        self.roles.stop().await?;
        self.log.sync().await?;
        match failure {
            Some(failure) => bail!(failure),
            None => Ok(()),
        }
    }
}

impl Roles {
    async fn start(log: &Arc<dyn Log>, store: &Arc<dyn Store>, folder: &Path) -> anyhow::Result<Self> {
        let (shutdown, stop) = watch::channel(false);
        let (failure, _) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let (mut processed, mut kept, mut repaired) = (Vec::new(), Vec::new(), Vec::new());
        for partition in 0..log.partitions(Topic::Inputs) {
            let (processor, done) = Processor::start(log.clone(), store.clone(), partition).await?;
            processed.push(done);
            tasks.spawn(watched(failure.clone(), "processor", processor.run(stop.clone())));
            let (keeper, done) = QuarantineKeeper::start(log.clone(), store.clone(), partition).await?;
            kept.push(done);
            tasks.spawn(watched(failure.clone(), "quarantine keeper", keeper.run(stop.clone())));
            let (repairer, done) = Repairer::start(log.clone(), store.clone(), partition, stop.clone()).await?;
            repaired.push(done);
            tasks.spawn(watched(failure.clone(), "repairer", repairer.run()));
        }
        let views = folder.join("views");
        std::fs::create_dir_all(&views).with_context(|| format!("making {}", views.display()))?;
        let role = Projector::new(log.clone(), store.clone(), &views, Budget::default())
            .with_context(|| format!("opening {}", views.display()))?;
        let projector = role.handle();
        tasks.spawn(watched(failure.clone(), "projector", role.run(stop)));
        Ok(Self { processed, kept, repaired, projector, failure, shutdown, tasks: Mutex::new(tasks) })
    }

    /// Stops every role and waits for each; the projector flushes its views. What a role fails with now it has told.
    async fn stop(&self) -> anyhow::Result<()> {
        self.shutdown.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while let Some(ended) = tasks.join_next().await {
            _ = ended.context("a role ended early")?;
        }
        Ok(())
    }
}

/// Runs a role; its error is noted once, where everybody who waits for it can see it.
async fn watched<E: Into<anyhow::Error>>(
    failure: watch::Sender<Option<String>>,
    role: &'static str,
    work: impl Future<Output = Result<(), E>>,
) -> anyhow::Result<()> {
    work.await.map_err(|error| {
        let error: anyhow::Error = error.into();
        let error = error.context(format!("the {role} has stopped"));
        tracing::error!(error = format!("{error:#}"), "a role has stopped");
        failure.send_replace(Some(format!("{error:#}")));
        error
    })
}
