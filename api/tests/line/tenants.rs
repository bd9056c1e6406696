//! Two tenants with the same names in everything.

use super::folder::{Folder, opportunity};

#[test]
fn two_tenants_with_the_same_keys_and_tables_never_see_each_other() {
    let folder = Folder::new();
    for (tenant, canary) in [("acme", "CANARYACME"), ("umbrella", "CANARYUMBRELLA")] {
        let rows = opportunity("1", "1", 1) + &opportunity("2", "oops", 1) + "{\"Id\":\"3\",\"bad\"\n";
        let file = folder.write(&format!("{tenant}.ndjson"), rows.replace("Deal", canary).replace("oops", "\"oops\""));
        folder.opportunities(tenant, &file, &[]);
    }
    let seen = |tenant: &str| {
        let mut seen = folder.query(tenant, "select * from opportunities");
        for topic in ["inputs", "events", "decisions"] {
            seen += &folder.ok(&["log", "cat", "--tenant", tenant, "--topic", topic, "--limit", "1000"]);
        }
        seen += &folder.ok(&["quarantine", "list", "--tenant", tenant]);
        seen += &folder.ok(&["views", "list", "--tenant", tenant]);
        seen
    };
    for (tenant, own, foreign) in
        [("acme", "CANARYACME", "CANARYUMBRELLA"), ("umbrella", "CANARYUMBRELLA", "CANARYACME")]
    {
        let seen = seen(tenant);
        assert!(seen.contains(own) && !seen.contains(foreign), "{tenant}");
        let note = &folder.json_lines(&["quarantine", "list", "--tenant", tenant])[0];
        let other = if tenant == "acme" { "umbrella" } else { "acme" };
        let args = ["quarantine", "show", "--tenant", other, note["position"].as_str().unwrap()];
        let output = folder.run(&args);
        let answer = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!answer.contains(own), "{answer}");
    }
}

#[test]
fn a_tenant_is_exported_to_a_new_file_and_deleted_when_told_twice() {
    let folder = Folder::new();
    for tenant in ["acme", "umbrella"] {
        let file = folder.write(&format!("{tenant}.ndjson"), opportunity("1", "1", 1) + "{\"bad\"\n");
        folder.opportunities(tenant, &file, &[]);
    }
    let out = folder.path("acme.export.ndjson");
    let export = ["tenant", "export", "acme", out.to_str().unwrap()];
    folder.ok(&export);
    let text = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((count("tenant"), count("row"), count("quarantined"), count("stream")), (1, 1, 1, 1));
    assert_eq!(lines.last().unwrap()["kind"], "end");
    assert!(folder.err(&export).contains("is there already"));
    folder.ok(&["tenant", "invite", "acme", "ada@acme.example"]);
    let again = folder.ok(&["tenant", "export", "acme", "-"]);
    let is_audit = |text: &&str| text.contains("\"kind\":\"audit\"") && text.contains("command line");
    let told = |command: &str| again.lines().filter(is_audit).filter(|text| text.contains(command)).count();
    assert_eq!((told("tenant export"), told("tenant invite")), (2, 1), "{again}");
    assert!(folder.err(&["tenant", "export", "nobody", "-"]).contains("no tenant nobody"));

    assert!(folder.err(&["tenant", "delete", "acme"]).contains("--yes"));
    assert_eq!(folder.query("acme", "select count(*) as n from opportunities"), "n\r\n1");
    folder.ok(&["tenant", "delete", "acme", "--yes"]);
    assert!(folder.err(&["query", "--tenant", "acme", "select 1"]).contains("no tenant acme"));
    assert_eq!(folder.query("umbrella", "select count(*) as n from opportunities"), "n\r\n1");
    let checks = folder.ok(&["doctor"]);
    assert!(checks.contains("are forgotten, their tenants were deleted"), "{checks}");
    folder.ok(&["log", "refold"]);
    let file = folder.write("new.ndjson", opportunity("2", "1", 1));
    folder.opportunities("acme", &file, &[]);
    assert_eq!(folder.query("acme", "select opportunity_id as id from opportunities"), "id\r\n2");
}
