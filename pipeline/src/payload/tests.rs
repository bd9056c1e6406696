//! What is sealed, what is not, and what is left once a key is destroyed.

use std::sync::Arc;

use bytes::Bytes;
use schemas::{Batch, BatchHeader, BatchKind, TenantId, Topic};

use super::{Keyring, SealedLog, SealedStore};
use crate::ingest::Ingest;
use crate::log::{Durability, Log, LogError, Stored};
use crate::process::Processor;
use crate::quarantine::QuarantineKeeper;
use crate::store::{Expect, Store, StoreError, Table};
use crate::testing::{ENTITY, Line, MAPPING, TENANT, parse, record, record_batch, stream};

const OTHER: TenantId = TenantId::from_bytes([2; 16]);
const MASTER: [u8; 32] = [9; 32];
const CANARY: &str = "canary-4711";

/// A line in memory, bare and sealed.
struct House {
    bare: Line,
    keys: Arc<Keyring>,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
}

async fn house() -> House {
    over(Line::new()).await
}

async fn over(bare: Line) -> House {
    let keys = Arc::new(Keyring::open(bare.store.clone(), &MASTER).await.unwrap());
    let log = Arc::new(SealedLog::new(bare.log.clone(), keys.clone()));
    let store = Arc::new(SealedStore::new(bare.store.clone(), keys.clone()));
    House { bare, keys, log, store }
}

fn batch(tenant: TenantId, body: &str) -> Batch {
    let (kind, subject) = (BatchKind::Control, "crm/orders".to_owned());
    let header = BatchHeader { kind, tenant, subject, count: 1, logged_at: 0, key_id: 0, trace: None };
    Batch { header, body: body.to_owned().into() }
}

async fn append(log: &dyn Log, batches: Vec<Batch>) {
    log.append(Topic::Inputs, 0, batches, Durability::Durable).await.unwrap();
}

async fn read(log: &dyn Log) -> Vec<Stored> {
    log.read(Topic::Inputs, 0, 0, usize::MAX).await.unwrap()
}

fn bodies(stored: &[Stored]) -> Vec<Option<String>> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    stored.iter().map(|s| s.body(Topic::Inputs, 0).unwrap().map(text)).collect()
}

