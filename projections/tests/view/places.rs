//! What views promise wherever they lie: each of these runs in a folder, in a store of objects in memory, and on a server
//! of S3.

use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use projections::view::{Access, Budget, Place, ViewError};
use projections::{QueryEngine, QueryError, QueryLimits, ViewSnapshot};
use tempfile::TempDir;

use crate::projector::{Running, events, store};
use crate::support::*;

/// A place that nobody else has.
pub struct Ground {
    pub place: Place,
    _folder: Option<TempDir>,
}

fn in_folder() -> Ground {
    let folder = tempfile::tempdir().unwrap();
    Ground { place: Place::local(folder.path()).unwrap(), _folder: Some(folder) }
}

fn in_memory() -> Ground {
    let url = url::Url::parse("s3://lake/some/views").unwrap();
    Ground { place: Place::remote(Arc::new(InMemory::new()), url), _folder: None }
}

#[cfg(feature = "s3")]
fn on_s3() -> Option<Ground> {
    Some(Ground { place: crate::s3proxy::S3Proxy::shared()?.place(), _folder: None })
}

/// Runs tests in every kind of place.
macro_rules! everywhere {
    ($($name:ident),* $(,)?) => {
        mod folder {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::in_folder()).await;
            })*
        }
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::in_memory()).await;
            })*
        }
        #[cfg(feature = "s3")]
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(ground) = super::on_s3() {
                    super::$name(ground).await;
                }
            })*
        }
    };
}

everywhere!(
    a_place_that_makes_objects_once_passes,
    a_view_that_is_opened_again_has_the_same_rows,
    of_two_writers_one_loses_and_reads_the_table_again,
    a_projector_that_is_killed_goes_on_where_its_tables_are,
    a_file_that_is_gone_is_told_and_a_rebuild_cures_it,
    a_file_that_is_cut_short_is_told_and_a_rebuild_cures_it,
    who_reads_longer_than_files_stay_is_told_and_has_a_fresh_snapshot,
    a_follower_has_the_rows_of_the_log_and_takes_over_what_is_committed,
    a_follower_goes_on_with_a_table_that_was_made_again,
);

async fn a_place_that_makes_objects_once_passes(ground: Ground) {
    ground.place.check(Access::Read).await.unwrap();
    ground.place.check(Access::Write).await.unwrap();
}

async fn a_view_that_is_opened_again_has_the_same_rows(ground: Ground) {
    let view = open(&ground.place).await;
    for part in 0..5 {
        apply(&view, &events(part * 300, part * 300 + 300));
        view.flush(log(1)).await.unwrap().unwrap();
    }
    apply(&view, &[event("gone", 9, 2000, 1), event("gone", 9, 2001, None)]);
    view.flush(log(1)).await.unwrap().unwrap();
    let (before, position) = (rows(&view.snapshot().unwrap(), &[]).await, view.position());
    let again = open(&ground.place).await;
    assert_eq!((rows(&again.snapshot().unwrap(), &[]).await, again.position()), (before, position));
    let late = apply(&again, &[event("gone", 8, 2002, 7)]);
    assert_eq!((late.counts.applied, late.counts.late), (0, 1), "the delete holds");
}

async fn of_two_writers_one_loses_and_reads_the_table_again(ground: Ground) {
    let (view, other) = (open(&ground.place).await, open(&ground.place).await);
    apply(&view, &[event("a", 1, 0, 1)]);
    apply(&other, &[event("b", 1, 0, 1)]);
    other.flush(log(1)).await.unwrap();
    assert!(matches!(view.flush(log(1)).await, Err(ViewError::Conflict { .. })));
    let view = open(&ground.place).await;
    assert_eq!(rows(&view.snapshot().unwrap(), &[]).await.into_keys().collect::<Vec<_>>(), ["b"]);
    apply(&view, &[event("a", 1, 1, 1)]);
    view.flush(log(1)).await.unwrap().unwrap();
}

