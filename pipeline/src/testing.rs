//! What the tests of this crate share: a line in memory, and a log and a store that fail when they are told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use schemas::event::{EventBatchReader, EventHash};
use schemas::record::{RecordBatch, RecordBatchWriter};
use schemas::{Batch, BatchKind, Entity, Lane, Mapping, Op, Record, StreamId, TenantId, Topic, Version};

use crate::engine::Partitions;
use crate::ingest::{Ingest, OpenStream};
use crate::log::{Durability, Log, LogError, MemoryLog, Stored};
use crate::process::{Processor, decode_decisions};
use crate::store::{Expect, MemoryStore, Row, Store, StoreError, Table};

pub(crate) const TENANT: TenantId = TenantId::from_bytes([1; 16]);
pub(crate) const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[
    {"name":"order_id","type":"text","required":true},{"name":"total","type":"decimal"}]}"#;
pub(crate) const MAPPING: &str =
    r#"{"entity":"order","key":"Id","version":"Updated","fields":{"order_id":"Id","total":"Total"}}"#;

/// Writes that still work; below zero all do. What fails then is `error`, for ever or once.
pub(crate) struct Fuse {
    left: AtomicI64,
    once: bool,
    error: StoreError,
}

impl Fuse {
    pub(crate) fn new(left: i64, once: bool, error: StoreError) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(left), once, error })
    }

    /// A process that dies at its write number `left`.
    pub(crate) fn crash(left: i64) -> Arc<Self> {
        Self::new(left, false, StoreError::Failed("planted".into()))
    }

    pub(crate) fn has_blown(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn burn(&self) -> Result<(), StoreError> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(self.error.clone()),
            left if left < 0 && !self.once => Err(self.error.clone()),
            _ => Ok(()),
        }
    }
}

/// A log or store behind a fuse.
pub(crate) struct Fused<T: ?Sized> {
    pub(crate) fuse: Arc<Fuse>,
    pub(crate) inner: Arc<T>,
}

#[async_trait]
impl Store for Fused<MemoryStore> {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.inner.get(tenant, table, key).await
    }
    async fn put(&self, t: TenantId, table: Table, key: &str, value: Bytes, e: Expect) -> Result<u64, StoreError> {
        self.fuse.burn()?;
        self.inner.put(t, table, key, value, e).await
    }
    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        self.fuse.burn()?;
        self.inner.delete(tenant, table, key, expect).await
    }
    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        self.inner.scan(tenant, table, prefix, after, limit).await
    }
}

#[async_trait]
impl Log for Fused<MemoryLog> {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }
    fn epoch(&self, topic: Topic) -> u32 {
        self.inner.epoch(topic)
    }
    async fn append(&self, t: Topic, p: u32, batches: Vec<Batch>, d: Durability) -> Result<Vec<u64>, LogError> {
        match self.fuse.burn() {
            Ok(()) => self.inner.append(t, p, batches, d).await,
            Err(StoreError::DiskFull) => Err(LogError::DiskFull),
            Err(error) => Err(LogError::Failed(error.to_string())),
        }
    }
    async fn read(&self, topic: Topic, partition: u32, from: u64, max: usize) -> Result<Vec<Stored>, LogError> {
        self.inner.read(topic, partition, from, max).await
    }
    async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError> {
        self.inner.end(topic, partition).await
    }
    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        self.inner.wait_beyond(topic, partition, offset).await
    }
    async fn sync(&self) -> Result<(), LogError> {
        self.inner.sync().await
    }
}

/// A batch of records that follow `after` in their lane.
pub(crate) fn record_batch(lane: u128, after: u64, payloads: &[&str]) -> RecordBatch {
    let mut writer = RecordBatchWriter::new(Lane(lane), after, 0);
    for (ordinal, payload) in (after + 1..).zip(payloads) {
        let payload = payload.as_bytes();
        writer.push(&Record { ordinal, op: Op::Upsert, key: None, version: Version::None, defect: None, payload });
    }
    let cursor = format!("behind {}", after + payloads.len() as u64);
    writer.finish(cursor.as_bytes())
}

/// A line in memory with one partition a topic.
pub(crate) struct Line {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) store: Arc<MemoryStore>,
}

impl Line {
    pub(crate) fn new() -> Self {
        let log = MemoryLog::new(Partitions { inputs: 1, events: 1, decisions: 1 });
        Self { log: Arc::new(log), store: Arc::new(MemoryStore::new()) }
    }

    pub(crate) fn ingest(&self) -> Ingest {
        Ingest::new(self.log.clone(), self.store.clone())
    }

