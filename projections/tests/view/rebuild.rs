//! Rebuilds while other things happen.

use std::sync::Arc;

use pipeline::Log;
use projections::view::Budget;

use crate::faulty::{Fault, FaultyLog, faulty_place};
use crate::projector::{Running, events, store, tenant};
use crate::support::*;

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
    faulty.reads.send_modify(Vec::clear);
    faulty.holds.send_replace(true);
    let handle = running.handle.clone();
    let rebuild = tokio::spawn(async move { handle.rebuild(TENANT, &order_name()).await });
    faulty.is_read_from_the_start().await;
    define(&log, TENANT, &noted_orders()).await;
    append_noted(&log, TENANT, &events(1000, 1100), Some("new")).await;
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    assert!(before.values().any(|row| row.contains("note=new")));
    faulty.holds.send_replace(false);
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
    for commit in std::fs::read_dir(folder.path().join(tenant(1).to_string()).join("orders/_delta_log")).unwrap() {
        std::fs::write(commit.unwrap().path(), "no json").unwrap();
    }
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    faulty.reads.send_modify(Vec::clear);
    faulty.holds.send_replace(true);
    let handle = running.handle.clone();
    let rebuild = tokio::spawn(async move { handle.rebuild(tenant(1), &order_name()).await });
    faulty.is_read_from_the_start().await;
    for number in [2, 1, 2] {
        append(&log, tenant(number), &events(1000 + number as u64 * 100, 1100 + number as u64 * 100)).await;
    }
    in_time(running.caught_up(&log)).await;
    assert!(!rebuild.is_finished());
    faulty.holds.send_replace(false);
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
