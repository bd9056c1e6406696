//! A server that tests start and end: its jars, its folder, its process. Tests of other crates include this file.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Java starts slowly where much else runs.
const START_WITHIN: Duration = Duration::from_secs(600);
/// Where run.sh says which process the server is.
const PID: &str = "server.pid";
/// Ports below those that the system gives out by itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A server that runs until this is dropped.
pub struct Server {
    guard: Child,
    stdin: Option<ChildStdin>,
    folder: PathBuf,
}

fn services() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipeline/tests/services")
}

/// The jars of a server; or why it cannot run here.
pub fn jars(server: &str) -> Result<PathBuf, String> {
    let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !java.is_ok_and(|status| status.success()) {
        return Err("java is not installed (apt-get install openjdk-17-jre-headless)".into());
    }
    let fetched = Command::new(services().join("fetch.sh")).arg(server).output();
    let fetched = fetched.map_err(|e| format!("fetch.sh does not run: {e}"))?;
    if !fetched.status.success() {
        return Err(String::from_utf8_lossy(&fetched.stderr).trim().to_owned());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&fetched.stdout).trim()))
}

/// A test that needs what is not here. Where nothing may be left out, that is a failure.
pub fn skip(server: &str, why: &str) {
    let required = ["CI", "CAMPAIGN_REQUIRED"].into_iter().find(|name| std::env::var_os(name).is_some());
    if let Some(name) = required {
        panic!("{name} is set, and {server} cannot be started: {why}");
    }
    // Past the test harness, which shows what a test prints only when it fails.
    let _ = writeln!(std::io::stderr(), "skipped, because {server} cannot be started: {why}");
}

/// A port that nobody listens on, and that nobody is given before its server listens: neither by the system, which has
/// others for those who ask for any, nor here once more.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Each process begins elsewhere.
    let begin = (std::process::id().wrapping_mul(97) % u32::from(PORTS.end - PORTS.start)) as u16;
    let next = || PORTS.start + GIVEN.fetch_add(1, Ordering::Relaxed).wrapping_add(begin) % (PORTS.end - PORTS.start);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    PORTS.map(|_| next()).find(is_free).expect("a port is free")
}

impl Server {
    /// Starts a command in a folder, which is removed with it, and waits until it listens.
    pub fn start(folder: &Path, command: &[String], port: u16) -> Self {
        // Of the one before, if there was one.
        let _ = std::fs::remove_file(folder.join(PID));
        let mut guard = Command::new(services().join("run.sh"))
            .arg(folder)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("run.sh runs");
        let stdin = guard.stdin.take();
        let server = Self { guard, stdin, folder: folder.to_owned() };
        let until = Instant::now() + START_WITHIN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            assert!(!server.has_ended(), "the server has ended:\n{}", server.log());
            assert!(Instant::now() < until, "the server does not listen:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Ends the server as a crash does; its folder stays.
    pub fn kill(mut self) {
        if let Some(stdin) = &mut self.stdin {
            stdin.write_all(b"keep").expect("run.sh listens");
        }
    }

    /// Whether the server has ended by itself.
    fn has_ended(&self) -> bool {
        let Ok(pid) = std::fs::read_to_string(self.folder.join(PID)) else { return false };
        // Half a number is none that is there.
        if !pid.ends_with('\n') {
            return false;
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with('Z'))
    }

    /// The last that the server said.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    /// Ends the server, and waits until it is gone.
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.guard.wait();
    }
}
