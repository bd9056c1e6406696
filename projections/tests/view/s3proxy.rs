//! S3Proxy: a server of S3 over a folder.
//!
//! It looks whether an object is there and then writes it, in two steps: of several puts at the same moment more than one
//! may be taken. One after the other it does as S3 does, and that is how it is used here.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use projections::view::place::Settings;
use projections::view::{Place, PlaceError};

use crate::server::{Server, free_port, jars, skip};

/// The login that it lets in.
const LOGIN: (&str, &str) = ("views", "views-secret");
/// The bucket that is there.
const BUCKET: &str = "views-test";

const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%-5level %msg%n</pattern></encoder></appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
"#;

/// A server with one bucket.
pub struct S3Proxy {
    port: u16,
    lib: PathBuf,
    folder: PathBuf,
    server: Option<Server>,
}

impl S3Proxy {
    /// A server of its own; nothing where there can be none.
    pub fn start() -> Option<Self> {
        let lib = jars("s3proxy").map_err(|why| skip("s3proxy", &why)).ok()?;
        let folder = tempfile::tempdir().expect("a temporary folder can be made").keep();
        let (port, (name, secret)) = (free_port(), LOGIN);
        let data = folder.join("data");
        fs::create_dir_all(data.join(BUCKET)).expect("the folder is writable");
        fs::write(folder.join("logback.xml"), LOGBACK).expect("the folder is writable");
        let properties = [
            format!("s3proxy.endpoint=http://127.0.0.1:{port}"),
            "s3proxy.authorization=aws-v2-or-v4".into(),
            // Checksums beside the bodies, which S3 takes and S3Proxy refuses unless it is told not to heed them.
            "s3proxy.ignore-unknown-headers=true".into(),
            format!("s3proxy.identity={name}"),
            format!("s3proxy.credential={secret}"),
            "jclouds.provider=filesystem-nio2".into(),
            format!("jclouds.filesystem.basedir={}", data.display()),
        ];
        fs::write(folder.join("s3proxy.properties"), properties.join("\n")).expect("the folder is writable");
        let mut proxy = Self { port, lib, folder, server: None };
        proxy.restart();
        Some(proxy)
    }
    /// The server that all tests share; nothing where there can be none.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<S3Proxy>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }
    /// Ends the server as a crash does.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }
    /// Starts it again with its data.
    pub fn restart(&mut self) {
        self.kill();
        let folder = self.folder.display();
        let command = [
            "java".to_owned(),
            "-Xms64m".into(),
            "-Xmx256m".into(),
            "-XX:+UseSerialGC".into(),
            "-XX:TieredStopAtLevel=1".into(),
            format!("-Dlogback.configurationFile={folder}/logback.xml"),
            "-cp".into(),
            format!("{}/*", self.lib.display()),
            "org.gaul.s3proxy.Main".into(),
            "--properties".into(),
            format!("{folder}/s3proxy.properties"),
        ];
        self.server = Some(Server::start(&self.folder, &command, self.port));
    }
    /// How to reach a folder in a bucket of it.
    pub fn settings(&self, location: &str) -> Settings {
        let (name, secret) = LOGIN;
        let mut settings = Settings::at(location);
        settings.endpoint = Some(format!("http://127.0.0.1:{}", self.port));
        settings.allow_http = true;
        settings.access_key = Some(name.to_owned());
        settings.secret_key = Some(secret.to_owned().into());
        settings.retry_for_ms = 10_000;
        settings
    }
    /// A place that nobody else has.
    pub fn place(&self) -> Place {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        self.open(&self.settings(&format!("s3://{BUCKET}/lake/{number}"))).expect("the settings are right")
    }
    /// The place of settings.
    pub fn open(&self, settings: &Settings) -> Result<Place, PlaceError> {
        Place::open(Some(settings), &self.folder)
    }
}
