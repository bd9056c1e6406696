//! Where log, store and views are: in the data folder, or where several processes share them.
//!
//! `environment` is what the environment says of it, `open` opens them, `patience` waits for servers that are away, `folder` keeps a
//! data folder to what it was made for.

mod environment;
mod folder;
mod open;
mod patience;

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use projections::view::place::{Located, Settings as ViewSettings};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use open::Opened;
pub use patience::Patience;

/// `log` in the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogBackend {
    /// In the data folder.
    #[default]
    Embedded,
    /// On Apache Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Box<pipeline::log::kafka::Settings>),
    /// On Apache Kafka, which this build knows nothing of.
    #[cfg(not(feature = "kafka"))]
    Kafka(serde::de::IgnoredAny),
}

/// `store` in the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreBackend {
    /// In the data folder.
    #[default]
    Embedded,
    /// On ScyllaDB or Apache Cassandra.
    #[cfg(feature = "scylla")]
    Scylla(Box<pipeline::store::scylla::Settings>),
    /// On ScyllaDB or Apache Cassandra, which this build knows nothing of.
    #[cfg(not(feature = "scylla"))]
    Scylla(serde::de::IgnoredAny),
}

/// Where everything is.
#[derive(Debug, Clone, Default)]
pub struct Backends {
    /// The log.
    pub log: LogBackend,
    /// The store.
    pub store: StoreBackend,
    /// The place of views, if one was named: then processes that share log and store share the tables there, too. Else each
    /// that answers has tables of its own, in its data folder.
    pub views: Option<ViewSettings>,
}

/// The sections as the file has them: what the environment says stands above.
#[derive(Debug, Default)]
pub struct Sections {
    /// `log`.
    pub log: Option<Value>,
    /// `store`.
    pub store: Option<Value>,
    /// `views`.
    pub views: Option<Value>,
}

impl Backends {
    /// From the sections of a file whose paths count from `base`, and from the environment.
    pub fn read(sections: Sections, base: &Path) -> anyhow::Result<Self> {
        Self::read_with(sections, base, |name| std::env::var(name).ok())
    }

    fn read_with(sections: Sections, base: &Path, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let Sections { log, store, views } = environment::overlaid(sections, variable)?;
        let (log, store, views) = (section("log", log)?, section("store", store)?, section("views", views)?);
        Self { log, store, views }.checked(base)
    }

    /// What a command on a folder finds in the folder's own configuration.
    pub fn of_folder(folder: &Path) -> anyhow::Result<Self> {
        crate::serve::config::backends(&folder.join("autonomos.yaml"))
    }

    /// Whether all is in the data folder.
    pub fn are_embedded(&self) -> bool {
        matches!((&self.log, &self.store), (LogBackend::Embedded, StoreBackend::Embedded))
    }

    /// Whether several processes may share the work.
    pub fn are_shared(&self) -> bool {
        matches!((&self.log, &self.store), (LogBackend::Kafka(_), StoreBackend::Scylla(_)))
    }

    /// Log and store in words, without passwords.
    pub fn told(&self) -> String {
        let log = match self.log {
            LogBackend::Embedded => "embedded",
            LogBackend::Kafka(_) => "Kafka",
        };
        let store = match self.store {
            StoreBackend::Embedded => "embedded",
            StoreBackend::Scylla(_) => "ScyllaDB or Cassandra",
        };
        format!("log: {log}, store: {store}")
    }

    fn checked(mut self, base: &Path) -> anyhow::Result<Self> {
        self.check_build()?;
        if let (LogBackend::Embedded, StoreBackend::Scylla(_)) = (&self.log, &self.store) {
            bail!(
                "store: scylla goes with log: kafka alone: rows that outlive a power cut would speak of records of an \
                 embedded log that do not"
            );
        }
        self.check_settings(base)?;
        Ok(self)
    }

