//! The suite that every store passes: each function is one behaviour and takes an empty store.
//!
//! A backend runs all of it with one line, `store_suite!(name, fixture)`; one that outlives its process also with
//! `store_reopening_suite!`.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use schemas::TenantId;

use super::{Expect, Row, Store, StoreError, Table};

/// Makes one test of each behaviour of the suite. `fixture` is a future that gives a new, empty store and whatever must be
/// kept for as long as it is used.
#[macro_export]
macro_rules! store_suite {
    ($backend:ident, $fixture:expr) => {
        $crate::conformance_tests!(
            $backend,
            store,
            $fixture,
            [
                a_row_that_is_not_there_is_none,
                a_row_is_read_as_it_was_written,
                versions_count_from_one,
                a_write_is_taken_only_when_the_row_is_as_expected,
                a_removal_is_taken_only_when_the_row_is_as_expected,
                a_refused_write_changes_nothing,
                a_removed_row_is_made_anew,
                a_row_that_moves_here_keeps_its_version,
                of_writers_that_expect_the_same_version_one_wins,
                of_writers_that_expect_no_row_one_wins,
                concurrent_writers_that_expect_anything_all_count,
                a_scan_is_in_key_order,
                a_scan_gives_the_prefix_and_nothing_else,
                a_scan_in_pages_gives_every_row_once,
                a_scan_sees_what_was_written_and_removed,
                tenants_next_to_each_other_never_see_each_other,
                tables_with_the_same_keys_are_apart,
                keys_of_any_text_are_told_apart,
                keys_and_values_up_to_their_limits_are_taken,
                a_key_or_value_over_its_limit_is_refused,
            ]
        );
    };
}

/// Makes one test of each behaviour of a store that outlives its process. `place` gives an async function that opens the
/// same store at each call, and whatever must be kept; the store before is dropped by then.
#[macro_export]
macro_rules! store_reopening_suite {
    ($backend:ident, $place:expr) => {
        $crate::conformance_tests!($backend, store, $place, [rows_and_versions_are_there_after_opening_again]);
    };
}

const TENANT: TenantId = TenantId::from_bytes([7; 16]);
const TABLE: Table = Table::Streams;
const ALL: usize = usize::MAX;

async fn put(store: &dyn Store, key: &str, value: &str) -> u64 {
    let value = Bytes::copy_from_slice(value.as_bytes());
    store.put(TENANT, TABLE, key, value, Expect::Any).await.expect("the write is taken")
}

async fn put_if(store: &dyn Store, key: &str, value: &str, expect: Expect) -> Result<u64, StoreError> {
    store.put(TENANT, TABLE, key, Bytes::copy_from_slice(value.as_bytes()), expect).await
}

async fn get(store: &dyn Store, key: &str) -> Option<Row> {
    store.get(TENANT, TABLE, key).await.expect("the row is readable")
}

async fn scan(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let rows = store.scan(TENANT, TABLE, prefix, after, limit).await.expect("the rows are readable");
    rows.into_iter().map(|(key, _)| key).collect()
}

fn row(value: &str, version: u64) -> Option<Row> {
    Some(Row { value: Bytes::copy_from_slice(value.as_bytes()), version })
}

fn assert_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>, expect: Expect, there: Option<u64>) {
    let Err(StoreError::Conflict { expected, found }) = result else {
        panic!("expected a conflict, found {result:?}");
    };
    assert_eq!((expected, found), (expect, there));
}

/// No row is no error.
pub async fn a_row_that_is_not_there_is_none(store: Arc<dyn Store>) {
    assert_eq!(get(&*store, "a").await, None);
    assert!(scan(&*store, "", None, ALL).await.is_empty());
}

/// Empty and binary values too.
pub async fn a_row_is_read_as_it_was_written(store: Arc<dyn Store>) {
    for value in [&b""[..], b"value", &[0, 255, 0, 1], &[b'x'; 100_000]] {
        let value = Bytes::copy_from_slice(value);
        store.put(TENANT, TABLE, "a", value.clone(), Expect::Any).await.expect("the write is taken");
        assert_eq!(get(&*store, "a").await.map(|row| row.value), Some(value));
    }
}

/// Each change is one more, the same value included.
pub async fn versions_count_from_one(store: Arc<dyn Store>) {
    for version in 1..=3 {
        assert_eq!(put(&*store, "a", "same").await, version);
        assert_eq!(get(&*store, "a").await, row("same", version));
    }
    assert_eq!(put(&*store, "b", "other").await, 1);
}

