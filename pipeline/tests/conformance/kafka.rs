//! The log on a real broker: what the suites take, and what only a broker can do to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use pipeline::log::conformance::batch;
use pipeline::log::kafka::{KafkaLog, Mechanism, OpenError, Sasl, Settings, Tls};
use pipeline::migrate::{MigrateError, Place, migrate};
use pipeline::{Durability, Log, LogError, MemoryLog, MemoryStore, Stored};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use schemas::{Batch, Topic};

use crate::services::kafka::{Kafka, USER};

const ALL: usize = usize::MAX;
/// Settings that a topic of ours needs and a broker does not give it by itself.
const OURS: [(&str, &str); 3] =
    [("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "83886080")];

const UNCLEAN: (&str, &str) = ("unclean.leader.election.enable", "true");

async fn open(settings: &Settings) -> KafkaLog {
    KafkaLog::open(settings.clone()).await.expect("the log opens")
}

pub async fn new_log() -> Option<(Arc<dyn Log>, ())> {
    let settings = Kafka::shared()?.settings();
    Some((Arc::new(open(&settings).await), ()))
}

pub async fn log_place() -> Option<(impl Fn() -> BoxFuture<'static, Arc<dyn Log>>, ())> {
    let settings = Kafka::shared()?.settings();
    let place = move || {
        let settings = settings.clone();
        async move { Arc::new(open(&settings).await) as Arc<dyn Log> }.boxed()
    };
    Some((place, ()))
}

fn client(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &settings.brokers);
    config
}

fn admin(settings: &Settings) -> AdminClient<DefaultClientContext> {
    client(settings).create().expect("the client is made")
}

/// Somebody else's message on a topic of ours.
fn send_foreign(settings: &Settings, topic: &str, headers: OwnedHeaders, value: &[u8]) {
    let producer: BaseProducer = client(settings).create().expect("the client is made");
    let name = format!("{}{topic}", settings.topic_prefix);
    let record = BaseRecord::to(&name).partition(0).key("k").payload(value).headers(headers);
    producer.send(record).map_err(|(e, _)| e).expect("the message is queued");
    producer.flush(WITHIN).expect("the message is sent");
}

/// Nothing is waited for so long that comes at all.
const WITHIN: Duration = Duration::from_secs(300);

/// Somebody else's message on a topic of ours, in a transaction that is open.
fn begin_transaction(settings: &Settings, name: &str) -> BaseProducer {
    let mut config = client(settings);
    config.set("transactional.id", name).set("transaction.timeout.ms", "600000");
    let producer: BaseProducer = config.create().expect("the client is made");
    producer.init_transactions(WITHIN).expect("the broker answers");
    producer.begin_transaction().expect("a transaction begins");
    let record = BaseRecord::to(name).partition(0).key("k").payload("theirs");
    producer.send(record).map_err(|(e, _)| e).expect("the message is queued");
    producer.flush(WITHIN).expect("the message is sent");
    producer
}

/// The same, ended: the end is one more message, which readers are not given.
fn send_in_transaction(settings: &Settings, topic: &str, is_committed: bool) {
    let name = format!("{}{topic}", settings.topic_prefix);
    let producer = begin_transaction(settings, &name);
    let consumer: BaseConsumer = client(settings).create().expect("the client is made");
    let behind = || consumer.fetch_watermarks(&name, 0, WITHIN).expect("the broker answers").1;
    let before = behind();
    let ended = if is_committed { producer.commit_transaction(WITHIN) } else { producer.abort_transaction(WITHIN) };
    ended.expect("the transaction ends");
    // The broker writes the end down after it has answered.
    while behind() == before {
        std::thread::yield_now();
    }
}

async fn make_topic(settings: &Settings, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in config {
        topic = topic.set(key, value);
    }
    let made = admin(settings).create_topics([&topic], &AdminOptions::new()).await.expect("the broker answers");
    made.into_iter().for_each(|result| drop(result.expect("the topic is made")));
    // The broker answers before it knows of the topic itself.
    let consumer: BaseConsumer = client(settings).create().expect("the client is made");
    let is_there = || {
        let told = consumer.fetch_metadata(Some(name), WITHIN).expect("the broker answers");
        told.topics().iter().any(|topic| {
            let has_all = i32::try_from(topic.partitions().len()) == Ok(partitions);
            topic.error().is_none() && has_all && topic.partitions().iter().all(|partition| partition.leader() >= 0)
        })
    };
    while !is_there() {
        tokio::task::yield_now().await;
    }
}

/// Removes a topic, and waits until the broker says so.
async fn remove_topic(settings: &Settings, name: &str) {
    let gone = admin(settings).delete_topics(&[name], &AdminOptions::new()).await.expect("the broker answers");
    gone.into_iter().for_each(|result| drop(result.expect("the topic is removed")));
    let consumer: BaseConsumer = client(settings).create().expect("the client is made");
    let is_there = || {
        let found = consumer.fetch_metadata(Some(name), WITHIN).expect("the broker answers");
        found.topics().iter().any(|topic| topic.name() == name && topic.error().is_none())
    };
    while is_there() {
        tokio::task::yield_now().await;
    }
}

/// Opens a log one of whose topics was just removed: for a moment the broker may still be busy with that.
async fn open_again(settings: &Settings) -> KafkaLog {
    loop {
        match KafkaLog::open(settings.clone()).await {
            Ok(again) => return again,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Has `inputs` begin with an epoch, as a process that was cut off behind its first words.
async fn begin_inputs(settings: &Settings, epoch: u32) {
    make_topic(settings, &format!("{}inputs", settings.topic_prefix), 2, &OURS).await;
    let headers = OwnedHeaders::new().insert(Header { key: "ce_type", value: Some("autonomos.TopicOpened.v1") });
    let words = format!(r#"{{"format":1,"topic":"inputs","epoch":{epoch},"partitions":2}}"#);
    send_foreign(settings, "inputs", headers, words.as_bytes());
}

async fn append(log: &dyn Log, body: &str, count: u32) -> u64 {
    let taken = log.append(Topic::Inputs, 0, vec![batch(body, count)], Durability::Durable).await;
    taken.expect("the append is taken")[0]
}

async fn read(log: &dyn Log, from: u64) -> Vec<Stored> {
    log.read(Topic::Inputs, 0, from, ALL).await.expect("the partition is readable")
}

async fn read_all(log: &dyn Log) -> Vec<Stored> {
    let mut found: Vec<Stored> = Vec::new();
    loop {
        let more = read(log, found.last().map_or(0, Stored::end)).await;
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn text(stored: &Stored) -> String {
    let body = stored.body(Topic::Inputs, 0).expect("the body is readable").expect("there is a body");
    String::from_utf8(body.into()).expect("the body is text")
}

/// Body, first offset and time of each batch.
fn facts(batches: &[Stored]) -> Vec<(String, u64, i64)> {
    batches.iter().map(|stored| (text(stored), stored.first, stored.header().logged_at)).collect()
}

async fn refused(settings: &Settings) -> OpenError {
    match KafkaLog::open(settings.clone()).await {
        Err(error) => error,
        Ok(_) => panic!("the log opens"),
    }
}

macro_rules! on_a_broker {
    ($($name:ident($settings:ident) $body:block)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let Some(kafka) = Kafka::shared() else { return };
            #[allow(unused_mut)]
            let mut $settings = kafka.settings();
            $body
        }
    )*};
}

#[tokio::test]
async fn a_broker_that_is_down_is_named() {
    let mut settings = Settings::at(format!("127.0.0.1:{}", crate::services::free_port()));
    settings.request_timeout_ms = 1000;
    let error = refused(&settings).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&settings.brokers), "{error}");
}

on_a_broker! {
    a_login_is_taken_and_a_wrong_one_is_told_apart_from_a_broker_that_is_down(settings) {
        let login = |password: &str| Sasl {
            mechanism: Mechanism::Plain,
            username: USER.0.to_owned(),
            password: password.to_owned().into(),
        };
        settings.brokers = Kafka::shared().expect("it runs").with_login();
        settings.sasl = Some(login("wrong"));
        let error = refused(&settings).await;
        assert!(matches!(error, OpenError::Login { .. }), "{error}");
        settings.sasl = Some(login(USER.1));
        assert_eq!(append(&open(&settings).await, "a", 1).await, 0);
    }

    tls_to_a_port_without_it_is_refused_with_a_remedy(settings) {
        settings.tls = Some(Tls::default());
        settings.request_timeout_ms = 1000;
        let error = refused(&settings).await;
        assert!(matches!(error, OpenError::Unreachable { .. }) && error.to_string().contains("TLS"), "{error}");
    }

    a_topic_that_is_not_there_is_named_with_the_command_that_makes_it(settings) {
        settings.create_topics = false;
        let error = refused(&settings).await;
        let OpenError::MissingTopic { topic, command } = error else { panic!("{error}") };
        assert_eq!(topic, format!("{}inputs", settings.topic_prefix));
        assert!(command.contains("--partitions 2") && command.contains("retention.ms=-1"), "{command}");
    }

    a_topic_with_too_few_partitions_is_refused(settings) {
        let name = format!("{}inputs", settings.topic_prefix);
        make_topic(&settings, &name, 1, &OURS).await;
        let error = refused(&settings).await;
        assert!(matches!(error, OpenError::TooFewPartitions { found: 1, wanted: 2, .. }), "{error}");
    }

    a_log_that_is_only_looked_at_is_not_changed_and_its_topics_can_still_be_moved_to(settings) {
        let looking = Settings { create_topics: false, begin_topics: false, ..settings.clone() };
        for topic in Topic::ALL {
            make_topic(&settings, &format!("{}{topic}", settings.topic_prefix), 2, &OURS).await;
        }
        for _ in 0..2 {
            let error = refused(&looking).await;
            assert!(matches!(error, OpenError::NotBegun { .. }), "{error}");
        }
        let moving = Settings { create_topics: false, epoch: Some(1), ..settings.clone() };
        assert_eq!(open(&moving).await.epoch(Topic::Inputs), 1);
        assert_eq!(open(&looking).await.epoch(Topic::Decisions), 1);
    }

    a_topic_that_would_forget_or_refuse_records_is_refused_with_the_command_that_mends_it(settings) {
        let name = format!("{}inputs", settings.topic_prefix);
        make_topic(&settings, &name, 2, &[("cleanup.policy", "compact"), UNCLEAN]).await;
        let error = refused(&settings).await;
        let OpenError::TopicSettings { wrong, command, .. } = error else { panic!("{error}") };
        for key in ["cleanup.policy", "retention.ms", "message.timestamp.type", "max.message.bytes", UNCLEAN.0] {
            assert!(wrong.contains(key) && command.contains(key), "{wrong} / {command}");
        }
    }

    a_topic_of_somebody_else_is_refused(settings) {
        let theirs = Settings { topic_prefix: format!("{}theirs.", settings.topic_prefix), ..settings.clone() };
        drop(open(&theirs).await);
        send_foreign(&theirs, "inputs", OwnedHeaders::new(), b"x");
        make_topic(&settings, &format!("{}inputs", settings.topic_prefix), 2, &OURS).await;
        send_foreign(&settings, "inputs", OwnedHeaders::new(), b"x");
        let error = refused(&settings).await;
        assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
        drop(open(&theirs).await);
    }

    an_append_that_is_too_large_is_refused_and_the_log_goes_on(settings) {
        settings.message_bytes_max = 66 << 20;
        let log = open(&settings).await;
        let noise = || {
            let mut bytes = vec![0; 40 << 20];
            fastrand::fill(&mut bytes);
            Batch { body: bytes.into(), ..batch("", 1) }
        };
        let taken = log.append(Topic::Inputs, 0, vec![noise(), noise()], Durability::Durable).await;
        let Err(LogError::Refused(why)) = taken else { panic!("{taken:?}") };
        assert!(why.contains("message_bytes_max"), "{why}");
        assert_eq!(append(&log, "a", 1).await, 0);
        let taken = log.append(Topic::Inputs, 0, vec![noise()], Durability::Durable).await;
        assert_eq!(taken.expect("one alone is taken"), [1]);
    }

    a_limit_that_a_batch_may_not_fit_into_is_refused_at_the_start(settings) {
        settings.message_bytes_max = 8 << 20;
        let error = refused(&settings).await;
        assert!(matches!(error, OpenError::Settings(_)) && error.to_string().contains("message_bytes_max"), "{error}");
    }

    a_limit_that_is_lowered_under_an_open_log_ends_it_with_a_remedy(settings) {
        let log = open(&settings).await;
        append(&log, "a", 1).await;
        let name = format!("{}inputs", settings.topic_prefix);
        let alter = AlterConfig::new(ResourceSpecifier::Topic(&name)).set("max.message.bytes", "1000");
        let altered = admin(&settings).alter_configs([&alter], &AdminOptions::new()).await;
        altered.expect("the broker answers")[0].as_ref().expect("the topic is altered");
        let noise: String = (0..20_000).map(|_| fastrand::alphanumeric()).collect();
        // The broker writes the limit down, and heeds it a moment later.
        let refused = async {
            loop {
                match log.append(Topic::Inputs, 0, vec![batch(&noise, 1)], Durability::Durable).await {
                    Ok(_) => tokio::task::yield_now().await,
                    Err(error) => break error,
                }
            }
        };
        let error = tokio::time::timeout(WITHIN, refused).await.expect("the limit is heeded");
        let LogError::Failed(why) = error else { panic!("{error:?}") };
        assert!(why.contains("max.message.bytes"), "{why}");
        let taken = log.append(Topic::Inputs, 0, vec![batch("b", 1)], Durability::Durable).await;
        assert!(matches!(taken, Err(LogError::Failed(_))), "it never goes past what it could not deliver: {taken:?}");
    }

    foreign_and_corrupt_messages_are_passed_over_with_their_places(settings) {
        let log = open(&settings).await;
        append(&log, "a", 2).await;
        send_foreign(&settings, "inputs", OwnedHeaders::new(), b"not ours");
        let header = |key, value| Header { key, value: Some(value) };
        let ours = OwnedHeaders::new()
            .insert(header("ce_type", "autonomos.Batches.v1"))
            .insert(header("ce_anchor", "0:0:0"))
            .insert(header("ce_lengths", "7"));
        send_foreign(&settings, "inputs", ours, b"\x01broken");
        assert_eq!(append(&log, "b", 3).await, 2);
        for log in [&log, &open(&settings).await] {
            let found = read_all(log).await;
            assert_eq!(found.iter().map(|stored| (text(stored), stored.first)).collect::<Vec<_>>(), [
                ("a".to_owned(), 0),
                ("b".to_owned(), 2)
            ]);
            let foreign = log.oddities().expect("Kafka has servers").waiting(Topic::Inputs, 0);
            let places: Vec<_> = foreign.iter().map(|foreign| (foreign.message, foreign.next)).collect();
            assert_eq!(places, [(2, 2), (3, 2)], "{foreign:?}");
        }
    }

    a_transaction_of_somebody_else_at_the_end_of_a_partition_holds_nobody_up(settings) {
        let log = open(&settings).await;
        append(&log, "a", 2).await;
        for is_committed in [true, false] {
            send_in_transaction(&settings, "inputs", is_committed);
            for log in [&log, &open(&settings).await] {
                assert_eq!(log.end(Topic::Inputs, 0).await.expect("the end is known"), 2);
                assert!(read(log, 2).await.is_empty());
                assert_eq!(facts(&read(log, 0).await).len(), 1);
            }
        }
        assert_eq!(append(&log, "b", 3).await, 2);
        send_in_transaction(&settings, "inputs", true);
        assert_eq!(append(&open(&settings).await, "c", 1).await, 5);
        for log in [&log, &open(&settings).await] {
            let found: Vec<_> = read_all(log).await.iter().map(|stored| (text(stored), stored.first)).collect();
            assert_eq!(found, [("a".to_owned(), 0), ("b".to_owned(), 2), ("c".to_owned(), 5)]);
        }
    }

    a_transaction_of_somebody_else_that_stays_open_hides_nothing(settings) {
        let log = open(&settings).await;
        append(&log, "a", 2).await;
        let _open = begin_transaction(&settings, &format!("{}inputs", settings.topic_prefix));
        assert_eq!(append(&log, "b", 3).await, 2);
        for log in [&log, &open(&settings).await] {
            assert_eq!(log.end(Topic::Inputs, 0).await.expect("the end is known"), 5);
            assert_eq!(read_all(log).await.len(), 2);
        }
        assert_eq!(append(&log, "c", 1).await, 5);
    }

    a_topic_that_has_nothing_but_a_transaction_of_somebody_else_is_refused(settings) {
        make_topic(&settings, &format!("{}inputs", settings.topic_prefix), 2, &OURS).await;
        send_in_transaction(&settings, "inputs", true);
        let error = refused(&settings).await;
        assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
    }

    a_message_of_a_newer_build_stops_its_partition_and_no_other(settings) {
        let log = open(&settings).await;
        append(&log, "a", 2).await;
        let mut newer = batch("b", 1).encode();
        // A kind that this build does not know, under the right checksum.
        newer[9] = 99;
        let checksum = xxhash_rust::xxh3::xxh3_64(&newer[9..]);
        newer[1..9].copy_from_slice(&checksum.to_be_bytes());
        let length = newer.len().to_string();
        let header = |key, value| Header { key, value: Some(value) };
        let headers = OwnedHeaders::new()
            .insert(header("ce_type", "autonomos.Batches.v1"))
            .insert(header("ce_anchor", "0:0:0"))
            .insert(header("ce_lengths", length.as_str()));
        send_foreign(&settings, "inputs", headers, &newer);
        assert_eq!(facts(&read(&log, 0).await).len(), 1, "what stands before it is read");
        let read = log.read(Topic::Inputs, 0, 2, ALL).await;
        assert!(matches!(read, Err(LogError::Unreadable { partition: 0, offset: 2, .. })), "{read:?}");
        let taken = log.append(Topic::Inputs, 0, vec![batch("c", 1)], Durability::Durable).await;
        assert!(matches!(taken, Err(LogError::Unreadable { partition: 0, offset: 2, .. })), "it takes no more: {taken:?}");
        assert!(log.damage(Topic::Inputs, 0).is_some() && log.damage(Topic::Inputs, 1).is_none());
        let taken = log.append(Topic::Inputs, 1, vec![batch("d", 1)], Durability::Durable).await;
        assert_eq!(taken.expect("other partitions go on"), [0]);
    }

    many_logs_that_append_at_once_agree_on_every_offset_and_time(settings) {
        let logs = join_all((0..3).map(|_| open(&settings))).await;
        let logs: Vec<Arc<KafkaLog>> = logs.into_iter().map(Arc::new).collect();
        let writers = (0..9).map(|writer| {
            let log = logs[writer % 3].clone();
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for turn in 0..30 {
                    let body = format!("{writer}.{turn}");
                    answered.push((append(&*log, &body, 1 + (turn % 5)).await, body));
                }
                assert!(answered.is_sorted());
                answered
            })
        });
        let answered = join_all(writers).await.into_iter().flat_map(|joined| joined.expect("the writer ends"));
        let answered: BTreeMap<u64, String> = answered.collect();
        assert_eq!(answered.len(), 270);
        let first = facts(&read_all(&*logs[0]).await);
        assert_eq!(first.iter().map(|(body, offset, _)| (*offset, body.clone())).collect::<BTreeMap<_, _>>(), answered);
        assert!(first.iter().map(|(_, _, time)| *time).is_sorted());
        for log in &logs[1..] {
            assert_eq!(facts(&read_all(&**log).await), first);
            assert_eq!(log.end(Topic::Inputs, 0).await.expect("the end is known"), 810);
        }
    }

    a_waiter_is_woken_by_an_append_of_another_process(settings) {
        let (here, there) = (Arc::new(open(&settings).await), open(&settings).await);
        append(&*here, "a", 4).await;
        let waiting = tokio::spawn({
            let here = here.clone();
            async move { here.wait_beyond(Topic::Inputs, 0, 4).await }
        });
        assert_eq!(append(&there, "b", 1).await, 4);
        waiting.await.expect("the waiter ends").expect("the wait ends");
        assert_eq!(facts(&read(&*here, 4).await)[0].0, "b");
    }

    any_item_of_a_long_partition_is_found_by_a_log_that_has_read_nothing(settings) {
        let log = Arc::new(open(&settings).await);
        let appends = (0..3000u64).map(|n| {
            let log = log.clone();
            async move { (append(&*log, &n.to_string(), 1 + (n % 7) as u32).await, n.to_string()) }
        });
        let answered: BTreeMap<u64, String> = join_all(appends).await.into_iter().collect();
        let (end, fresh) = (log.end(Topic::Inputs, 0).await.expect("the end is known"), open(&settings).await);
        for from in (0..20).map(|n| end * n / 20).chain([end - 1]) {
            let found = fresh.read(Topic::Inputs, 0, from, 1).await.expect("the partition is readable");
            let (first, body) = answered.range(..=from).next_back().expect("a batch holds it");
            assert_eq!((found[0].first, text(&found[0])), (*first, body.clone()), "item {from}");
        }
        assert_eq!(fresh.end(Topic::Inputs, 0).await.expect("the end is known"), end);
        let seen = facts(&read_all(&fresh).await);
        assert_eq!(seen.len(), 3000);
        assert_eq!(seen, facts(&read_all(&*log).await));
    }

    what_moves_here_keeps_its_places_and_times_whoever_looks_and_the_brokers_time_goes_on_behind_it(settings) {
        let theirs = MemoryLog::new(settings.partitions);
        for (topic, partition) in Topic::ALL.into_iter().flat_map(|topic| [(topic, 0), (topic, 1)]) {
            for n in 0..100 {
                let batches = vec![batch(&format!("{topic} {n}"), 1 + n % 3)];
                theirs.append(topic, partition, batches, Durability::Durable).await.expect("the append is taken");
            }
        }
        let from = Place { log: Arc::new(theirs), store: Arc::new(MemoryStore::new()) };
        let place = |log: KafkaLog| Place { log: Arc::new(log), store: Arc::new(MemoryStore::new()) };
        let refused = migrate(&from, &place(open(&settings).await), &mut |_| {}).await;
        assert!(matches!(refused, Err(MigrateError::Epoch { from: 1, .. })), "{refused:?}");

        settings.topic_prefix += "moved.";
        settings.epoch = Some(1);
        let parts = migrate(&from, &place(open(&settings).await), &mut |_| {}).await.expect("everything moves");
        settings.epoch = None;
        let moved = migrate(&from, &place(open(&settings).await), &mut |_| {}).await.expect("it is there");
        assert_eq!(moved, parts);
        let (log, there) = (open(&settings).await, facts(&read_all(&*from.log).await));
        assert_eq!(facts(&read_all(&log).await), there);
        let end = log.end(Topic::Inputs, 0).await.expect("the end is known");
        assert_eq!(append(&log, "own", 1).await, end);
        for log in [&log, &open(&settings).await] {
            let all = facts(&read_all(log).await);
            assert_eq!(all[..there.len()], there);
            assert!(all[there.len()].2 >= there[there.len() - 1].2, "{all:?}");
        }
    }

    a_start_that_was_cut_off_or_raced_ends_with_one_epoch_and_a_topic_made_again_has_another(settings) {
        begin_inputs(&settings, 7).await;
        let logs = join_all((0..3).map(|_| open(&settings))).await;
        for log in &logs {
            assert_eq!(Topic::ALL.map(|topic| log.epoch(topic)), [7; 3]);
        }
        append(&logs[0], "a", 1).await;
        drop(logs);
        remove_topic(&settings, &format!("{}events", settings.topic_prefix)).await;
        let again = open_again(&settings).await;
        assert!(again.epoch(Topic::Events) > 7);
        assert_eq!([again.epoch(Topic::Inputs), again.epoch(Topic::Decisions)], [7; 2]);
    }

    a_topic_that_is_removed_and_made_again_at_once_has_a_greater_epoch_each_time(settings) {
        let log = open(&settings).await;
        append(&log, "a", 1).await;
        let mut epochs = Topic::ALL.map(|topic| log.epoch(topic));
        drop(log);
        for n in [1, 1, 0, 2] {
            remove_topic(&settings, &format!("{}{}", settings.topic_prefix, Topic::ALL[n])).await;
            let again = open_again(&settings).await;
            let found = Topic::ALL.map(|topic| again.epoch(topic));
            assert!(found[n] > epochs[n], "{found:?} after {epochs:?}");
            epochs[n] = found[n];
            assert_eq!(found, epochs, "the others keep theirs");
            append(&again, "b", 1).await;
        }
    }

    a_topic_made_again_has_a_greater_epoch_though_the_clock_has_gone_back(settings) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        let ahead = u32::try_from(now).expect("it is before 2106") + 3600;
        begin_inputs(&settings, ahead).await;
        append(&open(&settings).await, "a", 1).await;
        for n in [1, 0] {
            remove_topic(&settings, &format!("{}{}", settings.topic_prefix, Topic::ALL[n])).await;
            let again = open_again(&settings).await;
            assert!(again.epoch(Topic::ALL[n]) > ahead);
            assert_eq!(again.epoch(Topic::Decisions), ahead);
        }
    }

    a_topic_that_was_made_again_has_another_epoch_and_who_has_it_open_is_told(settings) {
        let log = open(&settings).await;
        let epochs = Topic::ALL.map(|topic| log.epoch(topic));
        for n in 0..5 {
            append(&log, &n.to_string(), 1).await;
        }
        remove_topic(&settings, &format!("{}inputs", settings.topic_prefix)).await;
        let again = open_again(&settings).await;
        assert!(again.epoch(Topic::Inputs) > epochs[0]);
        assert_eq!([again.epoch(Topic::Events), again.epoch(Topic::Decisions)], [epochs[1], epochs[2]]);
        append(&again, "new", 1).await;
        let mut told = log.append(Topic::Inputs, 0, vec![batch("late", 1)], Durability::Durable).await.map(drop);
        if told.is_ok() {
            told = log.end(Topic::Inputs, 0).await.map(drop);
        }
        let Err(LogError::Failed(why)) = told else { panic!("{told:?}") };
        assert!(why.contains("made again"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_and_started_again_costs_time_and_nothing_else() {
    let Some(mut kafka) = Kafka::start() else { return };
    let settings = kafka.settings();
    let log = Arc::new(open(&settings).await);
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.wait_beyond(Topic::Inputs, 0, 399).await }
    });
    let writers = (0..4).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for turn in 0..100 {
                let body = format!("{writer}.{turn}");
                answered.push((append(&*log, &body, 1).await, body));
            }
            answered
        })
    });
    let writers: Vec<_> = writers.collect();
    for beyond in [40, 160, 280] {
        log.wait_beyond(Topic::Inputs, 0, beyond).await.expect("the wait ends");
        kafka.kill();
        kafka.restart();
    }
    let answered = join_all(writers).await.into_iter().flat_map(|joined| joined.expect("the writer ends"));
    let answered: BTreeMap<u64, String> = answered.collect();
    waiting.await.expect("the waiter ends").expect("the wait ends");
    for log in [&*log, &open(&settings).await] {
        let found = read_all(log).await;
        assert_eq!(found.iter().map(|stored| (stored.first, text(stored))).collect::<BTreeMap<_, _>>(), answered);
        assert_eq!(found.len(), 400, "nothing twice");
    }
}
