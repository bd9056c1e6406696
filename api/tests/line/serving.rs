//! The server: it answers the commands of other processes, watches folders, and survives being killed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

use super::folder::{Folder, fates, opportunity};

struct Serving {
    child: Child,
    port: u16,
}

impl Serving {
    fn start(folder: &Folder) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let child = folder.command(&["serve", "--listen", &listen]).stderr(Stdio::null()).spawn().unwrap();
        let mut serving = Self { child, port };
        until("the server is ready", || {
            assert!(serving.child.try_wait().unwrap().is_none(), "the server has ended");
            serving.get("/readyz").is_some_and(|a| a.contains("ready"))
        });
        serving
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(answer)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits for a condition; the limit only ends a test that would never end.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed().as_secs() < 60, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_server_answers_commands_on_its_folder_and_its_socket_is_the_owners() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &file, &[]);
    let serving = Serving::start(&folder);
    let mode = std::fs::metadata(folder.data().join("autonomos.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(folder.query("acme", "select sum(amount) from opportunities").lines().last(), Some("1.0000"));
    folder.append("a.ndjson", &opportunity("2", "2", 1));
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [1, 1, 0, 0, 0]);
    assert_eq!(folder.query("acme", "select sum(amount) from opportunities").lines().last(), Some("3.0000"));
    assert!(folder.err(&["query", "--tenant", "acme", "select * from nothing"]).contains("nothing"));
    assert!(serving.get("/healthz").is_some());
    assert!(serving.get("/metrics").unwrap().contains("autonomos_records_total{fate=\"accepted\"} 2"));
    drop(serving);
    assert_eq!(folder.query("acme", "select sum(amount) from opportunities").lines().last(), Some("3.0000"));
}

#[test]
fn a_large_answer_comes_through_the_socket_whole() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", (0..40_000).map(|n| opportunity(&n.to_string(), "1", 1)).collect::<String>());
    folder.opportunities("acme", &file, &[]);
    let _serving = Serving::start(&folder);
    assert_eq!(folder.query("acme", "select * from opportunities").lines().count(), 40_001);
}

#[test]
fn a_server_watches_the_configured_files() {
    let folder = Folder::new();
    folder.write("data/autonomos.yaml", "watch:\n  - {tenant: acme, connection: crm, system: salesforce, stream: opportunity, files: [../drops/*.ndjson]}\n");
    folder.write("drops/a.ndjson", opportunity("1", "1", 1));
    let _serving = Serving::start(&folder);
    let rows = |expected: &str| {
        let output =
            folder.run(&["query", "--tenant", "acme", "--format", "csv", "select count(*) from opportunities"]);
        String::from_utf8_lossy(&output.stdout).lines().last() == Some(expected)
    };
    until("the first file is visible", || rows("1"));
    folder.write("drops/b.ndjson", opportunity("2", "2", 1));
    until("a new file is visible", || rows("2"));
    folder.append("drops/a.ndjson", &opportunity("3", "3", 1));
    until("appended rows are visible", || rows("3"));
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_afterwards() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", (0..20_000).map(|n| opportunity(&n.to_string(), "1", 1)).collect::<String>());
    let name = file.to_str().unwrap();
    let args = [
        "--json",
        "ingest",
        "--tenant",
        "acme",
        "--connection",
        "crm",
        "--system",
        "salesforce",
        "--stream",
        "opportunity",
        name,
    ];
    for _ in 0..5 {
        let mut child = folder.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut first = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut first).ok();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    folder.opportunities("acme", &file, &[]);
    assert_eq!(
        folder.query("acme", "select count(*), sum(amount) from opportunities").lines().last(),
        Some("20000,20000.0000")
    );
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [0, 0, 0, 0, 0]);
}
