//! What a process does on the shares that it has by its leases.

use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use futures::FutureExt;
use pipeline::lease::{Ended, FencedStore, Joining, Pace, Share, Trust, Work, keep};
use pipeline::notices::NoticeKeeper;
use pipeline::process::{ProcessError, Processor, Reader};
use pipeline::quarantine::QuarantineKeeper;
use pipeline::repair::{Asking, Repairer};
use pipeline::{Log, Store};
use projections::view::{Budget, Place, Projector, ViewError};
use schemas::Topic;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Role;
use super::at_work::{AtWork, Working};
use super::forgetting::Written;
use super::notes::Notes;
use super::requests;
use super::roster::{RoleName, Roster};

/// Works on shares.
pub(super) struct Crew {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    /// Where the tables are that processes share, if they do.
    views: Option<Place>,
    asking: Option<Arc<Asking>>,
    notes: Notes,
    at_work: AtWork,
    written: Written,
    /// Whether the last sign of life came through.
    lives: watch::Sender<bool>,
    /// Whether this process does what only one of those with doors does.
    leads: watch::Sender<bool>,
}

/// Says that the process leads until this is dropped.
struct Leading(watch::Sender<bool>);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// Why the work on a share has ended before it was told to.
struct Broken {
    role: Role,
    ended: Ended,
    error: anyhow::Error,
}

impl Broken {
    fn by_process(role: Role, error: ProcessError) -> Self {
        let again = error.is_overtaken() || error.is_retryable();
        Self::new(role, again, error)
    }

    /// A table that another has committed to is read again: whoever that was may have been stopped in the middle of it.
    fn by_views(role: Role, error: ViewError) -> Self {
        let again = error.is_overtaken() || error.passes();
        Self::new(role, again, error)
    }

    fn new(role: Role, again: bool, error: impl Into<anyhow::Error>) -> Self {
        Self { role, ended: if again { Ended::Overtaken } else { Ended::Failed }, error: error.into() }
    }
}

impl Crew {
    pub(super) fn new(
        (log, store): (Arc<dyn Log>, Arc<dyn Store>),
        views: Option<Place>,
        asking: Option<Arc<Asking>>,
        notes: Notes,
    ) -> Self {
        let (leads, lives) = (watch::Sender::new(false), watch::Sender::new(false));
        Self { log, store, views, asking, notes, at_work: AtWork::default(), written: Written::default(), lives, leads }
    }

    /// What this process works on.
    pub(super) fn at_work(&self) -> AtWork {
        self.at_work.clone()
    }

    /// The shared tables that it writes.
    pub(super) fn written(&self) -> Written {
        self.written.clone()
    }

    /// Whether its last sign of life came through.
    pub(super) fn lives(&self) -> watch::Receiver<bool> {
        self.lives.subscribe()
    }

    /// Whether this process does what only one of those with doors does.
    pub(super) fn leads(&self) -> watch::Sender<bool> {
        self.leads.clone()
    }

    /// The shares of these roles, worked on until `stop` says true; nothing when the process takes none of them.
    pub(super) fn keep(self, roster: &Roster, stop: watch::Receiver<bool>) -> Option<impl Future<Output = ()> + use<>> {
        let shared = RoleName::shared(self.views.is_some()).into_iter();
        let sizes = shared.map(|(role, topic)| (role, self.log.partitions(topic)));
        // One of those with doors leads.
        let taken = sizes.chain([(RoleName::Api, 1)]).filter(|(role, _)| roster.has(*role));
        let roles: Vec<(String, u32)> = taken.map(|(role, partitions)| (role.name().to_owned(), partitions)).collect();
        if roles.is_empty() {
            return None;
        }
        let (pace, clock) = (Pace::default(), Arc::new(Instant::now));
        let (at_work, notes, lives) = (self.at_work.clone(), self.notes.clone(), self.lives.clone());
        let stall = Arc::new(move || notes.failure().or_else(|| at_work.stall()));
        let notes = self.notes.clone();
        let elsewhere = Arc::new(move |share: &Share| notes.forget(&roles_of(share)));
        let joining = Joining { store: self.store.clone(), name: name(), roles, pace, clock, stall, elsewhere, lives };
        let crew = Arc::new(self);
        let work: Work = Arc::new(move |share: Share, trust: Trust, stop: watch::Receiver<bool>| {
            let crew = crew.clone();
            async move { crew.on(share, trust, stop).await }.boxed()
        });
        Some(keep(joining, work, stop))
    }

    async fn on(&self, share: Share, trust: Trust, stop: watch::Receiver<bool>) -> Ended {
        let partition = share.partition;
        let working = self.at_work.begin(&share);
        self.notes.forget(&roles_of(&share));
        let store: Arc<dyn Store> = Arc::new(FencedStore::new(self.store.clone(), share.clone(), trust));
        let done = match (share.role.as_str(), &self.views) {
            ("process", _) => self.process(&working, store, partition, stop).await,
            ("repair", _) => self.repair(&working, store, partition, stop).await,
            ("project", Some(place)) => self.project(&working, store, place.clone(), partition, stop).await,
            ("api", _) => {
                self.lead(stop).await;
                Ok(())
            }
            (role, _) => {
                tracing::error!(role, "a share of a role that nobody here takes");
                return Ended::Failed;
            }
        };
        let Err(Broken { role, ended, error }) = done else { return Ended::Stopped };
        match ended {
            Ended::Failed => self.notes.note(role, error),
            Ended::Stopped | Ended::Overtaken => {
                tracing::warn!(%role, error = format!("{error:#}"), "a role starts again if its lease is still there");
            }
        }
        ended
    }

