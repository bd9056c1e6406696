//! Where what was lost may have gone: also to a path that was there before, but hardly ever.

use super::*;

fn added(stream: &Stream) -> Vec<String> {
    stream.state.drift().added(only_case(stream), stream.state.shape())
}

/// A record with some more members.
fn and(id: usize, name: &str, more: &str) -> String {
    with(id, name).replacen('{', &format!("{{{more},"), 1)
}

#[test]
fn a_path_that_a_stray_record_had_before_may_be_where_the_lost_one_has_gone() {
    let mut stream = stream();
    let before = |id: usize| if id == 3 { and(id, "Total", r#""Amount2":1.5"#) } else { with(id, "Total") };
    feed(&mut stream, &(0..300).map(before).collect::<Vec<_>>());
    let payloads: Vec<String> = (300..330).map(|id| with(id, "Amount2")).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(held(&outcome).len(), 30);
    assert_eq!(added(&stream), ["Amount2"]);
    let case = only_case(&stream);
    let applied = suggest(&mut stream, "s", vec![renamed("Total", "Amount2", 950)]);
    assert!(names(&applied).contains(&"RepairApplied"), "{applied:?}");
    assert_eq!(totals(&redrive(&mut stream, case, &held(&outcome), &payloads)).iter().flatten().count(), 30);
    reconciles(&stream);
}

#[test]
fn a_path_that_came_in_a_false_alarm_may_be_where_the_lost_one_has_gone_later() {
    for strays in [1, 3] {
        let mut stream = steady(500);
        let early: Vec<String> = (500..500 + strays).map(|id| with(id, "Amount")).collect();
        let first = feed(&mut stream, &early);
        let back: Vec<String> = (510..1_600).map(|id| with(id, "Total")).collect();
        assert!(names(&feed(&mut stream, &back)).contains(&"RecordsReleased"), "{strays}");
        let alarm = only_case(&stream);
        redrive(&mut stream, alarm, &held(&first), &early);
        let outcome = feed(&mut stream, &(2_000..2_030).map(|id| with(id, "Amount")).collect::<Vec<_>>());
        assert_eq!(held(&outcome).len(), 30);
        assert_eq!(added(&stream), ["Amount"], "{strays}");
    }
}

#[test]
fn an_optional_field_that_stands_beside_the_lost_one_is_no_candidate() {
    for percent in [1, 2, 10] {
        let mut stream = stream();
        let optional = |id: usize, name: &str| match id * 37 % 100 < percent {
            true => and(id, name, r#""Discount":1"#),
            false => with(id, name),
        };
        feed(&mut stream, &(0..1_000).map(|id| optional(id, "Total")).collect::<Vec<_>>());
        feed(&mut stream, &(1_000..1_100).map(|id| optional(id, "Amount")).collect::<Vec<_>>());
        assert_eq!(added(&stream), ["Amount"], "{percent} %");
    }
}

#[test]
fn a_repair_that_is_taken_back_has_the_path_that_a_stray_had_among_its_candidates_still() {
    let mut stream = stream();
    let before = |id: usize| if id == 3 { and(id, "Total", r#""Amount2":1.5"#) } else { with(id, "Total") };
    feed(&mut stream, &(0..300).map(before).collect::<Vec<_>>());
    let payloads: Vec<String> = (300..330).map(|id| with(id, "Amount2")).collect();
    let outcome = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Total", "Amount2", 950)]);
    redrive(&mut stream, case, &held(&outcome), &payloads);
    let mapping_version = stream.state.mapping().unwrap().1;
    let (verdict, by) = (Verdict::Revert, "ada".into());
    let revert = Decide { case, mapping_version, version: None, once_read: false, verdict, by, why: String::new() };
    stream.control(&Input::Command { id: "r".into(), command: Command::Decide(revert) });
    assert_eq!(added(&stream), ["Amount2"]);
}

/// A record of which some have a note, under this name.
fn noted(id: usize, name: &str) -> String {
    let note = if id * 7 % 10 < 3 { format!(r#","{name}":"n{id}""#) } else { String::new() };
    format!(r#"{{"Id":"{id}","Total":{id},"Buyer":{{"Name":"b"}}{note}}}"#)
}

#[test]
fn a_rename_of_a_field_that_only_some_have_is_seen_though_a_stray_had_its_new_name_before() {
    let mut stream = stream();
    let before = |id: usize| if id == 303 { noted(id, "Remark") } else { noted(id, "Note") };
    let outcome = feed(&mut stream, &(0..4_000).map(before).collect::<Vec<_>>());
    let strays: Vec<String> = held(&outcome).iter().map(|_| noted(303, "Remark")).collect();
    if let Some(case) = stream.state.drift().cases().keys().next().copied() {
        redrive(&mut stream, case, &held(&outcome), &strays);
    }
    assert!(stream.state.drift().cases().is_empty());
    let outcome = feed(&mut stream, &(4_000..4_200).map(|id| noted(id, "Remark")).collect::<Vec<_>>());
    assert_eq!(names(&outcome), ["TimerSet", "DriftDetected"]);
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (60, 140), "from the first that has it on");
    assert_eq!(added(&stream), ["Remark"]);
    let snapshot = stream.state.snapshot();
    let back = crate::step::StreamState::from_snapshot(&snapshot).unwrap().snapshot();
    assert_eq!(snapshot, back);
}

#[test]
fn a_rare_field_that_keeps_coming_begins_few_cases() {
    let mut stream = stream();
    feed(&mut stream, &(0..1_000).map(|id| noted(id, "Note")).collect::<Vec<_>>());
    let rare = |id: usize| match id % 50 == 1 {
        true => noted(id, "Note").replacen('{', r#"{"Rare":1,"#, 1),
        false => noted(id, "Note"),
    };
    let mut begun = 0;
    for start in (1_000..20_000).step_by(1_000) {
        let payloads: Vec<String> = (start..start + 1_000).map(rare).collect();
        let outcome = feed(&mut stream, &payloads);
        begun += names(&outcome).iter().filter(|name| **name == "TimerSet").count();
        for (case, _) in released(&outcome) {
            let of_case = |d: &&schemas::Decision| matches!(d.fact, Fact::RecordHeld { case: of, .. } if of == case);
            let offsets: Vec<u64> = outcome.decisions.iter().filter(of_case).map(|d| d.input_offset).collect();
            redrive(&mut stream, case, &offsets, &vec![noted(1, "Note"); offsets.len()]);
        }
        assert!(!names(&outcome).contains(&"DriftDetected"));
    }
    assert!(begun <= 4, "{begun} cases");
}

#[test]
fn a_path_that_stands_as_null_ever_after_begins_few_cases() {
    let mut stream = stream();
    let fax = |id: usize, fax: &str| noted(id, "Note").replacen('{', &format!(r#"{{"Fax":{fax},"#), 1);
    feed(&mut stream, &(0..1_000).map(|id| noted(id, "Note")).collect::<Vec<_>>());
    feed(&mut stream, &[fax(1_000, r#""1""#)]);
    let outcome = feed(&mut stream, &(1_001..5_000).map(|id| fax(id, "null")).collect::<Vec<_>>());
    let begun = names(&outcome).iter().filter(|name| **name == "TimerSet").count();
    assert!(begun <= 3, "{begun} cases");
}

/// The paths that stood beside what was lost.
fn beside(stream: &Stream) -> Vec<String> {
    let (drift, tree) = (stream.state.drift(), stream.state.shape());
    drift.beside(only_case(stream), tree).into_iter().map(|node| tree.path(node)).collect()
}

/// A record that has its total under both names.
fn both(id: usize) -> String {
    and(id, "Total", &format!(r#""Amount":{id}.5"#))
}

#[test]
fn a_field_that_was_written_beside_the_lost_one_for_a_while_may_be_where_it_has_gone() {
    let mut stream = steady(100);
    let rare = |id: usize, payload: String| match id % 5 {
        0 => payload.replacen('{', r#"{"Discount":1,"#, 1),
        _ => payload,
    };
    feed(&mut stream, &(100..300).map(|id| rare(id, both(id))).collect::<Vec<_>>());
    let payloads: Vec<String> = (300..330).map(|id| rare(id, with(id, "Amount"))).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(held(&outcome).len(), 30);
    assert_eq!(beside(&stream), ["Amount"], "the other one is not in almost all that is held");
    assert!(added(&stream).is_empty(), "none came with the loss");
    let (drift, tree, case) = (stream.state.drift(), stream.state.shape(), only_case(&stream));
    let lost = drift.lost(case, tree).remove(0);
    assert!(drift.was_there(&lost, "Amount", tree));
    let snapshot = stream.state.snapshot();
    stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    assert_eq!(beside(&stream), ["Amount"], "a restart forgets nothing");
    let proposed = suggest(&mut stream, "s", vec![renamed("Total", "Amount", 990)]);
    assert_eq!(names(&proposed), ["RepairProposed"], "a person decides it");
    decide(&mut stream, "c", Verdict::Edit { moves: vec![renamed("Total", "Amount", 0)] });
    assert_eq!(totals(&redrive(&mut stream, case, &held(&outcome), &payloads)).iter().flatten().count(), 30);
    reconciles(&stream);
}

#[test]
fn a_field_that_was_always_there_beside_the_lost_one_is_no_candidate() {
    for before in [0, 10] {
        let mut stream = stream();
        let payload = |id: usize| if id < before { with(id, "Total") } else { both(id) };
        feed(&mut stream, &(0..300).map(payload).collect::<Vec<_>>());
        feed(&mut stream, &(300..330).map(|id| with(id, "Amount")).collect::<Vec<_>>());
        assert!(beside(&stream).is_empty() && added(&stream).is_empty(), "{before}");
    }
}

#[test]
fn a_path_that_came_with_the_loss_was_not_there_before() {
    let mut stream = steady(100);
    feed(&mut stream, &(100..130).map(|id| with(id, "Amount")).collect::<Vec<_>>());
    assert_eq!((added(&stream), beside(&stream)), (vec!["Amount".to_owned()], vec![]));
    let (drift, tree) = (stream.state.drift(), stream.state.shape());
    let lost = drift.lost(only_case(&stream), tree).remove(0);
    assert!(!drift.was_there(&lost, "Amount", tree) && !drift.was_there(&lost, "Nowhere", tree));
}
