//! Rebuilds while other things happen.

use std::sync::Arc;

use pipeline::Log;
use projections::view::Budget;
use schemas::{TenantId, Topic};

use crate::faulty::{Fault, FaultyLog, faulty_place};
use crate::projector::{Running, events, store, tenant};
use crate::support::*;

/// Digits that no packing makes fewer.
fn noise(seed: u64) -> u128 {
    let mixed = u128::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (mixed ^ mixed >> 61).wrapping_mul(0xda94_2042_e4dd_58b5_94d0_49bb_1331_11eb)
}

/// The table of a tenant can be opened no more.
fn spoil(folder: &std::path::Path, tenant: TenantId) {
    for commit in std::fs::read_dir(folder.join(tenant.to_string()).join("orders/_delta_log")).unwrap() {
        std::fs::write(commit.unwrap().path(), "no json").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_keeps_the_values_of_a_field_that_is_added_while_it_runs() {
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    let faulty = FaultyLog::new(log(1));
    let log: Arc<dyn Log> = faulty.clone();
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    faulty.hold(0..1);
    let handle = running.handle.clone();
    let rebuild = tokio::spawn(async move { handle.rebuild(TENANT, &order_name()).await });
    faulty.is_waited_for().await;
    define(&log, TENANT, &noted_orders()).await;
    append_noted(&log, TENANT, &events(1000, 1100), Some("new")).await;
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    assert!(before.values().any(|row| row.contains("note=new")));
    faulty.hold(0..0);
    rebuild.await.unwrap().unwrap().unwrap();
    assert_eq!(running.rows(TENANT).await, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rebuild_whose_commit_failed_the_view_is_opened_again() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let (place, fault) = faulty_place(folder.path());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start_at(&log, &store, place, Budget::default());
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    fault.send_replace(Fault::Put("/orders/_delta_log/"));
    running.handle.rebuild(TENANT, &order_name()).await.unwrap_err();
    fault.send_replace(Fault::None);
    assert_eq!(running.rows(TENANT).await, before);
    append(&log, TENANT, &[event("new", 1, 2000, 1)]).await;
    running.caught_up(&log).await;
    assert_eq!(running.rows(TENANT).await.len(), before.len() + 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_made_again_from_zero_lets_others_go_on_and_gets_what_comes_meanwhile() {
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    let faulty = FaultyLog::new(log(1));
    let log: Arc<dyn Log> = faulty.clone();
    for number in 1..3 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &events(0, 1000)).await;
    }
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.stop().await;
    spoil(folder.path(), tenant(1));
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    faulty.hold(0..1);
    let handle = running.handle.clone();
    let rebuild = tokio::spawn(async move { handle.rebuild(tenant(1), &order_name()).await });
    faulty.is_waited_for().await;
    for number in [2, 1, 2] {
        append(&log, tenant(number), &events(1000 + number as u64 * 100, 1100 + number as u64 * 100)).await;
    }
    in_time(running.caught_up(&log)).await;
    assert!(!rebuild.is_finished());
    faulty.hold(0..0);
    rebuild.await.unwrap().unwrap().unwrap();
    let expected = {
        let folder = tempfile::tempdir().unwrap();
        let fresh = Running::start(&log, &self::store(), folder.path(), Budget::default());
        fresh.caught_up(&log).await;
        let expected = fresh.rows(tenant(1)).await;
        fresh.stop().await;
        expected
    };
    assert_eq!(running.rows(tenant(1)).await, expected);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_killed_half_way_while_it_is_made_again_lacks_nothing_afterwards() {
    // Long keys, so that these are far more bytes than are held in memory while a view is caught up, and than are read at
    // a time.
    const ROWS: u64 = 60_000;
    let key = |n: u64| -> String { (1..32).map(|part| format!("{:032x}", noise(n * 32 + part))).collect() };
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    let faulty = FaultyLog::new(log(1));
    let log: Arc<dyn Log> = faulty.clone();
    define(&log, TENANT, &orders()).await;
    for from in (0..ROWS).step_by(1_000) {
        let events: Vec<_> = (from..from + 1_000).map(|n| event(&key(n), 1, n, n as i64)).collect();
        append(&log, TENANT, &events).await;
    }
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.stop().await;
    spoil(folder.path(), TENANT);
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let end = log.end(Topic::Events, 0).await.unwrap();
    faulty.hold(ROWS * 2 / 3..end);
    let handle = running.handle.clone();
    let rebuild = tokio::spawn(async move { handle.rebuild(TENANT, &order_name()).await });
    faulty.is_waited_for().await;
    rebuild.abort();
    let _ = rebuild.await;
    running.kill().await;
    faulty.hold(0..0);
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let view = running.handle.view(TENANT, &order_name()).await.unwrap().unwrap();
    assert_eq!(view.info().rows as u64, ROWS);
    running.stop().await;
}
