//! The log on the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::batch::BatchError;
use schemas::{Batch, PackedBatch, Topic};

use super::partition::Stamp;
use super::{Durability, Log, LogError, Stored};
use crate::engine::{Engine, Failure, Partitions, Shared, batch_key, batch_offset, is_damage};

/// The log on the embedded engine: one entry of the database a batch, found by partition and offset of its first item.
pub struct EmbeddedLog {
    engine: Arc<Engine>,
}

impl EmbeddedLog {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// The partition counts that the data folder was made with.
    pub fn partitions_of_folder(&self) -> Partitions {
        self.engine.shared().partition_counts()
    }

    /// Packs batches in order and queues them; `pack` answers their item counts and bytes.
    async fn put(
        &self,
        topic: Topic,
        partition: u32,
        is_durable: bool,
        pack: impl FnOnce(&mut Stamp) -> Result<Vec<(u32, Vec<u8>)>, LogError> + Send,
    ) -> Result<Vec<u64>, LogError> {
        let place = self.engine.shared().partitions.get(topic, partition)?;
        place.check()?;
        let answer = {
            let mut stamp = place.stamp.lock().await;
            let packed: Vec<_> = pack(&mut stamp)?.into_iter().map(|(count, bytes)| (count, bytes.into())).collect();
            if packed.is_empty() {
                return Ok(Vec::new());
            }
            self.engine.append(topic, partition, packed, is_durable).await?
        };
        Ok(self.engine.answered(answer).await??)
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.partitions_of_folder().of(topic)
    }

    fn epoch(&self, _: Topic) -> u32 {
        self.engine.shared().epoch()
    }

    async fn append(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<Batch>,
        durability: Durability,
    ) -> Result<Vec<u64>, LogError> {
        self.put(topic, partition, durability == Durability::Durable, |stamp| stamp.pack(batches)).await
    }

    async fn adopt(&self, topic: Topic, partition: u32, batches: Vec<Batch>) -> Result<Vec<u64>, LogError> {
        self.put(topic, partition, false, |stamp| stamp.adopt(&batches)).await
    }

    async fn read(&self, topic: Topic, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Stored>, LogError> {
        let end = self.end(topic, partition).await?;
        if from >= end {
            return Ok(Vec::new());
        }
        let shared = self.engine.shared().clone();
        let read = move || Reader { shared: &shared, topic, partition, end }.read(from, max_bytes);
        let outcome = tokio::task::spawn_blocking(read).await;
        let outcome = outcome
            .unwrap_or_else(|e| Err(LogError::Failed(format!("reading topic {topic}, partition {partition}: {e}"))));
        if let Err(damage @ (LogError::Unreadable { .. } | LogError::Missing { .. })) = &outcome {
            self.engine.shared().partitions.get(topic, partition)?.note_damage(damage);
        }
        outcome
    }

    async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError> {
        Ok(*self.engine.shared().partitions.get(topic, partition)?.end.borrow())
    }

    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        let shared = self.engine.shared();
        let mut end = shared.partitions.get(topic, partition)?.end.subscribe();
        let mut failure = shared.failure.subscribe();
        let gone = |_| LogError::from(Failure::stopped());
        tokio::select! {
            biased;
            beyond = async { end.wait_for(|end| *end > offset).await.map(|_| ()) } => beyond.map_err(gone),
            failed = async { failure.wait_for(Option::is_some).await.map(|_| ()) } => {
                failed.map_err(gone)?;
                Ok(shared.check()?)
            }
        }
    }

    fn damage(&self, topic: Topic, partition: u32) -> Option<LogError> {
        self.engine.shared().partitions.get(topic, partition).ok()?.damage()
    }

    async fn sync(&self) -> Result<(), LogError> {
        Ok(self.engine.sync().await?)
    }
}

/// One read of a partition. It never looks beyond `end`, where an append may be half in place.
struct Reader<'a> {
    shared: &'a Shared,
    topic: Topic,
    partition: u32,
    end: u64,
}

