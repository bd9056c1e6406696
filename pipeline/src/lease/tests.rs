//! Leases on a store in memory, with clocks that a test turns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use schemas::TenantId;
use tokio::sync::{Notify, mpsc, watch};

use super::*;
use crate::store::{Expect, MemoryStore, Row, Store, StoreError, Table};

const PACE: Pace = Pace { beat: Duration::from_secs(1), dead_after: Duration::from_secs(6) };

/// A clock that a test turns.
struct Time {
    begun: Instant,
    millis: Arc<AtomicU64>,
}

impl Time {
    fn new() -> Self {
        Self { begun: Instant::now(), millis: Arc::default() }
    }

    fn pass(&self, seconds: u64) {
        self.millis.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let (begun, millis) = (self.begun, self.millis.clone());
        Arc::new(move || begun + Duration::from_millis(millis.load(Ordering::SeqCst)))
    }
}

fn joining(store: &Arc<dyn Store>, name: &str, partitions: u32, time: &Time) -> Joining {
    let roles = vec![("process".to_owned(), partitions)];
    let (stall, lives) = (Arc::new(|| Some("the disk is full".to_owned())), watch::Sender::new(false));
    let (store, name, clock, elsewhere) = (store.clone(), name.to_owned(), time.clock(), Arc::new(|_: &Share| {}));
    Joining { store, name, roles, pace: PACE, clock, stall, elsewhere, lives }
}

