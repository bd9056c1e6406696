//! Apache Kafka: broker and controller in one process.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pipeline::Partitions;
use pipeline::log::kafka::Settings;

use super::{Server, free_port, jars, skip};

/// A broker. It listens in clear, and on another port asks for a login.
pub struct Kafka {
    port: u16,
    login_port: u16,
    lib: PathBuf,
    folder: PathBuf,
    server: Option<Server>,
}

/// The user that the second port lets in.
pub const USER: (&str, &str) = ("alice", "alice-password");

fn properties(port: u16, login_port: u16, controller_port: u16, folder: &Path) -> String {
    let (user, password) = USER;
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    let mut text = String::new();
    for line in [
        "process.roles=broker,controller".to_owned(),
        "node.id=1".into(),
        format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}"),
        "controller.listener.names=CONTROLLER".into(),
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},LOGIN://127.0.0.1:{login_port},CONTROLLER://127.0.0.1:{controller_port}"
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port},LOGIN://127.0.0.1:{login_port}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT".into(),
        "listener.name.login.sasl.enabled.mechanisms=PLAIN".into(),
        format!("listener.name.login.plain.sasl.jaas.config={jaas} user_{user}=\"{password}\";"),
        format!("log.dirs={}", folder.join("data").display()),
        "offsets.topic.replication.factor=1".into(),
        "offsets.topic.num.partitions=1".into(),
        "transaction.state.log.replication.factor=1".into(),
        "transaction.state.log.min.isr=1".into(),
        "transaction.state.log.num.partitions=1".into(),
        "share.coordinator.state.topic.replication.factor=1".into(),
        "share.coordinator.state.topic.min.isr=1".into(),
        "share.coordinator.state.topic.num.partitions=1".into(),
        "group.initial.rebalance.delay.ms=0".into(),
        "auto.create.topics.enable=false".into(),
    ] {
        writeln!(text, "{line}").expect("a text takes everything");
    }
    text
}

fn java(lib: &Path) -> Vec<String> {
    let class_path = format!("{}/*", lib.display());
    let words = ["java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path];
    words.map(str::to_owned).to_vec()
}

impl Kafka {
    /// A broker of its own; nothing where there can be none.
    pub fn start() -> Option<Self> {
        let lib = jars("kafka").map_err(|why| skip("kafka", &why)).ok()?;
        let folder = tempfile::tempdir().expect("a temporary folder can be made").keep();
        let (port, login_port) = (free_port(), free_port());
        let file = folder.join("server.properties");
        fs::write(&file, properties(port, login_port, free_port(), &folder)).expect("the folder is writable");
        let tool = |arguments: &[&str]| {
            let java = java(&lib);
            let mut command = Command::new(&java[0]);
            let output = command.args(&java[1..]).arg("kafka.tools.StorageTool").args(arguments).output();
            let output = output.expect("java runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let id = tool(&["random-uuid"]);
        tool(&["format", "--standalone", "-t", &id, "-c", &file.display().to_string()]);
        let mut kafka = Self { port, login_port, lib, folder, server: None };
        kafka.restart();
        Some(kafka)
    }

    /// The broker that all tests share; nothing where there can be none.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Kafka>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Ends the broker as a crash does.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts it again with its data.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = java(&self.lib);
        let file = self.folder.join("server.properties").display().to_string();
        command.extend(["kafka.Kafka".to_owned(), file]);
        self.server = Some(Server::start(&self.folder, &command, self.port));
    }

    /// How to reach it, with topics that nobody else has.
    pub fn settings(&self) -> Settings {
        static LOGS: AtomicU32 = AtomicU32::new(0);
        let mut settings = Settings::at(format!("127.0.0.1:{}", self.port));
        settings.topic_prefix = format!("test-{}.", LOGS.fetch_add(1, Ordering::Relaxed));
        settings.partitions = Partitions { inputs: 2, events: 2, decisions: 2 };
        // A broker may be away for as long as it takes to start again.
        settings.request_timeout_ms = 300_000;
        settings.delivery_timeout_ms = 300_000;
        settings
    }

    /// The port that asks for a login.
    pub fn with_login(&self) -> String {
        format!("127.0.0.1:{}", self.login_port)
    }
}
