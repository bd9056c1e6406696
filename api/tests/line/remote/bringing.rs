//! Files brought in through a server: the same records have the same fates as on a folder, each once.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::super::folder::{BINARY, Folder, fates, opportunity};
use super::super::serving::Serving;
use super::between::{Meddle, between, not_now};
use super::{Somebody, opportunities};

/// A server without data, and an admin of acme on it.
fn empty() -> (Folder, Serving, Somebody) {
    let folder = Folder::new();
    let file = folder.write("first.ndjson", "{\"Id\":\"0\"}\n");
    // The tenant is there, and its stream of contacts.
    folder.json(&[
        "ingest",
        "--tenant",
        "acme",
        "--connection",
        "other",
        "--system",
        "salesforce",
        "--stream",
        "contact",
        file.to_str().unwrap(),
    ]);
    let serving = Serving::start(&folder);
    let ada = Somebody::signed_in(&folder, &serving);
    (folder, serving, ada)
}

/// Every fate, whatever the time it took.
fn all_fates(mut told: Value) -> Value {
    told.as_object_mut().unwrap().remove("seconds");
    told
}

/// Brings the same in on a folder of its own and at the server; both must say the same, and have the same rows.
fn compare(words: &[&str], beside: &Folder, ada: &Somebody) -> Value {
    let here = all_fates(beside.json(&[words, &["--tenant", "acme"]].concat()));
    let there = all_fates(ada.json(words));
    assert_eq!(there, here, "{words:?}");
    there
}

fn same_rows(sql: &str, beside: &Folder, ada: &Somebody) {
    assert_eq!(ada.query(sql), beside.query("acme", sql), "{sql}");
}

#[test]
fn files_have_the_fates_that_they_have_on_a_folder_and_are_gone_on_with() {
    let (folder, _serving, ada) = empty();
    let beside = Folder::new();
    let old = opportunity("1", "1", 1) + &opportunity("2", "2", 2) + "broken\n";
    let file = folder.write("deals.ndjson", old + &opportunity("1", "9", 3) + &opportunity("1", "5", 2));
    let words = opportunities(&file, &["--deleted", "IsDeleted=true"]);
    let told = compare(&words, &beside, &ada);
    assert_eq!(fates(&told), [5, 2, 2, 1, 0], "{told}");
    let told = compare(&words, &beside, &ada);
    assert_eq!(fates(&told), [0, 0, 0, 0, 0], "nothing is taken twice");
    folder.append("deals.ndjson", &opportunity("2", "4", 5).replace("{\"Id\"", "{\"IsDeleted\":true,\"Id\""));
    folder.append("deals.ndjson", &opportunity("3", "3", 1));
    let told = compare(&words, &beside, &ada);
    assert_eq!((fates(&told), &told["deletes"]), ([2, 2, 0, 0, 0], &json!(1)), "only what was appended is read");
    same_rows("select opportunity_id, amount from opportunities order by 1", &beside, &ada);

    folder.write("deals.ndjson", opportunity("3", "7", 9));
    compare(&words, &beside, &ada);
    same_rows("select opportunity_id, amount from opportunities order by 1", &beside, &ada);
    let left = ada.ok(&[&words[..], &["--no-wait"]].concat());
    assert!(left.contains("0 in"), "{left}");
}

