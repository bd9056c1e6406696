//! One view: its fold, its table, its tail.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use schemas::{Topic, Version};

use projections::view::{GRACE, Place, View, ViewError};

use crate::faulty::{Fault, faulty_place};
use crate::support::*;

/// What happens to a view between events.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Go,
    Snapshot,
    Flush,
    Reopen,
}

type Change = (u8, i64, u64, Option<i64>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (0u8..12, 0i64..6, 0u64..500, proptest::option::weighted(0.8, 0i64..1000));
    proptest::collection::vec(change, 1..60).prop_map(|mut all| {
        // Records of one key and version that entered at one input are one record.
        all.sort();
        all.dedup_by_key(|(key, version, origin, _)| (*key, *version, *origin));
        all
    })
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step =
        prop_oneof![5 => Just(Step::Go), 2 => Just(Step::Snapshot), 2 => Just(Step::Flush), 1 => Just(Step::Reopen)];
    proptest::collection::vec((1usize..9, step), 1..12)
}

/// The rows that count, by a fold that anyone can check.
fn naive(changes: &[Change]) -> BTreeMap<String, i64> {
    let mut greatest: BTreeMap<u8, (i64, u64, Option<i64>)> = BTreeMap::new();
    for (key, version, origin, amount) in changes {
        let entry = greatest.entry(*key).or_insert((*version, *origin, *amount));
        if (*version, *origin) > (entry.0, entry.1) {
            *entry = (*version, *origin, *amount);
        }
    }
    greatest.into_iter().filter_map(|(key, (.., amount))| Some((format!("k{key}"), amount?))).collect()
}

fn arrive(changes: &[Change]) -> Vec<Event> {
    let event = |(at, (key, version, origin, amount)): (usize, &Change)| Event {
        key: format!("k{key}"),
        version: Version::Integer(*version),
        origin: *origin,
        input: 1000 + at as u64,
        amount: *amount,
    };
    changes.iter().enumerate().map(event).collect()
}

fn is_data(entry: &std::fs::DirEntry) -> bool {
    entry.path().extension().is_some_and(|e| e == "parquet")
}

