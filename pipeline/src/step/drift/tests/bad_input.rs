//! Changes that no good source makes.

use schemas::drift::Change;

use super::*;

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[{"name":"order_id","type":"text"},
    {"name":"total","type":"decimal"},{"name":"cost","type":"decimal"},{"name":"email","type":"text"},
    {"name":"buyer","type":"text"}]}"#;
const MAPPING: &str = r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","total":"Total","cost":"Cost",
    "email":"Email","buyer":"Buyer"}}"#;

fn wide(records: usize) -> Stream {
    let mut stream = Stream::new();
    for input in opening(MAPPING, ENTITY) {
        stream.control(&input);
    }
    feed(&mut stream, &orders(0..records, &[]));
    stream
}

/// Records whose fields have other names.
fn orders(ids: std::ops::Range<usize>, names: &[(&str, &str)]) -> Vec<String> {
    let order = |id: usize| {
        let name = |name: &str| names.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new).to_owned();
        let (total, cost) = (10_000 + id * 37 % 80_000, 1 + id % 9);
        format!(
            r#"{{"Id":"{id}","{}":{total},"{}":{cost}.5,"{}":"m{id}@example.com","{}":"Ann Lee {id}"}}"#,
            name("Total"),
            name("Cost"),
            name("Email"),
            name("Buyer")
        )
    };
    ids.map(order).collect()
}

fn changes(stream: &Stream) -> Vec<(String, Option<Change>)> {
    let lost = stream.state.drift().lost(only_case(stream), stream.state.shape());
    lost.into_iter().map(|lost| (lost.path, lost.change)).collect()
}

#[test]
fn two_fields_renamed_into_each_others_names_are_told_by_their_values_and_wait() {
    for (one, other) in [("Email", "Buyer"), ("Total", "Cost")] {
        let mut stream = wide(200);
        let outcome = feed(&mut stream, &orders(200..300, &[(one, other), (other, one)]));
        assert_eq!(names(&outcome), ["DriftDetected", "RecordsRecalled"], "{one}");
        let swapped = |with: &str| Some(Change::Swapped { with: with.to_owned() });
        let mut found = changes(&stream);
        found.sort_by_key(|(path, _)| path != one);
        assert_eq!(found, [(one.to_owned(), swapped(other)), (other.to_owned(), swapped(one))]);
        let moves = vec![renamed(one, other, 990), renamed(other, one, 990)];
        assert_eq!(names(&suggest(&mut stream, "s", moves)), ["RepairProposed"], "a swap always waits");
        decide(&mut stream, "c", Verdict::Approve { only: vec![] });
        let text = stream.state.mapping().unwrap().0.text();
        assert!(text.contains(&format!("{other} | {one}")) && text.contains(&format!("{one} | {other}")), "{text}");
        let count = held(&outcome).len();
        let case = only_case(&stream);
        let again =
            redrive(&mut stream, case, &held(&outcome), &orders(300 - count..300, &[(one, other), (other, one)]));
        assert_eq!(row_count(&again) as usize, count);
        if one == "Total" {
            assert!(totals(&again).iter().all(|total| total.is_some_and(|units| units >= 100_000_000)), "{again:?}");
        }
        let more = feed(&mut stream, &orders(300..400, &[(one, other), (other, one)]));
        assert!(names(&more).is_empty() && held(&more).is_empty());
        reconciles(&stream);
    }
}

#[test]
fn a_field_that_is_renamed_and_retyped_at_once_waits() {
    let mut stream = wide(200);
    let texts: Vec<String> = orders(200..240, &[("Total", "Amount")])
        .iter()
        .map(|p| p.replacen("\"Amount\":", "\"Amount\":\"", 1).replacen(",\"Cost\"", "\",\"Cost\"", 1))
        .collect();
    let outcome = feed(&mut stream, &texts);
    assert_eq!(held(&outcome).len(), 40);
    let proposed = suggest(&mut stream, "s", vec![renamed("Total", "Amount", 990)]);
    assert_eq!(names(&proposed), ["RepairProposed"]);
    decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    let case = only_case(&stream);
    let again = redrive(&mut stream, case, &held(&outcome), &texts);
    assert_eq!(totals(&again).iter().flatten().count(), 40, "a number in a text is one all the same");
}

