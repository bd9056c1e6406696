//! Drift end to end: files whose fields change, from the first held record to rows after a decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::folder::{Folder, fates, opportunity, until};
use super::serving::Serving;

pub const BLANK: &str = "select count(*) from opportunities where amount is null";
pub const TOTAL: &str = "select count(*), sum(amount) from opportunities";

/// Opportunities of these numbers, their amount under this name.
pub fn deals(ids: std::ops::Range<usize>, name: &str) -> String {
    let deal = |id: usize| opportunity(&format!("D{id}"), &format!("{}.5", 1000 + id * 37), 1 + (id % 28) as u32);
    ids.map(deal).collect::<String>().replace("\"Amount\"", &format!("\"{name}\""))
}

pub fn cases(folder: &Folder, more: &[&str]) -> Vec<Value> {
    folder.json_lines(&[&["cases", "list", "--tenant", "acme"], more].concat())
}

pub fn sum(ids: std::ops::Range<usize>) -> String {
    let tenths: usize = ids.clone().map(|id| (1000 + id * 37) * 10 + 5).sum();
    format!("{},{}.{}000", ids.len(), tenths / 10, tenths % 10)
}

/// Nothing on the log is other than its inputs say, and every counter has its record.
pub fn assert_sound(folder: &Folder) {
    folder.ok(&["doctor"]);
    folder.ok(&["log", "refold", "--batch", "7"]);
}

#[test]
fn a_field_renamed_half_way_through_a_file_is_repaired_by_itself_and_no_row_is_blank() {
    let folder = Folder::new();
    let file = folder.write("deals.ndjson", deals(0..200, "Amount") + &deals(200..400, "DealAmount"));
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [400, 400, 0, 0, 0]);
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some(&*sum(0..400)));
    assert_eq!(folder.query("acme", BLANK).lines().last(), Some("0"));
    assert_eq!(cases(&folder, &[]).len(), 0, "nothing waits");
    let all = cases(&folder, &["--all"]);
    assert_eq!((all.len(), &all[0]["status"], &all[0]["held"]), (1, &"repaired".into(), &0.into()));
    let confidence = "select distinct _mapping_version, _confidence from opportunities where opportunity_id = 'D300'";
    let line = folder.query("acme", confidence);
    assert!(line.lines().last().is_some_and(|l| l.starts_with("2,0.9")), "{line}");
    assert_sound(&folder);
}

#[test]
fn a_csv_whose_header_changes_is_repaired_and_late_files_of_the_old_shape_still_map() {
    let folder = Folder::new();
    let csv = |ids: std::ops::Range<usize>, name: &str| {
        let row = |id: usize| format!("D{id},Deal {id},Prospecting,{}.5,2026-01-0{}\n", 1000 + id * 37, 1 + id % 9);
        format!("Id,Name,StageName,{name},LastModifiedDate\n") + &ids.map(row).collect::<String>()
    };
    for (name, content) in [
        ("a.csv", csv(0..60, "Amount")),
        ("b.csv", csv(60..120, "Deal Amount")),
        ("c.csv", csv(120..140, "Amount")),
        ("d.csv", csv(140..150, "Deal Amount")),
    ] {
        let file = folder.write(name, content);
        folder.opportunities("acme", &file, &[]);
        assert_eq!(folder.query("acme", BLANK).lines().last(), Some("0"), "after {name}");
    }
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some(&*sum(0..150)));
    assert_sound(&folder);
}

