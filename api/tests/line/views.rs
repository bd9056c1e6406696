//! Views: made again from the log, and grown at run time.

use super::folder::{Folder, fates, opportunity};
use super::serving::Serving;

#[test]
fn a_rebuild_from_the_log_equals_the_incremental_view() {
    let folder = Folder::new();
    let rows: String = (0..500).map(|n| opportunity(&(n % 90).to_string(), &n.to_string(), 1 + (n * 7) % 28)).collect();
    let file = folder.write("a.ndjson", rows);
    folder.opportunities("acme", &file, &[]);
    folder.append("a.ndjson", &opportunity("1", "5", 28));
    folder.opportunities("acme", &file, &[]);
    let all = "select * from opportunities order by _key";
    let before = folder.query("acme", all);
    folder.ok(&["views", "rebuild", "--tenant", "acme", "opportunity"]);
    assert_eq!(folder.query("acme", all), before);
    assert_eq!(before.lines().count(), 91);
}

#[test]
fn a_view_whose_table_is_damaged_is_listed_and_made_again() {
    let folder = Folder::new();
    let rows: String = (0..50).map(|n| opportunity(&(n % 20).to_string(), &n.to_string(), 1 + n % 28)).collect();
    let file = folder.write("a.ndjson", rows);
    folder.opportunities("acme", &file, &[]);
    folder.opportunities("umbrella", &file, &[]);
    let all = "select * from opportunities order by _key";
    let before = folder.query("acme", all);
    let listed = folder.json(&["views", "list", "--tenant", "acme"]);
    let log = std::path::Path::new(listed["folder"].as_str().unwrap()).join("_delta_log");
    for entry in std::fs::read_dir(&log).unwrap() {
        std::fs::write(entry.unwrap().path(), "no longer JSON\n").unwrap();
    }
    let listed = folder.json_lines(&["views", "list"]);
    assert_eq!(listed.len(), 2);
    let stopped = |tenant: &str| listed.iter().find(|v| v["tenant"] == tenant).unwrap()["stopped"].clone();
    assert!(stopped("acme").is_string() && stopped("umbrella").is_null(), "{listed:?}");
    assert!(folder.err(&["query", "--tenant", "acme", all]).contains("opportunities"));
    assert_eq!(folder.query("umbrella", all).lines().count(), 21, "the other tenant's view is whole");
    let doctor = folder.run(&["--json", "doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    let told = String::from_utf8_lossy(&doctor.stdout);
    assert!(
        told.lines().any(|l| l.contains("\"failed\"") && l.contains("views rebuild --tenant acme opportunity")),
        "{told}"
    );
    folder.ok(&["views", "rebuild", "--tenant", "acme"]);
    assert_eq!(folder.query("acme", all), before);
    folder.ok(&["doctor"]);
}

#[test]
fn views_are_made_from_the_log_where_the_configuration_says_and_are_still_right_where_they_were() {
    let folder = Folder::new();
    let rows: String = (0..50).map(|n| opportunity(&n.to_string(), &n.to_string(), 1 + n % 28)).collect();
    let file = folder.write("a.ndjson", rows);
    folder.opportunities("acme", &file, &[]);
    let all = "select * from opportunities order by _key";
    let before = folder.query("acme", all);
    let config = folder.write("data/autonomos.yaml", "views: {location: ../elsewhere}\n");
    assert_eq!(folder.query("acme", all), before);
    folder.append("a.ndjson", &opportunity("50", "50", 1));
    folder.opportunities("acme", &file, &[]);
    let listed = folder.json(&["views", "list", "--tenant", "acme"]);
    let elsewhere = folder.path("elsewhere").canonicalize().unwrap();
    assert!(listed["folder"].as_str().unwrap().starts_with(elsewhere.to_str().unwrap()), "{listed}");
    assert_eq!((&listed["rows"], &listed["tail_rows"]), (&51.into(), &0.into()), "{listed}");
    assert!(folder.ok(&["doctor"]).contains("place of views"));
    let now = folder.query("acme", all);
    std::fs::remove_file(config).unwrap();
    assert_eq!(folder.query("acme", all), now);
}

#[test]
fn the_doctor_ends_at_a_place_of_views_that_keeps_the_line_from_opening_and_says_so() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &file, &[]);
    folder.write("data/autonomos.yaml", "views: {location: ../a.ndjson}\n");
    let told = folder.err(&["doctor"]);
    assert!(told.contains("at the servers: 1 of 2 checks failed"), "{told}");
}