#[test]
fn every_format_with_its_defects_comes_in_as_on_a_folder() {
    let (folder, _serving, ada) = empty();
    let beside = Folder::new();
    let csv = "Id,Name,Amount,LastModifiedDate\n007,\"Deal, quoted\",1.50,2026-01-01T00:00:00Z\n\
               8,two,2,2026-01-01T00:00:00Z,too long\n9,\"umlaut \u{e4}\",x,2026-01-01T00:00:00Z\n";
    let file = folder.write("deals.csv", csv);
    let told = compare(&opportunities(&file, &[]), &beside, &ada);
    assert_eq!(fates(&told), [3, 1, 0, 2, 0], "{told}");
    let latin = folder.write("latin.csv", b"Id,Name,LastModifiedDate\n10,caf\xe9,2026-01-01T00:00:00Z\n");
    compare(&opportunities(&latin, &["--encoding", "windows-1252"]), &beside, &ada);
    let array = folder.write("deals.json", "[{\"Id\":\"11\",\"LastModifiedDate\":\"2026-01-02T00:00:00Z\"}, 7]");
    compare(&opportunities(&array, &[]), &beside, &ada);
    same_rows("select opportunity_id, name, amount from opportunities order by 1", &beside, &ada);
    let reasons = |output: String| -> Vec<String> {
        let reason = |line: &str| serde_json::from_str::<Value>(line).unwrap()["reason"].to_string();
        let mut reasons: Vec<String> = output.lines().map(reason).collect();
        reasons.sort();
        reasons
    };
    let list = ["--json", "quarantine", "list", "--stream", "crm/opportunity"];
    assert_eq!(reasons(ada.ok(&list)), reasons(beside.ok(&[&list[..], &["--tenant", "acme"]].concat())));
}

#[test]
fn rows_without_a_key_of_their_own_and_a_mapping_of_ones_own_come_in() {
    let (folder, _serving, ada) = empty();
    let beside = Folder::new();
    let mapping = "system: erp\nentities:\n  - entity: line\n    table: lines\n    fields:\n      - {name: item, type: text}\n      \
                   - {name: cost, type: decimal, precision: 10, scale: 2}\nstreams:\n  lines:\n    entity: line\n    fields:\n      \
                   item: item\n      cost: cost\n";
    let mapping = folder.write("erp.yaml", mapping);
    let file = folder.write("lines.csv", "item,cost\na,1\na,1\nb,2\n");
    let words = [
        "ingest",
        "--connection",
        "erp",
        "--stream",
        "lines",
        "--mapping",
        mapping.to_str().unwrap(),
        file.to_str().unwrap(),
    ];
    let told = compare(&words, &beside, &ada);
    assert_eq!(fates(&told), [3, 3, 0, 0, 0], "equal rows stay as many as there are");
    folder.append("lines.csv", "a,1\n");
    let told = compare(&words, &beside, &ada);
    assert_eq!(fates(&told)[1], 1, "{told}");
    same_rows("select item, cost, _key from lines order by 1, 3", &beside, &ada);

    let nonsense = folder.write("wrong.yaml", "system: erp\nstreams: {lines: {entity: nothing, fields: {}}}\n");
    let mut wrong = words;
    wrong[6] = nonsense.to_str().unwrap();
    assert!(ada.err(&wrong).contains("nothing"));
    let unknown = ["ingest", "--connection", "erp", "--stream", "x", "--system", "nobody", file.to_str().unwrap()];
    assert!(ada.err(&unknown).contains("salesforce"), "what there is is named");
    let missing =
        ["ingest", "--connection", "erp", "--stream", "opportunity", "--system", "salesforce", "/no/such.csv"];
    assert!(ada.err(&missing).contains("/no/such.csv"));
}

#[test]
fn a_snapshot_deletes_what_is_missing_and_a_look_changes_nothing() {
    let (folder, _serving, ada) = empty();
    let beside = Folder::new();
    let all = |ids: std::ops::Range<usize>| ids.map(|n| opportunity(&n.to_string(), "1", 1)).collect::<String>();
    let file = folder.write("all.ndjson", all(0..10));
    compare(&opportunities(&file, &["--mode", "snapshot"]), &beside, &ada);
    folder.write("all.ndjson", all(0..9));
    let told = compare(&opportunities(&file, &["--mode", "snapshot"]), &beside, &ada);
    assert_eq!(told["deletes"], 1, "{told}");
    folder.write("all.ndjson", all(0..2));
    let refused = ada.err(&opportunities(&file, &["--mode", "snapshot"]));
    assert!(refused.contains("lacks 7 of 9 rows"), "{refused}");
    same_rows("select opportunity_id from opportunities order by 1", &beside, &ada);

    let look = opportunities(&file, &["--dry-run"]);
    for json in [&[][..], &["--json"]] {
        let here = beside.ok(&[json, &look, &["--tenant", "acme"]].concat());
        assert_eq!(ada.ok(&[json, &look].concat()), here);
    }
    same_rows("select opportunity_id from opportunities order by 1", &beside, &ada);
}