#[test]
fn a_doubtful_change_waits_and_its_rows_appear_once_a_person_has_decided() {
    let folder = Folder::new();
    let file = folder.write("deals.ndjson", deals(0..100, "Amount") + &deals(100..150, "Bla"));
    let told = folder.opportunities("acme", &file, &[]);
    assert_eq!((fates(&told)[1], &told["held"]), (100, &50.into()), "{told}");
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some(&*sum(0..100)));
    let waiting = cases(&folder, &[]);
    assert_eq!((waiting.len(), &waiting[0]["lost"]), (1, &"Amount".into()));
    assert_eq!(waiting[0]["came"], "Bla");
    let case = waiting[0]["case"].as_str().unwrap().to_owned();
    let shown = folder.ok(&["cases", "show", "--tenant", "acme", &case]);
    assert!(shown.contains("Amount, which fills amount") && shown.contains("Bla"), "{shown}");
    assert!(shown.contains("waits "), "{shown}");

    let edit = ["cases", "edit", "--tenant", "acme", &case, "--move"];
    let wrong = folder.err(&[&edit[..], &["Nothing=Bla"]].concat());
    assert!(wrong.contains("has lost no path"), "{wrong}");
    let twice = folder.err(&[&edit[..], &["Amount=Bla", "--move", "Amount=Name"]].concat());
    assert!(twice.contains("--move names Amount twice"), "{twice}");
    for whole in ["edit", "reject", "revert", "snooze"] {
        let help = folder.ok(&["cases", whole, "--help"]);
        assert!(!help.contains("--only"), "{whole} is of the whole case: {help}");
    }
    let dropped = folder.run(&[&edit[..], &["Amount=Bla", "--only", "Amount"]].concat());
    assert_eq!(dropped.status.code(), Some(2), "what is named is not dropped");
    let stale = folder.err(&[&edit[..], &["Amount=Bla", "--mapping-version", "9"]].concat());
    assert!(stale.contains("mapping version 9"), "{stale}");
    let done = folder.json(&[&edit[..], &["Amount=Bla", "--why", "they told us"]].concat());
    assert_eq!((&done["status"], &done["redriven"]), (&"repaired".into(), &50.into()), "{done}");
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some(&*sum(0..150)));
    assert_eq!(folder.query("acme", BLANK).lines().last(), Some("0"));
    let again = folder.err(&["cases", "approve", "--tenant", "acme", &case]);
    assert!(again.contains("nothing to decide"), "{again}");
    assert!(folder.err(&["cases", "approve", "--tenant", "acme", "1:0:9999"]).contains("there is no case"));
    assert_sound(&folder);
}

#[test]
fn a_field_that_is_gone_for_good_is_null_only_once_a_person_says_so() {
    let folder = Folder::new();
    let gone: String = deals(100..140, "Amount")
        .lines()
        .map(|line| {
            let start = line.find("\"Amount\"").unwrap();
            let end = start + line[start..].find(',').unwrap() + 1;
            format!("{}{}\n", &line[..start], &line[end..])
        })
        .collect();
    let file = folder.write("deals.ndjson", deals(0..100, "Amount") + &gone);
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 40);
    let case = cases(&folder, &[])[0]["case"].as_str().unwrap().to_owned();
    let of = ["--tenant", "acme", &case];
    let refused = folder.err(&[&["cases", "approve"], &of[..]].concat());
    assert!(refused.contains("nothing is proposed for Amount"), "{refused}");
    let rejected = folder.json(&[&["cases", "reject"], &of[..]].concat());
    assert_eq!((&rejected["status"], &rejected["redriven"]), (&"rejected".into(), &0.into()));
    assert_eq!(folder.query("acme", BLANK).lines().last(), Some("0"));
    folder.ok(&[&["cases", "accept-removed"], &of[..]].concat());
    assert_eq!(folder.query("acme", BLANK).lines().last(), Some("40"));
    folder.append("deals.ndjson", &gone.replace("\"D1", "\"E1"));
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 0);
    assert_eq!(folder.query("acme", BLANK).lines().last(), Some("80"));
    assert_sound(&folder);
}

#[test]
fn a_wrong_repair_is_taken_back_its_rows_go_and_come_again_by_the_right_one() {
    let folder = Folder::new();
    let file = folder.write("deals.ndjson", deals(0..100, "Amount") + &deals(100..150, "DealAmount"));
    folder.opportunities("acme", &file, &[]);
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some(&*sum(0..150)));
    let case = cases(&folder, &["--all"])[0]["case"].as_str().unwrap().to_owned();
    let of = ["--tenant", "acme", &case];
    let reverted = folder.json(&[&["cases", "revert", "--why", "not the same amount"], &of[..]].concat());
    assert_eq!(reverted["status"], "reverted");
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some(&*sum(0..100)));
    let waiting = cases(&folder, &[]);
    assert_eq!((waiting.len(), &waiting[0]["held"]), (1, &50.into()), "{waiting:?}");
    assert_sound(&folder);
    let next = waiting[0]["case"].as_str().unwrap().to_owned();
    folder.ok(&["cases", "approve", "--tenant", "acme", &next]);
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some(&*sum(0..150)));
    let again = folder.err(&[&["cases", "revert"], &of[..]].concat());
    assert!(again.contains("nothing to decide"), "{again}");
    assert_sound(&folder);
}

