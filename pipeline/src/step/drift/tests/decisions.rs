//! What rules or a person decide of a case, and what becomes of its records then.

use schemas::Input;
use schemas::decision::Fact;
use schemas::drift::{Decide, Move, Verdict};
use schemas::input::Command;
use schemas::reason::Reason;

use super::{
    ENTITY, MAPPING, decide, feed, held, names, only_case, reconciles, redrive, renamed, steady, suggest, totals, with,
};
use crate::step::tests::{Stream, opening, quarantined};

#[test]
fn a_sure_rename_is_applied_by_itself_and_what_was_held_comes_with_its_values() {
    let mut stream = steady(100);
    let payloads: Vec<String> = (100..130).map(|id| with(id, "Amount")).collect();
    let first = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    let outcome = suggest(&mut stream, "s", vec![renamed("Total", "Amount", 950)]);
    assert_eq!(names(&outcome), ["RepairProposed", "RepairApplied", "MappingActivated", "RecordsReleased"]);
    let (mapping, version) = stream.state.mapping().unwrap();
    assert_eq!(version, 2);
    assert!(mapping.text().contains("Amount | Total"), "the old path stays");
    let again = redrive(&mut stream, case, &held(&first), &payloads);
    assert_eq!(totals(&again).iter().flatten().count(), 30, "none is blank");
    let (old, new) = (with(200, "Total"), with(201, "Amount"));
    assert_eq!(totals(&feed(&mut stream, &[old, new])).iter().flatten().count(), 2, "both shapes map");
    reconciles(&stream);
    assert_eq!(stream.state.counters.held, 0);
}