async fn node(store: &Arc<dyn Store>, name: &str, partitions: u32, time: &Time) -> Node {
    Node::join(joining(store, name, partitions, time)).await.unwrap()
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn partitions(node: &Node) -> Vec<u32> {
    node.held().map(|share| share.partition).collect()
}

/// A turn of each, as often; what one should give up it gives up at once.
async fn turns(nodes: &mut [&mut Node], times: usize) {
    for _ in 0..times {
        for node in nodes.iter_mut() {
            for share in node.turn().await.unwrap() {
                node.release(&share).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn processes_have_about_as_many_partitions_each_and_no_partition_has_two() {
    let (store, time) = (memory(), Time::new());
    for count in [1, 4, 5, 8] {
        let store: Arc<dyn Store> = if count == 1 { store.clone() } else { memory() };
        let mut a = node(&store, "a", count, &time).await;
        turns(&mut [&mut a], 1).await;
        assert_eq!(partitions(&a), (0..count).collect::<Vec<_>>(), "alone it has all");
        let mut b = node(&store, "b", count, &time).await;
        let mut c = node(&store, "c", count, &time).await;
        turns(&mut [&mut a, &mut b, &mut c], 6).await;
        let mut held: Vec<Vec<u32>> = [&a, &b, &c].map(partitions).to_vec();
        let lengths: Vec<usize> = held.iter().map(Vec::len).collect();
        let (most, least) = (lengths.iter().max().unwrap(), lengths.iter().min().unwrap());
        assert!(most - least <= 1, "of {count}: {held:?}");
        let mut all = held.drain(..).flatten().collect::<Vec<_>>();
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>(), "each has one owner");
        let before = [&a, &b, &c].map(partitions);
        turns(&mut [&mut a, &mut b, &mut c], 6).await;
        assert_eq!([&a, &b, &c].map(partitions), before, "and keeps it");
    }
}

#[tokio::test]
async fn what_a_dead_process_had_is_taken_over_and_it_never_believes_in_it_beside_another() {
    let (store, time) = (memory(), Time::new());
    let mut dead = node(&store, "dead", 2, &time).await;
    turns(&mut [&mut dead], 1).await;
    let share = dead.held().next().cloned().unwrap();
    let (trust, before) = (dead.trust(), dead.token(&share).unwrap());
    let mut heir = node(&store, "heir", 2, &time).await;
    let mut seconds = 0;
    loop {
        heir.turn().await.unwrap();
        if !partitions(&heir).is_empty() {
            break;
        }
        time.pass(1);
        seconds += 1;
        assert!(seconds < 20, "nobody takes over");
    }
    assert_eq!(seconds, PACE.dead_after.as_secs());
    assert!(!trust.holds());
    assert_eq!(partitions(&heir), [0, 1]);
    assert!(heir.token(&share).unwrap() > before);
    assert!(matches!(dead.turn().await, Err(LeaseError::Lost)));
    assert_eq!((partitions(&dead), trust.holds()), (vec![], false));
    let mut again = node(&store, "dead", 2, &time).await;
    turns(&mut [&mut again, &mut heir], 3).await;
    assert_eq!((partitions(&again).len(), partitions(&heir).len()), (1, 1), "it may join again");
    assert!(!trust.holds(), "what it began before stays fenced");
}

#[tokio::test]
async fn a_process_that_was_stopped_is_refused_by_the_store_until_it_has_said_that_it_lives() {
    let (store, time) = (memory(), Time::new());
    let mut node = node(&store, "a", 1, &time).await;
    turns(&mut [&mut node], 1).await;
    let share = node.held().next().cloned().unwrap();
    let fenced = FencedStore::new(store.clone(), share, node.trust());
    let write = |key: &'static str| fenced.put(TenantId::SYSTEM, Table::Checkpoints, key, Bytes::new(), Expect::Any);
    write("a").await.unwrap();
    time.pass(5);
    let refused = write("b").await.unwrap_err();
    assert!(matches!(&refused, StoreError::Fenced(what) if what == "partition 0 of process"), "{refused}");
    let removed = fenced.delete(TenantId::SYSTEM, Table::Checkpoints, "a", Expect::Any).await;
    assert!(matches!(removed, Err(StoreError::Fenced(_))));
    assert!(fenced.get(TenantId::SYSTEM, Table::Checkpoints, "a").await.unwrap().is_some());
    assert_eq!(fenced.scan(TenantId::SYSTEM, Table::Checkpoints, "", None, 9).await.unwrap().len(), 1);
    // Nobody has taken over.
    node.beat().await.unwrap();
    write("b").await.unwrap();
}

/// A store whose writes wait until a test lets them go on.
#[derive(Default)]
struct Slow {
    inner: MemoryStore,
    asked: Notify,
    answers: Notify,
}

#[async_trait]
impl Store for Slow {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.inner.get(tenant, table, key).await
    }
    async fn put(&self, t: TenantId, table: Table, key: &str, value: Bytes, e: Expect) -> Result<u64, StoreError> {
        self.asked.notify_one();
        self.answers.notified().await;
        self.inner.put(t, table, key, value, e).await
    }
    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        self.asked.notify_one();
        self.answers.notified().await;
        self.inner.delete(tenant, table, key, expect).await
    }
    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        self.inner.scan(tenant, table, prefix, after, limit).await
    }
}

#[tokio::test]
async fn a_write_that_the_store_is_still_at_when_the_lease_is_over_is_dropped() {
    let (leases, time, slow) = (memory(), Time::new(), Arc::new(Slow::default()));
    let share = Share { role: "process".to_owned(), partition: 0 };
    let mut a = node(&leases, "a", 1, &time).await;
    let fenced = Arc::new(FencedStore::new(slow.clone(), share.clone(), a.trust()));
    // Under way once this returns, and ended by whoever asks for the handle.
    #[expect(clippy::async_yields_async)]
    let write = async |key: &'static str| {
        let (fenced, table) = (fenced.clone(), Table::Checkpoints);
        let write = async move { fenced.put(TenantId::SYSTEM, table, key, Bytes::new(), Expect::Any).await };
        let write = tokio::spawn(write);
        slow.asked.notified().await;
        write
    };
    // The lease is good for longer meanwhile: so is the write.
    let written = write("a").await;
    time.pass(3);
    a.beat().await.unwrap();
    time.pass(3);
    slow.answers.notify_one();
    assert_eq!(written.await.unwrap().unwrap(), 1);
    // The store goes on with it only once the lease is over.
    let late = write("b").await;
    time.pass(5);
    slow.answers.notify_one();
    assert!(matches!(late.await.unwrap(), Err(StoreError::Fenced(_))));
    assert_eq!(slow.get(TenantId::SYSTEM, Table::Checkpoints, "b").await.unwrap(), None);
    // The store does not go on at all, and time passes by itself.
    let pace = Pace { beat: Duration::from_millis(10), dead_after: Duration::from_millis(150) };
    let joining = Joining { pace, clock: Arc::new(Instant::now), ..joining(&leases, "b", 1, &time) };
    let b = Node::join(joining).await.unwrap();
    let slow = Slow::default();
    let fenced = FencedStore::new(Arc::new(slow), share, b.trust());
    let never = fenced.delete(TenantId::SYSTEM, Table::Checkpoints, "c", Expect::Any);
    let ended = tokio::time::timeout(Duration::from_secs(60), never).await.unwrap();
    assert!(matches!(ended, Err(StoreError::Fenced(_))));
}

