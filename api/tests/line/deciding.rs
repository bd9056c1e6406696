//! Cases at the command line: what a person sees, and what a decision would do.

use serde_json::{Value, json};

use super::drift::{assert_sound, cases, deals};
use super::folder::{Folder, until};

/// A folder with one case: fifty deals whose amount is called otherwise, and ten whose new amount is no number.
pub fn doubtful(folder: &Folder) -> String {
    let unreadable = deals(150..160, "Bla").replace(".5", ".5\"").replace("\"Bla\":", "\"Bla\":\"");
    let file = folder.write(
        "deals.ndjson",
        deals(0..100, "Amount") + &deals(100..150, "Bla") + &unreadable.replace(".5\"", " lots\""),
    );
    assert_eq!(folder.opportunities("acme", &file, &[])["held"], 60);
    cases(folder, &[])[0]["case"].as_str().unwrap().to_owned()
}

#[test]
fn a_case_is_shown_with_real_rows_and_what_a_decision_would_do() {
    let folder = Folder::new();
    let case = doubtful(&folder);
    let of = ["--tenant", "acme", &case];
    let text = folder.ok(&[&["cases", "show"], &of[..]].concat());
    for part in [
        "concerns  amount of the view opportunities; 100 rows of the stream in it",
        "lost      Amount: in 100 of 100 (number) before, in 0 of 60 held",
        "added     Bla: in 0 of 100 before, in 60 of 60 (number, text) held",
        "Amount = 4663.5 → amount = \"4663.5000\"",
        "by Amount → Bla: cast_failed amount",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let shown = folder.json(&[&["cases", "show"], &of[..]].concat());
    assert_eq!(shown["evidence"]["impact"]["rows_held"], 60);
    assert_eq!(shown["evidence"]["before"][4]["fields"], json!({"amount": "4663.5000"}));
    let run = |more: &[&str]| folder.json(&[&["cases", "dry-run"], &of[..], more].concat());
    let counts = |run: &Value| ["records", "accepted", "held"].map(|name| run[name].as_u64().unwrap());
    let edit = run(&["--move", "Amount=Bla"]);
    assert_eq!(
        (counts(&edit), &edit["clean"], &edit["quarantined"][0]["count"]),
        ([60, 50, 0], &json!(false), &json!(10))
    );
    assert_eq!(counts(&run(&["--removed", "--records", "3"])), [3, 3, 0]);
    assert_eq!(cases(&folder, &[])[0]["held"], 60, "nothing has changed");
    assert_sound(&folder);
}

#[test]
fn cases_are_listed_by_connection_status_severity_and_kind() {
    let folder = Folder::new();
    doubtful(&folder);
    let case = cases(&folder, &[]).remove(0);
    let (severity, kinds) = (case["severity"].as_str().unwrap(), case["kind"].as_str().unwrap());
    for kind in kinds.split(", ") {
        let more = ["--connection", "crm", "--status", "open", "--severity", severity, "--kind", kind];
        assert_eq!(cases(&folder, &more), std::slice::from_ref(&case), "{kind}");
    }
    let other = if severity == "info" { "warning" } else { "info" };
    for more in [["--connection", "erp"], ["--status", "noted"], ["--severity", other], ["--kind", "nulls"]] {
        assert_eq!(cases(&folder, &more), Vec::<Value>::new(), "{more:?}");
    }
    let refused = folder.err(&["cases", "list", "--tenant", "acme", "--severity", "grave"]);
    assert!(refused.contains("use info, warning, breaking"), "{refused}");
}

#[test]
fn values_of_sensitive_fields_are_masked_wherever_a_case_shows_them() {
    let folder = Folder::new();
    let mapping = "system: shop\nentities:\n  - entity: pay\n    table: pays\n    fields:\n      \
        - {name: pay_id, type: text, required: true}\n      - {name: sum, type: decimal, sensitive: true}\n\
        streams:\n  pays:\n    entity: pay\n    key: Id\n    version: none\n    fields: {pay_id: Id, sum: Sum}\n";
    let mapping = folder.write("shop.yaml", mapping);
    let pay = |id: usize, name: &str, sum: &str| format!("{{\"Id\":\"p{id}\",\"{name}\":{sum}}}\n");
    let file: String = (0..50).map(|id| pay(id, "Sum", "98765")).collect::<String>()
        + &(50..80).map(|id| pay(id, "Zq", "98765")).collect::<String>()
        + &(80..90).map(|id| pay(id, "Zq", "\"98765 lots\"")).collect::<String>();
    let file = folder.write("pays.ndjson", file);
    let (mapping, file) = (mapping.to_str().unwrap(), file.to_str().unwrap());
    folder.ok(&["ingest", "--tenant", "acme", "--connection", "shop", "--stream", "pays", "--mapping", mapping, file]);
    let case = cases(&folder, &[])[0]["case"].as_str().unwrap().to_owned();
    let of = ["--tenant", "acme", &case];
    let shown = folder.ok(&[&["cases", "show"], &of[..]].concat())
        + &folder.json(&[&["cases", "show"], &of[..]].concat()).to_string()
        + &folder.json(&[&["cases", "dry-run"], &of[..], &["--move", "Sum=Zq"]].concat()).to_string();
    assert!(shown.contains("***") && shown.contains("p49"), "{shown}");
    assert!(!shown.contains("98765"), "{shown}");
}

#[test]
fn nothing_is_retried_of_a_stream_that_is_not_there_nor_without_a_reason_and_the_attempt_makes_no_stream() {
    let folder = Folder::new();
    doubtful(&folder);
    let retry = |stream: &str, why: &str| {
        folder.err(&["quarantine", "retry", "--tenant", "acme", "--stream", stream, "--why", why])
    };
    let unknown = retry("nosuch/typo", "x");
    assert!(unknown.contains("there is no stream nosuch/typo"), "{unknown}");
    let unsaid = retry("crm/opportunity", " ");
    assert!(unsaid.contains("say why"), "{unsaid}");
    let known = folder.ok(&["log", "stat", "--tenant", "acme"]);
    assert!(known.contains("crm/opportunity") && !known.contains("nosuch"), "{known}");
    assert_sound(&folder);
}

#[test]
fn a_policy_is_set_shown_and_tested_and_who_set_it_is_journaled() {
    let folder = Folder::new();
    let case = doubtful(&folder);
    let of = ["--tenant", "acme"];
    let set = |more: &[&str]| folder.json(&[&["policy", "set"], &of[..], more].concat());
    let first = set(&["--at-least", "0.95", "--two-persons", "renamed,key"]);
    assert_eq!(first["in_force"], json!({"at_least": 0.95, "two_persons": ["renamed", "key"]}));
    let both = set(&["--mask", "amount"]);
    assert_eq!(both["in_force"]["at_least"], 0.95, "what is not named stays");
    let connection = set(&["--connection", "crm", "--repairs", "stop"]);
    assert_eq!(connection["in_force"]["repairs"], "stop");
    let shown = folder.ok(&[&["policy", "show"], &of[..]].concat());
    assert!(shown.contains("two persons   renamed, key") && shown.contains("connection crm says otherwise"), "{shown}");
    for odd in [&["--two-persons", "nobody"][..], &["--expire-hours", "0"], &["--mask", ""], &["--mask", "none,*"], &[]]
    {
        folder.err(&[&["policy", "set"], &of[..], odd].concat());
    }
    for (command, odd) in [("set", "2"), ("set", "nan"), ("set", "-0.1"), ("backtest", "nan"), ("backtest", "-1")] {
        let refused = folder.run(&[&["policy", command], &of[..], &["--at-least", odd]].concat());
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && told.contains("no probability"), "{command} {odd}: {told}");
    }
    let unknown = folder.ok(&[&["policy", "backtest"], &of[..], &["--connection", "typo"]].concat());
    assert!(unknown.contains("no stream of a connection typo is known"), "{unknown}");
    let once = folder.ok(&["cases", "edit", "--tenant", "acme", &case, "--move", "Amount=Bla"]);
    assert!(once.contains("two people decide what is renamed"), "{once}");
    let again = folder.err(&["cases", "edit", "--tenant", "acme", &case, "--move", "Amount=Bla"]);
    assert!(again.contains("another one must approve it, too"), "{again}");
    set(&["--two-persons", "none"]);
    let held = |value: &Value| value["held"].as_u64();
    let file = folder.path("deals.ndjson");
    folder.append("deals.ndjson", &deals(200..210, "Amount"));
    assert_eq!(held(&folder.opportunities("acme", &file, &[])), Some(10), "the connection is stopped");
    folder.json(&[&["policy", "clear"], &of[..], &["--connection", "crm"]].concat());
    let done = folder.json(&["cases", "edit", "--tenant", "acme", &case, "--move", "Amount=Bla"]);
    assert_eq!((&done["status"], &done["redriven"]), (&json!("repaired"), &json!(70)));
    let tests = folder.json_lines(&[&["policy", "backtest"], &of[..]].concat());
    assert!(tests.len() > 5 && tests.iter().all(|test| test["cases"] == 1), "{tests:?}");
    let export = folder.ok(&["tenant", "export", "acme", "-"]);
    let journaled =
        export.lines().filter(|line| line.contains("policy of the tenant") && line.contains("command line"));
    assert_eq!(journaled.count(), 3);
    assert_sound(&folder);
}

