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
        once_read: false,
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
        once_read: false,
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
    let (id, moves, alternatives, tried, asked, version) = ("s".into(), vec![], vec![], None, None, None);
    let suggestion = Input::Suggestion { id, case, mapping_version: 1, moves, alternatives, tried, asked, version };
    assert_eq!(names(&stream.control(&suggestion)), ["CommandRefused"]);
}

/// A command that decides a case as somebody who has seen it.
fn decide_of(stream: &mut Stream, case: u64, verdict: Verdict) -> Outcome {
    let mapping_version = stream.state.mapping().unwrap().1;
    let decide = Decide {
        case,
        mapping_version,
        version: None,
        once_read: false,
        verdict,
        by: "ada".into(),
        why: "seen".into(),
    };
    stream.control(&Input::Command { id: format!("d-{case}"), command: Command::Decide(decide) })
}

#[test]
fn what_was_accepted_as_null_is_mapped_again_once_it_is_known_where_the_value_has_gone() {
    let mut stream = steady(300);
    let both = |id: usize| with(id, "Amount").replacen('{', r#"{"Total":null,"#, 1);
    let first = stream.state.next.offset;
    let payloads: Vec<String> = (300..400).map(both).collect();
    let outcome = feed(&mut stream, &payloads);
    let told = detected(&outcome);
    assert_eq!(told.len(), 2, "more nulls, and a new field: {told:?}");
    let (nulls, came) = (told[0].0, told[1].0);
    let (moves, alternatives) = (vec![renamed("Total", "Amount", 990)], vec![]);
    let (id, case, tried, asked, version) = ("s".into(), nulls, None, None, None);
    stream.control(&Input::Suggestion { id, case, mapping_version: 1, moves, alternatives, tried, asked, version });
    let outcome = decide_of(&mut stream, nulls, Verdict::Approve { only: vec![] });
    let recalled = outcome.decisions.iter().find_map(|d| match d.fact {
        Fact::RecordsRecalled { case, since, until } => Some((case, since, until == d.input_offset)),
        _ => None,
    });
    assert_eq!(recalled, Some((nulls, first - 1, true)), "from the first null on");
    let released: Vec<u64> = released(&outcome).into_iter().map(|(case, _)| case).collect();
    assert_eq!(released, [nulls, came], "nothing is left to be seen of what came");
    assert!(stream.state.drift().cases().is_empty());

    // The repairer sends everything since then again: what is null and what is not.
    let mut all = payloads.clone();
    all.push(with(999, "Total"));
    let mut writer = RecordBatchWriter::new(Lane(4_000), 0, 0);
    for (origin, payload) in (first..).zip(&all) {
        let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
        let record = Record { ordinal: origin + 1, op, key: None, version, defect: None, payload };
        writer.push_from(&record, Some(origin));
    }
    let batch = writer.finish(&redriven_for(nulls, Again::Recalled));
    let again = stream.fold(BatchKind::Redriven, batch.count, &batch.body);
    let expected: Vec<Option<i128>> = (300..400).map(|id| Some(id * 10_000 + 5_000)).collect();
    assert_eq!(totals(&again), expected, "what was not null stays as it is");
    let row = EventBatchReader::new(&again.rows[0].0).unwrap().next_row().unwrap().unwrap();
    assert_eq!(row.origin, first, "in its old place");
    reconciles(&stream);
    assert!(names(&feed(&mut stream, &(400..500).map(both).collect::<Vec<_>>())).is_empty());
}

#[test]
fn a_case_of_new_fields_that_nobody_looks_at_is_noted_in_the_end() {
    let mut stream = steady(300);
    let came = |id: usize| with(id, "Total").replacen('{', r#"{"Came":1,"#, 1);
    let outcome = feed(&mut stream, &(300..400).map(came).collect::<Vec<_>>());
    let timers: Vec<(String, i64)> = outcome
        .decisions
        .iter()
        .filter_map(|d| match &d.fact {
            Fact::TimerSet { id, at } if !id.starts_with("hold-") => Some((id.clone(), *at)),
            _ => None,
        })
        .collect();
    let [(id, at)] = &timers[..] else { panic!("it expires, and nobody is reminded: {timers:?}") };
    let body = serde_json::to_vec(&Input::TimePassed { id: id.clone() }).unwrap();
    let (first, kind) = (stream.state.next.offset, BatchKind::Control);
    let input = InputBatch { kind, first, count: 1, logged_at: *at, body: &body };
    let outcome = fold(&mut stream.state, input, &mut Scratch::default()).unwrap();
    let told: Vec<&str> = outcome.decisions.iter().map(|d| d.fact.type_name()).collect();
    assert_eq!(told, ["RepairApplied", "RecordsReleased"]);
    assert!(detected(&feed(&mut stream, &(400..500).map(came).collect::<Vec<_>>())).is_empty());
}

#[test]
fn a_case_of_new_fields_that_was_rejected_is_noted_in_the_end_too_and_one_of_nulls_stays_rejected() {
    let came = |id: usize| with(id, "Total").replacen('{', r#"{"Came":1,"#, 1);
    let nulls = |id: usize| with_null(id, true);
    for (is_of_nulls, expected) in [(false, vec!["RepairApplied", "RecordsReleased"]), (true, vec![])] {
        let mut stream = steady(300);
        let payloads: Vec<String> = (300..400).map(|id| if is_of_nulls { nulls(id) } else { came(id) }).collect();
        let outcome = feed(&mut stream, &payloads);
        let case = detected(&outcome)[0].0;
        assert_eq!(names(&decide_of(&mut stream, case, Verdict::Reject)), ["RepairRejected", "CommandApplied"]);
        let expires = outcome.decisions.iter().find_map(|d| match &d.fact {
            Fact::TimerSet { id, at } if id.starts_with("expire-") => Some((id.clone(), *at)),
            _ => None,
        });
        let (id, at) = expires.unwrap();
        let body = serde_json::to_vec(&Input::TimePassed { id }).unwrap();
        let (first, kind) = (stream.state.next.offset, BatchKind::Control);
        let input = InputBatch { kind, first, count: 1, logged_at: at, body: &body };
        let outcome = fold(&mut stream.state, input, &mut Scratch::default()).unwrap();
        let told: Vec<&str> = outcome.decisions.iter().map(|d| d.fact.type_name()).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn a_field_that_joins_a_case_of_nulls_later_has_its_earlier_blanks_mapped_again_too() {
    let mut stream = steady(300);
    let first = stream.state.next.offset;
    // The notes go first, a third of them; the totals go later, and all at once.
    let payload = |id: usize| {
        let payload = with_null(id, id >= 340);
        if id.is_multiple_of(3) { payload.replace(&format!("\"n{id}\""), r#"null,"Remark":"n""#) } else { payload }
    };
    let told = detected(&feed(&mut stream, &(300..600).map(payload).collect::<Vec<_>>()));
    let [(case, one, ..), .., (joined, both, ..)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((case, one.len(), &*one[0].path), (joined, 1, "Total"));
    assert_eq!((both.len(), &*both[1].path), (2, "Note"));
    let outcome = edit(&mut stream, *case, vec![renamed("Note", "Remark", 0)]);
    let since = outcome.decisions.iter().find_map(|d| match d.fact {
        Fact::RecordsRecalled { since, .. } => Some(since),
        _ => None,
    });
    assert_eq!(since, Some(first - 1), "from the first note that was null");
}

/// The times that people have, as an outcome sets them.
fn times(outcome: &Outcome) -> Vec<(String, i64)> {
    let time = |d: &schemas::Decision| match &d.fact {
        Fact::TimerSet { id, at } if !id.starts_with("hold-") => Some((id.clone(), *at)),
        _ => None,
    };
    outcome.decisions.iter().filter_map(time).collect()
}

fn time_passed(stream: &mut Stream, (id, at): &(String, i64)) -> Outcome {
    let body = serde_json::to_vec(&Input::TimePassed { id: id.clone() }).unwrap();
    let (first, kind) = (stream.state.next.offset, BatchKind::Control);
    let input = InputBatch { kind, first, count: 1, logged_at: *at, body: &body };
    fold(&mut stream.state, input, &mut Scratch::default()).unwrap()
}

/// Of each case that was told whether it had been told before.
fn told_again(outcome: &Outcome) -> Vec<bool> {
    let again = |d: &schemas::Decision| if let Fact::DriftDetected { again, .. } = d.fact { Some(again) } else { None };
    outcome.decisions.iter().filter_map(again).collect()
}

#[test]
fn what_joins_a_case_of_nulls_that_nobody_decided_or_that_was_rejected_opens_it_anew() {
    for (is_rejected, is_reminder_over) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut stream = steady(300);
        let outcome = feed(&mut stream, &(300..400).map(|id| with_null(id, true)).collect::<Vec<_>>());
        let case = detected(&outcome)[0].0;
        let set = times(&outcome);
        let [expire, remind] = &set[..] else { panic!("{set:?}") };
        assert_eq!((told_again(&outcome), remind.0.starts_with("remind-")), (vec![false], true));
        let over = match is_rejected {
            true => decide_of(&mut stream, case, Verdict::Reject),
            false => time_passed(&mut stream, expire),
        };
        assert_eq!(names(&over)[0], "RepairRejected");
        if is_reminder_over {
            assert!(time_passed(&mut stream, remind).decisions.is_empty(), "nobody is reminded of it");
        }
        let snapshot = stream.state.snapshot();
        stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();

        let both = |id: usize| with_null(id, true).replace(&format!("\"n{id}\""), "null");
        let outcome = feed(&mut stream, &(400..500).map(both).collect::<Vec<_>>());
        let told = detected(&outcome);
        let [(joined, lost, ..)] = &told[..] else { panic!("{told:?}") };
        assert_eq!((*joined, lost.len(), told_again(&outcome)), (case, 2, vec![false]), "as one that opens");
        let anew = times(&outcome);
        assert_eq!(anew.first(), Some(expire));
        assert_eq!(anew.get(1), Some(remind).filter(|_| is_reminder_over), "one reminder at a time");
        assert_eq!(names(&time_passed(&mut stream, remind)), ["CaseReminded"]);
        assert_eq!(names(&time_passed(&mut stream, expire)), ["RepairRejected"], "and it ends in time once more");
    }
}

#[test]
fn what_joins_a_case_of_nulls_that_waits_tells_it_again() {
    let mut stream = steady(300);
    feed(&mut stream, &(300..400).map(|id| with_null(id, true)).collect::<Vec<_>>());
    let both = |id: usize| with_null(id, true).replace(&format!("\"n{id}\""), "null");
    let outcome = feed(&mut stream, &(400..500).map(both).collect::<Vec<_>>());
    assert_eq!((told_again(&outcome), times(&outcome)), (vec![true], vec![]));
}
