//! The projector: folds every partition of `events` into its views, flushes them within one budget, and opens and
//! closes them on demand.
//!
//! [`fold`] reads a partition, [`register`] opens and closes views, [`upkeep`] flushes them and moves the checkpoint,
//! `follow` does the same for views that another process writes, [`forget`] closes a tenant's for ever, [`handle`] is what
//! others hold.

pub mod fold;
mod follow;
pub mod forget;
pub mod handle;
pub mod register;
pub mod upkeep;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use parking_lot::Mutex;
use pipeline::process::Stall;
use pipeline::{Log, Store};
use schemas::ids::EntityName;
use schemas::{Position, TenantId, Topic};
use tokio::sync::{Notify, Semaphore, watch};

pub use handle::{Holdings, ProjectorHandle, TableInfo};

use super::error::ViewError;
use super::place::Place;
use super::state::Budgeted;
use super::{GRACE, View};

/// What the views may use. Flushes follow from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of tails, key indexes and buffers of flushes over all views. Above it the largest tails are flushed and
    /// views closed that were not used for longest. Tails get what the rest leaves of it, but a quarter at least: a key
    /// index that is larger than the budget stays in memory and is not thrashed. When tails have half the budget more
    /// than they get, folding waits for flushes.
    pub bytes: usize,
    /// Open views. Above it those that were not used for longest are flushed and closed; half as many again, and folding
    /// waits for that.
    pub views: usize,
    /// The oldest that a row in no file gets.
    pub flush_age: Duration,
    /// Rows of a tail at which it is flushed, …
    pub tail_rows: usize,
    /// or bytes of a tail, and …
    pub tail_bytes: usize,
    /// … the share of the table, one in so many, if that is more. A flush rewrites every file that an update touches,
    /// so a tail in proportion to its table keeps the cost per row constant.
    pub tail_share: usize,
    /// Flushes at a time.
    pub flushes: usize,
    /// How long files that have gone from a table stay for the queries that read them.
    pub grace: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: 160 << 20,
            views: 1000,
            flush_age: Duration::from_secs(60),
            tail_rows: 128 << 10,
            tail_bytes: 32 << 20,
            tail_share: 10,
            flushes: 1,
            grace: GRACE,
        }
    }
}

/// A view stays open for at least so many times as long as opening it took.
const OPEN_AT_LEAST: u32 = 10;

/// Views that are opened at a time for those who ask: each holds a file of its table meanwhile.
const LOADS: usize = 2;

/// (tenant, entity).
type ViewKey = (TenantId, EntityName);

/// An open view.
struct Slot {
    view: Arc<View>,
    partition: u32,
    /// The turn of its last use; the least goes first when views are closed.
    used: AtomicU64,
    opened: Instant,
    /// How long opening it took.
    opening: Duration,
    is_flushing: AtomicBool,
    is_pinned: AtomicBool,
    /// When the table was looked at last for what another process has committed.
    looked: Mutex<Instant>,
}

/// A partition of `events`.
struct Partition {
    /// Held while events are applied or a view of the partition is opened, closed or swapped; the next event to apply.
    gate: tokio::sync::Mutex<u64>,
    position: watch::Sender<u64>,
    /// Whether it is known where it stands: before that no view of it is opened.
    is_started: AtomicBool,
    progress: Mutex<BTreeMap<u32, Position>>,
    /// The checkpoint as it stands in the store.
    checkpoint: AtomicU64,
    /// The version of its row, 0 for none; held while it is written.
    row: tokio::sync::Mutex<u64>,
    checkpointed: Mutex<Option<Instant>>,
    /// Views that were dropped with rows that no table has, or could not be opened.
    incomplete: Mutex<HashMap<ViewKey, Incomplete>>,
    /// Views that are being opened without the gate.
    loading: Mutex<HashMap<ViewKey, Weak<Loading>>>,
    /// Why it is folded no more.
    failed: Mutex<Option<ViewError>>,
    /// Why it does not get on, as long as it does not.
    stall: Stall,
}

/// A view that is being read from its tables without the gate.
#[derive(Default)]
struct Loading {
    /// Held by who opens it; all others wait, and find it open.
    turn: tokio::sync::Mutex<()>,
    /// Whether somebody else has opened or deleted it since.
    is_stale: AtomicBool,
}

/// A view that is not open and whose table lacks events.
#[derive(Debug, Clone, Copy)]
struct Incomplete {
    /// The position up to which its table is complete.
    complete: u64,
    /// When it failed last by its table: events alone have it opened again only after a while.
    failed: Option<Instant>,
}

/// What a process does with its views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// It opens all that have events, and writes their tables.
    Write,
    /// It opens those that are asked for, and follows who writes them.
    Follow,
}

struct Shared {
    duty: Duty,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    place: Place,
    budget: Budget,
    memory: Budgeted,
    partitions: Vec<Partition>,
    views: Mutex<HashMap<ViewKey, Arc<Slot>>>,
    turns: AtomicU64,
    permits: Arc<Semaphore>,
    /// Held by those who open views without a gate, while they read tables.
    loads: Semaphore,
    flushed: Notify,
    /// Why the last flush found no room, unless another one has found some since.
    full: Mutex<Option<ViewError>>,
}

/// Folds `events` into views. One process writes the views of a partition at a time; others may follow it.
pub struct Projector {
    shared: Arc<Shared>,
    /// The partitions that it folds.
    own: Vec<u32>,
}

