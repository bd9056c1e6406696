//! A view whose files cannot be written or read: others go on, and it lacks nothing in the end.

use std::sync::Arc;
use std::time::Duration;

use pipeline::Log;
use projections::view::{Budget, ViewError};
use tempfile::TempDir;

use crate::faulty::{Fault, Faults, faulty_place};
use crate::projector::{Running, store, tenant};
use crate::support::*;

/// Tails of one MiB, flushed for their size alone.
fn budget() -> Budget {
    Budget { bytes: 1 << 20, flush_age: Duration::from_secs(3600), ..Budget::default() }
}

/// Far more than the budget.
fn many(from: u64) -> Vec<Event> {
    (from..from + 20_000).map(|n| event(&format!("k{n}"), 1, n, n as i64)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_can_never_be_flushed_stops_alone_and_a_rebuild_cures_it() {
    for fault in [Fault::Put("0101/orders/part-"), Fault::PutDenied("0101/orders/part-")] {
        stops_alone(fault).await;
    }
}

/// What goes wrong does so with the files of the first tenant.
async fn stops_alone(wrong: Fault) {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let (place, fault) = faulty_place(folder.path());
    let running = Running::start_at(&log, &store, place, budget());
    for number in 1..3 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &[event("first", 1, 0, 1)]).await;
    }
    running.caught_up(&log).await;
    fault.send_replace(wrong);
    for number in [1, 2, 2, 1] {
        append(&log, tenant(number), &many(log.end(schemas::Topic::Events, 0).await.unwrap())).await;
        in_time(running.caught_up(&log)).await;
    }
    in_time(async {
        while running.handle.holdings().stopped == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(running.rows(tenant(2)).await.len(), 40_001);
    fault.send_replace(Fault::None);
    running.handle.rebuild(tenant(1), &order_name()).await.unwrap().unwrap();
    assert_eq!(running.rows(tenant(1)).await.len(), 40_001);
    assert_eq!(running.handle.holdings().stopped, 0);
    running.handle.flush_all().await.unwrap();
    running.stop().await;
}

/// Two views with a row in files each, and a projector that opens them to fold another one.
async fn opened_with(wrong: Fault) -> (Arc<dyn Log>, Running, Faults, TempDir) {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let (place, fault) = faulty_place(folder.path());
    let running = Running::start_at(&log, &store, place.clone(), budget());
    for number in 1..3 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &[event("first", 1, 0, 1)]).await;
    }
    running.caught_up(&log).await;
    running.stop().await;
    fault.send_replace(wrong);
    let running = Running::start_at(&log, &store, place, budget());
    for number in 1..3 {
        append(&log, tenant(number), &[event("second", 1, 1, 2)]).await;
    }
    (log, running, fault, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_alone_is_refused_holds_no_other_back_and_is_opened_once_it_is_not() {
    let (log, running, fault, _folder) = opened_with(Fault::Denied("0101/orders/part-")).await;
    in_time(running.caught_up(&log)).await;
    assert_eq!(running.rows(tenant(2)).await.len(), 2);
    let told = running.handle.snapshot(tenant(1), &order_name(), None).await;
    assert!(matches!(told, Err(ViewError::Denied { .. })), "{told:?}");
    fault.send_replace(Fault::None);
    assert_eq!(running.rows(tenant(1)).await.len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_refused_as_a_whole_is_waited_for() {
    let (log, running, fault, _folder) = opened_with(Fault::AllDenied).await;
    let mut stall = running.handle.stalls().remove(0);
    let told = in_time(stall.wait_for(Option::is_some)).await.unwrap().clone();
    assert!(told.unwrap().contains("refuses"));
    fault.send_replace(Fault::None);
    in_time(running.caught_up(&log)).await;
    for number in 1..3 {
        assert_eq!(running.rows(tenant(number)).await.len(), 2);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_while_folding_waits_for_it_and_does_not_hinder_a_shutdown() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let (place, fault) = faulty_place(folder.path());
    let running = Running::start_at(&log, &store, place.clone(), budget());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &[event("first", 1, 0, 1)]).await;
    running.caught_up(&log).await;
    fault.send_replace(Fault::PutFull("/orders/part-"));
    append(&log, TENANT, &many(1)).await;
    let mut stall = running.handle.stalls().remove(0);
    let told = in_time(stall.wait_for(Option::is_some)).await.unwrap().clone();
    assert!(told.unwrap().contains("the disk is full"));
    assert!(matches!(in_time(running.stop_with_error()).await, ViewError::DiskFull));
    fault.send_replace(Fault::None);
    let running = Running::start_at(&log, &store, place, budget());
    running.caught_up(&log).await;
    assert_eq!(running.rows(TENANT).await.len(), 20_001);
    running.stop().await;
}
