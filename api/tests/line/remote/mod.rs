//! The command line at a running server: it does there what it does on the folder.

mod between;
mod bringing;
mod same;
mod signing;
mod trouble;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::folder::{BINARY, Folder};
use super::serving::Serving;

pub const EMAIL: &str = "ada@acme.example";
pub const PASSWORD: &str = "correct horse battery staple";

/// Somebody at a machine of their own, who asks a server.
pub struct Somebody {
    server: String,
    config: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Somebody {
    pub fn at(server: &str) -> Self {
        Self { server: server.to_owned(), config: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// An admin of acme, signed in.
    pub fn signed_in(folder: &Folder, serving: &Serving) -> Self {
        let ada = Self::at(&serving.address());
        invited(folder, serving);
        ada.login();
        ada
    }

    pub fn login(&self) {
        let output = self.run_with(&["login", "--email", EMAIL], PASSWORD);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The same, asking another address that leads to the same server.
    pub fn through(&self, address: &str) -> Self {
        let there = Self::at(address);
        let kept = std::fs::read_to_string(self.kept()).unwrap();
        let mut credential: Value = serde_json::from_str(&kept).unwrap();
        there.with("AUTONOMOS_API_KEY", credential["token"].take().as_str().unwrap())
    }

    /// With a variable in the environment.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// The file with the credential.
    pub fn kept(&self) -> PathBuf {
        let folder = self.config.path().join("autonomos/servers");
        std::fs::read_dir(folder).unwrap().next().expect("somebody has signed in").unwrap().path()
    }

    pub fn config(&self) -> PathBuf {
        self.config.path().to_owned()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["--server", &self.server]).args(args);
        command
            .env("XDG_CONFIG_HOME", self.config.path())
            .env("AUTONOMOS_LOG", "error,rustls_platform_verifier=off")
            .env_remove("HOME");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command with a line on standard input.
    pub fn run_with(&self, args: &[&str], line: &str) -> Output {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input may have ended by now.
        _ = child.stdin.take().unwrap().write_all(format!("{line}\n").as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed and answers what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with a clear error, and answers that.
    #[track_caller]
    pub fn err(&self, args: &[&str]) -> String {
        told(args, &self.run(args))
    }

    /// The last line of an answer in JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.ok(&[&["--json"], args].concat());
        serde_json::from_str(output.lines().last().unwrap_or_else(|| panic!("{args:?} printed nothing"))).unwrap()
    }

    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        self.ok(&["query", "--format", "csv", sql]).trim_end().to_owned()
    }

    /// Brings a file in as Salesforce opportunities and answers the fates.
    #[track_caller]
    pub fn opportunities(&self, file: &std::path::Path, more: &[&str]) -> Value {
        self.json(&opportunities(file, more))
    }
}

/// The words that bring a file in as Salesforce opportunities.
pub fn opportunities<'a>(file: &'a std::path::Path, more: &[&'a str]) -> Vec<&'a str> {
    let file = file.to_str().unwrap();
    let words = ["ingest", "--connection", "crm", "--system", "salesforce", "--stream", "opportunity"];
    [&words, more, &["--key", "Id", "--version", "LastModifiedDate", file]].concat()
}

/// What a command that failed has said.
#[track_caller]
pub fn told(args: &[&str], output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}{stderr}", String::from_utf8_lossy(&output.stdout));
    assert!(stderr.starts_with("error: ") && !stderr.contains("panicked"), "{stderr}");
    stderr
}

/// Has the operator invite an admin of acme, who sets a password.
pub fn invited(folder: &Folder, serving: &Serving) {
    let invited = folder.json(&["tenant", "invite", "acme", EMAIL]);
    let body = json!({"token": invited["token"], "password": PASSWORD});
    let (status, text) = serving.post("/api/v1/auth/accept", None, &body);
    assert_eq!(status, 200, "{text}");
}
