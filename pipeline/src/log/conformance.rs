//! The suite that every log passes: each function is one behaviour and takes a log with at least two partitions a topic.
//!
//! A backend runs all of it with one line, `log_suite!(name, fixture)`; one that outlives its process also with
//! `log_reopening_suite!`.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use schemas::{Batch, BatchHeader, BatchKind, TenantId, Topic};

use super::{Durability, Log, LogError, Stored};

/// Makes one test of each behaviour of the suite. `fixture` is a future that gives a new, empty log and whatever must be
/// kept for as long as it is used, or nothing where it cannot be had.
#[macro_export]
macro_rules! log_suite {
    ($backend:ident, $fixture:expr) => {
        $crate::conformance_tests!(
            $backend,
            log,
            $fixture,
            [
                an_empty_partition_ends_at_zero,
                offsets_count_items_without_holes,
                batches_of_one_append_stand_together,
                concurrent_appends_lose_nothing_and_keep_their_order,
                an_append_of_nothing_changes_nothing,
                a_batch_without_items_is_refused,
                an_abandoned_append_is_there_whole_or_not_at_all,
                header_and_body_are_read_as_they_were_written,
                what_was_appended_is_read_at_once,
                reading_in_the_middle_of_a_batch_begins_with_that_batch,
                reading_stops_at_max_bytes_but_gives_one_batch_at_least,
                reading_in_steps_gives_every_batch_once,
                reading_at_or_behind_the_end_gives_nothing,
                partitions_and_topics_are_apart,
                waiting_ends_when_the_end_is_beyond,
                waiting_for_what_is_there_does_not_wait,
                the_log_sets_the_time_and_it_never_goes_back,
                what_is_adopted_keeps_its_time_and_its_seal,
                what_would_have_time_go_back_is_not_adopted,
                a_partition_that_is_not_there_is_named,
                everything_can_be_made_durable,
            ]
        );
    };
}

/// Makes one test of each behaviour of a log that outlives its process. `place` gives an async function that opens the same
/// log at each call, and whatever must be kept; the log before is dropped by then.
#[macro_export]
macro_rules! log_reopening_suite {
    ($backend:ident, $place:expr) => {
        $crate::conformance_tests!(
            $backend,
            log,
            $place,
            [
                everything_is_there_after_opening_again,
                offsets_and_times_go_on_after_opening_again,
                partitions_and_epochs_stay_the_same,
            ]
        );
    };
}

/// Makes a module of tests, one for each function of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($module:ident, $suite:ident, $fixture:expr, [$($behaviour:ident),* $(,)?]) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    let fixture = $crate::log::conformance::Fixture::found($fixture.await);
                    let Some((subject, _kept)) = fixture else { return };
                    $crate::$suite::conformance::$behaviour(subject).await;
                }
            )*
        }
    };
}

/// What a suite runs on, and what must be kept for as long as it does. There may be none where a server cannot be started:
/// the suite then does nothing, and whoever could not start it says so.
pub trait Fixture {
    /// What the suite takes.
    type Subject;
    /// What must be kept.
    type Kept;

    /// Both, if there are.
    fn found(self) -> Option<(Self::Subject, Self::Kept)>;
}

impl<S, K> Fixture for (S, K) {
    type Subject = S;
    type Kept = K;

    fn found(self) -> Option<(S, K)> {
        Some(self)
    }
}

impl<S, K> Fixture for Option<(S, K)> {
    type Subject = S;
    type Kept = K;

    fn found(self) -> Option<(S, K)> {
        self
    }
}

const TOPIC: Topic = Topic::Inputs;
const ALL: usize = usize::MAX;

/// A batch of `count` items for tests, told by its body.
pub fn batch(body: &str, count: u32) -> Batch {
    let header = BatchHeader {
        kind: BatchKind::Records,
        tenant: TenantId::from_bytes([7; 16]),
        subject: "crm/opportunity".into(),
        count,
        logged_at: 0,
        key_id: 0,
        trace: None,
    };
    Batch { header, body: Bytes::copy_from_slice(body.as_bytes()) }
}

async fn append(log: &dyn Log, batches: Vec<Batch>) -> Vec<u64> {
    log.append(TOPIC, 0, batches, Durability::Durable).await.expect("the append is taken")
}

async fn read(log: &dyn Log, from: u64, max_bytes: usize) -> Vec<Stored> {
    log.read(TOPIC, 0, from, max_bytes).await.expect("the partition is readable")
}

