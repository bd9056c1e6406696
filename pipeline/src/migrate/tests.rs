//! What moves, what it is afterwards, and what is refused.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::{BatchKind, TenantId, Topic};
use tokio::sync::watch;

use super::{MigrateError, Part, Place, idle, migrate, migrate_at, still_idle};
use crate::engine::{Embedded, Partitions};
use crate::ingest::Ingest;
use crate::lease::{Joining, Node, Pace, Share};
use crate::log::conformance::batch;
use crate::log::{Durability, MemoryLog};
use crate::payload::{Keyring, SealedLog, SealedStore};
use crate::process::Processor;
use crate::quarantine::QuarantineKeeper;
use crate::store::{Expect, MemoryStore, Table};
use crate::testing::{ENTITY, Line, MAPPING, TENANT, parse, record, record_batch, stream};

const ONE_EACH: Partitions = Partitions { inputs: 1, events: 1, decisions: 1 };
const MASTER: [u8; 32] = [9; 32];

fn place(line: &Line) -> Place {
    Place { log: line.log.clone(), store: line.store.clone() }
}

fn embedded(folder: &Path) -> Place {
    let engine = Embedded::open(folder, ONE_EACH).unwrap();
    Place { log: engine.log(), store: engine.store() }
}

/// The same, as its owner uses it.
async fn opened(bare: &Place) -> Place {
    let keys = Arc::new(Keyring::open(bare.store.clone(), &MASTER).await.unwrap());
    let log = Arc::new(SealedLog::new(bare.log.clone(), keys.clone()));
    Place { log, store: Arc::new(SealedStore::new(bare.store.clone(), keys)) }
}

/// A sealed line in memory that has taken records, one of them a broken one.
async fn worked() -> Place {
    let bare = place(&Line::new());
    let Place { log, store } = opened(&bare).await;
    let (mapping, entity) = parse(MAPPING, ENTITY);
    let ingest = Ingest::new(log.clone(), store.clone());
    let open = ingest.open(&stream("orders"), &mapping, Some(&entity), "test").await.unwrap();
    for n in 0..5 {
        let (one, other) = (record(2 * n), record(2 * n + 1));
        ingest.append(&open, record_batch(1, 3 * n, &[&one, "{broken", &other])).await.unwrap();
    }
    Processor::start(log.clone(), store.clone(), 0).await.unwrap().0.drain().await.unwrap();
    QuarantineKeeper::start(log, store, 0).await.unwrap().0.drain().await.unwrap();
    bare
}

async fn moved(from: &Place, to: &Place) -> Result<Vec<Part>, MigrateError> {
    migrate(from, to, &mut |_| {}).await
}

async fn refused(from: &Place, to: &Place) -> MigrateError {
    moved(from, to).await.expect_err("it is refused")
}

