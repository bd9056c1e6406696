//! Files as they change.

use super::folder::{Folder, fates, opportunity};

const TOTAL: &str = "select count(*), sum(amount) from opportunities";

#[test]
fn another_rule_for_deletes_says_that_what_was_read_stays_and_how_it_is_read_by_it_too() {
    let folder = Folder::new();
    let rows = [opportunity("a", "1", 1), opportunity("b", "2", 1)].concat().replace("\"a\"", "\"a\",\"Gone\":true");
    let file = folder.write("a.ndjson", &rows);
    assert_eq!(folder.opportunities("acme", &file, &[])["under_former_mapping"], 0);
    let changed = folder.opportunities("acme", &file, &["--deleted", "Gone=true"]);
    assert_eq!((&changed["in"], &changed["under_former_mapping"]), (&0.into(), &2.into()));
    let again = folder.opportunities("acme", &file, &["--deleted", "Gone=true"]);
    assert_eq!(again["under_former_mapping"], 0, "the same mapping again changes nothing");
    let path = file.to_str().unwrap();
    let args =
        ["ingest", "--tenant", "acme", "--connection", "crm", "--system", "salesforce", "--stream", "opportunity"];
    let told = folder.ok(&[&args[..], &["--key", "Id", "--version", "LastModifiedDate", path]].concat());
    assert!(told.contains("2 records taken before stay") && told.contains("under other names"), "{told}");
    let copy = folder.write("copy.ndjson", &rows);
    let done = folder.opportunities("acme", &copy, &["--deleted", "Gone=true"]);
    assert_eq!((&done["in"], &done["deletes"]), (&2.into(), &1.into()));
    assert_eq!(folder.query("acme", "select count(*) from opportunities").lines().last(), Some("1"));
}

#[test]
fn files_become_rows_and_a_second_run_adds_nothing() {
    let folder = Folder::new();
    let content = opportunity("006A", "100.5", 1) + &opportunity("006B", "0", 2) + &opportunity("006A", "250", 3);
    let file = folder.write("deals.ndjson", content);
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [3, 2, 1, 0, 0]);
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("2,250.0000"));
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [0, 0, 0, 0, 0]);
    let zero = "select amount, _key, _connection, _stream from opportunities where opportunity_id = '006B'";
    assert_eq!(folder.query("acme", zero).lines().last(), Some("0.0000,006B,crm,opportunity"));
}

#[test]
fn appended_rows_are_picked_up_and_a_rewritten_file_is_read_anew() {
    let folder = Folder::new();
    let first = folder.write("a.ndjson", opportunity("1", "1", 1) + &opportunity("2", "2", 1));
    let second = folder.write("b.ndjson", opportunity("3", "3", 1));
    let both = folder.path("*.ndjson");
    assert_eq!(fates(&folder.opportunities("acme", &both, &[])), [3, 3, 0, 0, 0]);
    folder.append("a.ndjson", &opportunity("1", "10", 2));
    assert_eq!(fates(&folder.opportunities("acme", &both, &[])), [1, 1, 0, 0, 0]);
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("3,15.0000"));
    std::fs::write(&first, opportunity("1", "11", 3)).unwrap();
    assert_eq!(fates(&folder.opportunities("acme", &both, &[])), [1, 1, 0, 0, 0], "rewritten and shorter");
    std::fs::write(&second, opportunity("3", "4", 2)).unwrap();
    assert_eq!(fates(&folder.opportunities("acme", &both, &[])), [1, 1, 0, 0, 0], "rewritten at the same length");
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("3,17.0000"));
}

