//! Drift, told on whole records: what is held, when a case opens, what a decision does.

mod bad_input;
mod candidates;
mod declared;
mod notices;
mod refills;
mod reverts;
mod sparse;
mod swaps;
mod values;
mod waning;

use proptest::prelude::*;
use schemas::decision::Fact;
use schemas::drift::{Decide, DriftKind, Move, Tried, Verdict};
use schemas::event::EventBatchReader;
use schemas::input::Command;
use schemas::reason::Reason;
use schemas::record::RecordBatchWriter;
use schemas::{BatchKind, Input, Lane, Op, Record, Value, Version};

use crate::step::tests::{Stream, batch, opening, quarantined, row_count};
use crate::step::{Again, InputBatch, Outcome, Scratch, fold, redriven_for};

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[
    {"name":"order_id","type":"text","required":true},{"name":"total","type":"decimal"},
    {"name":"note","type":"text"},{"name":"buyer","type":"text"}]}"#;
const MAPPING: &str =
    r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","total":"Total","note":"Note","buyer":"Buyer.Name"}}"#;

fn stream() -> Stream {
    let mut stream = Stream::new();
    for input in opening(MAPPING, ENTITY) {
        stream.control(&input);
    }
    stream
}

/// A stream that has seen so many records with everything.
fn steady(records: usize) -> Stream {
    let mut stream = stream();
    let payloads: Vec<String> = (0..records).map(|id| with(id, "Total")).collect();
    assert_eq!(row_count(&feed(&mut stream, &payloads)) as usize, records);
    stream
}

fn with(id: usize, name: &str) -> String {
    format!(r#"{{"Id":"{id}","{name}":{id}.5,"Note":"n{id}","Buyer":{{"Name":"b"}}}}"#)
}

fn feed(stream: &mut Stream, payloads: &[String]) -> Outcome {
    stream.records(&payloads.iter().map(String::as_str).collect::<Vec<_>>())
}

fn names(outcome: &Outcome) -> Vec<&'static str> {
    // The times that people have are told elsewhere.
    let is_hold = |fact: &Fact| !matches!(fact, Fact::TimerSet { id, .. } if !id.starts_with("hold-"));
    let names = outcome.decisions.iter().filter(|d| is_hold(&d.fact)).map(|d| d.fact.type_name());
    names.filter(|name| !matches!(*name, "ShapeObserved" | "RecordHeld")).collect()
}

fn held(outcome: &Outcome) -> Vec<u64> {
    let held = outcome.decisions.iter().filter(|d| matches!(d.fact, Fact::RecordHeld { .. }));
    held.map(|d| d.input_offset).collect()
}

fn totals(outcome: &Outcome) -> Vec<Option<i128>> {
    let mut all = Vec::new();
    for (body, _) in &outcome.rows {
        let mut reader = EventBatchReader::new(body).unwrap();
        while let Some(mut row) = reader.next_row().unwrap() {
            row.values.next_value().unwrap();
            all.push(match row.values.next_value().unwrap() {
                Value::Decimal(units) => Some(units),
                _ => None,
            });
        }
    }
    all
}

fn reconciles(stream: &Stream) {
    let c = stream.state.counters;
    assert_eq!(c.taken, c.accepted + c.deleted + c.quarantined + c.held + c.duplicate, "{c:?}");
}

fn only_case(stream: &Stream) -> u64 {
    let cases: Vec<u64> = stream.state.drift().cases().keys().copied().collect();
    assert_eq!(cases.len(), 1, "{cases:?}");
    cases[0]
}

fn renamed(from: &str, to: &str, confidence: u16) -> Move {
    let (from, to) = (from.to_owned(), vec![to.to_owned()]);
    Move { from, to, kind: DriftKind::Renamed, confidence, part: None, change: None, transform: None, signals: vec![] }
}