#[test]
fn a_field_that_is_renamed_and_in_another_unit_at_once_waits_and_is_read_in_that_unit() {
    let mut stream = wide(200);
    let cents = |id: usize| orders(id..id + 1, &[])[0].replace("\"Cost\":", "\"CostCents\":").replace(".5,", "50,");
    let payloads: Vec<String> = (200..240).map(cents).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(held(&outcome).len(), 40);
    let case = only_case(&stream);
    let lost = stream.state.drift().lost(case, stream.state.shape()).remove(0);
    let change = stream.state.drift().change_between(&lost, "CostCents", stream.state.shape());
    assert_eq!(change, Some(Change::Unit { shift: 2 }));
    let to = Move { change, ..renamed("Cost", "CostCents", 990) };
    let proposed = suggest(&mut stream, "s", vec![to]);
    let Fact::RepairProposed { waits: Some(waits), .. } = &proposed.decisions[0].fact else { panic!("{proposed:?}") };
    assert!(waits.contains("100 times as large"), "{waits}");
    decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    let text = stream.state.mapping().unwrap().0.text();
    assert!(text.contains(r#"[{"from":["CostCents"],"unit":"cents""#), "{text}");
    assert_eq!(row_count(&redrive(&mut stream, case, &held(&outcome), &payloads)), 40);
}

#[test]
fn a_field_that_is_dropped_while_an_unrelated_one_of_its_type_comes_is_not_repaired_by_itself() {
    let mut stream = wide(200);
    let outcome = feed(&mut stream, &orders(200..240, &[("Cost", "Altitude")]));
    assert_eq!(held(&outcome).len(), 40);
    // The matcher is not sure, and the rules wait for whoever is.
    let proposed = suggest(&mut stream, "s", vec![renamed("Cost", "Altitude", 420)]);
    assert_eq!(names(&proposed), ["RepairProposed"]);
    assert_eq!(stream.state.mapping().unwrap().1, 1);
    assert_eq!(held(&feed(&mut stream, &orders(240..250, &[("Cost", "Altitude")]))).len(), 10);
}

#[test]
fn a_thousand_new_fields_at_once_are_one_case_that_names_some_and_holds_nothing() {
    let mut stream = wide(300);
    let payload = |id: usize| {
        let fields: String = (0..1_000).map(|n| format!(r#""new_{n}":{n},"#)).collect();
        orders(id..id + 1, &[])[0].replacen('{', &format!("{{{fields}"), 1)
    };
    let outcome = feed(&mut stream, &(300..400).map(payload).collect::<Vec<_>>());
    assert_eq!((row_count(&outcome), held(&outcome).len()), (100, 0));
    let added: Vec<(usize, u64)> = outcome
        .decisions
        .iter()
        .filter_map(|d| match &d.fact {
            Fact::DriftDetected { added, more, .. } => Some((added.len(), *more)),
            _ => None,
        })
        .collect();
    assert_eq!(added, [(200, 800)], "and the rest is counted");
    assert!(stream.state.snapshot().len() < 4 << 20);
}

#[test]
fn a_thousand_new_fields_with_a_rename_among_them_are_one_case() {
    let mut stream = wide(300);
    let payload = |id: usize| {
        let fields: String = (0..1_000).map(|n| format!(r#""new_{n}":{n},"#)).collect();
        orders(id..id + 1, &[("Cost", "Costs")])[0].replacen('{', &format!("{{{fields}"), 1)
    };
    let payloads: Vec<String> = (300..330).map(payload).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(names(&outcome), ["TimerSet", "DriftDetected"]);
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Cost", "Costs", 950)]);
    assert_eq!(row_count(&redrive(&mut stream, case, &held(&outcome), &payloads)), 30);
}

#[test]
fn a_stream_with_more_paths_than_are_profiled_says_so_where_nothing_is_proposed() {
    let mut stream = wide(300);
    let many: String = (0..2_100).map(|n| format!(r#""new_{n}":{n},"#)).collect();
    let payload = |id: usize| orders(id..id + 1, &[])[0].replacen('{', &format!("{{{many}"), 1);
    feed(&mut stream, &(300..302).map(payload).collect::<Vec<_>>());
    feed(&mut stream, &orders(302..332, &[("Cost", "Costs")]));
    let outcome = suggest(&mut stream, "s", vec![]);
    let Fact::RepairProposed { waits: Some(waits), .. } = &outcome.decisions[0].fact else { panic!("{outcome:?}") };
    assert!(waits.contains("more than 2000 paths"), "{waits}");
}

#[test]
fn fields_that_are_named_by_their_values_make_no_case() {
    let mut stream = wide(300);
    let payload = |id: usize| orders(id..id + 1, &[])[0].replacen('{', &format!(r#"{{"by_id":{{"k{id}":1}},"#), 1);
    let outcome = feed(&mut stream, &(300..3_300).map(payload).collect::<Vec<_>>());
    let told: Vec<Vec<String>> = outcome
        .decisions
        .iter()
        .filter_map(|d| match &d.fact {
            Fact::DriftDetected { added, .. } => Some(added.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [vec!["by_id".to_owned()]], "the object came, its members did not stay");
}

#[test]
fn a_schema_that_flips_with_every_record_makes_one_case_of_two_fields() {
    let mut stream = wide(200);
    let payloads: Vec<String> = (200..2_200)
        .map(|id| {
            let names: &[_] = if id % 2 == 0 { &[("Total", "Sum"), ("Cost", "Price")] } else { &[] };
            orders(id..id + 1, names).remove(0)
        })
        .collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(names(&outcome), ["TimerSet", "DriftDetected"]);
    assert_eq!((held(&outcome).len(), row_count(&outcome)), (1_000, 1_000));
    assert_eq!(changes(&stream), [("Total".to_owned(), None), ("Cost".to_owned(), None)]);
}

#[test]
fn values_whose_type_is_one_in_a_hundred_wrong_make_no_case_and_few_are_held() {
    let mut stream = wide(1_000);
    let payload = |id: usize| {
        let payload = orders(id..id + 1, &[]).remove(0);
        if id % 100 == 7 { payload.replace("\"Cost\":", "\"Cost\":\"").replace(".5,", ".5\",") } else { payload }
    };
    let outcome = feed(&mut stream, &(1_000..6_000).map(payload).collect::<Vec<_>>());
    assert_eq!(names(&outcome), ["TimerSet", "RecordsReleased"]);
    assert_eq!(held(&outcome).len(), 1);
}

#[test]
fn the_keys_of_a_map_take_no_places_from_paths_that_come_later() {
    let mut stream = wide(300);
    let keyed = |id: usize, names: &[(&str, &str)]| {
        let keys: Vec<String> = (0..20).map(|n| format!(r#""k{id}-{n}":1"#)).collect();
        orders(id..id + 1, names)[0].replacen('{', &format!(r#"{{"by_id":{{{}}},"#, keys.join(",")), 1)
    };
    feed(&mut stream, &(300..600).map(|id| keyed(id, &[])).collect::<Vec<_>>());
    feed(&mut stream, &(600..630).map(|id| keyed(id, &[("Cost", "Costs")])).collect::<Vec<_>>());
    let (drift, tree) = (stream.state.drift(), stream.state.shape());
    assert_eq!(drift.added(only_case(&stream), tree), ["Costs"]);
    assert!(!drift.profiles().is_full() && drift.profiles().paths.len() < 20);
    let snapshot = stream.state.snapshot();
    assert_eq!(crate::step::StreamState::from_snapshot(&snapshot).unwrap().snapshot(), snapshot);
}

#[test]
fn a_path_that_found_no_place_at_first_is_not_new_once_it_has_one() {
    let mut stream = wide(300);
    let keyed = |id: usize, more: &str, names: &[(&str, &str)]| {
        let keys: Vec<String> = (0..20).map(|n| format!(r#""k{id}-{n}":1"#)).collect();
        orders(id..id + 1, names)[0].replacen('{', &format!(r#"{{"by_id":{{{}}},{more}"#, keys.join(",")), 1)
    };
    // The keys take all places within a hundred records; what is a map is told later.
    let is_full = |stream: &Stream| stream.state.drift().profiles().is_full();
    feed(&mut stream, &(300..400).map(|id| keyed(id, "", &[])).collect::<Vec<_>>());
    assert!(is_full(&stream));
    let outcome = feed(&mut stream, &(400..800).map(|id| keyed(id, r#""Price":7.5,"#, &[])).collect::<Vec<_>>());
    assert!(!is_full(&stream) && names(&outcome).is_empty(), "{:?}", names(&outcome));
    let gone = |id| keyed(id, r#""Price":7.5,"#, &[("Cost", "Costs")]);
    feed(&mut stream, &(800..830).map(gone).collect::<Vec<_>>());
    let (drift, tree, case) = (stream.state.drift(), stream.state.shape(), only_case(&stream));
    assert_eq!(drift.added(case, tree), ["Costs"]);
    let lost = drift.lost(case, tree).remove(0);
    assert!(drift.was_there(&lost, "Price", tree) && !drift.was_there(&lost, "Costs", tree));
    let price = tree.find(&["Price"]).unwrap();
    assert!(!drift.beside(case, tree).contains(&price), "how long it was there is not known");
}
