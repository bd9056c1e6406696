//! The processor: its limits, and what it is after crashes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use schemas::event::ViewControl;
use schemas::{Batch, BatchKind, Lane, Topic};
use tokio::sync::watch;

use super::*;
use crate::log::MemoryLog;
use crate::step::{CURSOR_BYTES_MAX, LaneState, StreamState};
use crate::store::{Expect, Table};
use crate::testing::{ENTITY, Fuse, Fused, Line, MAPPING, TENANT, record, stream};

async fn state(line: &Line) -> StreamState {
    read_state(&*line.store, &stream("orders")).await.unwrap().unwrap()
}

fn small(id: u64, more: &str) -> String {
    format!(r#"{{"Id":"{id}","Updated":"2024-01-01",{more}}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_of_any_number_of_new_paths_are_cut_into_batches_that_the_log_takes() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let name = "n".repeat(1000);
    let payload = |id: u64| {
        let leaves: Vec<String> = (0..240).map(|leaf| format!(r#""p{id}_{leaf}":1"#)).collect();
        small(id, &format!(r#""{name}":{{"{name}":{{"{name}":{{{}}}}}}}"#, leaves.join(",")))
    };
    let payloads: Vec<String> = (0..40).map(payload).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    line.append(&open, 1, 0, &payloads).await;
    line.process().await;
    assert_eq!(state(&line).await.counters.accepted, 40);
    let batches = line.all(Topic::Decisions, BatchKind::Decisions).await;
    let sizes: Vec<_> = batches.iter().map(|b| b.body(Topic::Decisions, 0).unwrap().unwrap().len()).collect();
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size < 20 << 20), "{sizes:?}");
    let shapes = line.facts().await.iter().filter(|(_, fact)| *fact == "ShapeObserved").count();
    assert_eq!(shapes, 40 * 240 + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_paths_would_fill_a_disk_is_quarantined_and_the_partition_goes_on() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let name = "n".repeat(1000);
    let deep = |depth: usize, inner: &str| {
        small(1, &format!("{}{inner}{}", format!(r#""{name}":{{"#).repeat(depth), "}".repeat(depth)))
    };
    let leaves: Vec<String> = (0..9_000).map(|leaf| format!(r#""p{leaf}":1"#)).collect();
    let long = deep(100, r#""x":1"#);
    let many = deep(3, &leaves.join(","));
    line.append(&open, 1, 0, &[&long, &many, &record(2)]).await;
    line.process().await;
    let counters = state(&line).await.counters;
    assert_eq!((counters.quarantined, counters.accepted), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_grow_when_they_are_written_do_not_make_a_snapshot_too_large() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let ugly = r"\u0001".repeat(165);
    for id in 0..10 {
        let fields: Vec<String> = (0..1000).map(|n| format!(r#""{ugly}{id}_{n}":1"#)).collect();
        line.append(&open, 1, id, &[&small(id, &fields.join(","))]).await;
    }
    line.append(&open, 1, 10, &[&record(99)]).await;
    let mut processor = line.process().await;
    let counters = state(&line).await.counters;
    assert!(counters.quarantined >= 1, "the shape is full: {counters:?}");
    assert!(counters.accepted >= 6, "{counters:?}");
    let row = line.store.get(TENANT, Table::StreamStates, "crm/orders").await.unwrap().unwrap();
    assert!(row.value.len() > 6 << 20 && row.value.len() < 12 << 20, "{} bytes", row.value.len());
    line.append(&open, 1, 11, &[&record(100)]).await;
    processor.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_grow_when_they_are_written_do_not_make_a_snapshot_too_large() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let all = |value: String| (0..1_900).map(|n| format!(r#""p{n}":{value}"#)).collect::<Vec<_>>().join(",");
    // Of each path as many samples as are kept, of control characters alone, and as many buckets of numbers.
    let ugly = |id: u64| format!(r#""{}{id}""#, r"\u0001".repeat(50));
    // A number that is so long is no sample.
    let numbers = |id: u64| format!("{}.{}e{}", 100 + 37 * (id % 25), "0".repeat(48), id / 25);
    let values = (0..30).map(ugly).chain((0..100).map(numbers));
    for (id, value) in (0..).zip(values) {
        line.append(&open, 1, id, &[&small(id, &all(value))]).await;
    }
    let name = r"\u0001".repeat(165);
    for id in 130..140 {
        let fields: Vec<String> = (0..1000).map(|n| format!(r#""{name}{}_{n}":1"#, id % 10)).collect();
        line.append(&open, 1, id, &[&small(id, &fields.join(","))]).await;
    }
    let mut processor = line.process().await;
    let counters = state(&line).await.counters;
    assert!(counters.accepted >= 135, "{counters:?}");
    let row = line.store.get(TENANT, Table::StreamStates, "crm/orders").await.unwrap().unwrap();
    assert!(row.value.len() > 9 << 20 && row.value.len() < 15 << 20, "{} bytes", row.value.len());
    line.append(&open, 1, 140, &[&record(100)]).await;
    processor.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_cut_into_batches_and_a_row_that_is_too_large_by_itself_is_quarantined() {
    let fields: Vec<String> = (0..12).map(|n| format!(r#"{{"name":"f{n}","type":"text"}}"#)).collect();
    let entity = format!(r#"{{"entity":"order","table":"orders","fields":[{}]}}"#, fields.join(","));
    let rules: Vec<String> = (0..12).map(|n| format!(r#""f{n}":"Text""#)).collect();
    let mapping = format!(r#"{{"entity":"order","key":"Id","version":"none","fields":{{{}}}}}"#, rules.join(","));
    let line = Line::new();
    let open = line.open("orders", &mapping, &entity).await;
    let text = |bytes: usize| small(1, &format!(r#""Text":"{}""#, "t".repeat(bytes)));
    let (large, medium) = (text(4 << 20), text(1 << 20));
    let payloads: Vec<&str> = std::iter::once(&*large).chain(std::iter::repeat_n(&*medium, 10)).collect();
    line.append(&open, 1, 0, &payloads).await;
    line.process().await;
    let counters = state(&line).await.counters;
    assert_eq!((counters.quarantined, counters.accepted), (1, 10));
    let batches = line.all(Topic::Events, BatchKind::Rows).await;
    assert!(batches.len() > 5, "120 MiB of rows in {} batches", batches.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_ever_read_is_known_though_the_snapshot_has_only_the_last_ones() {
    const LANES: u128 = 300;
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    for lane in 0..LANES {
        line.append(&open, lane, 0, &[&record(lane as u64), &record(1000 + lane as u64)]).await;
        if lane % 50 == 0 {
            line.process().await;
        }
    }
    line.process().await;
    line.append(&open, 0, 2, &[&record(1)]).await;
    line.process().await;
    let row = line.store.get(TENANT, Table::StreamStates, "crm/orders").await.unwrap().unwrap();
    let snapshot = StreamState::from_snapshot(&row.value).unwrap();
    assert!(snapshot.lanes.len() <= 66, "{} lanes", snapshot.lanes.len());
    let all = state(&line).await;
    assert_eq!(all.lanes.len(), LANES as usize);
    assert_eq!(all.lanes[&Lane(7)].cursor, b"behind 2");
    for lane in (0..LANES).rev() {
        let first = record(lane as u64);
        line.append(&open, lane, 0, &[&first]).await;
    }
    line.process().await;
    let counters = state(&line).await.counters;
    assert_eq!(counters.duplicate, LANES as u64, "every lane is still known");
    assert_eq!(state(&line).await.lanes[&Lane(0)].ordinal, 3, "an old batch moves neither ordinal nor cursor");
    assert_eq!(state(&line).await.lanes[&Lane(0)].cursor, b"behind 3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_is_too_long_is_not_kept() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let mut writer = schemas::record::RecordBatchWriter::new(Lane(1), 0, 0);
    let (op, version, payload) = (schemas::Op::Upsert, schemas::Version::None, record(1));
    let payload = payload.as_bytes();
    writer.push(&schemas::Record { ordinal: 1, op, key: None, version, defect: None, payload });
    line.ingest().append(&open, writer.finish(&vec![b'c'; CURSOR_BYTES_MAX + 1])).await.unwrap();
    line.process().await;
    let lane = state(&line).await.lanes[&Lane(1)].clone();
    assert_eq!((lane.ordinal, lane.cursor.len()), (1, 0));
}

/// Some streams, many lanes, repeated and broken records.
async fn busy_line() -> Line {
    let line = Line::new();
    for name in ["orders", "bills"] {
        let open = line.open(name, MAPPING, ENTITY).await;
        for lane in 0..90 {
            line.append(&open, lane, 0, &[&record(lane as u64), "broken"]).await;
        }
        for lane in 0..90 {
            line.append(&open, lane, 1, &[&record(500), &record(600 + lane as u64)]).await;
        }
    }
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_processor_dies_the_next_one_gives_the_same_events_and_counters() {
    let whole = busy_line().await;
    whole.process().await;
    let (hash, expected) = (whole.row_hash().await, state(&whole).await);
    let mut writes = 0;
    loop {
        let line = busy_line().await;
        let fuse = Fuse::crash(writes);
        let log = Arc::new(Fused { fuse: fuse.clone(), inner: line.log.clone() });
        let store = Arc::new(Fused { fuse: fuse.clone(), inner: line.store.clone() });
        let first = Processor::start(log, store, 0).await.unwrap().0.drain().await;
        line.process().await;
        let found = state(&line).await;
        assert_eq!(line.row_hash().await, hash, "it died at write {writes}");
        assert_eq!((found.counters, &found.lanes), (expected.counters, &expected.lanes), "it died at write {writes}");
        if !fuse.has_blown() {
            assert!(first.is_ok() && writes > 30, "{writes} writes");
            return;
        }
        assert!(first.is_err());
        writes += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_for() {
    for writes in [0, 2, 4, 5] {
        let line = busy_line().await;
        let end = line.log.end(Topic::Inputs, 0).await.unwrap();
        let fuse = Fuse::new(writes, true, StoreError::DiskFull);
        let log = Arc::new(Fused { fuse: fuse.clone(), inner: line.log.clone() });
        let store = Arc::new(Fused { fuse: fuse.clone(), inner: line.store.clone() });
        let (processor, mut processed) = Processor::start(log, store, 0).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(processor.run(stopped));
        processed.wait(end).await.unwrap();
        stop.send_replace(true);
        running.await.unwrap().unwrap();
        assert!(fuse.has_blown());
        assert_eq!(state(&line).await.counters.accepted, 180);
    }
}

/// A log whose servers are away for as long as a test says.
struct Away {
    inner: Arc<MemoryLog>,
    is_away: AtomicBool,
    refused: AtomicU64,
}

impl Away {
    fn check(&self) -> Result<(), LogError> {
        if !self.is_away.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(LogError::Unreachable("planted".into()))
    }
}

#[async_trait]
impl Log for Away {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }
    fn epoch(&self, topic: Topic) -> u32 {
        self.inner.epoch(topic)
    }
    async fn append(&self, t: Topic, p: u32, batches: Vec<Batch>, d: Durability) -> Result<Vec<u64>, LogError> {
        self.check()?;
        self.inner.append(t, p, batches, d).await
    }
    async fn read(&self, topic: Topic, partition: u32, from: u64, max: usize) -> Result<Vec<Stored>, LogError> {
        self.check()?;
        self.inner.read(topic, partition, from, max).await
    }
    async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError> {
        self.check()?;
        self.inner.end(topic, partition).await
    }
    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        self.inner.wait_beyond(topic, partition, offset).await
    }
    async fn sync(&self) -> Result<(), LogError> {
        self.inner.sync().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_away_is_waited_for_however_often_it_is_asked_and_stops_nobody_from_ending() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    drop(line.process().await);
    let log = Arc::new(Away { inner: line.log.clone(), is_away: AtomicBool::new(false), refused: AtomicU64::new(0) });
    let (processor, mut processed) = Processor::start(log.clone(), line.store.clone(), 0).await.unwrap();
    let mut stall = processor.stall();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(processor.run(stopped));
    log.is_away.store(true, Ordering::SeqCst);
    line.append(&open, 1, 0, &[&record(1)]).await;
    // Once by reading, then by asking where it ends.
    while log.refused.load(Ordering::SeqCst) < 3 {
        stall.changed().await.unwrap();
    }
    log.is_away.store(false, Ordering::SeqCst);
    processed.wait(line.log.end(Topic::Inputs, 0).await.unwrap()).await.unwrap();
    assert_eq!(state(&line).await.counters.accepted, 1);
    let before = log.refused.load(Ordering::SeqCst);
    log.is_away.store(true, Ordering::SeqCst);
    line.append(&open, 1, 1, &[&record(2)]).await;
    while log.refused.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processors_the_stale_one_stops() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    line.append(&open, 1, 0, &[&record(1)]).await;
    let mut stale = line.process().await;
    line.append(&open, 1, 1, &[&record(2)]).await;
    line.process().await;
    line.append(&open, 1, 2, &[&record(3)]).await;
    let refused = stale.drain().await;
    assert!(matches!(refused, Err(ProcessError::Overtaken(_))), "{refused:?}");
    line.process().await;
    assert_eq!(state(&line).await.counters.accepted, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_stale_processor_among_those_of_its_successor_change_nothing_for_readers() {
    let (line, calm) = (busy_line().await, busy_line().await);
    let more = async |lane: u128| {
        for line in [&line, &calm] {
            let open = line.open("orders", MAPPING, ENTITY).await;
            line.append(&open, lane, 0, &[&record(7_000), "broken", &record(8_000 + lane as u64)]).await;
        }
    };
    let mut stale = line.process().await;
    more(770).await;
    let mut heir = line.process().await;
    let before = line.log.end(Topic::Events, 0).await.unwrap();
    let refused = stale.drain().await.unwrap_err();
    assert!(refused.is_overtaken() && !refused.is_retryable(), "{refused}");
    assert!(line.log.end(Topic::Events, 0).await.unwrap() > before, "its run stands there, too");
    more(771).await;
    // It starts again from its checkpoint, as one whose lease is still there does.
    let (_stop, mut stopped) = watch::channel(false);
    assert!(stale.start_over(refused, &mut stopped).await.unwrap());
    stale.drain().await.unwrap();
    assert!(heir.drain().await.unwrap_err().is_overtaken());
    calm.process().await;
    assert_eq!(line.row_hash().await, calm.row_hash().await);
    assert_eq!(state(&line).await.counters, state(&calm).await.counters);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_makes_nothing_of_a_lane_that_another_has_read_further() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    line.append(&open, 1, 0, &[&record(1)]).await;
    let mut behind = line.process().await;
    let before = line.log.end(Topic::Events, 0).await.unwrap();
    line.append(&open, 5, 0, &[&record(2)]).await;
    let at = line.log.end(Topic::Inputs, 0).await.unwrap() - 1;
    let place = LaneState { ordinal: 1, cursor: b"behind 1".to_vec(), at };
    let (key, value) = (format!("crm/orders/{}", Lane(5)), serde_json::to_vec(&place).unwrap());
    line.store.put(TENANT, Table::Lanes, &key, value.into(), Expect::Absent).await.unwrap();
    assert!(behind.drain().await.unwrap_err().is_overtaken());
    assert_eq!(line.log.end(Topic::Events, 0).await.unwrap(), before, "nothing was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_went_back_stops_the_processor_with_a_remedy() {
    let line = busy_line().await;
    line.process().await;
    let emptied = Line { log: Line::new().log, store: line.store.clone() };
    let refused = Processor::start(emptied.log.clone(), emptied.store.clone(), 0).await;
    let message = refused.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("the log went back; restore log and store from one backup"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_of_many_streams_stay_within_their_budget() {
    let line = Line::new();
    let names: Vec<String> = (0..30).map(|n| format!("orders_{n}")).collect();
    let mut open = Vec::new();
    for name in &names {
        open.push(line.open(name, MAPPING, ENTITY).await);
    }
    let mut processor = line.processor().await;
    processor.states.set_budget(10 * 6 * 1000);
    for turn in 0..3 {
        for open in &open {
            line.append(open, 1, turn, &[&record(turn)]).await;
            processor.drain().await.unwrap();
            assert!((1..25).contains(&processor.states.len()), "{} states", processor.states.len());
        }
    }
    for name in &names {
        let state = read_state(&*line.store, &stream(name)).await.unwrap().unwrap();
        assert_eq!(state.counters.accepted, 3);
    }
}

async fn told(line: &Line) -> Vec<u64> {
    let controls = line.all(Topic::Events, BatchKind::ViewControl).await;
    let read = |stored: &Stored| serde_json::from_slice(&stored.body(Topic::Events, 0).unwrap().unwrap()).unwrap();
    let place = |control| match control {
        ViewControl::Progress { input } => Some(input.offset),
        ViewControl::EntityDefined { .. } => None,
    };
    controls.iter().map(read).filter_map(place).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_at_once_then_seldom_and_at_last() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let mut processor = line.process().await;
    assert_eq!(told(&line).await, [3]);
    processor.progress.interval = Duration::from_secs(3600);
    for turn in 0..5 {
        line.append(&open, 1, turn, &["broken"]).await;
        processor.drain().await.unwrap();
    }
    assert_eq!(told(&line).await, [3], "not before its time is over");
    processor.progress.interval = Duration::ZERO;
    let end = line.log.end(Topic::Events, 0).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(processor.run(stopped));
    let wait = line.log.wait_beyond(Topic::Events, 0, end);
    tokio::time::timeout(Duration::from_secs(600), wait).await.unwrap().unwrap();
    assert_eq!(told(&line).await, [3, 8], "though no input gave an event");
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    line.process().await;
    assert_eq!(told(&line).await, [3, 8], "what was told is not told again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_told_when_a_processor_stops_is_told_then() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let mut processor = line.process().await;
    line.append(&open, 1, 0, &[&record(1)]).await;
    processor.drain().await.unwrap();
    let (_stop, stopped) = watch::channel(true);
    processor.run(stopped).await.unwrap();
    assert_eq!(told(&line).await, [3, 4]);
}
