//! A data folder, files beside it, and the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_autonomos");

/// A temporary folder with a data folder in it.
pub struct Folder {
    root: PathBuf,
    _removed: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Self {
        Self::deep("")
    }

    /// A folder that lies `below` others.
    pub fn deep(below: &str) -> Self {
        let removed = tempfile::tempdir().unwrap();
        let root = removed.path().join(below);
        std::fs::create_dir_all(&root).unwrap();
        Self { root, _removed: removed }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn append(&self, name: &str, content: &str) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).open(self.path(name)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("--data-dir").arg(self.data()).args(args).env("AUTONOMOS_LOG", "warn");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed and answers what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with a clear error, and answers that.
    pub fn err(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}{stderr}", String::from_utf8_lossy(&output.stdout));
        assert!(stderr.contains("error"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        stderr
    }

    /// Runs a command with `--json` and answers its last line.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.ok(&[&["--json"], args].concat());
        serde_json::from_str(output.lines().last().unwrap_or_else(|| panic!("{args:?} printed nothing"))).unwrap()
    }

    /// Runs a command with `--json` and answers all its lines.
    pub fn json_lines(&self, args: &[&str]) -> Vec<Value> {
        self.ok(&[&["--json"], args].concat()).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ingests a file as Salesforce opportunities of `tenant` and answers the fates.
    pub fn opportunities(&self, tenant: &str, file: &Path, more: &[&str]) -> Value {
        let file = file.to_str().unwrap();
        let args =
            ["ingest", "--tenant", tenant, "--connection", "crm", "--system", "salesforce", "--stream", "opportunity"];
        self.json(&[&args, more, &["--key", "Id", "--version", "LastModifiedDate", file]].concat())
    }

    pub fn query(&self, tenant: &str, sql: &str) -> String {
        self.ok(&["query", "--tenant", tenant, "--format", "csv", sql]).trim_end().to_owned()
    }
}

/// Waits for a condition; the limit only ends a test that would never end.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed().as_secs() < 300, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// An opportunity as Salesforce writes it.
pub fn opportunity(id: &str, amount: &str, day: u32) -> String {
    format!(
        "{{\"Id\":\"{id}\",\"Name\":\"Deal {id}\",\"StageName\":\"Prospecting\",\"Amount\":{amount},\
         \"LastModifiedDate\":\"2026-01-{day:02}T10:00:00.000+0000\",\"Owner\":{{\"Name\":\"Ann\",\"Team\":\"A\"}}}}\n"
    )
}

/// in, visible, superseded, quarantined, duplicate; what is held stands apart, nothing is pending.
pub fn fates(value: &Value) -> [u64; 5] {
    assert_eq!(value["pending"], 0, "{value}");
    let fates = ["in", "visible", "superseded", "quarantined", "duplicate"].map(|name| value[name].as_u64().unwrap());
    let [held, released] = ["held", "released"].map(|name| value[name].as_u64().unwrap());
    assert_eq!(fates[0] + released, fates[1..].iter().sum::<u64>() + held, "the counters reconcile: {value}");
    fates
}
