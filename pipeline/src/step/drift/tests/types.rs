//! Values of another type than a field ever had.

use schemas::drift::{DriftKind, Move, Verdict};

use super::{decide, feed, held, names, only_case, reconciles, redrive, renamed, steady, suggest, totals, with};

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
