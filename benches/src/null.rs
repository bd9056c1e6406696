//! A log and a view that do nothing, to isolate what ours cost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pipeline::{Durability, Log, LogError, Partitions, Stored};
use schemas::{Batch, BatchKind, PackedBatch, Topic};
use tokio::sync::{Notify, watch};

/// Packed bytes that a partition holds for its reader; who has more to append waits.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Packed bytes that the null view reads at a time.
const READ_BYTES: usize = 1 << 20;

/// A log that packs batches, as every log does, and hands them on to one reader a partition: no disk, no fsync. What was
/// read is forgotten once the reader asks for what follows.
pub struct NullLog {
    counts: Partitions,
    inputs: Vec<Passing>,
    events: Vec<Passing>,
    decisions: Vec<Passing>,
}

#[derive(Default)]
struct Passing {
    waiting: Mutex<Waiting>,
    end: watch::Sender<u64>,
    read: Notify,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Stored>,
    bytes: usize,
    /// Everything below is forgotten.
    start: u64,
}

impl NullLog {
    /// An empty log.
    pub fn new(counts: Partitions) -> Self {
        let empty = |topic| (0..counts.of(topic)).map(|_| Passing::default()).collect();
        let (inputs, events) = (empty(Topic::Inputs), empty(Topic::Events));
        Self { counts, inputs, events, decisions: empty(Topic::Decisions) }
    }

    fn passing(&self, topic: Topic, partition: u32) -> Result<&Passing, LogError> {
        let of_topic = match topic {
            Topic::Inputs => &self.inputs,
            Topic::Events => &self.events,
            Topic::Decisions => &self.decisions,
        };
        let partitions = of_topic.len() as u32;
        of_topic.get(partition as usize).ok_or(LogError::NoPartition { topic, partition, partitions })
    }
}

impl Passing {
    async fn wait_for_room(&self) {
        loop {
            let read = self.read.notified();
            if self.waiting.lock().bytes < WAITING_BYTES_MAX {
                return;
            }
            read.await;
        }
    }

    fn put(&self, packed: Vec<PackedBatch>) -> Vec<u64> {
        let mut waiting = self.waiting.lock();
        let mut end = *self.end.borrow();
        let mut firsts = Vec::with_capacity(packed.len());
        for packed in packed {
            firsts.push(end);
            waiting.bytes += packed.packed_bytes();
            let stored = Stored::new(end, packed);
            end = stored.end();
            waiting.batches.push_back(stored);
        }
        drop(waiting);
        self.end.send_replace(end);
        firsts
    }

    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Stored>, LogError> {
        let mut waiting = self.waiting.lock();
        if from < waiting.start {
            return Err(LogError::Failed("the null log keeps nothing that was read before".into()));
        }
        while let Some(first) = waiting.batches.front().filter(|first| first.end() <= from) {
            (waiting.start, waiting.bytes) = (first.end(), waiting.bytes - first.packed.packed_bytes());
            waiting.batches.pop_front();
        }
        self.read.notify_waiters();
        let mut bytes = 0;
        let fits = |batch: &&Stored| {
            let fits = bytes < bytes_max;
            bytes += batch.packed.packed_bytes();
            fits
        };
        Ok(waiting.batches.iter().take_while(fits).cloned().collect())
    }
}

fn pack(mut batch: Batch) -> Result<PackedBatch, LogError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    batch.header.logged_at = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    PackedBatch::decode(&Bytes::from(batch.encode())).map_err(|error| LogError::Failed(error.to_string()))
}

#[async_trait]
impl Log for NullLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.counts.of(topic)
    }

    fn epoch(&self, _: Topic) -> u32 {
        1
    }

    async fn append(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<Batch>,
        _: Durability,
    ) -> Result<Vec<u64>, LogError> {
        let passing = self.passing(topic, partition)?;
        let packed = batches.into_iter().map(pack).collect::<Result<_, _>>()?;
        passing.wait_for_room().await;
        Ok(passing.put(packed))
    }

    async fn read(&self, topic: Topic, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Stored>, LogError> {
        self.passing(topic, partition)?.read(from, max_bytes)
    }

    async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError> {
        Ok(*self.passing(topic, partition)?.end.borrow())
    }

    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        let mut end = self.passing(topic, partition)?.end.subscribe();
        let beyond = end.wait_for(|end| *end > offset).await;
        beyond.map(|_| ()).map_err(|_| LogError::Failed("the null log is gone".into()))
    }

    async fn sync(&self) -> Result<(), LogError> {
        Ok(())
    }
}

