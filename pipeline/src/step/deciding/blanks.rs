//! Repairs that come to nothing, to blanks or to a part of what was there.

use schemas::decision::Fact;
use schemas::drift::{DriftKind, Move, Tried, Verdict};
use schemas::policy::DecisionClass;

use super::{House, names, policy, refused, to, totals, tried, waits};
use crate::step::Outcome;

/// The record of a number.
type Payload = fn(u32) -> String;

/// What is named as a total of thirty records.
fn drifted(text: &str, total: fn(u32) -> String) -> House {
    House::drifted(&policy(text), |id| format!(r#"{{"Id":"{id}",{}}}"#, total(id)))
}

fn edit(house: &mut House, moves: Vec<Move>) -> Outcome {
    house.decide("user:ada", None, Verdict::Edit { moves })
}

#[test]
fn a_repair_into_an_array_or_to_more_blanks_than_before_waits_for_a_person() {
    let cases: [(Payload, &str, &str); 4] = [
        (|id: u32| format!(r#""Sum":[{id}.5,7]"#), "Sum[]", "inside an array"),
        (|id: u32| format!(r#""Total":[{id}.5,7]"#), "Total[]", "inside an array"),
        (
            |id: u32| format!(r#""Sum":{}"#, if id.is_multiple_of(2) { "null" } else { "1.5" }),
            "Sum",
            "50.0 % of the values",
        ),
        (|_: u32| r#""Sum":null"#.to_owned(), "Sum", "100.0 % of the values"),
    ];
    for (total, path, why) in cases {
        for text in ["{}", r#"{"repairs":"propagate"}"#] {
            let outcome = drifted(text, total).suggest_move(to(path, 990), tried(30));
            let Some(Fact::RepairProposed { waits, breaks, .. }) = outcome.decisions.first().map(|d| &d.fact) else {
                panic!("{outcome:?}")
            };
            assert!(waits.as_ref().is_some_and(|waits| waits.contains(why)) && waits == breaks, "{waits:?}, not {why}");
        }
    }
}

#[test]
fn a_share_of_nulls_that_there_always_was_is_no_reason_to_wait() {
    let half = |name: &str, id: u32| {
        let value = if id.is_multiple_of(2) { "null".to_owned() } else { format!("{id}.5") };
        format!(r#"{{"Id":"{id}","{name}":{value}}}"#)
    };
    let mut house = House::new(&policy("{}"));
    let case = house.case();
    edit(&mut house, vec![to("Sum", 0)]);
    house.redrive(case);
    house.feed((100..400).map(|id| half("Sum", id)).collect());
    house.feed((400..440).map(|id| half("Other", id)).collect());
    assert_eq!(house.held.len(), 40);
    let outcome = house.suggest_move(Move { from: "Sum".into(), ..to("Other", 990) }, tried(30));
    assert!(names(&outcome).contains(&"RepairApplied"), "{outcome:?}");
}

#[test]
fn a_dry_run_that_ends_blank_waits_for_a_person_whatever_the_policy() {
    for text in ["{}", r#"{"repairs":"propagate"}"#] {
        let blank = Some(Tried { records: 30, accepted: 20, quarantined: 0, held: 0 });
        let told = waits(&House::new(&policy(text)).suggest(990, blank));
        assert!(told.as_ref().is_some_and(|told| told.contains("10 would be blank")), "{text}: {told:?}");
    }
}

#[test]
fn a_move_to_what_is_missing_or_to_what_no_record_had_is_refused_and_two_of_one_path_as_well() {
    let mut house = House::new(&policy("{}"));
    assert!(refused(&edit(&mut house, vec![to("Total", 0)])).contains("Total is what the records lack"));
    assert!(refused(&edit(&mut house, vec![to("Nothing", 0)])).contains("no record had Nothing"));
    assert!(refused(&edit(&mut house, vec![to("Sum", 0), to("Id", 0)])).contains("several moves of Total"));
    assert_eq!(house.stream.state.counters.held, 30, "nothing was let go");
    let twice = edit(&mut house, vec![to("Sum", 0), to("Sum", 0)]);
    assert!(names(&twice).contains(&"RepairApplied"), "the same one twice is one: {twice:?}");
    let case = house.stream.state.drift().cases().keys().next().copied().expect("its records come again");
    assert_eq!(totals(&house.redrive(case)).len(), 30);
}

#[test]
fn an_edit_that_ends_blank_is_of_the_class_removed_and_takes_two_people() {
    let rule = |text: &str| Some(Box::new(serde_json::from_str(text).unwrap()));
    let memo = |id: u32| format!(r#""Sum":{id}.5,"Memo":null,"Tags":[]"#);
    let empty: fn(u32) -> String = |_| r#""Total":[]"#.to_owned();
    let in_place = Move { kind: DriftKind::Retyped, ..to("Total", 0) };
    let part = Move { kind: DriftKind::Merged, part: Some(5), ..to("Sum", 0) };
    let split = Move { transform: rule(r#"{"split":{"by":" ","part":7}}"#), ..to("Sum", 0) };
    let cases: [(Payload, Move); 5] =
        [(memo, to("Memo", 0)), (memo, to("Tags", 0)), (memo, part), (memo, split), (empty, in_place)];
    for (total, one) in cases {
        let mut house = drifted(r#"{"two_persons":["removed"]}"#, total);
        let outcome = edit(&mut house, vec![one.clone()]);
        let Fact::ApprovalGiven { class, .. } = &outcome.decisions[0].fact else { panic!("{one:?}: {outcome:?}") };
        assert_eq!(*class, DecisionClass::Removed);
        let outcome = house.decide("user:bob", None, Verdict::Edit { moves: vec![one] });
        assert!(names(&outcome).contains(&"RepairApplied"), "two may: {outcome:?}");
    }
    let mut house = drifted(r#"{"two_persons":["removed"]}"#, memo);
    let first = Move { kind: DriftKind::Merged, part: Some(0), ..to("Sum", 0) };
    assert!(names(&edit(&mut house, vec![first])).contains(&"RepairApplied"), "one may where the values stay");
}

#[test]
fn a_mapping_that_ends_blank_is_of_the_class_removed_too() {
    let mut house = drifted(r#"{"two_persons":["removed"]}"#, |id| format!(r#""Sum":{id}.5,"Memo":null"#));
    let told = refused(&house.put("user:ada", &super::MAPPING.replace("\"Total\"", "\"Memo | Total\"")));
    assert!(told.contains("decide the case instead"), "{told}");
    let outcome = house.put("user:ada", &super::MAPPING.replace("\"Total\"", "\"Sum | Total\""));
    assert!(names(&outcome).contains(&"MappingActivated"), "{outcome:?}");
}

#[test]
fn what_leads_into_an_array_is_of_another_type_where_two_people_decide_that() {
    let mut house = drifted(r#"{"two_persons":["retyped"]}"#, |id| format!(r#""Sum":[{id}.5]"#));
    let outcome = edit(&mut house, vec![to("Sum[]", 0)]);
    let Fact::ApprovalGiven { class, .. } = &outcome.decisions[0].fact else { panic!("{outcome:?}") };
    assert_eq!(*class, DecisionClass::Retyped);
}
