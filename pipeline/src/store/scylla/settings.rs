//! What has to be said about a ScyllaDB or Cassandra cluster before it can be the store.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::secret::Secret;

/// How to reach a cluster and how to use it. Everything but `nodes` has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Some nodes to begin with: `host:port`.
    pub nodes: Vec<String>,
    /// The keyspace that the tables lie in: a letter, then letters, digits and underscores, at most 48.
    #[serde(default = "default_keyspace")]
    pub keyspace: String,
    /// Makes the keyspace and brings its tables to what this build needs. Where it is off, that is done beforehand.
    #[serde(default = "yes")]
    pub migrate: bool,
    /// Replicas of every row in each data centre, where the keyspace is made.
    #[serde(default = "default_replication")]
    pub replication: u16,
    /// The data centre whose nodes are asked; writes that may be lost to another writer agree within it. All writers have
    /// to say the same.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// TLS; without it connections are in clear.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// A login; without it none is tried.
    #[serde(default)]
    pub login: Option<Login>,
    /// A connection that is not made for so long is given up. In milliseconds.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u32,
    /// A statement that is not answered for so long is given up. In milliseconds.
    #[serde(default = "default_request_timeout_ms")]
    pub request_timeout_ms: u32,
    /// What fails in passing is tried again for so long. In milliseconds.
    #[serde(default = "default_retry_for_ms")]
    pub retry_for_ms: u32,
}

/// TLS to the nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file of the authorities that are trusted.
    pub ca_file: PathBuf,
    /// A PEM file of our own certificate, where the nodes ask for one.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// A PEM file of its key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Whether a node's certificate has to name the IP address at which it is asked. Where it is off, whoever has any
    /// certificate of these authorities is taken for a node.
    #[serde(default = "yes")]
    pub check_addresses: bool,
}

impl Tls {
    /// With these authorities, everything else as it is by default.
    pub fn of(ca_file: impl Into<PathBuf>) -> Self {
        Self { ca_file: ca_file.into(), certificate_file: None, key_file: None, check_addresses: true }
    }
}

/// A login.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Who.
    pub username: String,
    /// With what.
    pub password: Secret,
}

impl Settings {
    /// A cluster with these nodes, everything else as it is by default.
    pub fn at(nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
            keyspace: default_keyspace(),
            migrate: true,
            replication: default_replication(),
            datacenter: None,
            tls: None,
            login: None,
            connect_timeout_ms: default_connect_timeout_ms(),
            request_timeout_ms: default_request_timeout_ms(),
            retry_for_ms: default_retry_for_ms(),
        }
    }

    /// For how long what fails in passing is tried again.
    pub(super) fn retry_for(&self) -> Duration {
        Duration::from_millis(self.retry_for_ms.into())
    }

    /// Whether the keyspace's name is one. It stands in statements as it is.
    pub(super) fn has_keyspace(&self) -> bool {
        let mut letters = self.keyspace.chars();
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        letters.next().is_some_and(|c| c.is_ascii_lowercase()) && letters.all(word) && self.keyspace.len() <= 48
    }
}

fn yes() -> bool {
    true
}
fn default_keyspace() -> String {
    "autonomos".into()
}
fn default_replication() -> u16 {
    3
}
fn default_connect_timeout_ms() -> u32 {
    10_000
}
fn default_request_timeout_ms() -> u32 {
    15_000
}
fn default_retry_for_ms() -> u32 {
    60_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_all_that_has_to_be_said_and_what_is_not_known_is_refused() {
        let settings: Settings = serde_json::from_str(r#"{"nodes":["a:9042"]}"#).unwrap();
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::at(["a:9042"])));
        assert!(serde_json::from_str::<Settings>(r#"{"nodes":["a"],"keyspaze":"b"}"#).is_err());
    }

    #[test]
    fn a_keyspace_is_a_plain_name() {
        for (name, good) in [("autonomos", true), ("a_1", true), ("", false), ("1a", false), ("a; drop", false)] {
            assert_eq!(Settings { keyspace: name.into(), ..Settings::at(["a"]) }.has_keyspace(), good, "{name:?}");
        }
    }
}