fn texts(batches: &[Stored]) -> Vec<String> {
    let text = |batch: &Stored| {
        String::from_utf8(batch.body(TOPIC, 0).expect("the body is readable").expect("there is a body").into())
    };
    batches.iter().map(|batch| text(batch).expect("the body is text")).collect()
}

/// Asserts that offsets go from 0 to the end without holes, and gives the batches.
async fn all_without_holes(log: &dyn Log) -> Vec<Stored> {
    let batches = read(log, 0, ALL).await;
    let mut next = 0;
    for batch in &batches {
        assert_eq!(batch.first, next);
        next = batch.end();
    }
    assert_eq!(log.end(TOPIC, 0).await.expect("the end is known"), next);
    batches
}

/// Nothing appended: the end is 0, nothing is read.
pub async fn an_empty_partition_ends_at_zero(log: Arc<dyn Log>) {
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            assert_eq!(log.end(topic, partition).await.expect("the end is known"), 0);
            assert!(log.read(topic, partition, 0, ALL).await.expect("the partition is readable").is_empty());
        }
    }
}

/// Offsets are 0, 1, 2, … over items, whatever the batching.
pub async fn offsets_count_items_without_holes(log: Arc<dyn Log>) {
    assert_eq!(append(&*log, vec![batch("a", 3)]).await, [0]);
    assert_eq!(append(&*log, vec![batch("b", 1), batch("c", 5)]).await, [3, 4]);
    assert_eq!(append(&*log, vec![batch("d", 1)]).await, [9]);
    assert_eq!(texts(&all_without_holes(&*log).await), ["a", "b", "c", "d"]);
    assert_eq!(log.end(TOPIC, 0).await.expect("the end is known"), 10);
}

/// No other append comes between the batches of one.
pub async fn batches_of_one_append_stand_together(log: Arc<dyn Log>) {
    let writers = (0..16).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let batches = (0..4).map(|part| batch(&format!("{writer}.{part}"), part + 1)).collect();
            let offsets = append(&*log, batches).await;
            assert_eq!(offsets, [offsets[0], offsets[0] + 1, offsets[0] + 3, offsets[0] + 6]);
        })
    });
    join_all(writers).await.into_iter().for_each(|joined| joined.expect("the writer ends"));
    for four in texts(&all_without_holes(&*log).await).chunks(4) {
        let writer = four[0].split('.').next().expect("a writer").to_owned();
        assert_eq!(four, (0..4).map(|part| format!("{writer}.{part}")).collect::<Vec<_>>());
    }
}

/// Many writers at once, durable and ordered: every append stands where its answer said, in its writer's order.
pub async fn concurrent_appends_lose_nothing_and_keep_their_order(log: Arc<dyn Log>) {
    let writers = (0..16).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for turn in 0..20 {
                let body = format!("{writer}.{turn}");
                let durability = if turn % 3 == 0 { Durability::Durable } else { Durability::Ordered };
                let taken = log.append(TOPIC, 0, vec![batch(&body, 1 + turn % 4)], durability).await;
                answered.push((taken.expect("the append is taken")[0], body));
            }
            assert!(answered.is_sorted());
            answered
        })
    });
    let answered = join_all(writers).await.into_iter().flat_map(|joined| joined.expect("the writer ends"));
    let answered: BTreeMap<u64, String> = answered.collect();
    let found = all_without_holes(&*log).await;
    let found: BTreeMap<u64, String> = found.iter().map(|batch| batch.first).zip(texts(&found)).collect();
    assert_eq!(found.len(), 320);
    assert_eq!(found, answered);
}

/// An append without batches is answered without offsets.
pub async fn an_append_of_nothing_changes_nothing(log: Arc<dyn Log>) {
    assert!(append(&*log, Vec::new()).await.is_empty());
    assert_eq!(log.end(TOPIC, 0).await.expect("the end is known"), 0);
}

/// A batch of no items would have no offset; nothing of its append is taken, and the log goes on.
pub async fn a_batch_without_items_is_refused(log: Arc<dyn Log>) {
    let refused = log.append(TOPIC, 0, vec![batch("a", 1), batch("b", 0)], Durability::Durable).await;
    assert!(matches!(refused, Err(LogError::Refused(_))));
    assert_eq!(log.end(TOPIC, 0).await.expect("the end is known"), 0);
    assert_eq!(append(&*log, vec![batch("c", 1)]).await, [0]);
}

