//! The only place where things are wired together: which log, which store, which roles run in this process.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::FutureExt;
use parking_lot::Mutex;
use pipeline::engine::{Embedded, Partitions};
use pipeline::ingest::Ingest;
use pipeline::notices::NoticeKeeper;
use pipeline::payload::{Keyring, SealedLog, SealedStore};
use pipeline::process::{Processed, Processor};
use pipeline::quarantine::QuarantineKeeper;
use pipeline::repair::{Asking, Repaired, Repairer};
use pipeline::{Log, Store};
use projections::sql::{QueryEngine, QueryLimits};
use projections::view::place::Settings as Views;
use projections::view::{Access, Budget, Place, Projector, ProjectorHandle};
use schemas::Topic;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::auth::master_key::MasterKey;
use crate::line::{Bounds, Fair, Line, VIEWED_KEPT};
use crate::serve::config;

/// Queries: how many of a tenant may wait, and how long. There are as many places as the engine has.
const ASKS: Bounds = Bounds { places: 1, waiting: 64, wait: Duration::from_secs(5) };
/// Pushes that are taken in at once: enough to share an fsync, few enough to be fair; in bytes what may wait.
const PUSHES: Bounds = Bounds { places: 16, waiting: 64 << 20, wait: Duration::from_secs(10) };
/// Exports under way: one for each tenant, and how many more of it may wait.
const EXPORTS: Bounds = Bounds { places: 8, waiting: 4, wait: Duration::from_secs(10) };
/// Suggestions of mappings under way: one for each tenant, and how many more of it may wait.
const SUGGESTS: Bounds = Bounds { places: 2, waiting: 4, wait: Duration::from_secs(10) };

/// The roles that run in this process, and how far they are.
pub(crate) struct Roles {
    pub(crate) processed: Vec<Processed>,
    pub(crate) kept: Vec<watch::Receiver<u64>>,
    pub(crate) repaired: Vec<Repaired>,
    pub(crate) noticed: Vec<watch::Receiver<u64>>,
    pub(crate) projector: ProjectorHandle,
    /// Why a role has stopped.
    pub(crate) failures: watch::Sender<BTreeMap<Role, String>>,
    /// Why a role does not get on, one for each of them.
    pub(crate) stalls: Vec<watch::Receiver<Option<String>>>,
    shutdown: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

/// What runs in a partition of its own, or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Processor(u32),
    QuarantineKeeper(u32),
    Repairer(u32),
    NoticeKeeper(u32),
    Projector,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Processor(partition) => write!(f, "processor of partition {partition}"),
            Self::QuarantineKeeper(partition) => write!(f, "quarantine keeper of partition {partition}"),
            Self::Repairer(partition) => write!(f, "repairer of partition {partition}"),
            Self::NoticeKeeper(partition) => write!(f, "notice keeper of partition {partition}"),
            Self::Projector => write!(f, "projector"),
        }
    }
}

impl Line {
    /// Opens a folder, made when it is not there, and starts every role on it: for one command, which fails when the disk
    /// is full.
    pub async fn open(folder: &Path) -> anyhow::Result<Self> {
        let views = config::views_of(folder)?;
        Self::open_with(folder, QueryLimits::default(), false, None, views.as_ref()).await
    }

    /// Opens a folder whose queries may take so much. With `is_patient`, as a server's is, what the roles have to do is
    /// waited for until a full disk has room again. A language model is asked what stays uncertain of drift, if there is one.
    /// Views lie in the folder unless another place is named.
    pub async fn open_with(
        folder: &Path,
        limits: QueryLimits,
        is_patient: bool,
        asking: Option<Arc<Asking>>,
        views: Option<&Views>,
    ) -> anyhow::Result<Self> {
        let engine = Embedded::open(folder, Partitions::default())?;
        let keys = Arc::new(keys(folder, engine.store()).await?);
        let log: Arc<dyn Log> = Arc::new(SealedLog::new(engine.log(), keys.clone()));
        let store: Arc<dyn Store> = Arc::new(SealedStore::new(engine.store(), keys.clone()));
        let roles = Roles::start(&log, &store, folder, asking.as_ref(), views).await?;
        let queries = QueryEngine::new(limits)?;
        let ingest = Ingest::new(log.clone(), store.clone());
        let (folder, turns) = (folder.to_owned(), Default::default());
        let asks = Fair::new(Bounds { places: queries.limits().concurrent, ..ASKS });
        let line = Self {
            folder,
            log,
            store,
            keys,
            ingest,
            queries,
            roles,
            turns,
            halted: Default::default(),
            troubles: Default::default(),
            panics: Default::default(),
            content_counts: Default::default(),
            quotas: Default::default(),
            asks,
            pushes: Fair::new(PUSHES),
            exports: Fair::new(EXPORTS),
            suggests: Fair::new(SUGGESTS),
            running: Default::default(),
            consumers: Default::default(),
            is_patient,
            asking,
            viewed: broadcast::Sender::new(VIEWED_KEPT),
        };
        line.finish_deletions().await?;
        pipeline::policies::finish(&*line.store, &line.ingest).await.context("telling streams of their policies")?;
        Ok(line)
    }

