//! Views that another process writes: what a follower does when that process, the log or the storage lags or fails.

use std::sync::Arc;

use pipeline::Log;
use projections::view::{Access, Budget, Place, PlaceError, ViewError};
use schemas::Topic;

use crate::faulty::{Fault, FaultyLog, faulty_place};
use crate::places::{level, watchful};
use crate::projector::{Running, events, store, tenant};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_reads_from_the_checkpoint_what_no_table_has_and_nothing_before() {
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    let faulty = FaultyLog::new(log(1));
    let log: Arc<dyn Log> = faulty.clone();
    for number in 1..3 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &events(0, 100)).await;
    }
    let place = Place::local(folder.path()).unwrap();
    let writer = Running::start_at(&log, &store, place.clone(), Budget::default());
    writer.caught_up(&log).await;
    writer.handle.flush_all().await.unwrap();
    let checkpoint = log.end(Topic::Events, 0).await.unwrap();
    append(&log, tenant(1), &events(100, 200)).await;
    writer.caught_up(&log).await;
    faulty.reads.send_modify(Vec::clear);
    let reader = Running::follow(&log, &store, place, watchful());
    assert_eq!(reader.rows(tenant(1)).await, writer.rows(tenant(1)).await);
    assert_eq!(reader.rows(tenant(2)).await, writer.rows(tenant(2)).await);
    assert!(faulty.reads.borrow().iter().all(|from| *from >= checkpoint));
    assert_eq!(reader.handle.holdings().open, 2);
    reader.stop().await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_writes_nothing_and_opens_only_what_is_asked_for() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let place = Place::local(folder.path()).unwrap();
    define(&log, TENANT, &orders()).await;
    let writer = Running::start_at(&log, &store, place.clone(), Budget::default());
    writer.caught_up(&log).await;
    writer.stop().await;
    let reader = Running::follow(&log, &store, place, watchful());
    append(&log, TENANT, &events(0, 100)).await;
    reader.caught_up(&log).await;
    assert_eq!(reader.handle.holdings().open, 0);
    assert!(!reader.rows(TENANT).await.is_empty(), "there is no table yet");
    reader.handle.forget(TENANT).await.unwrap();
    reader.stop().await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_the_projector_has_not_come_to_is_taken_from_the_log() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let place = Place::local(folder.path()).unwrap();
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 50)).await;
    let writer = Running::start_at(&log, &store, place.clone(), Budget::default());
    writer.caught_up(&log).await;
    writer.stop().await;
    define(&log, TENANT, &noted_orders()).await;
    append_noted(&log, TENANT, &events(50, 60), Some("new")).await;
    let reader = Running::follow(&log, &store, place.clone(), watchful());
    let read = reader.rows(TENANT).await;
    assert!(read.values().any(|row| row.contains("note=new")));
    let writer = Running::start_at(&log, &store, place, Budget::default());
    writer.caught_up(&log).await;
    writer.handle.flush_all().await.unwrap();
    level(&reader, &writer).await;
    assert_eq!(reader.rows(TENANT).await, read);
    reader.stop().await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_projector_does_not_commit_stays_within_its_budget_and_says_so() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let place = Place::local(folder.path()).unwrap();
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &[event("first", 1, 0, 1)]).await;
    let writer = Running::start_at(&log, &store, place.clone(), Budget::default());
    writer.caught_up(&log).await;
    writer.stop().await;
    let reader = Running::follow(&log, &store, place.clone(), Budget { bytes: 1 << 20, ..watchful() });
    assert_eq!(reader.rows(TENANT).await.len(), 1);
    let many: Vec<_> = (1..40_001).map(|n| event(&format!("k{n}"), 1, n, n as i64)).collect();
    for some in many.chunks(2_000) {
        append(&log, TENANT, some).await;
    }
    let mut stall = reader.handle.stalls().remove(0);
    let told = in_time(stall.wait_for(Option::is_some)).await.unwrap().clone();
    assert!(told.unwrap().contains("has not committed"));
    let writer = Running::start_at(&log, &store, place, Budget { bytes: 1 << 20, ..Budget::default() });
    writer.caught_up(&log).await;
    writer.handle.flush_all().await.unwrap();
    in_time(reader.caught_up(&log)).await;
    assert_eq!(reader.rows(TENANT).await.len(), 40_001);
    reader.stop().await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_refuses_or_does_not_answer_is_told_and_nothing_is_lost() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    let (place, fault) = faulty_place(folder.path());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 500)).await;
    let running = Running::start_at(&log, &store, place.clone(), Budget::default());
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    fault.send_replace(Fault::AllDenied);
    assert!(matches!(running.handle.flush_all().await, Err(ViewError::Denied { .. })));
    fault.send_replace(Fault::PutAway("/orders/part-"));
    let away = running.handle.flush_all().await.unwrap_err();
    assert!(matches!(away, ViewError::Away { .. }) && away.is_retryable());
    assert_eq!(running.rows(TENANT).await, before, "queries go on");
    // Nobody knows whether such a commit came through.
    fault.send_replace(Fault::PutAway("/orders/_delta_log"));
    assert!(matches!(running.handle.flush_all().await, Err(ViewError::Away { .. })));
    fault.send_replace(Fault::None);
    assert_eq!(running.rows(TENANT).await, before, "the table is read again");
    running.handle.flush_all().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_place_that_cannot_be_written_or_overwrites_is_refused_and_one_for_reading_need_not_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let (place, fault) = faulty_place(folder.path());
    fault.send_replace(Fault::PutDenied("_probe"));
    assert!(matches!(place.check(Access::Write).await, Err(PlaceError::ReadOnly { .. })));
    place.check(Access::Read).await.unwrap();
    fault.send_replace(Fault::Overwrites("_probe"));
    assert!(matches!(place.check(Access::Write).await, Err(PlaceError::Overwrites(_))));
    fault.send_replace(Fault::PutAway("_probe"));
    assert!(place.check(Access::Write).await.unwrap_err().is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_tenants_that_are_forgotten_those_that_have_tables_lose_them_and_no_other_does() {
    let (log, store, folder) = (log(2), store(), tempfile::tempdir().unwrap());
    let place = Place::local(folder.path()).unwrap();
    for number in 1..=3 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &events(0, 50)).await;
    }
    let writer = Running::start_at(&log, &store, place, Budget::default());
    writer.caught_up(&log).await;
    writer.handle.flush_all().await.unwrap();
    writer.handle.forget_all(&[1, 2, 9].map(tenant).into()).await.unwrap();
    assert_eq!(writer.handle.holdings().open, 1);
    let has_files = |number| holds_a_file(&folder.path().join(tenant(number).to_string()));
    assert_eq!([1, 2, 3].map(has_files), [false, false, true]);
    writer.stop().await;
}

fn holds_a_file(folder: &std::path::Path) -> bool {
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.any(|path| path.is_file() || holds_a_file(&path))
}
