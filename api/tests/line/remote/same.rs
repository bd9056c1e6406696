//! The same answers at a server as on its folder.

use serde_json::{Value, json};

use super::super::folder::{Folder, opportunity, until};
use super::super::serving::Serving;
use super::Somebody;

/// Opportunities of these numbers, their amount under this name.
fn deals(ids: std::ops::Range<usize>, name: &str) -> String {
    let deal = |id: usize| opportunity(&format!("D{id}"), &format!("{}.5", 1000 + id * 37), 1 + (id % 28) as u32);
    ids.map(deal).collect::<String>().replace("\"Amount\"", &format!("\"{name}\""))
}

/// A tenant with rows, one case that waits, and records in quarantine.
fn lived_in() -> (Folder, Serving, Somebody) {
    let folder = Folder::new();
    let (before, after) = (deals(0..100, "Amount"), deals(100..150, "Bla"));
    let file =
        folder.write("deals.ndjson", [before.as_bytes(), b"broken\n{\"Id\":\"\xff\"}\n", after.as_bytes()].concat());
    folder.opportunities("acme", &file, &[]);
    folder.opportunities("umbrella", &file, &[]);
    let serving = Serving::start(&folder);
    let ada = Somebody::signed_in(&folder, &serving);
    (folder, serving, ada)
}

#[test]
fn what_a_server_answers_is_what_its_folder_answers() {
    let (folder, _serving, ada) = lived_in();
    let case = ada.json(&["cases", "list"])["case"].as_str().unwrap().to_owned();
    let position = ada.json(&["quarantine", "list", "--limit", "2"])["position"].as_str().unwrap().to_owned();
    let sql = "select opportunity_id, amount, _version, extras from opportunities order by 1";
    let commands: &[&[&str]] = &[
        &["query", sql],
        &["query", "--format", "csv", sql],
        &["query", "--format", "json", sql],
        &["query", "--format", "arrow", sql],
        &["query", "select * from opportunities where 1 = 0"],
        &["views", "describe", "opportunities"],
        &["quarantine", "list"],
        &["quarantine", "list", "--stream", "crm/opportunity"],
        &["quarantine", "list", "--stream", "crm/other"],
        &["quarantine", "show", &position],
        &["quarantine", "show", "--raw", &position],
        &["cases", "list"],
        &["cases", "list", "--all", "--stream", "crm/opportunity"],
        &["cases", "list", "--all", "--connection", "crm"],
        &["cases", "list", "--status", "open", "--connection", "erp"],
        &["cases", "list", "--severity", "breaking"],
        &["cases", "list", "--kind", "added", "--connection", "crm"],
        &["cases", "show", &case],
        &["log", "cat", "--topic", "inputs", "--limit", "5000"],
        &["log", "cat", "--topic", "events"],
        &["log", "cat", "--topic", "events", "--from", "20", "--limit", "7"],
        &["log", "cat", "--topic", "decisions"],
    ];
    for command in commands {
        for json in [&[][..], &["--json"]] {
            let here = folder.run(&[json, command, &["--tenant", "acme"]].concat());
            let there = ada.run(&[json, command].concat());
            assert!(here.status.success() && there.status.success(), "{command:?}");
            assert!(!here.stdout.is_empty() || command[1] == "list", "{command:?} says nothing");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(here.stdout == there.stdout, "{command:?}\n{}\n{}", text(&here.stdout), text(&there.stdout));
        }
    }
}

#[test]
fn views_and_streams_are_listed_without_what_is_the_operators() {
    let (folder, _serving, ada) = lived_in();
    let mut here = folder.json(&["views", "list", "--tenant", "acme"]);
    assert!(here["folder"].take().is_string());
    assert_eq!(ada.json(&["views", "list"]), here);
    assert_eq!(ada.ok(&["views", "list"]).lines().count(), 2);
    assert!(ada.err(&["views", "list", "contact"]).contains("has no view of contact"));

    let streams = ada.ok(&["log", "stat"]);
    assert!(folder.ok(&["log", "stat", "--tenant", "acme"]).ends_with(&streams), "{streams}");
    let lines: Vec<Value> =
        ada.ok(&["--json", "log", "stat"]).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 1, "how full the partitions are is the operator's: {lines:?}");
    assert_eq!((&lines[0]["in"], &lines[0]["held"]), (&json!(152), &json!(50)));
    assert_eq!(&lines[0], folder.json_lines(&["log", "stat", "--tenant", "acme"]).last().unwrap());
}