#[test]
fn deletes_late_and_repeated_records_end_where_the_source_is() {
    let folder = Folder::new();
    let gone = |id: &str, day: u32| opportunity(id, "1", day).replace("{\"Id\"", "{\"IsDeleted\":true,\"Id\"");
    let lines = [
        opportunity("1", "1", 5),
        opportunity("2", "2", 1),
        opportunity("1", "9", 2),
        gone("2", 3),
        opportunity("2", "8", 2),
        opportunity("3", "3", 1),
        opportunity("3", "3", 1),
        gone("4", 1),
        opportunity("4", "4", 2),
    ];
    let file = folder.write("deals.ndjson", lines.concat());
    let done = folder.opportunities("acme", &file, &["--deleted", "IsDeleted=true"]);
    assert_eq!(fates(&done), [9, 4, 5, 0, 0]);
    let rows = folder.query("acme", "select opportunity_id, amount from opportunities order by 1");
    assert_eq!(rows.lines().skip(1).collect::<Vec<_>>(), ["1,1.0000", "3,3.0000", "4,4.0000"]);
}

#[test]
fn a_snapshot_deletes_what_is_missing_but_not_too_much_of_it() {
    let folder = Folder::new();
    let row = |n: u32| opportunity(&n.to_string(), "1", 1);
    let file = folder.write("all.ndjson", (0..10).map(row).collect::<String>());
    folder.opportunities("acme", &file, &["--mode", "snapshot"]);
    std::fs::write(&file, (1..10).map(row).collect::<String>()).unwrap();
    folder.opportunities("acme", &file, &["--mode", "snapshot"]);
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("9,9.0000"));
    std::fs::write(&file, (5..10).map(row).collect::<String>()).unwrap();
    let base =
        ["ingest", "--tenant", "acme", "--connection", "crm", "--system", "salesforce", "--stream", "opportunity"];
    let snapshot = [&base[..], &["--key", "Id", "--version", "LastModifiedDate", "--mode", "snapshot"]].concat();
    let name = file.to_str().unwrap();
    assert!(folder.err(&[&snapshot[..], &[name]].concat()).contains("--max-deletes"));
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("9,9.0000"));
    folder.ok(&[&snapshot[..], &["--max-deletes", "50", name]].concat());
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("5,5.0000"));
    std::fs::write(&file, (4..10).map(row).collect::<String>()).unwrap();
    folder.opportunities("acme", &file, &["--mode", "snapshot"]);
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("6,6.0000"), "a row that is back is visible again");
}

#[test]
fn a_snapshot_with_a_line_that_cannot_be_read_deletes_nothing() {
    let folder = Folder::new();
    let row = |n: u32| opportunity(&n.to_string(), "1", 1);
    let file = folder.write("all.ndjson", (0..10).map(row).collect::<String>());
    folder.opportunities("acme", &file, &["--mode", "snapshot"]);
    std::fs::write(&file, (1..10).map(row).collect::<String>() + &row(0).replace("\"Id\":\"0\"", "\"Id\":\"0"))
        .unwrap();
    let name = file.to_str().unwrap();
    let (mode, more) = (["--mode", "snapshot"], ["--json", name]);
    let base =
        ["ingest", "--tenant", "acme", "--connection", "crm", "--system", "salesforce", "--stream", "opportunity"];
    let output = folder.run(&[&base[..], &["--key", "Id", "--version", "LastModifiedDate"], &mode, &more].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 records of the snapshot have no readable key"));
    let told: serde_json::Value =
        serde_json::from_str(String::from_utf8_lossy(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(fates(&told), [10, 9, 0, 1, 0], "what was read has its fate all the same");
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("10,10.0000"));
}

#[test]
fn a_snapshot_deletes_more_rows_than_one_batch_holds() {
    let folder = Folder::new();
    let row = |n: u32| opportunity(&format!("{n:0>200}"), "1", 1);
    let file = folder.write("all.ndjson", (0..8_000).map(row).collect::<String>());
    folder.opportunities("acme", &file, &["--mode", "snapshot"]);
    std::fs::write(&file, (0..10).map(row).collect::<String>()).unwrap();
    let done = folder.opportunities("acme", &file, &["--mode", "snapshot", "--max-deletes", "100"]);
    assert_eq!(done["deletes"], 7_990);
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("10,10.0000"));
    let deletes = folder.ok(&["log", "cat", "--tenant", "acme", "--topic", "inputs", "--limit", "100000"]);
    let lanes: std::collections::HashSet<_> = deletes
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|input| input["op"] == "delete")
        .map(|input| input["ordinal"].as_u64().unwrap())
        .collect();
    assert_eq!(lanes.len(), 7_990, "the ordinals of all batches rise in one lane");
}