    /// Leads those with doors, until it is told to stop or the lease is lost.
    async fn lead(&self, mut stop: watch::Receiver<bool>) {
        let _leading = Leading(self.leads.clone());
        self.leads.send_replace(true);
        // Who would say so is gone: that is an end too.
        _ = stop.wait_for(|stop| *stop).await;
    }

    async fn process(
        &self,
        working: &Working,
        store: Arc<dyn Store>,
        partition: u32,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Broken> {
        let broken = |error| Broken::by_process(Role::Processor(partition), error);
        let (processor, done) = Processor::start(self.log.clone(), store, partition).await.map_err(broken)?;
        working.reads(Reader::Processor.name(), Topic::Inputs, move || done.next(), processor.stall());
        processor.run(stop).await.map_err(broken)
    }

    /// The three readers of a partition of `decisions`; when one of them ends, all do.
    async fn repair(
        &self,
        working: &Working,
        store: Arc<dyn Store>,
        partition: u32,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Broken> {
        let log = &self.log;
        let mut readers = JoinSet::new();
        let reads = |reader: Reader, done: watch::Receiver<u64>, stall| {
            working.reads(reader.name(), reader.topic(), move || *done.borrow(), stall);
        };
        let role = Role::QuarantineKeeper(partition);
        let started = QuarantineKeeper::start(log.clone(), store.clone(), partition).await;
        let (keeper, kept) = started.map_err(|error| Broken::by_process(role, error))?;
        reads(Reader::QuarantineKeeper, kept, keeper.stall());
        readers.spawn(of(role, keeper.run(stop.clone())));
        let role = Role::Repairer(partition);
        let started = Repairer::start(log.clone(), store.clone(), partition, stop.clone()).await;
        let (repairer, repaired) = started.map_err(|error| Broken::by_process(role, error))?;
        reads(Reader::Repairer, repaired.done, repairer.stall());
        readers.spawn(of(role, repairer.asking(self.asking.clone()).run()));
        let role = Role::NoticeKeeper(partition);
        let started = NoticeKeeper::start(log.clone(), store, partition).await;
        let (keeper, noticed) = started.map_err(|error| Broken::by_process(role, error))?;
        reads(Reader::NoticeKeeper, noticed, keeper.stall());
        readers.spawn(of(role, keeper.run(stop)));
        let mut done = Ok(());
        while let Some(ended) = readers.join_next().await {
            let ended = ended.unwrap_or_else(|panicked| {
                Err(Broken::new(Role::Repairer(partition), false, anyhow!("it ended early: {panicked}")))
            });
            if ended.is_err() {
                readers.shutdown().await;
                done = ended;
            }
        }
        done
    }

    async fn project(
        &self,
        working: &Working,
        store: Arc<dyn Store>,
        place: Place,
        partition: u32,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Broken> {
        // A process may come to have every partition.
        let parts = self.log.partitions(Topic::Events).max(1) as usize;
        let Budget { bytes, views, .. } = Budget::default();
        let budget = Budget { bytes: bytes / parts, views: (views / parts).max(1), ..Budget::default() };
        let projector = Projector::at(self.log.clone(), store.clone(), place, budget).only(partition);
        let handle = projector.handle();
        let broken = |error| Broken::by_views(Role::ProjectorOf(partition), error);
        let _writing = self.written.begin(partition, handle.clone()).await.map_err(broken)?;
        if let Some(stall) = handle.stalls().into_iter().nth(partition as usize) {
            let reader = handle.clone();
            working.reads("projector", Topic::Events, move || reader.position(partition), stall);
        }
        let asked = requests::carry_out(&*store, &handle, partition, stop.clone());
        tokio::select! {
            ended = projector.run(stop) => ended.map_err(broken),
            never = asked => match never {},
        }
    }
}

/// Who works on a share.
fn roles_of(share: &Share) -> Vec<Role> {
    let partition = share.partition;
    match share.role.as_str() {
        "process" => vec![Role::Processor(partition)],
        "repair" => vec![Role::QuarantineKeeper(partition), Role::Repairer(partition), Role::NoticeKeeper(partition)],
        "project" => vec![Role::ProjectorOf(partition)],
        _ => Vec::new(),
    }
}

async fn of(role: Role, work: impl Future<Output = Result<(), ProcessError>>) -> Result<(), Broken> {
    work.await.map_err(|error| Broken::by_process(role, error))
}

/// What people know this process by: where it runs, and its number there.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projector_whose_table_a_stale_one_has_committed_to_starts_again() {
        let met = ViewError::Conflict { table: "orders".into() };
        assert_eq!(Broken::by_views(Role::ProjectorOf(0), met).ended, Ended::Overtaken);
        assert_eq!(Broken::by_views(Role::ProjectorOf(0), ViewError::ShutDown).ended, Ended::Failed);
    }
}
