//! What is suggested for a case, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use schemas::drift::{DriftKind, Move, Signal, Verdict};

use super::{cases, counters, counters_of, decide, feed, payload, renamed, repairer, settle};
use crate::advice::{self, Advisor, AdvisorError, Price, Prompt, Reply};
use crate::process::read_state;
use crate::repair::suggest::fields;
use crate::repair::{Asking, Status};
use crate::testing::{ENTITY, Line, MAPPING, TENANT, stream};

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
async fn a_name_with_signs_of_a_path_in_it_is_proposed_as_itself_and_read_so() {
    for (name, path) in [("Total ", r"Total\ "), ("Total|Sum", r"Total\|Sum"), ("Total[]", r"Total\[]")] {
        let line = Line::new();
        let open = line.open("orders", MAPPING, ENTITY).await;
        feed(&line, &open, 1, 0..100, "Total").await;
        feed(&line, &open, 2, 100..150, name).await;
        settle(&line).await;
        let case = cases(&line).await.remove(0);
        assert_eq!((&*case.added[0], case.held), (path, 50));
        assert!(case.moves.iter().chain(&case.alternatives).all(|to| to.to == [path]), "{case:?}");
        if case.status == Status::Open {
            decide(&line, "c", Verdict::Edit { moves: vec![renamed("Total", path)] }).await;
            settle(&line).await;
        }
        feed(&line, &open, 3, 150..170, name).await;
        settle(&line).await;
        assert_eq!(cases(&line).await[0].status, Status::Repaired);
        assert_eq!(line.values().await.iter().flatten().count(), 170, "{name}: none is blank");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_became_the_value_in_it_is_a_place_where_that_may_have_gone() {
    let line = Line::new();
    let open = line.open("orders", &MAPPING.replace(r#":"Total""#, r#":"money.total""#), ENTITY).await;
    let nested = |id: usize| format!(r#"{{"Id":"{id}","Updated":"2024-01-01T00:00:00Z","money":{{"total":{id}.25}}}}"#);
    let flat = |id: usize| format!(r#"{{"Id":"{id}","Updated":"2024-01-01T00:00:00Z","money":{id}.25}}"#);
    let payloads: Vec<String> = (0..100).map(nested).chain((100..150).map(flat)).collect();
    line.append(&open, 1, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, &*case.lost[0].path, case.held), (Status::Open, "money.total", 50));
    let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
    let (_, after) = fields(&state, case.position.offset);
    let found: Vec<_> = after.iter().map(|field| (field.name.as_str(), field.kind)).collect();
    assert_eq!(found, [("money", matcher::Kind::Number)]);
    decide(&line, "c", Verdict::Edit { moves: vec![renamed("money.total", "money")] }).await;
    settle(&line).await;
    assert_eq!(cases(&line).await[0].status, Status::Repaired);
    assert_eq!(line.values().await.iter().flatten().count(), 150, "none is blank");
}

/// Records that have their total under both names.
fn both(ids: std::ops::Range<usize>) -> Vec<String> {
    let more = |id: usize| format!(r#","TotalAmount":{}.25}}"#, 1000 + id);
    ids.map(|id| payload(id, "Total").replacen('}', &more(id), 1)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_was_written_beside_the_old_one_for_a_while_is_proposed_when_the_old_one_goes_and_waits() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    line.append(&open, 2, 0, &both(100..200).iter().map(String::as_str).collect::<Vec<_>>()).await;
    feed(&line, &open, 3, 200..250, "TotalAmount").await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, case.held, case.moves.len()), (Status::Open, 50, 1), "{case:?}");
    assert!(case.moves[0].to == ["TotalAmount"] && case.added.is_empty() && case.waits.is_some(), "{case:?}");
    assert!(case.moves[0].signals.iter().any(|signal| signal.name == "written_beside"));
    decide(&line, "c", Verdict::Approve { only: vec![] }).await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, case.redriven), (Status::Repaired, 50));
    assert_eq!(line.values().await.iter().flatten().count(), 250, "none is blank");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_was_always_there_beside_the_old_one_is_not_named_when_that_goes() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    line.append(&open, 1, 0, &both(0..200).iter().map(String::as_str).collect::<Vec<_>>()).await;
    feed(&line, &open, 2, 200..250, "TotalAmount").await;
    settle(&line).await;
    let case = cases(&line).await.remove(0);
    assert_eq!((case.status, case.held), (Status::Open, 50));
    assert!(case.moves.is_empty() && case.alternatives.is_empty(), "{case:?}");
}

/// A model that says that the total is called otherwise, and counts how often it is asked.
#[derive(Default)]
struct Counting(AtomicU64);

#[async_trait]
impl Advisor for Counting {
    fn model(&self) -> &str {
        "small"
    }

    fn price(&self) -> Price {
        Price::default()
    }

    async fn ask(&self, _: &Prompt) -> Result<Reply, AdvisorError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let text = r#"{"moves":[{"from":"Total","to":"zq"}]}"#.to_owned();
        Ok(Reply { text, input_tokens: 7, output_tokens: 3 })
    }
}

/// A stream with a doubtful case, and the input at which that began.
async fn doubtful(line: &Line) -> u64 {
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(line, &open, 1, 0..100, "Total").await;
    feed(line, &open, 2, 100..150, "zq").await;
    settle(line).await;
    let case = cases(line).await.remove(0);
    assert_eq!(case.status, Status::Open);
    case.position.offset
}

/// Has a repairer that has just started suggest for a case, and everything happen that follows.
async fn suggest_anew(line: &Line, asking: &Arc<Asking>, case: u64) {
    let mut repairer = repairer(line).await.asking(Some(asking.clone()));
    assert!(repairer.suggest(&stream("orders"), case, Some(case)).await.unwrap());
    drop(repairer);
    // A question that is under way holds on to it.
    while Arc::strong_count(asking) > 1 {
        tokio::task::yield_now().await;
    }
    line.process().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_not_asked_again_after_a_restart_what_it_has_answered() {
    let (line, model) = (Line::new(), Arc::new(Counting::default()));
    let case = doubtful(&line).await;
    let asking = Arc::new(Asking::new(model.clone(), None, true));
    for _ in 0..2 {
        suggest_anew(&line, &asking, case).await;
        assert_eq!(model.0.load(Ordering::SeqCst), 1);
    }
    assert_eq!(advice::usage(&*line.store, TENANT, 0).await.unwrap().calls, 1);
    let told = line.facts().await.iter().filter(|(_, fact)| *fact == "ModelAsked").count();
    assert_eq!(told, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_saved_counts_once_though_the_repairer_does_its_batch_again() {
    let (line, model) = (Line::new(), Arc::new(Counting::default()));
    line.open("returns", &MAPPING.replace(r#":"Total""#, r#":"zq""#), ENTITY).await;
    settle(&line).await;
    let case = doubtful(&line).await;
    let asking = Arc::new(Asking::new(model.clone(), None, false));
    for _ in 0..2 {
        suggest_anew(&line, &asking, case).await;
        let usage = advice::usage(&*line.store, TENANT, 0).await.unwrap();
        assert_eq!((usage.saved_calls, usage.calls, model.0.load(Ordering::SeqCst)), (1, 0, 0));
    }
}