/// Not on S3Proxy, which does not promise it.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_commits_at_once_one_is_made() {
    for ground in [in_folder(), in_memory()] {
        for round in 0..10 {
            let mut flushes = Vec::new();
            for writer in 0..6 {
                let view = open(&ground.place).await;
                apply(&view, &[event(&format!("{round}-{writer}"), 1, round, 1)]);
                flushes.push(async move { view.flush(log(1)).await });
            }
            let outcomes = futures::future::join_all(flushes).await;
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
            for outcome in &outcomes {
                assert!(matches!(outcome, Ok(Some(_)) | Err(ViewError::Conflict { .. })), "{outcome:?}");
            }
            let view = open(&ground.place).await;
            assert_eq!(rows(&view.snapshot().unwrap(), &[]).await.len() as u64, round + 1);
        }
    }
}

async fn a_projector_that_is_killed_goes_on_where_its_tables_are(ground: Ground) {
    let (log, store) = (log(1), store());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start_at(&log, &store, ground.place.clone(), Budget::default());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    append(&log, TENANT, &events(1000, 1500)).await;
    running.caught_up(&log).await;
    let before = running.rows(TENANT).await;
    running.kill().await;
    let running = Running::start_at(&log, &store, ground.place.clone(), Budget::default());
    running.caught_up(&log).await;
    assert_eq!(running.rows(TENANT).await, before);
    running.stop().await;
}

/// A view in files, and one of them.
async fn filed(ground: &Ground) -> (Running, Path) {
    let (log, store) = (log(1), store());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let running = Running::start_at(&log, &store, ground.place.clone(), Budget::default());
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    let path = snapshot(&running).await.files[0].path.clone();
    (running, path)
}

async fn snapshot(running: &Running) -> Arc<ViewSnapshot> {
    running.handle.snapshot(TENANT, &order_name(), None).await.unwrap().unwrap()
}

/// Asks for something that only reading the files tells.
async fn ask(snapshot: Arc<ViewSnapshot>) -> Result<usize, QueryError> {
    let engine = QueryEngine::new(QueryLimits::default()).unwrap();
    let result = engine.query(TENANT, vec![snapshot], "select amount from orders where amount > 0.01").await?;
    let batches: Vec<_> = result.batches.try_collect().await?;
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

async fn a_file_that_is_gone_is_told_and_a_rebuild_cures_it(ground: Ground) {
    let (running, path) = filed(&ground).await;
    let before = running.rows(TENANT).await;
    ground.place.store().delete(&path).await.unwrap();
    assert_eq!(ask(snapshot(&running).await).await, Err(QueryError::Expired));
    let told = running.handle.snapshot(TENANT, &order_name(), None).await;
    assert!(matches!(told, Err(ViewError::FileGone { .. })), "{told:?}");
    cured_by_a_rebuild(running, before).await;
}

async fn a_file_that_is_cut_short_is_told_and_a_rebuild_cures_it(ground: Ground) {
    let (running, path) = filed(&ground).await;
    let before = running.rows(TENANT).await;
    let whole = ground.place.store().get(&path).await.unwrap().bytes().await.unwrap();
    let half = whole.slice(..whole.len() / 2);
    ground.place.store().put(&path, half.into()).await.unwrap();
    assert_eq!(ask(snapshot(&running).await).await, Err(QueryError::Expired));
    let told = running.handle.snapshot(TENANT, &order_name(), None).await;
    assert!(matches!(told, Err(ViewError::FileCut { .. })), "{told:?}");
    cured_by_a_rebuild(running, before).await;
}

async fn cured_by_a_rebuild(running: Running, before: std::collections::BTreeMap<String, String>) {
    running.handle.rebuild(TENANT, &order_name()).await.unwrap().unwrap();
    assert_eq!(running.rows(TENANT).await, before);
    assert!(ask(snapshot(&running).await).await.unwrap() > 0);
    running.stop().await;
}

async fn who_reads_longer_than_files_stay_is_told_and_has_a_fresh_snapshot(ground: Ground) {
    let (log, store) = (log(1), store());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 1000)).await;
    let no_grace = Budget { grace: std::time::Duration::ZERO, ..Budget::default() };
    let running = Running::start_at(&log, &store, ground.place.clone(), no_grace);
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    let old = snapshot(&running).await;
    append(&log, TENANT, &events(1000, 1700)).await;
    running.caught_up(&log).await;
    running.handle.flush_all().await.unwrap();
    assert_eq!(ask(old).await, Err(QueryError::Expired));
    assert!(ask(snapshot(&running).await).await.unwrap() > 0, "nothing is wrong with the table");
    running.stop().await;
}