#[test]
fn a_command_that_does_not_know_where_the_server_had_the_views_leaves_both_places_alone_and_says_so() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &file, &[]);
    let config = folder.write("server.yaml", "views: {location: elsewhere}\n");
    drop(Serving::start_with(&folder, &["--config", config.to_str().unwrap()]));
    for command in [&["views", "flush"][..], &["views", "rebuild", "--tenant", "acme"], &["doctor"]] {
        let refused = folder.err(command);
        assert!(refused.contains("/elsewhere/") && refused.contains("AUTONOMOS_VIEWS_LOCATION"), "{refused}");
    }
    folder.write("data/autonomos.yaml", "views: {location: ../elsewhere}\n");
    folder.ok(&["views", "flush"]);
    std::fs::remove_file(folder.data().join("autonomos.yaml")).unwrap();
    drop(Serving::start(&folder));
    folder.ok(&["views", "flush"]);
}

#[test]
fn a_view_that_cannot_be_flushed_fails_only_who_asks_for_that() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1) + &opportunity("2", "2", 1));
    folder.opportunities("acme", &file, &["--deleted", "IsDeleted=true"]);
    let listed = folder.json(&["views", "list", "--tenant", "acme"]);
    // Where the deleted keys would go lies something else.
    let deleted = format!("{}__deleted", listed["folder"].as_str().unwrap());
    std::fs::write(&deleted, "in the way").unwrap();
    folder.append("a.ndjson", &opportunity("1", "1", 2).replace("{\"Id\"", "{\"IsDeleted\":true,\"Id\""));
    folder.opportunities("acme", &file, &["--deleted", "IsDeleted=true", "--no-wait"]);
    assert_eq!(
        folder.query("acme", "select opportunity_id from opportunities").lines().collect::<Vec<_>>(),
        ["opportunity_id", "2"]
    );
    folder.ok(&["log", "stat"]);
    assert!(folder.err(&["views", "flush"]).contains("was not flushed"));
    std::fs::remove_file(&deleted).unwrap();
    folder.ok(&["views", "flush"]);
}

#[test]
fn a_flush_puts_every_row_into_the_table() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &file, &[]);
    folder.append("a.ndjson", &opportunity("2", "2", 1));
    folder.opportunities("acme", &file, &["--no-wait"]);
    assert!(folder.ok(&["views", "flush", "--tenant", "acme", "opportunity"]).contains("opportunities flushed"));
    let listed = folder.json(&["views", "list", "--tenant", "acme"]);
    assert_eq!((&listed["rows"], &listed["tail_rows"]), (&2.into(), &0.into()));
    assert!(folder.err(&["views", "flush", "--tenant", "acme", "contact"]).contains("no view of contact"));
    for name in ["opportunity", "opportunities"] {
        let of = ["--tenant", "acme", name];
        assert!(folder.ok(&[&["views", "rebuild"], &of[..]].concat()).contains("opportunities rebuilt"), "{name}");
        assert!(folder.ok(&[&["views", "describe"], &of[..]].concat()).contains("amount"), "{name}");
    }
}

#[test]
fn a_second_fold_of_the_inputs_gives_the_same_events() {
    let folder = Folder::new();
    let rows: String = (0..300).map(|n| opportunity(&(n % 50).to_string(), "1", 1 + n % 28) + "broken\n").collect();
    let file = folder.write("a.ndjson", rows);
    folder.opportunities("acme", &file, &[]);
    folder.opportunities("umbrella", &file, &[]);
    for (batch, threads) in [("1", "1"), ("7", "4"), ("100000", "2")] {
        let streams = folder.json_lines(&["log", "refold", "--batch", batch, "--threads", threads]);
        assert_eq!(streams.len(), 2);
        assert!(streams.iter().all(|s| s["same"] == true && s["events"] == 300), "{streams:?}");
    }
}

