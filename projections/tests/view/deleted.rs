//! The companion table of deleted keys: it always goes with the version of the view's table that names it.

use std::sync::Arc;

use projections::view::{GRACE, Place, View, ViewError};

use crate::faulty::{Fault, faulty_place};
use crate::support::*;

async fn keys(view: &View) -> Vec<String> {
    rows(&view.snapshot().unwrap(), &[]).await.into_keys().collect()
}

#[tokio::test]
async fn a_crash_between_the_two_commits_leaves_no_delete_that_has_not_happened_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (place, fault) = faulty_place(folder.path());
    let view = open(&place).await;
    apply(&view, &[event("a", 1, 0, 1), event("z", 1, 1, 1), event("z", 2, 2, None)]);
    view.flush(log(1)).await.unwrap();
    apply(&view, &[event("b", 1, 3, 1), event("a", 5, 4, None)]);
    fault.send_replace(Fault::Put("/orders/_delta_log/"));
    view.flush(log(1)).await.unwrap_err();
    fault.send_replace(Fault::None);

    let view = open(&place).await;
    assert_eq!(keys(&view).await, ["a"], "as the last commit left it");
    apply(&view, &[event("b", 1, 3, 1), event("y", 1, 3, None)]);
    view.flush(log(1)).await.unwrap();
    let view = open(&place).await;
    assert_eq!(keys(&view).await, ["a", "b"]);
    apply(&view, &[event("a", 5, 4, None)]);
    assert_eq!(keys(&view).await, ["b"]);
    view.flush(log(1)).await.unwrap();
    let view = open(&place).await;
    apply(&view, &[event("a", 4, 5, 1), event("z", 1, 6, 1)]);
    assert_eq!(keys(&view).await, ["b"], "deletes that have happened are all there");
}

#[tokio::test]
async fn a_second_writer_that_commits_deletes_and_then_fails_takes_none_away() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    // Files that have gone stay for who still reads them.
    let open = async || Arc::new(View::open(&place, TENANT, orders(), start(), GRACE).await.unwrap());
    let view = open().await;
    apply(&view, &[event("a", 1, 0, 1), event("b", 1, 1, 1), event("c", 1, 2, 1), event("c", 3, 3, None)]);
    view.flush(log(1)).await.unwrap();
    let (view, other) = (open().await, open().await);
    apply(&view, &[event("a", 5, 4, None)]);
    view.flush(log(1)).await.unwrap();
    apply(&other, &[event("b", 5, 4, None)]);
    assert!(matches!(other.flush(log(1)).await, Err(ViewError::Conflict { .. })));
    apply(&view, &[event("d", 5, 5, 1), event("e", 5, 6, None)]);
    assert!(matches!(view.flush(log(1)).await, Err(ViewError::Conflict { .. })), "the companion has moved");
    let view = open().await;
    apply(&view, &[event("d", 5, 5, 1), event("e", 5, 6, None)]);
    view.flush(log(1)).await.unwrap();
    let view = open().await;
    assert_eq!(keys(&view).await, ["b", "d"]);
    apply(&view, &[event("a", 4, 7, 1), event("c", 2, 8, 1), event("e", 4, 9, 1), event("b", 2, 10, 1)]);
    assert_eq!(keys(&view).await, ["b", "d"]);
    assert_eq!(view.counters()[0].2.applied, 1, "only b came anew");
}

#[tokio::test]
async fn small_files_of_deleted_keys_are_merged_and_those_that_went_are_deleted_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::local(folder.path()).unwrap();
    let view = open(&place).await;
    for n in 0..40 {
        apply(&view, &[event(&format!("k{n}"), 5, n, None)]);
        view.flush(log(1)).await.unwrap();
    }
    let files = std::fs::read_dir(folder.path().join(TENANT.to_string()).join("orders__deleted")).unwrap();
    let files = files.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "parquet")).count();
    assert!(files <= 17, "{files} files");
    let view = open(&place).await;
    let late: Vec<_> = (0..40).map(|n| event(&format!("k{n}"), 4, 100 + n, 1)).collect();
    assert_eq!(apply(&view, &late).counts.late, 40);
}

#[tokio::test]
async fn a_flush_that_fails_before_it_commits_leaves_no_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (place, fault) = faulty_place(folder.path());
    let view = open(&place).await;
    apply(&view, &[event("a", 1, 0, 1), event("b", 1, 1, 1), event("b", 2, 2, None)]);
    view.flush(log(1)).await.unwrap();
    let view = open(&place).await;
    apply(&view, &[event("c", 1, 3, 1), event("a", 2, 4, None)]);
    let files = || {
        let tables = ["orders", "orders__deleted"].map(|table| folder.path().join(TENANT.to_string()).join(table));
        tables.map(|table| std::fs::read_dir(table).unwrap().count())
    };
    let before = files();
    fault.send_replace(Fault::Full("orders__deleted/_delta_log"));
    let error = view.flush(log(1)).await.unwrap_err();
    assert!(view.stopped().is_none(), "nothing can have been committed: {error}");
    assert_eq!(files(), before);
    fault.send_replace(Fault::None);
    view.flush(log(1)).await.unwrap();
    let view = open(&place).await;
    assert_eq!(keys(&view).await, ["c"]);
}