async fn run(changes: &[Change], steps: &[(usize, Step)]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let log = log(1);
    let mut view = open(&place).await;
    let events = arrive(changes);
    let mut at = 0;
    for (len, step) in steps.iter().cycle() {
        if at == events.len() {
            break;
        }
        let end = (at + len).min(events.len());
        // What came before comes again, as after a crash: the marks know it.
        let repeated = at.saturating_sub(2);
        view.apply(view.position().offset, (end - repeated) as u32, &body(&events[repeated..end], None)).unwrap();
        at = end;
        match step {
            Step::Go => {}
            Step::Snapshot => {
                rows(&view.snapshot().unwrap(), &[]).await;
            }
            Step::Flush => {
                view.flush(log.clone()).await.unwrap();
            }
            Step::Reopen => {
                let before = (rows(&view.snapshot().unwrap(), &[]).await, view.position());
                view.flush(log.clone()).await.unwrap();
                view = open(&place).await;
                view.advance(before.1.offset);
                assert_eq!(rows(&view.snapshot().unwrap(), &[]).await, before.0);
            }
        }
    }
    let snapshot = view.snapshot().unwrap();
    assert_eq!(view.info().rows, rows(&snapshot, &[]).await.len());
    rows(&snapshot, &["_position"]).await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_order_repetition_and_splitting_of_events_with_flushes_between_gives_the_rows_of_a_naive_fold(
        (changes, shuffled) in changes().prop_flat_map(|c| (Just(c.clone()), Just(c).prop_shuffle())),
        again in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let expected = naive(&changes);
            let plain = run(&changes, &[(1000, Step::Go)]).await;
            let mut other = shuffled.clone();
            other.extend(again.iter().map(|index| *index.get(&shuffled)));
            let cut = run(&other, &steps).await;
            assert_eq!(plain, cut);
            let keys: Vec<_> = plain.keys().cloned().collect();
            assert_eq!(keys, expected.keys().cloned().collect::<Vec<_>>());
            for (key, amount) in expected {
                let text = format!("amount={}.{:04} ", amount / 10_000, amount % 10_000);
                assert!(plain[&key].contains(&text), "{} lacks {text}", plain[&key]);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_several_open_for_the_first_time_at_once_opens_for_each() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::local(folder.path()).unwrap();
        let opened = futures::future::join_all((0..8).map(|_| {
            let place = place.clone();
            tokio::spawn(async move { try_open(&place).await.map(|_| ()) })
        }));
        for outcome in opened.await {
            outcome.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_while_a_flush_writes_are_neither_lost_nor_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let log = log(1);
    // Readers of a snapshot rely on the grace.
    let view = View::open(&place, TENANT, orders(), start(), GRACE).await.map(Arc::new).unwrap();
    let mut input = 0;
    let mut batch = |round: i64| -> Vec<Event> {
        let event = |n: u64| event(&format!("k{}", (n * 7) % 1500), round, n, (!n.is_multiple_of(11)).then_some(round));
        let events = (input..input + 1000).map(event).collect();
        input += 1000;
        events
    };
    let mut flushes = tokio::task::JoinSet::new();
    for round in 0..40 {
        apply(&view, &batch(round));
        if round % 4 == 0 {
            let (view, log) = (view.clone(), log.clone());
            flushes.spawn(async move { view.flush(log).await.unwrap() });
            tokio::task::yield_now().await;
        }
        rows(&view.snapshot().unwrap(), &[]).await;
    }
    while flushes.join_next().await.is_some() {}
    let before = rows(&view.snapshot().unwrap(), &[]).await;
    assert_eq!(before.len(), view.info().rows);
    view.flush(log.clone()).await.unwrap();
    let after = view.snapshot().unwrap();
    assert!(after.tail.is_empty() && after.files.iter().all(|f| f.dead.is_empty()));
    assert_eq!(rows(&after, &[]).await, before);
    let opened = open(&place).await;
    assert_eq!(opened.position(), view.position());
    assert_eq!(rows(&opened.snapshot().unwrap(), &[]).await, before);
}

#[tokio::test]
async fn a_deleted_row_stays_deleted_when_an_older_one_comes_late_even_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = open(&place).await;
    apply(&view, &[event("a", 5, 0, 1), event("b", 1, 1, 1)]);
    view.flush(log(1)).await.unwrap();
    apply(&view, &[event("a", 7, 2, None)]);
    assert_eq!(view.snapshot().unwrap().files[0].dead.len(), 1);
    view.flush(log(1)).await.unwrap();
    let view = open(&place).await;
    let late = apply(&view, &[event("a", 6, 3, 2)]);
    assert_eq!((late.counts.late, late.counts.applied), (1, 0));
    assert_eq!(rows(&view.snapshot().unwrap(), &[]).await.into_keys().collect::<Vec<_>>(), ["b"]);
    apply(&view, &[event("a", 8, 4, 3)]);
    assert_eq!(view.info().rows, 2, "a newer one brings it back");
}

#[tokio::test]
async fn a_delete_without_a_version_takes_that_of_the_row_it_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let view = open(&Place::local(folder.path()).unwrap()).await;
    apply(&view, &[event("a", 5, 0, 1), Event { version: Version::None, ..event("a", 0, 1, None) }]);
    assert_eq!(view.info().rows, 0);
    apply(&view, &[event("a", 4, 2, 1)]);
    assert_eq!(view.info().rows, 0);
    apply(&view, &[event("a", 5, 3, 1)]);
    assert_eq!(view.info().rows, 1);
}

#[tokio::test]
async fn a_watch_counts_the_rows_of_its_run_that_are_superseded() {
    let folder = tempfile::tempdir().unwrap();
    let view = open(&Place::local(folder.path()).unwrap()).await;
    apply(&view, &[event("a", 5, 0, 1), event("b", 5, 1, 1)]);
    let (connection, stream, _) = view.counters().remove(0);
    let watch = view.watch(&connection, &stream, 2);
    // a: replaces an older run's row; then is replaced itself; b: comes late.
    apply(&view, &[event("a", 6, 2, 1), event("a", 7, 3, 1), event("b", 4, 4, 1), event("c", 1, 5, 1)]);
    assert_eq!(view.unwatch(watch), Some(2));
    assert_eq!(view.watched(watch), None);
}

#[tokio::test]
async fn a_field_that_is_added_becomes_a_column_and_older_rows_are_null_there() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = open(&place).await;
    apply(&view, &[event("a", 1, 0, 1), event("b", 1, 1, 1)]);
    view.flush(log(1)).await.unwrap();
    apply(&view, &[event("c", 1, 2, 1)]);
    let newer = entity(&format!(r#"{FIELDS},{{"name":"note","type":"text"}}"#));
    view.define(&newer).unwrap();
    let events = [event("d", 1, 3, 1), event("b", 2, 4, 1)];
    view.apply(view.position().offset, 2, &body(&events, Some("new"))).unwrap();
    let snapshot = view.snapshot().unwrap();
    assert!(snapshot.tail.iter().all(|part| part.batch.schema() == snapshot.schema));
    let before = rows(&snapshot, &[]).await;
    assert!(before["a"].ends_with("note= ") && before["c"].ends_with("note= ") && before["d"].ends_with("note=new "));
    view.flush(log(1)).await.unwrap();
    assert_eq!(rows(&view.snapshot().unwrap(), &[]).await, before);
    let reopened = View::open(&place, TENANT, newer, start(), std::time::Duration::ZERO).await.unwrap();
    assert_eq!(rows(&reopened.snapshot().unwrap(), &[]).await, before);
    let retyped = entity(r#"{"name":"id","type":"integer"}"#);
    assert!(matches!(reopened.define(&retyped), Err(ViewError::Definition { .. })));
}

#[tokio::test]
async fn a_commit_by_another_writer_is_noticed_and_stops_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let (view, other) = (open(&place).await, open(&place).await);
    apply(&view, &[event("a", 1, 0, 1)]);
    apply(&other, &[event("b", 1, 0, 1)]);
    other.flush(log(1)).await.unwrap();
    assert!(matches!(view.flush(log(1)).await, Err(ViewError::Conflict { .. })));
    assert!(matches!(view.snapshot(), Err(ViewError::Stopped(_))));
    assert_eq!(rows(&open(&place).await.snapshot().unwrap(), &[]).await.into_keys().collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn events_below_the_mark_are_skipped_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = open(&place).await;
    let events = [event("a", 1, 0, 1), event("b", 1, 1, 1)];
    apply(&view, &events);
    view.flush(log(1)).await.unwrap();
    let view = open(&place).await;
    assert_eq!(apply(&view, &events).counts.repeated, 2);
    assert!(view.load().dirty_since.is_none(), "nothing to flush");
    let applied = view.apply(0, 2, &body(&events, None)).unwrap();
    assert_eq!(applied.rows, 0, "events below the position are not even counted");
}

#[tokio::test]
async fn an_unexpected_epoch_and_a_value_of_the_wrong_type_stop_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = open(&place).await;
    apply(&view, &[event("a", 1, 0, 1)]);
    view.flush(log(1)).await.unwrap();
    let mut raised = start();
    raised.position.epoch = 2;
    let opened = View::open(&place, TENANT, orders(), raised, std::time::Duration::ZERO).await;
    assert!(matches!(opened, Err(ViewError::Epoch { topic: Topic::Events, expected: 1, found: 2 })));
    let retyped = entity(r#"{"name":"id","type":"text"},{"name":"open","type":"boolean"}"#);
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = View::open(&place, TENANT, retyped, start(), std::time::Duration::ZERO).await.unwrap();
    let wrong = view.apply(0, 1, &body(&[event("a", 1, 0, 1)], None));
    assert!(matches!(wrong, Err(ViewError::Value { .. })), "{wrong:?}");
    assert!(matches!(view.apply(1, 1, &body(&[event("a", 1, 1, 1)], None)), Err(ViewError::Stopped(_))));
}

#[tokio::test]
async fn small_files_are_merged_and_those_that_went_are_deleted_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = open(&place).await;
    for n in 0..20 {
        apply(&view, &[event(&format!("k{n}"), 1, n, 1)]);
        view.flush(log(1)).await.unwrap();
    }
    let snapshot = view.snapshot().unwrap();
    assert!(snapshot.files.len() <= 9, "{} files", snapshot.files.len());
    assert_eq!(rows(&snapshot, &[]).await.len(), 20);
    let orders = folder.path().join(TENANT.to_string()).join("orders");
    let on_disk = std::fs::read_dir(&orders).unwrap().filter(|e| is_data(e.as_ref().unwrap())).count();
    assert_eq!(on_disk, snapshot.files.len(), "the grace is zero here");
}

#[tokio::test]
async fn what_a_crash_left_of_files_and_commits_is_swept_and_commits_and_checkpoints_stay() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = open(&place).await;
    for n in 0..50 {
        apply(&view, &[event("a", n, n as u64, 1)]);
        view.flush(log(1)).await.unwrap();
    }
    let orders = folder.path().join(TENANT.to_string()).join("orders");
    let names = |folder: &std::path::Path| -> std::collections::BTreeSet<_> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let both = || (names(&orders), names(&orders.join("_delta_log")));
    let before = both();
    assert!(before.1.iter().any(|name| name.to_string_lossy().ends_with(".parquet")), "a checkpoint is there");
    std::fs::write(orders.join(".1-0.part"), "half a file").unwrap();
    std::fs::hard_link(orders.join("_delta_log/00000000000000000001.json"), orders.join("_delta_log/.1-1.part"))
        .unwrap();
    open(&place).await;
    assert_eq!(both(), before);
}

#[tokio::test]
async fn a_file_that_has_just_gone_stays_for_who_still_reads_it_however_long_ago_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let patient = async || Arc::new(View::open(&place, TENANT, orders(), start(), GRACE).await.unwrap());
    let view = patient().await;
    apply(&view, &[event("a", 1, 0, 1), event("b", 1, 1, 1), event("z", 1, 2, None)]);
    view.flush(log(1)).await.unwrap();
    let read = view.snapshot().unwrap();
    let tenant = folder.path().join(TENANT.to_string());
    let old = std::time::SystemTime::now() - GRACE * 2;
    for table in ["orders", "orders__deleted"] {
        std::fs::write(tenant.join(table).join("part-never-named.parquet"), "").unwrap();
        for file in std::fs::read_dir(tenant.join(table)).unwrap().map(Result::unwrap).filter(is_data) {
            std::fs::File::options().write(true).open(file.path()).unwrap().set_modified(old).unwrap();
        }
    }
    apply(&view, &[event("a", 2, 3, 2), event("b", 2, 4, None)]);
    view.flush(log(1)).await.unwrap();
    let count =
        |table: &str| std::fs::read_dir(tenant.join(table)).unwrap().filter(|e| is_data(e.as_ref().unwrap())).count();
    assert_eq!((count("orders"), count("orders__deleted")), (3, 3));
    patient().await;
    assert_eq!((count("orders"), count("orders__deleted")), (2, 2), "what no version named goes by its age");
    assert_eq!(rows(&read, &[]).await.len(), 2, "the query goes on");
    open(&place).await;
    assert_eq!(count("orders"), 1);
}

