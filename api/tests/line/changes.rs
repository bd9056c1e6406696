//! Changes that are no plain rename, end to end: nulls, declared schemas, rare fields, units, formats, and what no good source
//! does.

use serde_json::{Value, json};

use super::folder::{Folder, fates};

/// A deal as a flat object, its fields changed.
fn deal(id: usize, change: impl Fn(&mut Value)) -> String {
    let mut deal = json!({
        "Id": format!("D{id}"), "Name": format!("Deal {id}"), "StageName": (["Open", "Won", "Lost"][id % 3]),
        "Amount": amount(id), "Probability": ([10, 25, 50, 75, 90][id % 5]),
        "CloseDate": format!("2026-{:02}-{:02}", 1 + id % 12, 1 + id % 28),
        "LastModifiedDate": "2026-01-02T10:00:00.000+0000",
    });
    change(&mut deal);
    deal.to_string() + "\n"
}

/// Amounts of three to five digits, in no order.
fn amount(id: usize) -> f64 {
    ([120, 999, 4_507, 12_999, 870, 51_000, 234][id % 7] + id % 13) as f64 + 0.5
}

fn deals(ids: std::ops::Range<usize>, change: impl Fn(usize, &mut Value)) -> String {
    ids.map(|id| deal(id, |deal| change(id, deal))).collect()
}

fn unchanged(_: usize, _: &mut Value) {}

fn rename(deal: &mut Value, from: &str, to: &str) {
    let fields = deal.as_object_mut().unwrap();
    let value = fields.remove(from).unwrap();
    fields.insert(to.to_owned(), value);
}

fn cases(folder: &Folder) -> Vec<Value> {
    folder.json_lines(&["cases", "list", "--tenant", "acme"])
}

fn show(folder: &Folder, case: &Value) -> String {
    folder.ok(&["cases", "show", "--tenant", "acme", case["case"].as_str().unwrap()])
}

fn decide(folder: &Folder, how: &str, case: &Value) -> Value {
    folder.json(&["cases", how, "--tenant", "acme", case["case"].as_str().unwrap()])
}

fn kind(case: &Value) -> (&str, &str, &Value) {
    (case["kind"].as_str().unwrap(), case["severity"].as_str().unwrap(), &case["held"])
}

fn answer(folder: &Folder, sql: &str) -> String {
    folder.query("acme", sql).lines().last().unwrap_or_default().to_owned()
}

const COUNT: &str = "select count(*) from opportunities";

/// Nothing on the log is other than its inputs say, and every counter has its record.
fn assert_sound(folder: &Folder) {
    folder.ok(&["doctor"]);
    folder.ok(&["log", "refold", "--batch", "7"]);
}

#[test]
fn more_nulls_than_usual_open_a_case_and_hold_nothing() {
    let folder = Folder::new();
    let half = |id: usize, deal: &mut Value| {
        if id.is_multiple_of(2) {
            deal["Amount"] = Value::Null;
        }
    };
    let file = folder.write("deals.ndjson", deals(0..300, unchanged) + &deals(300..500, half));
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [500, 500, 0, 0, 0]);
    let found = cases(&folder);
    assert_eq!((found.len(), kind(&found[0])), (1, ("nulls", "warning", &0.into())), "{found:?}");
    assert!(show(&folder, &found[0]).contains("null or absent, no longer 0.0 %"), "{}", show(&folder, &found[0]));
    folder.append(
        "deals.ndjson",
        &deals(500..2_000, |id, deal| {
            if id / 200 % 2 == 0 {
                half(0, deal)
            }
        }),
    );
    folder.opportunities("acme", &file, &[]);
    assert_eq!(cases(&folder).len(), 1, "one that flaps does not flood");
    assert_eq!(decide(&folder, "accept-removed", &found[0])["status"], "removed");
    assert_eq!((cases(&folder).len(), &*answer(&folder, COUNT)), (0, "2000"));
    assert_sound(&folder);
}

/// A column, and how its values are made of a number.
type Column<'a> = (&'a str, fn(usize) -> String);

