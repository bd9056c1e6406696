//! Decisions that are taken back: of which version, of a part, one behind the other.

use schemas::event::RowKind;

use super::*;

fn revert_of(stream: &mut Stream, case: u64, id: &str, mapping_version: u32, version: Option<u32>) -> Outcome {
    let (verdict, by) = (Verdict::Revert, "ada".into());
    let decide = Decide { case, mapping_version, version, once_read: false, verdict, by, why: String::new() };
    stream.control(&Input::Command { id: id.into(), command: Command::Decide(decide) })
}

fn refused(outcome: &Outcome) -> String {
    let reason = |d: &schemas::Decision| match &d.fact {
        Fact::CommandRefused { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    outcome.decisions.iter().find_map(reason).unwrap_or_else(|| panic!("{outcome:?}"))
}

/// A stream on which a rename was repaired, and the case of it.
fn repaired(from: &str, to: &str, stream: &mut Stream, ids: std::ops::Range<usize>) -> u64 {
    let payloads: Vec<String> = ids.map(|id| with(id, to)).collect();
    let outcome = feed(stream, &payloads);
    let case = only_case(stream);
    suggest(stream, &format!("s-{case}"), vec![renamed(from, to, 950)]);
    redrive(stream, case, &held(&outcome), &payloads);
    assert!(stream.state.drift().cases().is_empty());
    case
}

#[test]
fn a_revert_that_names_a_stale_version_is_refused() {
    let mut stream = steady(100);
    let case = repaired("Total", "Amount", &mut stream, 100..130);
    assert!(refused(&revert_of(&mut stream, case, "a", 1, None)).contains("mapping version 1"));
    assert!(refused(&revert_of(&mut stream, case, "b", 2, Some(1))).contains("version 1 of the case"));
    let found = revert_of(&mut stream, case, "c", 2, Some(3));
    assert!(names(&found).contains(&"RepairReverted"), "opened, proposed and repaired: {found:?}");
}

#[test]
fn a_repair_that_another_one_stands_on_is_taken_back_after_that_one() {
    let mut stream = steady(100);
    let first = repaired("Total", "Amount", &mut stream, 100..130);
    feed(&mut stream, &(130..330).map(|id| with(id, "Amount")).collect::<Vec<_>>());
    let second = repaired("Amount", "Sum", &mut stream, 330..360);
    let reason = refused(&revert_of(&mut stream, first, "a", 0, None));
    assert!(reason.contains("take that one back first") && reason.contains(&second.to_string()), "{reason}");
    assert!(stream.state.mapping().unwrap().0.text().contains("Sum"), "and the second is in force");
    assert!(names(&revert_of(&mut stream, second, "b", 0, None)).contains(&"RepairReverted"));
    assert!(names(&revert_of(&mut stream, first, "c", 0, None)).contains(&"RepairReverted"));
}

#[test]
fn a_part_of_a_case_that_was_approved_can_be_taken_back_while_the_rest_waits() {
    let mut stream = steady(100);
    let payload = |id: usize| format!(r#"{{"Id":"{id}","Amount":{id},"Remark":"n","Buyer":{{"Name":"b"}}}}"#);
    let payloads: Vec<String> = (0..30).map(payload).collect();
    let first = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Total", "Amount", 990), renamed("Note", "Remark", 500)]);
    decide(&mut stream, "c", Verdict::Approve { only: vec!["Total".into()] });
    let half = |id: usize| format!(r#"{{"Id":"{id}","Amount":{id},"Note":"n","Buyer":{{"Name":"b"}}}}"#);
    let accepted = feed(&mut stream, &[half(200)]);
    assert_eq!(totals(&accepted).iter().flatten().count(), 1, "what is approved maps");
    let outcome = revert_of(&mut stream, case, "r", 2, None);
    assert_eq!(names(&outcome), ["RepairReverted", "MappingActivated", "DriftDetected", "CommandApplied"]);
    assert_eq!(only_case(&stream), case, "it is the same case");
    assert!(!stream.state.mapping().unwrap().0.text().contains("Amount"));
    let lost = stream.state.drift().lost(case, stream.state.shape());
    assert_eq!(lost.iter().map(|lost| &*lost.path).collect::<Vec<_>>(), ["Total", "Note"]);
    let at = accepted
        .rows
        .iter()
        .map(|(body, _)| EventBatchReader::new(body).unwrap().next_row().unwrap().unwrap().input_offset);
    let offsets: Vec<u64> = at.collect();
    let again = redrive(&mut stream, case, &offsets, &[half(200)]);
    assert_eq!(held(&again).len(), 1, "what was accepted by it is held");
    assert!(
        names(&suggest(&mut stream, "t", vec![renamed("Total", "Amount", 990), renamed("Note", "Remark", 990)]))
            .iter()
            .all(|name| *name == "RepairProposed"),
        "a person decides it from here on"
    );
    assert!(names(&decide(&mut stream, "d", Verdict::Approve { only: vec![] })).contains(&"RecordsReleased"));
    let mut last: Vec<String> = payloads.clone();
    last.push(half(200));
    let offsets: Vec<u64> = held(&first).into_iter().chain(held(&again)).collect();
    redrive_again(&mut stream, case, &offsets, &last);
    assert_eq!(stream.state.counters.held, 0);
    reconciles(&stream);
}

/// As [`redrive`], on a lane of its own: of what a revert sent again the places are known already.
fn redrive_again(stream: &mut Stream, case: u64, offsets: &[u64], payloads: &[String]) -> Outcome {
    let mut writer = RecordBatchWriter::new(Lane(9_000 + u128::from(case)), 0, 0);
    for (origin, payload) in offsets.iter().zip(payloads) {
        let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
        let record = Record { ordinal: origin + 1, op, key: None, version, defect: None, payload };
        writer.push_from(&record, Some(*origin));
    }
    let batch = writer.finish(&case.to_be_bytes());
    stream.fold(BatchKind::Redriven, batch.count, &batch.body)
}

#[test]
fn an_acceptance_of_another_type_that_is_taken_back_holds_that_type_and_not_the_old_one() {
    let mut stream = steady(100);
    let text = |id: usize| with(id, "Total").replace(&format!("{id}.5"), &format!("\"{id}.5\""));
    let payloads: Vec<String> = (100..130).map(text).collect();
    let outcome = feed(&mut stream, &payloads);
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![Move { kind: DriftKind::Retyped, ..renamed("Total", "Total", 990) }]);
    decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    redrive(&mut stream, case, &held(&outcome), &payloads);
    let at = stream.state.next.offset;
    let (payloads, offsets): (Vec<String>, Vec<u64>) = (0..30).map(|n| (text(130 + n), at + n as u64)).unzip();
    assert!(held(&feed(&mut stream, &payloads)).is_empty(), "it is learnt anew");
    let snapshot = stream.state.snapshot();
    stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    revert_of(&mut stream, case, "r", 0, None);
    let reverted = only_case(&stream);
    let again = send_again(&mut stream, reverted, Again::Reverted, &offsets, &payloads);
    assert_eq!(held(&again).len(), 30);
    let lost = stream.state.drift().lost(reverted, stream.state.shape());
    assert!(lost.len() == 1 && lost[0].retyped, "{lost:?}");
    let old: Vec<String> = (200..230).map(|id| with(id, "Total")).collect();
    assert_eq!(totals(&feed(&mut stream, &old)).iter().flatten().count(), 30, "numbers flow");
    assert_eq!(held(&feed(&mut stream, &[text(300)])).len(), 1);
    reconciles(&stream);
}

#[test]
fn what_a_revert_sends_once_its_case_is_decided_is_not_taken_for_what_the_case_holds() {
    let mut stream = steady(100);
    let case = repaired("Total", "Amount", &mut stream, 100..130);
    let at = stream.state.next.offset;
    let (payloads, offsets): (Vec<String>, Vec<u64>) = (0..6).map(|n| (with(130 + n, "Amount"), at + n as u64)).unzip();
    feed(&mut stream, &payloads);
    revert_of(&mut stream, case, "r", 0, None);
    let reverted = only_case(&stream);
    let first = send_again(&mut stream, reverted, Again::Reverted, &offsets[..3], &payloads[..3]);
    assert_eq!((held(&first).len(), stream.state.counters.held), (3, 3));
    decide(&mut stream, "c", Verdict::AcceptAsRemoved { only: vec![] });

    let before = stream.state.counters;
    let late = send_again(&mut stream, reverted, Again::Reverted, &offsets[3..], &payloads[3..]);
    assert!(late.rows.is_empty() && late.decisions.is_empty(), "what was not looked at by then stays: {late:?}");
    assert_eq!(stream.state.counters, before);

    let again = redrive(&mut stream, reverted, &held(&first), &payloads[..3]);
    assert_eq!(totals(&again), [None; 3], "and what was held comes, all of it");
    assert_eq!(names(&again), ["RecordsRedriven"]);
    assert_eq!((stream.state.counters.held, stream.state.drift().cases().len()), (0, 0));
    reconciles(&stream);
}

#[test]
fn a_case_is_not_decided_while_a_revert_still_reads_for_it_and_then_all_of_it_comes() {
    let mut stream = steady(100);
    let case = repaired("Total", "Amount", &mut stream, 100..130);
    let at = stream.state.next.offset;
    let (payloads, offsets): (Vec<String>, Vec<u64>) = (0..6).map(|n| (with(130 + n, "Amount"), at + n as u64)).unzip();
    feed(&mut stream, &payloads);
    let asked = revert_of(&mut stream, case, "r", 0, None);
    let reverted = only_case(&stream);
    let first = send_again(&mut stream, reverted, Again::Reverted, &offsets[..3], &payloads[..3]);
    let accept = || Verdict::AcceptAsRemoved { only: vec![] };
    let early = decide_once_read(&mut stream, "c", accept());
    assert!(refused(&early).contains("try again a little later"), "{early:?}");
    assert!(crate::step::is_still_read(&refused(&early)), "the repairer sees it");
    let rejected = decide_once_read(&mut stream, "d", Verdict::Reject);
    assert_eq!(names(&rejected), ["RepairRejected", "CommandApplied"], "that lets nothing go");

    let snapshot = stream.state.snapshot();
    stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    let rest = send_again(&mut stream, reverted, Again::Reverted, &offsets[3..], &payloads[3..]);
    let offsets: Vec<u64> = held(&first).into_iter().chain(held(&rest)).collect();
    assert_eq!(offsets.len(), 6);
    for _ in ["said once", "and once more"] {
        recall_ends(&asked).iter().for_each(|end| assert!(stream.control(end).decisions.is_empty()));
    }
    assert!(names(&decide_once_read(&mut stream, "e", accept())).contains(&"RecordsReleased"));
    assert_eq!(totals(&redrive(&mut stream, reverted, &offsets, &payloads)), [None; 6]);
    assert_eq!(stream.state.counters.held, 0);
    reconciles(&stream);
}

#[test]
fn a_record_that_a_revert_leaves_without_a_row_is_set_aside_and_its_row_withdrawn() {
    let mut stream = steady(100);
    let case = repaired("Total", "Amount", &mut stream, 100..130);
    let at = stream.state.next.offset;
    let payloads = [with(200, "Amount").replacen('{', r#"{"Total":"lots","#, 1)];
    assert_eq!(row_count(&feed(&mut stream, &payloads)), 1);
    let before = stream.state.counters;
    revert_of(&mut stream, case, "r", 0, None);
    let reverted = only_case(&stream);
    let outcome = send_again(&mut stream, reverted, Again::Reverted, &[at], &payloads);
    let reasons: Vec<Reason> = quarantined(&outcome).into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, [Reason::CastFailed]);
    let row = EventBatchReader::new(&outcome.rows[0].0).unwrap().next_row().unwrap().unwrap();
    assert_eq!((row_count(&outcome), row.kind, row.key, row.origin), (1, RowKind::Deleted, "200", at));
    let now = stream.state.counters;
    assert_eq!((now.quarantined, now.accepted), (before.quarantined + 1, before.accepted - 1));
    reconciles(&stream);
}

#[test]
fn a_batch_says_why_its_records_come_again_and_an_unmarked_one_brings_held_records() {
    let case = 7u64.to_be_bytes();
    assert_eq!(redriven_for(7, Again::Held), case, "as earlier releases wrote it");
    assert_eq!(redriven_for(7, Again::Recalled), [&case[..], &[1][..]].concat(), "this one, too");
    assert_eq!(redriven_for(7, Again::Reverted), [&case[..], &[2][..]].concat());
}