    fn check_build(&self) -> anyhow::Result<()> {
        let lacks = |what: &str, feature: &str| {
            format!(
                "this build has no {what}: build it with `cargo build --release -p api --features {feature}`, which are on \
                 unless a build leaves them out, or leave the section out"
            )
        };
        if !cfg!(feature = "kafka") && matches!(self.log, LogBackend::Kafka(_)) {
            bail!("log: {}", lacks("Kafka", "kafka,scylla"));
        }
        if !cfg!(feature = "scylla") && matches!(self.store, StoreBackend::Scylla(_)) {
            bail!("store: {}", lacks("ScyllaDB", "kafka,scylla"));
        }
        Ok(())
    }

    /// Checks what can be checked without asking anybody, and has files count from `base`.
    fn check_settings(&mut self, base: &Path) -> anyhow::Result<()> {
        #[cfg(feature = "kafka")]
        if let LogBackend::Kafka(settings) = &mut self.log {
            if settings.brokers.trim().is_empty() {
                bail!("log: kafka: name some brokers, as host:9092, separated by commas");
            }
            if let Some(tls) = &mut settings.tls {
                for file in [&mut tls.ca_file, &mut tls.certificate_file, &mut tls.key_file].into_iter().flatten() {
                    *file = base.join(&*file);
                }
                if tls.certificate_file.is_some() != tls.key_file.is_some() {
                    bail!("log: kafka: tls: say certificate_file and key_file, or neither");
                }
            }
        }
        #[cfg(feature = "scylla")]
        if let StoreBackend::Scylla(settings) = &mut self.store {
            if settings.nodes.is_empty() || settings.nodes.iter().any(|node| node.trim().is_empty()) {
                bail!("store: scylla: name some nodes, as a list of host:9042");
            }
            if let Some(tls) = &mut settings.tls {
                tls.ca_file = base.join(&tls.ca_file);
                for file in [&mut tls.certificate_file, &mut tls.key_file].into_iter().flatten() {
                    *file = base.join(&*file);
                }
                if tls.certificate_file.is_some() != tls.key_file.is_some() {
                    bail!("store: scylla: tls: say certificate_file and key_file, or neither");
                }
            }
        }
        if let Some(views) = &mut self.views {
            let folder = match views.located().context("views")? {
                Located::Folder(folder) => Some(base.join(folder)),
                Located::Bucket { .. } => None,
            };
            if let Some(folder) = folder {
                views.location = folder.display().to_string();
            }
        }
        Ok(())
    }
}

fn section<T: Default + for<'de> Deserialize<'de>>(name: &str, value: Option<Value>) -> anyhow::Result<T> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(T::default()) };
    let read = serde_json::from_value::<T>(value).map_err(|error| anyhow!(without_value(&error.to_string())));
    read.with_context(|| name.to_owned())
}

