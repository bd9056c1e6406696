//! Cases that hold nothing: more nulls than usual, fields that came.

use schemas::drift::{Change, Severity};

use super::*;

fn with_null(id: usize, is_null: bool) -> String {
    if is_null { with(id, "Total").replace(&format!("{id}.5"), "null") } else { with(id, "Total") }
}

fn detected(outcome: &Outcome) -> Vec<(u64, Vec<schemas::drift::Lost>, Vec<String>, Severity)> {
    let told = outcome.decisions.iter().filter_map(|d| match &d.fact {
        Fact::DriftDetected { case, lost, added, severity, .. } => {
            Some((*case, lost.clone(), added.clone(), severity.unwrap()))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn a_jump_in_the_share_of_nulls_opens_a_case_and_holds_nothing() {
    let mut stream = steady(200);
    let payloads: Vec<String> = (200..400).map(|id| with_null(id, id.is_multiple_of(2))).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (0, 200));
    let told = detected(&outcome);
    let [(case, lost, added, severity)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((lost.len(), &*lost[0].path, added.len(), *severity), (1, "Total", 0, Severity::Warning));
    let Some(Change::Nulls { before, now }) = lost[0].change else { panic!("{lost:?}") };
    assert!(before == 0 && (450..=550).contains(&now), "{before} {now}");
    assert!(stream.state.drift().cases().is_empty(), "it costs the next records nothing");

    let decide = |verdict| Decide {
        case: *case,
        mapping_version: 1,
        version: None,
        verdict,
        by: "ada".into(),
        why: "known".into(),
    };
    let accept = decide(Verdict::AcceptAsRemoved { only: vec![] });
    let outcome = stream.control(&Input::Command { id: "c".into(), command: Command::Decide(accept) });
    assert_eq!(names(&outcome), ["RepairApplied", "RecordsReleased", "CommandApplied"]);
    let more: Vec<String> = (400..4_000).map(|id| with_null(id, id.is_multiple_of(2))).collect();
    assert!(detected(&feed(&mut stream, &more)).is_empty(), "what was accepted is usual");
    reconciles(&stream);
}

#[test]
fn nulls_of_several_fields_are_one_case_and_one_that_flaps_does_not_flood() {
    let mut stream = steady(500);
    let payload = |id: usize| {
        let payload = with_null(id, (id / 300).is_multiple_of(2));
        if id >= 2_000 { payload.replace(&format!("\"n{id}\""), "null") } else { payload }
    };
    let outcome = feed(&mut stream, &(900..9_000).map(payload).collect::<Vec<_>>());
    let told = detected(&outcome);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0].0, told[1].0, "one case");
    assert_eq!(told[1].1.iter().map(|lost| &*lost.path).collect::<Vec<_>>(), ["Total", "Note"]);
    assert_eq!(held(&outcome).len(), 0);
}

#[test]
fn a_share_of_nulls_that_was_always_there_makes_no_case_whatever_it_is() {
    for percent in [1u64, 10, 50, 90] {
        let mut stream = stream();
        let mut seed = percent;
        let mut is_null = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % 100 < percent
        };
        let payloads: Vec<String> = (0..30_000).map(|id| with_null(id, is_null())).collect();
        let told = detected(&feed(&mut stream, &payloads));
        assert!(told.is_empty(), "{percent} %: {told:?}");
    }
}

#[test]
fn a_field_that_came_to_stay_is_told_and_rare_ones_are_not() {
    let mut stream = steady(300);
    let came = |id: usize| {
        let rare = if id.is_multiple_of(5) { format!(r#""Rare{}":1,"#, id % 3) } else { String::new() };
        with(id, "Total").replacen('{', &format!(r#"{{"Came":{{"At":"{id}"}},{rare}"#), 1)
    };
    let outcome = feed(&mut stream, &(300..500).map(came).collect::<Vec<_>>());
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (0, 200));
    let told = detected(&outcome);
    let [(case, lost, added, severity)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((lost.len(), *severity), (0, Severity::Info));
    assert!(added.contains(&"Came.At".to_owned()) && !added.iter().any(|path| path.starts_with("Rare")), "{added:?}");
    let approve = Verdict::Approve { only: vec![] };
    let decide = Decide {
        case: *case,
        mapping_version: 1,
        version: None,
        verdict: approve,
        by: "ada".into(),
        why: "seen".into(),
    };
    let outcome = stream.control(&Input::Command { id: "c".into(), command: Command::Decide(decide) });
    assert_eq!(names(&outcome), ["RepairApplied", "RecordsReleased", "CommandApplied"]);
    assert!(detected(&feed(&mut stream, &(500..700).map(came).collect::<Vec<_>>())).is_empty());
}

#[test]
fn nothing_is_suggested_for_a_case_that_lacks_nothing() {
    let mut stream = steady(300);
    let came = |id: usize| with(id, "Total").replacen('{', r#"{"Came":1,"#, 1);
    let case = detected(&feed(&mut stream, &(300..400).map(came).collect::<Vec<_>>()))[0].0;
    assert_eq!(stream.state.drift().waiting().count(), 0);
    let (moves, alternatives) = (vec![], vec![]);
    let suggestion =
        Input::Suggestion { id: "s".into(), case, mapping_version: 1, moves, alternatives, tried: None, asked: None };
    assert_eq!(names(&stream.control(&suggestion)), ["CommandRefused"]);
}
