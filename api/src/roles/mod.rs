//! The only place where things are wired together: which log, which store, which roles run in this process.
//!
//! `alone` starts every role over a folder that is this process's alone, `peers` those of a process that shares the work with
//! others: `crew` is what it does by its leases, `at_work` says what that is, `node_store` what it keeps of its own tables. `workers`
//! are a process without doors, `requests` are what is asked of who writes shared tables, `forgetting` is what each drops of tenants that another has deleted. `notes` says which roles have stopped.

mod alone;
mod at_work;
mod crew;
mod forgetting;
mod node_store;
mod notes;
mod peers;
pub(crate) mod requests;
mod roster;
mod workers;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use pipeline::ingest::Ingest;
use pipeline::process::Processed;
use pipeline::repair::{Asking, Repaired};
use projections::sql::{QueryEngine, QueryLimits};
use projections::view::place::Settings as ViewSettings;
use projections::view::{Access, Place, ProjectorHandle};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::backends::{Backends, Patience};
use crate::line::{Bounds, Fair, Halted, Line, VIEWED_KEPT};
pub(crate) use at_work::AtWork;
use notes::Notes;
pub use roster::{RoleName, Roster};
pub use workers::{Health, Workers};

/// Queries: how many of a tenant may wait, and how long. There are as many places as the engine has.
const ASKS: Bounds = Bounds { places: 1, waiting: 64, wait: Duration::from_secs(5) };
/// Pushes that are taken in at once: enough to share an fsync, few enough to be fair; in bytes what may wait.
const PUSHES: Bounds = Bounds { places: 16, waiting: 64 << 20, wait: Duration::from_secs(10) };
/// Exports under way: one for each tenant, and how many more of it may wait.
const EXPORTS: Bounds = Bounds { places: 8, waiting: 4, wait: Duration::from_secs(10) };
/// Suggestions of mappings under way: one for each tenant, and how many more of it may wait.
const SUGGESTS: Bounds = Bounds { places: 2, waiting: 4, wait: Duration::from_secs(10) };

/// The roles that run in this process, and how far they are, wherever they run.
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
    /// What this process works on by its leases; nothing where it has all to itself.
    pub(crate) at_work: AtWork,
    /// Whether this process sends notices, which only one does.
    leads: watch::Sender<bool>,
    /// Why log or store take no more from this process, once they do not.
    lost: watch::Sender<Option<String>>,
    shutdown: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    /// The roles that others may have instead: then nobody waits for all to be done before the end.
    shared: Vec<RoleName>,
}

/// What runs in a partition of its own, or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Processor(u32),
    QuarantineKeeper(u32),
    Repairer(u32),
    NoticeKeeper(u32),
    Projector,
    /// Of tables that processes share.
    ProjectorOf(u32),
    /// Sees how far others are.
    Follower,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Processor(partition) => write!(f, "processor of partition {partition}"),
            Self::QuarantineKeeper(partition) => write!(f, "quarantine keeper of partition {partition}"),
            Self::Repairer(partition) => write!(f, "repairer of partition {partition}"),
            Self::NoticeKeeper(partition) => write!(f, "notice keeper of partition {partition}"),
            Self::Projector => write!(f, "projector"),
            Self::ProjectorOf(partition) => write!(f, "projector of partition {partition}"),
            Self::Follower => write!(f, "follower of other processes"),
        }
    }
}

impl Line {
    /// Opens a folder, made when it is not there, for one command, which fails when the disk is full. Every role runs
    /// meanwhile; where processes share the work they do it, and this one only asks.
    pub async fn open(folder: &Path) -> anyhow::Result<Self> {
        Self::open_at(folder, &Backends::of_folder(folder)?).await
    }

    /// The same, on log and store and with views where it is known already that they are.
    pub async fn open_at(folder: &Path, backends: &Backends) -> anyhow::Result<Self> {
        let roster = if backends.are_shared() { Roster::none() } else { Roster::default() };
        Self::open_on(folder, backends, &roster, QueryLimits::default(), None, None).await
    }

