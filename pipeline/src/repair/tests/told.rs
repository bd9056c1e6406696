//! What is told of cases and when, and what is kept of a stream's past.

use schemas::drift::{DriftKind, Severity, Verdict};

use super::{cases, counters, counters_of, decide, decide_of, feed, payload, renamed, repairer, settle};
use crate::repair::{Deed, Origin, Status, shapes, version, versions};
use crate::testing::{ENTITY, Line, MAPPING, TENANT, stream};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_ninth_decision_of_a_stream_the_first_one_is_told_as_one_that_stays_and_the_step_says_so_too() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    let revertible = async || cases(&line).await.iter().map(|case| case.is_revertible()).collect::<Vec<_>>();
    for n in 0..9 {
        let (name, first, lane) = (format!("q{n}"), 100 * (n + 1), 10 + 2 * n as u128);
        feed(&line, &open, lane, first..first + 50, &name).await;
        settle(&line).await;
        let case = cases(&line).await.remove(n);
        if case.status == Status::Open {
            let moves = vec![renamed(&case.lost[0].path, &name)];
            decide_of(&line, n, &format!("c{n}"), Verdict::Edit { moves }).await;
            settle(&line).await;
        }
        feed(&line, &open, lane + 1, first + 50..first + 100, &name).await;
        settle(&line).await;
        assert_eq!(cases(&line).await[n].status, Status::Repaired, "{name}");
        if n == 7 {
            assert_eq!(revertible().await, [true; 8]);
        }
    }
    let expected = [false, true, true, true, true, true, true, true, true];
    assert_eq!(revertible().await, expected);
    decide_of(&line, 0, "r", Verdict::Revert).await;
    settle(&line).await;
    assert_eq!(cases(&line).await[0].status, Status::Repaired, "the step refused it");
    decide_of(&line, 8, "s", Verdict::Revert).await;
    settle(&line).await;
    assert_eq!(cases(&line).await[8].status, Status::Reverted);
    assert_eq!(revertible().await[..9], [false, true, true, true, true, true, true, true, false]);
}