fn suggest(stream: &mut Stream, id: &str, moves: Vec<Move>) -> Outcome {
    let (case, mapping_version) = (only_case(stream), stream.state.mapping().unwrap().1);
    stream.control(&Input::Suggestion {
        id: id.to_owned(),
        case,
        mapping_version,
        moves,
        alternatives: vec![],
        tried: clean(),
        asked: None,
        version: None,
    })
}

/// A dry run of which nothing is to be said.
fn clean() -> Option<Tried> {
    Some(Tried { records: 30, accepted: 30, quarantined: 0, held: 0 })
}

fn decide(stream: &mut Stream, id: &str, verdict: Verdict) -> Outcome {
    let (case, mapping_version) = (only_case(stream), stream.state.mapping().unwrap().1);
    let decide = Decide {
        case,
        mapping_version,
        version: None,
        once_read: false,
        verdict,
        by: "ada".to_owned(),
        why: "seen".to_owned(),
    };
    stream.control(&Input::Command { id: id.to_owned(), command: Command::Decide(decide) })
}

/// The same as people give it: not while records are looked at again for the case.
fn decide_once_read(stream: &mut Stream, id: &str, verdict: Verdict) -> Outcome {
    let (case, mapping_version) = (only_case(stream), stream.state.mapping().unwrap().1);
    let (version, once_read, by, why) = (None, true, "ada".to_owned(), "seen".to_owned());
    let decide = Decide { case, mapping_version, version, once_read, verdict, by, why };
    stream.control(&Input::Command { id: id.to_owned(), command: Command::Decide(decide) })
}

/// The ends of everything that is looked at again, as the repairer says them.
fn recall_ends(asked: &Outcome) -> Vec<Input> {
    let end = |d: &schemas::Decision| match d.fact {
        Fact::RecordsRecalled { case, since, .. } | Fact::RepairReverted { into: case, since, .. } => {
            Some(Input::RecallEnded { case, at: d.input_offset, since })
        }
        _ => None,
    };
    asked.decisions.iter().filter_map(end).collect()
}

/// Every held record of a batch that was fed, as the repairer sends it again.
fn redrive(stream: &mut Stream, case: u64, offsets: &[u64], payloads: &[String]) -> Outcome {
    let mut writer = RecordBatchWriter::new(Lane(1000 + u128::from(case)), 0, 0);
    for (origin, payload) in offsets.iter().zip(payloads) {
        let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
        let record = Record { ordinal: origin + 1, op, key: None, version, defect: None, payload };
        writer.push_from(&record, Some(*origin));
    }
    let batch = writer.finish(&case.to_be_bytes());
    stream.fold(BatchKind::Redriven, batch.count, &batch.body)
}

/// Records that were accepted, as the repairer sends them again for a case.
fn send_again(stream: &mut Stream, case: u64, why: Again, offsets: &[u64], payloads: &[String]) -> Outcome {
    let lane = if why == Again::Reverted { 30_000 } else { 20_000 };
    let mut writer = RecordBatchWriter::new(Lane(lane + u128::from(case)), 0, 0);
    for (origin, payload) in offsets.iter().zip(payloads) {
        let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
        let record = Record { ordinal: origin + 1, op, key: None, version, defect: None, payload };
        writer.push_from(&record, Some(*origin));
    }
    let batch = writer.finish(&redriven_for(case, why));
    stream.fold(BatchKind::Redriven, batch.count, &batch.body)
}

/// A person says of a case where its values have gone.
fn edit(stream: &mut Stream, case: u64, moves: Vec<Move>) -> Outcome {
    let (verdict, mapping_version) = (Verdict::Edit { moves }, stream.state.mapping().unwrap().1);
    let decide = Decide {
        case,
        mapping_version,
        version: None,
        once_read: false,
        verdict,
        by: "ada".to_owned(),
        why: "seen".to_owned(),
    };
    stream.control(&Input::Command { id: format!("e-{case}"), command: Command::Decide(decide) })
}

