use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use futures::StreamExt;
use object_store::memory::InMemory;
use projections::ViewSnapshot;

use crate::data::*;

/// A view of as many rows, all with the same key.
fn same(count: i64) -> Arc<ViewSnapshot> {
    let values = |value: fn(i64) -> i64| Arc::new(Int64Array::from_iter_values((0..count).map(value))) as _;
    let batch = RecordBatch::try_from_iter([("id", values(|i| i)), ("key", values(|_| 1))]).unwrap();
    let tail = (0..count as usize).step_by(8_192).map(|i| batch.slice(i, 8_192.min(count as usize - i))).collect();
    view("same", batch.schema(), Arc::new(InMemory::new()), vec![], tail)
}

#[tokio::test]
async fn a_join_that_explodes_ends_at_its_deadline_and_frees_its_place() {
    let engine = engine(|limits| {
        limits.timeout = Duration::from_millis(700);
        limits.concurrent = 1;
    });
    let views = [same(300_000)];
    let started = Instant::now();
    let sql = "SELECT count(*), sum(a.id + b.id) FROM same a JOIN same b ON a.key = b.key WHERE a.id + b.id <> 3";
    assert_eq!(csv(&engine, &views, sql).await, "query_timeout");
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(csv(&engine, &views, "SELECT count(*) FROM same").await, "300000");
}

#[tokio::test]
async fn a_dropped_result_frees_its_place() {
    let engine = engine(|limits| limits.concurrent = 1);
    let views = [same(300_000)];
    let sql = "SELECT a.id FROM same a JOIN same b ON a.key = b.key";
    for _ in 0..3 {
        let mut result = engine.query(views.to_vec(), sql).await.unwrap();
        assert!(result.batches.next().await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_does_not_keep_its_place() {
    let engine = engine(|limits| {
        limits.timeout = Duration::from_millis(500);
        limits.concurrent = 1;
    });
    let views = [same(300_000)];
    let kept = engine.query(views.to_vec(), "SELECT a.id FROM same a JOIN same b ON a.key = b.key").await.unwrap();
    let mut codes = vec![];
    for _ in 0..4 {
        codes.push(csv(&engine, &views, "SELECT count(*) FROM same").await);
    }
    assert_eq!(codes.last().unwrap(), "300000", "{codes:?}");
    let last = kept.batches.collect::<Vec<_>>().await.pop().unwrap();
    assert_eq!(last.unwrap_err().code(), "query_timeout");
}

#[tokio::test]
async fn a_query_that_finds_no_place_is_told_so() {
    let engine = engine(|limits| {
        limits.timeout = Duration::from_secs(1);
        limits.concurrent = 1;
    });
    let views = [same(300_000)];
    let kept = engine.query(views.to_vec(), "SELECT a.id FROM same a JOIN same b ON a.key = b.key").await.unwrap();
    assert_eq!(csv(&engine, &views, "SELECT 1").await, "query_busy");
    drop(kept);
    assert_eq!(csv(&engine, &views, "SELECT 1").await, "1");
}

#[tokio::test]
async fn results_are_bounded_in_rows_and_bytes() {
    let views = [same(100_000)];
    let few = engine(|limits| limits.rows_max = Some(1_000));
    assert_eq!(csv(&few, &views, "SELECT id FROM same").await, "query_limit");
    assert_eq!(csv(&few, &views, "SELECT count(*) FROM (SELECT id FROM same LIMIT 1000) AS s").await, "1000");
    let small = engine(|limits| limits.result_bytes_max = 64 << 10);
    assert_eq!(csv(&small, &views, "SELECT id FROM same").await, "query_limit");
    assert_eq!(csv(&small, &views, "SELECT sum(key) FROM same").await, "100000");
}

#[tokio::test]
async fn a_query_that_needs_more_memory_than_it_may_have_is_refused() {
    let engine = engine(|limits| limits.memory_bytes = 1 << 20);
    let views = [same(300_000)];
    for sql in [
        "SELECT id, count(*) FROM same GROUP BY id ORDER BY 2 LIMIT 1",
        "SELECT id FROM same ORDER BY id DESC",
        "SELECT length(string_agg(CAST(id AS VARCHAR), ',')) FROM same",
        "SELECT array_agg(id) FROM same",
    ] {
        assert_eq!(csv(&engine, &views, sql).await, "query_limit", "{sql}");
    }
}

#[tokio::test]
async fn windows_over_all_rows_stay_within_their_time() {
    let engine = engine(|limits| limits.timeout = Duration::from_secs(2));
    let views = [same(300_000)];
    let started = Instant::now();
    for sql in [
        "SELECT max(s) FROM (SELECT sum(id) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS s FROM same) AS w",
        "SELECT max(s) FROM (SELECT min(id) OVER (ORDER BY id ROWS BETWEEN 100000 PRECEDING AND 100000 FOLLOWING) AS s FROM same) AS w",
        "SELECT max(s) FROM (SELECT corr(id, key) OVER (ORDER BY id ROWS BETWEEN 1000 PRECEDING AND CURRENT ROW) AS s FROM same) AS w",
    ] {
        csv(&engine, &views, sql).await;
    }
    assert!(started.elapsed() < Duration::from_secs(9));
}
