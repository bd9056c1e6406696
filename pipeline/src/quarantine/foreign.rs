//! Notes of messages on the log's topics that are none of the line's. They are of no tenant, for nobody knows whose they are.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use schemas::{TenantId, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::log::{Foreign, Log};
use crate::store::{Expect, Row, Store, StoreError, Table};

/// Between two looks for messages that no reader has noted, because no item stands behind them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Rows read at a time.
const PAGE: usize = 256;
/// Notes written without waiting for one another.
const NOTES_AT_ONCE: usize = 64;

/// A foreign message's note. Its bytes stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignNote {
    /// The topic.
    pub topic: Topic,
    /// The topic's generation.
    pub epoch: u32,
    /// The partition.
    pub partition: u32,
    /// The server's own number of the message, for Kafka its offset.
    pub message: i64,
    /// The offset of the item that comes next.
    pub next: u64,
    /// When the server took it, in microseconds since 1970 UTC.
    pub logged_at: i64,
    /// What is wrong with it.
    pub why: String,
    /// Whether somebody has said that they have seen to it.
    #[serde(default)]
    pub is_seen: bool,
}

impl ForeignNote {
    fn new(epoch: u32, foreign: Foreign) -> Self {
        let Foreign { topic, partition, message, next, logged_at, why } = foreign;
        Self { topic, epoch, partition, message, next, logged_at, why, is_seen: false }
    }

    fn key(&self) -> String {
        let Self { topic, epoch, partition, message, .. } = self;
        format!("{topic}/{epoch:010}/{partition:04}/{message:020}")
    }

    fn value(&self) -> bytes::Bytes {
        serde_json::to_vec(self).expect("a note has only text keys").into()
    }
}

/// Notes the foreign messages of a partition that this process has met. Whoever reads a partition does so before it moves its
/// checkpoint, so that none is passed over without a note; a note that is there stays as it is.
pub async fn note_foreign(log: &dyn Log, store: &dyn Store, topic: Topic, partition: u32) -> Result<(), StoreError> {
    let Some(oddities) = log.oddities() else { return Ok(()) };
    for some in oddities.waiting(topic, partition).chunks(NOTES_AT_ONCE) {
        try_join_all(some.iter().map(|foreign| note_one(log.epoch(topic), store, foreign))).await?;
        some.iter().for_each(|foreign| oddities.noted(foreign));
    }
    Ok(())
}