impl Projector {
    /// A projector whose views lie in `folder` on the local disk.
    pub fn new(log: Arc<dyn Log>, store: Arc<dyn Store>, folder: &Path, budget: Budget) -> std::io::Result<Self> {
        Ok(Self::at(log, store, Place::local(folder)?, budget))
    }
    /// A projector whose views lie at `place`.
    pub fn at(log: Arc<dyn Log>, store: Arc<dyn Store>, place: Place, budget: Budget) -> Self {
        Self::with_duty(Duty::Write, log, store, place, budget)
    }
    /// One that only reads the views at `place`, each with a tail of its own from the log, while another process runs a
    /// projector. There may be any number of them. It writes nothing, neither to tables nor to the store. What only the
    /// writer can do fails with [`ViewError::Followed`].
    pub fn follow(log: Arc<dyn Log>, store: Arc<dyn Store>, place: Place, budget: Budget) -> Self {
        Self::with_duty(Duty::Follow, log, store, place, budget)
    }
    fn with_duty(duty: Duty, log: Arc<dyn Log>, store: Arc<dyn Store>, place: Place, budget: Budget) -> Self {
        let partition = |_| Partition {
            gate: tokio::sync::Mutex::new(0),
            position: watch::Sender::new(0),
            is_started: AtomicBool::new(false),
            progress: Mutex::default(),
            checkpoint: AtomicU64::new(0),
            row: tokio::sync::Mutex::new(0),
            checkpointed: Mutex::default(),
            incomplete: Mutex::default(),
            loading: Mutex::default(),
            failed: Mutex::default(),
            stall: Stall::new(None),
        };
        let shared = Shared {
            duty,
            partitions: (0..log.partitions(Topic::Events)).map(partition).collect(),
            permits: Arc::new(Semaphore::new(match duty {
                Duty::Write => budget.flushes.max(1),
                Duty::Follow => follow::LOOKS,
            })),
            loads: Semaphore::new(LOADS),
            log,
            store,
            place,
            budget,
            memory: Budgeted::default(),
            views: Mutex::default(),
            turns: AtomicU64::new(0),
            flushed: Notify::new(),
            full: Mutex::default(),
        };
        let own = (0..shared.partitions.len() as u32).collect();
        Self { shared: Arc::new(shared), own }
    }
    /// Folds one partition alone; others may be folded by other processes, into views at the same place.
    pub fn only(self, partition: u32) -> Self {
        Self { own: vec![partition], ..self }
    }
    /// What others hold to ask for snapshots, flushes and rebuilds.
    pub fn handle(&self) -> ProjectorHandle {
        ProjectorHandle::new(self.shared.clone())
    }
    /// Folds its partitions until `shutdown` turns true, then flushes everything. A view that fails stops alone; a
    /// partition whose log or store fails stops alone too, and is what this fails with in the end.
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> Result<(), ViewError> {
        let mut tasks = tokio::task::JoinSet::new();
        for &partition in &self.own {
            let (shared, shutdown) = (self.shared.clone(), shutdown.clone());
            tasks.spawn(async move {
                let folding = AssertUnwindSafe(shared.run_partition(partition, shutdown));
                let ended = folding.catch_unwind().await.unwrap_or(Err(ViewError::ShutDown));
                if let Err(error) = &ended {
                    tracing::error!(partition, %error, "the projector stops in a partition; others go on");
                    shared.fail(partition, error);
                }
                ended
            });
        }
        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            outcome = outcome.and(ended.unwrap_or(Err(ViewError::ShutDown)));
        }
        let flushed = match (self.shared.duty, &outcome) {
            (Duty::Follow, _) => Ok(()),
            // What another process folds by now is not written twice.
            (Duty::Write, Err(error)) if error.is_overtaken() => Ok(()),
            (Duty::Write, _) => self.shared.flush_where(|_| true).await,
        };
        (0..self.shared.partitions.len() as u32)
            .for_each(|partition| self.shared.fail(partition, &ViewError::ShutDown));
        outcome.and(flushed)
    }
}

impl Shared {
    fn partition_of(&self, tenant: TenantId, entity: &EntityName) -> u32 {
        (schemas::ids::view_hash(tenant, entity) % self.partitions.len() as u64) as u32
    }
    fn partition(&self, number: u32) -> &Partition {
        &self.partitions[number as usize]
    }
    fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
    /// The open views of a partition, or of all.
    fn open_views(&self, partition: Option<u32>) -> Vec<Arc<Slot>> {
        let views = self.views.lock();
        views.values().filter(|slot| partition.is_none_or(|p| slot.partition == p)).cloned().collect()
    }
    /// Fails unless this process writes its views.
    fn check_writes(&self) -> Result<(), ViewError> {
        if self.duty == Duty::Write { Ok(()) } else { Err(ViewError::Followed) }
    }
    fn check_running(&self, partition: u32) -> Result<(), ViewError> {
        self.partition(partition).failed.lock().clone().map_or(Ok(()), Err)
    }
    /// Notes why a partition is folded no more, unless that is known, and tells those who wait.
    fn fail(&self, partition: u32, error: &ViewError) {
        let partition = self.partition(partition);
        partition.failed.lock().get_or_insert(error.clone());
        partition.position.send_modify(|_| {});
    }
}

impl Slot {
    /// Whether it was opened so lately that closing it would have views opened more than used.
    fn is_young(&self) -> bool {
        self.opened.elapsed() < self.opening * OPEN_AT_LEAST
    }
    fn key(&self) -> ViewKey {
        (self.view.tenant(), self.view.entity().clone())
    }
}