/// Every byte that lies in the bare log and store for the tenant, and whether the text is among them.
async fn lies_bare(line: &Line, text: &str) -> bool {
    let mut bytes = Vec::new();
    for topic in Topic::ALL {
        for stored in line.log.read(topic, 0, 0, usize::MAX).await.unwrap() {
            match stored.packed.sealed() {
                Some(sealed) => bytes.extend_from_slice(&sealed.unwrap()),
                None => bytes.extend_from_slice(&stored.body(topic, 0).unwrap().unwrap()),
            }
        }
    }
    for table in Table::ALL {
        for (_, row) in line.store.scan(TENANT, table, "", None, 1000).await.unwrap() {
            bytes.extend_from_slice(&row.value);
        }
    }
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_tenant_said_lies_in_clear_in_log_or_store() {
    let house = house().await;
    let (mapping, entity) = parse(MAPPING, ENTITY);
    let ingest = Ingest::new(house.log.clone(), house.store.clone());
    let open = ingest.open(&stream("orders"), &mapping, Some(&entity), "test").await.unwrap();
    let set_aside = format!("{{\"{CANARY}\": broken");
    let good = record(1).replace('{', &format!("{{\"Memo\":\"{CANARY}\","));
    ingest.append(&open, record_batch(1, 0, &[&good, &set_aside])).await.unwrap();
    let (mut processor, _) = Processor::start(house.log.clone(), house.store.clone(), 0).await.unwrap();
    processor.drain().await.unwrap();
    let (mut keeper, _) = QuarantineKeeper::start(house.log.clone(), house.store.clone(), 0).await.unwrap();
    keeper.drain().await.unwrap();
    let notes = crate::quarantine::list(&*house.store, TENANT, None, None, 10).await.unwrap();
    let bytes = crate::quarantine::payload(&*house.log, &notes[0].1).await.unwrap();
    assert_eq!(bytes.as_deref(), Some(set_aside.as_bytes()), "it is read through the seal");
    assert!(!lies_bare(&house.bare, CANARY).await);
    append(&*house.bare.log, vec![batch(TENANT, CANARY)]).await;
    assert!(lies_bare(&house.bare, CANARY).await, "it would be seen");
}

#[tokio::test]
async fn what_was_written_before_there_were_keys_is_still_read() {
    let line = Line::new();
    append(&*line.log, vec![batch(TENANT, "{}")]).await;
    line.store.put(TENANT, Table::Users, "ada", Bytes::from_static(b"{}"), Expect::Any).await.unwrap();
    let house = over(line).await;
    append(&*house.log, vec![batch(TENANT, "[]")]).await;
    assert_eq!(bodies(&read(&*house.log).await), [Some("{}".to_owned()), Some("[]".to_owned())]);
    let row = house.store.get(TENANT, Table::Users, "ada").await.unwrap().unwrap();
    assert_eq!((row.value, row.version), (Bytes::from_static(b"{}"), 1));
}

#[tokio::test]
async fn a_destroyed_key_forgets_one_tenant_and_no_offset() {
    let house = house().await;
    append(&*house.log, vec![batch(TENANT, "a"), batch(OTHER, "b"), batch(TenantId::SYSTEM, "c")]).await;
    house.store.put(TENANT, Table::Users, "ada", Bytes::from_static(b"{}"), Expect::Any).await.unwrap();
    house.keys.destroy(TENANT).await.unwrap();
    // What somebody who was at work for it still writes.
    let refused = house.log.append(Topic::Inputs, 0, vec![batch(TENANT, "late")], Durability::Durable).await;
    assert!(matches!(refused, Err(LogError::Forgotten)), "what is acknowledged is there");
    house.log.append(Topic::Inputs, 0, vec![batch(TENANT, "late")], Durability::Ordered).await.unwrap();
    let late = house.store.put(TENANT, Table::Users, "ada", Bytes::from_static(b"1"), Expect::Ordered(1)).await;
    assert_eq!(late.unwrap(), 2);
    // And in another process, or after a restart.
    for house in
        [house.keys.clone(), Arc::new(Keyring::open(house.bare.store.clone(), &MASTER).await.unwrap())].map(|keys| {
            (SealedLog::new(house.bare.log.clone(), keys.clone()), SealedStore::new(house.bare.store.clone(), keys))
        })
    {
        let all = read(&house.0).await;
        assert_eq!(bodies(&all), [None, Some("b".into()), Some("c".into()), None]);
        assert_eq!(
            all.iter().map(|s| (s.first, s.is_forgotten())).collect::<Vec<_>>(),
            [(0, true), (1, false), (2, false), (3, true)]
        );
        assert_eq!(house.1.get(TENANT, Table::Users, "ada").await.unwrap(), None);
        assert!(house.1.scan(TENANT, Table::Users, "", None, 9).await.unwrap().is_empty());
    }
    assert_eq!(house.keys.forgotten(), 2);
    house.keys.erase_rows(TENANT).await.unwrap();
    assert!(house.bare.store.scan(TENANT, Table::Users, "", None, 9).await.unwrap().is_empty());
    house.keys.destroy(TENANT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_passes_over_what_is_forgotten_and_processes_what_stands_behind_it() {
    let house = house().await;
    let ingest = Ingest::new(house.log.clone(), house.store.clone());
    let (mapping, entity) = parse(MAPPING, ENTITY);
    for tenant in [TENANT, OTHER] {
        let id = schemas::StreamId { tenant, ..stream("orders") };
        let open = ingest.open(&id, &mapping, Some(&entity), "test").await.unwrap();
        ingest.append(&open, record_batch(1, 0, &[&record(1)])).await.unwrap();
    }
    house.keys.destroy(TENANT).await.unwrap();
    let (mut processor, processed) = Processor::start(house.log.clone(), house.store.clone(), 0).await.unwrap();
    processor.drain().await.unwrap();
    assert_eq!(processed.next(), house.log.end(Topic::Inputs, 0).await.unwrap());
    let events = house.log.read(Topic::Events, 0, 0, usize::MAX).await.unwrap();
    let owners: Vec<_> =
        events.iter().filter(|s| s.header().kind == BatchKind::Rows).map(|s| s.header().tenant).collect();
    assert_eq!(owners, [OTHER]);
}

#[tokio::test]
async fn another_master_key_is_refused_and_a_batch_without_its_key_is_named() {
    let house = house().await;
    append(&*house.log, vec![batch(TENANT, "a")]).await;
    let refused = Keyring::open(house.bare.store.clone(), &[8; 32]).await.err().unwrap().to_string();
    assert!(refused.contains("restore master.key"), "{refused}");
    assert!(Keyring::has_keys(&*house.bare.store).await.unwrap());
    // The log without its store's keys: damage is told, nothing is taken for forgotten.
    let elsewhere = over(Line { log: house.bare.log.clone(), ..Line::new() }).await;
    let stored = read(&*elsewhere.log).await;
    assert!(matches!(stored[0].body(Topic::Inputs, 0), Err(LogError::Unreadable { offset: 0, .. })));
}

#[tokio::test]
async fn a_row_that_was_moved_to_another_place_does_not_open() {
    let house = house().await;
    house.store.put(TENANT, Table::Users, "ada", Bytes::from_static(b"{}"), Expect::Any).await.unwrap();
    let row = house.bare.store.get(TENANT, Table::Users, "ada").await.unwrap().unwrap();
    house.bare.store.put(TENANT, Table::Users, "eve", row.value, Expect::Any).await.unwrap();
    assert!(matches!(house.store.get(TENANT, Table::Users, "eve").await, Err(StoreError::Unreadable(_))));
}