#[tokio::test]
async fn what_is_given_up_in_good_order_is_taken_at_once() {
    let (store, time) = (memory(), Time::new());
    let mut a = node(&store, "a", 3, &time).await;
    let mut b = node(&store, "b", 3, &time).await;
    turns(&mut [&mut a, &mut b], 4).await;
    let trust = a.trust();
    a.leave().await.unwrap();
    assert!(!trust.holds());
    turns(&mut [&mut b], 1).await;
    assert_eq!(partitions(&b), [0, 1, 2]);
    let peers = list(&*store).await.unwrap();
    let told: Vec<_> = peers.nodes.values().map(|node| (node.name.as_str(), node.stall.as_deref())).collect();
    assert_eq!(told, [("b", Some("the disk is full"))]);
}

#[tokio::test]
async fn a_clock_that_jumps_takes_nobody_for_dead_and_makes_nobody_believe_for_longer() {
    let store = memory();
    let (true_time, jumping) = (Time::new(), Time::new());
    let mut a = node(&store, "a", 2, &true_time).await;
    turns(&mut [&mut a], 1).await;
    let mut b = node(&store, "b", 2, &jumping).await;
    turns(&mut [&mut a, &mut b], 3).await;
    assert_eq!((partitions(&a).len(), partitions(&b).len()), (1, 1));
    // An hour for the one, nothing for the other.
    jumping.pass(3_600);
    assert!(!b.trust().holds(), "it may have been stopped");
    turns(&mut [&mut b], 1).await;
    assert!(b.trust().holds() && a.trust().holds());
    a.beat().await.unwrap();
    assert_eq!((partitions(&a).len(), partitions(&b).len()), (1, 1));
}

#[tokio::test]
async fn what_one_has_failed_at_is_taken_by_who_has_not_beside_its_part_and_by_nobody_once_all_have() {
    let (store, time) = (memory(), Time::new());
    let mut a = node(&store, "a", 4, &time).await;
    let mut b = node(&store, "b", 4, &time).await;
    turns(&mut [&mut a, &mut b], 4).await;
    let share = b.held().next().cloned().unwrap();
    let failed = BTreeSet::from([share.clone()]);
    b.leave_alone(failed.clone());
    b.release(&share).await.unwrap();
    turns(&mut [&mut b, &mut a], 3).await;
    assert_eq!((partitions(&a).len(), partitions(&b).len()), (3, 1));
    assert!(a.token(&share).is_some());
    a.leave_alone(failed);
    a.release(&share).await.unwrap();
    turns(&mut [&mut b, &mut a], 3).await;
    assert_eq!((partitions(&a).len(), partitions(&b).len()), (2, 1), "they go on with the rest");
    let peers = list(&*store).await.unwrap();
    let names: BTreeSet<&str> = peers.failed_at(&share).map(|node| node.name.as_str()).collect();
    assert_eq!((names, peers.owner(&share)), (BTreeSet::from(["a", "b"]), None));
    b.leave_alone(BTreeSet::new());
    turns(&mut [&mut b, &mut a], 3).await;
    assert_eq!((partitions(&a).len(), partitions(&b).len()), (2, 2), "it tries again later");
    assert!(b.token(&share).is_some());
}

#[tokio::test]
async fn what_all_but_one_fail_at_keeps_nobody_from_its_part_of_the_rest() {
    let (store, time) = (memory(), Time::new());
    let mut a = node(&store, "a", 4, &time).await;
    let bad = Share { role: "process".to_owned(), partition: 3 };
    a.leave_alone(BTreeSet::from([bad]));
    let mut b = node(&store, "b", 4, &time).await;
    turns(&mut [&mut a, &mut b], 4).await;
    let mut c = node(&store, "c", 4, &time).await;
    turns(&mut [&mut a, &mut b, &mut c], 6).await;
    let has_bad = |node: &Node| partitions(node).contains(&3);
    let healthy = |node: &Node| partitions(node).len() - usize::from(has_bad(node));
    assert_eq!([&a, &b, &c].map(healthy), [1, 1, 1]);
    assert!(!has_bad(&a) && (has_bad(&b) || has_bad(&c)));
}

