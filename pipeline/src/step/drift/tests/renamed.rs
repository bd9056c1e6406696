//! What is told of a path that another one was decided to stand for, from its first records on.

use schemas::drift::Change;

use super::*;

/// A record whose amount and whose note stand at these paths.
fn order(id: usize, (path, amount): (&str, &str), (at, note): (&str, &str)) -> String {
    format!(r#"{{"Id":"{id}","{path}":{amount},"{at}":{note},"Buyer":{{"Name":"b"}}}}"#)
}

/// Amounts from 12.25 to some thousands, in no order.
fn amount(id: usize) -> f64 {
    [12.25, 99.5, 450.75, 1_299.99, 87.1, 5_100.01, 23.4][id % 7] + (id % 13) as f64
}

fn orders(ids: std::ops::Range<usize>, path: &str, times: f64) -> Vec<String> {
    let written = |id: usize| if times > 1.0 { (amount(id) * times).round() } else { amount(id) };
    ids.map(|id| order(id, (path, &written(id).to_string()), ("Note", &format!("\"n{id}\"")))).collect()
}

fn nulls(ids: std::ops::Range<usize>, path: &str) -> Vec<String> {
    ids.map(|id| order(id, (path, "null"), ("Note", &format!("\"n{id}\"")))).collect()
}

fn known() -> Stream {
    let mut stream = stream();
    assert_eq!(row_count(&feed(&mut stream, &orders(0..200, "Total", 1.0))), 200);
    stream
}

/// Records that lack what they had are held, it is decided where that has gone, and they come again.
fn moved(stream: &mut Stream, payloads: &[String], to: Move) -> u64 {
    let outcome = feed(stream, payloads);
    assert_eq!(held(&outcome).len(), payloads.len());
    let case = only_case(stream);
    let decided = edit(stream, case, vec![to]);
    assert!(names(&decided).contains(&"RepairApplied"), "{decided:?}");
    assert_eq!(row_count(&redrive(stream, case, &held(&outcome), payloads)) as usize, payloads.len());
    assert!(stream.state.drift().cases().is_empty());
    case
}

/// A stream whose amounts stand at another path by now.
fn renamed_once() -> (Stream, u64) {
    let mut stream = known();
    let case = moved(&mut stream, &orders(200..300, "Amount", 1.0), renamed("Total", "Amount", 950));
    (stream, case)
}

/// What is told of values, for the first time.
fn told(outcome: &Outcome) -> Option<Change> {
    outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::DriftDetected { lost, .. } => lost.iter().find_map(|lost| lost.change.clone()),
        _ => None,
    })
}

fn revert(stream: &mut Stream, case: u64) -> Outcome {
    let (verdict, by, why) = (Verdict::Revert, "ada".to_owned(), String::new());
    let revert = Decide { case, mapping_version: 0, version: None, once_read: false, verdict, by, why };
    stream.control(&Input::Command { id: format!("r-{case}"), command: Command::Decide(revert) })
}

#[test]
fn nulls_right_after_a_rename_are_told_as_without_it() {
    for (mut stream, path) in [(known(), "Total"), (renamed_once().0, "Amount")] {
        let outcome = feed(&mut stream, &nulls(300..400, path));
        assert_eq!((held(&outcome).len(), row_count(&outcome)), (0, 100), "{path}");
        let Some(Change::Nulls { before: 0, now }) = told(&outcome) else { panic!("{path}: {outcome:?}") };
        assert!(now >= 900, "{path}: {now}");
    }
}

#[test]
fn cents_right_after_a_rename_are_held_as_without_it() {
    for (mut stream, path) in [(known(), "Total"), (renamed_once().0, "Amount")] {
        let outcome = feed(&mut stream, &orders(300..400, path, 100.0));
        assert_eq!(told(&outcome), Some(Change::Unit { shift: 2 }), "{path}");
        assert_eq!(names(&outcome), ["DriftDetected", "RecordsRecalled"], "{path}");
        assert!(held(&outcome).len() >= 70, "{path}: {}", held(&outcome).len());
        reconciles(&stream);
    }
}