#[test]
fn an_edit_transforms_a_value_and_a_stale_one_is_refused() {
    let folder = Folder::new();
    let file = folder.write("deals.ndjson", deals(0..100, "Amount") + &deals(100..150, "Bla"));
    folder.opportunities("acme", &file, &[]);
    let case = cases(&folder, &[])[0]["case"].as_str().unwrap().to_owned();
    let edit = ["cases", "edit", "--tenant", "acme", &case, "--move", "Amount=Bla"];
    let stale = folder.err(&[&edit[..], &["--case-version", "1"]].concat());
    assert!(stale.contains("look again"), "{stale}");
    let odd = folder.err(&[&edit[..], &["--transform", "Other={unit: cents}"]].concat());
    assert!(odd.contains("no --move does"), "{odd}");
    folder.ok(&[&edit[..], &["--transform", "Amount={unit: cents, round: true}"]].concat());
    let amount = folder.query("acme", "select amount from opportunities where opportunity_id = 'D100'");
    assert_eq!(amount.lines().last(), Some("47.0050"));
    assert_sound(&folder);
}

#[test]
fn a_mapping_is_shown_compared_and_set_and_a_later_ingest_leaves_it_in_force() {
    let folder = Folder::new();
    let file = folder.write("deals.ndjson", deals(0..50, "Amount"));
    folder.opportunities("acme", &file, &[]);
    let of = ["--tenant", "acme", "crm/opportunity"];
    let mut mapping = folder.json(&[&["mappings", "show"], &of[..]].concat());
    mapping["fields"]["amount"] = json!({"from": "Amount", "unit": "cents", "round": true});
    let new = folder.write("new.json", mapping.to_string());
    let set = ["mappings", "set", "--tenant", "acme", "crm/opportunity", new.to_str().unwrap()];
    let stale = folder.err(&[&set[..], &["--mapping-version", "7"]].concat());
    assert!(stale.contains("mapping version 7, in force is 1"), "{stale}");
    let done = folder.json(&[&set[..], &["--why", "they count in cents"]].concat());
    assert_eq!(done["version"], 2);
    assert!(folder.ok(&set).contains("was in force already"));
    folder.append("deals.ndjson", &deals(50..60, "Amount"));
    folder.opportunities("acme", &file, &[]);
    let amount = |id: &str| {
        let sql = format!("select amount from opportunities where opportunity_id = '{id}'");
        folder.query("acme", &sql).lines().last().unwrap().to_owned()
    };
    assert_eq!((amount("D49"), amount("D50")), ("2813.5000".to_owned(), "28.5050".to_owned()));
    let listed = folder.json(&["mappings", "list", "--tenant", "acme"]);
    let told = (&listed["version"], &listed["origin"], &listed["by"]);
    assert_eq!(told, (&json!(2), &json!("set"), &json!("command line")));
    let history = folder.json_lines(&[&["mappings", "history"], &of[..]].concat());
    assert_eq!((history.len(), &history[1]["why"]), (2, &json!("they count in cents")));
    let diff = folder.ok(&[&["mappings", "diff"], &of[..], &["--from", "1"]].concat());
    assert!(diff.starts_with("- amount: ") && diff.contains("+ amount: ") && diff.contains("cents"), "{diff}");
    let first = folder.json(&[&["mappings", "show"], &of[..], &["--mapping-version", "1"]].concat());
    assert!(!first.to_string().contains("cents"), "{first}");
    assert!(folder.err(&["mappings", "show", "--tenant", "acme", "crm/other"]).contains("there is no stream"));
    let bad = folder.write("bad.yaml", "entity: opportunity\nfieldz: {}\n");
    let refused = folder.err(&["mappings", "set", "--tenant", "acme", "crm/opportunity", bad.to_str().unwrap()]);
    assert!(refused.contains("fieldz"), "{refused}");
    assert_sound(&folder);
}

