//! The server: it answers the commands of other processes, watches folders, and survives being killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::folder::{Folder, fates, opportunity, until};

pub struct Serving {
    child: Child,
    port: u16,
}

impl Serving {
    pub fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[])
    }

    pub fn start_with(folder: &Folder, more: &[&str]) -> Self {
        Self::start_until(folder, more, |s| s.get("/readyz").is_some_and(|a| a.contains("ready")))
    }

    /// A server whose configuration names a certificate; it is ready once it takes connections.
    pub fn start_encrypted(folder: &Folder) -> Self {
        Self::start_until(folder, &[], |s| s.connects())
    }

    /// The server takes a port that is free, and says which: one that is asked for beforehand may be another's by then.
    fn start_until(folder: &Folder, more: &[&str], is_ready: impl Fn(&Self) -> bool) -> Self {
        let mut command = folder.command(&[&["serve", "--listen", "127.0.0.1:0"], more].concat());
        let child = command.env("AUTONOMOS_LOG", "warn,api::serve=info").stderr(Stdio::piped()).spawn().unwrap();
        let mut serving = Self { child, port: 0 };
        serving.port = told_port(serving.child.stderr.take().unwrap()).expect("the server has not come to serve");
        until("the server is ready", || {
            assert!(serving.child.try_wait().unwrap().is_none(), "the server has ended");
            is_ready(&serving)
        });
        serving
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn connects(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    pub fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, String) {
        self.send("POST", path, token, Some(body))
    }

    pub fn patch(&self, path: &str, token: &str, body: &Value) -> u16 {
        self.send("PATCH", path, Some(token), Some(body)).0
    }

    pub fn get_as(&self, path: &str, token: &str) -> (u16, String) {
        self.send("GET", path, Some(token), None)
    }

    pub fn delete(&self, path: &str, token: &str) -> u16 {
        self.send("DELETE", path, Some(token), None).0
    }

    fn send(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> (u16, String) {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.address()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(String::new, Value::to_string);
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.run(request.body(body).unwrap()).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    fn get(&self, path: &str) -> Option<String> {
        self.ask(path).filter(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// What it answers, well or not.
    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

/// The port that a server says it answers at; nothing when it ends before that. What it says later is read, so that it is
/// not held up, and passed over.
fn told_port(stderr: ChildStderr) -> Option<u16> {
    let (port, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let address = line.split_once("address=").and_then(|(_, rest)| rest.split(' ').next());
            if let Some(address) = address.and_then(|address| address.parse::<SocketAddr>().ok()) {
                // Who waited for it may have gone.
                _ = port.send(address.port());
            }
        }
    });
    told.recv_timeout(Duration::from_secs(300)).ok()
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
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

#[test]
fn two_runs_of_a_stream_at_once_each_count_their_own_records() {
    let folder = Folder::new();
    let rows = |from: u32, to: u32| (from..to).map(|n| opportunity(&n.to_string(), "1", 1)).collect::<String>();
    let files = [folder.write("a.ndjson", rows(0, 5_000)), folder.write("b.ndjson", rows(5_000, 12_000) + "broken\n")];
    let _serving = Serving::start(&folder);
    let done = std::thread::scope(|scope| {
        let first = scope.spawn(|| fates(&folder.opportunities("acme", &files[0], &[])));
        let second = fates(&folder.opportunities("acme", &files[1], &[]));
        [first.join().unwrap(), second]
    });
    assert_eq!(done, [[5_000, 5_000, 0, 0, 0], [7_001, 7_000, 0, 1, 0]]);
}

#[test]
fn a_server_that_is_told_to_stop_ends_soon_whatever_it_is_doing() {
    let folder = Folder::new();
    folder.write("data/autonomos.yaml", "watch:\n  - {tenant: acme, connection: crm, system: salesforce, stream: opportunity, files: [../drops/*.ndjson]}\n");
    // What is on the log by then is processed first, and a server ends by force where that takes half a minute.
    const RECORDS: usize = 100_000;
    let row = opportunity("1", "1", 1);
    folder.write("drops/a.ndjson", row.repeat(RECORDS));
    let mut serving = Serving::start(&folder);
    until("the ingest is under way", || {
        serving.get("/metrics").is_some_and(|text| {
            let ends = text.lines().filter(|line| line.starts_with("autonomos_log_items_total{topic=\"inputs\""));
            ends.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>() > 1_000
        })
    });
    serving.signal("-TERM");
    let status = serving.child.wait().unwrap();
    assert!(status.success(), "{status}");
    let taken: u64 = folder.json_lines(&["log", "stat"]).iter().filter_map(|row| row["in"].as_u64()).sum();
    let file = folder.path("drops/*.ndjson");
    let rest = folder.opportunities("acme", &file, &[]);
    assert_eq!(taken + rest["in"].as_u64().unwrap(), RECORDS as u64, "the next run goes on where the last was left");
}

#[test]
fn a_stream_that_cannot_be_watched_as_it_is_configured_fails_the_start() {
    let folder = Folder::new();
    for (wrong, reason) in [
        ("system: nowhere, files: [x.csv]", "nowhere"),
        ("system: salesforce, files: [x.csv], dry_run: true", "dry_run"),
        ("system: salesforce, files: [x.csv], format: xml", "xml"),
        ("system: salesforce, files: [x.csv], mode: snapshot", "half-written"),
    ] {
        let stream = format!("watch:\n  - {{tenant: acme, connection: crm, stream: opportunity, {wrong}}}\n");
        folder.write("data/autonomos.yaml", stream);
        let error = folder.err(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(error.contains(reason), "{error}");
    }
    std::fs::remove_file(folder.path("data/autonomos.yaml")).unwrap();
    assert!(folder.err(&["serve", "--listen", "0.0.0.0:0"]).contains("loopback"));
}

#[test]
fn a_server_on_a_folder_with_a_long_path_answers_commands() {
    let folder = Folder::deep(&"long-name-of-a-folder/".repeat(12));
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    let _serving = Serving::start(&folder);
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [1, 1, 0, 0, 0]);
}

#[test]
fn a_result_of_more_rows_than_allowed_is_refused() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", (0..20).map(|n| opportunity(&n.to_string(), "1", 1)).collect::<String>());
    folder.opportunities("acme", &file, &[]);
    let ask = ["query", "--tenant", "acme", "select * from opportunities"];
    assert!(folder.err(&[&ask[..], &["--max-rows", "19"]].concat()).contains("more than 19 rows"));
    folder.ok(&[&ask[..], &["--max-rows", "20"]].concat());
    let _serving = Serving::start_with(&folder, &["--max-rows", "10"]);
    assert!(folder.err(&ask).contains("more than 10 rows"));
}

#[cfg(feature = "kafka")]
#[test]
fn a_server_whose_log_is_away_waits_for_it_says_so_and_ends_when_it_is_told_to() {
    let folder = Folder::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!("log: {{kafka: {{brokers: \"{nobody}\", request_timeout_ms: 500}}}}\n");
    folder.write("data/autonomos.yaml", config);
    let waits =
        |s: &Serving| s.ask("/readyz").is_some_and(|a| a.contains(" 503 ") && a.contains("the log is waited for"));
    let mut waiting = Serving::start_until(&folder, &[], waits);
    assert!(waiting.get("/healthz").is_some());
    let told = waiting.ask("/api/v1/streams").unwrap();
    assert!(told.contains(" 503 ") && told.to_ascii_lowercase().contains("retry-after: 1"), "{told}");
    waiting.signal("-TERM");
    let status = waiting.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(folder.err(&["log", "stat"]).contains("no broker answers"), "a command does not wait");
}