#[test]
fn a_record_that_lacks_what_twenty_had_is_held_and_others_flow_on() {
    let mut stream = steady(20);
    let outcome = feed(&mut stream, &[with(20, "Amount"), with(21, "Total"), with(22, "Amount")]);
    assert_eq!(totals(&outcome), [Some(215_000)], "what has everything flows on");
    assert_eq!(held(&outcome).len(), 2);
    assert_eq!(names(&outcome), ["TimerSet"], "nothing is told yet");
    assert_eq!(stream.state.counters.held, 2);
    reconciles(&stream);
    let mut early = steady(19);
    let outcome = feed(&mut early, &[with(20, "Amount")]);
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (0, 1), "nineteen records tell nothing");
}

#[test]
fn an_absence_that_was_an_accident_is_released_and_comes_again_in_its_old_place() {
    let mut stream = steady(50);
    let first = feed(&mut stream, &[with(50, "Amount")]);
    let rest: Vec<String> = (51..80).map(|id| with(id, "Total")).collect();
    let outcome = feed(&mut stream, &rest);
    assert_eq!(names(&outcome), ["RecordsReleased"]);
    assert_eq!(row_count(&outcome), 29);
    let case = only_case(&stream);
    let again = redrive(&mut stream, case, &held(&first), &[with(50, "Amount")]);
    assert_eq!(names(&again), ["RecordsRedriven"]);
    let row = EventBatchReader::new(&again.rows[0].0).unwrap().next_row().unwrap().unwrap();
    assert_eq!((row.key, row.origin), ("50", held(&first)[0]));
    assert_eq!(totals(&again), [None]);
    assert_eq!((stream.state.counters.held, stream.state.drift().cases().len()), (0, 0));
    reconciles(&stream);
}