#[test]
fn the_history_of_drift_is_told_stream_by_stream() {
    let folder = Folder::new();
    let file = folder.write("deals.ndjson", deals(0..100, "Amount") + &deals(100..150, "DealAmount"));
    folder.opportunities("acme", &file, &[]);
    let listed = folder.json(&["drift", "list", "--tenant", "acme"]);
    assert_eq!((&listed["cases"], &listed["kinds"]), (&json!("1 repaired"), &json!("1 renamed")));
    let shown = folder.json_lines(&["drift", "show", "--tenant", "acme", "crm/opportunity"]);
    let told: Vec<(&str, &str)> =
        shown.iter().map(|row| (row["what"].as_str().unwrap(), row["detail"].as_str().unwrap())).collect();
    assert_eq!(told.iter().map(|(what, _)| *what).collect::<Vec<_>>(), ["shape", "shape", "case"], "{told:?}");
    assert_eq!(told[1].1, "DealAmount (number)");
    assert_eq!(told[2].1, "renamed Amount, repaired by rules, 50 held");
}

#[test]
fn what_was_set_aside_is_retried_and_discarded_with_reasons_and_the_counters_reconcile() {
    let folder = Folder::new();
    let lots = deals(20..30, "Amount").replace("\"Amount\":", "\"Sum\":7,\"Amount\":\"lots ").replace(".5,", "\",");
    let file = folder.write("deals.ndjson", deals(0..10, "Amount") + &lots + "broken\nbroken\n");
    assert_eq!(folder.opportunities("acme", &file, &[])["quarantined"], 12);
    let settle = |action: &str, more: &[&str]| {
        let base = ["quarantine", action, "--tenant", "acme", "--why", "they told us"];
        folder.json(&[&base[..], more].concat())
    };
    let again = settle("retry", &["--reason", "cast_failed"]);
    assert_eq!((&again["records"], &again["quarantined"]), (&json!(10), &json!(10)));
    let mut mapping = folder.json(&["mappings", "show", "--tenant", "acme", "crm/opportunity"]);
    mapping["fields"]["amount"] = json!("Sum | Amount");
    let new = folder.write("new.json", mapping.to_string());
    folder.ok(&["mappings", "set", "--tenant", "acme", "crm/opportunity", new.to_str().unwrap()]);
    let done = settle("retry", &["--stream", "crm/opportunity", "--reason", "cast_failed"]);
    assert_eq!((&done["records"], &done["accepted"]), (&json!(10), &json!(10)));
    assert_eq!(folder.query("acme", "select count(*) from opportunities where amount = 7").lines().last(), Some("10"));
    let left = folder.json_lines(&["quarantine", "list", "--tenant", "acme"]);
    assert_eq!(left.len(), 2);
    let one = left[0]["position"].as_str().unwrap();
    assert_eq!(settle("discard", &[one])["discarded"], 1);
    let twice = folder.err(&["quarantine", "retry", "--tenant", "acme", "--why", "x", one]);
    assert!(twice.contains("settled before, by command line: discard"), "{twice}");
    folder.err(&["quarantine", "discard", "--tenant", "acme", "--why", "x"]);
    let settled = folder.json_lines(&["quarantine", "list", "--tenant", "acme", "--settled"]);
    assert_eq!(settled.len(), 10 + 10 + 1);
    assert!(settled.iter().all(|row| row["why"] == "they told us"));
    let stat = folder.json_lines(&["log", "stat", "--tenant", "acme"]);
    let row = stat.iter().find(|row| row.get("stream").is_some()).unwrap();
    assert_eq!(["in", "accepted", "quarantined", "discarded"].map(|name| row[name].as_u64().unwrap()), [22, 20, 1, 1]);
    assert_sound(&folder);
}