/// Place, header and body of every batch of a topic, as they lie.
async fn lying(place: &Place, topic: Topic) -> Vec<(u64, schemas::Batch)> {
    let read = place.log.read(topic, 0, 0, usize::MAX).await.unwrap();
    read.iter().map(|stored| (stored.first, stored.as_it_lies(topic, 0).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_keeps_its_place_time_seal_and_version_into_a_folder_and_out_of_it() {
    let (first, folder) = (worked().await, tempfile::tempdir().unwrap());
    let parts = moved(&first, &embedded(folder.path())).await.unwrap();
    let second = embedded(folder.path());
    let third = place(&Line::new());
    assert_eq!(moved(&second, &third).await.unwrap(), parts);
    for topic in Topic::ALL {
        let there = lying(&first, topic).await;
        assert!(!there.is_empty() && there.iter().all(|(_, batch)| batch.header.logged_at > 0));
        assert_eq!(lying(&second, topic).await, there);
        assert_eq!(lying(&third, topic).await, there);
    }
    for table in Table::ALL {
        for tenant in [TenantId::SYSTEM, TENANT] {
            let rows = first.store.scan(tenant, table, "", None, 1000).await.unwrap();
            assert_eq!(second.store.scan(tenant, table, "", None, 1000).await.unwrap(), rows);
            assert_eq!(third.store.scan(tenant, table, "", None, 1000).await.unwrap(), rows);
        }
    }
    let count = |name: &str| parts.iter().find(|part| part.name == name).map_or(0, |part| part.count);
    assert_eq!((count("Quarantine"), count("PayloadKeys"), count("StreamStates")), (5, 1, 1));
    assert_eq!(count("inputs/0"), first.log.end(Topic::Inputs, 0).await.unwrap());
    let Place { log, store } = opened(&third).await;
    let notes = crate::quarantine::list(&*store, TENANT, None, None, 10).await.unwrap();
    let bytes = crate::quarantine::payload(&*log, &notes[0].1).await.unwrap();
    assert_eq!(bytes.as_deref(), Some(&b"{broken"[..]), "its key opens it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_goes_on_after_its_move_as_if_it_had_stayed() {
    let (stays, folder) = (Line::new(), tempfile::tempdir().unwrap());
    let open = stays.open("orders", MAPPING, ENTITY).await;
    stays.append(&open, 1, 0, &[&record(1), &record(2), "broken"]).await;
    drop(stays.process().await);
    moved(&place(&stays), &embedded(folder.path())).await.unwrap();
    let goes = Line::new();
    moved(&embedded(folder.path()), &place(&goes)).await.unwrap();
    for line in [&stays, &goes] {
        line.append(&open, 1, 2, &[&record(3), &record(4)]).await;
        line.append(&open, 1, 4, &[&record(5)]).await;
        line.process().await;
    }
    assert_eq!(goes.visible().await, 4, "record 3 of the lane came before and counts once");
    assert!(goes.row_hash().await == stays.row_hash().await);
    assert_eq!(goes.facts().await, stays.facts().await);
    let of = async |line: &Line| line.all(Topic::Events, BatchKind::Rows).await.last().map(|s| s.end());
    assert_eq!(of(&goes).await, of(&stays).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_cut_off_goes_on_and_one_that_is_done_changes_nothing() {
    let (from, to) = (worked().await, place(&Line::new()));
    let (_, batch) = lying(&from, Topic::Inputs).await.swap_remove(0);
    to.log.adopt(Topic::Inputs, 0, vec![batch]).await.unwrap();
    let rows = from.store.scan(TENANT, Table::Quarantine, "", None, 2).await.unwrap();
    for (key, row) in rows {
        let put = to.store.put(TENANT, Table::Quarantine, &key, row.value, Expect::Moved(row.version));
        put.await.unwrap();
    }
    let parts = moved(&from, &to).await.unwrap();
    let end = to.log.end(Topic::Inputs, 0).await.unwrap();
    assert_eq!(moved(&from, &to).await.unwrap(), parts);
    assert_eq!(to.log.end(Topic::Inputs, 0).await.unwrap(), end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_of_other_partitions_or_another_epoch_is_refused_with_nothing_moved() {
    let from = worked().await;
    let to = |partitions, epoch| Place {
        log: Arc::new(MemoryLog::of_epoch(partitions, epoch)),
        store: Arc::new(MemoryStore::new()),
    };
    let other = to(Partitions { events: 2, ..ONE_EACH }, 1);
    assert!(matches!(refused(&from, &other).await, MigrateError::Partitions { topic: Topic::Events, from: 1, to: 2 }));
    let other = to(ONE_EACH, 1_764_000_000);
    assert!(matches!(refused(&from, &other).await, MigrateError::Epoch { topic: Topic::Inputs, from: 1, .. }));
    assert_eq!(other.log.end(Topic::Inputs, 0).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_somebody_else_has_written_to_is_refused_and_says_where() {
    let (from, value) = (worked().await, || bytes::Bytes::from_static(b"\"theirs\""));
    let rows = place(&Line::new());
    rows.store.put(TenantId::SYSTEM, Table::Addresses, "a", value(), Expect::Any).await.unwrap();
    assert!(matches!(refused(&from, &rows).await, MigrateError::NotEmpty));

    let longer = place(&Line::new());
    longer.log.append(Topic::Inputs, 0, vec![batch("theirs", 1000)], Durability::Durable).await.unwrap();
    assert!(matches!(refused(&from, &longer).await, MigrateError::Foreign { topic: Topic::Inputs, .. }));

    let (other, (_, mut changed)) = (place(&Line::new()), lying(&from, Topic::Inputs).await.swap_remove(0));
    changed.header.logged_at -= 1;
    other.log.adopt(Topic::Inputs, 0, vec![changed]).await.unwrap();
    let error = refused(&from, &other).await;
    assert!(
        matches!(&error, MigrateError::Differs { name, from, to, .. } if name == "inputs/0" && from == to),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_another_one_there_is_never_overwritten() {
    let (from, to) = (worked().await, place(&Line::new()));
    moved(&from, &to).await.unwrap();
    let (key, row) = from.store.scan(TENANT, Table::StreamStates, "", None, 1).await.unwrap().swap_remove(0);
    let theirs = bytes::Bytes::from_static(b"theirs");
    to.store.delete(TENANT, Table::StreamStates, &key, Expect::Any).await.unwrap();
    to.store.put(TENANT, Table::StreamStates, &key, theirs.clone(), Expect::Moved(row.version + 1)).await.unwrap();
    assert!(matches!(refused(&from, &to).await, MigrateError::Row { table: Table::StreamStates, .. }));
    to.store.delete(TENANT, Table::StreamStates, &key, Expect::Any).await.unwrap();
    to.store.put(TENANT, Table::StreamStates, &key, theirs.clone(), Expect::Moved(row.version)).await.unwrap();
    assert!(matches!(refused(&from, &to).await, MigrateError::Differs { name, .. } if name == "StreamStates"));
    assert_eq!(to.store.get(TENANT, Table::StreamStates, &key).await.unwrap().map(|row| row.value), Some(theirs));
}

/// Silent for longer than a loaded machine has anybody wait.
const PACE: Pace = Pace { beat: Duration::from_millis(20), dead_after: Duration::from_secs(5) };

/// A process that works on a place.
async fn served(place: &Place, name: &str) -> Node {
    let (stall, lives) = (Arc::new(|| None::<String>), watch::Sender::new(false));
    let elsewhere = Arc::new(|_: &Share| {});
    let roles = vec![("process".to_owned(), 1)];
    let (store, name, clock) = (place.store.clone(), name.to_owned(), Arc::new(Instant::now));
    let mut node =
        Node::join(Joining { store, name, roles, pace: PACE, clock, stall, elsewhere, lives }).await.unwrap();
    node.turn().await.unwrap();
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_moves_while_a_process_works_on_either_side_and_processes_stay_behind() {
    let (from, to) = (worked().await, place(&Line::new()));
    for key in ["folder", "master"] {
        let value = Bytes::from_static(b"here");
        from.store.put(TenantId::SYSTEM, Table::Leases, key, value, Expect::Absent).await.unwrap();
    }
    let value = Bytes::from_static(b"there");
    to.store.put(TenantId::SYSTEM, Table::Leases, "folder", value, Expect::Absent).await.unwrap();
    for (side, name) in [(&from, "from"), (&to, "to")] {
        let mut node = served(side, name).await;
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(PACE.beat).await;
                node.beat().await.unwrap();
            }
        });
        let moved = migrate_at(PACE, &from, &to, &mut |_| {}).await;
        assert!(matches!(&moved, Err(MigrateError::Served(who)) if who == name), "{moved:?}");
        assert_eq!(to.log.end(Topic::Inputs, 0).await.unwrap(), 0);
        // It dies, and its row stays.
        beating.abort();
        _ = beating.await;
    }
    migrate_at(PACE, &from, &to, &mut |_| {}).await.unwrap();
    let rows = to.store.scan(TenantId::SYSTEM, Table::Leases, "", None, 100).await.unwrap();
    let own = |key: &str| rows.iter().find(|(known, _)| known == key).map(|(_, row)| row.value.clone());
    assert_eq!((own("folder"), own("master")), (Some("there".into()), Some("here".into())));
    let nodes = crate::lease::list(&*to.store).await.unwrap().nodes;
    assert_eq!(nodes.values().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["to"]);
}

#[tokio::test]
async fn a_process_that_begins_while_a_move_is_under_way_is_found_in_the_end() {
    let here = place(&Line::new());
    let nobody = idle(&*here.store, PACE).await.unwrap();
    still_idle(&*here.store, &nobody).await.unwrap();
    let node = served(&here, "early").await;
    let found = still_idle(&*here.store, &nobody).await;
    assert!(matches!(&found, Err(MigrateError::Served(who)) if who == "early"), "{found:?}");
    node.leave().await.unwrap();
    still_idle(&*here.store, &nobody).await.unwrap();
}
