//! Refills: what was accepted as null is mapped again where its value has gone, unless another case holds it by then.

use super::*;

/// A record whose note is null, and stands elsewhere.
fn moved_note(id: usize, total: &str) -> String {
    with(id, total).replace(&format!(r#""Note":"n{id}""#), &format!(r#""Note":null,"Remark":"n{id}""#))
}

/// The case of nulls that waits, while no other one does.
fn nulls_of(stream: &Stream) -> u64 {
    let waiting: Vec<u64> = stream.state.drift().waiting().collect();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    waiting[0]
}

fn notes(outcome: &Outcome) -> Vec<String> {
    let mut all = Vec::new();
    for (body, _) in &outcome.rows {
        let mut reader = EventBatchReader::new(body).unwrap();
        while let Some(mut row) = reader.next_row().unwrap() {
            row.values.next_value().unwrap();
            row.values.next_value().unwrap();
            let Value::Text(note) = row.values.next_value().unwrap() else { panic!("{row:?}") };
            all.push(note.to_owned());
        }
    }
    all
}

#[test]
fn what_a_revert_holds_is_not_mapped_by_another_case_and_comes_by_the_decision_of_its_own() {
    let mut stream = steady(300);
    let drifted: Vec<String> = (300..330).map(|id| with(id, "Sum")).collect();
    let first = feed(&mut stream, &drifted);
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Total", "Sum", 950)]);
    redrive(&mut stream, case, &held(&first), &drifted);

    let at = stream.state.next.offset;
    let mut payloads: Vec<String> = (330..430).map(|id| moved_note(id, "Sum")).collect();
    payloads.push(moved_note(430, "Total"));
    let offsets: Vec<u64> = (at..at + 101).collect();
    assert!(held(&feed(&mut stream, &payloads)).is_empty(), "nulls hold nothing");
    let nulls = nulls_of(&stream);

    let (verdict, by, why) = (Verdict::Revert, "ada".to_owned(), String::new());
    let revert = Decide { case, mapping_version: 0, version: None, once_read: false, verdict, by, why };
    stream.control(&Input::Command { id: "r".into(), command: Command::Decide(revert) });
    let reverted = only_case(&stream);
    let withdrawn = send_again(&mut stream, reverted, Again::Reverted, &offsets, &payloads);
    assert_eq!(held(&withdrawn).len(), 100, "all that have no Total");

    let approved = edit(&mut stream, nulls, vec![renamed("Note", "Remark", 0)]);
    assert!(names(&approved).contains(&"RecordsRecalled"), "{approved:?}");
    let before = stream.state.counters;
    let refilled = send_again(&mut stream, nulls, Again::Recalled, &offsets, &payloads);
    assert_eq!(totals(&refilled), [Some(4_305_000)], "the one that nothing holds");
    assert_eq!(notes(&refilled), ["n430"]);
    assert!(names(&refilled).is_empty() && held(&refilled).is_empty(), "{refilled:?}");
    assert_eq!(stream.state.counters, before);

    decide(&mut stream, "c", Verdict::AcceptAsRemoved { only: vec![] });
    let again = redrive(&mut stream, reverted, &held(&withdrawn), &payloads[..100]);
    assert_eq!(totals(&again), [None; 100]);
    assert_eq!(notes(&again), (330..430).map(|id| format!("n{id}")).collect::<Vec<_>>(), "none is lost");
    assert_eq!(stream.state.counters.held, 0);
    reconciles(&stream);
}

#[test]
fn a_record_that_a_refill_cannot_map_keeps_its_row_and_nothing_is_told_or_counted() {
    let mut stream = steady(300);
    let at = stream.state.next.offset;
    let moved = |id: usize| with(id, "Amount").replacen('{', r#"{"Total":null,"#, 1);
    let mut payloads: Vec<String> = (300..400).map(moved).collect();
    payloads[50] = payloads[50].replace("350.5", r#""lots""#);
    assert_eq!(row_count(&feed(&mut stream, &payloads)), 100);
    let nulls = nulls_of(&stream);
    edit(&mut stream, nulls, vec![renamed("Total", "Amount", 0)]);
    let before = stream.state.counters;
    let offsets: Vec<u64> = (at..at + 100).collect();
    let refilled = send_again(&mut stream, nulls, Again::Recalled, &offsets, &payloads);
    assert_eq!(totals(&refilled).iter().flatten().count(), 99);
    assert_eq!(row_count(&refilled), 99);
    assert!(names(&refilled).is_empty(), "{:?}", names(&refilled));
    assert_eq!(stream.state.counters, before);
    reconciles(&stream);
}
