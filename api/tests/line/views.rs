//! Views: made again from the log, and grown at run time.

use super::folder::{Folder, fates, opportunity};

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
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [2, 1, 0, 1, 0]);
}
