//! A process among its peers: that it lives, what it has, and what it takes or gives up so that all have about as much.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use schemas::TenantId;
use serde::Serialize;
use tokio::sync::watch;

use super::peers::{Lease, NodeRow, Peers, Sightings, list, node_key, share_key};
use crate::store::{Expect, Store, StoreError, Table};

/// Characters that are said of why a process does not get on.
const STALL_CHARS_MAX: usize = 500;

/// A partition of a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    /// The role.
    pub role: String,
    /// The partition.
    pub partition: u32,
}

impl Share {
    pub(super) fn key(&self) -> String {
        format!("{}/{:05}", self.role, self.partition)
    }

    pub(super) fn of_key(key: &str) -> Option<Self> {
        let (role, partition) = key.rsplit_once('/')?;
        Some(Self { role: role.to_owned(), partition: partition.parse().ok()? })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of {}", self.partition, self.role)
    }
}

/// How often a process says that it lives, and how long one is silent before it is taken for dead. Who shares a store has the
/// same.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two signs of life.
    pub beat: Duration,
    /// Silence.
    pub dead_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { beat: Duration::from_secs(3), dead_after: Duration::from_secs(15) }
    }
}

impl Pace {
    /// How long a process trusts its leases: less than others wait, so that clocks may go a third faster or slower.
    fn trusted(self) -> Duration {
        self.dead_after * 2 / 3
    }
}

/// A clock that only goes forward.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Whether a process may believe in what it has. Once its leases are lost it never holds again.
#[derive(Clone)]
pub struct Trust {
    until: Arc<Mutex<Option<Instant>>>,
    clock: Clock,
}

impl Trust {
    fn new(clock: Clock) -> Self {
        Self { until: Arc::default(), clock }
    }

    /// Whether nobody else can have what was leased.
    pub fn holds(&self) -> bool {
        let until = *self.until.lock();
        until.is_some_and(|until| (self.clock)() < until)
    }