/// A view that only counts: reads a partition of `events` as the projector does and looks at no row.
pub struct NullView {
    log: Arc<dyn Log>,
    partition: u32,
    rows: Arc<AtomicU64>,
    next: watch::Sender<u64>,
}

impl NullView {
    /// A view of everything in `partition`, whose rows are added to `rows`, and a view on how far it is.
    pub fn new(log: Arc<dyn Log>, partition: u32, rows: Arc<AtomicU64>) -> (Self, watch::Receiver<u64>) {
        let (next, reached) = watch::channel(0);
        (Self { log, partition, rows, next }, reached)
    }

    /// Counts until `shutdown` says true.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) -> Result<(), LogError> {
        let mut offset = 0;
        loop {
            let batches = self.log.read(Topic::Events, self.partition, offset, READ_BYTES).await?;
            for batch in batches.iter().filter(|batch| batch.header().kind == BatchKind::Rows) {
                self.rows.fetch_add(u64::from(batch.header().count), Ordering::Relaxed);
            }
            match batches.last() {
                Some(last) => offset = last.end(),
                None => tokio::select! {
                    beyond = self.log.wait_beyond(Topic::Events, self.partition, offset) => beyond?,
                    _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                },
            }
            self.next.send_replace(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use schemas::{BatchHeader, TenantId};

    use super::*;

    fn batch(count: u32, bytes: usize) -> Batch {
        let mut random = fastrand::Rng::with_seed(1);
        let body: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
        let (kind, tenant, subject) = (BatchKind::Rows, TenantId::SYSTEM, "opportunity".to_owned());
        Batch {
            header: BatchHeader { kind, tenant, subject, count, logged_at: 0, key_id: 0, trace: None },
            body: body.into(),
        }
    }

    #[tokio::test]
    async fn the_null_log_hands_on_and_forgets() {
        let log = NullLog::new(Partitions::default());
        let firsts = log.append(Topic::Events, 1, vec![batch(3, 10), batch(4, 10)], Durability::Ordered).await;
        assert_eq!(firsts.unwrap(), [0, 3]);
        assert_eq!(log.read(Topic::Events, 1, 0, 1).await.unwrap().len(), 1, "at least one");
        assert_eq!(log.read(Topic::Events, 1, 3, 1 << 20).await.unwrap()[0].first, 3);
        assert!(log.read(Topic::Events, 1, 0, 1).await.is_err(), "it was read before");
        assert_eq!(log.end(Topic::Events, 1).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn an_append_waits_until_the_reader_has_made_room() {
        let log = Arc::new(NullLog::new(Partitions::default()));
        log.append(Topic::Events, 0, vec![batch(1, WAITING_BYTES_MAX + 1)], Durability::Ordered).await.unwrap();
        let more = log.append(Topic::Events, 0, vec![batch(1, 1)], Durability::Ordered);
        tokio::pin!(more);
        assert!(futures::poll!(more.as_mut()).is_pending());
        log.read(Topic::Events, 0, 1, 1).await.unwrap();
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), more).await.unwrap().unwrap(), [1]);
    }

    #[tokio::test]
    async fn the_null_view_counts_every_row() {
        let log: Arc<dyn Log> = Arc::new(NullLog::new(Partitions::default()));
        let rows = Arc::new(AtomicU64::new(0));
        let (view, mut reached) = NullView::new(log.clone(), 2, rows.clone());
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(view.run(stopped));
        for count in 1..=10 {
            log.append(Topic::Events, 2, vec![batch(count, 100)], Durability::Ordered).await.unwrap();
        }
        reached.wait_for(|next| *next == 55).await.unwrap();
        assert_eq!(rows.load(Ordering::Relaxed), 55);
        stop.send_replace(true);
        running.await.unwrap().unwrap();
    }
}
