//! Two fields of texts of one format that take each other's values.

use std::collections::BTreeMap;

use schemas::drift::Change;

use super::*;

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[{"name":"order_id","type":"text"},
    {"name":"first","type":"text"},{"name":"last","type":"text"},{"name":"company","type":"text"},
    {"name":"city","type":"text"},{"name":"ship_city","type":"text"},{"name":"status","type":"text"},
    {"name":"stage","type":"text"},{"name":"account","type":"text"},{"name":"owner","type":"text"},
    {"name":"open","type":"text"},{"name":"vip","type":"text"},{"name":"total","type":"decimal"}]}"#;
const MAPPING: &str = r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","first":"First","last":"Last",
    "company":"Company","city":"City","ship_city":"ShipCity","status":"Status","stage":"Stage","account":"AccountId",
    "owner":"OwnerId","open":"Open","vip":"Vip","total":"Total"}}"#;

const FIRST: [&str; 24] = [
    "Ann", "Ben", "Clara", "David", "Eva", "Felix", "Greta", "Hugo", "Ida", "Jakob", "Karin", "Leo", "Mia", "Noah",
    "Olga", "Paul", "Rosa", "Simon", "Tina", "Ulrich", "Vera", "Wanda", "Xaver", "Zoe",
];
const LAST: [&str; 24] = [
    "Bauer", "Brown", "Carter", "Dupont", "Eder", "Fischer", "Gruber", "Hofmann", "Huber", "Johnson", "Keller",
    "Lehner", "Maier", "Moreau", "Novak", "Pichler", "Rossi", "Schmidt", "Smith", "Steiner", "Taylor", "Wagner",
    "Weber", "Winkler",
];
const CITIES: [&str; 12] =
    ["Vienna", "Graz", "Linz", "Salzburg", "Berlin", "Hamburg", "Munich", "Rome", "Milan", "Paris", "Lyon", "Madrid"];
const STATUS: [&str; 4] = ["open", "won", "lost", "paused"];
const STAGE: [&str; 5] = ["lead", "qualified", "offer", "review", "closing"];

/// Pseudo-random numbers that a seed determines.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    /// Some far more often than others, as names are.
    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let sides = 1 + self.below(all.len());
        all[self.below(sides)]
    }
}

type Fields = BTreeMap<&'static str, String>;

fn order(id: usize, dice: &mut Dice) -> Fields {
    let company = format!("{} {}", dice.of(&LAST), ["GmbH", "Ltd", "and Sons", "Holding"][dice.below(4)]);
    let id_of = |prefix: &str, n: usize| format!("{prefix}5g00000{:05}XQ", n * 7_919 % 99_991);
    BTreeMap::from([
        ("Id", id.to_string()),
        ("First", dice.of(&FIRST).to_owned()),
        ("Last", dice.of(&LAST).to_owned()),
        ("Company", company),
        ("City", dice.of(&CITIES).to_owned()),
        ("ShipCity", dice.of(&CITIES).to_owned()),
        ("Status", dice.of(&STATUS).to_owned()),
        ("Stage", dice.of(&STAGE).to_owned()),
        ("AccountId", id_of("001", dice.below(5_000))),
        ("OwnerId", id_of("005", dice.below(300))),
        ("Open", ["Y", "N"][usize::from(dice.below(10) == 0)].to_owned()),
        ("Vip", ["N", "Y"][usize::from(dice.below(10) == 0)].to_owned()),
        ("Total", format!("{}.5", 10 + dice.below(9_000))),
    ])
}

fn orders(ids: std::ops::Range<usize>, dice: &mut Dice, change: impl Fn(usize, &mut Fields)) -> Vec<String> {
    let made = |id| {
        let mut fields = order(id, dice);
        change(id, &mut fields);
        serde_json::to_string(&fields).unwrap()
    };
    ids.map(made).collect()
}

fn swap(fields: &mut Fields, (one, other): (&'static str, &'static str)) {
    let (first, second) = (fields[one].clone(), fields[other].clone());
    fields.insert(one, second);
    fields.insert(other, first);
}

fn opened() -> Stream {
    let mut stream = Stream::new();
    for input in opening(MAPPING, ENTITY) {
        stream.control(&input);
    }
    stream
}

/// A stream that has seen so many records, none of which was strange.
fn steady(records: usize, dice: &mut Dice) -> Stream {
    let mut stream = opened();
    let outcome = feed(&mut stream, &orders(0..records, dice, |_, _| {}));
    assert!(names(&outcome).is_empty() && held(&outcome).is_empty(), "{:?}", told_of(&stream));
    stream
}

