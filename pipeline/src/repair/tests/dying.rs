//! That dying changes nothing, nor does another repairer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use schemas::TenantId;
use tokio::sync::watch;

use super::{cases, counters, counters_of, feed, repairer, settle};
use crate::process::{ProcessError, Processor};
use crate::repair::{Repairer, Status};
use crate::store::{Expect, MemoryStore, Row, Store, StoreError, Table};
use crate::testing::{ENTITY, Fuse, Fused, Line, MAPPING};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stale_repairer_does_again_changes_nothing_and_it_learns_that_it_is_stale() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..200, "TotalAmount").await;
    let mut stale = repairer(&line).await;
    settle(&line).await;
    let (before, rows) = (cases(&line).await, line.visible().await);
    let refused = stale.drain().await.unwrap_err();
    assert!(refused.is_overtaken(), "{refused}");
    settle(&line).await;
    assert_eq!(cases(&line).await, before);
    assert_eq!((line.visible().await, counters_of(&line).await), (rows, (200, 200)));
}

/// A store in which another writes a case between the look at it and the next write.
struct Raced {
    inner: Arc<MemoryStore>,
    is_due: AtomicBool,
}

#[async_trait]
impl Store for Raced {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.inner.get(tenant, table, key).await
    }
    async fn put(&self, t: TenantId, table: Table, key: &str, value: Bytes, e: Expect) -> Result<u64, StoreError> {
        if table == Table::Cases && self.is_due.swap(false, Ordering::SeqCst) {
            self.inner.put(t, table, key, value.clone(), Expect::Any).await?;
        }
        self.inner.put(t, table, key, value, e).await
    }
    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_that_another_has_written_meanwhile_is_read_again() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "zq").await;
    line.process().await;
    let store = Arc::new(Raced { inner: line.store.clone(), is_due: AtomicBool::new(true) });
    let (_stop, stopped) = watch::channel(false);
    let (mut repairer, _) = Repairer::start(line.log.clone(), store, 0, stopped).await.unwrap();
    let refused = repairer.drain().await.unwrap_err();
    assert!(matches!(refused, ProcessError::Store(StoreError::Conflict { .. })), "{refused}");
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, case.held), (Status::Open, 50));
}

/// Processes and repairs with a log and a store that fail after so many writes, then without.
async fn with_a_death(writes: i64) -> (Line, bool) {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..60, "Total").await;
    feed(&line, &open, 2, 60..90, "TotalAmount").await;
    let fuse = Fuse::crash(writes);
    let log = Arc::new(Fused { fuse: fuse.clone(), inner: line.log.clone() });
    let store = Arc::new(Fused { fuse: fuse.clone(), inner: line.store.clone() });
    let (stop, stopped) = watch::channel(false);
    for _ in 0..6 {
        let Ok((mut processor, _)) = Processor::start(log.clone(), store.clone(), 0).await else { break };
        let Ok((mut repairer, _)) = Repairer::start(log.clone(), store.clone(), 0, stopped.clone()).await else {
            break;
        };
        if processor.drain().await.is_err() || repairer.drain().await.is_err() {
            break;
        }
    }
    drop(stop);
    settle(&line).await;
    (line, fuse.has_blown())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_processor_and_repairer_die_each_held_record_ends_in_one_row() {
    let mut writes = 0;
    loop {
        let (line, has_blown) = with_a_death(writes).await;
        let found = counters(&line).await;
        assert_eq!((found.taken, found.accepted, found.held), (90, 90, 0), "it died at write {writes}: {found:?}");
        let values = line.values().await;
        assert_eq!(values.iter().flatten().count(), 90, "it died at write {writes}");
        assert_eq!(cases(&line).await[0].status, Status::Repaired, "it died at write {writes}");
        if !has_blown {
            assert!(writes > 15, "{writes} writes");
            return;
        }
        writes += 1;
    }
}