    /// Lets every role do what is there to do, flushes every view and stops. Fails if a role had failed before, or what
    /// is on the log is not on disk; a view that could not be flushed is told in the log output and comes from the log.
    pub async fn close(&self) -> anyhow::Result<()> {
        if let Err(error) = self.catch_up().await {
            tracing::warn!(error = format!("{error:#}"), "not everything was processed before the end");
        }
        self.note_all_usage().await?;
        let failure = self.failure();
        self.roles.stop().await?;
        self.log.sync().await?;
        match failure {
            Some(failure) => bail!(failure),
            None => Ok(()),
        }
    }
}

/// The payload keys of a folder. A folder that has some and no master key is refused: a new one would open none.
async fn keys(folder: &Path, store: Arc<dyn Store>) -> anyhow::Result<Keyring> {
    if !MasterKey::is_there(folder) && Keyring::has_keys(&*store).await? {
        bail!("{} has no master.key, and its payloads are sealed with it: restore it from a backup", folder.display());
    }
    let master = MasterKey::open(folder)?;
    Ok(Keyring::open(store, &master.derive("payload keys")).await?)
}

/// The place of views, which can be used. One that was named is asked for what views need of it.
async fn open_views(folder: &Path, views: Option<&Views>) -> anyhow::Result<Place> {
    let place = Place::open(views, &folder.join("views")).context("opening the views")?;
    if views.is_some() {
        place.check(Access::Write).await.context("opening the views")?;
    }
    Ok(place)
}

impl Roles {
    async fn start(
        log: &Arc<dyn Log>,
        store: &Arc<dyn Store>,
        folder: &Path,
        asking: Option<&Arc<Asking>>,
        views: Option<&Views>,
    ) -> anyhow::Result<Self> {
        let place = open_views(folder, views).await?;
        let (shutdown, stop) = watch::channel(false);
        let failures = watch::Sender::default();
        let mut tasks = JoinSet::new();
        let (mut processed, mut kept, mut repaired) = (Vec::new(), Vec::new(), Vec::new());
        let (mut noticed, mut stalls) = (Vec::new(), Vec::new());
        for partition in 0..log.partitions(Topic::Inputs) {
            let (processor, done) = Processor::start(log.clone(), store.clone(), partition).await?;
            processed.push(done);
            stalls.push(processor.stall());
            tasks.spawn(watched(failures.clone(), Role::Processor(partition), processor.run(stop.clone())));
            let (keeper, done) = QuarantineKeeper::start(log.clone(), store.clone(), partition).await?;
            kept.push(done);
            stalls.push(keeper.stall());
            tasks.spawn(watched(failures.clone(), Role::QuarantineKeeper(partition), keeper.run(stop.clone())));
            let (repairer, done) = Repairer::start(log.clone(), store.clone(), partition, stop.clone()).await?;
            let repairer = repairer.asking(asking.cloned());
            repaired.push(done);
            stalls.push(repairer.stall());
            tasks.spawn(watched(failures.clone(), Role::Repairer(partition), repairer.run()));
            let (keeper, done) = NoticeKeeper::start(log.clone(), store.clone(), partition).await?;
            noticed.push(done);
            stalls.push(keeper.stall());
            tasks.spawn(watched(failures.clone(), Role::NoticeKeeper(partition), keeper.run(stop.clone())));
        }
        let role = Projector::at(log.clone(), store.clone(), place, Budget::default());
        let projector = role.handle();
        stalls.extend(projector.stalls());
        tasks.spawn(watched(failures.clone(), Role::Projector, role.run(stop)));
        Ok(Self { processed, kept, repaired, noticed, projector, failures, stalls, shutdown, tasks: Mutex::new(tasks) })
    }

    /// Stops every role and waits for each; the projector flushes its views. What a role fails with now it has told.
    async fn stop(&self) -> anyhow::Result<()> {
        self.shutdown.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let mut stopped = Ok(());
        while let Some(ended) = tasks.join_next().await {
            stopped = stopped.and(ended.context("a role ended early"));
        }
        stopped
    }
}

/// Runs a role; its error, or that it panicked, is noted once, where everybody who waits for it can see it.
async fn watched<E: Into<anyhow::Error>>(
    failures: watch::Sender<BTreeMap<Role, String>>,
    role: Role,
    work: impl Future<Output = Result<(), E>>,
) {
    let error: anyhow::Error = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.into(),
        Err(_) => anyhow!("it panicked; what it did is in the log output"),
    };
    let error = error.context(format!("the {role} has stopped"));
    tracing::error!(error = format!("{error:#}"), "a role has stopped");
    failures.send_modify(|failures| _ = failures.insert(role, format!("{error:#}")));
}
