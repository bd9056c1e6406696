//! Values that mean something else though they stand where they stood: units, ways of writing, each other's.

use schemas::drift::{Change, Severity};

use super::*;

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[{"name":"order_id","type":"text"},
    {"name":"total","type":"decimal"},{"name":"chance","type":"decimal","unit":"percent"},
    {"name":"placed","type":"timestamp"},{"name":"email","type":"text"},{"name":"buyer","type":"text"}]}"#;
const MAPPING: &str = r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","total":"Total",
    "chance":{"from":"Chance","unit":"fraction"},"placed":"Placed","email":"Email","buyer":"Buyer"}}"#;

/// A record: amounts from 10.25 to some thousands, in no order.
fn order(id: usize) -> serde_json::Value {
    let total = [12.25, 99.5, 450.75, 1_299.99, 87.1, 5_100.01, 23.4][id % 7] + (id % 13) as f64;
    let chance = [0.1, 0.25, 0.5, 0.75, 0.9][id % 5];
    serde_json::json!({ "Id": id.to_string(), "Total": total, "Chance": chance,
        "Placed": format!("2024-05-{:02}T10:00:00Z", 1 + id % 28), "Email": format!("m{id}@example.com"),
        "Buyer": format!("Ann {id}") })
}

fn orders(ids: std::ops::Range<usize>, change: impl Fn(usize, &mut serde_json::Value)) -> Vec<String> {
    let changed = |id| {
        let mut record = order(id);
        change(id, &mut record);
        record.to_string()
    };
    ids.map(changed).collect()
}

fn steady(records: usize) -> Stream {
    let mut stream = Stream::new();
    for input in opening(MAPPING, ENTITY) {
        stream.control(&input);
    }
    let outcome = feed(&mut stream, &orders(0..records, |_, _| {}));
    assert_eq!(row_count(&outcome) as usize, records);
    assert!(names(&outcome).is_empty(), "{:?}", names(&outcome));
    stream
}

fn cents(_: usize, record: &mut serde_json::Value) {
    record["Total"] = ((record["Total"].as_f64().unwrap() * 100.0).round() as i64).into();
}

fn changes(stream: &Stream) -> Vec<(String, Option<Change>)> {
    let lost = stream.state.drift().lost(only_case(stream), stream.state.shape());
    lost.into_iter().map(|lost| (lost.path, lost.change)).collect()
}

fn severity(outcome: &Outcome) -> Option<Severity> {
    outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::DriftDetected { severity, .. } => *severity,
        _ => None,
    })
}

/// What the repairer suggests of values that changed.
fn reread(stream: &Stream) -> Vec<Move> {
    let of = |(path, change): (String, Option<Change>)| {
        let (kind, to, change) = match change.unwrap() {
            Change::Swapped { with } => (DriftKind::Renamed, with, None),
            other => (DriftKind::Retyped, path.clone(), Some(other)),
        };
        Move { kind, change, ..renamed(&path, &to, 990) }
    };
    changes(stream).into_iter().map(of).collect()
}

fn propose(stream: &mut Stream) -> Outcome {
    let moves = reread(stream);
    suggest(stream, "s", moves)
}

