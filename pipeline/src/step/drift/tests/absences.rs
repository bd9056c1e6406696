//! What records lack: when it is held, when it is told, and what is no drift at all.

use schemas::decision::Fact;
use schemas::event::EventBatchReader;
use schemas::record::RecordBatchWriter;
use schemas::{BatchKind, Input, Lane, Op, Record, Version};

use super::{
    ENTITY, MAPPING, feed, held, names, only_case, reconciles, redrive, released, renamed, steady, stream, suggest,
    totals, with,
};
use crate::step::tests::{Stream, opening, row_count};

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