#[test]
fn what_is_refused_for_now_or_lost_on_its_way_is_sent_again_and_counts_once() {
    let (folder, serving, ada) = empty();
    let beside = Folder::new();
    let rows: String = (0..12_000).map(|n| opportunity(&(n % 9_000).to_string(), "1", 1 + n / 9_000)).collect();
    let file = folder.write("deals.ndjson", rows);
    let pushes = AtomicUsize::new(0);
    let address = between(&serving.address(), move |request| {
        if !request.path.starts_with("/api/v1/records") {
            return Meddle::Pass;
        }
        match pushes.fetch_add(1, Ordering::SeqCst) {
            0 => not_now("429 Too Many Requests", "quota_rate", 1),
            1 => not_now("503 Service Unavailable", "unavailable", 0),
            2 | 5 => Meddle::LoseAnswer,
            _ => Meddle::Pass,
        }
    });
    let words = opportunities(&file, &[]);
    let here = all_fates(beside.json(&[&words[..], &["--tenant", "acme"]].concat()));
    let bob = ada.through(&address);
    let there = all_fates(bob.json(&words));
    let twice = there["duplicate"].as_u64().unwrap();
    assert!(twice > 0, "what was lost came twice, and is told: {there}");
    let mut once = there.clone();
    for (name, value) in [("duplicate", 0), ("in", 12_000), ("durable", 12_000)] {
        once[name] = json!(value);
    }
    assert_eq!(once, here);
    assert_eq!(fates(&there)[0], 12_000 + twice);
    let sql = "select count(*), count(distinct _key), sum(amount) from opportunities";
    assert_eq!(ada.query(sql), beside.query("acme", sql));
    assert_eq!(fates(&bob.opportunities(&file, &[])), [0, 0, 0, 0, 0]);
    // What another program reads is another file, of whatever name; its rows are the same.
    assert_eq!(fates(&ada.opportunities(&file, &[]))[0], 12_000);
    assert_eq!(ada.query(sql), beside.query("acme", sql));
}

#[test]
fn a_server_that_is_killed_while_records_come_in_has_each_once_when_it_is_back() {
    let (folder, serving, ada) = empty();
    let rows: String = (0..40_000).map(|n| opportunity(&n.to_string(), "1", 1)).collect();
    let file = folder.write("deals.ndjson", rows);
    let port = serving.port();
    // Dropped, it is killed.
    let serving = Mutex::new(Some(serving));
    let pushes = AtomicUsize::new(0);
    let data = folder.data();
    let address = between(&format!("http://127.0.0.1:{port}"), move |request| {
        if request.path.starts_with("/api/v1/records") && pushes.fetch_add(1, Ordering::SeqCst) == 4 {
            serving.lock().unwrap().take();
            start_again(&data, port);
        }
        Meddle::Pass
    });
    let bob = ada.through(&address);
    // However long the server takes to be back.
    let told = bob.err(&[&["--retry-for", "600"], &opportunities(&file, &[])[..]].concat());
    assert!(told.contains("everything is in, but the server was started again meanwhile"), "{told}");
    let sql = "select count(*), count(distinct _key) from opportunities";
    assert_eq!(bob.query(sql).lines().last(), Some("40000,40000"));
    assert_eq!(fates(&bob.opportunities(&file, &[])), [0, 0, 0, 0, 0]);
    std::process::Command::new("kill").args(["-9", &format!("{}", pid_of(&folder.data()))]).status().unwrap();
}

/// Starts a server that outlives whoever started it; a child of the child, so that nobody has to wait for it.
fn start_again(data: &Path, port: u16) {
    let script = format!(
        "{BINARY} --data-dir {} serve --listen 127.0.0.1:{port} >/dev/null 2>&1 & echo $! > {}/../again.pid",
        data.display(),
        data.display()
    );
    std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
}

fn pid_of(data: &Path) -> u32 {
    std::fs::read_to_string(data.join("../again.pid")).unwrap().trim().parse().unwrap()
}