/// The table of expectations, for `put`.
pub async fn a_write_is_taken_only_when_the_row_is_as_expected(store: Arc<dyn Store>) {
    let (any, absent) = (Expect::Any, Expect::Absent);
    for version in [0, 1, u64::MAX] {
        assert_conflict(put_if(&*store, "a", "1", Expect::Version(version)).await, Expect::Version(version), None);
    }
    assert!(matches!(put_if(&*store, "a", "1", absent).await, Ok(1)));
    assert_conflict(put_if(&*store, "a", "2", absent).await, absent, Some(1));
    assert_conflict(put_if(&*store, "a", "2", Expect::Version(2)).await, Expect::Version(2), Some(1));
    assert!(matches!(put_if(&*store, "a", "2", Expect::Version(1)).await, Ok(2)));
    assert_conflict(put_if(&*store, "a", "3", Expect::Version(1)).await, Expect::Version(1), Some(2));
    assert!(matches!(put_if(&*store, "a", "3", any).await, Ok(3)));
    assert!(matches!(put_if(&*store, "b", "1", any).await, Ok(1)));
    assert_conflict(put_if(&*store, "c", "1", Expect::Ordered(1)).await, Expect::Ordered(1), None);
    assert!(matches!(put_if(&*store, "c", "1", Expect::Ordered(0)).await, Ok(1)));
    assert_conflict(put_if(&*store, "c", "2", Expect::Ordered(0)).await, Expect::Ordered(0), Some(1));
    assert!(matches!(put_if(&*store, "c", "2", Expect::Ordered(1)).await, Ok(2)));
}

/// The table of expectations, for `delete`.
pub async fn a_removal_is_taken_only_when_the_row_is_as_expected(store: Arc<dyn Store>) {
    let delete = async |expect| store.delete(TENANT, TABLE, "a", expect).await;
    for nothing_to_do in [Expect::Any, Expect::Absent] {
        delete(nothing_to_do).await.expect("there is nothing to remove");
    }
    assert_conflict(delete(Expect::Version(1)).await, Expect::Version(1), None);
    put(&*store, "a", "1").await;
    assert_conflict(delete(Expect::Absent).await, Expect::Absent, Some(1));
    assert_conflict(delete(Expect::Version(2)).await, Expect::Version(2), Some(1));
    delete(Expect::Version(1)).await.expect("the removal is taken");
    assert_eq!(get(&*store, "a").await, None);
    put(&*store, "a", "1").await;
    delete(Expect::Any).await.expect("the removal is taken");
    assert_eq!(get(&*store, "a").await, None);
}

/// A conflict leaves value and version.
pub async fn a_refused_write_changes_nothing(store: Arc<dyn Store>) {
    put(&*store, "a", "1").await;
    for expect in [Expect::Absent, Expect::Version(0), Expect::Version(2)] {
        assert_conflict(put_if(&*store, "a", "2", expect).await, expect, Some(1));
        assert_conflict(store.delete(TENANT, TABLE, "a", expect).await, expect, Some(1));
    }
    assert_eq!(get(&*store, "a").await, row("1", 1));
}

/// After a removal the row is absent, and its versions begin again.
pub async fn a_removed_row_is_made_anew(store: Arc<dyn Store>) {
    put(&*store, "a", "1").await;
    put(&*store, "a", "2").await;
    store.delete(TENANT, TABLE, "a", Expect::Version(2)).await.expect("the removal is taken");
    assert!(matches!(put_if(&*store, "a", "3", Expect::Absent).await, Ok(1)));
    assert_eq!(get(&*store, "a").await, row("3", 1));
}

/// A row that moves here keeps its version, which counts on from there, and takes the place of no other.
pub async fn a_row_that_moves_here_keeps_its_version(store: Arc<dyn Store>) {
    assert!(matches!(put_if(&*store, "a", "1", Expect::Moved(70)).await, Ok(70)));
    assert_conflict(put_if(&*store, "a", "2", Expect::Moved(70)).await, Expect::Moved(70), Some(70));
    assert_eq!(get(&*store, "a").await, row("1", 70));
    assert_eq!(put(&*store, "a", "2").await, 71);
    assert!(matches!(put_if(&*store, "a", "3", Expect::Version(71)).await, Ok(72)));
    assert_eq!(get(&*store, "a").await, row("3", 72));
    assert!(matches!(put_if(&*store, "b", "1", Expect::Moved(0)).await, Ok(1)), "none has version 0");
}

