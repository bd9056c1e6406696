//! The line in this process: what cannot be seen from outside.

use std::sync::Arc;

use api::cli::{Cli, Command, IngestArgs, Top, doctor, ingest};
use api::line::Line;
use api::output::{Output, Progress, Silent};
use clap::Parser;
use pipeline::{Expect, Table};
use schemas::{TenantId, Topic};
use serde_json::Value;

use super::folder::{Folder, opportunity};

/// Keeps the answer.
#[derive(Default)]
struct Kept(Vec<u8>);

impl Output for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn progress(&mut self, _: &Progress) {}
    fn json(&self) -> bool {
        true
    }
}

fn arguments(file: &std::path::Path, more: &[&str]) -> IngestArgs {
    let words =
        ["autonomos", "ingest", "--tenant", "acme", "--connection", "crm", "--system", "salesforce", "--stream"];
    let words = [&words[..], &["opportunity"], more, &[file.to_str().unwrap()]].concat();
    match Cli::try_parse_from(words).unwrap().command {
        Top::Folder(Command::Ingest(args)) => *args,
        other => panic!("{other:?}"),
    }
}

/// The checks that failed, each with what to do.
async fn failed_checks(line: &Line) -> Vec<(String, String)> {
    let mut out = Kept::default();
    let outcome = doctor::run(line, &mut out).await;
    let rows = String::from_utf8(out.0).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let text = |row: &Value, column: &str| row[column].as_str().unwrap_or_default().to_owned();
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row["state"] == "failed")
        .map(|row| (text(row, "check"), text(row, "finding") + "; " + &text(row, "what_to_do")))
        .collect();
    assert_eq!(outcome.is_err(), !failed.is_empty());
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_a_reader_beyond_its_log_a_strange_register_and_counters_that_do_not_reconcile() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1) + "broken\n");
    let line = Line::open(&folder.data()).await.unwrap();
    ingest::run(&arguments(&file, &[]), &line, &mut Silent).await.unwrap();
    assert_eq!(failed_checks(&line).await, []);
    let tenant = line.tenant(&"acme".parse().unwrap()).await.unwrap();
    let (store, name) = (&*line.store, "crm/opportunity");

    let checkpoint = format!("{}/0/other", Topic::Events);
    let beyond = bytes::Bytes::copy_from_slice(&999_u64.to_be_bytes());
    store.put(TenantId::SYSTEM, Table::Checkpoints, &checkpoint, beyond, Expect::Any).await.unwrap();

    let state = store.get(tenant, Table::StreamStates, name).await.unwrap().unwrap();
    let state = String::from_utf8(state.value.to_vec()).unwrap().replacen("\"accepted\":1", "\"accepted\":2", 1);
    store.put(tenant, Table::StreamStates, name, state.into(), Expect::Any).await.unwrap();

    let row = store.get(tenant, Table::Streams, name).await.unwrap().unwrap();
    store.put(tenant, Table::Streams, "crm/never", row.value, Expect::Any).await.unwrap();

    let failed = failed_checks(&line).await;
    let found = |check: &str| failed.iter().find(|(c, _)| c == check).unwrap_or_else(|| panic!("{failed:?}")).1.clone();
    assert!(found("checkpoints").contains("stands at 999") && found("checkpoints").contains("backup"));
    assert!(found("counters").contains("2 in, 3 with a fate"));
    assert!(found("register").contains("crm/never of acme is registered, the log never opened it"));
    assert_eq!(failed.len(), 3, "{failed:?}");
    line.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_process_has_gone_is_dropped() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    let line = Arc::new(Line::open(&folder.data()).await.unwrap());
    ingest::run(&arguments(&file, &[]), &line, &mut Silent).await.unwrap();
    let listener = api::socket::listen(&folder.data()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(api::socket::serve(line.clone(), listener, stopped));
    let tenant = line.tenant(&"acme".parse().unwrap()).await.unwrap();
    let stream =
        schemas::StreamId { tenant, connection: "crm".parse().unwrap(), stream: "opportunity".parse().unwrap() };
    let before = Arc::strong_count(&line);

    // Its turn does not come, so the command waits for as long as it is wanted.
    let turn = line.turn(&stream).await;
    let mut asking = tokio::net::UnixStream::connect(api::socket::path(&folder.data())).await.unwrap();
    let request = serde_json::json!({ "json": true, "command": Command::Ingest(Box::new(arguments(&file, &[]))) });
    asking.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    asking.read_u8().await.unwrap();
    assert!(Arc::strong_count(&line) > before);
    drop(asking);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(300), async {
        while Arc::strong_count(&line) > before {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the command goes with its process");
    drop(turn);
    stop.send_replace(true);
    serving.await.unwrap();
    line.close().await.unwrap();
}
