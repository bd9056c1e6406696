//! What commands print, for people and for programs.

use serde_json::Value;

use super::folder::{Folder, opportunity};

/// The JSON values of an answer; anything else fails.
fn values(text: &str) -> Vec<Value> {
    let values =
        serde_json::Deserializer::from_str(text).into_iter().map(|value| value.map_err(|e| format!("{e}: {text}")));
    values.collect::<Result<_, _>>().unwrap()
}

#[test]
fn every_command_answers_in_json_when_asked_to() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1) + "broken\n");
    let file = file.to_str().unwrap();
    folder.opportunities("acme", std::path::Path::new(file), &[]);
    let note = folder.json(&["quarantine", "list", "--tenant", "acme"]);
    let position = note["position"].as_str().unwrap();
    let ingest = ["ingest", "--tenant", "acme", "--connection", "crm", "--system", "salesforce", "--stream", "lead"];
    let ingest = |more: &[&'static str]| -> Vec<String> {
        let words = ingest.iter().map(|word| word.replace("lead", "opportunity"));
        words.chain(more.iter().map(|word| (*word).to_owned())).chain([file.to_owned()]).collect()
    };
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let commands = [
        ingest(&[]),
        ingest(&["--no-wait"]),
        ingest(&["--dry-run"]),
        ingest(&["--mode", "snapshot", "--no-wait"]),
        [words("query --tenant acme"), vec!["select * from opportunities".into()]].concat(),
        words("views list"),
        words("views flush"),
        words("views rebuild --tenant acme opportunity"),
        words("log stat"),
        words("log cat --tenant acme --topic inputs"),
        words("log cat --tenant acme --topic decisions"),
        words("log refold"),
        words("quarantine list --tenant acme"),
        words(&format!("quarantine show --tenant acme {position}")),
        words("doctor"),
    ];
    for command in commands {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = folder.run(&[&["--json"], &command[..]].concat());
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(!stdout.is_empty(), "{command:?} says nothing");
        for value in values(&stdout) {
            assert!(value.is_object() || value.is_array(), "{command:?}: {value}");
        }
    }
    let failed = folder.run(&["--json", "query", "--tenant", "nobody", "select 1"]);
    let error: Value = serde_json::from_slice(&failed.stderr).unwrap();
    assert!(error["error"].as_str().unwrap().contains("nobody"));
}

#[test]
fn the_demo_answers_in_json_too_and_a_running_one_is_not_cleared() {
    use std::io::{BufRead, BufReader};
    let folder = Folder::new();
    let demo = ["--json", "demo", "--once", "--listen", "127.0.0.1:0"];
    let mut first =
        folder.command(&demo).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines().map(Result::unwrap);
    let serving = lines.find(|line| line.contains("serving")).unwrap();
    // It stands still meanwhile: it could be over before the second has looked.
    signal(&first, "-STOP");
    let second = folder.run(&["demo", "--once", "--listen", "127.0.0.1:0"]);
    signal(&first, "-CONT");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(1) && said.contains(&format!("process {}", first.id())), "{said}");
    let rest: Vec<String> = [serving].into_iter().chain(lines).collect();
    let counts = values(&rest.join("\n")).into_iter().filter(|value| value["in"].is_u64());
    assert!(counts.count() > 1, "{rest:?}");
    assert!(first.wait().unwrap().success(), "the first goes on");
}

fn signal(child: &std::process::Child, name: &str) {
    assert!(std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_query_is_answered_as_a_table_and_as_an_arrow_stream() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("006A", "1.5", 1) + &opportunity("006B", "2", 1));
    folder.opportunities("acme", &file, &[]);
    let sql = "select opportunity_id, amount from opportunities order by 1";
    let table = folder.ok(&["query", "--tenant", "acme", sql]);
    assert!(table.contains("opportunity_id") && table.contains("006B") && table.contains("2.0000"), "{table}");
    let output = folder.run(&["query", "--tenant", "acme", "--format", "arrow", sql]);
    assert!(output.status.success());
    let reader = arrow::ipc::reader::StreamReader::try_new(&output.stdout[..], None).unwrap();
    assert_eq!(reader.schema().field(1).name(), "amount");
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
}

#[test]
fn the_log_says_what_it_holds_and_what_became_of_it() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1) + "broken\n");
    folder.opportunities("acme", &file, &[]);
    let rows = folder.json_lines(&["log", "stat", "--tenant", "acme"]);
    let inputs: u64 = rows.iter().filter(|r| r["topic"] == "inputs").map(|r| r["end"].as_u64().unwrap()).sum();
    assert_eq!(inputs, 5, "two definitions, the opening, two records");
    let stream = rows.last().unwrap();
    assert_eq!((&stream["stream"], &stream["in"]), (&"crm/opportunity".into(), &2.into()));
    assert_eq!((&stream["accepted"], &stream["quarantined"]), (&1.into(), &1.into()));
    assert!(folder.ok(&["log", "stat"]).contains("fingerprint"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", (0..5_000).map(|n| opportunity(&n.to_string(), "1", 1)).collect::<String>());
    folder.opportunities("acme", &file, &[]);
    let args = ["query", "--tenant", "acme", "--format", "csv", "select * from opportunities"];
    let mut child = folder
        .command(&args)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