fn told_of(stream: &Stream) -> Vec<(String, Option<Change>)> {
    let drift = stream.state.drift();
    let lost = drift.cases().keys().flat_map(|case| drift.lost(*case, stream.state.shape()));
    lost.map(|lost| (lost.path, lost.change)).collect()
}

fn swapped((one, other): (&str, &str)) -> Vec<(String, Option<Change>)> {
    let with = |other: &str| Some(Change::Swapped { with: other.to_owned() });
    let mut both = vec![(one.to_owned(), with(other)), (other.to_owned(), with(one))];
    both.sort_by(|a, b| a.0.cmp(&b.0));
    both
}

fn recalled(outcome: &Outcome) -> Option<(u64, u64)> {
    outcome.decisions.iter().find_map(|d| match d.fact {
        Fact::RecordsRecalled { since, until, .. } => Some((since, until)),
        _ => None,
    })
}

const PAIRS: [(&str, &str); 5] =
    [("Status", "Stage"), ("AccountId", "OwnerId"), ("First", "Last"), ("Company", "City"), ("Last", "ShipCity")];

#[test]
fn two_fields_of_texts_that_take_each_others_values_are_told_soon_and_all_that_flowed_is_recalled() {
    for seed in 0..6 {
        for pair in PAIRS {
            for before in [200, 900, 5_000] {
                let mut dice = Dice(seed * 31 + before as u64);
                let mut stream = steady(before, &mut dice);
                let first = stream.state.next.offset;
                let payloads = orders(before..before + 2_400, &mut dice, |_, fields| swap(fields, pair));
                let outcome = feed(&mut stream, &payloads);
                let mut told = told_of(&stream);
                told.sort_by(|a, b| a.0.cmp(&b.0));
                assert_eq!(told, swapped(pair), "{pair:?} after {before} of seed {seed}");
                let flowed = row_count(&outcome) as u64;
                let max = if before < 900 { 80 } else { 1_600 };
                assert!(flowed <= max, "{pair:?} after {before} of seed {seed}: {flowed} flowed");
                let (since, until) = recalled(&outcome).unwrap();
                assert!(since < first && until == first + flowed - 1, "{pair:?}, seed {seed}: {since} {first} {until}");
                assert!(since + 400 >= first, "{pair:?} after {before} of seed {seed}: {since} is long before {first}");
            }
        }
    }
}

#[test]
fn a_swap_that_is_approved_is_read_the_right_way_round_and_old_records_that_were_recalled_stay() {
    let pair = ("Status", "Stage");
    let mut dice = Dice(3);
    let mut stream = steady(300, &mut dice);
    let first = stream.state.next.offset;
    let payloads = orders(300..500, &mut dice, |_, fields| swap(fields, pair));
    let outcome = feed(&mut stream, &payloads);
    let (case, flowed) = (only_case(&stream), row_count(&outcome) as usize);
    let mut writer = RecordBatchWriter::new(Lane(2_000 + u128::from(case)), 0, 0);
    let old = orders(299..300, &mut dice, |_, _| {});
    for (origin, payload) in (first - 1..).zip(old.iter().chain(&payloads[..flowed])) {
        let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
        writer.push_from(&Record { ordinal: origin + 1, op, key: None, version, defect: None, payload }, Some(origin));
    }
    let batch = writer.finish(&redriven_for(case, Again::Recalled));
    let again = stream.fold(BatchKind::Redriven, batch.count, &batch.body);
    assert_eq!(held(&again).len(), flowed, "the old one is plainly an old one");
    reconciles(&stream);

    let moves = vec![renamed("Status", "Stage", 990), renamed("Stage", "Status", 990)];
    assert_eq!(names(&suggest(&mut stream, "s", moves)), ["RepairProposed"], "a swap always waits");
    decide(&mut stream, "c", Verdict::Approve { only: vec![] });
    let text = stream.state.mapping().unwrap().0.text();
    assert!(text.contains("Stage | Status") && text.contains("Status | Stage"), "{text}");
    let count = held(&outcome).len();
    let rows = redrive(&mut stream, case, &held(&outcome), &payloads[flowed..]);
    assert_eq!(row_count(&rows) as usize, count);
    let more = feed(&mut stream, &orders(500..900, &mut dice, |_, fields| swap(fields, pair)));
    assert!(names(&more).is_empty() && held(&more).is_empty(), "it is usual from here on");
    reconciles(&stream);
}

/// What changes in records though no fields take each other's values.
type Changing = fn(usize, &mut Fields);