#[test]
fn twenty_records_without_it_and_none_with_it_open_a_case_that_names_what_is_lost_and_what_came() {
    let mut stream = steady(100);
    let outcome = feed(&mut stream, &(100..130).map(|id| with(id, "Amount")).collect::<Vec<_>>());
    assert_eq!(held(&outcome).len(), 30);
    assert_eq!(names(&outcome), ["TimerSet", "DriftDetected"]);
    let detected = outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::DriftDetected { lost, added, lacking, having, mapping_version, .. } => {
            Some((lost.clone(), added.clone(), *lacking, *having, *mapping_version))
        }
        _ => None,
    });
    let (lost, added, lacking, having, version) = detected.unwrap();
    assert_eq!((lost.len(), &*lost[0].path, &lost[0].feeds[..]), (1, "Total", &["total".to_owned()][..]));
    assert_eq!((added, lacking, having, version), (vec!["Amount".to_owned()], 20, 0, 1));
}

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
fn what_is_lost_soon_after_a_false_alarm_is_held_from_the_first_record_on() {
    for between in [20, 25, 35, 60] {
        let mut stream = steady(300);
        let without = |id: usize| format!(r#"{{"Id":"{id}","Note":"n{id}","Buyer":{{"Name":"b"}}}}"#);
        assert_eq!(held(&feed(&mut stream, &[without(300)])).len(), 1);
        let back: Vec<String> = (0..between).map(|id| with(400 + id, "Total")).collect();
        assert!(names(&feed(&mut stream, &back)).contains(&"RecordsReleased"), "{between}");
        let gone: Vec<String> = (0..80).map(|id| without(600 + id)).collect();
        assert_eq!(held(&feed(&mut stream, &gone)).len(), 80, "{between} records after a false alarm");
        reconciles(&stream);
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
fn a_timer_that_comes_due_opens_a_case_though_few_records_came() {
    let mut stream = steady(100);
    let outcome = feed(&mut stream, &[with(100, "Amount")]);
    let timer = outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::TimerSet { id, at } => Some((id.clone(), *at)),
        _ => None,
    });
    let (id, at) = timer.unwrap();
    assert_eq!(at, 30_000_007);
    assert_eq!(names(&stream.control(&Input::TimePassed { id: id.clone() })), ["DriftDetected"]);
    assert!(names(&stream.control(&Input::TimePassed { id })).is_empty(), "once");
    assert!(names(&stream.control(&Input::TimePassed { id: "hold-x".into() })).is_empty());
}

#[test]
fn deletes_nulls_reordered_keys_and_null_parents_are_no_drift() {
    let mut stream = Stream::new();
    let mapping = MAPPING.replace(r#""fields""#, r#""deleted":{"field":"Gone"},"fields""#);
    for input in opening(&mapping, ENTITY) {
        stream.control(&input);
    }
    feed(&mut stream, &(0..100).map(|id| with(id, "Total")).collect::<Vec<_>>());
    let outcome = feed(
        &mut stream,
        &[
            r#"{"Note":null,"Total":null,"Buyer":{"Name":null},"Id":"1"}"#.to_owned(),
            r#"{"Buyer":null,"Note":"n","Total":1,"Id":"2"}"#.to_owned(),
            r#"{"Id":"3","Gone":true}"#.to_owned(),
        ],
    );
    assert!(held(&outcome).is_empty());
    let mut writer = RecordBatchWriter::new(Lane(2), 0, 0);
    let (key, version, payload) = (Some("4"), Version::None, &b"{}"[..]);
    writer.push(&Record { ordinal: 1, op: Op::Delete, key, version, defect: None, payload });
    let batch = writer.finish(b"");
    let outcome = stream.fold(BatchKind::Records, batch.count, &batch.body);
    assert!(held(&outcome).is_empty() && row_count(&outcome) == 1);
    assert_eq!(stream.state.counters.deleted, 2);
}

#[test]
fn optional_fields_sparse_objects_and_new_values_open_no_case_in_twenty_thousand_records() {
    let mut stream = stream();
    let mut seed = 7u64;
    let mut chance = move |percent: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % 100 < percent
    };
    for round in 0..20 {
        let payload = |id: usize| {
            let mut members = vec![format!(r#""Id":"{round}-{id}""#)];
            members.extend(chance(97).then(|| format!(r#""Total":{id}"#)));
            members.extend(chance(60).then(|| format!(r#""Note":"v{}""#, id + round * 1000)));
            members.extend(chance(85).then(|| r#""Buyer":{"Name":"b"}"#.to_owned()));
            members.extend(chance(1).then(|| format!(r#""extra{}":1"#, id % 50)));
            format!("{{{}}}", members.join(","))
        };
        let payloads: Vec<String> = (0..1000).map(payload).collect();
        let outcome = feed(&mut stream, &payloads);
        let opened = outcome.decisions.iter().find(|d| matches!(d.fact, Fact::DriftDetected { .. }));
        assert!(opened.is_none(), "in round {round}: {opened:?}");
        // What was released in the round comes again, as the repairer sees to.
        for (case, count) in released(&outcome) {
            let offsets: Vec<u64> = (0..count).collect();
            redrive(&mut stream, case, &offsets, &vec![r#"{"Id":"x"}"#.to_owned(); offsets.len()]);
        }
    }
    reconciles(&stream);
}

fn released(outcome: &Outcome) -> Vec<(u64, u64)> {
    let over = outcome.decisions.iter().filter_map(|d| match d.fact {
        Fact::RecordsReleased { case, count, .. } => Some((case, count)),
        _ => None,
    });
    over.collect()
}

#[test]
fn a_schema_that_flaps_makes_one_case() {
    let mut stream = steady(100);
    let payloads: Vec<String> =
        (0..5_000).map(|id| with(id, if id.is_multiple_of(2) { "Amount" } else { "Total" })).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(names(&outcome), ["TimerSet", "DriftDetected"]);
    assert_eq!(held(&outcome).len(), 2_500);
    assert_eq!(totals(&outcome).iter().flatten().count(), 2_500, "the others flow on");
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Total", "Amount", 950)]);
    let drifted: Vec<String> = payloads.iter().step_by(2).cloned().collect();
    redrive(&mut stream, case, &held(&outcome), &drifted);
    let more = feed(&mut stream, &payloads);
    assert!(held(&more).is_empty() && names(&more).is_empty(), "and none after its repair");
    reconciles(&stream);
}

#[test]
fn a_common_field_that_went_with_an_always_present_one_belongs_to_its_case() {
    let mut stream = stream();
    let payload = |id: usize| {
        let note = if id.is_multiple_of(2) { r#","Note":"n""# } else { "" };
        format!(r#"{{"Id":"{id}","Total":{id},"Buyer":{{"Name":"b"}}{note}}}"#)
    };
    feed(&mut stream, &(0..200).map(payload).collect::<Vec<_>>());
    let drifted = |id: usize| format!(r#"{{"Id":"{id}","Amount":{id},"Remark":"n","Buyer":{{"Name":"b"}}}}"#);
    feed(&mut stream, &(0..30).map(drifted).collect::<Vec<_>>());
    let lost = stream.state.drift().lost(only_case(&stream), stream.state.shape());
    let paths: Vec<&str> = lost.iter().map(|l| &*l.path).collect();
    assert_eq!(paths, ["Total", "Note"]);
}

#[test]
fn a_field_of_another_type_is_held_and_maps_once_a_person_has_accepted_the_type() {
    let mut stream = steady(100);
    let text = |id: usize| with(id, "Total").replace(&format!("{id}.5"), &format!("\"{id}.5\""));
    let payloads: Vec<String> = (100..130).map(text).collect();
    let first = feed(&mut stream, &payloads);
    assert_eq!(held(&first).len(), 30);
    let case = only_case(&stream);
    let lost = stream.state.drift().lost(case, stream.state.shape());
    assert_eq!((lost.len(), &*lost[0].path, lost[0].retyped), (1, "Total", true));
    let same = Move { kind: DriftKind::Retyped, ..renamed("Total", "Total", 990) };
    assert_eq!(names(&suggest(&mut stream, "s", vec![same])), ["RepairProposed"], "and waits");
    assert_eq!(names(&decide(&mut stream, "c", Verdict::Approve { only: vec![] })).len(), 3);
    assert_eq!(stream.state.mapping().unwrap().1, 1, "the mapping stays");
    let again = redrive(&mut stream, case, &held(&first), &payloads);
    assert_eq!(totals(&again).iter().flatten().count(), 30);
    assert!(held(&feed(&mut stream, &payloads)).is_empty());
    reconciles(&stream);
}

#[test]
fn a_type_that_is_one_in_a_hundred_wrong_opens_no_case() {
    let mut stream = steady(100);
    let payload = |id: usize| {
        let total = if id.is_multiple_of(100) { "\"5\"".to_owned() } else { id.to_string() };
        format!(r#"{{"Id":"{id}","Total":{total},"Note":"n","Buyer":{{"Name":"b"}}}}"#)
    };
    let outcome = feed(&mut stream, &(100..3_100).map(payload).collect::<Vec<_>>());
    assert_eq!(
        names(&outcome),
        ["TimerSet", "RecordsReleased"],
        "the first one is looked at twice, the type is known then"
    );
}

#[test]
fn a_value_that_became_an_object_is_found_inside_it() {
    let mut stream = steady(100);
    let payload = |id: usize| with(id, "Total").replace(&format!("{id}.5"), &format!(r#"{{"value":{id}.5}}"#));
    let payloads: Vec<String> = (100..130).map(payload).collect();
    let first = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    assert_eq!(stream.state.drift().added(case, stream.state.shape()), ["Total.value"]);
    let nested = Move { kind: DriftKind::Nested, ..renamed("Total", "Total.value", 950) };
    suggest(&mut stream, "s", vec![nested]);
    let again = redrive(&mut stream, case, &held(&first), &payloads);
    assert_eq!(totals(&again).iter().flatten().count(), 30, "{again:?}");
    assert_eq!(totals(&feed(&mut stream, &[with(1, "Total")])), [Some(15_000)], "the old shape maps, too");
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

/// What a run of inputs gives, cut into batches of so many records, with a snapshot read back between any two.
fn told(runs: &[(BatchKind, Vec<String>)], size: usize) -> (Vec<schemas::Decision>, Vec<Option<i128>>, String) {
    let mut stream = stream();
    let (mut decisions, mut values, mut ordinal) = (Vec::new(), Vec::new(), 0);
    for (kind, payloads) in runs {
        let pieces: Vec<&[String]> =
            if *kind == BatchKind::Records { payloads.chunks(size).collect() } else { vec![payloads] };
        for piece in pieces {
            let outcome = match kind {
                BatchKind::Records => {
                    let texts: Vec<&str> = piece.iter().map(String::as_str).collect();
                    let batch = batch(Lane(1), ordinal, &texts);
                    ordinal += piece.len() as u64;
                    stream.fold(*kind, batch.count, &batch.body)
                }
                _ => stream.fold(*kind, 1, piece[0].as_bytes()),
            };
            decisions.extend(outcome.decisions.clone());
            values.extend(totals(&outcome));
            let snapshot = stream.state.snapshot();
            stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
        }
    }
    let snapshot = String::from_utf8(stream.state.snapshot()).unwrap();
    (decisions, values, snapshot)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn batches_and_restarts_change_no_event(
        shapes in proptest::collection::vec((0usize..4, 1usize..60), 1..8), size in 1usize..50,
    ) {
        let name = ["Total", "Amount", "Other", "Total"];
        let mut runs = vec![(BatchKind::Records, (0..40).map(|id| with(id, "Total")).collect::<Vec<_>>())];
        for (shape, count) in shapes {
            runs.push((BatchKind::Records, (0..count).map(|id| with(id, name[shape])).collect()));
            let time = Input::TimePassed { id: "hold-43".into() };
            runs.push((BatchKind::Control, vec![serde_json::to_string(&time).unwrap()]));
            let moves = vec![renamed("Total", "Amount", 950)];
            let suggestion = Input::Suggestion { id: format!("{shape}{count}"), case: 43, mapping_version: 1, moves, alternatives: vec![], tried: clean(), asked: None, version: None };
            runs.push((BatchKind::Control, vec![serde_json::to_string(&suggestion).unwrap()]));
        }
        let whole = told(&runs, usize::MAX);
        prop_assert_eq!(told(&runs, size), whole);
    }
}

#[test]
fn where_batches_end_makes_no_difference_once_a_false_alarm_is_over_about_a_thousand_records_in() {
    let text = |id: usize| with(id, "Total").replace(&format!("{id}.5"), &format!("\"{id}.5\""));
    let without = |id: usize| format!(r#"{{"Id":"{id}","Note":"n{id}","Buyer":{{"Name":"b"}}}}"#);
    let told = |before: usize, size: usize| {
        let mut stream = steady(before);
        let odd = feed(&mut stream, &[text(before)]);
        feed(&mut stream, &(0..19).map(|id| with(id, "Total")).collect::<Vec<_>>());
        let case = only_case(&stream);
        let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
        assert_eq!(names(&past), ["RecordsReleased"]);
        redrive(&mut stream, case, &held(&odd), &[text(before)]);
        let payloads: Vec<String> = (0..4).map(without).collect();
        let decisions: Vec<schemas::Decision> =
            payloads.chunks(size).flat_map(|part| feed(&mut stream, part).decisions).collect();
        (decisions, String::from_utf8(stream.state.snapshot()).unwrap())
    };
    for before in 970..990 {
        assert_eq!(told(before, 1), told(before, 4), "{before} records before it");
    }
}

#[test]
fn a_re_driven_batch_that_names_no_case_stops_the_partition() {
    let mut stream = steady(1);
    let batch = batch(Lane(5), 0, &["{}"]);
    let (kind, first) = (BatchKind::Redriven, stream.state.next.offset);
    let input = InputBatch { kind, first, count: 1, logged_at: 0, body: &batch.body };
    assert!(fold(&mut stream.state, input, &mut Scratch::default()).is_err());
}
