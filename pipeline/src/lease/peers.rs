//! The rows of leases: who takes part, who has what, and who has not been heard of for too long.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::TenantId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Pace, Share};
use crate::store::{Store, StoreError, Table};

const PAGE: usize = 1_000;
pub(super) const NODES: &str = "node/";
const SHARES: &str = "share/";

/// A process that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// What people know it by.
    pub name: String,
    /// The roles whose partitions it takes.
    pub roles: Vec<String>,
    /// Why its work does not get on, as long as it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stall: Option<String>,
    /// The shares that it has failed at lately and leaves to others, by their keys.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub failed: Vec<String>,
    /// How often it was written.
    #[serde(skip)]
    pub version: u64,
}

/// Who has a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The id of the process; nobody's without one.
    pub owner: Option<String>,
    /// What people know that process by.
    pub name: String,
    /// Raised whenever another process takes it.
    pub token: u64,
    /// The version of its row.
    #[serde(skip)]
    pub version: u64,
}

/// All that is known of leases.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// Processes by their ids.
    pub nodes: BTreeMap<String, NodeRow>,
    /// Who has what.
    pub leases: BTreeMap<Share, Lease>,
}

impl Peers {
    /// The process that has a share, if it takes part.
    pub fn owner(&self, share: &Share) -> Option<&NodeRow> {
        self.nodes.get(self.leases.get(share)?.owner.as_ref()?)
    }

    /// A process that has said that it lives since these were read.
    pub(crate) fn woken<'a>(&self, now: &'a Self) -> Option<&'a NodeRow> {
        let is_known =
            |id: &String, node: &NodeRow| self.nodes.get(id).is_some_and(|then| then.version == node.version);
        now.nodes.iter().find(|(id, node)| !is_known(id, node)).map(|(_, node)| node)
    }

    /// The processes that have failed at a share lately and leave it to others.
    pub fn failed_at(&self, share: &Share) -> impl Iterator<Item = &NodeRow> {
        let key = share.key();
        self.nodes.values().filter(move |node| node.failed.contains(&key))
    }
}

/// Reads all leases. Processes are read behind what they have: who is named there and not listed then has been removed, as
/// one that has just come is listed before it takes anything.
pub async fn list(store: &dyn Store) -> Result<Peers, StoreError> {
    let mut leases = BTreeMap::new();
    for (key, version, value) in scan(store, SHARES).await? {
        let Some(share) = Share::of_key(&key[SHARES.len()..]) else { continue };
        let lease: Lease = read(&key, &value)?;
        leases.insert(share, Lease { version, ..lease });
    }
    let mut nodes = BTreeMap::new();
    for (key, version, value) in scan(store, NODES).await? {
        let node: NodeRow = read(&key, &value)?;
        nodes.insert(key[NODES.len()..].to_owned(), NodeRow { version, ..node });
    }
    Ok(Peers { nodes, leases })
}

/// Whether nobody lives: all that are listed then are dead. Else one that does. It takes as long as one may be silent, if
/// anybody is listed.
pub(crate) async fn idle(store: &dyn Store, pace: Pace) -> Result<Result<Peers, NodeRow>, StoreError> {
    let (begun, before) = (Instant::now(), list(store).await?);
    while !before.nodes.is_empty() && begun.elapsed() < pace.dead_after {
        tokio::time::sleep(pace.beat).await;
        let now = list(store).await?;
        if let Some(node) = before.woken(&now) {
            return Ok(Err(node.clone()));
        }
        if now.nodes.is_empty() {
            return Ok(Ok(now));
        }
    }
    Ok(Ok(before))
}

async fn scan(store: &dyn Store, prefix: &str) -> Result<Vec<(String, u64, Bytes)>, StoreError> {
    let mut found: Vec<(String, u64, Bytes)> = Vec::new();
    loop {
        let after = found.last().map(|(key, ..)| key.as_str());
        let page = store.scan(TenantId::SYSTEM, Table::Leases, prefix, after, PAGE).await?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page.into_iter().map(|(key, row)| (key, row.version, row.value)));
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|e| StoreError::Unreadable(format!("the lease {key}: {e}")))
}

pub(super) fn node_key(id: &str) -> String {
    format!("{NODES}{id}")
}

pub(super) fn share_key(share: &Share) -> String {
    format!("{SHARES}{}", share.key())
}

/// Since when the rows of processes have not changed, as one observer has seen it.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    seen: HashMap<String, Sighting>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Sighting {
    version: u64,
    unchanged: Duration,
}

impl Sightings {
    /// Notes what was found by a look that began at `began` and ended at `ended`. Of the time between two looks no more than
    /// `gap_max` counts: an observer that slept, or whose clock jumped, takes nobody for dead by that.
    pub(super) fn note(
        &mut self,
        nodes: &BTreeMap<String, NodeRow>,
        began: Instant,
        ended: Instant,
        gap_max: Duration,
    ) {
        let gap = self.looked.map_or(Duration::ZERO, |last| began.saturating_duration_since(last)).min(gap_max);
        self.looked = Some(ended);
        self.seen.retain(|id, _| nodes.contains_key(id));
        for (id, node) in nodes {
            let new = || Sighting { version: node.version, unchanged: Duration::ZERO };
            match self.seen.get_mut(id) {
                Some(sighting) if sighting.version == node.version => sighting.unchanged += gap,
                Some(sighting) => *sighting = new(),
                None => _ = self.seen.insert(id.clone(), new()),
            }
        }
    }

    /// How long a row has not changed.
    pub(super) fn unchanged(&self, id: &str) -> Duration {
        self.seen.get(id).map_or(Duration::ZERO, |sighting| sighting.unchanged)
    }
}