const NO_SWAPS: [(&str, Changing); 9] = [
    ("fields of one domain that are swapped by chance", |id, fields| {
        if id % 3 == 0 {
            swap(fields, ("City", "ShipCity"));
        }
    }),
    ("flags that turn for good", |id, fields| {
        if id > 2_000 {
            swap(fields, ("Open", "Vip"));
        }
    }),
    ("flags in a sorted file", |id, fields| {
        let is_late = id / 700 % 2 == 1;
        fields.insert("Open", if is_late { "N" } else { "Y" }.to_owned());
        fields.insert("Vip", if is_late { "Y" } else { "N" }.to_owned());
    }),
    ("a file that is sorted by a name", |id, fields| {
        fields.insert("Last", LAST[id * LAST.len() / 6_000].to_owned());
    }),
    ("cities of which others become usual", |id, fields| {
        let late = usize::from(id > 1_500) * 6;
        fields.insert("City", CITIES[late + id % 6].to_owned());
        fields.insert("ShipCity", CITIES[late + id % 5].to_owned());
    }),
    ("values that were never there before", |id, fields| {
        if id > 1_500 {
            fields.insert("Status", format!("state {}", id % 4));
            fields.insert("Stage", format!("step {}", id % 7));
        }
    }),
    ("one field that has another's values while that keeps them", |id, fields| {
        if id > 1_500 {
            let stage = fields["Stage"].clone();
            fields.insert("Status", stage);
        }
    }),
    ("ids that are counted up", |id, fields| {
        fields.insert("AccountId", format!("A{:06}", 1_000 + id));
        fields.insert("OwnerId", format!("A{:06}", 3_000 + id));
    }),
    ("a few records that have it the other way round", |id, fields| {
        if id % 100 == 7 {
            swap(fields, ("First", "Last"));
            swap(fields, ("Status", "Stage"));
        }
    }),
];

#[test]
fn what_drifts_or_is_sorted_or_shares_a_domain_is_no_swap() {
    for (what, change) in NO_SWAPS {
        for seed in 0..4 {
            let mut stream = opened();
            let outcome = feed(&mut stream, &orders(0..6_000, &mut Dice(seed), change));
            assert!(held(&outcome).is_empty(), "{what}, seed {seed}: {:?}", told_of(&stream));
            assert_eq!(row_count(&outcome), 6_000, "{what}");
        }
    }
}

#[test]
fn a_swap_of_two_fields_is_told_beside_a_rename_with_another_type_and_no_row_goes_blank() {
    let mut dice = Dice(5);
    let mut stream = opened();
    let number = |payload: String| {
        let (before, total) = payload.split_once(r#""Total":""#).unwrap();
        let (total, after) = total.split_once('"').unwrap();
        format!(r#"{before}"Total":{total}{after}"#)
    };
    feed(&mut stream, &orders(0..300, &mut dice, |_, _| {}).into_iter().map(number).collect::<Vec<_>>());
    let payloads: Vec<String> = orders(300..500, &mut dice, |_, fields| swap(fields, ("AccountId", "OwnerId")))
        .into_iter()
        .map(|payload| payload.replace(r#""Total""#, r#""Amount""#))
        .collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!((row_count(&outcome), held(&outcome).len()), (0, 200), "what is renamed is held from the first one on");
    let mut told = told_of(&stream);
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let mut expected = swapped(("AccountId", "OwnerId"));
    expected.push(("Total".to_owned(), None));
    assert_eq!(told, expected);
    assert!(stream.state.drift().cases().len() <= 2);
    reconciles(&stream);
}

#[test]
fn fields_of_two_types_that_take_each_others_names_are_held_from_the_first_record_on() {
    let mut dice = Dice(7);
    let mut stream = steady(0, &mut dice);
    let typed = |payload: &String| {
        let mut record: serde_json::Value = serde_json::from_str(payload).unwrap();
        record["Total"] = record["Total"].as_str().unwrap().parse::<f64>().unwrap().into();
        record
    };
    let before: Vec<String> =
        orders(0..300, &mut dice, |_, _| {}).iter().map(|payload| typed(payload).to_string()).collect();
    feed(&mut stream, &before);
    let exchanged = |payload: &String| {
        let mut record = typed(payload);
        let total = std::mem::replace(&mut record["Total"], serde_json::Value::Null);
        record["Total"] = std::mem::replace(&mut record["Status"], total);
        record.to_string()
    };
    let payloads: Vec<String> = orders(300..400, &mut dice, |_, _| {}).iter().map(exchanged).collect();
    let outcome = feed(&mut stream, &payloads);
    assert_eq!((row_count(&outcome), held(&outcome).len()), (0, 100));
    let paths: Vec<String> = told_of(&stream).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["Status", "Total"]);
    reconciles(&stream);
}
