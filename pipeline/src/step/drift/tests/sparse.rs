//! Fields that only some records have, and their renames.

use schemas::drift::{Change, Severity};

use super::*;

/// A record of which some have a note, under this name.
fn noted(id: usize, name: &str) -> String {
    let note = if id * 7 % 10 < 3 { format!(r#","{name}":"n{id}""#) } else { String::new() };
    format!(r#"{{"Id":"{id}","Total":{id},"Buyer":{{"Name":"b"}}{note}}}"#)
}

fn noted_all(ids: std::ops::Range<usize>, name: &str) -> Vec<String> {
    ids.map(|id| noted(id, name)).collect()
}

fn sometimes() -> Stream {
    let mut stream = stream();
    let outcome = feed(&mut stream, &noted_all(0..1_000, "Note"));
    assert_eq!((row_count(&outcome), held(&outcome).len()), (1_000, 0));
    stream
}

#[test]
fn a_lone_rename_of_a_field_that_only_some_records_have_is_held_from_the_first_that_has_the_new_one() {
    let mut stream = sometimes();
    let payloads = noted_all(1_000..1_200, "Remark");
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(names(&outcome), ["TimerSet", "DriftDetected"]);
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (60, 140), "what has neither flows on");
    let case = only_case(&stream);
    let (drift, tree) = (stream.state.drift(), stream.state.shape());
    let lost: Vec<String> = drift.lost(case, tree).into_iter().map(|lost| lost.path).collect();
    assert_eq!((lost, drift.added(case, tree)), (vec!["Note".to_owned()], vec!["Remark".to_owned()]));
    let applied = suggest(&mut stream, "s", vec![renamed("Note", "Remark", 950)]);
    assert_eq!(names(&applied), ["RepairProposed", "RepairApplied", "MappingActivated", "RecordsReleased"]);
    let with_new: Vec<String> = payloads.into_iter().filter(|payload| payload.contains("Remark")).collect();
    assert_eq!(row_count(&redrive(&mut stream, case, &held(&outcome), &with_new)), 60);
    let more = feed(&mut stream, &noted_all(1_200..1_400, "Remark"));
    assert_eq!((row_count(&more), held(&more).len()), (200, 0));
    reconciles(&stream);
}

#[test]
fn another_field_that_only_some_records_have_is_no_rename_of_one_that_stays() {
    let mut stream = sometimes();
    let both = |id: usize| {
        let extra = if id.is_multiple_of(3) { r#","Extra":1}"# } else { "}" };
        noted(id, "Note").strip_suffix('}').unwrap().to_owned() + extra
    };
    let payloads: Vec<String> = (1_000..1_200).map(both).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(names(&outcome), ["TimerSet", "RecordsReleased"]);
    let case = only_case(&stream);
    let lacking: Vec<String> = held(&outcome).iter().map(|_| noted(5, "None")).collect();
    redrive(&mut stream, case, &held(&outcome), &lacking);
    assert!(stream.state.drift().cases().is_empty());
    reconciles(&stream);
}

#[test]
fn a_field_that_comes_less_often_makes_a_case_that_holds_nothing() {
    let mut stream = sometimes();
    let none: Vec<String> =
        (1_000..9_000).map(|id| format!(r#"{{"Id":"{id}","Total":{id},"Buyer":{{"Name":"b"}}}}"#)).collect();
    let outcome = feed(&mut stream, &none);
    assert_eq!((names(&outcome), held(&outcome).len()), (vec!["DriftDetected"], 0));
}

#[test]
fn on_a_slow_stream_a_renamed_field_is_held_until_enough_came_to_tell() {
    let mut stream = sometimes();
    let (mut told, mut waited) = (Vec::new(), 0);
    // Two of each ten have a note; a time is over behind each of these parts.
    for part in 0..8 {
        let fed = feed(&mut stream, &noted_all(1_000 + part * 6..1_006 + part * 6, "Remark"));
        assert!(!names(&fed).contains(&"RecordsReleased"), "{part}");
        told.extend(names(&fed));
        let Some(case) = stream.state.drift().cases().keys().next().copied() else { continue };
        let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
        waited += usize::from(names(&past) == ["TimerSet"]);
        told.extend(names(&past).into_iter().filter(|name| *name != "TimerSet"));
    }
    assert_eq!(told, ["TimerSet", "DriftDetected"]);
    assert!(waited > 0, "once at least too few had come");
    reconciles(&stream);
}

#[test]
fn what_nothing_more_comes_of_is_not_held_for_ever() {
    let mut stream = sometimes();
    let fed = feed(&mut stream, &noted_all(1_000..1_005, "Remark"));
    let case = only_case(&stream);
    let mut at = timer_of(&fed);
    for waits in 1..=11 {
        let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
        assert_eq!(names(&past), ["TimerSet"], "{waits}");
        let next = timer_of(&past);
        assert!(next > at, "{waits}");
        at = next;
    }
    let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
    assert_eq!(names(&past), ["RecordsReleased"]);
}

fn timer_of(outcome: &Outcome) -> i64 {
    let timer = |d: &schemas::Decision| if let Fact::TimerSet { at, .. } = d.fact { Some(at) } else { None };
    outcome.decisions.iter().find_map(timer).unwrap()
}

/// The same, with members before.
fn with_members(id: usize, name: &str, members: &str) -> String {
    noted(id, name).replacen('{', &format!("{{{members},"), 1)
}

#[test]
fn a_map_whose_keys_are_data_brings_no_path_that_took_the_place_of_a_field_that_some_records_lack() {
    for value in ["1", r#"{"age":1}"#] {
        let mut stream = stream();
        let with_map = |id: usize, name: &str| with_members(id, name, &format!(r#""people":{{"p{id}":{value}}}"#));
        let outcome = feed(&mut stream, &(0..3_000).map(|id| with_map(id, "Note")).collect::<Vec<_>>());
        assert_eq!((names(&outcome).len(), held(&outcome).len()), (0, 0), "{:?}", names(&outcome));
        let renamed: Vec<String> = (3_000..3_200).map(|id| with_map(id, "Remark")).collect();
        let outcome = feed(&mut stream, &renamed);
        assert_eq!((names(&outcome), held(&outcome).len()), (vec!["TimerSet", "DriftDetected"], 60), "beside it");
        reconciles(&stream);
    }
}

#[test]
fn an_object_with_many_members_that_come_again_is_no_map() {
    let mut stream = stream();
    let many: String = (0..200).map(|n| format!(r#""c{n}":{n}"#)).collect::<Vec<_>>().join(",");
    feed(&mut stream, &(0..1_000).map(|id| with_members(id, "Note", &many)).collect::<Vec<_>>());
    let renamed: Vec<String> = (1_000..1_200).map(|id| with_members(id, "Remark", &many)).collect();
    assert_eq!(held(&feed(&mut stream, &renamed)).len(), 60);
}

#[test]
fn a_rename_of_a_field_that_only_some_records_have_holds_those_with_the_new_name_alone_once_it_is_taken_back() {
    let mut stream = sometimes();
    let payloads = noted_all(1_000..1_200, "Remark");
    let outcome = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Note", "Remark", 950)]);
    let with_new: Vec<String> = payloads.into_iter().filter(|payload| payload.contains("Remark")).collect();
    assert_eq!(row_count(&redrive(&mut stream, case, &held(&outcome), &with_new)), 60);
    let (version, once_read, verdict, by, why) = (None, true, Verdict::Revert, "ada".into(), String::new());
    let revert = Decide { case, mapping_version: 0, version, once_read, verdict, by, why };
    let reverted = stream.control(&Input::Command { id: "r".into(), command: Command::Decide(revert) });
    assert!(names(&reverted).contains(&"RepairReverted"), "{reverted:?}");
    let outcome = feed(&mut stream, &noted_all(1_200..1_300, "Remark"));
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (30, 70), "what has neither flows on");
    reconciles(&stream);
}

/// A record of which some have a note and a few a memo, under these names; one in fifty has something else, none has two.
fn with_memo(id: usize, note: &str, memo: &str) -> String {
    let memo = match id % 50 {
        1 | 12 | 24 | 45 => format!(r#","{memo}":"m{id}""#),
        7 => r#","Extra":"e""#.to_owned(),
        _ => String::new(),
    };
    let noted = noted(id, note);
    format!("{}{memo}}}", noted.strip_suffix('}').unwrap())
}

/// A stream that lost notes and memos at once, and where a person has said so and taken it back.
fn taken_back(moves: Vec<Move>, is_of_earlier_release: bool) -> Stream {
    let mut stream = Stream::new();
    for input in opening(&MAPPING.replace("Buyer.Name", "Memo"), ENTITY) {
        stream.control(&input);
    }
    feed(&mut stream, &(0..1_000).map(|id| with_memo(id, "Note", "Memo")).collect::<Vec<_>>());
    let payloads: Vec<String> = (1_000..1_200).map(|id| with_memo(id, "Remark", "Memo2")).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!((names(&outcome), held(&outcome).len()), (vec!["TimerSet", "DriftDetected"], 76));
    let case = only_case(&stream);
    assert_eq!(stream.state.drift().lost(case, stream.state.shape()).len(), 2);
    edit(&mut stream, case, moves);
    let is_held = |payload: &String| payload.contains("Remark") || payload.contains("Memo2");
    let payloads: Vec<String> = payloads.into_iter().filter(is_held).collect();
    assert_eq!(row_count(&redrive(&mut stream, case, &held(&outcome), &payloads)), 76);
    if is_of_earlier_release {
        let mut snapshot: serde_json::Value = serde_json::from_slice(&stream.state.snapshot()).unwrap();
        let applied = &mut snapshot["drift"]["applied"][case.to_string()];
        assert!(applied.as_object_mut().unwrap().remove("new").is_some());
        let snapshot = serde_json::to_vec(&snapshot).unwrap();
        stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    }
    let (version, once_read, verdict, by, why) = (None, true, Verdict::Revert, "ada".into(), String::new());
    let revert = Decide { case, mapping_version: 0, version, once_read, verdict, by, why };
    let reverted = stream.control(&Input::Command { id: "r".into(), command: Command::Decide(revert) });
    assert!(names(&reverted).contains(&"RepairReverted"), "{reverted:?}");
    stream
}

#[test]
fn a_rename_that_few_of_the_held_records_have_is_held_too_once_it_is_taken_back() {
    let mut stream = taken_back(vec![renamed("Note", "Remark", 0), renamed("Memo", "Memo2", 0)], false);
    let outcome = feed(&mut stream, &(1_200..1_300).map(|id| with_memo(id, "Remark", "Memo2")).collect::<Vec<_>>());
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (38, 62), "what has neither flows on");
    reconciles(&stream);
}

#[test]
fn a_rename_to_a_path_of_old_that_is_taken_back_holds_what_has_it_and_whatever_was_new() {
    // The person was wrong about the memo.
    let mut stream = taken_back(vec![renamed("Note", "Remark", 0), renamed("Memo", "Extra", 0)], false);
    let outcome = feed(&mut stream, &(1_200..1_300).map(|id| with_memo(id, "Remark", "Memo2")).collect::<Vec<_>>());
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (40, 60));
    reconciles(&stream);
}

#[test]
fn all_that_lacks_it_is_held_where_a_decision_of_an_earlier_release_does_not_say_what_was_new() {
    let mut stream = taken_back(vec![renamed("Note", "Remark", 0), renamed("Memo", "Memo2", 0)], true);
    let payloads: Vec<String> = (1_200..1_300).map(|id| with_memo(id, "Remark", "Memo2")).collect();
    assert_eq!(held(&feed(&mut stream, &payloads)).len(), 100);
    reconciles(&stream);
}

/// The same, its note a number.
fn numbered(id: usize) -> String {
    noted(id, "Note").replace(&format!(r#""n{id}""#), &id.to_string())
}

#[test]
fn another_type_of_a_field_that_only_some_records_have_is_held_and_what_lacks_it_flows_on() {
    let mut stream = sometimes();
    let payloads: Vec<String> = (1_000..1_200).map(numbered).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(names(&outcome), ["TimerSet", "DriftDetected"]);
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (60, 140));
    let told = outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::DriftDetected { lost, lacking, having, severity, .. } => {
            Some((lost.clone(), *lacking, *having, *severity))
        }
        _ => None,
    });
    let (lost, lacking, having, severity) = told.unwrap();
    assert_eq!((lost.len(), &*lost[0].path, lost[0].retyped), (1, "Note", true));
    assert_eq!((lacking, having, severity), (20, 0, Some(Severity::Warning)), "of its values, not of all records");
    assert_eq!(held(&feed(&mut stream, &noted_all(1_200..1_300, "Note"))).len(), 0, "what has the old type flows on");
    let same = Move { kind: DriftKind::Retyped, ..renamed("Note", "Note", 990) };
    assert_eq!(names(&suggest(&mut stream, "s", vec![same])), ["RepairProposed"], "and waits");
    let case = only_case(&stream);
    decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    let with_note: Vec<String> = payloads.into_iter().filter(|payload| payload.contains("Note")).collect();
    assert_eq!(row_count(&redrive(&mut stream, case, &held(&outcome), &with_note)), 60);
    let more: Vec<String> = (1_300..1_400).map(numbered).collect();
    assert_eq!(names(&feed(&mut stream, &more)), Vec::<&str>::new());
    assert_eq!(stream.state.counters.held, 0);
    reconciles(&stream);
}

#[test]
fn a_field_that_only_some_records_have_and_whose_type_is_one_in_a_hundred_wrong_makes_no_case() {
    let mut stream = sometimes();
    let wrong = |id: usize| if id.is_multiple_of(300) { numbered(id) } else { noted(id, "Note") };
    let outcome = feed(&mut stream, &(1_000..9_000).map(wrong).collect::<Vec<_>>());
    assert_eq!(names(&outcome), ["TimerSet", "RecordsReleased"], "the first one is looked at twice");
    assert_eq!(held(&outcome).len(), 1);
}

#[test]
fn on_a_slow_stream_another_type_is_held_until_some_values_came_to_tell() {
    let mut stream = sometimes();
    let first = feed(&mut stream, &(1_000..1_003).map(numbered).collect::<Vec<_>>());
    let case = only_case(&stream);
    let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
    assert_eq!((held(&first).len(), names(&past)), (1, vec!["TimerSet"]), "one value says little");
    assert!(timer_of(&past) > timer_of(&first));
    let snapshot = stream.state.snapshot();
    stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    let more = feed(&mut stream, &(1_003..1_020).map(numbered).collect::<Vec<_>>());
    assert_eq!((held(&more).len(), names(&more)), (5, vec![]));
    let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
    assert_eq!(names(&past), ["DriftDetected"]);
}

#[test]
fn on_a_slow_stream_one_odd_value_among_few_makes_no_case() {
    let mut stream = sometimes();
    let mut payloads = noted_all(1_000..1_030, "Note");
    payloads[0] = numbered(1_000);
    let first = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
    assert_eq!((held(&first).len(), names(&past)), (1, vec!["TimerSet"]), "one of nine says little");
    assert!(timer_of(&past) > timer_of(&first));
    let more = feed(&mut stream, &noted_all(1_030..1_080, "Note"));
    assert_eq!((held(&more).len(), names(&more)), (0, vec!["RecordsReleased"]));
}

#[test]
fn on_a_slow_stream_one_absence_among_few_records_makes_no_case() {
    let mut stream = steady(100);
    let mut payloads: Vec<String> = (100..106).map(|id| with(id, "Total")).collect();
    payloads[0] = with(100, "None");
    assert_eq!(held(&feed(&mut stream, &payloads)).len(), 1);
    let case = only_case(&stream);
    let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
    assert_eq!(names(&past), ["TimerSet"]);
    let more = feed(&mut stream, &(106..126).map(|id| with(id, "Total")).collect::<Vec<_>>());
    assert_eq!((held(&more).len(), names(&more)), (0, vec!["RecordsReleased"]));
}

#[test]
fn another_type_of_a_field_that_hardly_any_record_has_is_told_after_a_thousand_records() {
    let note = |id: usize| if id.is_multiple_of(100) { format!(r#","Note":{id}"#) } else { String::new() };
    let text = |id: usize| note(id).replace(&format!(":{id}"), &format!(r#":"n{id}""#));
    let record = |id: usize, note: String| format!(r#"{{"Id":"{id}","Total":{id},"Buyer":{{"Name":"b"}}{note}}}"#);
    let mut stream = stream();
    let before = feed(&mut stream, &(0..3_000).map(|id| record(id, text(id))).collect::<Vec<_>>());
    assert_eq!(names(&before), Vec::<&str>::new());
    let early = feed(&mut stream, &(3_000..3_990).map(|id| record(id, note(id))).collect::<Vec<_>>());
    assert_eq!((held(&early).len(), names(&early)), (10, vec!["TimerSet"]));
    let outcome = feed(&mut stream, &(3_990..4_010).map(|id| record(id, note(id))).collect::<Vec<_>>());
    assert_eq!((held(&outcome).len(), names(&outcome)), (1, vec!["DriftDetected"]));
}

#[test]
fn the_first_values_of_a_field_that_only_some_records_have_may_be_of_any_type() {
    let mut stream = stream();
    feed(&mut stream, &noted_all(0..60, "Note"));
    let outcome = feed(&mut stream, &(60..100).map(numbered).collect::<Vec<_>>());
    assert_eq!((held(&outcome).len(), names(&outcome)), (0, vec![]));
}

/// A stream with an open case for the type of the field that some of its records have.
fn retyped() -> Stream {
    let mut stream = sometimes();
    assert_eq!(held(&feed(&mut stream, &(1_000..1_200).map(numbered).collect::<Vec<_>>())).len(), 60);
    stream
}

fn lost_of(stream: &Stream) -> Vec<(String, bool)> {
    let lost = stream.state.drift().lost(only_case(stream), stream.state.shape());
    lost.into_iter().map(|lost| (lost.path, lost.retyped)).collect()
}

#[test]
fn a_field_that_is_renamed_while_its_new_type_waits_for_a_person_is_held_and_told_again() {
    let often = |id: usize, name: &str| {
        let note = if id.is_multiple_of(10) { String::new() } else { format!(r#","{name}":"n{id}""#) };
        format!(r#"{{"Id":"{id}","Total":{id},"Buyer":{{"Name":"b"}}{note}}}"#)
    };
    let all = |ids: std::ops::Range<usize>, name: &str| ids.map(|id| often(id, name)).collect::<Vec<_>>();
    let mut stream = stream();
    feed(&mut stream, &all(0..1_000, "Note"));
    let number = |id: usize| often(id, "Note").replace(&format!(r#""n{id}""#), &id.to_string());
    let outcome = feed(&mut stream, &(1_000..1_040).map(number).collect::<Vec<_>>());
    assert_eq!((names(&outcome), held(&outcome).len()), (vec!["TimerSet", "DriftDetected"], 36));
    assert_eq!(lost_of(&stream), [("Note".to_owned(), true)]);
    let outcome = feed(&mut stream, &all(1_040..1_240, "Note"));
    assert_eq!((names(&outcome).len(), held(&outcome).len()), (0, 0), "as it was before, it flows");
    let outcome = feed(&mut stream, &all(1_240..1_440, "Remark"));
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (180, 20), "what has neither flows on");
    assert_eq!(names(&outcome), ["DriftDetected"]);
    assert_eq!(lost_of(&stream), [("Note".to_owned(), false)]);
    assert_eq!(held(&feed(&mut stream, &[number(1_441)])).len(), 1, "and so is what has the new type");
    reconciles(&stream);
}

#[test]
fn a_path_that_comes_while_a_new_type_waits_takes_the_place_of_nothing_that_is_still_there() {
    let mut stream = retyped();
    let both = |id: usize| {
        let extra = if id.is_multiple_of(3) { r#","Extra":1}"# } else { "}" };
        noted(id, "Note").strip_suffix('}').unwrap().to_owned() + extra
    };
    let outcome = feed(&mut stream, &(1_207..1_607).map(both).collect::<Vec<_>>());
    assert!((1..=10).contains(&held(&outcome).len()), "{}", held(&outcome).len());
    assert_eq!(names(&outcome), Vec::<&str>::new());
    assert_eq!(lost_of(&stream), [("Note".to_owned(), true)]);
    let snapshot = stream.state.snapshot();
    stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    let outcome = feed(&mut stream, &(1_610..1_710).map(numbered).collect::<Vec<_>>());
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (30, 70), "the new type is held as before");
    reconciles(&stream);
}

#[test]
fn a_field_that_comes_less_often_while_its_new_type_waits_is_told() {
    let mut stream = retyped();
    let none: Vec<String> =
        (1_200..9_000).map(|id| format!(r#"{{"Id":"{id}","Total":{id},"Buyer":{{"Name":"b"}}}}"#)).collect();
    let outcome = feed(&mut stream, &none);
    assert_eq!((names(&outcome), held(&outcome).len()), (vec!["DriftDetected"], 0));
    let told = outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::DriftDetected { case, lost, .. } => Some((*case, lost.clone())),
        _ => None,
    });
    let (case, lost) = told.unwrap();
    assert!(case != only_case(&stream) && matches!(lost[0].change, Some(Change::Nulls { .. })), "{lost:?}");
}