#[test]
fn what_is_doubtful_or_breaks_something_waits_for_a_person() {
    let key = |id: usize| format!(r#"{{"Number":"{id}","Total":1,"Note":"n","Buyer":{{"Name":"b"}}}}"#);
    let text = |id: usize| format!(r#"{{"Id":"{id}","Amount":"x","Note":"n","Buyer":{{"Name":"b"}}}}"#);
    let cases: [(Vec<String>, Vec<Move>, &str); 6] = [
        ((0..30).map(|id| with(id, "Amount")).collect(), vec![renamed("Total", "Amount", 899)], "below 0.90"),
        ((0..30).map(|id| with(id, "Amount")).collect(), vec![], "no counterpart"),
        ((0..30).map(|id| with(id, "Amount")).collect(), vec![renamed("Total", "Elsewhere", 990)], "no record had"),
        ((0..30).map(|id| with(id, "Amount")).collect(), vec![renamed("Total", "Note", 990)], "another type"),
        ((0..30).map(text).collect(), vec![renamed("Total", "Amount", 990)], "another type"),
        ((0..30).map(key).collect(), vec![renamed("Id", "Number", 990)], "feeds the key"),
    ];
    for (payloads, moves, why) in cases {
        let mut stream = steady(100);
        assert_eq!(held(&feed(&mut stream, &payloads)).len(), 30);
        let outcome = suggest(&mut stream, "s", moves);
        let waits = outcome.decisions.iter().find_map(|d| match &d.fact {
            Fact::RepairProposed { waits, .. } => waits.clone(),
            _ => None,
        });
        assert!(waits.as_deref().is_some_and(|text| text.contains(why)), "{waits:?} and not {why}");
        assert_eq!(stream.state.mapping().unwrap().1, 1);
        assert_eq!(held(&feed(&mut stream, &payloads[..1])).len(), 1, "and goes on to be held");
    }
}

#[test]
fn what_was_accepted_as_removed_is_no_jump_of_nulls() {
    let mut stream = steady(300);
    let without = |id: usize| format!(r#"{{"Id":"{id}","Note":"n{id}","Buyer":{{"Name":"b"}}}}"#);
    feed(&mut stream, &(300..330).map(without).collect::<Vec<_>>());
    decide(&mut stream, "c", Verdict::AcceptAsRemoved { only: vec![] });
    let later = feed(&mut stream, &(400..600).map(without).collect::<Vec<_>>());
    assert_eq!(names(&later), Vec::<&str>::new(), "nulls from here on, by a person");
}

#[test]
fn what_was_accepted_as_removed_may_come_and_go_until_it_has_come_to_stay() {
    let without = |id: usize| format!(r#"{{"Id":"{id}","Note":"n{id}","Buyer":{{"Name":"b"}}}}"#);
    let all_without = |ids: std::ops::Range<usize>| ids.map(without).collect::<Vec<_>>();
    let all_with = |ids: std::ops::Range<usize>, name: &str| ids.map(|id| with(id, name)).collect::<Vec<_>>();
    let come_and_gone = || {
        let mut stream = steady(300);
        let first = feed(&mut stream, &all_without(300..360));
        assert_eq!((held(&first).len(), names(&first)), (60, vec!["TimerSet", "DriftDetected"]));
        let case = only_case(&stream);
        decide(&mut stream, "c", Verdict::AcceptAsRemoved { only: vec![] });
        assert_eq!(totals(&redrive(&mut stream, case, &held(&first), &all_without(300..360))), [None; 60]);
        for block in 0..3 {
            let start = 1_000 + block * 200;
            let (here, gone) = (all_with(start..start + 100, "Total"), all_without(start + 100..start + 200));
            assert_eq!((held(&feed(&mut stream, &here)).len(), held(&feed(&mut stream, &gone)).len()), (0, 0));
        }
        assert!(stream.state.drift().cases().is_empty());
        stream
    };
    let mut stream = come_and_gone();
    let outcome = feed(&mut stream, &all_with(2_000..2_060, "Amount"));
    assert_eq!((held(&outcome).len(), names(&outcome)), (60, vec!["TimerSet", "DriftDetected"]), "by the new path");

    for (stays, expected) in [(1_150, 0), (1_250, 30)] {
        let mut stream = come_and_gone();
        feed(&mut stream, &all_with(2_000..2_000 + stays, "Total"));
        let outcome = feed(&mut stream, &all_without(4_000..4_030));
        assert_eq!(held(&outcome).len(), expected, "there in {stays}, away in a hundred before");
        reconciles(&stream);
    }
}

#[test]
fn a_mapping_can_have_a_person_approve_every_repair() {
    let mut stream = Stream::new();
    for input in opening(&MAPPING.replace(r#""fields""#, r#""repairs":"approve","fields""#), ENTITY) {
        stream.control(&input);
    }
    feed(&mut stream, &(0..100).map(|id| with(id, "Total")).collect::<Vec<_>>());
    feed(&mut stream, &(0..30).map(|id| with(id, "Amount")).collect::<Vec<_>>());
    let outcome = suggest(&mut stream, "s", vec![renamed("Total", "Amount", 999)]);
    assert_eq!(names(&outcome), ["RepairProposed"]);
    assert_eq!(names(&decide(&mut stream, "c", Verdict::Approve { only: vec![] })).len(), 4);
}

#[test]
fn a_person_approves_edits_rejects_or_accepts_as_removed() {
    let drifted = || {
        let mut stream = steady(100);
        let payloads: Vec<String> = (100..130).map(|id| with(id, "Amount")).collect();
        let first = feed(&mut stream, &payloads);
        suggest(&mut stream, "s", vec![renamed("Total", "Amount", 500)]);
        let case = only_case(&stream);
        (stream, case, held(&first), payloads)
    };
    let all = || Verdict::Approve { only: vec![] };
    let (mut stream, case, offsets, payloads) = drifted();
    let outcome = decide(&mut stream, "c", all());
    assert_eq!(names(&outcome), ["RepairApplied", "MappingActivated", "RecordsReleased", "CommandApplied"]);
    assert_eq!(totals(&redrive(&mut stream, case, &offsets, &payloads)).iter().flatten().count(), 30);
    reconciles(&stream);

    let (mut stream, case, offsets, payloads) = drifted();
    let moves = vec![renamed("Total", "Amount", 0)];
    assert_eq!(names(&decide(&mut stream, "c", Verdict::Edit { moves })).len(), 4);
    assert_eq!(totals(&redrive(&mut stream, case, &offsets, &payloads)).iter().flatten().count(), 30);

    let (mut stream, case, offsets, payloads) = drifted();
    assert_eq!(names(&decide(&mut stream, "c", Verdict::Reject)), ["RepairRejected", "CommandApplied"]);
    assert_eq!(held(&feed(&mut stream, &payloads)).len(), 30, "what is rejected stays held");
    assert_eq!(names(&decide(&mut stream, "d", all())), ["CommandRefused"], "nothing is proposed any more");
    let outcome = decide(&mut stream, "e", Verdict::AcceptAsRemoved { only: vec![] });
    assert_eq!(names(&outcome), ["RepairApplied", "RecordsReleased", "CommandApplied"]);
    assert_eq!(totals(&redrive(&mut stream, case, &offsets, &payloads)), [None; 30]);
    assert_eq!(totals(&feed(&mut stream, &payloads)), [None; 30], "null from here on, by a person");
    reconciles(&stream);
}

#[test]
fn some_of_a_case_can_be_approved_and_the_rest_waits_on() {
    let mut stream = steady(100);
    let payload = |id: usize| format!(r#"{{"Id":"{id}","Amount":{id},"Remark":"n","Buyer":{{"Name":"b"}}}}"#);
    let payloads: Vec<String> = (0..30).map(payload).collect();
    let first = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Total", "Amount", 990), renamed("Note", "Remark", 500)]);
    let outcome = decide(&mut stream, "c", Verdict::Approve { only: vec!["Total".into()] });
    assert_eq!(names(&outcome), ["RepairApplied", "MappingActivated", "CommandApplied"], "nothing is released yet");
    assert_eq!(held(&feed(&mut stream, &payloads[..1])).len(), 1);
    let outcome = decide(&mut stream, "d", Verdict::AcceptAsRemoved { only: vec!["Note".into()] });
    assert_eq!(names(&outcome), ["RepairApplied", "RecordsReleased", "CommandApplied"]);
    let again = redrive(&mut stream, case, &held(&first), &payloads);
    assert_eq!(totals(&again).iter().flatten().count(), 30);
    let unknown = decide(&mut stream, "e", Verdict::Approve { only: vec![] });
    assert_eq!(names(&unknown), ["CommandRefused"]);
}

#[test]
fn a_decision_on_another_mapping_version_or_of_no_open_case_is_refused() {
    let mut stream = steady(100);
    feed(&mut stream, &(0..30).map(|id| with(id, "Amount")).collect::<Vec<_>>());
    let case = only_case(&stream);
    for (case, mapping_version, why) in [(case, 7, "mapping version 7"), (case + 1, 1, "not open")] {
        let (version, verdict, by) = (None, Verdict::Reject, "ada".into());
        let decide = Decide { case, mapping_version, version, once_read: false, verdict, by, why: String::new() };
        let id = format!("{case}-{mapping_version}");
        let outcome = stream.control(&Input::Command { id, command: Command::Decide(decide) });
        let Fact::CommandRefused { reason, .. } = &outcome.decisions[0].fact else { panic!("{outcome:?}") };
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn a_repair_lets_no_record_go_that_lacks_the_new_path_too() {
    let mut stream = steady(100);
    let mut payloads: Vec<String> = (100..130).map(|id| with(id, "Amount")).collect();
    payloads.push(with(130, "Other"));
    let first = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Total", "Amount", 950)]);
    let again = redrive(&mut stream, case, &held(&first), &payloads);
    assert_eq!(totals(&again).iter().flatten().count(), 30);
    assert_eq!((held(&again).len(), stream.state.counters.held), (1, 1), "one has neither and is held anew");
    reconciles(&stream);
}

#[test]
fn a_held_record_that_does_not_map_after_all_is_quarantined_and_counted_once() {
    let mut stream = steady(100);
    let payloads: Vec<String> =
        (0..30).map(|id| format!(r#"{{"Id":"{id}","Amount":"lots","Note":"n","Buyer":{{"Name":"b"}}}}"#)).collect();
    let first = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    decide(&mut stream, "c", Verdict::Edit { moves: vec![renamed("Total", "Amount", 0)] });
    let again = redrive(&mut stream, case, &held(&first), &payloads);
    assert_eq!(quarantined(&again).len(), 30);
    assert_eq!(quarantined(&again)[0].0, Reason::CastFailed);
    assert!(redrive(&mut stream, case, &held(&first), &payloads).decisions.is_empty(), "coming twice changes nothing");
    assert_eq!(stream.state.counters.quarantined, 30);
    reconciles(&stream);
}
