//! The repairer: what it sends back in, and that dying changes nothing.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use schemas::drift::{Decide, DriftKind, Move, Severity, Signal, Verdict};
use schemas::input::Command;
use schemas::{Input, TenantId, Topic};
use tokio::sync::watch;

use super::{
    Case, Deed, LOOK_AGAIN, MASKED, Mask, Origin, ROWS_MAX, Repairer, Status, list, shapes, version, versions,
};
use crate::ingest::OpenStream;
use crate::log::Log;
use crate::process::{ProcessError, Processor, read_state};
use crate::step::Counters;
use crate::store::{Expect, MemoryStore, Row, Store, StoreError, Table};
use crate::testing::{ENTITY, Fuse, Fused, Line, MAPPING, TENANT, stream};

fn payload(id: usize, name: &str) -> String {
    let second = id % 60;
    format!(r#"{{"Id":"{id}","Updated":"2024-01-01T00:00:{second:02}Z","{name}":{}.25}}"#, 1000 + id)
}

async fn feed(line: &Line, open: &OpenStream, lane: u128, ids: std::ops::Range<usize>, name: &str) {
    let payloads: Vec<String> = ids.map(|id| payload(id, name)).collect();
    line.append(open, lane, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn repairer(line: &Line) -> Repairer {
    let (stop, stopped) = watch::channel(false);
    // Dropped, it says false for ever.
    drop(stop);
    Repairer::start(line.log.clone(), line.store.clone(), 0, stopped).await.unwrap().0
}

/// Processes and repairs until nothing moves any more.
async fn settle(line: &Line) {
    loop {
        let end = line.log.end(Topic::Inputs, 0).await.unwrap();
        line.process().await;
        drain(line, &mut repairer(line).await).await;
        if line.log.end(Topic::Inputs, 0).await.unwrap() == end {
            return;
        }
    }
}

/// Has one repairer do what there is to do.
async fn drain(line: &Line, repairer: &mut Repairer) {
    let mut draining = pin!(repairer.drain());
    // What it sends may have to be processed before it goes on.
    loop {
        tokio::select! {
            biased;
            drained = &mut draining => break drained.unwrap(),
            () = tokio::task::yield_now() => drop(line.process().await),
        }
    }
}

async fn counters(line: &Line) -> Counters {
    read_state(&*line.store, &stream("orders")).await.unwrap().unwrap().counters
}

async fn cases(line: &Line) -> Vec<Case> {
    list(&*line.store, TENANT, None, None, 100).await.unwrap().into_iter().map(|(_, case)| case).collect()
}

fn renamed(from: &str, to: &str) -> Move {
    Move {
        from: from.into(),
        to: vec![to.into()],
        kind: DriftKind::Renamed,
        confidence: 0,
        part: None,
        change: None,
        transform: None,
        signals: vec![],
    }
}

async fn decide(line: &Line, id: &str, verdict: Verdict) {
    decide_of(line, 0, id, verdict).await;
}

async fn decide_of(line: &Line, at: usize, id: &str, verdict: Verdict) {
    let case = cases(line).await.remove(at);
    let (offset, mapping_version) = (case.position.offset, case.mapping_version);
    let decide = Decide {
        case: offset,
        mapping_version,
        version: None,
        once_read: true,
        verdict,
        by: "ada".into(),
        why: "seen".into(),
    };
    let input = Input::Command { id: id.into(), command: Command::Decide(decide) };
    let open = OpenStream { id: stream("orders"), partition: 0 };
    line.ingest().send(&open, &[input]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_rename_is_repaired_by_itself_and_every_record_gets_its_row() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..200, "TotalAmount").await;
    settle(&line).await;
    let found = cases(&line).await;
    assert_eq!(found.len(), 1);
    let case = &found[0];
    assert_eq!((case.status, case.decided[0].by.as_str()), (Status::Repaired, "rules"), "{case:?}");
    assert_eq!((case.held, case.redriven), (100, 100), "the repairer had its turn when all were held");
    assert_eq!(case.moves[0].to, ["TotalAmount"]);
    let counters = counters(&line).await;
    assert_eq!((counters.taken, counters.accepted, counters.held), (200, 200, 0));
    assert!(line.values().await.iter().all(Option::is_some), "none is blank");
    feed(&line, &open, 3, 200..220, "TotalAmount").await;
    settle(&line).await;
    assert_eq!(counters_of(&line).await, (220, 220));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stale_repairer_does_again_changes_nothing_and_it_learns_that_it_is_stale() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..200, "TotalAmount").await;
    let mut stale = repairer(&line).await;
    settle(&line).await;
    let (before, rows) = (cases(&line).await, line.visible().await);
    let refused = stale.drain().await.unwrap_err();
    assert!(refused.is_overtaken(), "{refused}");
    settle(&line).await;
    assert_eq!(cases(&line).await, before);
    assert_eq!((line.visible().await, counters_of(&line).await), (rows, (200, 200)));
}

/// A store in which another writes a case between the look at it and the next write.
struct Raced {
    inner: Arc<MemoryStore>,
    is_due: AtomicBool,
}

#[async_trait]
impl Store for Raced {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.inner.get(tenant, table, key).await
    }
    async fn put(&self, t: TenantId, table: Table, key: &str, value: Bytes, e: Expect) -> Result<u64, StoreError> {
        if table == Table::Cases && self.is_due.swap(false, Ordering::SeqCst) {
            self.inner.put(t, table, key, value.clone(), Expect::Any).await?;
        }
        self.inner.put(t, table, key, value, e).await
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_that_another_has_written_meanwhile_is_read_again() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "zq").await;
    line.process().await;
    let store = Arc::new(Raced { inner: line.store.clone(), is_due: AtomicBool::new(true) });
    let (_stop, stopped) = watch::channel(false);
    let (mut repairer, _) = Repairer::start(line.log.clone(), store, 0, stopped).await.unwrap();
    let refused = repairer.drain().await.unwrap_err();
    assert!(matches!(refused, ProcessError::Store(StoreError::Conflict { .. })), "{refused}");
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, case.held), (Status::Open, 50));
}

