//! A data folder moves to real servers, and the line goes on there.

use std::sync::Arc;

use pipeline::ingest::{Ingest, OpenStream};
use pipeline::log::kafka::KafkaLog;
use pipeline::migrate::{Part, Place, migrate};
use pipeline::process::Processor;
use pipeline::{Embedded, MemoryLog, MemoryStore};
use schemas::record::RecordBatchWriter;
use schemas::{Entity, Lane, Mapping, Op, Record, StreamId, TenantId, Topic, Version};

use crate::services::kafka::Kafka;
use crate::{cassandra, folder};

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[
    {"name":"order_id","type":"text","required":true},{"name":"total","type":"decimal"}]}"#;
const MAPPING: &str = r#"{"entity":"order","key":"Id","version":"Updated","fields":{"order_id":"Id","total":"Total"}}"#;

async fn open(place: &Place) -> OpenStream {
    let mapping: Mapping = serde_json::from_str(MAPPING).expect("the mapping is readable");
    let entity: Entity = serde_json::from_str(ENTITY).expect("the entity is readable");
    let stream = StreamId {
        tenant: TenantId::from_bytes([1; 16]),
        connection: "crm".parse().expect("a name"),
        stream: "orders".parse().expect("a name"),
    };
    let ingest = Ingest::new(place.log.clone(), place.store.clone());
    ingest.open(&stream, &mapping, Some(&entity), "test").await.expect("the stream opens")
}

/// Appends records behind `after` of one lane, and processes all there is.
async fn work(place: &Place, open: &OpenStream, after: u64, records: u64) {
    let mut writer = RecordBatchWriter::new(Lane(1), after, 0);
    for ordinal in after + 1..=after + records {
        let payload = format!(r#"{{"Id":"{ordinal}","Updated":"2024-01-01","Total":{ordinal}}}"#);
        let payload = payload.as_bytes();
        writer.push(&Record { ordinal, op: Op::Upsert, key: None, version: Version::None, defect: None, payload });
    }
    let ingest = Ingest::new(place.log.clone(), place.store.clone());
    ingest.append(open, writer.finish(b"behind")).await.expect("the records are taken");
    for partition in 0..place.log.partitions(Topic::Inputs) {
        let started = Processor::start(place.log.clone(), place.store.clone(), partition).await;
        started.expect("the processor starts").0.drain().await.expect("everything is processed");
    }
}

async fn moved(from: &Place, to: &Place) -> Vec<Part> {
    migrate(from, to, &mut |_| {}).await.expect("everything moves")
}

/// Where the partitions of all topics end.
async fn ends(place: &Place) -> Vec<u64> {
    let mut ends = Vec::new();
    for topic in Topic::ALL {
        for partition in 0..place.log.partitions(topic) {
            ends.push(place.log.end(topic, partition).await.expect("the end is known"));
        }
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_moves_to_kafka_and_cassandra_whole_and_the_line_goes_on_there_as_it_would_have_here() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some((store, ())) = cassandra::new_store().await else { return };
    let mut settings = kafka.settings();
    let (partitions, folder) = (settings.partitions, folder());
    let engine = Embedded::open(folder.path(), partitions).expect("the folder opens");
    let here = Place { log: engine.log(), store: engine.store() };
    let stream = open(&here).await;
    for round in 0..20 {
        work(&here, &stream, round * 100, 100).await;
    }
    settings.epoch = Some(1);
    let log = KafkaLog::open(settings).await.expect("the log opens");
    let there = Place { log: Arc::new(log), store };
    let parts = moved(&here, &there).await;
    let memory = Place { log: Arc::new(MemoryLog::of_epoch(partitions, 1)), store: Arc::new(MemoryStore::new()) };
    assert_eq!(moved(&there, &memory).await, parts);
    for place in [&here, &there, &memory] {
        work(place, &stream, 1990, 30).await;
    }
    assert_eq!(ends(&there).await, ends(&here).await);
    assert_eq!(ends(&memory).await, ends(&here).await);
}