fn csv(ids: std::ops::Range<usize>, columns: &[Column<'_>]) -> String {
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let header = line(columns.iter().map(|(name, _)| (*name).to_owned()).collect());
    header + &ids.map(|id| line(columns.iter().map(|(_, cell)| cell(id)).collect())).collect::<String>()
}

const ID: (&str, fn(usize) -> String) = ("Id", |id| format!("D{id}"));
const NAME: (&str, fn(usize) -> String) = ("Name", |id| format!("Deal {id}"));
const TIME: (&str, fn(usize) -> String) = ("LastModifiedDate", |_| "2026-01-02T10:00:00Z".to_owned());

fn column(name: &'static str) -> (&'static str, fn(usize) -> String) {
    (name, |id| amount(id).to_string())
}

#[test]
fn a_header_that_lacks_a_column_holds_the_first_record_and_one_that_has_another_is_told() {
    let folder = Folder::new();
    let file = folder.write("a.csv", csv(0..5, &[ID, NAME, column("Amount"), TIME]));
    folder.opportunities("acme", &file, &[]);
    assert_eq!(cases(&folder).len(), 0);

    let wider = folder.write("b.csv", csv(5..6, &[ID, NAME, column("Amount"), ("Region", |_| "EU".into()), TIME]));
    assert_eq!(fates(&folder.opportunities("acme", &wider, &[])), [1, 1, 0, 0, 0]);
    let found = cases(&folder);
    assert_eq!((found.len(), kind(&found[0])), (1, ("added", "info", &0.into())), "{found:?}");
    assert!(show(&folder, &found[0]).contains("came      Region"));
    assert_eq!(decide(&folder, "approve", &found[0])["status"], "noted");

    let drifted = folder.write("c.csv", csv(6..7, &[ID, NAME, column("Wert"), ("Region", |_| "EU".into()), TIME]));
    assert_eq!(folder.opportunities("acme", &drifted, &[])["held"], 1, "five records are enough for a header");
    let found = cases(&folder);
    assert_eq!((found.len(), &found[0]["lost"], &found[0]["held"]), (1, &"Amount".into(), &1.into()), "{found:?}");
    let case = found[0]["case"].as_str().unwrap();
    folder.ok(&["cases", "edit", "--tenant", "acme", case, "--move", "Amount=Wert"]);
    assert_eq!(answer(&folder, "select count(*), count(amount) from opportunities"), "7,7");
    let late = folder.write("d.csv", csv(7..8, &[ID, NAME, column("Amount"), TIME]));
    assert_eq!(fates(&folder.opportunities("acme", &late, &[])), [1, 1, 0, 0, 0]);
    assert_sound(&folder);
}

#[test]
fn a_lone_rename_of_a_field_that_few_records_have_leaves_no_row_without_it() {
    let folder = Folder::new();
    let some = |name: &'static str| {
        move |id: usize, deal: &mut Value| match id * 7 % 10 {
            0..3 => rename(deal, "Amount", name),
            _ => _ = deal.as_object_mut().unwrap().remove("Amount"),
        }
    };
    let file = folder.write("deals.ndjson", deals(0..1_000, some("Amount")) + &deals(1_000..1_400, some("DealAmount")));
    let told = folder.opportunities("acme", &file, &[]);
    let with_amount = (0..1_400).filter(|id| id * 7 % 10 < 3).count();
    let waiting = cases(&folder);
    for case in &waiting {
        assert_eq!((&case["lost"], &case["proposed"]), (&json!("Amount"), &json!("Amount → DealAmount")), "{case}");
        decide(&folder, "approve", case);
    }
    assert_eq!(answer(&folder, "select count(*), count(amount) from opportunities"), format!("1400,{with_amount}"));
    assert_eq!(fates(&told)[3], 0);
    assert_sound(&folder);
}

