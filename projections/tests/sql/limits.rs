use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use projections::{QueryEngine, QueryResult, ViewSnapshot};

use crate::data::*;

/// A view of as many rows, all with the same key.
fn same(count: i64) -> Arc<ViewSnapshot> {
    let values = |value: fn(i64) -> i64| Arc::new(Int64Array::from_iter_values((0..count).map(value))) as _;
    let batch = RecordBatch::try_from_iter([("id", values(|i| i)), ("key", values(|_| 1))]).unwrap();
    let tail = (0..count as usize).step_by(8_192).map(|i| batch.slice(i, 8_192.min(count as usize - i))).collect();
    view("same", batch.schema(), Arc::new(InMemory::new()), vec![], tail)
}

const EXPLODING: &str = "SELECT a.id FROM same a JOIN same b ON a.key = b.key";

/// A result on its way; again if the query was not even planned within its time.
async fn opened(engine: &QueryEngine, views: &[Arc<ViewSnapshot>], sql: &str) -> QueryResult {
    loop {
        match engine.query(tenant(1), views.to_vec(), sql).await {
            Ok(result) => break result,
            Err(error) => assert!(["query_timeout", "query_busy"].contains(&error.code()), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_join_that_explodes_ends_at_its_deadline_and_frees_its_place() {
    let engine = engine(|limits| {
        limits.timeout = Duration::from_millis(700);
        limits.concurrent = 1;
    });
    let views = [same(300_000)];
    let sql = "SELECT count(*), sum(a.id + b.id) FROM same a JOIN same b ON a.key = b.key WHERE a.id + b.id <> 3";
    assert_eq!(csv(&engine, &views, sql).await, "query_timeout");
    // Any answer but that all places are taken.
    csv_in_a_place(&engine, &views, "SELECT count(*) FROM same").await;
}

#[tokio::test]
async fn a_dropped_result_frees_its_place() {
    let engine = engine(|limits| limits.concurrent = 1);
    let views = [same(300_000)];
    for _ in 0..3 {
        let mut result = opened(&engine, &views, EXPLODING).await;
        assert!(result.batches.next().await.unwrap().is_ok());
    }
    assert_eq!(csv_in_a_place(&engine, &views, "SELECT count(*) FROM same").await, "300000");
}

#[tokio::test]
async fn a_reader_that_does_not_read_does_not_keep_its_place() {
    let engine = engine(|limits| {
        // Long enough for a query to be planned on any machine.
        limits.timeout = Duration::from_secs(3);
        limits.concurrent = 1;
    });
    let views = [same(300_000)];
    let kept = opened(&engine, &views, EXPLODING).await;
    csv_in_a_place(&engine, &views, "SELECT count(*) FROM same").await;
    let last = kept.batches.collect::<Vec<_>>().await.pop().unwrap();
    assert_eq!(last.unwrap_err().code(), "query_timeout");
}

#[tokio::test]
async fn a_query_that_finds_no_place_is_told_so() {
    let engine = engine(|limits| {
        limits.concurrent = 1;
        limits.place_wait = Duration::from_millis(10);
    });
    let views = [same(300_000)];
    let kept = opened(&engine, &views, EXPLODING).await;
    assert_eq!(csv(&engine, &views, "SELECT 1").await, "query_busy");
    drop(kept);
    assert_eq!(csv_in_a_place(&engine, &views, "SELECT 1").await, "1");
}

#[tokio::test]
async fn a_tenant_whose_queries_run_long_leaves_places_to_others() {
    let engine = engine(|limits| {
        limits.concurrent = 4;
        limits.place_wait = Duration::from_millis(10);
    });
    let views = [same(300_000)];
    let kept = [opened(&engine, &views, EXPLODING).await, opened(&engine, &views, EXPLODING).await];
    assert_eq!(csv(&engine, &views, "SELECT 1").await, "query_busy");
    let others = engine.query(tenant(2), views.to_vec(), "SELECT count(*) FROM same").await.unwrap();
    let rows: Vec<_> = others.batches.try_collect().await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    drop(kept);
    assert_eq!(csv_in_a_place(&engine, &views, "SELECT 1").await, "1");
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
async fn bytes_of_a_result_are_those_of_its_texts() {
    let text = "x".repeat(1_000);
    let texts = Arc::new(StringArray::from_iter_values((0..3_000).map(|_| text.as_str()))) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("extras", texts)]).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    // The reader makes views of one text in the file's dictionary.
    let files = vec![file(&store, "a.parquet", &batch, 3_000, []).await];
    let schema = batch.schema();
    let views = [
        view("texts", Arc::clone(&schema), store, files, vec![]),
        view("tail", schema, Arc::new(InMemory::new()), vec![], vec![batch]),
    ];
    let engine = engine(|limits| limits.result_bytes_max = 1 << 20);
    for table in ["texts", "tail"] {
        assert_eq!(csv(&engine, &views, &format!("SELECT extras FROM {table}")).await, "query_limit");
        assert_eq!(
            csv(&engine, &views, &format!("SELECT [extras, extras] FROM {table} LIMIT 1000")).await,
            "query_limit"
        );
        assert_eq!(
            csv(&engine, &views, &format!("SELECT count(*) FROM (SELECT extras FROM {table} LIMIT 900) AS s")).await,
            "900"
        );
        assert_eq!(csv(&engine, &views, &format!("SELECT extras FROM {table} LIMIT 900")).await.len(), 900 * 1_001 - 1);
    }
}

#[tokio::test]
async fn queries_share_what_they_may_hold_together() {
    let engine = engine(|limits| limits.common_memory_bytes = 1 << 20);
    let views = [same(300_000)];
    assert_eq!(csv(&engine, &views, "SELECT id FROM same ORDER BY id DESC").await, "query_busy");
    assert_eq!(csv(&engine, &views, "SELECT sum(key) FROM same").await, "300000");
}

#[tokio::test]
async fn rows_that_a_window_keeps_are_counted() {
    let engine = engine(|limits| limits.memory_bytes = 4 << 20);
    let views = [same(300_000)];
    for sql in [
        "SELECT max(s) FROM (SELECT id, sum(id) OVER () AS s FROM same) AS w",
        "SELECT max(s) FROM (SELECT id, lead(id, 250000) OVER () AS s FROM same) AS w",
    ] {
        assert_eq!(csv(&engine, &views, sql).await, "query_limit", "{sql}");
    }
    let sql = "SELECT max(s) FROM (SELECT id, lead(id, 10) OVER () AS s FROM same) AS w";
    assert_eq!(csv(&engine, &views, sql).await, "299999");
}

#[tokio::test]
async fn windows_over_all_rows_are_answered() {
    let engine = engine(|_| {});
    let views = [same(100_000)];
    for (sql, answer) in [
        (
            "SELECT max(s) FROM (SELECT sum(id) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS s FROM same) AS w",
            "4999950000",
        ),
        (
            "SELECT max(s) FROM (SELECT min(id) OVER (ORDER BY id ROWS BETWEEN 30000 PRECEDING AND 30000 FOLLOWING) AS s FROM same) AS w",
            "69999",
        ),
        (
            "SELECT count(*), count(s) FROM (SELECT corr(id, key) OVER (ORDER BY id ROWS BETWEEN 1000 PRECEDING AND CURRENT ROW) AS s FROM same) AS w",
            "100000,0",
        ),
    ] {
        assert_eq!(csv(&engine, &views, sql).await, answer, "{sql}");
    }
}
