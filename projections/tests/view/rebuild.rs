//! Rebuilds while other things happen.

use std::sync::Arc;

use pipeline::Log;
use projections::view::Budget;

use crate::faulty::{Fault, FaultyLog, faulty_place};
use crate::projector::{Running, events, store};
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