    /// Ends when it holds no more.
    pub(super) async fn over(&self) {
        loop {
            let until = *self.until.lock();
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since((self.clock)()));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    fn set(&self, until: Option<Instant>) {
        *self.until.lock() = until;
    }
}

/// How a process joins its peers.
#[derive(Clone)]
pub struct Joining {
    /// Where leases are.
    pub store: Arc<dyn Store>,
    /// What people know the process by.
    pub name: String,
    /// The roles that it takes part in, each with its number of partitions.
    pub roles: Vec<(String, u32)>,
    /// How fast things go.
    pub pace: Pace,
    /// The time.
    pub clock: Clock,
    /// Why its work does not get on, if it does not: said to the others with every sign of life.
    pub stall: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Told of what it has failed at and another works on now.
    pub elsewhere: Arc<dyn Fn(&Share) + Send + Sync>,
    /// Whether its last sign of life came through.
    pub lives: watch::Sender<bool>,
}

/// A process cannot say that it lives.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    /// It was silent for so long that its peers took it for dead: all that it had is gone. It may join again.
    #[error("the process was silent for so long that its peers took over what it had")]
    Lost,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known of a lease that is held.
#[derive(Debug, Clone, Copy)]
struct Hold {
    version: u64,
    token: u64,
}

/// A process among its peers. Its id is new whenever it joins and comes never again.
pub struct Node {
    joining: Joining,
    id: String,
    version: u64,
    trust: Trust,
    sightings: Sightings,
    held: BTreeMap<Share, Hold>,
    /// What it leaves to others, because it has failed at it.
    left_alone: BTreeSet<Share>,
}

impl Node {
    /// Joins; it has nothing yet.
    pub async fn join(joining: Joining) -> Result<Self, StoreError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| StoreError::Refused("the random generator failed".into()))?;
        let id = format!("{:032x}", u128::from_be_bytes(random));
        let trust = Trust::new(joining.clock.clone());
        let (sightings, held, left_alone) = (Sightings::default(), BTreeMap::new(), BTreeSet::new());
        let mut node = Self { joining, id, version: 0, trust, sightings, held, left_alone };
        let begun = (node.joining.clock)();
        node.version = node.write(&node_key(&node.id), &node.row(), Expect::Absent).await?;
        node.trust.set(Some(begun + node.joining.pace.trusted()));
        Ok(node)
    }

    fn row(&self) -> NodeRow {
        let roles = self.joining.roles.iter().map(|(role, _)| role.clone()).collect();
        let stall = (self.joining.stall)().map(|why| why.chars().take(STALL_CHARS_MAX).collect());
        let failed = self.left_alone.iter().map(Share::key).collect();
        NodeRow { name: self.joining.name.clone(), roles, stall, failed, version: 0 }
    }

    async fn write<T: Serialize>(&self, key: &str, row: &T, expect: Expect) -> Result<u64, StoreError> {
        let value: Bytes = serde_json::to_vec(row).expect("a lease has only text keys").into();
        self.joining.store.put(TenantId::SYSTEM, Table::Leases, key, value, expect).await
    }

    /// Whether it may believe in what it has.
    pub fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// What it has.
    pub fn held(&self) -> impl Iterator<Item = &Share> {
        self.held.keys()
    }

    /// The token of what it has: greater than that of whoever had it before.
    pub fn token(&self, share: &Share) -> Option<u64> {
        self.held.get(share).map(|hold| hold.token)
    }

    /// Takes these no more, and leaves them to whoever has not failed at them. What it has it keeps.
    pub fn leave_alone(&mut self, shares: BTreeSet<Share>) {
        self.left_alone = shares;
    }

    /// Takes nothing at all any more, and is not counted among those who do.
    pub fn quit_all(&mut self) {
        self.joining.roles.clear();
    }

    /// Says that it lives.
    pub async fn beat(&mut self) -> Result<(), LeaseError> {
        // Once more where a write of its own was done and nobody said so: nobody else writes its row.
        for _ in 0..2 {
            let begun = (self.joining.clock)();
            match self.write(&node_key(&self.id), &self.row(), Expect::Version(self.version)).await {
                Ok(version) => {
                    self.version = version;
                    self.trust.set(Some(begun + self.joining.pace.trusted()));
                    return Ok(());
                }
                Err(StoreError::Conflict { found: Some(found), .. }) if found > self.version => self.version = found,
                Err(StoreError::Conflict { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.trust.set(None);
        self.held.clear();
        Err(LeaseError::Lost)
    }

    /// Says that it lives, removes who is dead, takes what is free and its part, and answers what it should give up.
    pub async fn turn(&mut self) -> Result<Vec<Share>, LeaseError> {
        self.beat().await?;
        let peers = self.look().await?;
        let mut surplus = Vec::new();
        for (role, partitions) in self.joining.roles.clone() {
            surplus.extend(self.share_out(&role, partitions, &peers).await?);
        }
        Ok(surplus)
    }

    /// Everybody who lives, and who has what. Who was silent for too long is removed.
    async fn look(&mut self) -> Result<Peers, StoreError> {
        let Pace { beat, dead_after } = self.joining.pace;
        let began = (self.joining.clock)();
        let mut peers = list(&*self.joining.store).await?;
        self.sightings.note(&peers.nodes, began, (self.joining.clock)(), beat * 2);
        let silent = |id: &&String| **id != self.id && self.sightings.unchanged(id) >= dead_after;
        let dead: Vec<String> = peers.nodes.keys().filter(silent).cloned().collect();
        for id in dead {
            let Some(node) = peers.nodes.get(&id) else { continue };
            let (key, expect) = (node_key(&id), Expect::Version(node.version));
            match self.joining.store.delete(TenantId::SYSTEM, Table::Leases, &key, expect).await {
                Ok(()) => {
                    tracing::warn!(node = node.name, "a process was silent for too long; others take over what it had");
                    peers.nodes.remove(&id);
                }
                // It lives after all, or somebody else was faster.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(peers)
    }

    /// Takes what is free of a role, up to its part; answers what it has too much.
    async fn share_out(&mut self, role: &str, partitions: u32, peers: &Peers) -> Result<Vec<Share>, StoreError> {
        let of_role = |node: &NodeRow| node.roles.iter().any(|known| known == role);
        let others: BTreeSet<&String> =
            peers.nodes.iter().filter(|(id, node)| **id != self.id && of_role(node)).map(|(id, _)| id).collect();
        let shares = (0..partitions).map(|partition| Share { role: role.to_owned(), partition });
        // What somebody has failed at counts for nobody's part.
        let is_hard = |share: &Share| self.left_alone.contains(share) || peers.failed_at(share).next().is_some();
        let hard: BTreeSet<Share> = shares.clone().filter(is_hard).collect();
        let (all, processes) = (partitions as usize - hard.len(), others.len() + 1);
        let (least_fair, fair) = (all / processes, all.div_ceil(processes));
        let counts_for = |share: &Share| share.role == role && !hard.contains(share);
        let count =
            |id: &String| peers.leases.iter().filter(|(s, l)| counts_for(s) && l.owner.as_ref() == Some(id)).count();
        let counts: Vec<usize> = others.into_iter().map(count).collect();
        let (taken, free): (Vec<Share>, Vec<Share>) =
            shares.filter(|share| !self.held.contains_key(share)).partition(|share| peers.owner(share).is_some());
        for share in taken.iter().filter(|share| self.left_alone.contains(*share)) {
            if peers.leases.get(share).is_some_and(|lease| lease.owner.as_ref() != Some(&self.id)) {
                (self.joining.elsewhere)(share);
            }
        }
        // Taken by a write that nobody answered.
        for share in taken {
            if let Some(lease) = peers.leases.get(&share).filter(|lease| lease.owner.as_ref() == Some(&self.id)) {
                self.held.insert(share, Hold { version: lease.version, token: lease.token });
            }
        }
        // Whoever has not failed at it takes it beside its part, and keeps it.
        let (hard_free, free): (Vec<Share>, Vec<Share>) = free.into_iter().partition(|share| hard.contains(share));
        let beside: Vec<Share> = hard_free.into_iter().filter(|share| !self.left_alone.contains(share)).collect();
        for share in &beside {
            self.take(share, peers.leases.get(share)).await?;
        }
        let mine: Vec<Share> = self.held.keys().filter(|share| counts_for(share)).cloned().collect();
        let is_all_taken = free.is_empty();
        // Peers begin at different places, so that they seldom reach for the same.
        let begin = usize::try_from(xxhash_rust::xxh3::xxh3_64(self.id.as_bytes()) % 4096).unwrap_or(0);
        let order = (0..free.len()).map(|at| &free[(at + begin) % free.len()]);
        // Beyond what each has at least it leaves to the others what they lack of that.
        let own_room = least_fair.saturating_sub(mine.len());
        let lacking: usize = counts.iter().map(|count| least_fair.saturating_sub(*count)).sum();
        let more = free.len().saturating_sub(own_room + lacking);
        let mut room = (own_room + more).min(fair.saturating_sub(mine.len()));
        for share in order {
            if room == 0 {
                break;
            }
            room -= usize::from(self.take(share, peers.leases.get(share)).await?);
        }
        let least = counts.into_iter().min();
        let is_uneven = is_all_taken && least.is_some_and(|least| mine.len() > least + 1);
        let surplus = mine.len().saturating_sub(fair).max(usize::from(is_uneven));
        Ok(mine.into_iter().rev().take(surplus).collect())
    }

    /// Takes a share that nobody has; false when another was faster.
    async fn take(&mut self, share: &Share, found: Option<&Lease>) -> Result<bool, StoreError> {
        let token = found.map_or(0, |lease| lease.token) + 1;
        let lease = Lease { owner: Some(self.id.clone()), name: self.joining.name.clone(), token, version: 0 };
        let expect = found.map_or(Expect::Absent, |lease| Expect::Version(lease.version));
        match self.write(&share_key(share), &lease, expect).await {
            Ok(version) => {
                self.held.insert(share.clone(), Hold { version, token });
                Ok(true)
            }
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a share up: nothing is written for it any more.
    pub async fn release(&mut self, share: &Share) -> Result<(), StoreError> {
        let Some(Hold { version, token }) = self.held.get(share).copied() else { return Ok(()) };
        let lease = Lease { owner: None, name: self.joining.name.clone(), token, version: 0 };
        match self.write(&share_key(share), &lease, Expect::Version(version)).await {
            // Another's by now, or given up by a write that nobody answered.
            Ok(_) | Err(StoreError::Conflict { .. }) => {
                self.held.remove(share);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Goes: what it had is free at once.
    pub async fn leave(mut self) -> Result<(), StoreError> {
        self.trust.set(None);
        let held: Vec<Share> = self.held.keys().cloned().collect();
        for share in &held {
            self.release(share).await?;
        }
        let expect = Expect::Version(self.version);
        match self.joining.store.delete(TenantId::SYSTEM, Table::Leases, &node_key(&self.id), expect).await {
            Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