#[test]
fn amounts_in_cents_leave_the_view_once_that_is_sure_and_come_back_in_their_unit() {
    let folder = Folder::new();
    let cents = |id: usize, deal: &mut Value| deal["Amount"] = ((amount(id) * 100.0) as i64).into();
    let file = folder.write("deals.ndjson", deals(0..301, unchanged));
    folder.opportunities("acme", &file, &[]);
    folder.append("deals.ndjson", &deals(301..601, cents));
    folder.opportunities("acme", &file, &[]);
    let found = cases(&folder);
    assert_eq!((found.len(), kind(&found[0])), (1, ("retyped", "breaking", &300.into())), "{found:?}");
    assert!(show(&folder, &found[0]).contains("its numbers are 100 times as large as before"));
    assert_eq!(answer(&folder, COUNT), "301", "what came before it was sure is withdrawn");
    let most = "select max(amount) < 100000 from opportunities";
    assert_eq!(answer(&folder, most), "true");
    assert_eq!(decide(&folder, "approve", &found[0])["status"], "repaired");
    let sum: f64 = (0..601).map(amount).sum();
    assert_eq!(answer(&folder, "select count(*), sum(amount) from opportunities"), format!("601,{sum:.4}"));
    assert_sound(&folder);

    let case = found[0]["case"].as_str().unwrap();
    folder.ok(&["cases", "revert", "--tenant", "acme", case]);
    assert_eq!(answer(&folder, COUNT), "301");
    assert_sound(&folder);
}

#[test]
fn a_share_that_became_a_fraction_and_days_that_are_written_otherwise_at_once_are_one_case() {
    let folder = Folder::new();
    let changed = |id: usize, deal: &mut Value| {
        deal["Probability"] = (deal["Probability"].as_f64().unwrap() / 100.0).into();
        deal["CloseDate"] = format!("{:02}/{:02}/2026", 1 + id % 28, 1 + id % 12).into();
    };
    let file = folder.write("deals.ndjson", deals(0..300, unchanged));
    folder.opportunities("acme", &file, &[]);
    folder.append("deals.ndjson", &deals(300..600, changed));
    folder.opportunities("acme", &file, &[]);
    let found = cases(&folder);
    assert_eq!((found.len(), kind(&found[0]).0, kind(&found[0]).1), (1, "retyped", "breaking"), "{found:?}");
    assert_eq!(found[0]["lost"].as_str().unwrap().split(", ").count(), 2, "{found:?}");
    decide(&folder, "approve", &found[0]);
    let range = "select min(probability), max(probability), count(distinct close_date) from opportunities";
    assert_eq!(answer(&folder, range), "10.0000,90.0000,84");
    // What did not map before it was sure was set aside, not written wrong.
    let told = folder.json_lines(&["log", "stat", "--tenant", "acme"]);
    let told = told.iter().find(|row| row.get("stream").is_some()).unwrap();
    let (accepted, quarantined) = (told["accepted"].as_u64().unwrap(), told["quarantined"].as_u64().unwrap());
    assert_eq!((accepted + quarantined, quarantined < 40), (600, true), "{told}");
    assert_sound(&folder);
}

#[test]
fn a_schema_that_flips_with_every_record_makes_one_case_and_no_blank_row() {
    let folder = Folder::new();
    let flip = |id: usize, deal: &mut Value| {
        if id.is_multiple_of(2) {
            rename(deal, "Amount", "zq");
        }
    };
    let file = folder.write("deals.ndjson", deals(0..200, unchanged) + &deals(200..2_200, flip));
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 1_000);
    let found = cases(&folder);
    assert_eq!((found.len(), &found[0]["held"]), (1, &1_000.into()), "{found:?}");
    assert_eq!(answer(&folder, "select count(*), count(amount) from opportunities"), "1200,1200");
    let case = found[0]["case"].as_str().unwrap();
    folder.ok(&["cases", "edit", "--tenant", "acme", case, "--move", "Amount=zq"]);
    folder.append("deals.ndjson", &deals(2_200..2_400, flip));
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 0);
    assert_eq!(answer(&folder, "select count(*), count(amount) from opportunities"), "2400,2400");
    assert_sound(&folder);
}