/// Who stops waiting for an answer leaves all batches or none, and the log goes on.
pub async fn an_abandoned_append_is_there_whole_or_not_at_all(log: Arc<dyn Log>) {
    for turn in 0..20 {
        let abandoned = tokio::spawn({
            let log = log.clone();
            async move { append(&*log, vec![batch(&format!("{turn}.0"), 2), batch(&format!("{turn}.1"), 2)]).await }
        });
        if turn % 2 == 0 {
            tokio::task::yield_now().await;
        }
        abandoned.abort();
        let _ = abandoned.await;
    }
    append(&*log, vec![batch("end", 1)]).await;
    let mut texts = texts(&all_without_holes(&*log).await);
    assert_eq!(texts.pop().as_deref(), Some("end"));
    for pair in texts.chunks(2) {
        assert_eq!((pair.len(), pair[0].replace(".0", ".1")), (2, pair[1].clone()));
    }
}

/// Everything but the time comes back: kinds, tenant, subject, count, and bodies of any size and content.
pub async fn header_and_body_are_read_as_they_were_written(log: Arc<dyn Log>) {
    let noise: Vec<u8> = (0..300_000u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    let bodies = [Vec::new(), b"x".to_vec(), b"repeat ".repeat(100_000), noise];
    let kinds = [BatchKind::Records, BatchKind::Control, BatchKind::Rows, BatchKind::Decisions];
    let batches: Vec<Batch> = (bodies.into_iter().zip(kinds))
        .map(|(body, kind)| Batch {
            header: BatchHeader { kind, subject: format!("crm/{kind:?}"), ..batch("", 2).header },
            body: body.into(),
        })
        .collect();
    append(&*log, batches.clone()).await;
    for (found, written) in all_without_holes(&*log).await.iter().zip(batches) {
        let BatchHeader { logged_at, key_id, .. } = *found.header();
        assert_eq!(*found.header(), BatchHeader { logged_at, key_id, ..written.header });
        assert!(found.body(TOPIC, 0).expect("the body is readable") == Some(written.body));
    }
}

/// Once an append is answered, durable or not, it is read.
pub async fn what_was_appended_is_read_at_once(log: Arc<dyn Log>) {
    for (turn, durability) in (0..10).zip([Durability::Ordered, Durability::Durable].into_iter().cycle()) {
        let body = turn.to_string();
        let taken = log.append(TOPIC, 0, vec![batch(&body, 2)], durability).await;
        assert_eq!(texts(&read(&*log, taken.expect("the append is taken")[0], ALL).await), [body]);
    }
}

/// A batch is never given in part.
pub async fn reading_in_the_middle_of_a_batch_begins_with_that_batch(log: Arc<dyn Log>) {
    append(&*log, vec![batch("a", 10), batch("b", 10), batch("c", 1)]).await;
    for (from, first) in [(0, "a"), (1, "a"), (9, "a"), (10, "b"), (15, "b"), (19, "b"), (20, "c")] {
        assert_eq!(texts(&read(&*log, from, ALL).await)[0], first, "from {from}");
    }
}

/// The bound holds for all batches but the last of an answer.
pub async fn reading_stops_at_max_bytes_but_gives_one_batch_at_least(log: Arc<dyn Log>) {
    append(&*log, (0..10).map(|n| batch(&n.to_string().repeat(100), 1)).collect()).await;
    for tiny in [0, 1] {
        assert_eq!(read(&*log, 3, tiny).await.len(), 1);
    }
    for max_bytes in [100, 150, 250, 1000, 5000] {
        let batches = read(&*log, 0, max_bytes).await;
        let all_but_last: usize = batches.iter().rev().skip(1).map(|batch| batch.packed.packed_bytes()).sum();
        assert!(all_but_last <= max_bytes && !batches.is_empty());
        // A log may add a few bytes to each.
        assert!(batches.len() == 10 || max_bytes < 5000);
    }
}

/// Going on at the end of the last answer leaves nothing out and repeats nothing.
pub async fn reading_in_steps_gives_every_batch_once(log: Arc<dyn Log>) {
    let bodies: Vec<String> = (0..50).map(|n| format!("body {n}")).collect();
    append(&*log, bodies.iter().zip(1..).map(|(body, count)| batch(body, 1 + count % 3)).collect()).await;
    let (mut from, mut found) = (0, Vec::new());
    loop {
        let batches = read(&*log, from, 20).await;
        let Some(last) = batches.last() else { break };
        from = last.end();
        found.extend(texts(&batches));
    }
    assert_eq!(found, bodies);
}

/// The end is no error, and neither is what lies behind it.
pub async fn reading_at_or_behind_the_end_gives_nothing(log: Arc<dyn Log>) {
    append(&*log, vec![batch("a", 3)]).await;
    for from in [3, 4, u64::MAX] {
        assert!(read(&*log, from, ALL).await.is_empty());
    }
}

/// Nothing of one partition is found in another, or in that of another topic.
pub async fn partitions_and_topics_are_apart(log: Arc<dyn Log>) {
    let places = || Topic::ALL.into_iter().flat_map(|topic| (0..log.partitions(topic)).map(move |part| (topic, part)));
    for (topic, partition) in places() {
        let body = format!("{topic} {partition}");
        let taken = log.append(topic, partition, vec![batch(&body, partition + 1)], Durability::Ordered).await;
        assert_eq!(taken.expect("the append is taken"), [0]);
    }
    for (topic, partition) in places() {
        let found = log.read(topic, partition, 0, ALL).await.expect("the partition is readable");
        assert_eq!(texts(&found), [format!("{topic} {partition}")]);
        assert_eq!(log.end(topic, partition).await.expect("the end is known"), u64::from(partition) + 1);
    }
}

/// A waiter is woken by the append that passes its offset, not by one before or elsewhere.
pub async fn waiting_ends_when_the_end_is_beyond(log: Arc<dyn Log>) {
    let waiting = tokio::spawn({
        let log = log.clone();
        async move {
            log.wait_beyond(TOPIC, 0, 4).await.expect("the wait ends");
            log.end(TOPIC, 0).await.expect("the end is known")
        }
    });
    append(&*log, vec![batch("a", 4)]).await;
    log.append(TOPIC, 1, vec![batch("elsewhere", 9)], Durability::Durable).await.expect("the append is taken");
    assert!(!waiting.is_finished());
    append(&*log, vec![batch("b", 1)]).await;
    assert_eq!(waiting.await.expect("the waiter ends"), 5);
}

/// What is there already is not waited for.
pub async fn waiting_for_what_is_there_does_not_wait(log: Arc<dyn Log>) {
    append(&*log, vec![batch("a", 4)]).await;
    for offset in [0, 3] {
        log.wait_beyond(TOPIC, 0, offset).await.expect("the wait ends");
    }
}

/// Whatever the caller wrote there, `logged_at` is the log's, and rises with the offset.
pub async fn the_log_sets_the_time_and_it_never_goes_back(log: Arc<dyn Log>) {
    let writers = (0..8).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                let mut wrong = batch("a", 1);
                wrong.header.logged_at = if writer % 2 == 0 { i64::MAX } else { i64::MIN };
                append(&*log, vec![wrong]).await;
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|joined| joined.expect("the writer ends"));
    let times: Vec<i64> = all_without_holes(&*log).await.iter().map(|batch| batch.header().logged_at).collect();
    assert!(times.is_sorted());
    const YEAR_2024: i64 = 1_704_067_200_000_000;
    assert!(times[0] > YEAR_2024 && times[79] < i64::MAX);
}