#[test]
fn webhooks_are_kept_and_what_they_are_to_be_told_waits_for_a_server() {
    let folder = Folder::new();
    folder.opportunities("acme", &folder.write("deals.ndjson", deals(0..100, "Amount")), &[]);
    let add = ["webhooks", "add", "--tenant", "acme"];
    let made = folder
        .json(&[&add[..], &["--topics", "case.opened,case.decided", "http://127.0.0.1:1/hook?x=secret"]].concat());
    let id = made["id"].as_str().unwrap().to_owned();
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"), "{made}");
    assert!(folder.err(&[&add[..], &["--topics", "odd", "https://a.example/"]].concat()).contains("no topic"));
    folder.err(&[&add[..], &["file:///etc/passwd"]].concat());
    folder.append("deals.ndjson", &deals(100..150, "Bla"));
    folder.opportunities("acme", &folder.path("deals.ndjson"), &[]);
    // Who notes what is to be told may be a command behind.
    until("it is noted", || {
        let listed = folder.ok(&["--json", "webhooks", "list", "--tenant", "acme"]);
        assert!(!listed.contains("secret"), "{listed}");
        let listed: Value = serde_json::from_str(listed.trim()).unwrap();
        assert_eq!(listed["host"], "http://127.0.0.1:1");
        listed["waiting"] == 1
    });
    folder.ok(&["webhooks", "test", "--tenant", "acme", &id]);
    folder.ok(&["webhooks", "remove", "--tenant", "acme", &id]);
    assert_eq!(folder.json_lines(&["webhooks", "list", "--tenant", "acme"]).len(), 0);
    assert!(folder.err(&["webhooks", "test", "--tenant", "acme", &id]).contains("no such webhook"));
}
