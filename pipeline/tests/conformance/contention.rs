//! Sixteen writers of one row, each expecting the version that it has read: whoever was told that it won stands in the row,
//! at that version and once, and nobody else does.
//!
//! The row is the list of the writes that it is made of: a writer puts the number of its try behind what it has read. So the
//! row itself says which versions survive, and whose they are. How a try ended whose writer was not told is read there too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use pipeline::{Expect, MemoryStore, Row, Store, StoreError, Table};
use schemas::TenantId;
use tokio::sync::watch;

/// Where the row lies.
pub const TENANT: TenantId = TenantId::from_bytes([7; 16]);
/// Its kind.
pub const TABLE: Table = Table::Streams;
/// Its key.
pub const KEY: &str = "contended";
const WRITERS: usize = 16;
/// Stands in the row for a write that is no writer's: the first and the last.
const OURS: u32 = u32::MAX;

/// A number of tries, which the writers share.
pub struct Contest {
    tries: u32,
    /// How many were begun.
    pub begun: watch::Sender<u32>,
}

/// What the writers were told of their tries.
#[derive(Default)]
pub struct Told {
    /// Versions, and whose they are.
    won: BTreeMap<u64, u32>,
    lost: BTreeSet<u32>,
    unknown: BTreeSet<u32>,
}

impl Contest {
    pub fn of(tries: u32) -> Arc<Self> {
        Arc::new(Self { tries, begun: watch::Sender::new(0) })
    }

    /// Makes the row, has the writers spend their tries on it, each on one of the stores, and closes it.
    pub async fn run(self: Arc<Self>, stores: Vec<Arc<dyn Store>>) -> Told {
        write(&*stores[0], Bytes::new(), OURS, Expect::Absent).await.expect("the row is made");
        let writers = (0..WRITERS).map(|n| tokio::spawn(self.clone().write_on(stores[n % stores.len()].clone())));
        let writers: Vec<_> = writers.collect();
        let mut all = Told::default();
        for told in join_all(writers).await {
            let told = told.expect("the writer ends");
            let before = all.won.len() + told.won.len();
            all.won.extend(told.won);
            assert_eq!(all.won.len(), before, "a version was won by two");
            all.lost.extend(told.lost);
            all.unknown.extend(told.unknown);
        }
        close(&*stores[0]).await;
        all
    }

    async fn write_on(self: Arc<Self>, store: Arc<dyn Store>) -> Told {
        let mut told = Told::default();
        loop {
            let Row { value, version } = row(&*store).await;
            // Others read the same version meanwhile.
            tokio::task::yield_now().await;
            let Some(number) = self.begin() else { return told };
            match write(&*store, value, number, Expect::Version(version)).await {
                Ok(won) => {
                    assert_eq!(won, version + 1);
                    told.won.insert(won, number);
                }
                Err(StoreError::Conflict { expected, found }) => {
                    assert_eq!(expected, Expect::Version(version));
                    assert!(found.is_some_and(|found| found > version), "{version} was expected, {found:?} found");
                    told.lost.insert(number);
                }
                Err(StoreError::Unreachable(_)) => {
                    told.unknown.insert(number);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The number of the next try.
    fn begin(&self) -> Option<u32> {
        let mut number = 0;
        self.begun.send_modify(|begun| {
            number = *begun;
            *begun = begun.saturating_add(1);
        });
        (number < self.tries).then_some(number)
    }
}

async fn write(store: &dyn Store, before: Bytes, number: u32, expect: Expect) -> Result<u64, StoreError> {
    let value = [&before[..], &number.to_be_bytes()].concat();
    store.put(TENANT, TABLE, KEY, value.into(), expect).await
}

/// The row, once its store can be reached.
pub async fn row(store: &dyn Store) -> Row {
    loop {
        match store.get(TENANT, TABLE, KEY).await {
            Ok(row) => return row.expect("nobody removes it"),
            Err(StoreError::Unreachable(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes once more: whatever nobody was told of and still comes late expects an older version than there is now.
async fn close(store: &dyn Store) {
    loop {
        let Row { value, version } = row(store).await;
        match write(store, value, OURS, Expect::Version(version)).await {
            Ok(_) => return,
            Err(StoreError::Conflict { .. } | StoreError::Unreachable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

impl Told {
    /// Holds what the writers were told against the row, and says how it went.
    pub fn check(&self, of: &Contest, store: &str, row: &Row) {
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("a number has four bytes"));
        let numbers = row.value.chunks_exact(4).map(number);
        let standing: BTreeMap<u64, u32> = (1..).zip(numbers).collect();
        assert_eq!(standing.len() as u64, row.version, "as many writes as versions");
        let surviving: BTreeMap<u64, u32> = standing.into_iter().filter(|(_, number)| *number != OURS).collect();
        let once: BTreeSet<u32> = surviving.values().copied().collect();
        assert_eq!(once.len(), surviving.len(), "no try stands there twice");
        let settled: BTreeSet<u32> = self.unknown.intersection(&once).copied().collect();
        let told: BTreeMap<u64, u32> =
            surviving.iter().filter(|(_, number)| !settled.contains(*number)).map(|(v, n)| (*v, *n)).collect();
        assert_eq!(told, self.won, "who survives was told so, and who was told so survives");
        assert!(once.is_disjoint(&self.lost), "who was told to have lost does not survive");
        let (won, lost, unknown) = (self.won.len(), self.lost.len(), self.unknown.len());
        assert_eq!(won + lost + unknown, of.tries as usize, "every try has one end");
        assert!(won > 0 && lost > 0, "{won} won and {lost} lost: they never met");
        // Past the test harness, which shows what a test prints only when it fails.
        let _ = writeln!(
            std::io::stderr(),
            "{store}: {WRITERS} writers of one row, {} tries: {won} won, {lost} lost, {unknown} not told, of which {} were \
             done; {} versions survive",
            of.tries,
            settled.len(),
            surviving.len(),
        );
    }
}

/// 20,000 tries on a store that answers every write; gives the row that they leave.
async fn meet(name: &str, store: Arc<dyn Store>) -> Row {
    let contest = Contest::of(20_000);
    let told = contest.clone().run(vec![store.clone()]).await;
    assert!(told.unknown.is_empty(), "it can always be reached");
    let left = row(&*store).await;
    told.check(&contest, name, &left);
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_every_version_that_survives_was_won_by_one_of_sixteen_writers() {
    meet("memory", Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_engine_every_version_that_survives_was_won_by_one_of_sixteen_writers() {
    let folder = crate::folder();
    let left = meet("embedded", crate::open(&folder).store()).await;
    assert_eq!(row(&*crate::open(&folder).store()).await, left, "and is there after opening again");
}