/// 16 writers, 25 rounds: each round has one winner, and the others are told the winner's version.
pub async fn of_writers_that_expect_the_same_version_one_wins(store: Arc<dyn Store>) {
    put(&*store, "a", "start").await;
    for version in 1..=25 {
        let writers = (0..16).map(|writer| {
            let store = store.clone();
            let write = async move { put_if(&*store, "a", &writer.to_string(), Expect::Version(version)).await };
            tokio::spawn(write)
        });
        let outcomes = join_all(writers).await.into_iter().map(|joined| joined.expect("the writer ends"));
        let outcomes: Vec<_> = outcomes.enumerate().collect();
        let winners: Vec<usize> = outcomes.iter().filter(|(_, o)| o.is_ok()).map(|(writer, _)| *writer).collect();
        assert_eq!(winners.len(), 1, "at version {version}");
        assert_eq!(get(&*store, "a").await, row(&winners[0].to_string(), version + 1));
        for (_, lost) in outcomes.into_iter().filter(|(_, o)| o.is_err()) {
            assert_conflict(lost, Expect::Version(version), Some(version + 1));
        }
    }
}

/// 16 makers of one row: one makes it.
pub async fn of_writers_that_expect_no_row_one_wins(store: Arc<dyn Store>) {
    for key in ["a", "b", "c"] {
        let writers = (0..16).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move { put_if(&*store, key, &writer.to_string(), Expect::Absent).await })
        });
        let outcomes = join_all(writers).await.into_iter().map(|joined| joined.expect("the writer ends"));
        assert_eq!(outcomes.filter(Result::is_ok).count(), 1);
        assert_eq!(get(&*store, key).await.map(|row| row.version), Some(1));
    }
}

/// Writes that expect anything are one after the other: no version is given twice.
pub async fn concurrent_writers_that_expect_anything_all_count(store: Arc<dyn Store>) {
    let writers = (0..16).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move { put(&*store, "a", &writer.to_string()).await })
    });
    let mut versions: Vec<u64> =
        join_all(writers).await.into_iter().map(|joined| joined.expect("the writer ends")).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=16).collect::<Vec<_>>());
    assert_eq!(get(&*store, "a").await.map(|row| row.version), Some(16));
}

/// By bytes, whatever the order of writing.
pub async fn a_scan_is_in_key_order(store: Arc<dyn Store>) {
    for key in ["b", "a/10", "é", "a/2", "a", "Z", "", "a/", "aa", "日"] {
        put(&*store, key, key).await;
    }
    assert_eq!(scan(&*store, "", None, ALL).await, ["", "Z", "a", "a/", "a/10", "a/2", "aa", "b", "é", "日"]);
}

/// Keys that share a beginning are told apart by it, the last possible one included.
pub async fn a_scan_gives_the_prefix_and_nothing_else(store: Arc<dyn Store>) {
    for key in ["crm", "crm/", "crm/a", "crm/b", "crm0", "crm.x/a", "cr", "d", "\u{10ffff}", "\u{10ffff}a"] {
        put(&*store, key, key).await;
    }
    assert_eq!(scan(&*store, "crm/", None, ALL).await, ["crm/", "crm/a", "crm/b"]);
    assert_eq!(scan(&*store, "crm", None, ALL).await, ["crm", "crm.x/a", "crm/", "crm/a", "crm/b", "crm0"]);
    assert_eq!(scan(&*store, "\u{10ffff}", None, ALL).await, ["\u{10ffff}", "\u{10ffff}a"]);
    assert!(scan(&*store, "x", None, ALL).await.is_empty());
    assert_eq!(scan(&*store, "crm/", Some("crm/a"), ALL).await, ["crm/b"]);
    assert_eq!(scan(&*store, "crm/", Some("a"), ALL).await, ["crm/", "crm/a", "crm/b"], "a start before the prefix");
    assert!(scan(&*store, "crm/", Some("crm0"), ALL).await.is_empty(), "a start behind the prefix");
    assert_eq!(scan(&*store, "crm/", Some("crm/a\0"), ALL).await, ["crm/b"], "a start that is no key");
}

/// Going on after the last key leaves nothing out and repeats nothing, at any page size.
pub async fn a_scan_in_pages_gives_every_row_once(store: Arc<dyn Store>) {
    let keys: Vec<String> = (0..100).map(|n| format!("p/{n:03}")).collect();
    for key in keys.iter().rev() {
        put(&*store, key, key).await;
    }
    put(&*store, "q", "behind").await;
    for limit in [1, 7, 100, 101] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = scan(&*store, "p/", found.last().map(String::as_str), limit).await;
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, keys);
    }
    assert!(scan(&*store, "p/", None, 0).await.is_empty());
}

/// A scan answers values and versions as they are now.
pub async fn a_scan_sees_what_was_written_and_removed(store: Arc<dyn Store>) {
    for key in ["a", "b", "c"] {
        put(&*store, key, "1").await;
    }
    put(&*store, "b", "2").await;
    store.delete(TENANT, TABLE, "c", Expect::Any).await.expect("the removal is taken");
    let rows = store.scan(TENANT, TABLE, "", None, ALL).await.expect("the rows are readable");
    let expected = [("a", "1", 1), ("b", "2", 2)];
    let expected = expected.map(|(key, value, version)| (key.to_owned(), Row { value: value.into(), version }));
    assert_eq!(rows, expected);
}