#[test]
fn blank_texts_right_after_a_rename_are_told_as_without_it() {
    let note = |id: usize, at: &str, text: &str| order(id, ("Total", &amount(id).to_string()), (at, text));
    let named = |id: usize, at: &str| note(id, at, &format!("\"n{id}\""));
    for is_renamed in [false, true] {
        let mut stream = known();
        let at = if is_renamed { "Remark" } else { "Note" };
        if is_renamed {
            let payloads: Vec<String> = (200..300).map(|id| named(id, at)).collect();
            moved(&mut stream, &payloads, renamed("Note", "Remark", 950));
        }
        let blanks: Vec<String> = (300..400).map(|id| note(id, at, r#""  ""#)).collect();
        let outcome = feed(&mut stream, &blanks);
        assert!(held(&outcome).is_empty(), "{at}");
        assert!(matches!(told(&outcome), Some(Change::Nulls { before: 0, .. })), "{at}: {outcome:?}");
    }
}

#[test]
fn values_that_are_as_they_were_hold_nothing_after_a_rename_and_nothing_is_told_of_them() {
    let (mut stream, _) = renamed_once();
    let outcome = feed(&mut stream, &orders(300..1_500, "Amount", 1.0));
    assert!(held(&outcome).is_empty() && names(&outcome).is_empty(), "{:?}", names(&outcome));
    let late = feed(&mut stream, &orders(1_500..1_600, "Total", 1.0));
    assert!(held(&late).is_empty() && names(&late).is_empty(), "{:?}", names(&late));
    assert_eq!(totals(&late).iter().flatten().count(), 100);
    reconciles(&stream);
}

#[test]
fn of_two_paths_of_which_one_is_approved_both_keep_what_is_known_of_them() {
    let mut stream = known();
    let both = |id: usize| order(id, ("Amount", &amount(id).to_string()), ("Remark", &format!("\"n{id}\"")));
    let payloads: Vec<String> = (200..300).map(both).collect();
    let outcome = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    for (id, from, to) in [("a", "Total", "Amount"), ("b", "Note", "Remark")] {
        suggest(&mut stream, id, vec![renamed(from, to, 500)]);
        decide(&mut stream, &format!("d-{id}"), Verdict::Approve { only: vec![from.into()] });
    }
    assert_eq!(row_count(&redrive(&mut stream, case, &held(&outcome), &payloads)), 100);
    let blank = |id: usize| order(id, ("Amount", "null"), ("Remark", "\"\""));
    let outcome = feed(&mut stream, &(300..400).map(blank).collect::<Vec<_>>());
    let lost: Vec<Vec<String>> = outcome
        .decisions
        .iter()
        .filter_map(|d| match &d.fact {
            Fact::DriftDetected { lost, .. } => Some(lost.last()?.paths.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(lost, [["Amount", "Total"], ["Remark", "Note"]]);
}

#[test]
fn a_path_that_is_renamed_twice_keeps_what_is_known_of_it() {
    let (mut stream, _) = renamed_once();
    feed(&mut stream, &orders(300..600, "Amount", 1.0));
    moved(&mut stream, &orders(600..700, "Sum", 1.0), renamed("Amount", "Sum", 950));
    assert!(matches!(told(&feed(&mut stream, &nulls(700..800, "Sum"))), Some(Change::Nulls { before: 0, .. })));
}

#[test]
fn what_came_again_in_another_unit_teaches_how_large_it_is_from_there_on() {
    let mut stream = known();
    let to = Move { change: Some(Change::Unit { shift: 2 }), ..renamed("Total", "Amount", 950) };
    moved(&mut stream, &orders(200..400, "Amount", 100.0), to);
    assert!(stream.state.mapping().unwrap().0.text().contains("cents"));
    let snapshot = stream.state.snapshot();
    stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    assert!(names(&feed(&mut stream, &orders(400..500, "Amount", 100.0))).is_empty(), "cents are usual");
    let outcome = feed(&mut stream, &orders(500..600, "Amount", 10_000.0));
    assert_eq!(told(&outcome), Some(Change::Unit { shift: 2 }));
    assert!(held(&outcome).len() >= 60, "{}", held(&outcome).len());
    reconciles(&stream);
}

#[test]
fn a_revert_brings_back_what_was_known_before_the_decision() {
    let (mut stream, case) = renamed_once();
    // One in twenty is null at the path that proves wrong: too few to be told.
    let payloads: Vec<String> = (300..500)
        .flat_map(|id: usize| match id.is_multiple_of(20) {
            true => nulls(id..id + 1, "Amount"),
            false => orders(id..id + 1, "Amount", 1.0),
        })
        .collect();
    assert!(names(&feed(&mut stream, &payloads)).is_empty());
    let snapshot = stream.state.snapshot();
    stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    assert!(names(&revert(&mut stream, case)).contains(&"RepairReverted"));
    let reverted = only_case(&stream);
    let sums = orders(500..600, "Sum", 1.0);
    let outcome = feed(&mut stream, &sums);
    assert_eq!(held(&outcome).len(), 100);
    edit(&mut stream, reverted, vec![renamed("Total", "Sum", 0)]);
    assert_eq!(row_count(&redrive(&mut stream, reverted, &held(&outcome), &sums)), 100);
    assert!(matches!(told(&feed(&mut stream, &nulls(600..700, "Sum"))), Some(Change::Nulls { before: 0, .. })));
}