fn of_another_log(body: &str, count: u32, logged_at: i64) -> Batch {
    let mut batch = batch(body, count);
    batch.header.logged_at = logged_at;
    batch
}

async fn adopt(log: &dyn Log, batches: Vec<Batch>) -> Result<Vec<u64>, LogError> {
    log.adopt(TOPIC, 0, batches).await
}

/// Batches of another log stand here as they stood there, whoever looks and whatever comes behind them.
pub async fn what_is_adopted_keeps_its_time_and_its_seal(log: Arc<dyn Log>) {
    let mut sealed = of_another_log("sealed by somebody", 2, 1_000_007);
    sealed.header.key_id = 1;
    let theirs = [of_another_log("a", 3, 1_000_001), sealed, of_another_log("b", 1, 1_000_007)];
    assert_eq!(adopt(&*log, theirs[..2].to_vec()).await.expect("they are taken"), [0, 3]);
    assert_eq!(adopt(&*log, theirs[2..].to_vec()).await.expect("they are taken"), [5]);
    assert!(adopt(&*log, Vec::new()).await.expect("nothing is taken").is_empty());
    assert_eq!(append(&*log, vec![batch("own", 1)]).await, [6]);
    log.sync().await.expect("the sync is done");
    let found = all_without_holes(&*log).await;
    let lying: Vec<Batch> = found.iter().map(|b| b.as_it_lies(TOPIC, 0).expect("it is readable")).collect();
    assert_eq!(lying[..3], theirs);
    assert!(lying[3].header.logged_at > 1_000_007, "the log's own time goes on");
}