/// Ids that differ in the last bit, and keys that look like the end of another's id: nothing crosses.
pub async fn tenants_next_to_each_other_never_see_each_other(store: Arc<dyn Store>) {
    let mut next = [7; 16];
    next[15] = 8;
    let tenants = [TENANT, TenantId::from_bytes(next), TenantId::SYSTEM, TenantId::from_bytes([255; 16])];
    let keys = ["", "a", "\u{7}", "\u{7}\u{7}\u{3}a", "\u{10ffff}"];
    for (tenant, mark) in tenants.iter().zip(["0", "1", "2", "3"]) {
        for key in keys {
            let value = Bytes::copy_from_slice(mark.as_bytes());
            let version = store.put(*tenant, TABLE, key, value, Expect::Absent).await;
            assert!(matches!(version, Ok(1)));
        }
    }
    store.delete(tenants[1], TABLE, "a", Expect::Any).await.expect("the removal is taken");
    for (n, tenant) in tenants.iter().enumerate() {
        let rows = store.scan(*tenant, TABLE, "", None, ALL).await.expect("the rows are readable");
        assert_eq!(rows.len(), if n == 1 { 4 } else { 5 });
        assert!(rows.iter().all(|(_, row)| row.value == n.to_string()));
        let found = store.get(*tenant, TABLE, "a").await.expect("the row is readable");
        assert_eq!(found.is_some(), n != 1);
    }
}

/// One key in every table is as many rows.
pub async fn tables_with_the_same_keys_are_apart(store: Arc<dyn Store>) {
    let tables = [Table::Tenants, Table::Streams, Table::StreamStates, Table::Entities, Table::Views];
    for table in tables {
        let value = format!("{table:?}");
        store.put(TENANT, table, "a", value.into(), Expect::Absent).await.expect("the write is taken");
    }
    store.delete(TENANT, Table::Streams, "a", Expect::Any).await.expect("the removal is taken");
    for table in tables {
        let rows = store.scan(TENANT, table, "", None, ALL).await.expect("the rows are readable");
        let values: Vec<Bytes> = rows.into_iter().map(|(_, row)| row.value).collect();
        let expected = if table == Table::Streams { Vec::new() } else { vec![Bytes::from(format!("{table:?}"))] };
        assert_eq!(values, expected);
    }
}

/// NUL, slashes, quotes, wildcards, the empty key: a key is only a key.
pub async fn keys_of_any_text_are_told_apart(store: Arc<dyn Store>) {
    let keys = ["", "\0", "a", "a\0", "a\0\0", "a/", "a/../b", "b", "%", "'; --", "a%", "é", "e\u{301}", "A"];
    for key in keys {
        assert_eq!(put(&*store, key, key).await, 1, "{key:?}");
    }
    for key in keys {
        assert_eq!(get(&*store, key).await, row(key, 1));
    }
    assert_eq!(scan(&*store, "", None, ALL).await.len(), keys.len());
}

/// 1,024 bytes of key, 16 MiB of value.
pub async fn keys_and_values_up_to_their_limits_are_taken(store: Arc<dyn Store>) {
    let key = "k".repeat(1024);
    let value = Bytes::from(vec![42; 16 << 20]);
    store.put(TENANT, TABLE, &key, value.clone(), Expect::Absent).await.expect("the write is taken");
    assert!(get(&*store, &key).await.is_some_and(|row| row.value == value));
}

/// One byte more is refused, and the store goes on.
pub async fn a_key_or_value_over_its_limit_is_refused(store: Arc<dyn Store>) {
    let refused = put_if(&*store, &"k".repeat(1025), "1", Expect::Any).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))));
    let large = Bytes::from(vec![42; (16 << 20) + 1]);
    let refused = store.put(TENANT, TABLE, "a", large, Expect::Any).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))));
    assert_eq!(put(&*store, "a", "1").await, 1);
}

/// Closing and opening loses no row and no version, and brings no removed one back.
pub async fn rows_and_versions_are_there_after_opening_again<F: Future<Output = Arc<dyn Store>>>(open: impl Fn() -> F) {
    for turn in 1..=4 {
        let store = open().await;
        assert_eq!(put(&*store, "a", &turn.to_string()).await, turn);
        assert!(matches!(put_if(&*store, "b", "1", Expect::Absent).await, Ok(1)));
        store.delete(TENANT, TABLE, "b", Expect::Version(1)).await.expect("the removal is taken");
        assert_eq!(get(&*store, "a").await, row(&turn.to_string(), turn));
    }
    assert_eq!(scan(&*open().await, "", None, ALL).await, ["a"]);
}
