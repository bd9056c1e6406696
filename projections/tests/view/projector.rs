//! All views of a log: folding, checkpoints, restarts, rebuilds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipeline::{Expect, Log, MemoryLog, MemoryStore, Partitions, Store, Table};
use projections::view::{Budget, Place, Projector, ProjectorHandle, ViewError};
use schemas::{TenantId, Topic};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::faulty::{Fault, FaultyLog, faulty_place};
use crate::support::*;

pub struct Running {
    pub handle: ProjectorHandle,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), ViewError>>,
}

impl Running {
    pub fn start(log: &Arc<dyn Log>, store: &Arc<dyn Store>, folder: &Path, budget: Budget) -> Self {
        Self::start_at(log, store, Place::local(folder).unwrap(), budget)
    }
    pub fn start_at(log: &Arc<dyn Log>, store: &Arc<dyn Store>, place: Place, budget: Budget) -> Self {
        Self::run(Projector::at(log.clone(), store.clone(), place, budget))
    }
    /// One that only reads.
    pub fn follow(log: &Arc<dyn Log>, store: &Arc<dyn Store>, place: Place, budget: Budget) -> Self {
        Self::run(Projector::follow(log.clone(), store.clone(), place, budget))
    }
    fn run(projector: Projector) -> Self {
        let handle = projector.handle();
        let (stop, stopped) = watch::channel(false);
        Self { handle, stop, task: tokio::spawn(projector.run(stopped)) }
    }
    pub async fn caught_up(&self, log: &Arc<dyn Log>) {
        for partition in 0..log.partitions(Topic::Events) {
            let end = log.end(Topic::Events, partition).await.unwrap();
            self.handle.wait_position(partition, end).await.unwrap();
        }
    }
    pub async fn rows(&self, tenant: TenantId) -> std::collections::BTreeMap<String, String> {
        let snapshot = self.handle.snapshot(tenant, &order_name(), None).await.unwrap().unwrap();
        rows(&snapshot, &[]).await
    }
    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap().unwrap();
    }
    /// Ends with what went wrong.
    pub async fn stop_with_error(self) -> ViewError {
        self.stop.send(true).unwrap();
        self.task.await.unwrap().unwrap_err()
    }
    /// As a kill does: nothing is flushed.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

pub fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

pub fn events(from: u64, to: u64) -> Vec<Event> {
    (from..to).map(|n| event(&format!("k{}", n % 700), (n % 5) as i64, n, (n % 13 != 0).then_some(n as i64))).collect()
}

fn checkpoint_key() -> String {
    format!("{}/0/projector", Topic::Events)
}

/// Where a restart begins.
async fn checkpoint(store: &Arc<dyn Store>) -> u64 {
    let row = store.get(TenantId::SYSTEM, Table::Checkpoints, &checkpoint_key()).await.unwrap().unwrap();
    let (epoch, offset) = row.value.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_be_bytes(*epoch), 1);
    u64::from_be_bytes(offset.try_into().unwrap())
}

