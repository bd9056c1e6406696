//! Apache Cassandra, which speaks ScyllaDB's protocol and has its conditional writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pipeline::store::scylla::Settings;

use super::{Server, free_port, jars, skip};

/// A cluster of one node.
pub struct Cassandra {
    port: u16,
    lib: PathBuf,
    folder: PathBuf,
    server: Option<Server>,
}

/// What the JDK keeps closed and Cassandra needs.
const EXPORTS: [&str; 7] = [
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.sql/java.sql",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "jdk.unsupported/sun.misc",
];
const OPENS: [&str; 15] = [
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.lang",
];

const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%-5level %msg%n</pattern></encoder></appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
"#;

/// The password of the key stores.
const STORE_PASSWORD: &str = "of-the-tests";
/// Whose certificates there are: the node's, and one that nobody has reason to trust.
const AUTHORITIES: [&str; 2] = ["node", "other"];

fn keytool(words: &[&str]) {
    let done = Command::new("keytool").args(words).output().expect("keytool is part of Java");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

/// A key for 127.0.0.1, and in a file of its own its certificate, which is its own authority.
fn certify(folder: &Path, name: &str) {
    let file = |ending: &str| folder.join(format!("{name}.{ending}")).display().to_string();
    let (store, certificate) = (file("jks"), file("pem"));
    let of = ["-alias", "node", "-storetype", "JKS", "-storepass", STORE_PASSWORD, "-keystore", &store];
    let make = ["-genkeypair", "-keyalg", "EC", "-keysize", "256", "-validity", "30", "-dname", "CN=node"];
    let named = ["-ext", "SAN=IP:127.0.0.1", "-keypass", STORE_PASSWORD];
    keytool(&[&make[..], &named[..], &of[..]].concat());
    keytool(&[&["-exportcert", "-rfc", "-file", &certificate][..], &of[..]].concat());
}

/// A commit log that is synced before the answer, as production should have it, and more patience than by default: the machine
/// may be slow. With `login` nobody gets in without, and clients may use TLS.
fn yaml(folder: &Path, port: u16, storage_port: u16, login: bool) -> String {
    let folder = folder.display();
    let authenticator = if login { "PasswordAuthenticator" } else { "AllowAllAuthenticator" };
    let encryption = match login {
        true => format!(
            "client_encryption_options: {{enabled: true, optional: true, keystore: {folder}/conf/node.jks, \
             keystore_password: {STORE_PASSWORD}}}"
        ),
        false => String::new(),
    };
    format!(
        "cluster_name: test
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: 127.0.0.1:{storage_port}
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage_port}
native_transport_port: {port}
start_native_transport: true
commitlog_sync: group
commitlog_sync_group_window: 2ms
commitlog_directory: {folder}/commitlog
data_file_directories: [{folder}/data]
saved_caches_directory: {folder}/caches
hints_directory: {folder}/hints
cdc_raw_directory: {folder}/cdc
memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
key_cache_size: 8MiB
auto_snapshot: false
read_request_timeout: 60s
range_request_timeout: 60s
write_request_timeout: 60s
native_transport_timeout: 60s
authenticator: {authenticator}
authorizer: AllowAllAuthorizer
{encryption}
"
    )
}

impl Cassandra {
    /// A node of its own; nothing where there can be none.
    pub fn start(login: bool) -> Option<Self> {
        let lib = jars("cassandra").map_err(|why| skip("cassandra", &why)).ok()?;
        let folder = tempfile::tempdir().expect("a temporary folder can be made").keep();
        let port = free_port();
        let conf = folder.join("conf");
        fs::create_dir_all(&conf).expect("the folder is writable");
        fs::write(conf.join("cassandra.yaml"), yaml(&folder, port, free_port(), login))
            .expect("the folder is writable");
        fs::write(conf.join("logback.xml"), LOGBACK).expect("the folder is writable");
        if login {
            AUTHORITIES.iter().for_each(|name| certify(&conf, name));
        }
        let mut cassandra = Self { port, lib, folder, server: None };
        cassandra.restart();
        Some(cassandra)
    }

    /// The node that all tests share; nothing where there can be none.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cassandra>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(false)).as_ref()
    }

    /// The certificate of an authority of a node with logins: `node` or `other`.
    pub fn authority(&self, name: &str) -> PathBuf {
        self.folder.join("conf").join(format!("{name}.pem"))
    }

    /// Ends the node as a crash does.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts it again with its data.
    pub fn restart(&mut self) {
        self.kill();
        let folder = self.folder.display();
        let mut command: Vec<String> =
            ["java", "-Xms256m", "-Xmx1g", "-XX:+UseSerialGC", "-Djdk.attach.allowAttachSelf=true"]
                .map(Into::into)
                .into();
        for export in EXPORTS {
            command.extend(["--add-exports".to_owned(), format!("{export}=ALL-UNNAMED")]);
        }
        for open in OPENS {
            command.extend(["--add-opens".to_owned(), format!("{open}=ALL-UNNAMED")]);
        }
        command.extend([
            format!("-Dcassandra.config=file://{folder}/conf/cassandra.yaml"),
            format!("-Dcassandra.storagedir={folder}"),
            "-Dcassandra-foreground=yes".into(),
            format!("-Dcassandra.jmx.local.port={}", free_port()),
            "-Dcassandra.ring_delay_ms=1".into(),
            "-Dcassandra.skip_wait_for_gossip_to_settle=0".into(),
            "-Dcassandra.superuser_setup_delay_ms=0".into(),
            "-cp".into(),
            format!("{folder}/conf:{}/*", self.lib.display()),
            "org.apache.cassandra.service.CassandraDaemon".into(),
        ]);
        self.server = Some(Server::start(&self.folder, &command, self.port));
    }

    /// How to reach it, with a keyspace that nobody else has.
    pub fn settings(&self) -> Settings {
        static STORES: AtomicU32 = AtomicU32::new(0);
        let mut settings = Settings::at([format!("127.0.0.1:{}", self.port)]);
        settings.keyspace = format!("test_{}", STORES.fetch_add(1, Ordering::Relaxed));
        settings.replication = 1;
        settings.connect_timeout_ms = 60_000;
        settings.request_timeout_ms = 120_000;
        settings.retry_for_ms = 300_000;
        settings
    }
}