impl Reader<'_> {
    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Stored>, LogError> {
        let mut stored: Vec<Stored> = Vec::new();
        let mut bytes = 0;
        let mut next = self.first_of_batch_with(from)?;
        let range = batch_key(self.partition, next)..batch_key(self.partition, self.end);
        for entry in self.shared.keyspaces.topic(self.topic).range(range) {
            match self.stored(entry, next) {
                Ok(batch) => {
                    next = batch.end();
                    bytes += batch.packed.packed_bytes().max(1);
                    stored.push(batch);
                }
                // What is in front of it is given first; the next read begins at it and fails.
                Err(_) if !stored.is_empty() => break,
                Err(e) => return Err(e),
            }
            if bytes >= bytes_max {
                break;
            }
        }
        match stored.first() {
            Some(batch) if batch.end() > from => Ok(stored),
            _ => Err(self.hole(from)),
        }
    }

    fn first_of_batch_with(&self, offset: u64) -> Result<u64, LogError> {
        let range = batch_key(self.partition, 0)..=batch_key(self.partition, offset);
        let last = self.shared.keyspaces.topic(self.topic).range(range).next_back();
        let key = last.ok_or_else(|| self.hole(offset))?.key().map_err(|e| self.failed(e, offset))?;
        batch_offset(&key).ok_or_else(|| self.unreadable(offset, BatchError::Checksum))
    }

    fn stored(&self, entry: fjall::Guard, expected: u64) -> Result<Stored, LogError> {
        let (key, value) = entry.into_inner().map_err(|e| self.failed(e, expected))?;
        if batch_offset(&key) != Some(expected) {
            return Err(self.hole(expected));
        }
        let decoded = PackedBatch::decode(&Bytes::from_owner(value));
        let packed = decoded.map_err(|source| self.unreadable(expected, source))?;
        Ok(Stored::new(expected, packed))
    }

    fn unreadable(&self, offset: u64, source: BatchError) -> LogError {
        LogError::Unreadable { topic: self.topic, partition: self.partition, offset, source }
    }

    fn hole(&self, offset: u64) -> LogError {
        let Self { topic, partition, .. } = self;
        LogError::Missing { topic: *topic, partition: *partition, offset }
    }

    /// Damage is of one batch; anything else is of the disk. Neither keeps others from reading and writing.
    fn failed(&self, error: fjall::Error, offset: u64) -> LogError {
        if is_damage(&error) {
            return self.unreadable(offset, BatchError::Checksum);
        }
        LogError::Failed(format!("reading from disk failed: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Embedded;
    use crate::log::conformance::batch;

    async fn three_batches() -> (tempfile::TempDir, Arc<EmbeddedLog>) {
        let folder = tempfile::tempdir().unwrap();
        let log = Embedded::open(folder.path(), Partitions::default()).unwrap().log();
        let batches = ["a", "b", "c"].map(|body| batch(body, 2)).to_vec();
        assert_eq!(log.append(Topic::Inputs, 1, batches, Durability::Durable).await.unwrap(), [0, 2, 4]);
        (folder, log)
    }

    #[tokio::test]
    async fn a_damaged_batch_is_noticed_and_named_and_others_are_still_read() {
        let (_folder, log) = three_batches().await;
        let inputs = log.engine.shared().keyspaces.topic(Topic::Inputs);
        let mut bytes = inputs.get(batch_key(1, 2)).unwrap().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        inputs.insert(batch_key(1, 2), bytes).unwrap();

        assert_eq!(log.read(Topic::Inputs, 1, 0, usize::MAX).await.unwrap().len(), 1);
        let refused = log.read(Topic::Inputs, 1, 3, usize::MAX).await;
        assert!(matches!(
            refused,
            Err(LogError::Unreadable { topic: Topic::Inputs, partition: 1, offset: 2, source: BatchError::Checksum })
        ));
        assert_eq!(log.read(Topic::Inputs, 1, 4, usize::MAX).await.unwrap()[0].first, 4);
        let refused = log.append(Topic::Inputs, 1, vec![batch("d", 1)], Durability::Durable).await;
        assert!(matches!(refused, Err(LogError::Unreadable { partition: 1, offset: 2, .. })), "it takes no more");
        assert!(log.damage(Topic::Inputs, 1).is_some() && log.damage(Topic::Inputs, 0).is_none());
        log.append(Topic::Inputs, 0, vec![batch("d", 1)], Durability::Durable).await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_batch_is_noticed() {
        let (_folder, log) = three_batches().await;
        log.engine.shared().keyspaces.topic(Topic::Inputs).remove(batch_key(1, 2)).unwrap();
        assert_eq!(log.read(Topic::Inputs, 1, 0, usize::MAX).await.unwrap().len(), 1);
        for from in [2, 3] {
            assert!(matches!(
                log.read(Topic::Inputs, 1, from, usize::MAX).await,
                Err(LogError::Missing { partition: 1, .. })
            ));
        }
        assert_eq!(log.read(Topic::Inputs, 1, 4, usize::MAX).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_partition_whose_last_batch_is_damaged_is_read_up_to_it_and_others_go_on() {
        let (folder, log) = three_batches().await;
        log.engine.shared().keyspaces.topic(Topic::Inputs).insert(batch_key(1, 4), b"damaged").unwrap();
        drop(log);
        let log = Embedded::open(folder.path(), Partitions::default()).unwrap().log();
        assert_eq!(log.end(Topic::Inputs, 1).await.unwrap(), 4);
        assert_eq!(log.read(Topic::Inputs, 1, 0, usize::MAX).await.unwrap().len(), 2);
        let refused = log.append(Topic::Inputs, 1, vec![batch("d", 1)], Durability::Durable).await;
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("topic inputs, partition 1, offset 4 cannot be read"), "{message}");
        assert!(log.damage(Topic::Inputs, 1).is_some());
        log.append(Topic::Inputs, 0, vec![batch("d", 1)], Durability::Durable).await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_engine_answers_every_writer_and_every_waiter() {
        let (_folder, log) = three_batches().await;
        let waiting = tokio::spawn({
            let log = log.clone();
            async move { log.wait_beyond(Topic::Inputs, 1, 100).await }
        });
        log.engine.shared().fail(&"planted");
        assert!(matches!(waiting.await.unwrap(), Err(LogError::Failed(why)) if why == "planted"));
        let refused = log.append(Topic::Inputs, 1, vec![batch("d", 1)], Durability::Ordered).await;
        assert!(matches!(refused, Err(LogError::Failed(why)) if why == "planted"));
        assert!(log.sync().await.is_err());
        assert_eq!(log.read(Topic::Inputs, 1, 0, usize::MAX).await.unwrap().len(), 3, "reading goes on");
    }
}
