//! The store on a real Apache Cassandra 5: what the suites take, and what only a cluster can do to it.
//!
//! ScyllaDB speaks the same protocol and has the same conditional writes; it is not in the registries that the tests fetch
//! servers from, and so not what they run on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use pipeline::store::scylla::{Login, OpenError, ScyllaStore, Settings, Tls};
use pipeline::{Expect, Row, Store, StoreError, Table};
use schemas::TenantId;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::{Consistency, Statement};

use crate::contention::{self, Contest};
use crate::services::cassandra::Cassandra;

const TENANT: TenantId = TenantId::from_bytes([7; 16]);

async fn open(settings: &Settings) -> ScyllaStore {
    ScyllaStore::open(settings.clone()).await.expect("the store opens")
}

pub async fn new_store() -> Option<(Arc<dyn Store>, ())> {
    let settings = Cassandra::shared()?.settings();
    Some((Arc::new(open(&settings).await), ()))
}

pub async fn store_place() -> Option<(impl Fn() -> BoxFuture<'static, Arc<dyn Store>>, ())> {
    let settings = Cassandra::shared()?.settings();
    let place = move || {
        let settings = settings.clone();
        async move { Arc::new(open(&settings).await) as Arc<dyn Store> }.boxed()
    };
    Some((place, ()))
}

/// Nothing is waited for so long that comes at all.
const WITHIN: Duration = Duration::from_secs(120);

async fn session(settings: &Settings) -> Session {
    let patient = ExecutionProfile::builder().request_timeout(Some(WITHIN)).build().into_handle();
    let session = SessionBuilder::new()
        .known_nodes(&settings.nodes)
        .connection_timeout(WITHIN)
        .fetch_schema_metadata(false)
        .default_execution_profile_handle(patient);
    session.build().await.expect("the node answers")
}

async fn count(settings: &Settings, table: &str) -> usize {
    let query = format!("SELECT * FROM {}.{table}", settings.keyspace);
    let found = session(settings).await.query_unpaged(query, ()).await.expect("the node answers");
    found.into_rows_result().expect("there are rows").rows_num()
}

async fn refused(settings: &Settings) -> OpenError {
    match ScyllaStore::open(settings.clone()).await {
        Err(error) => error,
        Ok(_) => panic!("the store opens"),
    }
}