    /// Opens a folder with log, store and views in it, whose queries may take so much. With `is_patient`, as a server's is,
    /// what the roles have to do is waited for until a full disk has room again. A language model is asked what stays
    /// uncertain of drift, if there is one.
    pub async fn open_with(
        folder: &Path,
        limits: QueryLimits,
        is_patient: bool,
        asking: Option<Arc<Asking>>,
    ) -> anyhow::Result<Self> {
        let patience = is_patient.then(Patience::default);
        Self::open_on(folder, &Backends::default(), &Roster::default(), limits, patience.as_ref(), asking).await
    }

    /// The same, on any log and store, with views wherever they lie; of the roles those that this process takes. A server has
    /// patience with servers that are away, too.
    pub async fn open_on(
        folder: &Path,
        backends: &Backends,
        roster: &Roster,
        limits: QueryLimits,
        patience: Option<&Patience>,
        asking: Option<Arc<Asking>>,
    ) -> anyhow::Result<Self> {
        let is_patient = patience.is_some();
        let (opened, views) = (backends.open(folder, patience).await?, backends.views.as_ref());
        let halted = Arc::new(Halted::default());
        if !is_patient {
            backends.check_views(&*opened.local).await?;
        }
        let roles = match backends.are_shared() {
            true => Roles::among_peers(&opened, folder, views, roster, (asking.as_ref(), &halted)).await?,
            false => Roles::alone(&opened, folder, views, asking.as_ref()).await?,
        };
        if is_patient {
            backends.note_views(&*opened.local).await?;
        }
        let (log, store, keys) = (opened.log, opened.store, opened.keys);
        let queries = QueryEngine::new(limits)?;
        let ingest = Ingest::new(log.clone(), store.clone());
        let (folder, turns) = (folder.to_owned(), Default::default());
        let asks = Fair::new(Bounds { places: queries.limits().concurrent, ..ASKS });
        let line = Self {
            folder,
            _local: opened.local,
            log,
            store,
            keys,
            ingest,
            queries,
            roles,
            turns,
            halted,
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
    /// Where processes share the work, the others go on with what is there.
    pub async fn close(&self) -> anyhow::Result<()> {
        if !self.has_peers()
            && let Err(error) = self.catch_up().await
        {
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

    /// Whether this process does what only one of those with doors does: it sends notices.
    pub(crate) fn leads(&self) -> watch::Receiver<bool> {
        self.roles.leads.subscribe()
    }

    /// What this process works on by its leases.
    pub(crate) fn at_work(&self) -> &AtWork {
        &self.roles.at_work
    }

    /// Whether other processes share the work.
    pub fn has_peers(&self) -> bool {
        !self.roles.shared.is_empty()
    }

    /// The roles whose partitions processes share; none where this one has all to itself.
    pub(crate) fn shared_roles(&self) -> &[RoleName] {
        &self.roles.shared
    }

    /// Returns once log or store have failed for this process, and says why: it can do nothing more, and one that opens them
    /// anew goes on.
    pub async fn lost(&self) -> String {
        lost(&self.roles.lost).await
    }
}

/// Waits for what is noted there.
async fn lost(lost: &watch::Sender<Option<String>>) -> String {
    let mut lost = lost.subscribe();
    let why = lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    match why {
        Some(why) => why,
        None => std::future::pending().await,
    }
}

/// The place of views, which can be used. One that was named is asked for what views need of it.
async fn open_views(folder: &Path, views: Option<&ViewSettings>, access: Access) -> anyhow::Result<Place> {
    let place = Place::open(views, &folder.join("views")).context("opening the views")?;
    if views.is_some() {
        place.check(access).await.context("opening the views")?;
    }
    Ok(place)
}

impl Roles {
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