#[test]
fn a_server_killed_between_detection_and_decision_loses_no_held_record_and_repeats_none() {
    let folder = Folder::new();
    let serving = Serving::start(&folder);
    let file = folder.write("deals.ndjson", deals(0..100, "Amount") + &deals(100..160, "Bla"));
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 60);
    drop(serving);
    let serving = Serving::start(&folder);
    folder.append("deals.ndjson", &deals(160..200, "Bla"));
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 40);
    let case = cases(&folder, &[])[0]["case"].as_str().unwrap().to_owned();
    folder.ok(&["cases", "edit", "--tenant", "acme", &case, "--move", "Amount=Bla"]);
    drop(serving);
    let serving = Serving::start(&folder);
    // A server answers before its views have everything again.
    until("its rows are there", || folder.query("acme", TOTAL).lines().last() == Some(&*sum(0..200)));
    assert_eq!(folder.query("acme", BLANK).lines().last(), Some("0"));
    drop(serving);
    assert_sound(&folder);
}

#[test]
fn a_reader_sees_no_blank_row_at_any_moment_while_a_rename_is_repaired() {
    let folder = Arc::new(Folder::new());
    let _serving = Serving::start(&folder);
    let file = folder.write("deals.ndjson", deals(0..300, "Amount"));
    folder.opportunities("acme", &file, &[]);
    let is_over = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (folder, is_over) = (folder.clone(), is_over.clone());
        move || {
            let mut looks = 0;
            while !is_over.load(Ordering::Relaxed) || looks < 3 {
                assert_eq!(folder.query("acme", BLANK).lines().last(), Some("0"));
                looks += 1;
            }
        }
    });
    folder.append("deals.ndjson", &deals(300..2_000, "DealAmount"));
    folder.opportunities("acme", &file, &[]);
    is_over.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some(&*sum(0..2_000)));
}

#[test]
fn twenty_thousand_records_with_optional_fields_make_no_case() {
    let folder = Folder::new();
    let deal = |id: usize| {
        let mut deal = opportunity(&format!("D{id}"), "10", 1);
        // Whatever the step between absences: none is drift.
        if id % 7 == 3 {
            deal = deal.replace("\"Amount\":10,", "");
        }
        if id % 97 == 5 {
            deal = deal.replace(",\"Owner\":{\"Name\":\"Ann\",\"Team\":\"A\"}", "");
        }
        if id.is_multiple_of(11) {
            deal = deal.replace("\"Owner\":{\"Name\":\"Ann\",\"Team\":\"A\"}", "\"Owner\":null");
        }
        deal
    };
    let file = folder.write("deals.ndjson", (0..20_000).map(deal).collect::<String>());
    let told = folder.opportunities("acme", &file, &[]);
    assert_eq!(fates(&told)[0], 20_000);
    let all = cases(&folder, &["--all"]);
    assert!(all.iter().all(|case| case["status"] == "watching"), "{all:?}");
    assert_eq!(told["held"].as_u64().unwrap(), all.iter().map(|case| case["held"].as_u64().unwrap()).sum::<u64>());
    assert_sound(&folder);
}

/// Opportunities whose amounts are some thousands of euros, or as many cents.
fn priced(ids: std::ops::Range<usize>, in_cents: bool) -> String {
    let amount = |id: usize| 1_000 + id * 1_237 % 8_000;
    let text = |id: usize| if in_cents { format!("{}50", amount(id)) } else { format!("{}.5", amount(id)) };
    ids.map(|id| opportunity(&format!("P{id}"), &text(id), 1 + (id % 28) as u32)).collect()
}

#[test]
fn rows_of_an_earlier_run_that_a_later_one_shows_to_be_of_another_unit_are_taken_back_and_told_apart() {
    let folder = Folder::new();
    let file = folder.write("deals.ndjson", priced(0..200, false) + &priced(200..206, true));
    let first = folder.opportunities("acme", &file, &[]);
    assert_eq!((fates(&first), &first["recalled"]), ([206, 206, 0, 0, 0], &0.into()), "{first}");
    folder.append("deals.ndjson", &priced(206..300, true));
    let second = folder.opportunities("acme", &file, &[]);
    assert_eq!((fates(&second), &second["held"]), ([94, 0, 0, 0, 0], &94.into()), "{second}");
    let recalled = second["recalled"].as_u64().unwrap();
    assert!((1..=6).contains(&recalled), "{second}");
    let left = (206 - recalled).to_string();
    assert_eq!(folder.query("acme", TOTAL).lines().last().and_then(|l| l.split(',').next()), Some(&*left));
    assert_eq!(cases(&folder, &[])[0]["held"], 94 + recalled);
    assert_sound(&folder);
}
