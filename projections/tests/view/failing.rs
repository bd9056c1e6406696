//! A view whose files cannot be written: others go on, and it lacks nothing in the end.

use std::time::Duration;

use projections::view::{Budget, ViewError};

use crate::faulty::{Fault, faulty_place};
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
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let (place, fault) = faulty_place(folder.path());
    let running = Running::start_at(&log, &store, place, budget());
    for number in 1..3 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &[event("first", 1, 0, 1)]).await;
    }
    running.caught_up(&log).await;
    fault.send_replace(Fault::Put("0101/orders/part-"));
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
