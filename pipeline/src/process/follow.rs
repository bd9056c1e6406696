//! How far readers are that run in other processes: as their checkpoints in the store say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemas::Topic;
use tokio::sync::watch;

use super::checkpoint::peek;
use super::{ProcessError, Stall};
use crate::lease::{self, Share};
use crate::log::Log;
use crate::store::Store;

/// Between two looks at the checkpoints, and at who works on what.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AT_LEASES: Duration = Duration::from_secs(3);
/// A partition that nobody works on for so long is told.
const NOBODY_AFTER: Duration = Duration::from_secs(20);

/// A reader that keeps a checkpoint for each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Of `inputs`.
    Processor,
    /// Of `decisions`: it keeps what was set aside.
    QuarantineKeeper,
    /// Of `decisions`: it keeps the cases.
    Repairer,
    /// Of `decisions`: it keeps what people are told.
    NoticeKeeper,
}

impl Reader {
    const ALL: [Self; 4] = [Self::Processor, Self::QuarantineKeeper, Self::Repairer, Self::NoticeKeeper];

    /// What it reads.
    pub const fn topic(self) -> Topic {
        match self {
            Self::Processor => Topic::Inputs,
            Self::QuarantineKeeper | Self::Repairer | Self::NoticeKeeper => Topic::Decisions,
        }
    }

    /// Its name in its checkpoints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processor => super::READER,
            Self::QuarantineKeeper => crate::quarantine::READER,
            Self::Repairer => crate::repair::READER,
            Self::NoticeKeeper => crate::notices::READER,
        }
    }
}

/// Follows the readers of every partition.
pub struct Follower {
    store: Arc<dyn Store>,
    places: Vec<(Reader, u32, watch::Sender<u64>)>,
    stall: Stall,
    /// The shares that somebody should work on.
    shares: Vec<Share>,
    /// Those that nobody does.
    alone: BTreeMap<Share, Alone>,
    looked: Option<Instant>,
}

/// A share that nobody works on.
struct Alone {
    since: Instant,
    /// The processes that have failed at it.
    failed: Vec<String>,
}

impl Follower {
    /// Looks for the first time. Each of `roles` shares the partitions of a topic.
    pub async fn start(log: &dyn Log, store: Arc<dyn Store>, roles: &[(&str, Topic)]) -> Result<Self, ProcessError> {
        let partitions = log.partitions(Topic::Inputs);
        let all = Reader::ALL.into_iter().flat_map(|reader| (0..partitions).map(move |p| (reader, p)));
        let places = all.map(|(reader, partition)| (reader, partition, watch::Sender::new(0))).collect();
        let share = |role: &str, partition| Share { role: role.to_owned(), partition };
        let of_role = |&(role, topic): &(&str, Topic)| -> Vec<Share> {
            (0..log.partitions(topic)).map(|partition| share(role, partition)).collect()
        };
        let shares = roles.iter().flat_map(of_role).collect();
        let (stall, alone) = (Stall::new(None), BTreeMap::new());
        let follower = Self { store, places, stall, shares, alone, looked: None };
        follower.look().await?;
        Ok(follower)
    }

    /// How far a reader is, one for each partition.
    pub fn places(&self, reader: Reader) -> Vec<watch::Receiver<u64>> {
        let of_reader = self.places.iter().filter(|(known, ..)| *known == reader);
        of_reader.map(|(.., place)| place.subscribe()).collect()
    }

    /// Why readers do not get on, as far as can be seen from here: nobody works on a partition, or the store is away.
    pub fn stall(&self) -> watch::Receiver<Option<String>> {
        self.stall.subscribe()
    }

    /// Follows until `shutdown` says true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), ProcessError> {
        loop {
            let why = match self.look().await {
                Ok(()) => self.look_for_workers().await,
                Err(error) => Err(error),
            };
            let why = match why {
                Ok(why) => why,
                Err(error) if error.is_retryable() => Some(error.to_string()),
                Err(error) => return Err(error),
            };
            self.stall.send_if_modified(|stall| std::mem::replace(stall, why.clone()) != why);
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    async fn look(&self) -> Result<(), ProcessError> {
        let looks = self.places.iter().map(|(reader, partition, place)| async move {
            let found = peek(&*self.store, reader.topic(), *partition, reader.name()).await?;
            place.send_if_modified(|known| {
                let is_new = found > *known;
                *known = found.max(*known);
                is_new
            });
            Ok::<_, ProcessError>(())
        });
        futures::future::try_join_all(looks).await.map(|_| ())
    }

    /// Which partitions nobody works on, if that is so for long.
    async fn look_for_workers(&mut self) -> Result<Option<String>, ProcessError> {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_AT_LEASES) {
            let peers = lease::list(&*self.store).await?;
            self.looked = Some(Instant::now());
            self.alone.retain(|share, _| peers.owner(share).is_none());
            for share in self.shares.iter().filter(|share| peers.owner(share).is_none()) {
                let failed = peers.failed_at(share).map(|node| node.name.clone()).collect();
                let since = self.alone.get(share).map_or_else(Instant::now, |alone| alone.since);
                self.alone.insert(share.clone(), Alone { since, failed });
            }
        }
        let longest = self.alone.iter().find(|(_, alone)| alone.since.elapsed() >= NOBODY_AFTER);
        Ok(longest.map(|(share, alone)| told(share, &alone.failed)))
    }
}

/// That nobody works on a share, and what to do.
fn told(share: &Share, failed: &[String]) -> String {
    let start = format!("start a process with `autonomos serve --roles {}`", share.role);
    match failed {
        [] => format!("nobody works on {share}: {start}"),
        _ => format!(
            "nobody works on {share}: {} failed at it and will try again; `autonomos doctor` and the log output there say why",
            failed.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ENTITY, Line, MAPPING, record};

    #[test]
    fn a_partition_without_anybody_is_told_with_who_failed_at_it_or_else_what_to_start() {
        let share = Share { role: "repair".to_owned(), partition: 2 };
        assert!(
            told(&share, &[]).ends_with("partition 2 of repair: start a process with `autonomos serve --roles repair`")
        );
        let failed = told(&share, &["a:1".to_owned(), "b:2".to_owned()]);
        assert!(failed.contains("a:1, b:2 failed at it") && !failed.contains("start"), "{failed}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_follows_sees_how_far_readers_elsewhere_are() {
        let line = Line::new();
        let open = line.open("orders", MAPPING, ENTITY).await;
        line.append(&open, 1, 0, &[&record(1)]).await;
        let follower = Follower::start(&*line.log, line.store.clone(), &[("process", Topic::Inputs)]).await.unwrap();
        let mut processed = follower.places(Reader::Processor).remove(0);
        assert_eq!((*processed.borrow(), follower.places(Reader::Repairer).len()), (0, 1));
        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(follower.run(stopped));
        line.process().await;
        let end = line.log.end(Topic::Inputs, 0).await.unwrap();
        processed.wait_for(|next| *next >= end).await.unwrap();
        stop.send_replace(true);
        following.await.unwrap().unwrap();
    }
}