#[tokio::test]
async fn a_node_that_is_down_is_named() {
    let mut settings = Settings::at([format!("127.0.0.1:{}", crate::services::free_port())]);
    settings.connect_timeout_ms = 1000;
    let error = refused(&settings).await;
    assert!(
        matches!(error, OpenError::Unreachable { .. }) && error.to_string().contains(&settings.nodes[0]),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_runs_on_cassandra_5() {
    let Some(cassandra) = Cassandra::shared() else { return };
    let session = session(&cassandra.settings()).await;
    let found = session.query_unpaged("SELECT release_version FROM system.local", ()).await.expect("the node answers");
    let (version,) = found.into_rows_result().expect("rows").first_row::<(String,)>().expect("a row");
    assert!(version.starts_with("5."), "{version}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_schema_is_refused_or_migrated_and_a_newer_one_is_refused() {
    let Some(cassandra) = Cassandra::shared() else { return };
    let by_hand = Settings { migrate: false, ..cassandra.settings() };
    assert!(matches!(refused(&by_hand).await, OpenError::MissingKeyspace { .. }));
    let migrating = Settings { migrate: true, ..by_hand.clone() };
    let store = open(&migrating).await;
    let kept = store.put(TENANT, Table::Streams, "a", Bytes::from_static(b"1"), Expect::Absent).await;
    assert!(matches!(kept, Ok(1)));
    drop(open(&by_hand).await);
    let set = async |version: i32| {
        let text = format!("UPDATE {}.schema_version SET version = {version} WHERE one = 'schema'", by_hand.keyspace);
        session(&by_hand).await.query_unpaged(text, ()).await.expect("the node answers");
    };
    set(0).await;
    assert!(matches!(refused(&by_hand).await, OpenError::OlderSchema { found: 0, needed: 1, .. }));
    let row = open(&migrating).await.get(TENANT, Table::Streams, "a").await.expect("the row is readable");
    assert_eq!(row.map(|row| row.version), Some(1));
    drop(open(&by_hand).await);
    set(99).await;
    for settings in [&by_hand, &migrating] {
        assert!(matches!(refused(settings).await, OpenError::NewerSchema { found: 99, known: 1, .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_make_one_keyspace_and_use_it() {
    let Some(cassandra) = Cassandra::shared() else { return };
    let settings = cassandra.settings();
    let stores = join_all((0..4).map(|_| open(&settings))).await;
    for (n, store) in (0..).zip(&stores) {
        let put = store.put(TENANT, Table::Streams, "a", Bytes::new(), Expect::Ordered(n)).await;
        assert!(matches!(put, Ok(version) if version == n + 1), "{put:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_and_go_lie_where_what_was_removed_is_soon_forgotten() {
    let Some(cassandra) = Cassandra::shared() else { return };
    let settings = cassandra.settings();
    let store = open(&settings).await;
    for table in [Table::Timers, Table::Notices, Table::Quarantine, Table::Cases] {
        assert!(matches!(store.put(TENANT, table, "a", Bytes::from_static(b"1"), Expect::Absent).await, Ok(1)));
        assert!(matches!(store.put(TENANT, table, "a", Bytes::from_static(b"2"), Expect::Version(1)).await, Ok(2)));
    }
    assert_eq!((count(&settings, "queues").await, count(&settings, "rows").await), (3, 1));
    let query = "SELECT gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'queues'";
    let found = session(&settings).await.query_unpaged(query, (&settings.keyspace,)).await.expect("the node answers");
    let (seconds,) = found.into_rows_result().expect("rows").first_row::<(i32,)>().expect("a row");
    assert_eq!(seconds, 4 * 60 * 60);
    let found = store.scan(TENANT, Table::Timers, "", None, 10).await.expect("the rows are readable");
    assert_eq!(found.iter().map(|(key, row)| (key.as_str(), row.version)).collect::<Vec<_>>(), [("a", 2)]);
    store.delete(TENANT, Table::Timers, "a", Expect::Version(2)).await.expect("the removal is taken");
    assert!(store.get(TENANT, Table::Timers, "a").await.expect("it is read").is_none());
    assert_eq!(count(&settings, "queues").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_value_is_whole_while_it_is_replaced_and_leaves_nothing_behind() {
    let Some(cassandra) = Cassandra::shared() else { return };
    let settings = cassandra.settings();
    let store = Arc::new(open(&settings).await);
    let value = |n: u8| Bytes::from(vec![n; 3 << 20]);
    let put = async |n: u8, expect| store.put(TENANT, Table::StreamStates, "a", value(n), expect).await;
    put(1, Expect::Absent).await.expect("the write is taken");
    let reader = tokio::spawn({
        let store = store.clone();
        async move {
            loop {
                let row = store.get(TENANT, Table::StreamStates, "a").await.expect("the row is readable");
                let Some(row) = row else { return };
                assert!(row.value.len() == 3 << 20 && row.value.iter().all(|byte| *byte == row.value[0]));
                assert_eq!(u64::from(row.value[0]), row.version);
            }
        }
    });
    for n in 2..=6 {
        assert!(matches!(put(n, Expect::Version(u64::from(n) - 1)).await, Ok(version) if version == u64::from(n)));
    }
    assert_eq!(count(&settings, "chunks").await, 6);
    store.delete(TENANT, Table::StreamStates, "a", Expect::Version(6)).await.expect("the removal is taken");
    reader.await.expect("every value was whole");
    assert_eq!(count(&settings, "chunks").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_many_buckets_are_scanned_in_the_order_of_their_keys() {
    let Some(cassandra) = Cassandra::shared() else { return };
    let store = open(&cassandra.settings()).await;
    let keys: Vec<String> = (0..60).map(|n| format!("s/{n:03}")).collect();
    let puts = keys.iter().map(|key| store.put(TENANT, Table::Lanes, key, Bytes::new(), Expect::Any));
    join_all(puts).await.into_iter().for_each(|put| assert!(matches!(put, Ok(1))));
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().map(String::as_str);
        let page = store.scan(TENANT, Table::Lanes, "s/", after, 7).await.expect("the rows are readable");
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(found, keys);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_writer_of_another_process_loses() {
    let Some(cassandra) = Cassandra::shared() else { return };
    let settings = cassandra.settings();
    let (old, new) = (open(&settings).await, open(&settings).await);
    let put = async |store: &ScyllaStore, text: &'static str, version| {
        store.put(TENANT, Table::Checkpoints, "p", Bytes::from_static(text.as_bytes()), Expect::Ordered(version)).await
    };
    assert!(matches!(put(&old, "old", 0).await, Ok(1)));
    assert!(matches!(put(&new, "new", 1).await, Ok(2)));
    let late = put(&old, "late", 1).await;
    assert!(matches!(late, Err(StoreError::Conflict { found: Some(2), .. })), "{late:?}");
    let row = old.get(TENANT, Table::Checkpoints, "p").await.expect("the row is readable").expect("there is a row");
    assert_eq!((&row.value[..], row.version), (&b"new"[..], 2));
}

/// The row of a contest as it was agreed upon, read past the store: that ends conditional writes under way.
async fn settled(settings: &Settings) -> Row {
    let rows = format!("{}.rows", settings.keyspace);
    let text = format!("SELECT version, value FROM {rows} WHERE tenant = ? AND kind = ? AND bucket = 0 AND key = ?");
    let mut statement = Statement::new(text);
    statement.set_consistency(Consistency::LocalSerial);
    let values = (contention::TENANT.to_bytes().to_vec(), contention::TABLE as i8, contention::KEY);
    let found = session(settings).await.query_unpaged(statement, values).await.expect("the node answers");
    let found = found.into_rows_result().expect("there are rows");
    let (version, value) = found.first_row::<(i64, Vec<u8>)>().expect("there is a row");
    Row { value: value.into(), version: version.unsigned_abs() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixteen_processes_one_wins_each_version_that_survives_and_a_node_that_is_killed_changes_nothing() {
    let Some(mut cassandra) = Cassandra::start(false) else { return };
    let mut settings = cassandra.settings();
    // While the node is away, writers give up and are not told how their writes ended.
    settings.retry_for_ms = 3000;
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for _ in 0..16 {
        stores.push(Arc::new(open(&settings).await));
    }
    let contest = Contest::of(2000);
    let running = tokio::spawn(contest.clone().run(stores));
    contest.begun.subscribe().wait_for(|begun| *begun >= 1000).await.expect("the contest goes on");
    cassandra.kill();
    cassandra.restart();
    let told = running.await.expect("the contest ends");
    told.check(&contest, "cassandra", &settled(&settings).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_login_tls_and_a_node_that_is_killed_under_writers() {
    let Some(mut cassandra) = Cassandra::start(true) else { return };
    let login = |password: &str| Login { username: "cassandra".into(), password: password.to_owned().into() };
    let mut settings = cassandra.settings();
    settings.login = Some(login("wrong"));
    let error = refused(&settings).await;
    assert!(matches!(error, OpenError::Login { .. }), "{error}");
    // The login goes through TLS where the node's authority is known, and does not where it is not.
    settings.tls = Some(Tls::of(cassandra.authority("other")));
    let error = refused(&settings).await;
    assert!(matches!(error, OpenError::Tls(_) | OpenError::Unreachable { .. }), "{error}");
    settings.tls = Some(Tls::of(cassandra.authority("node")));
    let error = refused(&settings).await;
    assert!(matches!(error, OpenError::Login { .. }), "{error}");
    settings.login = Some(login("cassandra"));
    let store = loop {
        // The node makes its first user just after it listens.
        match ScyllaStore::open(settings.clone()).await {
            Ok(store) => break Arc::new(store),
            Err(OpenError::Login { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let key = format!("w/{writer}");
            for version in 0..60 {
                let value = Bytes::from(version.to_string());
                let put = store.put(TENANT, Table::Streams, &key, value, Expect::Ordered(version)).await;
                assert!(matches!(put, Ok(new) if new == version + 1), "{put:?} at {version}");
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    while store
        .get(TENANT, Table::Streams, "w/0")
        .await
        .expect("the row is readable")
        .is_none_or(|row| row.version < 20)
    {
        tokio::task::yield_now().await;
    }
    cassandra.kill();
    cassandra.restart();
    join_all(writers)
        .await
        .into_iter()
        .for_each(|joined| joined.expect("nothing acknowledged is lost, and nothing twice"));
}