/// What is wrong, without the value that was found: it may be a password in another place than its own.
fn without_value(error: &str) -> String {
    let is_of_value = error.starts_with("invalid type: ") || error.starts_with("invalid value: ");
    match (error.find(['`', '"']), error.rfind(", expected ")) {
        (Some(value), Some(expected)) if is_of_value && value < expected => {
            format!("{}{}", error[..value].trim_end(), &error[expected..])
        }
        _ => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str, store: &str, environment: &[(&str, &str)]) -> Result<Backends, String> {
        read_all([log, store, ""], environment)
    }

    fn read_all(sections: [&str; 3], environment: &[(&str, &str)]) -> Result<Backends, String> {
        let parse = |text: &str| (!text.is_empty()).then(|| serde_saphyr::from_str::<Value>(text).unwrap());
        let [log, store, views] = sections.map(parse);
        let sections = Sections { log, store, views };
        let said = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        Backends::read_with(sections, Path::new("/etc/autonomos"), said).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn nothing_said_is_all_in_the_folder_and_so_is_embedded() {
        for (log, store) in [("", ""), ("embedded", ""), ("embedded", "embedded")] {
            let backends = read(log, store, &[]).unwrap();
            assert!(!backends.are_shared());
            assert_eq!(backends.told(), "log: embedded, store: embedded");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name() {
        let refused = read("{kafka: {brokers: a}, more: 1}", "", &[]).unwrap_err();
        assert!(refused.starts_with("log"), "{refused}");
        let refused = read("pulsar", "", &[]).unwrap_err();
        assert!(refused.contains("pulsar") && refused.contains("kafka"), "{refused}");
    }

    #[test]
    fn a_place_of_views_is_a_folder_that_counts_from_the_file_or_a_bucket_and_nothing_else() {
        let views = |text: &str, environment: &[(&str, &str)]| read_all(["", "", text], environment);
        assert!(views("", &[]).unwrap().views.is_none());
        let folder = views("location: elsewhere", &[]).unwrap().views.unwrap();
        assert_eq!(folder.location, "/etc/autonomos/elsewhere");
        let text = "{location: s3://lake/acme, endpoint: \"https://minio:9000\", access_key: a, secret_key: canary}";
        let bucket = views(text, &[("AUTONOMOS_VIEWS_REGION", "eu-central-1")]).unwrap().views.unwrap();
        assert_eq!((&*bucket.location, bucket.region.as_deref()), ("s3://lake/acme", Some("eu-central-1")));
        assert!(!format!("{bucket:?}").contains("canary"));
        let alone = views("", &[("AUTONOMOS_VIEWS_LOCATION", "s3://lake/acme")]).unwrap().views.unwrap();
        assert_eq!(alone.location, "s3://lake/acme");
        for (wrong, said) in [
            ("bucket: lake", "bucket"),
            ("endpoint: \"https://minio:9000\"", "location"),
            ("location: gs://lake", "gs://lake"),
            ("{location: s3://lake/acme, access_key: a}", "secret_key"),
        ] {
            let refused = views(wrong, &[]).unwrap_err();
            assert!(refused.starts_with("views") && refused.contains(said), "{wrong}: {refused}");
        }
        let refused = views("", &[("AUTONOMOS_VIEWS_SECRET_KEY", "canary")]).unwrap_err();
        assert!(refused.contains("AUTONOMOS_VIEWS_LOCATION") && !refused.contains("canary"), "{refused}");
    }

    #[test]
    fn a_secret_that_is_no_text_or_stands_in_another_place_is_refused_and_not_shown() {
        for (views, said) in [
            ("{location: s3://lake/acme, access_key: a, secret_key: 12345678}", "put it in quotes"),
            ("{location: s3://lake/acme, request_timeout_ms: \"12345678, expected `x`\"}", "string, expected u32"),
            ("12345678", "integer, expected struct Settings"),
        ] {
            let refused = read_all(["", "", views], &[]).unwrap_err();
            assert!(refused.starts_with("views: ") && refused.ends_with(said), "{views}: {refused}");
            assert!(!refused.contains("1234"), "{refused}");
        }
    }

    #[cfg(all(feature = "kafka", feature = "scylla"))]
    #[test]
    fn a_login_that_is_wrong_is_refused_without_its_password() {
        for (log, store) in [
            ("kafka: {brokers: a, sasl: {mechanism: PLAIN, username: u, password: 12345678}}", ""),
            ("kafka: {brokers: a, sasl: hunter12345678}", ""),
            ("kafka: {brokers: a, tls: {key_password: 12345678}}", ""),
            ("kafka: {brokers: a}", "scylla: {nodes: [a], login: {username: u, password: 12345678}}"),
            ("kafka: {brokers: a}", "scylla: {nodes: [a], login: 12345678}"),
        ] {
            let refused = read(log, store, &[]).unwrap_err();
            assert!(refused.starts_with("log: ") || refused.starts_with("store: "), "{refused}");
            assert!(!refused.contains("1234"), "{refused}");
        }
    }

    #[cfg(not(feature = "kafka"))]
    #[test]
    fn a_build_without_a_backend_says_how_to_build_it() {
        for (log, environment) in [("kafka: {brokers: a}", &[][..]), ("", &[("AUTONOMOS_KAFKA_BROKERS", "a:9092")][..])]
        {
            let refused = read(log, "", environment).unwrap_err();
            assert!(refused.contains("--features kafka,scylla"), "{refused}");
        }
    }

    #[cfg(not(feature = "scylla"))]
    #[test]
    fn a_build_without_the_store_says_how_to_build_it() {
        let refused = read("", "scylla: {nodes: [a]}", &[]).unwrap_err();
        assert!(refused.contains("store: this build has no ScyllaDB"), "{refused}");
    }

    #[cfg(all(feature = "kafka", feature = "scylla"))]
    #[test]
    fn servers_are_read_with_their_settings_and_what_cannot_be_is_refused() {
        let backends = read(
            "kafka: {brokers: \"a:9092,b:9092\", topic_prefix: x., replication: 3, tls: {ca_file: ca.pem}}",
            "scylla: {nodes: [\"c:9042\"], keyspace: k, tls: {ca_file: store.pem}}",
            &[],
        );
        let backends = backends.unwrap();
        assert!(backends.are_shared());
        let LogBackend::Kafka(kafka) = &backends.log else { panic!("{backends:?}") };
        assert_eq!((&*kafka.topic_prefix, kafka.replication), ("x.", 3));
        assert_eq!(kafka.tls.clone().unwrap().ca_file.unwrap(), Path::new("/etc/autonomos/ca.pem"));
        let StoreBackend::Scylla(scylla) = &backends.store else { panic!("{backends:?}") };
        let tls = scylla.tls.clone().unwrap();
        assert_eq!((&*tls.ca_file, tls.check_addresses), (Path::new("/etc/autonomos/store.pem"), true));
        for (log, store, wrong) in [
            ("kafka: {brookers: a}", "", "brookers"),
            ("kafka: {brokers: \" \"}", "", "name some brokers"),
            ("kafka: {brokers: a, tls: {key_file: k}}", "", "certificate_file and key_file"),
            ("", "scylla: {nodes: [a]}", "goes with log: kafka alone"),
            ("kafka: {brokers: a}", "scylla: {nodes: []}", "name some nodes"),
            ("kafka: {brokers: a}", "scylla: {nodes: [a], tls: {}}", "ca_file"),
            (
                "kafka: {brokers: a}",
                "scylla: {nodes: [a], tls: {ca_file: c, key_file: k}}",
                "certificate_file and key_file",
            ),
            ("kafka: {brokers: a, sasl: {mechanism: GSSAPI, username: u, password: p}}", "", "GSSAPI"),
        ] {
            let refused = read(log, store, &[]).unwrap_err();
            assert!(refused.contains(wrong), "{log} {store}: {refused}");
        }
    }

    #[cfg(all(feature = "kafka", feature = "scylla"))]
    #[test]
    fn the_environment_counts_more_than_the_file_and_its_passwords_are_not_shown() {
        let environment = [
            ("AUTONOMOS_KAFKA_BROKERS", "b:9092"),
            ("AUTONOMOS_KAFKA_USERNAME", "u"),
            ("AUTONOMOS_KAFKA_PASSWORD", "canary"),
            ("AUTONOMOS_SCYLLA_NODES", "c:9042, d:9042"),
            ("AUTONOMOS_SCYLLA_CA_FILE", "/run/ca.pem"),
        ];
        let backends = read("kafka: {brokers: a, topic_prefix: x.}", "", &environment).unwrap();
        let (LogBackend::Kafka(kafka), StoreBackend::Scylla(scylla)) = (&backends.log, &backends.store) else {
            panic!("{backends:?}")
        };
        assert_eq!((&*kafka.brokers, &*kafka.topic_prefix), ("b:9092", "x."));
        assert_eq!(scylla.nodes, ["c:9042", "d:9042"]);
        assert_eq!(scylla.tls.as_ref().map(|tls| &*tls.ca_file), Some(Path::new("/run/ca.pem")));
        assert_eq!(kafka.sasl.as_ref().map(|sasl| &*sasl.username), Some("u"));
        assert!(!format!("{backends:?}").contains("canary"));
        let refused = read("", "", &[("AUTONOMOS_SCYLLA_PASSWORD", "canary")]).unwrap_err();
        assert!(refused.contains("AUTONOMOS_SCYLLA_PASSWORD") && !refused.contains("canary"), "{refused}");
    }
}
