//! Every backend of the ports passes the suite of its port. A further backend is a file with its fixture and a line here.

use std::sync::Arc;

use pipeline::source::LaneCursor;
use pipeline::{Embedded, Log, MemoryLog, MemorySource, MemoryStore, Partitions, Store};
use schemas::Lane;
use tempfile::TempDir;

async fn log_in_memory() -> (Arc<dyn Log>, ()) {
    (Arc::new(MemoryLog::new(Partitions::default())), ())
}

async fn store_in_memory() -> (Arc<dyn Store>, ()) {
    (Arc::new(MemoryStore::new()), ())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn open(folder: &TempDir) -> Embedded {
    Embedded::open(folder.path(), Partitions::default()).expect("the folder opens")
}

async fn embedded_log() -> (Arc<dyn Log>, TempDir) {
    let folder = folder();
    (open(&folder).log(), folder)
}

async fn embedded_store() -> (Arc<dyn Store>, TempDir) {
    let folder = folder();
    (open(&folder).store(), folder)
}

async fn embedded_log_place() -> (impl Fn() -> std::future::Ready<Arc<dyn Log>>, ()) {
    let folder = folder();
    (move || std::future::ready(open(&folder).log() as Arc<dyn Log>), ())
}

async fn embedded_store_place() -> (impl Fn() -> std::future::Ready<Arc<dyn Store>>, ()) {
    let folder = folder();
    (move || std::future::ready(open(&folder).store() as Arc<dyn Store>), ())
}

fn memory_source(cursors: Vec<LaneCursor>) -> MemorySource {
    let lane = |lane: u128, records: usize| {
        let payload = |n| format!(r#"{{"Id":"{lane}-{n}","text":"{}"}}"#, "x".repeat(n * 37 % 400)).into_bytes();
        (Lane(lane), (0..records).map(payload).collect())
    };
    MemorySource::new(vec![lane(1, 40), lane(2, 0), lane(3, 1), lane(4, 25)], &cursors)
}

pipeline::log_suite!(memory_log, log_in_memory());
pipeline::log_suite!(embedded_log, embedded_log());
pipeline::log_reopening_suite!(embedded_log_reopening, embedded_log_place());

pipeline::store_suite!(memory_store, store_in_memory());
pipeline::store_suite!(embedded_store, embedded_store());
pipeline::store_reopening_suite!(embedded_store_reopening, embedded_store_place());

pipeline::source_suite!(memory_source_suite, memory_source);