    pub(crate) async fn open(&self, name: &str, mapping: &str, entity: &str) -> OpenStream {
        let (mapping, entity) = parse(mapping, entity);
        self.ingest().open(&stream(name), &mapping, Some(&entity), "test").await.unwrap()
    }

    pub(crate) async fn append(&self, open: &OpenStream, lane: u128, after: u64, payloads: &[&str]) {
        self.ingest().append(open, record_batch(lane, after, payloads)).await.unwrap();
    }

    /// A processor of the partition, everything that is there processed.
    pub(crate) async fn process(&self) -> Processor {
        let mut processor = self.processor().await;
        processor.drain().await.unwrap();
        processor
    }

    pub(crate) async fn processor(&self) -> Processor {
        Processor::start(self.log.clone(), self.store.clone(), 0).await.unwrap().0
    }

    pub(crate) async fn all(&self, topic: Topic, kind: BatchKind) -> Vec<Stored> {
        let all = self.log.read(topic, 0, 0, usize::MAX).await.unwrap();
        all.into_iter().filter(|stored| stored.header().kind == kind).collect()
    }

    /// The hash of all rows, runs that stand twice counted once.
    pub(crate) async fn row_hash(&self) -> EventHash {
        let (mut hash, mut mark) = (EventHash::default(), (0, 0));
        for stored in self.all(Topic::Events, BatchKind::Rows).await {
            let body = stored.body(Topic::Events, 0).unwrap().unwrap();
            let mut reader = EventBatchReader::new(&body).unwrap();
            let mut shared = reader.shared.clone();
            // Two lines took the same at different times.
            shared.logged_at = 0;
            while let Some(row) = reader.next_row().unwrap() {
                let place = (row.input_offset, row.ordinal + 1);
                if place > mark {
                    mark = place;
                    hash.extend(&shared, &row);
                }
            }
        }
        hash
    }

    /// The second value of every row, runs that stand twice counted once.
    pub(crate) async fn values(&self) -> Vec<Option<String>> {
        let (mut values, mut mark) = (Vec::new(), (0, 0));
        for stored in self.all(Topic::Events, BatchKind::Rows).await {
            let body = stored.body(Topic::Events, 0).unwrap().unwrap();
            let mut reader = EventBatchReader::new(&body).unwrap();
            while let Some(mut row) = reader.next_row().unwrap() {
                let place = (row.input_offset, row.ordinal + 1);
                if place > mark {
                    mark = place;
                    row.values.next_value().unwrap();
                    let value = row.values.next_value().unwrap();
                    values.push((value != schemas::Value::Null).then(|| format!("{value:?}")));
                }
            }
        }
        values
    }

    /// How many rows a view would show: of each key the record with the greatest order key, if it is no delete.
    pub(crate) async fn visible(&self) -> usize {
        let mut rows = std::collections::HashMap::new();
        for stored in self.all(Topic::Events, BatchKind::Rows).await {
            let body = stored.body(Topic::Events, 0).unwrap().unwrap();
            let mut reader = EventBatchReader::new(&body).unwrap();
            while let Some(row) = reader.next_row().unwrap() {
                let order = (format!("{:?}", row.version), row.origin, row.input_offset);
                let is_row = row.kind == schemas::event::RowKind::Accepted;
                let place = rows.entry(row.key.to_owned()).or_insert((order.clone(), is_row));
                if order >= place.0 {
                    *place = (order, is_row);
                }
            }
        }
        rows.values().filter(|(_, is_row)| *is_row).count()
    }

    /// Every fact, by its type's name, with where it came from.
    pub(crate) async fn facts(&self) -> Vec<(u64, &'static str)> {
        let mut facts = Vec::new();
        for stored in self.all(Topic::Decisions, BatchKind::Decisions).await {
            let decisions = decode_decisions(&stored.body(Topic::Decisions, 0).unwrap().unwrap()).unwrap();
            facts.extend(decisions.into_iter().map(|d| (d.input_offset, d.fact.type_name())));
        }
        facts
    }
}

pub(crate) fn parse(mapping: &str, entity: &str) -> (Mapping, Entity) {
    (serde_json::from_str(mapping).unwrap(), serde_json::from_str(entity).unwrap())
}

pub(crate) fn stream(name: &str) -> StreamId {
    StreamId { tenant: TENANT, connection: "crm".parse().unwrap(), stream: name.parse().unwrap() }
}

/// A record with this key.
pub(crate) fn record(id: u64) -> String {
    format!(r#"{{"Id":"{id}","Updated":"2024-01-01","Total":{id}}}"#)
}
