//! The log on Apache Kafka.
//!
//! A topic of the line is a topic of Kafka, and an append is one message, so that its batches stand together or not at
//! all. Kafka numbers messages, the line numbers items: `place` says how one is found from the other, by every reader
//! alike and without an index beside the topic. The broker sets the time. Places are the line's own; nothing is committed
//! to a consumer group, and nothing rests on Kafka's transactions.

mod client;
mod cursor;
mod error;
mod message;
mod place;
mod producer;
mod reading;
mod settings;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemas::{Batch, Topic};

pub use error::OpenError;
pub use settings::{Compression, Mechanism, Sasl, Settings, Tls};

use super::partition::{ByPartition, check, check_adopted};
use super::{Durability, Log, LogError, Oddities, Stored};
use crate::engine::Partitions;
pub use crate::secret::Secret;
use client::Clients;
use message::Outgoing;
use producer::Producer;
use reading::Reading;

/// Who waits for new messages while no broker answers looks again after so long.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The log on Apache Kafka. `Durable` and `Ordered` are the same: acknowledged by all replicas in sync.
pub struct KafkaLog {
    clients: Arc<Clients>,
    producer: Arc<Producer>,
    partitions: ByPartition<Arc<Reading>>,
    facts: Facts,
}

/// What a topic's durability rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replication {
    /// Replicas of the partition with the fewest.
    pub replicas: u32,
    /// `min.insync.replicas`: so many have a message when it is acknowledged. Unknown where we may not ask.
    pub min_insync: Option<u32>,
}

/// What was found when the topics were opened.
struct Facts {
    partitions: Partitions,
    epochs: [u32; 3],
    replication: [Replication; 3],
}

const fn number(topic: Topic) -> usize {
    match topic {
        Topic::Inputs => 0,
        Topic::Events => 1,
        Topic::Decisions => 2,
    }
}

impl KafkaLog {
    /// Connects, makes topics that are not there, and checks all of them.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(settings)).await;
        opened.unwrap_or_else(|e| Err(OpenError::Failed(e.to_string())))
    }

    fn open_blocking(settings: Settings) -> Result<Self, OpenError> {
        let clients = Arc::new(Clients::new(settings)?);
        let producer = Producer::new(clients.clone()).map_err(|e| OpenError::Settings(e.to_string()))?;
        let facts = topics::open(&clients, &producer)?;
        let make = |topic, partition| {
            Ok::<_, std::convert::Infallible>(Arc::new(Reading::new(clients.clone(), topic, partition)))
        };
        let Ok(partitions) = ByPartition::try_new(facts.partitions, make);
        Ok(Self { clients, producer: Arc::new(producer), partitions, facts })
    }

    /// How many replicas stand behind a topic.
    pub fn replication(&self, topic: Topic) -> Replication {
        self.facts.replication[number(topic)]
    }

    fn reading(&self, topic: Topic, partition: u32) -> Result<Arc<Reading>, LogError> {
        let reading = self.partitions.get(topic, partition)?;
        self.clients.check()?;
        Ok(reading.clone())
    }

    /// Sends batches as one message, with the times that they have where they are `adopted`.
    async fn put(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<Batch>,
        is_adopted: bool,
    ) -> Result<Vec<u64>, LogError> {
        let reading = self.reading(topic, partition)?;
        reading.damage().map_or(Ok(()), Err)?;
        batches.iter().try_for_each(check)?;
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        if reading.is_stale() {
            blocking(&reading, |reading| reading.refresh().map(drop)).await?;
        }
        let anchor = reading.known_end();
        if is_adopted {
            check_adopted(&batches, anchor.time)?;
        }
        let out = Outgoing::batches(topic, batches, anchor, &self.producer.next_id(), is_adopted);
        let counts = out.counts.clone();
        let (message, _) = self.producer.send(topic, partition, out, Some(reading.clone())).await?;
        if message < anchor.message {
            return Err(reading.lost(&format!("a new message stands at {message}, and {} was there", anchor.message)));
        }
        let mut next = self.first_of(&reading, message, anchor).await?;
        let firsts = counts.into_iter().map(|count| {
            let first = next;
            next += u64::from(count);
            first
        });
        Ok(firsts.collect())
    }

    /// Where an acknowledged message begins in items.
    async fn first_of(&self, reading: &Arc<Reading>, message: i64, anchor: place::Place) -> Result<u64, LogError> {
        if let Some(items) = reading.items_before_if_known(message) {
            return Ok(items);
        }
        blocking(reading, move |reading| reading.items_before(message, anchor)).await
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    reading: &Arc<Reading>,
    work: impl FnOnce(&Reading) -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let reader = reading.clone();
    let done = tokio::task::spawn_blocking(move || work(&reader)).await;
    let done = done.unwrap_or_else(|e| Err(LogError::Failed(format!("a reader of Kafka ended: {e}"))));
    if let Err(error) = &done {
        reading.note_damage(error);
    }
    done
}

#[async_trait]
impl Log for KafkaLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.facts.partitions.of(topic)
    }

    fn epoch(&self, topic: Topic) -> u32 {
        self.facts.epochs[number(topic)]
    }

    async fn append(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<Batch>,
        _: Durability,
    ) -> Result<Vec<u64>, LogError> {
        self.put(topic, partition, batches, false).await
    }

    async fn adopt(&self, topic: Topic, partition: u32, batches: Vec<Batch>) -> Result<Vec<u64>, LogError> {
        self.put(topic, partition, batches, true).await
    }

    async fn read(&self, topic: Topic, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Stored>, LogError> {
        let reading = self.reading(topic, partition)?;
        // Who looks for new messages there holds the reader that is about to have them.
        if reading.is_looked_at(from) && from < reading.known_end().items {
            drop(reading.looking.lock().await);
        }
        blocking(&reading, move |reading| reading.read(from, max_bytes)).await
    }

    async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError> {
        let reading = self.reading(topic, partition)?;
        blocking(&reading, |reading| reading.refresh().map(|end| end.items)).await
    }

    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        let reading = self.reading(topic, partition)?;
        let mut end = reading.end.subscribe();
        let mut failure = self.clients.failure.subscribe();
        let gone = || LogError::Failed("the log on Kafka is closed".into());
        loop {
            let look = async {
                let held = reading.looking.clone().lock_owned().await;
                let looked = blocking(&reading, move |reading| {
                    let looked = reading.look();
                    drop(held);
                    looked
                });
                match looked.await {
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(%error, "waiting for Kafka");
                        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                        Ok(())
                    }
                    looked => looked,
                }
            };
            tokio::select! {
                biased;
                beyond = end.wait_for(|end| *end > offset) => return beyond.map(drop).map_err(|_| gone()),
                failed = failure.wait_for(Option::is_some) => {
                    drop(failed.map_err(|_| gone())?);
                    return self.clients.check();
                }
                looked = look => looked?,
            }
        }
    }

    fn damage(&self, topic: Topic, partition: u32) -> Option<LogError> {
        self.partitions.get(topic, partition).ok()?.damage()
    }

    fn oddities(&self) -> Option<&Oddities> {
        Some(&self.clients.oddities)
    }

    async fn sync(&self) -> Result<(), LogError> {
        let producer = self.producer.clone();
        let done = tokio::task::spawn_blocking(move || producer.flush()).await;
        done.unwrap_or_else(|e| Err(LogError::Failed(e.to_string())))
    }
}