#[test]
fn amounts_that_became_cents_are_held_once_that_is_sure_and_what_came_before_is_recalled() {
    let mut stream = steady(200);
    let payloads = orders(200..300, cents);
    let outcome = feed(&mut stream, &payloads);
    assert_eq!(names(&outcome), ["DriftDetected", "RecordsRecalled"]);
    assert_eq!(severity(&outcome), Some(Severity::Breaking));
    assert_eq!(changes(&stream), [("Total".to_owned(), Some(Change::Unit { shift: 2 }))]);
    let flowed = row_count(&outcome) as usize;
    assert!(flowed <= 30, "{flowed} flowed before it was sure");
    assert_eq!(held(&outcome).len(), 100 - flowed);
    let recalled = outcome.decisions.iter().find_map(|d| match d.fact {
        Fact::RecordsRecalled { since, .. } => Some((since, d.input_offset)),
        _ => None,
    });
    let first = stream.state.next.offset - 100;
    let (since, at) = recalled.unwrap();
    assert!(since < first && at == first + flowed as u64 - 1, "{since} {first} {at}");

    // The repairer sends what flowed again; what is plainly of the old unit among it stays as it is.
    let case = only_case(&stream);
    let mut again = orders(198..199, |_, r| r["Total"] = 12.5.into());
    again.extend_from_slice(&payloads[..flowed]);
    let offsets: Vec<u64> = (first - 1..first + flowed as u64).collect();
    let outcome = recall(&mut stream, case, &offsets, &again);
    assert_eq!(held(&outcome).len(), flowed, "{outcome:?}");
    reconciles(&stream);
    assert_eq!(stream.state.counters.held, 100);

    let waits = propose(&mut stream);
    assert_eq!(names(&waits), ["RepairProposed"], "only a person says what numbers mean");
    let approved = decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    assert_eq!(names(&approved), ["RepairApplied", "MappingActivated", "RecordsReleased", "CommandApplied"]);
    assert!(stream.state.mapping().unwrap().0.text().contains(r#""unit":"cents""#));
    // In the order in which they are held: what was recalled comes last.
    let mut offsets: Vec<u64> = (flowed..100).map(|n| first + n as u64).collect();
    offsets.extend(held(&outcome));
    let all: Vec<String> = payloads[flowed..].iter().chain(&payloads[..flowed]).cloned().collect();
    let values = totals(&redrive(&mut stream, case, &offsets, &all));
    let expected = |id: usize| (order(id)["Total"].as_f64().unwrap() * 100.0).round() as i128 * 100;
    let ids = (200 + flowed..300).chain(200..200 + flowed);
    assert_eq!(values, ids.map(|id| Some(expected(id))).collect::<Vec<_>>());
    assert!(held(&feed(&mut stream, &orders(300..400, cents))).is_empty(), "cents are usual from here on");
    reconciles(&stream);
}

/// Accepted records, as the repairer sends them again for a case.
fn recall(stream: &mut Stream, case: u64, offsets: &[u64], payloads: &[String]) -> Outcome {
    let mut writer = RecordBatchWriter::new(Lane(2_000 + u128::from(case)), 0, 0);
    for (origin, payload) in offsets.iter().zip(payloads) {
        let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
        let record = Record { ordinal: origin + 1, op, key: None, version, defect: None, payload };
        writer.push_from(&record, Some(*origin));
    }
    let batch = writer.finish(&redriven_for(case, Again::Recalled));
    stream.fold(BatchKind::Redriven, batch.count, &batch.body)
}

#[test]
fn what_is_recalled_after_its_case_was_decided_stays_as_it_is() {
    let mut stream = steady(200);
    feed(&mut stream, &orders(200..300, cents));
    let case = only_case(&stream);
    decide(&mut stream, "c", Verdict::AcceptAsRemoved { only: vec![] });
    let before = stream.state.counters;
    let outcome = recall(&mut stream, case, &[200], &orders(200..201, cents));
    assert!(outcome.rows.is_empty() && outcome.decisions.is_empty());
    assert_eq!(stream.state.counters, before);
}

#[test]
fn a_share_that_became_a_percentage_is_told_from_one_that_is_larger() {
    let mut stream = steady(300);
    let outcome =
        feed(&mut stream, &orders(300..400, |_, r| r["Chance"] = (r["Chance"].as_f64().unwrap() * 100.0).into()));
    assert_eq!(names(&outcome), ["DriftDetected", "RecordsRecalled"]);
    assert_eq!(changes(&stream), [("Chance".to_owned(), Some(Change::Unit { shift: 2 }))]);
    propose(&mut stream);
    decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    assert!(stream.state.mapping().unwrap().0.text().contains(r#""unit":"percent""#));

    let mut stream = steady(300);
    let outcome = feed(&mut stream, &orders(300..600, |_, r| r["Chance"] = 0.95.into()));
    assert!(names(&outcome).is_empty() && held(&outcome).is_empty());
}

#[test]
fn numbers_that_grow_or_scatter_are_no_other_unit() {
    let growing = |id: usize, r: &mut serde_json::Value| r["Total"] = id.into();
    let mut stream = steady(0);
    let outcome = feed(&mut stream, &orders(1..12_000, growing));
    assert!(names(&outcome).is_empty() && held(&outcome).is_empty(), "{:?}", changes(&stream));
    let mut seed = 1u64;
    let mut scattered = |_: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        10f64.powf((seed >> 11) as f64 / (1u64 << 53) as f64 * 6.0)
    };
    let mut payloads = orders(0..20_000, |_, _| {});
    for payload in &mut payloads {
        let mut record: serde_json::Value = serde_json::from_str(payload).unwrap();
        record["Total"] = ((scattered(0) * 100.0).round() / 100.0).into();
        *payload = record.to_string();
    }
    let mut stream = steady(0);
    let outcome = feed(&mut stream, &payloads);
    assert!(names(&outcome).is_empty() && held(&outcome).is_empty());
}

/// Amounts that come in this order, and then once more.
fn twice(amounts: &[f64]) -> Vec<String> {
    orders(0..2 * amounts.len(), |id, r| r["Total"] = amounts[id % amounts.len()].into())
}

/// Amounts as a shop has them, most small and few very large: the logarithm is about normal.
fn skewed(count: usize) -> Vec<f64> {
    let mut seed = 7u64;
    let mut uniform = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut amount = || {
        let normal = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        ((5.0 + 2.5 * normal).exp() * 100.0).round() / 100.0
    };
    (0..count).map(|_| amount()).collect()
}

#[test]
fn a_file_that_is_sorted_by_amount_and_sent_again_is_no_other_unit() {
    let ascending: Vec<f64> = (1..=20_000).map(f64::from).collect();
    let mut lognormal = skewed(4_000);
    lognormal.sort_by(f64::total_cmp);
    for mut amounts in [ascending, lognormal] {
        for order in ["ascending", "descending"] {
            let mut stream = steady(0);
            let outcome = feed(&mut stream, &twice(&amounts));
            let count = amounts.len();
            assert!(names(&outcome).is_empty() && held(&outcome).is_empty(), "{count} {order}: {:?}", names(&outcome));
            amounts.reverse();
        }
    }
}

#[test]
fn amounts_of_one_size_that_became_cents_are_sure_soon_also_behind_a_long_history() {
    let spread = |id: usize| 1_000.5 + (id * 1_237 % 8_000) as f64;
    for before in [200, 5_000] {
        let mut stream = steady(0);
        feed(&mut stream, &orders(0..before, |id, r| r["Total"] = spread(id).into()));
        let outcome = feed(
            &mut stream,
            &orders(before..before + 200, |id, r| {
                r["Total"] = ((spread(id) * 100.0) as u64).into();
            }),
        );
        assert_eq!(changes(&stream), [("Total".to_owned(), Some(Change::Unit { shift: 2 }))]);
        let flowed = row_count(&outcome) as usize;
        // Behind the first thousand records not every one is looked at until one is strange.
        let max = if before < 1_000 { 40 } else { 40 + 4 * 31 };
        assert!((15..=max).contains(&flowed), "{flowed} flowed before it was sure");
    }
}

/// How a value is made of a number.
type Making = Box<dyn Fn(usize) -> serde_json::Value>;

#[test]
fn times_that_are_written_otherwise_are_held_and_read_by_the_new_format_once_approved() {
    let day = |id: usize| 1 + id % 28;
    let cases: [(&str, Making, &str); 4] = [
        ("text", Box::new(move |id| format!("{:02}/05/2024", day(id)).into()), "%d/%m/%Y"),
        ("text", Box::new(move |id| format!("05/{:02}/2024", day(id)).into()), "%m/%d/%Y"),
        ("text", Box::new(move |id| (1_714_557_600_000 + id * 86_400_000).to_string().into()), "epoch_millis"),
        ("number", Box::new(move |id| (1_714_557_600 + id * 86_400).into()), "epoch_seconds"),
    ];
    for (class, written, format) in cases {
        let mut stream = steady(200);
        let payloads = orders(200..300, |id, r| r["Placed"] = written(id));
        let outcome = feed(&mut stream, &payloads);
        let told = names(&outcome);
        assert!(told.contains(&"DriftDetected"), "{format}");
        let expected = Change::Format { from: "iso".into(), to: format.into() };
        assert_eq!(changes(&stream), [("Placed".to_owned(), Some(expected))], "{format}");
        if class == "number" {
            assert_eq!(held(&outcome).len(), 100, "another type is held from the first record on");
        }
        assert!(held(&feed(&mut stream, &orders(300..310, |_, _| {}))).is_empty(), "the old format flows on");
        propose(&mut stream);
        let approved = decide(&mut stream, "c", Verdict::Approve { only: vec![] });
        assert!(names(&approved).contains(&"MappingActivated"), "{format}: {approved:?}");
        let offsets = held(&outcome);
        let last = &payloads[100 - offsets.len()..];
        let case = only_case(&stream);
        let again = redrive(&mut stream, case, &offsets, last);
        assert_eq!(row_count(&again) as usize, last.len(), "{format}: {:?}", quarantined(&again));
        reconciles(&stream);
    }
}

#[test]
fn a_way_of_writing_that_no_mapping_reads_says_so_when_it_is_approved() {
    let mut stream = steady(200);
    let comma =
        |_: usize, r: &mut serde_json::Value| r["Total"] = format!("{:.2}", r["Total"]).replace('.', ",").into();
    feed(&mut stream, &orders(200..300, comma));
    let [(path, Some(Change::Format { to, .. }))] = &changes(&stream)[..] else { panic!("{:?}", changes(&stream)) };
    assert_eq!((&**path, &**to), ("Total", "numbers with a decimal comma"));
    propose(&mut stream);
    let refused = decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    let Fact::CommandRefused { reason, .. } = &refused.decisions[0].fact else { panic!("{refused:?}") };
    assert!(reason.contains("decimal comma"), "{reason}");
}

#[test]
fn units_that_change_one_after_the_other_are_one_case() {
    let mut stream = steady(200);
    let both = |id: usize, r: &mut serde_json::Value| {
        cents(id, r);
        if id >= 260 {
            r["Chance"] = (r["Chance"].as_f64().unwrap() * 100.0).into();
        }
    };
    let outcome = feed(&mut stream, &orders(200..400, both));
    assert_eq!(names(&outcome), ["DriftDetected", "RecordsRecalled", "DriftDetected", "RecordsRecalled"]);
    let unit = Some(Change::Unit { shift: 2 });
    assert_eq!(changes(&stream), [("Total".to_owned(), unit.clone()), ("Chance".to_owned(), unit)]);
    let ranges: Vec<(u64, u64)> = outcome
        .decisions
        .iter()
        .filter_map(|d| match d.fact {
            Fact::RecordsRecalled { since, until, .. } => Some((since, until)),
            _ => None,
        })
        .collect();
    assert!(ranges[1].0 >= ranges[0].1, "no record is recalled twice: {ranges:?}");
}

#[test]
fn a_case_for_which_two_ranges_are_looked_at_again_is_decided_once_both_were_read() {
    let mut stream = steady(200);
    let both = |id: usize, r: &mut serde_json::Value| {
        cents(id, r);
        if id >= 260 {
            r["Chance"] = (r["Chance"].as_f64().unwrap() * 100.0).into();
        }
    };
    let ends = recall_ends(&feed(&mut stream, &orders(200..400, both)));
    assert_eq!(ends.len(), 2);
    propose(&mut stream);
    let all = || Verdict::Approve { only: vec![] };
    for (n, end) in ends.iter().enumerate() {
        let early = decide_once_read(&mut stream, &format!("c{n}"), all());
        assert_eq!(names(&early), ["CommandRefused"], "{n}");
        stream.control(end);
    }
    assert!(names(&decide_once_read(&mut stream, "d", all())).contains(&"RepairApplied"));
}

#[test]
fn a_mapping_that_changes_what_is_looked_at_again_is_refused_until_all_of_it_was_read() {
    let mut stream = steady(200);
    let ends = recall_ends(&feed(&mut stream, &orders(200..300, cents)));
    let put = |stream: &mut Stream, id: &str, mapping: &str| {
        let [m, e, Input::StreamOpened { mapping, entity_definition, .. }] = opening(mapping, ENTITY) else {
            unreachable!()
        };
        stream.control(&m);
        stream.control(&e);
        let (by, force, made_on, why, once_read) = ("ada".into(), false, None, None, true);
        let command = Command::ActivateMapping { mapping, entity_definition, by, force, made_on, why, once_read };
        names(&stream.control(&Input::Command { id: id.into(), command }))
    };
    let other = MAPPING.replace(r#""total":"Total""#, r#""total":"Sum""#);
    assert_eq!(put(&mut stream, "a", &other), ["CommandRefused"]);
    let beside = MAPPING.replace(r#""buyer":"Buyer""#, r#""buyer":"Customer | Buyer""#);
    assert_eq!(put(&mut stream, "b", &beside), ["MappingActivated", "CommandApplied"], "what the case is not about");
    ends.iter().for_each(|end| drop(stream.control(end)));
    assert!(put(&mut stream, "c", &other).contains(&"RecordsReleased"));
}

#[test]
fn a_change_of_unit_that_is_taken_back_holds_again() {
    let mut stream = steady(200);
    feed(&mut stream, &orders(200..300, cents));
    let case = only_case(&stream);
    propose(&mut stream);
    decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    let count = stream.state.drift().cases()[&case].held as usize;
    let offsets: Vec<u64> = (100..100 + count as u64).collect();
    redrive(&mut stream, case, &offsets, &orders(300 - count..300, cents));
    let revert = Decide {
        case,
        mapping_version: 0,
        version: None,
        once_read: false,
        verdict: Verdict::Revert,
        by: "ada".into(),
        why: String::new(),
    };
    let outcome = stream.control(&Input::Command { id: "r".into(), command: Command::Decide(revert) });
    assert_eq!(names(&outcome), ["RepairReverted", "MappingActivated", "DriftDetected", "CommandApplied"]);
    assert!(!stream.state.mapping().unwrap().0.text().contains("cents"));
    assert_eq!(held(&feed(&mut stream, &orders(400..420, cents))).len(), 20);
}

#[test]
fn what_is_held_for_its_unit_is_not_mapped_by_a_case_of_nulls_before_that_is_decided() {
    let mut stream = steady(200);
    let moved = |_: usize, record: &mut serde_json::Value| {
        let email = record["Email"].take();
        record["Mail"] = email;
    };
    feed(&mut stream, &orders(200..300, moved));
    let nulls = stream.state.drift().waiting().next().unwrap();
    let at = stream.state.next.offset;
    let both = |id: usize, record: &mut serde_json::Value| {
        moved(id, record);
        cents(id, record);
    };
    let payloads = orders(300..400, both);
    let flowed = row_count(&feed(&mut stream, &payloads));
    let (case, start) = (only_case(&stream), stream.state.next.offset);
    let offsets: Vec<u64> = (at..at + u64::from(flowed)).collect();
    let recalled = recall(&mut stream, case, &offsets, &payloads[..offsets.len()]);
    let withdrawn = (held(&recalled)[0] - start) as usize;

    let approved = edit(&mut stream, nulls, vec![renamed("Email", "Mail", 0)]);
    assert!(names(&approved).contains(&"RecordsRecalled"), "{approved:?}");
    let before = stream.state.counters;
    let mut sent = orders(203..204, moved);
    sent.push(payloads[withdrawn].clone());
    let refilled = recall(&mut stream, nulls, &[at - 97, offsets[withdrawn]], &sent);
    assert_eq!(totals(&refilled), [Some(202_500)], "the one that is of the old unit");
    assert!(names(&refilled).is_empty() && held(&refilled).is_empty(), "{refilled:?}");
    assert_eq!(stream.state.counters, before);
}
