//! What has to be said about a Kafka cluster before it can be the log.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use schemas::batch::BODY_BYTES_MAX;
use serde::Deserialize;

use super::error::OpenError;
use crate::engine::Partitions;
use crate::secret::Secret;

/// The largest batch that a log takes, and what may stand around it in an append.
const MESSAGE_BYTES_LEAST: u32 = (BODY_BYTES_MAX + (2 << 20)) as u32;

/// How to reach a Kafka cluster and how to use it. Everything but `brokers` has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Some brokers to begin with: `host:port`, separated by commas.
    pub brokers: String,
    /// What stands before `inputs`, `events` and `decisions` in the names of the topics.
    #[serde(default = "default_prefix")]
    pub topic_prefix: String,
    /// Partition counts of topics that are made; those that are there keep theirs, and need at least as many.
    #[serde(default)]
    pub partitions: Partitions,
    /// Makes topics that are not there. Where it is off, somebody else has to make them.
    #[serde(default = "yes")]
    pub create_topics: bool,
    /// Writes down in an empty topic what it is. Where it is off nothing at all is written or made at the start, and a topic that
    /// has not begun is told.
    #[serde(skip, default = "yes")]
    pub begin_topics: bool,
    /// The generation of topics that are made, where records move here from a log of that one; the second in which they are
    /// made otherwise.
    #[serde(skip)]
    pub epoch: Option<u32>,
    /// Replicas of a topic that is made; 0 leaves it to the broker's `default.replication.factor`.
    #[serde(default)]
    pub replication: u16,
    /// `min.insync.replicas` of a topic that is made; 0 leaves it to the broker.
    #[serde(default)]
    pub min_insync_replicas: u16,
    /// How messages are compressed on their way. Bodies are packed already; this is for what stands around them.
    #[serde(default)]
    pub compression: Compression,
    /// How long a message waits for company, in milliseconds.
    #[serde(default = "default_linger_ms")]
    pub linger_ms: u32,
    /// An append larger than this is refused; topics need `max.message.bytes` of as much. It has room for the largest batch that
    /// there may be: 66 MiB at least. In bytes.
    #[serde(default = "default_message_bytes_max")]
    pub message_bytes_max: u32,
    /// Appends wait while so many bytes are under way.
    #[serde(default = "default_in_flight_bytes_max")]
    pub in_flight_bytes_max: u32,
    /// Messages that a reader is given ahead of its reading, in bytes a reader.
    #[serde(default = "default_read_ahead_bytes")]
    pub read_ahead_bytes: u32,
    /// An append that is not acknowledged for so long fails, and the log with it. In milliseconds.
    #[serde(default = "default_delivery_timeout_ms")]
    pub delivery_timeout_ms: u32,
    /// A question that is not answered for so long is given up, and a reader that gets nothing for so long though there
    /// is something. In milliseconds.
    #[serde(default = "default_request_timeout_ms")]
    pub request_timeout_ms: u32,
    /// Readers that are kept open while nobody reads; each has a connection to a broker. The one that looks for new messages
    /// in a partition that is waited for is kept besides.
    #[serde(default = "default_idle_readers_max")]
    pub idle_readers_max: usize,
    /// TLS; without it connections are in clear.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// A login; without it none is tried.
    #[serde(default)]
    pub sasl: Option<Sasl>,
}

/// How messages are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

/// TLS to the brokers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file of the authorities that are trusted; those of the system without it.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A PEM file of our own certificate, where the brokers ask for one.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// A PEM file of its key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// What the key is locked with.
    #[serde(default)]
    pub key_password: Option<Secret>,
}

/// A login at the brokers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// How it is proved.
    pub mechanism: Mechanism,
    /// Who.
    pub username: String,
    /// With what.
    pub password: Secret,
}

