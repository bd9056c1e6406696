//! Moving a log and a store to others: every record keeps its place and its time, every row its version, and what is sealed
//! stays sealed. So ids, marks, hashes and entity tags go on meaning what they meant.
//!
//! The log goes first, partition by partition, then the rows. A run that was cut off goes on where it was. In the end both
//! sides are read from the beginning and must have the same counts and hashes. Nobody may write to either side meanwhile:
//! a move begins only when no process lives there, and does not end well if one has begun since. What is of processes and of
//! a folder alone stays behind.

mod log;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use futures::future::try_join;
use schemas::Topic;

use crate::definitions::DefinitionError;
use crate::lease::{self, Pace, Peers};
use crate::log::{Log, LogError};
use crate::store::{Store, StoreError, Table};

/// A log and a store that belong together, as they lie: what is sealed is not opened.
#[derive(Clone)]
pub struct Place {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
}

/// A partition of the log or a table of the store, as both sides have it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Part {
    /// `TOPIC/PARTITION`, or the table.
    pub name: String,
    /// Items, or rows.
    pub count: u64,
    /// SHA-256 over all of it, in hex.
    pub hash: String,
}

/// How far a move is: of a part so many are done, of so many where that is known.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The part.
    pub name: &'a str,
    /// Items or rows that are done.
    pub done: u64,
    /// Of how many.
    pub total: Option<u64>,
}

/// Log and store are not moved, or not all of them. What was moved stays: the same move goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tenants cannot be listed.
    #[error(transparent)]
    Tenants(#[from] DefinitionError),
    /// Places would change.
    #[error(
        "topic {topic} has {from} partitions and {to} where it is to move: remove the topic there while it is empty, and \
         have it made anew"
    )]
    Partitions {
        /// The topic.
        topic: Topic,
        /// How many it has.
        from: u32,
        /// How many it has where it is to move.
        to: u32,
    },
    /// Places would change.
    #[error(
        "topic {topic} is of epoch {from}, and of epoch {to} where it is to move, so it was not made for this move: remove \
         it there while it is empty, or name another"
    )]
    Epoch {
        /// The topic.
        topic: Topic,
        /// Its epoch.
        from: u32,
        /// Its epoch where it is to move.
        to: u32,
    },
    /// Somebody works on one of them.
    #[error(
        "the process {0} works on the log and the store that are to move, or on those to move to: end it and every other one \
         with SIGTERM, then run the same command again"
    )]
    Served(String),
    /// The store to move to is somebody's.
    #[error("the store to move to has rows, though nothing has moved there yet: name an empty one")]
    NotEmpty,
    /// The log to move to is somebody's, or somebody writes there.
    #[error(
        "topic {topic}, partition {partition} has at offset {offset} what does not come from here: stop whoever writes \
         there, and move to an empty log"
    )]
    Foreign {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// The first offset that is not as it should be.
        offset: u64,
    },
    /// The store to move to is somebody's, or somebody writes there.
    #[error("a row of {table:?} is another one there, {key:?}: stop whoever writes there, and move to an empty store")]
    Row {
        /// Its table.
        table: Table,
        /// Its key.
        key: String,
    },
    /// The two sides differ in the end.
    #[error(
        "{name} has {from} with hash {from_hash}, and {to} with hash {to_hash} where it moved: somebody writes to one of \
         them, or the target was not empty; move to an empty one"
    )]
    Differs {
        /// The part.
        name: String,
        /// Its items or rows.
        from: u64,
        /// Their hash.
        from_hash: String,
        /// Items or rows where it moved.
        to: u64,
        /// Their hash.
        to_hash: String,
    },
}

/// Moves everything, compares both sides, and answers what they have. `told` hears how far it is.
pub async fn migrate(
    from: &Place,
    to: &Place,
    told: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Vec<Part>, MigrateError> {
    migrate_at(Pace::default(), from, to, told).await
}

/// The same, where processes have this pace.
async fn migrate_at(
    pace: Pace,
    from: &Place,
    to: &Place,
    told: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Vec<Part>, MigrateError> {
    fits(from, to)?;
    let (dead_here, dead_there) = try_join(idle(&*from.store, pace), idle(&*to.store, pace)).await?;
    if log::is_empty(&*to.log).await? && !log::is_empty(&*from.log).await? && store::has_rows(&*to.store).await? {
        return Err(MigrateError::NotEmpty);
    }
    let (mut parts, mut tenants) = (Vec::new(), BTreeSet::new());
    for topic in Topic::ALL {
        for partition in 0..from.log.partitions(topic) {
            log::copy(&*from.log, &*to.log, (topic, partition), told).await?;
        }
    }
    to.log.sync().await?;
    for topic in Topic::ALL {
        for partition in 0..from.log.partitions(topic) {
            let (mut ours, mut theirs) = (BTreeSet::new(), BTreeSet::new());
            let (one, other) = try_join(
                log::sum(&*from.log, (topic, partition), &mut ours),
                log::sum(&*to.log, (topic, partition), &mut theirs),
            )
            .await?;
            parts.push(same(one, other)?);
            tenants.extend(ours);
        }
    }
    tenants.extend(store::tenants(&*from.store).await?);
    for table in Table::ALL {
        store::copy(&*from.store, &*to.store, table, &tenants, told).await?;
    }
    to.log.sync().await?;
    tenants.extend(store::tenants(&*to.store).await?);
    for table in Table::ALL {
        let sums = try_join(store::sum(&*from.store, table, &tenants), store::sum(&*to.store, table, &tenants));
        let (one, other) = sums.await?;
        parts.push(same(one, other)?);
    }
    still_idle(&*from.store, &dead_here).await?;
    still_idle(&*to.store, &dead_there).await?;
    parts.retain(|part| part.count > 0);
    Ok(parts)
}

/// Refuses a store that a process works on; answers who is listed there and dead.
async fn idle(store: &dyn Store, pace: Pace) -> Result<Peers, MigrateError> {
    lease::idle(store, pace).await?.map_err(|node| MigrateError::Served(node.name))
}

/// Refuses a store that a process has begun to work on.
async fn still_idle(store: &dyn Store, dead: &Peers) -> Result<(), MigrateError> {
    match dead.woken(&lease::list(store).await?) {
        Some(node) => Err(MigrateError::Served(node.name.clone())),
        None => Ok(()),
    }
}

/// Whether places can stay what they are.
fn fits(from: &Place, to: &Place) -> Result<(), MigrateError> {
    for topic in Topic::ALL {
        let counts = (from.log.partitions(topic), to.log.partitions(topic));
        if counts.0 != counts.1 {
            return Err(MigrateError::Partitions { topic, from: counts.0, to: counts.1 });
        }
        let epochs = (from.log.epoch(topic), to.log.epoch(topic));
        if epochs.0 != epochs.1 {
            return Err(MigrateError::Epoch { topic, from: epochs.0, to: epochs.1 });
        }
    }
    Ok(())
}

fn same(one: Part, other: Part) -> Result<Part, MigrateError> {
    if one == other {
        return Ok(one);
    }
    let Part { name, count: from, hash: from_hash } = one;
    Err(MigrateError::Differs { name, from, from_hash, to: other.count, to_hash: other.hash })
}

/// A hash of much that comes piece by piece.
struct Sum(Context);

impl Sum {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    /// Their length goes before them, so that no two sequences of pieces look alike.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
