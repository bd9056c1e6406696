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
