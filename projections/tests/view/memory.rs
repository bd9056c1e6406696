//! What views hold in memory, and what happens when that is too much.

use std::time::Duration;

use arrow::array::{Array as _, ArrayRef};
use projections::view::tail::CHUNK_ROWS;
use projections::view::{Budget, Place};
use schemas::Topic;

use crate::projector::{Running, events, store, tenant};
use crate::support::*;

const NEVER: Duration = Duration::from_secs(3600);

/// Returns once it is so. The projector looks at its views several times a second.
async fn until(what: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(600), async {
        while !what() {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "it never came");
}

fn commits(folder: &std::path::Path, number: u8) -> usize {
    let log = folder.join(tenant(number).to_string()).join("orders/_delta_log");
    let is_commit = |e: &std::fs::DirEntry| e.path().extension().is_some_and(|e| e == "json");
    std::fs::read_dir(log).map_or(0, |entries| entries.filter(|e| is_commit(e.as_ref().unwrap())).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn views_beyond_the_budget_are_flushed_and_closed_and_open_again_when_asked_for() {
    let (log, store, folder) = (log(2), store(), tempfile::tempdir().unwrap());
    let budget = Budget { bytes: 1 << 20, flush_age: NEVER, ..Budget::default() };
    let running = Running::start(&log, &store, folder.path(), budget.clone());
    for number in 1..25 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &events(0, 700)).await;
    }
    running.caught_up(&log).await;
    until(|| running.handle.holdings().memory_bytes <= budget.bytes).await;
    assert!(running.handle.holdings().open < 24);
    assert!((1..25).any(|number| commits(folder.path(), number) > 1), "what was closed was flushed");
    let expected = running.rows(tenant(1)).await;
    for number in 1..25 {
        assert_eq!(running.rows(tenant(number)).await, expected);
    }
    until(|| running.handle.holdings().memory_bytes <= budget.bytes).await;
    running.stop().await;
}

#[tokio::test]
async fn rows_in_memory_take_little_more_than_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let view = open(&Place::local(folder.path()).unwrap()).await;
    // Each chunk has a little more text than the one before.
    let row = |n: usize| event(&format!("{n:0>width$}", width = 40 + n / CHUNK_ROWS), 1, n as u64, n as i64);
    let rows: Vec<_> = (0..4 * CHUNK_ROWS).map(row).collect();
    rows.chunks(1024).for_each(|some| _ = apply(&view, some));
    let snapshot = view.snapshot().unwrap();
    assert_eq!(snapshot.tail.len(), 4);
    for part in &snapshot.tail[1..] {
        let values = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap();
        let (held, used) = (part.batch.get_array_memory_size(), part.batch.columns().iter().map(values).sum::<usize>());
        assert!(held < used * 5 / 4, "{held} bytes for {used}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_views_than_the_budget_says_stay_open() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let budget = Budget { views: 4, flush_age: NEVER, ..Budget::default() };
    let running = Running::start(&log, &store, folder.path(), budget);
    for number in 1..13 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &events(0, 50)).await;
    }
    running.caught_up(&log).await;
    until(|| running.handle.holdings().open <= 4).await;
    let expected = running.rows(tenant(1)).await;
    for number in 1..13 {
        assert_eq!(running.rows(tenant(number)).await, expected);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_index_exceeds_the_budget_stays_open_and_is_not_flushed_for_every_few_rows() {
    const KEYS: u64 = 60_000;
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let budget = Budget { bytes: 2 << 20, flush_age: NEVER, ..Budget::default() };
    define(&log, tenant(1), &orders()).await;
    let rows = |from: u64, to: u64| -> Vec<_> {
        (from..to).map(|n| event(&format!("k{}", n % KEYS), 1, n, n as i64)).collect()
    };
    append(&log, tenant(1), &rows(0, KEYS)).await;
    let running = Running::start(&log, &store, folder.path(), budget.clone());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    let view = running.handle.view(tenant(1), &order_name()).await.unwrap().unwrap();
    assert!(view.memory_bytes() > budget.bytes);
    let before = commits(folder.path(), 1);
    for round in 0..40 {
        let first = KEYS + round * 100;
        append(&log, tenant(1), &rows(first, first + 100)).await;
        running.caught_up(&log).await;
    }
    assert!(commits(folder.path(), 1) - before <= 8, "{} commits", commits(folder.path(), 1) - before);
    running.handle.flush_all().await.unwrap();
    append(&log, tenant(1), &rows(KEYS, KEYS + 1)).await;
    running.caught_up(&log).await;
    let same = running.handle.view(tenant(1), &order_name()).await.unwrap().unwrap();
    assert!(std::sync::Arc::ptr_eq(&view, &same), "it was not closed in between");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_alone_make_a_flush_due() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let budget = Budget { tail_rows: 500, tail_share: 10, flush_age: NEVER, ..Budget::default() };
    define(&log, tenant(1), &orders()).await;
    let rows: Vec<_> = (0..400).map(|n| event(&format!("k{n}"), 1, n, 1)).collect();
    append(&log, tenant(1), &rows).await;
    let running = Running::start(&log, &store, folder.path(), budget);
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    let deletes: Vec<_> = (0..600).map(|n| event(&format!("k{n}"), 2, 400 + n, None)).collect();
    append(&log, tenant(1), &deletes).await;
    running.caught_up(&log).await;
    let view = running.handle.view(tenant(1), &order_name()).await.unwrap().unwrap();
    let end = log.end(Topic::Events, 0).await.unwrap();
    until(|| view.committed() == end).await;
    running.stop().await;
}