/// How a login is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// The password as it is; use TLS with it.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Settings {
    /// A cluster at `brokers`, everything else as it is by default.
    pub fn at(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic_prefix: default_prefix(),
            partitions: Partitions::default(),
            create_topics: true,
            begin_topics: true,
            epoch: None,
            replication: 0,
            min_insync_replicas: 0,
            compression: Compression::default(),
            linger_ms: default_linger_ms(),
            message_bytes_max: default_message_bytes_max(),
            in_flight_bytes_max: default_in_flight_bytes_max(),
            read_ahead_bytes: default_read_ahead_bytes(),
            delivery_timeout_ms: default_delivery_timeout_ms(),
            request_timeout_ms: default_request_timeout_ms(),
            idle_readers_max: default_idle_readers_max(),
            tls: None,
            sasl: None,
        }
    }

    /// Says what cannot be, before anything is tried with it.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let bytes = self.message_bytes_max;
        if bytes < MESSAGE_BYTES_LEAST {
            let why = format!(
                "`message_bytes_max` is {bytes} and must be at least {MESSAGE_BYTES_LEAST}: a batch of records may be that \
                 large, and nothing behind it would be processed; a broker that allows less cannot be used"
            );
            return Err(OpenError::Settings(why));
        }
        if !self.partitions.are_valid() {
            return Err(OpenError::Partitions(self.partitions));
        }
        Ok(())
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.into())
    }

    pub(super) fn delivery_timeout(&self) -> Duration {
        Duration::from_millis(self.delivery_timeout_ms.into())
    }

    /// What all clients have in common.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "autonomos")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("message.max.bytes", self.message_bytes_max.to_string());
        self.set_security(&mut config);
        config
    }

    fn set_security(&self, config: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        };
        config.set("security.protocol", protocol);
        let tls = self.tls.clone().unwrap_or_default();
        let files = [
            ("ssl.ca.location", tls.ca_file),
            ("ssl.certificate.location", tls.certificate_file),
            ("ssl.key.location", tls.key_file),
        ];
        for (name, file) in files.into_iter().filter_map(|(name, file)| Some((name, file?))) {
            config.set(name, file.display().to_string());
        }
        if let Some(password) = tls.key_password {
            config.set("ssl.key.password", password.expose());
        }
        if let Some(sasl) = &self.sasl {
            let mechanism = match sasl.mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            config.set("sasl.mechanism", mechanism);
            config.set("sasl.username", &sasl.username).set("sasl.password", sasl.password.expose());
        }
    }

    /// A producer that keeps the order, sends nothing twice, and ends at the first message that it cannot deliver.
    pub(super) fn producer(&self) -> ClientConfig {
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        let queue_kbytes = (u64::from(self.in_flight_bytes_max) + u64::from(self.message_bytes_max)) / 1024 + 1024;
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("compression.codec", compression)
            .set("linger.ms", self.linger_ms.to_string())
            .set("batch.size", "1048576")
            .set("queue.buffering.max.kbytes", queue_kbytes.to_string())
            // Ours, for librdkafka goes on behind a message that it has given up.
            .set("message.timeout.ms", "0");
        config
    }

    /// A consumer whose place is set by us alone. Its group is never joined and nothing is committed to it.
    pub(super) fn consumer(&self) -> ClientConfig {
        let fetch = u64::from(self.message_bytes_max) + 65_536;
        let mut config = self.client();
        config
            .set("group.id", "autonomos-places-its-readers-itself")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("isolation.level", "read_uncommitted")
            .set("fetch.max.bytes", fetch.to_string())
            .set("receive.message.max.bytes", (fetch + 65_536).to_string())
            .set("fetch.message.max.bytes", (self.read_ahead_bytes / 2).max(65_536).to_string())
            .set("queued.max.messages.kbytes", (self.read_ahead_bytes / 1024).max(64).to_string())
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "100");
        config
    }
}

fn yes() -> bool {
    true
}
fn default_prefix() -> String {
    "autonomos.".into()
}
fn default_linger_ms() -> u32 {
    1
}
fn default_message_bytes_max() -> u32 {
    80 << 20
}
fn default_in_flight_bytes_max() -> u32 {
    64 << 20
}
fn default_read_ahead_bytes() -> u32 {
    8 << 20
}
fn default_delivery_timeout_ms() -> u32 {
    120_000
}
fn default_request_timeout_ms() -> u32 {
    30_000
}
fn default_idle_readers_max() -> usize {
    32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_all_that_has_to_be_said_and_what_is_not_known_is_refused() {
        let settings: Settings = serde_json::from_str(r#"{"brokers":"a:9092,b:9092"}"#).unwrap();
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::at("a:9092,b:9092")));
        assert!(serde_json::from_str::<Settings>(r#"{"brokers":"a:9092","brookers":"b"}"#).is_err());
        assert!(serde_json::from_str::<Settings>("{}").is_err());
    }

    #[test]
    fn a_limit_that_a_batch_may_not_fit_into_is_refused_before_anything_is_tried() {
        let refused = Settings { message_bytes_max: 8 << 20, ..Settings::at("a") }.check().unwrap_err().to_string();
        assert!(refused.contains("`message_bytes_max` is 8388608 and must be at least 69206016"), "{refused}");
        assert!(Settings { message_bytes_max: 66 << 20, ..Settings::at("a") }.check().is_ok());
        assert!(Settings::at("a").check().is_ok());
    }

    #[test]
    fn a_password_is_used_and_never_shown() {
        let text =
            r#"{"brokers":"a","tls":{},"sasl":{"mechanism":"SCRAM-SHA-512","username":"u","password":"canary"}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        let config = settings.client();
        assert_eq!(config.get("sasl.password"), Some("canary"));
        assert_eq!(config.get("security.protocol"), Some("SASL_SSL"));
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