/// A store whose next write is done and answered by nobody.
struct Mute {
    inner: MemoryStore,
    is_mute: AtomicBool,
}

#[async_trait]
impl Store for Mute {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.inner.get(tenant, table, key).await
    }
    async fn put(&self, t: TenantId, table: Table, key: &str, value: Bytes, e: Expect) -> Result<u64, StoreError> {
        let done = self.inner.put(t, table, key, value, e).await;
        match self.is_mute.swap(false, Ordering::SeqCst) {
            true => Err(StoreError::Unreachable("planted".into())),
            false => done,
        }
    }
    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        self.inner.delete(tenant, table, key, expect).await
    }
    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        self.inner.scan(tenant, table, prefix, after, limit).await
    }
}

#[tokio::test]
async fn a_write_that_nobody_answered_costs_neither_the_place_nor_a_partition() {
    let mute = Arc::new(Mute { inner: MemoryStore::new(), is_mute: AtomicBool::new(false) });
    let store: Arc<dyn Store> = mute.clone();
    let time = Time::new();
    let mut node = node(&store, "a", 1, &time).await;
    mute.is_mute.store(true, Ordering::SeqCst);
    assert!(matches!(node.beat().await, Err(LeaseError::Store(StoreError::Unreachable(_)))));
    node.beat().await.unwrap();
    node.turn().await.unwrap();
    let share = node.held().next().cloned().unwrap();
    mute.is_mute.store(true, Ordering::SeqCst);
    assert!(node.release(&share).await.is_err());
    node.release(&share).await.unwrap();
    assert_eq!(list(&*store).await.unwrap().leases[&share].owner, None);
    node.turn().await.unwrap();
    assert_eq!(partitions(&node), [0]);
}

/// What a share's work was told.
#[derive(Debug, PartialEq)]
enum Told {
    Begun(u32),
    Stopped(u32),
}

fn told(until_stopped: bool) -> (Work, mpsc::UnboundedReceiver<Told>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let work: Work = Arc::new(move |share: Share, _: Trust, mut stop: watch::Receiver<bool>| {
        let sender = sender.clone();
        async move {
            sender.send(Told::Begun(share.partition)).ok();
            if !until_stopped {
                return Ended::Overtaken;
            }
            stop.wait_for(|stop| *stop).await.ok();
            sender.send(Told::Stopped(share.partition)).ok();
            Ended::Stopped
        }
        .boxed()
    });
    (work, receiver)
}

