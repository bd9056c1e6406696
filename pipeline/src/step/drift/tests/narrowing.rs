//! Renames to what can say less than before.

use schemas::decision::Fact;

use super::{feed, held, names, renamed, stream, suggest};
use crate::step::Outcome;
use crate::step::tests::Stream;

/// A record whose total and note are these, under these names.
fn order(id: usize, (total, amount): (&str, &str), (note, text): (&str, &str)) -> String {
    format!(r#"{{"Id":"{id}","{total}":{amount},"{note}":{text},"Buyer":{{"Name":"b"}}}}"#)
}

fn fraction(id: usize) -> String {
    format!("{}.{}", 100 + id % 50, 1 + id % 9)
}

fn moment(id: usize) -> String {
    format!("\"2026-03-{:02}T{:02}:30:00Z\"", 1 + id % 28, id % 24)
}

/// A stream of amounts with fractions and notes that are moments; `stray` is the first record's amount.
fn known(stray: &str) -> Stream {
    let mut stream = stream();
    let total = |id: usize| if id == 0 { stray.to_owned() } else { fraction(id) };
    let payloads: Vec<String> = (0..2_000).map(|id| order(id, ("Total", &total(id)), ("Note", &moment(id)))).collect();
    feed(&mut stream, &payloads);
    stream
}

fn waits(outcome: &Outcome) -> Option<String> {
    outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::RepairProposed { waits, .. } => waits.clone(),
        _ => None,
    })
}

/// What is said to a rename of the total whose values are these now.
fn of_total(stray: &str, amount: impl Fn(usize) -> String) -> Outcome {
    let mut stream = known(stray);
    let payload = |id: usize| order(id, ("Amount", &amount(id)), ("Note", &moment(id)));
    assert_eq!(held(&feed(&mut stream, &(3_000..3_040).map(payload).collect::<Vec<_>>())).len(), 40);
    suggest(&mut stream, "s", vec![renamed("Total", "Amount", 990)])
}

/// What is said to a rename of the note whose values are these now.
fn of_note(text: impl Fn(usize) -> String) -> Outcome {
    let mut stream = known("1.5");
    let payload = |id: usize| order(id, ("Total", &fraction(id)), ("Remark", &text(id)));
    assert_eq!(held(&feed(&mut stream, &(3_000..3_040).map(payload).collect::<Vec<_>>())).len(), 40);
    suggest(&mut stream, "s", vec![renamed("Note", "Remark", 990)])
}

#[test]
fn a_rename_that_loses_the_fractions_of_numbers_waits_for_a_person() {
    let whole = of_total("1.5", |id| (100 + id % 50).to_string());
    assert!(waits(&whole).is_some_and(|why| why.contains("narrower type")), "{whole:?}");
    let as_before = of_total("1.5", fraction);
    assert!(names(&as_before).contains(&"RepairApplied"), "{as_before:?}");
    let some = of_total("1.5", |id| if id % 2 == 0 { (100 + id % 50).to_string() } else { fraction(id) });
    assert!(names(&some).contains(&"RepairApplied"), "some are whole, and others not: {some:?}");
}

#[test]
fn whole_numbers_that_were_written_with_a_point_lose_nothing_without_it() {
    let mut stream = stream();
    let written = |id: usize, at: &str, point: &str| {
        let amount = format!("{}{point}", 100 + id % 50);
        order(id, (at, &amount), ("Note", &moment(id)))
    };
    feed(&mut stream, &(0..2_000).map(|id| written(id, "Total", ".0")).collect::<Vec<_>>());
    feed(&mut stream, &(3_000..3_040).map(|id| written(id, "Amount", "")).collect::<Vec<_>>());
    let outcome = suggest(&mut stream, "s", vec![renamed("Total", "Amount", 990)]);
    assert!(names(&outcome).contains(&"RepairApplied"), "{outcome:?}");
}

#[test]
fn a_rename_that_loses_the_times_of_day_waits_for_a_person() {
    let days = of_note(|id| format!("\"2026-03-{:02}\"", 1 + id % 28));
    assert!(waits(&days).is_some_and(|why| why.contains("narrower type")), "{days:?}");
    let as_before = of_note(moment);
    assert!(names(&as_before).contains(&"RepairApplied"), "{as_before:?}");
}

#[test]
fn one_stray_value_of_a_type_does_not_make_it_a_type_of_the_field() {
    let texts = of_total("\"none\"", |id| format!("\"x{id}\""));
    assert!(waits(&texts).is_some_and(|why| why.contains("another type")), "{texts:?}");
}