/// A follower looks at every turn.
pub fn watchful() -> Budget {
    Budget { grace: std::time::Duration::ZERO, ..Budget::default() }
}

/// Returns once a follower reads the files that the writer does.
pub async fn level(reader: &Running, writer: &Running) {
    in_time(async {
        while paths(reader).await != paths(writer).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn paths(running: &Running) -> std::collections::BTreeSet<Path> {
    snapshot(running).await.files.iter().map(|file| file.path.clone()).collect()
}

async fn a_follower_has_the_rows_of_the_log_and_takes_over_what_is_committed(ground: Ground) {
    let (log, store) = (log(1), store());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 500)).await;
    let writer = Running::start_at(&log, &store, ground.place.clone(), Budget::default());
    writer.caught_up(&log).await;
    let reader = Running::follow(&log, &store, ground.place.clone(), watchful());
    assert_eq!(reader.rows(TENANT).await, writer.rows(TENANT).await, "before anything is committed");
    for (from, to) in [(500, 900), (900, 1800), (1800, 1810)] {
        append(&log, TENANT, &events(from, to)).await;
        writer.caught_up(&log).await;
        reader.caught_up(&log).await;
        assert_eq!(reader.rows(TENANT).await, writer.rows(TENANT).await, "both fold the log");
        writer.handle.flush_all().await.unwrap();
        level(&reader, &writer).await;
        assert_eq!(reader.rows(TENANT).await, writer.rows(TENANT).await);
        let info = reader.handle.tables(TENANT).await.unwrap().remove(0);
        assert_eq!(info.tail_rows, 0, "what is committed is held no longer");
    }
    writer.handle.rebuild(TENANT, &order_name()).await.unwrap().unwrap();
    level(&reader, &writer).await;
    assert_eq!(reader.rows(TENANT).await, writer.rows(TENANT).await);
    assert!(matches!(reader.handle.flush_all().await, Err(ViewError::Followed)));
    assert!(matches!(reader.handle.rebuild(TENANT, &order_name()).await, Err(ViewError::Followed)));
    reader.stop().await;
    writer.stop().await;
}

async fn a_follower_goes_on_with_a_table_that_was_made_again(ground: Ground) {
    let (log, store) = (log(1), store());
    define(&log, TENANT, &orders()).await;
    append(&log, TENANT, &events(0, 500)).await;
    let writer = Running::start_at(&log, &store, ground.place.clone(), Budget::default());
    writer.caught_up(&log).await;
    writer.handle.flush_all().await.unwrap();
    let reader = Running::follow(&log, &store, ground.place.clone(), watchful());
    let before = reader.rows(TENANT).await;
    writer.stop().await;
    let views = ground.place.store();
    let all: Vec<_> = views.list(None).try_collect().await.unwrap();
    for object in all {
        views.delete(&object.location).await.unwrap();
    }
    let writer = Running::start_at(&log, &store, ground.place.clone(), Budget::default());
    writer.caught_up(&log).await;
    assert_eq!(writer.rows(TENANT).await, before, "from the log");
    append(&log, TENANT, &events(500, 600)).await;
    writer.caught_up(&log).await;
    reader.caught_up(&log).await;
    writer.handle.flush_all().await.unwrap();
    level(&reader, &writer).await;
    assert_eq!(reader.rows(TENANT).await, writer.rows(TENANT).await);
    reader.stop().await;
    writer.stop().await;
}