#[test]
fn an_entity_and_a_field_are_added_at_run_time() {
    let folder = Folder::new();
    let mapping = |fields: &str, rules: &str| {
        format!(
            "system: erp\nentities:\n  - entity: order\n    table: orders\n    fields:\n      - {{name: order_id, type: text, required: true}}\n{fields}\
             streams:\n  orders:\n    entity: order\n    key: number\n    fields:\n      order_id: number\n{rules}"
        )
    };
    let file = folder.write("orders.csv", "number,total,memo\n007,1.25,first\n");
    let first = folder.write("erp.yaml", mapping("", ""));
    let args = [
        "ingest",
        "--tenant",
        "acme",
        "--connection",
        "erp",
        "--stream",
        "orders",
        "--mapping",
        first.to_str().unwrap(),
    ];
    let run = || folder.json(&[&args[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(fates(&run()), [1, 1, 0, 0, 0]);
    assert_eq!(
        folder.query("acme", "select order_id, extras from orders").lines().last(),
        Some(r#"007,"{""total"":""1.25"",""memo"":""first""}""#)
    );
    folder.write("erp.yaml", mapping("      - {name: total, type: decimal, scale: 2}\n", "      total: total\n"));
    folder.append("orders.csv", "008,2.5,second\n");
    assert_eq!(fates(&run()), [1, 1, 0, 0, 0]);
    let rows = folder.query("acme", "select order_id, total, _mapping_version from orders order by 1");
    assert_eq!(rows.lines().skip(1).collect::<Vec<_>>(), ["007,,1", "008,2.50,2"]);
    folder.write("erp.yaml", mapping("      - {name: total, type: integer}\n", "      total: total\n"));
    let refused = folder.err(&[&args[..], &[file.to_str().unwrap()]].concat());
    assert!(refused.contains("change its type"), "{refused}");
}

#[test]
fn a_dry_run_shows_the_mapping_and_writes_nothing() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1) + "broken\n");
    let args =
        ["ingest", "--tenant", "acme", "--connection", "crm", "--system", "salesforce", "--stream", "opportunity"];
    let told = folder.ok(&[&args[..], &["--dry-run", file.to_str().unwrap()]].concat());
    assert!(told.contains("Owner.Team") && told.contains("extras") && told.contains("opportunity_id"), "{told}");
    assert!(told.contains("malformed_json") && told.contains("nothing was written"), "{told}");
    assert!(!folder.data().exists());
    std::fs::create_dir(folder.data()).unwrap();
    folder.ok(&[&args[..], &["--dry-run", file.to_str().unwrap()]].concat());
    assert_eq!(std::fs::read_dir(folder.data()).unwrap().count(), 0);
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [2, 1, 0, 1, 0]);
}

#[test]
fn a_dry_run_names_columns_with_dots_and_objects_that_are_taken_whole() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", "{\"id\":\"1\",\"Owner.Name\":\"Ann\",\"address\":{\"city\":\"Ulm\"}}\n");
    let mapping = folder.write(
        "m.yaml",
        "system: erp\nentities:\n  - entity: order\n    table: orders\n    fields:\n      - {name: order_id, type: text}\n      \
         - {name: owner, type: text}\n      - {name: address, type: json}\n      - {name: memo, type: text}\nstreams:\n  \
         orders:\n    entity: order\n    key: id\n    fields: {order_id: id, owner: 'Owner\\.Name', address: address, memo: memo}\n",
    );
    let args = ["ingest", "--dry-run", "--tenant", "acme", "--connection", "erp", "--stream", "orders", "--mapping"];
    let lines = folder.json_lines(&[&args[..], &[mapping.to_str().unwrap(), file.to_str().unwrap()]].concat());
    let becomes =
        |path: &str| lines.iter().find(|l| l["path"] == path).unwrap_or_else(|| panic!("{lines:?}"))["becomes"].clone();
    assert_eq!((becomes("Owner\\.Name"), becomes("address")), ("owner".into(), "address".into()));
    let told = lines.last().unwrap();
    assert_eq!((&told["never_filled"], &told["whole"]), (&serde_json::json!(["memo"]), &true.into()));
}
