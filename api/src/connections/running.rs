//! What runs for connections: the followers of watched ones, and syncs that somebody asked for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use schemas::{ConnectionName, TenantId};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::ConnectionError;
use super::roots::hidden;
use super::row::Ledger;
use super::watching::Watched;
use crate::cli::ingest;
use crate::cli::{Behalf, IngestArgs};
use crate::line::{Bounds, Fair, Fates, Halt, Line};
use crate::output::Silent;
use crate::serve::stopped;

/// Syncs that somebody asked for and that run at once; the others wait, each tenant's behind its own. They may wait for as
/// long as there are connections before them, which is bounded.
const SYNCS: Bounds = Bounds { places: 4, waiting: usize::MAX, wait: Duration::from_secs(365 * 24 * 3_600) };
/// Those of one tenant.
const SYNCS_OF_ONE: usize = 2;
/// A stream that cannot be followed is tried again after so long.
const FOLLOW_AGAIN: Duration = Duration::from_secs(60);

/// A connection of a tenant.
pub type Id = (TenantId, ConnectionName);

/// Everything that runs.
pub struct Runs {
    line: Arc<Line>,
    ledger: Ledger,
    open: Mutex<HashMap<Id, Running>>,
    /// Connections whose sync runs or waits.
    syncing: Arc<Mutex<HashSet<Id>>>,
    places: Arc<Fair<TenantId>>,
    has_stopped: AtomicBool,
}

/// The tasks of a connection, and what ends them.
struct Running {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Runs {
    /// Nothing runs yet.
    pub fn new(line: Arc<Line>, ledger: Ledger) -> Self {
        let places = Fair::new(SYNCS);
        Self {
            line,
            ledger,
            open: Mutex::default(),
            syncing: Arc::default(),
            places,
            has_stopped: AtomicBool::new(false),
        }
    }

    /// Follows the files of a connection until it is halted.
    pub fn follow(&self, id: &Id, streams: Vec<IngestArgs>) -> Result<(), ConnectionError> {
        for args in streams {
            let (line, ledger, tenant) = (self.line.clone(), self.ledger.clone(), id.0);
            self.spawn(id, move |stop| follow(args, line, ledger, tenant, stop))?;
        }
        Ok(())
    }

    /// Reads every stream once, soon; false when that is under way or waits already.
    pub fn sync(&self, id: &Id, streams: Vec<IngestArgs>) -> Result<bool, ConnectionError> {
        if !self.syncing.lock().insert(id.clone()) {
            return Ok(false);
        }
        // Dropped with the task, however that ends.
        let mark = Mark { syncing: self.syncing.clone(), id: id.clone() };
        let (line, ledger, places) = (self.line.clone(), self.ledger.clone(), self.places.clone());
        self.spawn(id, move |mut stop| async move {
            let mark = mark;
            let work = async {
                let _place = places.place(mark.id.0, 1, SYNCS_OF_ONE).await;
                for args in streams {
                    let ended = ingest::run(&args, &line, &mut Silent).await.map_err(|error| format!("{error:#}"));
                    note(&ledger, mark.id.0, &args, ended).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = stopped(&mut stop) => {}
            }
        })?;
        Ok(true)
    }

    /// Whether a sync that somebody asked for runs or waits.
    pub fn is_syncing(&self, id: &Id) -> bool {
        self.syncing.lock().contains(id)
    }

    /// Whether anything runs for a connection.
    #[cfg(test)]
    pub(super) fn is_open(&self, id: &Id) -> bool {
        self.open.lock().contains_key(id)
    }

    /// Ends what runs for a connection; nothing of it runs any more when this returns. What was read is kept.
    pub async fn halt(&self, id: &Id) {
        let running = self.open.lock().remove(id);
        if let Some(Running { stop, mut tasks }) = running {
            stop.send_replace(true);
            while tasks.join_next().await.is_some() {}
        }
    }

    /// Ends everything of a tenant.
    pub async fn halt_tenant(&self, tenant: TenantId) {
        let ids: Vec<Id> = self.open.lock().keys().filter(|(t, _)| *t == tenant).cloned().collect();
        for id in ids {
            self.halt(&id).await;
        }
    }

    /// Ends everything, and lets nothing begin any more.
    pub async fn stop(&self) {
        self.has_stopped.store(true, Ordering::SeqCst);
        let ids: Vec<Id> = self.open.lock().keys().cloned().collect();
        for id in ids {
            self.halt(&id).await;
        }
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        id: &Id,
        work: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Result<(), ConnectionError> {
        let mut open = self.open.lock();
        if self.has_stopped.load(Ordering::SeqCst) {
            return Err(ConnectionError::Stopping);
        }
        let running = open.entry(id.clone()).or_insert_with(|| {
            let (stop, _) = watch::channel(false);
            Running { stop, tasks: JoinSet::new() }
        });
        // Tasks that have ended are forgotten.
        while running.tasks.join_next().now_or_never().flatten().is_some() {}
        let stop = running.stop.subscribe();
        running.tasks.spawn(work(stop));
        Ok(())
    }
}

impl Halt for Runs {
    fn halt(&self, tenant: TenantId) -> BoxFuture<'_, ()> {
        self.halt_tenant(tenant).boxed()
    }
}

struct Mark {
    syncing: Arc<Mutex<HashSet<Id>>>,
    id: Id,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.syncing.lock().remove(&self.id);
    }
}

async fn follow(args: IngestArgs, line: Arc<Line>, ledger: Ledger, tenant: TenantId, mut stop: watch::Receiver<bool>) {
    loop {
        let started = tokio::select! {
            started = Watched::start(args.clone(), &line) => started,
            () = stopped(&mut stop) => return,
        };
        match started {
            Ok(watched) => {
                let told = {
                    let (ledger, args) = (ledger.clone(), args.clone());
                    move |ended| {
                        let (ledger, args) = (ledger.clone(), args.clone());
                        async move { note(&ledger, tenant, &args, ended).await }.boxed()
                    }
                };
                return watched.telling(Box::new(told)).run(line, stop).await;
            }
            Err(error) => note(&ledger, tenant, &args, Err(format!("{error:#}"))).await,
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_AGAIN) => {}
            () = stopped(&mut stop) => return,
        }
    }
}

async fn note(ledger: &Ledger, tenant: TenantId, args: &IngestArgs, ended: Result<Fates, String>) {
    let stream = format!("{}/{}", args.connection, args.stream);
    let ended = ended.map_err(|error| {
        tracing::warn!(%tenant, stream, error, "a connection's stream was not read to its end");
        match &args.behalf {
            Some(Behalf { bounds, .. }) => hidden(&error, bounds),
            None => error,
        }
    });
    if let Err(error) = ledger.note(tenant, &stream, ended).await {
        tracing::error!(%error, stream, "how a run ended could not be noted");
    }
}