/// Folds 500 events into tables in `folder`, and answers where a restart begins.
async fn folded(log: &Arc<dyn Log>, store: &Arc<dyn Store>, folder: &Path) -> u64 {
    define(log, TENANT, &orders()).await;
    append(log, TENANT, &events(0, 500)).await;
    let running = Running::start(log, store, folder, Budget::default());
    running.caught_up(log).await;
    running.stop().await;
    checkpoint(store).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_another_epoch_or_beyond_the_log_ends_the_partition_and_no_table_is_touched() {
    for (epoch, upto) in [(2, 900), (1, 100)] {
        let (first, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
        let at = folded(&first, &store, folder.path()).await;
        let partitions = Partitions { inputs: 1, events: 1, decisions: 1 };
        let other: Arc<dyn Log> = Arc::new(MemoryLog::of_epoch(partitions, epoch));
        define(&other, TENANT, &orders()).await;
        append(&other, TENANT, &events(0, upto)).await;
        let running = Running::start(&other, &store, folder.path(), Budget::default());
        let told = running.handle.rebuild(TENANT, &order_name()).await.unwrap_err();
        assert!(matches!(told, ViewError::OtherLog { .. }) && !told.is_of_the_table(), "{told}");
        let ended = in_time(running.task).await.unwrap().unwrap_err();
        let ViewError::OtherLog { views, end } = &ended else { panic!("{ended}") };
        assert_eq!((views.epoch, views.offset, end.epoch, end.offset), (1, at, epoch, upto + 1));
        assert_eq!(checkpoint(&store).await, at);
        let running = Running::start(&first, &store, folder.path(), Budget::default());
        running.caught_up(&first).await;
        assert_eq!(running.rows(TENANT).await.len(), rows_of(&first).await);
        running.stop().await;
    }
}

/// How many rows a log makes.
async fn rows_of(log: &Arc<dyn Log>) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(log, &store(), folder.path(), Budget::default());
    running.caught_up(log).await;
    let rows = running.rows(TENANT).await.len();
    running.stop().await;
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_former_builds_is_gone_on_from_and_written_with_its_epoch() {
    let (store, folder) = (store(), tempfile::tempdir().unwrap());
    let faulty = FaultyLog::new(log(1));
    let log: Arc<dyn Log> = faulty.clone();
    let at = folded(&log, &store, folder.path()).await;
    let former = at.to_be_bytes().to_vec().into();
    store.put(TenantId::SYSTEM, Table::Checkpoints, &checkpoint_key(), former, Expect::Any).await.unwrap();
    append(&log, TENANT, &events(500, 600)).await;
    faulty.reads.send_modify(Vec::clear);
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    assert!(faulty.reads.borrow().iter().all(|from| *from >= at));
    running.stop().await;
    assert_eq!(checkpoint(&store).await, log.end(Topic::Events, 0).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_is_killed_or_stopped_goes_on_where_its_tables_are() {
    let (log, store, folder) = (log(2), store(), tempfile::tempdir().unwrap());
    for number in 1..4 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &events(0, 1000)).await;
    }
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let first = running.rows(tenant(1)).await;
    running.handle.flush(tenant(1), None).await.unwrap();
    append(&log, tenant(1), &events(1000, 1500)).await;
    append(&log, tenant(2), &events(1000, 1500)).await;
    running.caught_up(&log).await;
    let expected = [running.rows(tenant(1)).await, running.rows(tenant(2)).await, running.rows(tenant(3)).await];
    assert_ne!(first, expected[0]);
    running.kill().await;

    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    for (number, expected) in (1..4).zip(&expected) {
        assert_eq!(running.rows(tenant(number)).await, *expected);
    }
    running.stop().await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    for (number, expected) in (1..4).zip(&expected) {
        assert_eq!(running.rows(tenant(number)).await, *expected, "straight from the tables");
        let info = running.handle.tables(tenant(number)).await.unwrap().remove(0);
        assert_eq!((info.rows, info.tail_rows), (expected.len(), 0));
    }
    assert!(running.handle.snapshot(tenant(9), &order_name(), None).await.unwrap().is_none());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_was_stopped_for_long_writes_over_nothing_of_its_successor() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, tenant(1), &orders()).await;
    append(&log, tenant(1), &events(0, 500)).await;
    let stale = Running::start(&log, &store, folder.path(), Budget::default());
    stale.caught_up(&log).await;
    stale.handle.flush_all().await.unwrap();
    append(&log, tenant(1), &events(500, 900)).await;
    let heir = Running::start(&log, &store, folder.path(), Budget::default());
    heir.caught_up(&log).await;
    heir.handle.flush_all().await.unwrap();
    let at = checkpoint(&store).await;
    stale.caught_up(&log).await;
    let refused = stale.handle.flush_all().await.unwrap_err();
    assert!(matches!(refused, ViewError::Conflict { .. }), "{refused}");
    append(&log, tenant(1), &events(900, 950)).await;
    // It opens the table again, and then its checkpoint is another one's.
    _ = stale.handle.wait_position(0, log.end(Topic::Events, 0).await.unwrap()).await;
    _ = stale.stop.send(true);
    let ended = in_time(stale.task).await.unwrap().unwrap_err();
    assert!(ended.is_overtaken() && checkpoint(&store).await >= at, "{ended}");
    heir.caught_up(&log).await;
    // What the other has committed before it knew are rows of the log: the table is opened again and has them.
    _ = heir.handle.flush_all().await;
    let apart = tempfile::tempdir().unwrap();
    let fresh = Running::start(&log, &self::store(), apart.path(), Budget::default());
    fresh.caught_up(&log).await;
    assert_eq!(heir.rows(tenant(1)).await, fresh.rows(tenant(1)).await);
    fresh.stop().await;
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_view_whose_table_has_everything_holds_no_restart_back_and_lacks_nothing_after_it() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    for number in 1..3 {
        define(&log, tenant(number), &orders()).await;
    }
    append(&log, tenant(1), &events(0, 100)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    append(&log, tenant(2), &events(0, 500)).await;
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    assert_eq!(running.handle.holdings().open, 2);
    let end = log.end(Topic::Events, 0).await.unwrap();
    assert_eq!(checkpoint(&store).await, end);
    append(&log, tenant(1), &events(500, 550)).await;
    append(&log, tenant(2), &events(500, 550)).await;
    running.caught_up(&log).await;
    running.handle.flush(tenant(2), None).await.unwrap();
    assert_eq!(checkpoint(&store).await, end, "from there on a table lacks something");
    let before = [running.rows(tenant(1)).await, running.rows(tenant(2)).await];
    running.kill().await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    assert_eq!([running.rows(tenant(1)).await, running.rows(tenant(2)).await], before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_equals_the_incremental_view_row_for_row_and_events_go_on() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 3000)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    append(&log, TENANT, &events(3000, 4000)).await;
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    let rebuilt = running.handle.rebuild(TENANT, &order_name()).await.unwrap().unwrap();
    assert_eq!(rebuilt.rows, before.len());
    assert_eq!(running.rows(TENANT).await, before);
    append(&log, TENANT, &events(4000, 4500)).await;
    running.caught_up(&log).await;
    let after = running.rows(TENANT).await;
    running.handle.flush_all().await.unwrap();
    assert_eq!(running.rows(TENANT).await, after);
    running.stop().await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    assert_eq!(running.rows(TENANT).await, after);
    append(&log, TENANT, &[event("k13", 0, 5000, 1)]).await;
    running.caught_up(&log).await;
    assert_eq!(running.rows(TENANT).await, after, "late rows still lose against deletes that the rebuild found");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_folder_was_deleted_comes_back_from_the_log() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    running.stop().await;
    std::fs::remove_dir_all(folder.path().join(TENANT.to_string())).unwrap();
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    assert_eq!(running.rows(TENANT).await, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_before_the_projector_runs_waits_and_sees_a_view_that_lacks_nothing() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    running.stop().await;
    // Only the log has its rows now, and the checkpoint stands behind them.
    std::fs::remove_dir_all(folder.path().join(TENANT.to_string())).unwrap();
    let projector = Projector::at(log.clone(), store.clone(), Place::local(folder.path()).unwrap(), Budget::default());
    let handle = projector.handle();
    let asking = handle.clone();
    let mut query = tokio::spawn(async move { asking.snapshot(TENANT, &order_name(), None).await });
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), &mut query).await;
    assert!(early.is_err(), "it is not known yet where the view has to stand");
    let (stop, stopped) = watch::channel(false);
    let running = Running { handle, stop, task: tokio::spawn(projector.run(stopped)) };
    assert_eq!(rows(&query.await.unwrap().unwrap().unwrap(), &[]).await, before);
    append(&log, TENANT, &[event("new", 1, 2000, Some(1))]).await;
    running.caught_up(&log).await;
    assert_eq!(running.rows(TENANT).await.len(), before.len() + 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_opened_is_made_again_by_a_rebuild() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    running.stop().await;
    let commits = folder.path().join(TENANT.to_string()).join("orders/_delta_log");
    for commit in std::fs::read_dir(commits).unwrap() {
        std::fs::write(commit.unwrap().path(), "no json").unwrap();
    }
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    assert!(running.handle.snapshot(TENANT, &order_name(), None).await.is_err());
    append(&log, TENANT, &[event("new", 1, 2000, 1)]).await;
    running.caught_up(&log).await;
    running.handle.rebuild(TENANT, &order_name()).await.unwrap().unwrap();
    let after = running.rows(TENANT).await;
    assert_eq!(after.len(), before.len() + 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_conflict_the_view_is_opened_again_and_lacks_nothing() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 500)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    append(&log, TENANT, &events(500, 900)).await;
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    // Another process that thinks it owns the view commits a prefix.
    let place = Place::local(folder.path()).unwrap();
    let other = open(&place).await;
    other.apply(501, 100, &body(&events(500, 600), None)).unwrap();
    other.flush(log.clone()).await.unwrap();
    assert!(matches!(running.handle.flush_all().await, Err(ViewError::Conflict { .. })));
    assert_eq!(running.rows(TENANT).await, before);
    append(&log, TENANT, &events(900, 1000)).await;
    running.caught_up(&log).await;
    let after = running.rows(TENANT).await;
    running.handle.flush_all().await.unwrap();
    running.stop().await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    assert_eq!(running.rows(TENANT).await, after);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_commits_nothing_that_the_log_could_lose() {
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    let faulty = FaultyLog::new(log(1));
    let log: Arc<dyn Log> = faulty.clone();
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    let table = folder.path().join(TENANT.to_string()).join("orders");
    let count = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    let files = || count(&table) + count(&table.join("_delta_log"));
    let before = files();
    faulty.fails.store(true, Ordering::Release);
    assert!(matches!(running.handle.rebuild(TENANT, &order_name()).await, Err(ViewError::Log(_))));
    assert_eq!(files(), before, "neither a commit nor a file is left");
    faulty.fails.store(false, Ordering::Release);
    running.handle.rebuild(TENANT, &order_name()).await.unwrap();
    assert_ne!(files(), before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_deletes_no_table_that_is_not_to_blame() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    running.stop().await;
    let commits =
        || std::fs::read_dir(folder.path().join(TENANT.to_string()).join("orders/_delta_log")).unwrap().count();
    let commits_before = commits();
    let (place, fault) = faulty_place(folder.path());
    fault.send_replace(Fault::Full(".parquet"));
    let running = Running::start_at(&log, &store, place, Budget::default());
    assert!(matches!(running.handle.rebuild(TENANT, &order_name()).await, Err(ViewError::DiskFull)));
    assert_eq!(commits(), commits_before);
    fault.send_replace(Fault::None);
    assert_eq!(running.rows(TENANT).await, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_opens_a_view_does_not_stop_the_others() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    for number in 1..3 {
        define(&log, tenant(number), &orders()).await;
        append(&log, tenant(number), &events(0, 1000)).await;
    }
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let before = running.rows(tenant(1)).await;
    running.stop().await;
    let (place, fault) = faulty_place(folder.path());
    fault.send_replace(Fault::Wait("01010101"));
    let running = Running::start_at(&log, &store, place, Budget::default());
    let handle = running.handle.clone();
    let query = tokio::spawn(async move { handle.snapshot(tenant(1), &order_name(), None).await });
    append(&log, tenant(2), &events(1000, 1100)).await;
    running.caught_up(&log).await;
    assert!(!query.is_finished());
    fault.send_replace(Fault::None);
    let snapshot = query.await.unwrap().unwrap().unwrap();
    assert_eq!(rows(&snapshot, &[]).await, before);
    assert_eq!(snapshot.position.offset, log.end(Topic::Events, 0).await.unwrap());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_defined_while_a_query_opens_its_view_keeps_its_values() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 100)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.stop().await;
    let (place, fault) = faulty_place(folder.path());
    let running = Running::start_at(&log, &store, place, Budget::default());
    running.caught_up(&log).await;
    fault.send_replace(Fault::Wait(".parquet"));
    let handle = running.handle.clone();
    let query = tokio::spawn(async move { handle.snapshot(TENANT, &order_name(), None).await });
    fault.is_waited_for().await;
    define(&log, TENANT, &noted_orders()).await;
    running.caught_up(&log).await;
    fault.send_replace(Fault::None);
    query.await.unwrap().unwrap().unwrap();
    append_noted(&log, TENANT, &[event("new", 1, 200, 1)], Some("kept")).await;
    running.caught_up(&log).await;
    assert!(running.rows(TENANT).await["new"].contains("note=kept"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_ask_for_a_closed_view_at_once_read_its_table_once() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 100)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    running.stop().await;
    let (place, fault) = faulty_place(folder.path());
    let running = Running::start_at(&log, &store, place, Budget::default());
    running.caught_up(&log).await;
    fault.send_replace(Fault::Wait("orders/part-"));
    let mut queries = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let handle = running.handle.clone();
        queries.spawn(async move { handle.view(TENANT, &order_name()).await.unwrap().unwrap() });
    }
    fault.is_waited_for().await;
    fault.send_replace(Fault::None);
    let views = queries.join_all().await;
    assert!(views.iter().all(|view| Arc::ptr_eq(view, &views[0])));
    assert_eq!(fault.data_reads(), 2, "one file of rows, one of deleted keys");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_without_rows_is_looked_for_in_the_log_once() {
    let (folder, store) = (tempfile::tempdir().unwrap(), store());
    let faulty = FaultyLog::new(log(1));
    let log: Arc<dyn Log> = faulty.clone();
    for number in 1..3 {
        define(&log, tenant(number), &orders()).await;
    }
    for round in 0..3 {
        append(&log, tenant(2), &events(round * 100, round * 100 + 100)).await;
        let running = Running::start(&log, &store, folder.path(), Budget::default());
        running.caught_up(&log).await;
        assert!(running.rows(tenant(1)).await.is_empty());
        running.stop().await;
    }
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    faulty.reads.send_modify(Vec::clear);
    let end = log.end(Topic::Events, 0).await.unwrap();
    assert!(running.rows(tenant(1)).await.is_empty());
    assert!(faulty.reads.borrow().iter().all(|from| *from == end), "read from {:?}", faulty.reads.borrow());
    append(&log, tenant(1), &events(0, 50)).await;
    running.caught_up(&log).await;
    assert!(!running.rows(tenant(1)).await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_entity_does_not_get_the_table_of_the_first() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    define(&log, TENANT, &orders()).await;
    let purchase = r#"{"entity":"purchase","table":"orders","fields":[{"name":"id","type":"text"}]}"#;
    let purchase: schemas::Entity = serde_json::from_str(purchase).unwrap();
    define(&log, TENANT, &purchase).await;
    append(&log, TENANT, &events(0, 100)).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    assert!(running.handle.snapshot(TENANT, &purchase.entity, None).await.unwrap().is_none());
    assert!(!running.rows(TENANT).await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_on_the_log_adds_a_column_and_rows_without_a_definition_stop_only_their_view() {
    let (log, store, folder) = (log(1), store(), tempfile::tempdir().unwrap());
    append(&log, tenant(1), &events(0, 10)).await;
    define(&log, tenant(2), &orders()).await;
    append(&log, tenant(2), &events(0, 10)).await;
    define(&log, tenant(2), &entity(&format!(r#"{FIELDS},{{"name":"note","type":"text"}}"#))).await;
    let running = Running::start(&log, &store, folder.path(), Budget::default());
    running.caught_up(&log).await;
    let snapshot = running.handle.snapshot(tenant(2), &order_name(), None).await.unwrap().unwrap();
    assert_eq!(snapshot.schema.fields().last().unwrap().name(), "note");
    assert!(!rows(&snapshot, &[]).await.is_empty());
    assert!(running.handle.snapshot(tenant(1), &order_name(), None).await.unwrap().is_none());
    running.stop().await;
}