#[test]
fn a_thousand_new_fields_at_once_are_one_case_that_holds_nothing() {
    let folder = Folder::new();
    let wide = |_: usize, deal: &mut Value| (0..1_000).for_each(|n| deal[format!("new_{n}")] = n.into());
    let file = folder.write("deals.ndjson", deals(0..300, unchanged) + &deals(300..400, wide));
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [400, 400, 0, 0, 0]);
    let found = cases(&folder);
    assert_eq!((found.len(), kind(&found[0])), (1, ("added", "info", &0.into())), "{found:?}");
    assert_sound(&folder);
}

#[test]
fn a_type_that_is_one_in_a_hundred_wrong_makes_no_case_and_loses_nothing() {
    let folder = Folder::new();
    let wrong = |id: usize, deal: &mut Value| {
        if id % 100 == 7 {
            deal["Amount"] = amount(id).to_string().into();
        }
    };
    let file = folder.write("deals.ndjson", deals(0..300, unchanged) + &deals(300..3_300, wrong));
    let told = folder.opportunities("acme", &file, &[]);
    assert_eq!((&told["in"], &told["quarantined"]), (&3_300.into(), &0.into()));
    assert_eq!(cases(&folder).len(), 0);
    assert_eq!(answer(&folder, "select count(*), count(amount) from opportunities"), "3300,3300");
    assert_sound(&folder);
}

#[test]
fn two_fields_renamed_into_each_others_names_wait_for_a_person_and_come_right() {
    let folder = Folder::new();
    let swap = |_: usize, deal: &mut Value| {
        let (amount, probability) = (deal["Amount"].take(), deal["Probability"].take());
        (deal["Amount"], deal["Probability"]) = (probability, amount);
    };
    let file = folder.write("deals.ndjson", deals(0..300, unchanged));
    folder.opportunities("acme", &file, &[]);
    folder.append("deals.ndjson", &deals(300..500, swap));
    folder.opportunities("acme", &file, &[]);
    let found = cases(&folder);
    assert_eq!((found.len(), kind(&found[0]).0, kind(&found[0]).1), (1, "renamed", "breaking"), "{found:?}");
    decide(&folder, "approve", &found[0]);
    let sum: f64 = (0..500).map(amount).sum();
    let line = answer(&folder, "select count(*), sum(amount), max(probability) from opportunities");
    assert_eq!(line, format!("500,{sum:.4},90.0000"));
    assert_sound(&folder);
}

#[test]
fn a_field_that_is_renamed_and_retyped_at_once_waits_and_comes_with_its_values() {
    let folder = Folder::new();
    let change = |_: usize, deal: &mut Value| {
        rename(deal, "Amount", "DealAmount");
        deal["DealAmount"] = deal["DealAmount"].to_string().into();
    };
    let file = folder.write("deals.ndjson", deals(0..200, unchanged) + &deals(200..260, change));
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 60);
    let found = cases(&folder);
    assert_eq!(found[0]["lost"], "Amount", "{found:?}");
    let case = found[0]["case"].as_str().unwrap();
    folder.ok(&["cases", "edit", "--tenant", "acme", case, "--move", "Amount=DealAmount"]);
    let sum: f64 = (0..260).map(amount).sum();
    assert_eq!(answer(&folder, "select count(*), sum(amount) from opportunities"), format!("260,{sum:.4}"));
    assert_sound(&folder);
}

#[test]
fn a_field_that_is_dropped_while_an_unrelated_one_of_its_type_comes_is_not_repaired_by_itself() {
    let folder = Folder::new();
    let change = |id: usize, deal: &mut Value| {
        deal.as_object_mut().unwrap().remove("Amount");
        deal["Altitude"] = (200 + id % 40).into();
    };
    let file = folder.write("deals.ndjson", deals(0..200, unchanged) + &deals(200..260, change));
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 60);
    let found = cases(&folder);
    assert_eq!((found.len(), &found[0]["lost"], &found[0]["severity"]), (1, &json!("Amount"), &json!("breaking")));
    assert_eq!(answer(&folder, "select count(*), count(amount) from opportunities"), "200,200");
    assert_sound(&folder);
}
