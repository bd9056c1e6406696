//! Records that come again: held ones, those of decisions that are taken back, and what was accepted before a case was sure.

use std::pin::pin;

use bytes::Bytes;
use schemas::Topic;
use schemas::drift::{DriftKind, Severity, Verdict};

use super::{cases, counters, counters_of, decide, decide_of, drain, feed, payload, renamed, repairer, settle};
use crate::ingest::OpenStream;
use crate::log::Log;
use crate::process::read_state;
use crate::repair::{LOOK_AGAIN, ROWS_MAX, Status};
use crate::store::{Expect, Store, Table};
use crate::testing::{ENTITY, Line, MAPPING, TENANT, stream};

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
    let ahead = async || line.log.end(Topic::Inputs, 0).await.unwrap() - before;
    {
        let mut repairer = repairer(&line).await;
        let mut draining = pin!(repairer.drain());
        while ahead().await == 0 {
            tokio::select! {
                biased;
                drained = &mut draining => panic!("it did not wait: {drained:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        tokio::time::timeout(20 * LOOK_AGAIN, draining).await.unwrap_err();
    }
    let ahead = ahead().await;
    assert!((1..1_000).contains(&ahead), "{ahead} are sent and none is taken");
    settle(&line).await;
    assert_eq!(counters_of(&line).await, (1_100, 1_100));
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
    assert_eq!(found.iter().map(|case| case.is_reverted).collect::<Vec<_>>(), [false, true]);
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
    let end = line.log.end(Topic::Inputs, 0).await.unwrap();
    line.open("orders", MAPPING, ENTITY).await;
    assert_eq!(line.log.end(Topic::Inputs, 0).await.unwrap(), end, "who asks for what was before changes nothing");

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

/// The records that bind the key are on the log, and in no state that the front door could read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_that_is_refused_for_another_reason_is_taken_back_too_and_what_is_in_force_stays() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    let records: Vec<String> = (0..10).map(|id| payload(id, "Total")).collect();
    line.append(&open, 1, 0, &records.iter().map(String::as_str).collect::<Vec<_>>()).await;
    line.open("orders", &MAPPING.replace(r#""key":"Id""#, r#""key":"Number""#), ENTITY).await;
    settle(&line).await;
    assert_eq!(refusals(&line).await, 1);
    let end = line.log.end(Topic::Inputs, 0).await.unwrap();
    line.open("orders", MAPPING, ENTITY).await;
    assert_eq!(line.log.end(Topic::Inputs, 0).await.unwrap(), end);
    assert_eq!(line.visible().await, 10);
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