fn quick(store: &Arc<dyn Store>, name: &str, partitions: u32) -> Joining {
    let pace = Pace { beat: Duration::from_millis(5), dead_after: Duration::from_secs(30) };
    let roles = vec![("process".to_owned(), partitions)];
    let (stall, lives) = (Arc::new(|| None::<String>), watch::Sender::new(false));
    let (store, name, elsewhere) = (store.clone(), name.to_owned(), Arc::new(|_: &Share| {}));
    Joining { store, name, roles, pace, clock: Arc::new(Instant::now), stall, elsewhere, lives }
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_drains_what_it_works_on_and_another_goes_on_with_it() {
    let store = memory();
    let (work, mut of_a) = told(true);
    let (stop, stopped) = watch::channel(false);
    let a = tokio::spawn(keep(quick(&store, "a", 2), work, stopped));
    assert!(matches!(of_a.recv().await, Some(Told::Begun(_))) && matches!(of_a.recv().await, Some(Told::Begun(_))));
    let (work, mut of_b) = told(true);
    let (_stop_b, stopped) = watch::channel(false);
    let b = tokio::spawn(keep(quick(&store, "b", 2), work, stopped));
    // The one gives up half of it for the other.
    let given = of_a.recv().await.unwrap();
    let begun = of_b.recv().await.unwrap();
    let (Told::Stopped(given), Told::Begun(begun)) = (given, begun) else { panic!("another order") };
    assert_eq!(given, begun);
    stop.send_replace(true);
    a.await.unwrap();
    assert_eq!(of_a.recv().await, Some(Told::Stopped(1 - given)));
    assert_eq!(of_b.recv().await, Some(Told::Begun(1 - given)));
    b.abort();
}

#[tokio::test]
async fn one_that_comes_when_others_have_a_little_too_much_gets_its_part() {
    let (store, mut stops) = (memory(), Vec::new());
    let mut begin = |name: &str| {
        let ((work, told), (stop, stopped)) = (told(true), watch::channel(false));
        tokio::spawn(keep(quick(&store, name, 4), work, stopped));
        stops.push(stop);
        told
    };
    let (mut a, mut b) = (begin("a"), begin("b"));
    // Two each, whatever each had in between.
    let has_two = async |store: &Arc<dyn Store>| loop {
        let peers = list(&**store).await.unwrap();
        let of = |id: &String| peers.leases.values().filter(|lease| lease.owner.as_ref() == Some(id)).count();
        if peers.nodes.len() == 2 && peers.nodes.keys().all(|id| of(id) == 2) {
            return;
        }
        tokio::task::yield_now().await;
    };
    let in_time = Duration::from_secs(60);
    tokio::time::timeout(in_time, has_two(&store)).await.unwrap();
    let mut c = begin("c");
    let begun = tokio::time::timeout(in_time, c.recv()).await.unwrap();
    assert!(matches!(begun, Some(Told::Begun(_))), "{begun:?}");
    a.close();
    b.close();
}

#[tokio::test]
async fn a_partition_that_one_cannot_work_on_goes_to_another_and_the_one_goes_on_with_the_rest() {
    let (store, in_time) = (memory(), Duration::from_secs(60));
    let (sender, mut of_a) = mpsc::unbounded_channel();
    let work: Work = Arc::new(move |share: Share, _: Trust, mut stop: watch::Receiver<bool>| {
        let sender = sender.clone();
        async move {
            sender.send(share.partition).ok();
            if share.partition == 0 {
                return Ended::Failed;
            }
            stop.wait_for(|stop| *stop).await.ok();
            Ended::Stopped
        }
        .boxed()
    });
    let (_stop_a, stopped) = watch::channel(false);
    let (gone, mut of_elsewhere) = mpsc::unbounded_channel();
    let elsewhere = Arc::new(move |share: &Share| _ = gone.send(share.partition));
    let a = tokio::spawn(keep(Joining { elsewhere, ..quick(&store, "a", 2) }, work, stopped));
    let begun = [of_a.recv().await, of_a.recv().await];
    assert!(begun.contains(&Some(0)) && begun.contains(&Some(1)), "{begun:?}");
    let (work, mut of_b) = told(true);
    let (_stop_b, stopped) = watch::channel(false);
    let b = tokio::spawn(keep(quick(&store, "b", 2), work, stopped));
    assert_eq!(tokio::time::timeout(in_time, of_b.recv()).await.unwrap(), Some(Told::Begun(0)));
    let share = |partition| Share { role: "process".to_owned(), partition };
    let has_told = async {
        loop {
            let peers = list(&*store).await.unwrap();
            let told: Vec<_> = peers.failed_at(&share(0)).map(|node| node.name.clone()).collect();
            if told == ["a"] {
                return peers;
            }
            tokio::task::yield_now().await;
        }
    };
    let peers = tokio::time::timeout(in_time, has_told).await.unwrap();
    assert_eq!(peers.owner(&share(1)).map(|node| node.name.as_str()), Some("a"));
    assert!(of_a.try_recv().is_err(), "it begins nothing again so soon");
    assert_eq!(tokio::time::timeout(in_time, of_elsewhere.recv()).await.unwrap(), Some(0));
    a.abort();
    b.abort();
}

#[tokio::test]
async fn work_that_was_overtaken_begins_again_as_long_as_the_lease_is_there() {
    let store = memory();
    let (work, mut told) = told(false);
    let (stop, stopped) = watch::channel(false);
    let keeping = tokio::spawn(keep(quick(&store, "a", 2), work, stopped));
    for _ in 0..6 {
        assert!(matches!(told.recv().await, Some(Told::Begun(_))));
    }
    stop.send_replace(true);
    keeping.await.unwrap();
    let peers = list(&*store).await.unwrap();
    assert!(peers.nodes.is_empty() && peers.leases.values().all(|lease| lease.owner.is_none()));
}