/// Times of a partition rise, also of what is adopted: nothing of such an append is taken.
pub async fn what_would_have_time_go_back_is_not_adopted(log: Arc<dyn Log>) {
    let refused = adopt(&*log, vec![of_another_log("a", 1, 9), of_another_log("b", 1, 8)]).await;
    assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    append(&*log, vec![batch("own", 1)]).await;
    let refused = adopt(&*log, vec![of_another_log("a", 1, 9)]).await;
    assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    assert!(matches!(adopt(&*log, vec![of_another_log("a", 0, i64::MAX)]).await, Err(LogError::Refused(_))));
    assert_eq!(log.end(TOPIC, 0).await.expect("the end is known"), 1);
}

/// Every method names the partition that is not there.
pub async fn a_partition_that_is_not_there_is_named(log: Arc<dyn Log>) {
    let partitions = log.partitions(TOPIC);
    let errors = [
        log.append(TOPIC, partitions, vec![batch("a", 1)], Durability::Durable).await.map(|_| ()),
        log.read(TOPIC, partitions, 0, ALL).await.map(|_| ()),
        log.end(TOPIC, partitions).await.map(|_| ()),
        log.wait_beyond(TOPIC, partitions, 0).await,
    ];
    for error in errors {
        let Err(LogError::NoPartition { topic, partition, partitions: there }) = error else {
            panic!("expected no partition, found {error:?}");
        };
        assert_eq!((topic, partition, there), (TOPIC, partitions, partitions));
    }
}

/// `sync` is answered with something to do and with nothing, and moves no end.
pub async fn everything_can_be_made_durable(log: Arc<dyn Log>) {
    log.sync().await.expect("the sync is done");
    for turn in 0..3 {
        let taken = log.append(TOPIC, 0, vec![batch("a", 1)], Durability::Ordered).await.expect("the append is taken");
        assert_eq!(taken, [turn]);
        for _ in 0..2 {
            log.sync().await.expect("the sync is done");
            assert_eq!(texts(&all_without_holes(&*log).await).len() as u64, turn + 1);
        }
    }
}

/// Closing and opening loses nothing, of `Durable` and of `Ordered`.
pub async fn everything_is_there_after_opening_again<F: Future<Output = Arc<dyn Log>>>(open: impl Fn() -> F) {
    let mut written = Vec::new();
    for turn in 0..5 {
        let log = open().await;
        assert_eq!(texts(&all_without_holes(&*log).await), written);
        for durability in [Durability::Durable, Durability::Ordered] {
            let body = format!("{turn} {durability:?} {}", "long enough to be packed ".repeat(1000));
            log.append(TOPIC, 0, vec![batch(&body, turn + 1)], durability).await.expect("the append is taken");
            written.push(body);
        }
    }
}

/// Offsets and times of a partition know nothing of openings.
pub async fn offsets_and_times_go_on_after_opening_again<F: Future<Output = Arc<dyn Log>>>(open: impl Fn() -> F) {
    for turn in 0..3 {
        let log = open().await;
        assert_eq!(append(&*log, vec![batch("a", 7)]).await, [turn * 7]);
        log.wait_beyond(TOPIC, 0, turn * 7 + 6).await.expect("the wait ends");
    }
    let batches = all_without_holes(&*open().await).await;
    assert!(batches.iter().map(|batch| batch.header().logged_at).is_sorted());
}

/// What a topic is made with, it keeps.
pub async fn partitions_and_epochs_stay_the_same<F: Future<Output = Arc<dyn Log>>>(open: impl Fn() -> F) {
    let facts = |log: Arc<dyn Log>| Topic::ALL.map(|topic| (log.partitions(topic), log.epoch(topic)));
    let made_with = facts(open().await);
    assert_eq!(facts(open().await), made_with);
}
