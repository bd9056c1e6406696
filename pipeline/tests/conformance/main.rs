//! Every backend of the ports passes the suite of its port. A further backend is a file with its fixture and a line here.

#[cfg(feature = "scylla")]
mod cassandra;
mod contention;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(all(feature = "kafka", feature = "scylla"))]
mod moving;
#[cfg(any(feature = "kafka", feature = "scylla"))]
mod services;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use pipeline::payload::{Keyring, SealedLog, SealedStore};
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

/// Sealed above the embedded engine: keys, log and store in one folder.
async fn sealed(folder: &TempDir) -> (Arc<dyn Log>, Arc<dyn Store>) {
    let engine = open(folder);
    let keys = Arc::new(Keyring::open(engine.store(), &[5; 32]).await.expect("the keys open"));
    (Arc::new(SealedLog::new(engine.log(), keys.clone())), Arc::new(SealedStore::new(engine.store(), keys)))
}

async fn sealed_log() -> (Arc<dyn Log>, TempDir) {
    let folder = folder();
    (sealed(&folder).await.0, folder)
}

async fn sealed_store() -> (Arc<dyn Store>, TempDir) {
    let folder = folder();
    (sealed(&folder).await.1, folder)
}

async fn sealed_log_place() -> (impl Fn() -> BoxFuture<'static, Arc<dyn Log>>, ()) {
    let folder = Arc::new(folder());
    let place = move || {
        let folder = folder.clone();
        async move { sealed(&folder).await.0 }.boxed()
    };
    (place, ())
}

async fn sealed_store_place() -> (impl Fn() -> BoxFuture<'static, Arc<dyn Store>>, ()) {
    let folder = Arc::new(folder());
    let place = move || {
        let folder = folder.clone();
        async move { sealed(&folder).await.1 }.boxed()
    };
    (place, ())
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
pipeline::log_suite!(sealed_log_suite, sealed_log());
pipeline::log_reopening_suite!(sealed_log_reopening, sealed_log_place());

#[cfg(feature = "kafka")]
pipeline::log_suite!(kafka_log, kafka::new_log());
#[cfg(feature = "kafka")]
pipeline::log_reopening_suite!(kafka_log_reopening, kafka::log_place());

pipeline::store_suite!(memory_store, store_in_memory());
pipeline::store_suite!(embedded_store, embedded_store());
pipeline::store_reopening_suite!(embedded_store_reopening, embedded_store_place());
pipeline::store_suite!(sealed_store_suite, sealed_store());
pipeline::store_reopening_suite!(sealed_store_reopening, sealed_store_place());

#[cfg(feature = "scylla")]
pipeline::store_suite!(cassandra_store, cassandra::new_store());
#[cfg(feature = "scylla")]
pipeline::store_reopening_suite!(cassandra_store_reopening, cassandra::store_place());

pipeline::source_suite!(memory_source_suite, memory_source);