#[tokio::test]
async fn a_file_that_another_process_has_just_put_stays_however_far_this_clock_is_ahead_of_the_storages() {
    let folder = tempfile::tempdir().unwrap();
    let (place, fault) = faulty_place(folder.path());
    let patient = async || View::open(&place, TENANT, orders(), start(), GRACE).await.unwrap();
    drop(patient().await);
    let table = folder.path().join(TENANT.to_string()).join("orders");
    let put = table.join("part-not-named-yet.parquet");
    std::fs::write(&put, "").unwrap();
    fault.send_replace(Fault::Late);
    patient().await;
    assert!(put.exists());
    let old = std::time::SystemTime::now() - GRACE * 2;
    std::fs::File::options().write(true).open(&put).unwrap().set_modified(old).unwrap();
    patient().await;
    assert!(!put.exists());
    let left = std::fs::read_dir(&table).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["_delta_log"], "nothing stays of asking what time it is");
}

#[tokio::test]
async fn a_tail_whose_rows_are_replaced_over_and_over_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let view = open(&Place::local(folder.path()).unwrap()).await;
    for round in 0..30u64 {
        let events: Vec<_> =
            (0..4000).map(|n| event(&format!("k{}", n % 100), 1, round * 4000 + n, n as i64)).collect();
        apply(&view, &events);
    }
    assert!(view.tail_rows() < 20_000, "{} rows of 100 keys", view.tail_rows());
    assert_eq!(rows(&view.snapshot().unwrap(), &[]).await.len(), 100);
}

#[tokio::test]
async fn a_view_finds_its_marks_when_the_commit_that_named_them_was_cleaned_away() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = open(&place).await;
    // The checkpoint comes with version 49.
    for n in 0..49 {
        let amount = (n != 7).then_some(1);
        apply(&view, &[event(&format!("k{n}"), 1, n, amount)]);
        view.flush(log(1)).await.unwrap();
    }
    let commits = folder.path().join(TENANT.to_string()).join("orders/_delta_log");
    for commit in std::fs::read_dir(commits).unwrap() {
        let path = commit.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let opened = open(&place).await;
    assert_eq!(opened.position(), view.position());
    assert_eq!(apply(&opened, &[event("k48", 2, 48, 1)]).counts.repeated, 1, "the mark is there");
    assert_eq!(apply(&opened, &[event("k7", 0, 49, 1)]).counts.late, 1, "the deleted keys are there");
}
