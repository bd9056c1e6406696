//! How far the roles are behind: of every partition that they read, what they have not done yet.

use std::collections::BTreeMap;

use pipeline::process::Processed;
use pipeline::{Table, notices, process, quarantine, repair};
use schemas::{TenantId, Topic};

use super::Line;

/// A role, as a reader of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Folds `inputs`.
    Processor,
    /// Keeps the notes of what was set aside.
    QuarantineKeeper,
    /// Keeps cases, and sends back in what they call for.
    Repairer,
    /// Keeps what people are to be told.
    NoticeKeeper,
    /// Folds `events` into views.
    Projector,
}

impl Reader {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Processor, Self::QuarantineKeeper, Self::Repairer, Self::NoticeKeeper, Self::Projector];

    /// Its name, which its checkpoints have as well.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processor => process::READER,
            Self::QuarantineKeeper => quarantine::READER,
            Self::Repairer => repair::READER,
            Self::NoticeKeeper => notices::READER,
            Self::Projector => "projector",
        }
    }

    /// What it reads.
    pub const fn topic(self) -> Topic {
        match self {
            Self::Processor => Topic::Inputs,
            Self::QuarantineKeeper | Self::Repairer | Self::NoticeKeeper => Topic::Decisions,
            Self::Projector => Topic::Events,
        }
    }
}

/// How far a role is behind in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// The role.
    pub reader: Reader,
    /// The partition of its topic.
    pub partition: u32,
    /// Items that it has not done yet.
    pub items: u64,
}

impl Line {
    /// How far every role is behind, wherever it runs: the end of each partition less what is done of it.
    pub async fn lags(&self) -> anyhow::Result<Vec<Lag>> {
        let mut done = Vec::new();
        for reader in Reader::ALL {
            for partition in 0..self.log.partitions(reader.topic()) {
                done.push((reader, partition, self.done(reader, partition).await?));
            }
        }
        // After the places: meanwhile both only grow.
        let mut ends = BTreeMap::new();
        for topic in Topic::ALL {
            for partition in 0..self.log.partitions(topic) {
                ends.insert((topic, partition), self.log.end(topic, partition).await?);
            }
        }
        let lag = |(reader, partition, done): (Reader, u32, u64)| {
            let end = ends.get(&(reader.topic(), partition)).copied().unwrap_or_default();
            Lag { reader, partition, items: end.saturating_sub(done) }
        };
        Ok(done.into_iter().map(lag).collect())
    }

    /// The first item of a partition that a role has not done: what it says itself where it runs in this process, and at
    /// least its checkpoint.
    async fn done(&self, reader: Reader, partition: u32) -> anyhow::Result<u64> {
        let (roles, at) = (&self.roles, partition as usize);
        let here = match reader {
            Reader::Processor => roles.processed.get(at).map(Processed::next),
            Reader::QuarantineKeeper => roles.kept.get(at).map(|kept| *kept.borrow()),
            Reader::Repairer => roles.repaired.get(at).map(|repaired| *repaired.done.borrow()),
            Reader::NoticeKeeper => roles.noticed.get(at).map(|kept| *kept.borrow()),
            Reader::Projector => Some(roles.projector.position(partition)),
        };
        let key = format!("{}/{partition}/{}", reader.topic(), reader.name());
        let row = self.store.get(TenantId::SYSTEM, Table::Checkpoints, &key).await?;
        // The offset stands last, whether or not an epoch stands before it.
        let offset = row.and_then(|row| row.value.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)));
        Ok(here.unwrap_or_default().max(offset.unwrap_or_default()))
    }
}