async fn counters_of(line: &Line) -> (u64, u64) {
    let counters = counters(line).await;
    (counters.taken, counters.accepted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_doubtful_waits_until_a_person_decides() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "zq").await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, case.held), (Status::Open, 50));
    assert!(case.waits.is_some());
    assert_eq!(counters(&line).await.held, 50);
    decide(&line, "c", Verdict::Edit { moves: vec![renamed("Total", "zq")] }).await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, case.redriven, &*case.decided[0].by), (Status::Repaired, 50, "ada"));
    let counters = counters(&line).await;
    assert_eq!((counters.accepted, counters.held), (150, 0));
    assert!(line.values().await.iter().all(Option::is_some), "none is blank");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_equal_places_the_one_near_an_approved_path_is_named_first_and_says_which_and_it_waits_all_the_same() {
    let mut named = Vec::new();
    for is_approved in [false, true] {
        let line = Line::new();
        if is_approved {
            line.open("returns", &MAPPING.replace(r#":"Total""#, r#":"q_xv""#), ENTITY).await;
            settle(&line).await;
        }
        let open = line.open("orders", MAPPING, ENTITY).await;
        feed(&line, &open, 1, 0..100, "Total").await;
        let both =
            |id: usize| format!(r#"{{"Id":"{id}","Updated":"2024-01-02T00:00:00Z","Bnm":"s-{id}","Qxv":"s-{id}"}}"#);
        let payloads: Vec<String> = (100..150).map(both).collect();
        line.append(&open, 2, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
        settle(&line).await;
        let case = cases(&line).await.remove(0);
        assert_eq!((case.status, case.held, case.moves.len()), (Status::Open, 50, 0), "{case:?}");
        named.push(case.alternatives);
    }
    let places = |all: &[Move]| all.iter().map(|to| (to.to[0].clone(), to.confidence)).collect::<Vec<_>>();
    let (alone, known) = (places(&named[0]), places(&named[1]));
    assert_eq!([&*alone[0].0, &*alone[1].0], ["Bnm", "Qxv"]);
    assert_eq!(known, [alone[1].clone(), alone[0].clone()], "and none is likelier for it");
    let told = Signal { name: "near_approved:q_xv".into(), strength: 1000, weight: 0 };
    assert_eq!(named[1][0].signals.last(), Some(&told));
    assert!(!named[0].iter().chain(&named[1][1..]).any(|to| to.signals.iter().any(|s| s.name == told.name)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_state_knows_to_be_lost_is_masked_though_the_case_is_not_kept_so_far() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "zq").await;
    settle(&line).await;
    let (mut case, names) = (cases(&line).await.remove(0), ["total".to_owned()]);
    case.lost.clear();
    let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
    let mask = Mask::of_case(&state, &case, &names).unwrap();
    assert!(mask.hides_path("zq"), "it may be the masked one");
    assert!(!mask.hides_path("Id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_told_no_name_that_few_records_have() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    let with_people = |id: usize| payload(id, "zq").replace('}', &format!(r#","people":{{"p{id}@x.com":true}}}}"#));
    let payloads: Vec<String> = (100..150).map(with_people).collect();
    line.append(&open, 2, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    settle(&line).await;
    let mut case = cases(&line).await.remove(0);
    let person = case.added.iter().find(|path| path.contains("p100@x")).cloned().unwrap();
    case.moves = vec![renamed("Total", &person), renamed("Total", "zq")];
    (case.waits, case.breaks) = (Some(format!("Total → {person} is unsure")), Some("Total was split".into()));
    let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
    let told = case.told_outside(Some(&state), &[]);
    assert_eq!((told.added, told.added_more), (vec!["zq".to_owned(), "people".into()], case.added.len() as u64 - 2));
    let to: Vec<&str> = told.moves.iter().map(|to| to.to[0].as_str()).collect();
    assert_eq!((to, told.breaks.as_deref()), (vec![MASKED, "zq"], Some("Total was split")));
    assert!(!told.waits.unwrap().contains('@'));
    assert_eq!(case.told_outside(None, &[]).added, [""; 0], "nobody knows what it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_is_taken_back_withdraws_its_rows_and_another_decision_brings_them_again() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "TotalAmount").await;
    settle(&line).await;
    feed(&line, &open, 3, 150..170, "TotalAmount").await;
    feed(&line, &open, 4, 170..180, "Total").await;
    settle(&line).await;
    assert_eq!(counters_of(&line).await, (180, 180));
    decide(&line, "c", Verdict::Revert).await;
    settle(&line).await;
    let found = cases(&line).await;
    assert_eq!(found.iter().map(|case| case.status).collect::<Vec<_>>(), [Status::Reverted, Status::Open]);
    assert_eq!(found[1].held, 70, "what has the old path stays");
    assert!(found[1].waits.as_deref().is_some_and(|why| why.contains("taken back")), "{:?}", found[1]);
    let now = counters(&line).await;
    assert_eq!((now.taken, now.accepted, now.held), (180, 110, 70));
    assert_eq!(line.visible().await, 110);
    feed(&line, &open, 5, 180..181, "TotalAmount").await;
    settle(&line).await;
    assert_eq!(counters(&line).await.held, 71, "and holds on");
    decide_of(&line, 1, "d", Verdict::Approve { only: vec![] }).await;
    settle(&line).await;
    let now = counters(&line).await;
    assert_eq!((now.taken, now.accepted, now.held), (181, 181, 0));
    assert_eq!(line.visible().await, 181);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_looked_at_again_is_read_from_a_known_place_on_and_nothing_of_it_is_left_out() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let mut repairer = repairer(&line).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    let mut settle = async || {
        for _ in 0..6 {
            line.process().await;
            drain(&line, &mut repairer).await;
        }
        (0..line.log.partitions(Topic::Events)).map(|events| repairer.places.behind(u64::MAX, events)).sum::<u64>()
    };
    assert!(settle().await >= 100, "the rows of the first records stand before it");
    feed(&line, &open, 2, 100..150, "TotalAmount").await;
    settle().await;
    feed(&line, &open, 3, 150..170, "TotalAmount").await;
    settle().await;
    decide(&line, "c", Verdict::Revert).await;
    settle().await;
    let now = counters(&line).await;
    assert_eq!((now.taken, now.accepted, now.held), (170, 100, 70));
    assert_eq!(line.visible().await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_looked_at_again_is_read_from_a_known_place_on_after_a_restart_too() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    line.process().await;
    drain(&line, &mut repairer(&line).await).await;
    feed(&line, &open, 2, 100..150, "TotalAmount").await;
    settle(&line).await;
    feed(&line, &open, 3, 150..170, "TotalAmount").await;
    settle(&line).await;
    let began = cases(&line).await[0].position.offset;
    let known = repairer(&line).await.places.behind(began, 0);
    assert!(known >= 100, "the rows of the first records stand before it: {known}");
    decide(&line, "c", Verdict::Revert).await;
    settle(&line).await;
    let now = counters(&line).await;
    assert_eq!((now.taken, now.accepted, now.held), (170, 100, 70));
    assert_eq!(line.visible().await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_few_rows_are_kept_in_memory_the_same_records_are_looked_at_again() {
    for rows_max in [1, 30, ROWS_MAX] {
        let line = Line::new();
        let open = line.open("orders", MAPPING, ENTITY).await;
        let mut repairer = repairer(&line).await;
        repairer.rows_max = rows_max;
        let mut settle = async || {
            for _ in 0..6 {
                line.process().await;
                drain(&line, &mut repairer).await;
            }
        };
        feed(&line, &open, 1, 0..100, "Total").await;
        feed(&line, &open, 2, 100..150, "TotalAmount").await;
        settle().await;
        feed(&line, &open, 3, 150..170, "TotalAmount").await;
        feed(&line, &open, 4, 170..180, "Total").await;
        settle().await;
        // The second time all of it has come again, and some was withdrawn, since the first decision.
        for (at, decided) in [(0, "first"), (1, "second")] {
            decide_of(&line, at, &format!("revert the {decided}"), Verdict::Revert).await;
            settle().await;
            let now = counters(&line).await;
            assert_eq!((now.accepted, now.held), (110, 70), "the {decided}, {rows_max} rows at a time");
            assert_eq!(line.visible().await, 110);
            let edit = Verdict::Edit { moves: vec![renamed("Total", "TotalAmount")] };
            decide_of(&line, at + 1, &format!("edit after the {decided}"), edit).await;
            settle().await;
            assert_eq!(counters_of(&line).await, (180, 180), "the {decided}, {rows_max} rows at a time");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_that_was_refused_while_records_were_looked_at_again_is_in_force_once_it_is_asked_for_later() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "TotalAmount").await;
    settle(&line).await;
    decide(&line, "c", Verdict::Revert).await;
    // The revert is on the log, and in no state that the front door could read.
    let (before, other) = (refusals(&line).await, MAPPING.replace("\"Total\"", "\"Sum\""));
    line.open("orders", &other, ENTITY).await;
    settle(&line).await;
    assert_eq!(refusals(&line).await - before, 1);
    let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
    assert!(state.mapping().unwrap().0.text().contains("Total"), "the former rules are in force");
    let now = counters(&line).await;
    assert_eq!((now.accepted, now.held), (100, 50), "all of it was looked at again");
    assert_eq!(line.visible().await, 100);

    line.open("orders", &other, ENTITY).await;
    settle(&line).await;
    let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
    assert!(state.mapping().unwrap().0.text().contains("Sum"));
    let now = counters(&line).await;
    assert_eq!((now.accepted, now.held), (150, 0), "nothing waits for what nobody reads");
    let end = line.log.end(Topic::Inputs, 0).await.unwrap();
    line.open("orders", &other, ENTITY).await;
    assert_eq!(line.log.end(Topic::Inputs, 0).await.unwrap(), end, "who asks for what is in force says nothing");
}

async fn refusals(line: &Line) -> usize {
    line.facts().await.iter().filter(|(_, fact)| *fact == "CommandRefused").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_whose_records_were_sent_and_nobody_said_so_is_decided_after_a_refusal_or_a_rejection() {
    for (first, refused) in [(Verdict::Approve { only: vec![] }, 1), (Verdict::Reject, 0)] {
        let line = Line::new();
        let open = line.open("orders", MAPPING, ENTITY).await;
        feed(&line, &open, 1, 0..100, "Total").await;
        feed(&line, &open, 2, 100..150, "TotalAmount").await;
        settle(&line).await;
        decide(&line, "c", Verdict::Revert).await;
        settle(&line).await;
        let asked = cases(&line).await[1].position.offset;
        // As if a repairer of an earlier release had sent them: it knows nothing of an end.
        let row = line.store.get(TENANT, Table::StreamStates, "crm/orders").await.unwrap().unwrap();
        let mut state: serde_json::Value = serde_json::from_slice(&row.value).unwrap();
        state["drift"]["cases"][asked.to_string()]["reading"] = serde_json::json!([[asked, 0]]);
        let value = Bytes::from(serde_json::to_vec(&state).unwrap());
        line.store.put(TENANT, Table::StreamStates, "crm/orders", value, Expect::Any).await.unwrap();

        let before = refusals(&line).await;
        decide_of(&line, 1, "d", first).await;
        settle(&line).await;
        assert_eq!(refusals(&line).await - before, refused);
        let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
        assert_eq!(state.drift().awaited().count(), 0);
        decide_of(&line, 1, "e", Verdict::Edit { moves: vec![renamed("Total", "TotalAmount")] }).await;
        settle(&line).await;
        assert_eq!(cases(&line).await[1].status, Status::Repaired);
        let now = counters(&line).await;
        assert_eq!((now.taken, now.accepted, now.held), (150, 150, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_decision_that_is_taken_back_holds_another_one_does_not_hold_again() {
    for at_once in [false, true] {
        reverts_two(at_once).await;
    }
}

async fn reverts_two(at_once: bool) {
    let line = Line::new();
    let entity = ENTITY.replace("]}", r#",{"name":"note","type":"text"}]}"#);
    let mapping = MAPPING.replace(r#""Total"}"#, r#""Total","note":"Note"}"#);
    let open = line.open("orders", &mapping, &entity).await;
    let feed = async |lane: u128, ids: std::ops::Range<usize>, name: &str, note: &str| {
        let noted = |id: usize| payload(id, name).replacen('{', &format!(r#"{{"{note}":"n{id}","#), 1);
        let payloads: Vec<String> = ids.map(noted).collect();
        line.append(&open, lane, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    };
    feed(1, 0..100, "Total", "Note").await;
    feed(2, 100..150, "TotalAmount", "Note").await;
    settle(&line).await;
    feed(3, 150..200, "TotalAmount", "zq").await;
    settle(&line).await;
    decide_of(&line, 1, "e", Verdict::Edit { moves: vec![renamed("Note", "zq")] }).await;
    settle(&line).await;
    let found = cases(&line).await;
    assert_eq!(found.iter().map(|case| case.status).collect::<Vec<_>>(), [Status::Repaired; 2], "{found:?}");
    for (at, held) in [(1, 50), (0, 100)] {
        decide_of(&line, at, &format!("r{at}"), Verdict::Revert).await;
        if at_once && at == 1 {
            continue;
        }
        settle(&line).await;
        let now = counters(&line).await;
        assert_eq!((now.taken, now.accepted, now.held), (200, 200 - held, held));
        assert_eq!(line.visible().await as u64, 200 - held);
    }
}

/// Records whose totals are of two to four digits; `times` as large.
async fn feed_totals(line: &Line, open: &OpenStream, lane: u128, ids: std::ops::Range<usize>, times: usize) {
    let total = |id: usize| [12, 450, 87, 3_210, 99][id % 5] + id % 7;
    let payload = |id| payload(id, "Total").replace(&format!("{}.25", 1000 + id), &(total(id) * times).to_string());
    let payloads: Vec<String> = ids.map(payload).collect();
    line.append(open, lane, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_another_unit_was_sure_is_recalled_and_comes_again_in_that_unit() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed_totals(&line, &open, 1, 0..200, 1).await;
    feed_totals(&line, &open, 2, 200..300, 100).await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!(
        (case.status, case.kinds(), case.severity),
        (Status::Open, vec![DriftKind::Retyped], Severity::Breaking)
    );
    assert!(case.waits.as_deref().is_some_and(|why| why.contains("100 times as large")), "{case:?}");
    let found = counters(&line).await;
    assert_eq!((found.taken, found.accepted + found.held), (300, 300));
    assert!((98..=102).contains(&found.held), "{found:?}");
    assert_eq!(line.visible().await as u64, found.accepted);
    decide(&line, "c", Verdict::Approve { only: vec![] }).await;
    settle(&line).await;
    let found = counters(&line).await;
    assert_eq!((found.accepted, found.held, line.visible().await), (300, 0, 300));
    feed_totals(&line, &open, 3, 300..400, 100).await;
    settle(&line).await;
    assert_eq!(counters_of(&line).await, (400, 400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nulls_where_another_path_came_instead_are_proposed_as_a_rename_and_wait() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..200, "Total").await;
    let both = |id| payload(id, "TotalAmount").replace("\"TotalAmount\"", "\"Total\":null,\"TotalAmount\"");
    let payloads: Vec<String> = (200..300).map(both).collect();
    line.append(&open, 2, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, case.held, &*case.moves[0].to[0]), (Status::Open, 0, "TotalAmount"), "{case:?}");
    assert!(case.kinds().contains(&DriftKind::Renamed) && case.waits.is_some());
    decide(&line, "c", Verdict::Approve { only: vec![] }).await;
    let payloads: Vec<String> = (300..310).map(both).collect();
    line.append(&open, 3, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    settle(&line).await;
    assert_eq!(cases(&line).await[0].status, Status::Repaired);
    assert_eq!(line.values().await.iter().rev().take(10).flatten().count(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_is_told_and_noted_once_somebody_has_seen_it() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..300, "Total").await;
    let wider = |id| payload(id, "Total").replace('{', r#"{"Region":"EU","#);
    let payloads: Vec<String> = (300..400).map(wider).collect();
    line.append(&open, 2, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.kind(), case.severity, &*case.added[0]), (DriftKind::Added, Severity::Info, "Region"));
    decide(&line, "c", Verdict::Approve { only: vec![] }).await;
    settle(&line).await;
    assert_eq!(cases(&line).await[0].status, Status::Noted);
    assert_eq!(counters_of(&line).await, (400, 400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_is_told_once_it_is_due_though_the_repairer_died_meanwhile() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..103, "Sum").await;
    settle(&line).await;
    assert_eq!(cases(&line).await[0].status, Status::Watching);
    let mut early = repairer(&line).await;
    early.tell_due(0).await.unwrap();
    settle(&line).await;
    assert_eq!(cases(&line).await[0].status, Status::Watching);
    for _ in 0..2 {
        repairer(&line).await.tell_due(i64::MAX).await.unwrap();
        settle(&line).await;
    }
    assert!(cases(&line).await[0].opened_at.is_some());
    let told = line.facts().await.iter().filter(|(_, fact)| *fact == "DriftDetected").count();
    assert_eq!(told, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accident_leaves_no_case_behind() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..101, "Sum").await;
    feed(&line, &open, 3, 101..150, "Total").await;
    settle(&line).await;
    assert_eq!(cases(&line).await, []);
    assert_eq!(counters_of(&line).await, (150, 150));
}

/// Nobody takes the 1,000 records of 1 KiB meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_does_not_run_ahead_of_the_step() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    let pad = format!(r#","Pad":"{}"}}"#, "x".repeat(1_000));
    let large: Vec<String> = (100..1_100).map(|id| payload(id, "zq").replace('}', &pad)).collect();
    line.append(&open, 2, 0, &large.iter().map(String::as_str).collect::<Vec<_>>()).await;
    settle(&line).await;
    decide(&line, "c", Verdict::Edit { moves: vec![renamed("Total", "zq")] }).await;
    line.process().await;
    let before = line.log.end(Topic::Inputs, 0).await.unwrap();
    let mut repairer = repairer(&line).await;
    tokio::time::timeout(20 * LOOK_AGAIN, repairer.drain()).await.unwrap_err();
    let ahead = line.log.end(Topic::Inputs, 0).await.unwrap() - before;
    assert!((1..1_000).contains(&ahead), "{ahead} are sent and none is taken");
    settle(&line).await;
    assert_eq!(counters_of(&line).await, (1_100, 1_100));
}

/// Processes and repairs with a log and a store that fail after so many writes, then without.
async fn with_a_death(writes: i64) -> (Line, bool) {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..60, "Total").await;
    feed(&line, &open, 2, 60..90, "TotalAmount").await;
    let fuse = Fuse::crash(writes);
    let log = Arc::new(Fused { fuse: fuse.clone(), inner: line.log.clone() });
    let store = Arc::new(Fused { fuse: fuse.clone(), inner: line.store.clone() });
    let (stop, stopped) = watch::channel(false);
    for _ in 0..6 {
        let Ok((mut processor, _)) = Processor::start(log.clone(), store.clone(), 0).await else { break };
        let Ok((mut repairer, _)) = Repairer::start(log.clone(), store.clone(), 0, stopped.clone()).await else {
            break;
        };
        if processor.drain().await.is_err() || repairer.drain().await.is_err() {
            break;
        }
    }
    drop(stop);
    settle(&line).await;
    (line, fuse.has_blown())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_processor_and_repairer_die_each_held_record_ends_in_one_row() {
    let mut writes = 0;
    loop {
        let (line, has_blown) = with_a_death(writes).await;
        let found = counters(&line).await;
        assert_eq!((found.taken, found.accepted, found.held), (90, 90, 0), "it died at write {writes}: {found:?}");
        let values = line.values().await;
        assert_eq!(values.iter().flatten().count(), 90, "it died at write {writes}");
        assert_eq!(cases(&line).await[0].status, Status::Repaired, "it died at write {writes}");
        if !has_blown {
            assert!(writes > 15, "{writes} writes");
            return;
        }
        writes += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_that_nobody_decides_is_reminded_of_and_expires_and_holds_on() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "zq").await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert!(case.expires_at > case.opened_at, "{case:?}");
    assert_eq!((case.version, case.last_held.len()), (2, 50), "opened and proposed");
    // The log's own clock has not come so far: every timer that is told early is set again.
    repairer(&line).await.tell_due(i64::MAX).await.unwrap();
    settle(&line).await;
    let facts = line.facts().await;
    let told = |name: &str| facts.iter().filter(|(_, fact)| *fact == name).count();
    assert_eq!((told("CaseReminded"), told("RepairRejected")), (1, 0));
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, counters(&line).await.held), (Status::Open, 50));
    let to = Verdict::Snooze { until: i64::MAX };
    decide(&line, "c", to).await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.snoozed_until, case.decided[0].status), (Some(i64::MAX), Deed::Snoozed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_a_mapping_and_every_change_of_shape_is_kept() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "TotalAmount").await;
    settle(&line).await;
    line.open("orders", &MAPPING.replace("\"Total\"", "\"Sum\""), ENTITY).await;
    settle(&line).await;
    let all = versions(&*line.store, &stream("orders"), None, 9).await.unwrap();
    let told: Vec<_> = all.iter().map(|made| (made.version, made.origin, made.by.as_str())).collect();
    assert_eq!(told, [(1, Origin::Opened, "open"), (2, Origin::Repaired, "rules"), (3, Origin::Set, "test")]);
    assert_eq!(all[1].case, Some(cases(&line).await[0].position));
    for (made, path) in all.iter().zip(["Total", "TotalAmount", "Sum"]) {
        assert!(made.text.as_deref().is_some_and(|text| text.contains(path)), "{made:?}");
    }
    assert_eq!(version(&*line.store, &stream("orders"), 3).await.unwrap().as_ref(), Some(&all[2]));
    let shapes = shapes(&*line.store, TENANT, Some(&stream("orders")), None, 9).await.unwrap();
    let new: Vec<Vec<&str>> =
        shapes.iter().map(|(_, change)| change.observed.iter().map(|(path, _)| path.as_str()).collect()).collect();
    assert_eq!(new, [vec!["Id", "Updated", "Total"], vec!["TotalAmount"]]);
}