async fn note_one(epoch: u32, store: &dyn Store, foreign: &Foreign) -> Result<(), StoreError> {
    let note = ForeignNote::new(epoch, foreign.clone());
    match store.put(TenantId::SYSTEM, Table::Quarantine, &note.key(), note.value(), Expect::Absent).await {
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Notes foreign messages that nobody's checkpoint has come to, until `shutdown` says true; at once where a log has no servers
/// that others could write to.
pub async fn watch_foreign(log: Arc<dyn Log>, store: Arc<dyn Store>, mut shutdown: watch::Receiver<bool>) {
    if log.oddities().is_none() {
        return;
    }
    loop {
        for topic in Topic::ALL {
            for partition in 0..log.partitions(topic) {
                if let Err(error) = note_foreign(&*log, &*store, topic, partition).await {
                    tracing::warn!(%topic, partition, %error, "foreign messages are not noted yet");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
    }
}

/// The notes of foreign messages, from the first after `after` on.
pub async fn list_foreign(
    store: &dyn Store,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, ForeignNote)>, StoreError> {
    let rows = store.scan(TenantId::SYSTEM, Table::Quarantine, "", after, limit).await?;
    rows.into_iter().map(|(key, row)| read(&key, &row).map(|note| (key, note))).collect()
}

/// Notes of all that are there now that they were seen to. Answers how many were not yet.
pub async fn see_foreign(store: &dyn Store) -> Result<usize, StoreError> {
    let (mut after, mut seen) = (None::<String>, 0);
    loop {
        let rows = store.scan(TenantId::SYSTEM, Table::Quarantine, "", after.as_deref(), PAGE).await?;
        let Some((last, _)) = rows.last() else { return Ok(seen) };
        after = Some(last.clone());
        for (key, row) in &rows {
            let mut note = read(key, row)?;
            if !std::mem::replace(&mut note.is_seen, true) {
                store.put(TenantId::SYSTEM, Table::Quarantine, key, note.value(), Expect::Any).await?;
                seen += 1;
            }
        }
    }
}

fn read(key: &str, row: &Row) -> Result<ForeignNote, StoreError> {
    let unreadable =
        |e: serde_json::Error| StoreError::Unreadable(format!("the note of the foreign message {key}: {e}"));
    serde_json::from_slice(&row.value).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use schemas::Batch;

    use super::*;
    use crate::engine::Partitions;
    use crate::log::oddities::foreign;
    use crate::log::{Durability, LogError, MemoryLog, Oddities, Stored};
    use crate::store::MemoryStore;

    /// A log to which others write, too.
    struct Open {
        log: MemoryLog,
        oddities: Oddities,
    }

    #[async_trait]
    impl Log for Open {
        fn partitions(&self, topic: Topic) -> u32 {
            self.log.partitions(topic)
        }
        fn epoch(&self, topic: Topic) -> u32 {
            self.log.epoch(topic)
        }
        async fn append(
            &self,
            topic: Topic,
            partition: u32,
            batches: Vec<Batch>,
            durability: Durability,
        ) -> Result<Vec<u64>, LogError> {
            self.log.append(topic, partition, batches, durability).await
        }
        async fn read(&self, topic: Topic, partition: u32, from: u64, bytes: usize) -> Result<Vec<Stored>, LogError> {
            self.log.read(topic, partition, from, bytes).await
        }
        async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError> {
            self.log.end(topic, partition).await
        }
        async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError> {
            self.log.wait_beyond(topic, partition, offset).await
        }
        fn oddities(&self) -> Option<&Oddities> {
            Some(&self.oddities)
        }
        async fn sync(&self) -> Result<(), LogError> {
            self.log.sync().await
        }
    }

    fn open() -> Open {
        let log = MemoryLog::new(Partitions { inputs: 2, events: 1, decisions: 2 });
        Open { log, oddities: Oddities::default() }
    }

    async fn noted(store: &dyn Store) -> Vec<(Topic, u32, i64, bool)> {
        let notes = list_foreign(store, None, 100).await.unwrap();
        notes.into_iter().map(|(_, note)| (note.topic, note.partition, note.message, note.is_seen)).collect()
    }

    #[tokio::test]
    async fn a_foreign_message_is_noted_once_whoever_meets_it_and_stays_seen() {
        let (log, store) = (open(), MemoryStore::new());
        for (topic, partition, message) in [(Topic::Inputs, 0, 9), (Topic::Inputs, 0, 10), (Topic::Inputs, 1, 2)] {
            log.oddities.met(foreign(topic, partition, message));
        }
        note_foreign(&log, &store, Topic::Inputs, 0).await.unwrap();
        assert_eq!(noted(&store).await, [(Topic::Inputs, 0, 9, false), (Topic::Inputs, 0, 10, false)]);
        assert_eq!(log.oddities.waiting(Topic::Inputs, 1).len(), 1, "another partition is another reader's");
        assert_eq!(see_foreign(&store).await.unwrap(), 2);
        let other = open();
        other.oddities.met(foreign(Topic::Inputs, 0, 9));
        note_foreign(&other, &store, Topic::Inputs, 0).await.unwrap();
        assert!(other.oddities.waiting(Topic::Inputs, 0).is_empty());
        assert_eq!(noted(&store).await, [(Topic::Inputs, 0, 9, true), (Topic::Inputs, 0, 10, true)]);
        assert_eq!(see_foreign(&store).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_nothing_stands_behind_is_noted_too() {
        let (log, store) = (Arc::new(open()), Arc::new(MemoryStore::new()));
        log.oddities.met(foreign(Topic::Events, 0, 4));
        let (stop, stopped) = watch::channel(false);
        let watching = tokio::spawn(watch_foreign(log.clone(), store.clone(), stopped));
        while !log.oddities.waiting(Topic::Events, 0).is_empty() {
            tokio::task::yield_now().await;
        }
        stop.send_replace(true);
        watching.await.unwrap();
        assert_eq!(noted(&*store).await, [(Topic::Events, 0, 4, false)]);
    }
}