#[test]
fn long_lists_come_page_by_page_and_end_where_they_end() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1) + &"broken\n".repeat(2_500));
    folder.opportunities("acme", &file, &[]);
    let serving = Serving::start(&folder);
    let ada = Somebody::signed_in(&folder, &serving);
    let lines = |args: &[&str]| -> Vec<Value> {
        let output = ada.ok(&[&["--json", "quarantine", "list"], args].concat());
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(lines(&["--limit", "10000"]).len(), 2_500);
    assert_eq!(lines(&["--limit", "2500"]).len(), 2_500, "nothing says that there is more");
    let first = lines(&["--limit", "2499"]);
    assert_eq!((first.len(), &first[2_499]["more"]), (2_500, &json!(true)));
    assert_eq!(lines(&["--after", first[2_499]["after"].as_str().unwrap()]).len(), 1);
    assert!(ada.err(&["quarantine", "list", "--after", "nonsense"]).contains("none of ours"));
    let log = ada.ok(&["log", "cat", "--topic", "inputs", "--limit", "2000"]);
    assert_eq!(log.lines().count(), 2_000);
}

#[test]
fn a_case_is_decided_at_a_server_and_its_rows_appear() {
    let (folder, _serving, ada) = lived_in();
    let case = ada.json(&["cases", "list"])["case"].as_str().unwrap().to_owned();
    let edit = ["cases", "edit", &case, "--move"];
    assert!(ada.err(&[&edit[..], &["Nothing=Bla"]].concat()).contains("has lost no path"));
    let stale = ada.err(&[&edit[..], &["Amount=Bla", "--mapping-version", "9"]].concat());
    assert!(stale.contains("mapping version 9"), "{stale}");
    assert!(ada.err(&["cases", "show", "1:0:99999"]).contains("case 1:0:99999: there is no such case"));
    assert!(ada.err(&["cases", "show", "../auth/me"]).contains("there is no such case"));
    let snoozed = ada.json(&["cases", "snooze", &case, "--hours", "2"]);
    assert!(snoozed["snoozed_until"].is_string(), "{snoozed}");
    let done = ada.json(&[&edit[..], &["Amount=Bla", "--why", "they told us"]].concat());
    assert_eq!((&done["status"], &done["held"]), (&json!("repaired"), &json!(50)));
    assert!(done["decided"][0]["by"].as_str().unwrap().starts_with("user:"), "{done}");
    let rows = "select count(*), count(amount) from opportunities";
    until("what was held is in its view", || {
        let is_there = folder.query("acme", rows).lines().last() == Some("150,150");
        is_there && ada.json(&["cases", "show", &case])["redriven"] == 50
    });
    assert!(ada.err(&["cases", "approve", &case]).contains("nothing to decide"));
    let reverted = ada.ok(&["cases", "revert", &case]);
    assert!(reverted.starts_with(&format!("case {case} is reverted")), "{reverted}");
}

#[test]
fn an_answer_that_nobody_reads_on_ends_well() {
    let (_folder, _serving, ada) = lived_in();
    let sql = "select * from opportunities a cross join opportunities b cross join opportunities c limit 300000";
    let mut child = ada
        .command(&["query", "--format", "csv", sql])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_tenant_is_exported_and_deleted_and_others_are_invited() {
    let (folder, serving, ada) = lived_in();
    let invited = ada.json(&["tenant", "invite", "acme", "bob@acme.example"]);
    let body = json!({"token": invited["token"], "password": "another good password"});
    assert_eq!(serving.post("/api/v1/auth/accept", None, &body).0, 200);
    assert!(ada.ok(&["tenant", "invite", "acme", "eve@acme.example"]).contains(&serving.address()));

    let path = folder.path("acme.ndjson");
    let path = path.to_str().unwrap();
    ada.ok(&["tenant", "export", "acme", path]);
    let export = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["kind"], "end");
    assert_eq!(lines.iter().filter(|line| line["kind"] == "row").count(), 100);
    assert!(ada.err(&["tenant", "export", "acme", path]).contains("there already"));
    assert_eq!(
        ada.ok(&["tenant", "export", "acme", "-"]).lines().filter(|l| l.contains("\"kind\":\"row\"")).count(),
        100
    );

    assert!(ada.err(&["tenant", "delete", "umbrella", "--yes"]).contains("signed in to acme"));
    assert!(ada.err(&["tenant", "delete", "acme"]).contains("--yes"));
    ada.ok(&["tenant", "delete", "acme", "--yes"]);
    assert!(ada.err(&["whoami"]).contains("nobody is signed in"));
    assert!(folder.err(&["query", "--tenant", "acme", "select 1"]).contains("no tenant acme"));
    folder.ok(&["query", "--tenant", "umbrella", "select 1"]);
}