#[test]
fn without_waiting_every_record_is_durable_and_its_fate_pending() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1) + "broken\n");
    let done = folder.opportunities("acme", &file, &["--no-wait"]);
    assert_eq!((&done["in"], &done["durable"], &done["pending"]), (&2.into(), &2.into(), &2.into()), "{done}");
    assert_eq!(folder.query("acme", TOTAL).lines().last(), Some("1,1.0000"));
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [0, 0, 0, 0, 0]);
}

#[test]
fn a_csv_without_a_key_keeps_equal_rows_apart() {
    let folder = Folder::new();
    let file = folder
        .write("costs.csv", "service_category,region,cost,usage_type\nEC2,eu,1.5,Box\nEC2,eu,1.5,Box\nS3,eu,0,Put\n");
    let args = ["ingest", "--tenant", "acme", "--connection", "files", "--mapping"];
    let mapping = folder.write("costs.yaml", "system: costs\nstreams:\n  cost_reports:\n    entity: cost_report\n    fields: {service_category: service_category, region: region, cost: cost, usage_type: usage_type}\n");
    let run = || {
        folder.json(
            &[&args[..], &[mapping.to_str().unwrap(), "--stream", "cost_reports", file.to_str().unwrap()]].concat(),
        )
    };
    assert_eq!(fates(&run()), [3, 3, 0, 0, 0]);
    assert_eq!(fates(&run()), [0, 0, 0, 0, 0]);
    assert_eq!(
        folder.query("acme", "select count(*), sum(cost) from cost_reports").lines().last(),
        Some("3,3.000000000000")
    );
}

#[test]
fn the_seed_layouts_keep_their_ids_and_zeros() {
    let folder = Folder::new();
    let cases = [
        (
            "dynamics",
            "accounts",
            "accountid,accountname,accounttype,industrycode,ownerid,statecode,createdon,modifiedon,revenue,numberofemployees\n007,Seven,3,10000,O-1,0,2024-01-20T11:00:00Z,2024-10-31T15:00:00Z,8500000,420\n",
            "select account_id, name, extras from accounts",
        ),
        (
            "pipedrive",
            "opportunities",
            "id,org_id,title,stage_name,value,currency,expected_close_date,user_id,probability,add_time,update_time,deal_type\n007,PD-1,Deal,Won,0,USD,2024-11-20,U-1,80,2024-09-10T10:00:00Z,2024-10-31T13:00:00Z,new\n",
            "select opportunity_id, amount, probability from opportunities",
        ),
        (
            "zendesk",
            "contacts",
            "id,organization_id,name,email,phone,role,tags,created_at,updated_at\n007,ORG,Ann,a@b.c,+1-555-2001,Lead,vip|x,2024-05-10T09:00:00Z,2024-10-31T12:00:00Z\n",
            "select contact_id, phone, extras from contacts",
        ),
    ];
    for (system, stream, content, sql) in cases {
        let file = folder.write(&format!("{system}.csv"), content);
        let args = ["ingest", "--tenant", "acme", "--connection", system, "--system", system, "--stream", stream];
        assert_eq!(fates(&folder.json(&[&args[..], &[file.to_str().unwrap()]].concat())), [1, 1, 0, 0, 0], "{system}");
        let row = folder.query("acme", sql);
        let row = row.lines().last().unwrap();
        assert!(row.starts_with("007,"), "{system}: {row}");
    }
    assert_eq!(folder.query("acme", cases[1].3).lines().last(), Some("007,0.0000,80.0000"));
}
