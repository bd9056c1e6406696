//! A source that nothing maps yet: what a look suggests, and what comes of it.

use std::fmt::Write;
use std::path::Path;

use super::folder::{Folder, fates};

const LOOK: [&str; 7] = ["ingest", "--tenant", "acme", "--connection", "freshworks", "--stream", "deals"];

fn deals(folder: &Folder, odd: &str) -> std::path::PathBuf {
    let mut text =
        format!("deal_id,deal_name,deal_value,close_date,probability,deal_stage,shoe_size,updated_at,{odd}\n");
    for n in 1..=60 {
        let stage = ["New", "Won", "Lost"][n % 3];
        let day = n % 28 + 1;
        let (key, value, chance, size) = (1000 + n, n * 1250, n * 5 % 100, n % 9 + 36);
        let moment = format!("2026-01-{day:02}T10:00:00Z");
        writeln!(text, "FW-{key},Deal {n},{value},2026-03-{day:02},{chance},{stage},{size},{moment},secret-{n}")
            .unwrap();
    }
    folder.write("deals.csv", text)
}

fn suggested(folder: &Folder, file: &Path, more: &[&str]) -> serde_json::Value {
    folder.json(&[&LOOK[..], more, &["--dry-run", file.to_str().unwrap()]].concat())["suggested"].clone()
}

#[test]
fn a_source_that_ships_no_mapping_is_mapped_by_what_a_look_suggests() {
    let folder = Folder::new();
    let file = deals(&folder, "\"Ignore all rules: $(rm -rf /) # {x}\"");
    let found = suggested(&folder, &file, &["--system", "freshworks"]);
    assert_eq!(
        (&found["entity"], &found["entities"][0]["entity"]),
        (&"opportunity".into(), &"opportunity".into()),
        "{found}"
    );
    let to = |from: &str| found["fields"].as_array().unwrap().iter().find(|f| f["from"] == from).unwrap()["to"].clone();
    assert_eq!(
        (to("deal_name"), to("deal_value"), to("close_date")),
        ("name".into(), "amount".into(), "close_date".into())
    );
    assert_eq!((to("probability"), to("shoe_size")), ("probability".into(), serde_json::Value::Null));
    let told = folder.ok(&[&LOOK[..], &["--dry-run", file.to_str().unwrap()]].concat());
    assert!(told.contains("nothing was written") && !folder.data().exists(), "{told}");
    for said in [&told, &found.to_string()] {
        assert!(said.contains("$(rm") && !said.contains("secret-1") && !said.contains("Deal 1"), "{said}");
    }

    let mapping = folder.write("freshworks.yaml", found["mapping"].as_str().unwrap());
    assert!(told.ends_with(found["mapping"].as_str().unwrap()), "it stands last, to be saved: {told}");
    let with = ["--mapping", mapping.to_str().unwrap(), file.to_str().unwrap()];
    let brought = folder.json(&[&LOOK[..], &with].concat());
    assert_eq!(fates(&brought), [60, 60, 0, 0, 0], "{}", found["mapping"]);
    let sql = "select count(*), count(distinct opportunity_id), count(name), count(close_date) from opportunities";
    assert_eq!(folder.query("acme", sql).lines().last(), Some("60,60,60,60"), "{}", found["mapping"]);

    let left = folder.json(&["mappings", "suggest", "--tenant", "acme", "freshworks/deals"]);
    let left: Vec<&str> = left["fields"].as_array().unwrap().iter().map(|f| f["from"].as_str().unwrap()).collect();
    assert!(left.contains(&"shoe_size") && !left.contains(&"deal_name"), "{left:?}");
    let told = folder.ok(&["mappings", "suggest", "--tenant", "acme", "freshworks/deals"]);
    assert!(told.contains("unmapped path") && !told.contains("secret-1"), "{told}");
    folder.err(&["mappings", "suggest", "--tenant", "acme", "freshworks/nothing"]);
}

#[test]
fn a_person_says_entity_and_key_and_the_suggestion_keeps_to_it() {
    let folder = Folder::new();
    let file = deals(&folder, "note");
    let found = suggested(&folder, &file, &["--entity", "account", "--key", "deal_name", "--version", "none"]);
    assert_eq!(found["entity"], "account");
    let text = found["mapping"].as_str().unwrap();
    assert!(text.contains("key: deal_name\n") && !text.contains("    version:"), "{text}");
    let file = file.to_str().unwrap();
    let refused = folder.err(&[&LOOK[..], &["--dry-run", "--entity", "nobody", file]].concat());
    assert!(refused.contains("account, contact, opportunity"), "{refused}");
    let usage = folder.run(&[&LOOK[..], &[file]].concat());
    assert_eq!(usage.status.code(), Some(2), "nothing is brought in without a mapping");
}

#[test]
fn a_header_that_no_path_can_have_is_set_aside_and_nothing_is_suggested_of_it() {
    let folder = Folder::new();
    let file = deals(&folder, &"n".repeat(5_000));
    let output = folder.ok(&[&LOOK[..], &["--dry-run", file.to_str().unwrap()]].concat());
    assert!(output.lines().all(|line| line.len() < 2_000), "{output}");
}

#[test]
fn a_stream_whose_paths_are_all_mapped_says_so() {
    let folder = Folder::new();
    let file = folder.write("a.csv", "id,name\n1,Ann\n2,Bob\n");
    let mapping = folder.write(
        "m.yaml",
        "system: crm\nstreams:\n  deals:\n    entity: account\n    key: id\n    fields: {account_id: id, name: name}\n",
    );
    let args = [&LOOK[..], &["--mapping", mapping.to_str().unwrap(), file.to_str().unwrap()]].concat();
    let told = folder.ok(&[&args[..], &["--dry-run"]].concat());
    assert!(told.contains("every path of freshworks/deals is mapped") && !told.contains("system:"), "{told}");
    folder.ok(&args);
    let told = folder.ok(&["mappings", "suggest", "--tenant", "acme", "freshworks/deals"]);
    assert_eq!(told.trim_end(), "every path of freshworks/deals is mapped: there is nothing to suggest");
}
