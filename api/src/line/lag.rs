//! How far the roles are behind, wherever they run: of every partition that they read, what they have not done yet.

use std::collections::BTreeMap;

use pipeline::process::{Processed, Reader};
use projections::view::ViewError;
use schemas::Topic;
use tokio::sync::watch;

use super::Line;

/// Who folds `events` into the views that this process answers by, …
const PROJECTOR: &str = "projector";
/// … and who has put them into the files of tables.
const TABLES: &str = "tables";

/// How far a role is behind in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// The role: a reader that has checkpoints, `projector` or `tables`.
    pub role: &'static str,
    /// What it reads.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// Items that it has not done yet.
    pub items: u64,
}

impl Line {
    /// How far every role is behind: the end of each partition less what is done of it.
    pub async fn lags(&self) -> anyhow::Result<Vec<Lag>> {
        let roles = &self.roles;
        let of = |reader: Reader, done: Vec<u64>| (reader.name(), reader.topic(), done);
        let places = |all: &[watch::Receiver<u64>]| all.iter().map(|place| *place.borrow()).collect();
        let partitions = 0..self.log.partitions(Topic::Events);
        let done = [
            of(Reader::Processor, roles.processed.iter().map(Processed::next).collect()),
            of(Reader::QuarantineKeeper, places(&roles.kept)),
            of(Reader::Repairer, roles.repaired.iter().map(|repaired| *repaired.done.borrow()).collect()),
            of(Reader::NoticeKeeper, places(&roles.noticed)),
            (PROJECTOR, Topic::Events, partitions.map(|partition| roles.projector.position(partition)).collect()),
            (TABLES, Topic::Events, self.in_tables().await?),
        ];
        // After the places: meanwhile both only grow.
        let mut ends = BTreeMap::new();
        for topic in Topic::ALL {
            for partition in 0..self.log.partitions(topic) {
                ends.insert((topic, partition), self.log.end(topic, partition).await?);
            }
        }
        let mut lags = Vec::new();
        for (role, topic, places) in done {
            for (partition, done) in (0..).zip(places) {
                let end = ends.get(&(topic, partition)).copied().unwrap_or_default();
                lags.push(Lag { role, topic, partition, items: end.saturating_sub(done) });
            }
        }
        Ok(lags)
    }

    /// Up to where the tables have everything, whoever writes them.
    async fn in_tables(&self) -> Result<Vec<u64>, ViewError> {
        let mut places = Vec::new();
        for partition in 0..self.log.partitions(Topic::Events) {
            places.push(self.roles.projector.in_tables(partition).await?);
        }
        Ok(places)
    }
}
