//! The servers that log and store are on and the place of views, asked without the data folder, and with no topic and no
//! keyspace made; and who works on what.

use std::collections::BTreeSet;

use pipeline::Store;
use pipeline::lease::{Peers, list};
use projections::view::place::Settings as ViewSettings;
use projections::view::{Access, Place, PlaceError};

use super::Findings;
use crate::backends::Backends;
#[cfg(feature = "kafka")]
use crate::backends::LogBackend;
#[cfg(feature = "scylla")]
use crate::backends::StoreBackend;
use crate::roles::RoleName;

/// Checks the servers that a configuration names: that they answer and take the login, and that what the line needs there is
/// as it has to be. Answers whether all that is there and can be opened, which it may be with much that is to be mended.
pub(super) async fn check(backends: &Backends, findings: &mut Findings) -> bool {
    findings.ok("configuration", backends.told());
    let mut is_there = true;
    #[cfg(feature = "kafka")]
    if let LogBackend::Kafka(settings) = &backends.log {
        is_there &= kafka(settings, findings).await;
    }
    #[cfg(feature = "scylla")]
    if let StoreBackend::Scylla(settings) = &backends.store {
        let roles: Vec<_> = RoleName::shared(backends.views.is_some()).into_iter().map(|(role, _)| role).collect();
        is_there &= scylla(settings, &roles, findings).await;
    }
    if let Some(settings) = &backends.views {
        is_there &= views(settings, backends.are_shared(), findings).await;
    }
    is_there
}

/// The place of views; where processes share it, a login that only reads will do for those that answer.
async fn views(settings: &ViewSettings, are_shared: bool, findings: &mut Findings) -> bool {
    const CHECK: &str = "place of views";
    let mend = "mend views in the configuration, or what the finding names, then start again";
    let place = match Place::of(settings) {
        Ok(place) => place,
        Err(error) => {
            findings.failed(CHECK, error.to_string(), mend);
            return false;
        }
    };
    let url = place.url();
    match place.check(Access::Write).await {
        Ok(()) => findings.ok(CHECK, format!("{url} can be read and written, and takes an object once")),
        Err(PlaceError::ReadOnly { .. }) if are_shared => {
            findings.ok(CHECK, format!("{url} can be read; with this login no process can have the role project"));
        }
        Err(error) => {
            findings.failed(CHECK, error.to_string(), mend);
            return false;
        }
    }
    true
}

#[cfg(feature = "kafka")]
async fn kafka(settings: &pipeline::log::kafka::Settings, findings: &mut Findings) -> bool {
    use pipeline::log::kafka::OpenError;
    use pipeline::{KafkaLog, Log};
    use schemas::Topic;

    let asked = pipeline::log::kafka::Settings { create_topics: false, begin_topics: false, ..settings.clone() };
    let log = match KafkaLog::open(asked).await {
        Ok(log) => log,
        Err(OpenError::MissingTopic { topic, .. }) if settings.create_topics => {
            findings.ok("kafka", format!("it answers; topic {topic} is not there yet and is made at the next start"));
            return false;
        }
        Err(OpenError::NotBegun { topic }) => {
            findings.ok("kafka", format!("it answers; topic {topic} is there, and begins at the next start"));
            return false;
        }
        Err(error) => {
            let what_to_do = match &error {
                OpenError::Unreachable { .. } => "start Kafka, or mend log: kafka: brokers and tls",
                OpenError::Login { .. } => "mend log: kafka: sasl, or the user at the brokers",
                OpenError::Forbidden { .. } => "have the broker's operator allow it",
                OpenError::NewerFormat { .. } => "use a newer autonomos",
                OpenError::Settings(_) | OpenError::Partitions(_) => "mend log: kafka in the configuration",
                OpenError::MissingTopic { .. }
                | OpenError::NotBegun { .. }
                | OpenError::Create { .. }
                | OpenError::TooFewPartitions { .. }
                | OpenError::TopicSettings { .. }
                | OpenError::Shortened { .. }
                | OpenError::NotOurs { .. } => "do what the finding says, then start again",
                OpenError::NotReady(_) => "start the brokers that are away, or see their logs",
                OpenError::Failed(_) => "see the broker's log",
            };
            findings.failed("kafka", error.to_string(), what_to_do);
            return false;
        }
    };
    for topic in Topic::ALL {
        let (check, counts) = (format!("kafka {topic}"), log.partitions(topic));
        let pipeline::log::kafka::Replication { replicas, min_insync } = log.replication(topic);
        let told = format!("{counts} partitions, epoch {}, {replicas} replicas", log.epoch(topic));
        match min_insync {
            None => findings.ok(&check, format!("{told}; min.insync.replicas may not be asked for")),
            Some(least) if replicas <= 1 => findings.failed(
                &check,
                format!("{told}, min.insync.replicas {least}: a disk that is lost takes acknowledged records with it"),
                "give the topic 3 replicas (kafka-reassign-partitions.sh), unless this is for trying out",
            ),
            Some(least) if least <= 1 => findings.failed(
                &check,
                format!("{told}, min.insync.replicas {least}: a record is acknowledged by one broker alone"),
                "kafka-configs.sh --alter --entity-type topics --add-config min.insync.replicas=2",
            ),
            Some(least) if least >= replicas => findings.failed(
                &check,
                format!("{told}, min.insync.replicas {least}: no broker may be away"),
                "give the topic more replicas, or lower min.insync.replicas",
            ),
            Some(least) => {
                let spare = least - 1;
                findings.ok(&check, format!("{told}, {least} of which have a record when it is acknowledged: it survives the loss of {spare}"));
            }
        }
    }
    true
}

#[cfg(feature = "scylla")]
async fn scylla(settings: &pipeline::store::scylla::Settings, roles: &[RoleName], findings: &mut Findings) -> bool {
    use pipeline::ScyllaStore;
    use pipeline::store::scylla::OpenError;

    let asked = pipeline::store::scylla::Settings { migrate: false, ..settings.clone() };
    let keyspace = &settings.keyspace;
    match ScyllaStore::open(asked).await {
        Ok(store) => {
            findings.ok("store", format!("it answers, and keyspace {keyspace} has the schema of this build"));
            match list(&store).await {
                Ok(peers) => workers(&peers, roles, findings),
                Err(error) => findings.failed("processes", error.to_string(), "see the nodes' logs"),
            }
        }
        Err(OpenError::MissingKeyspace { .. } | OpenError::OlderSchema { .. }) if settings.migrate => {
            findings.ok("store", format!("it answers; keyspace {keyspace} is made or migrated at the next start"));
            return false;
        }
        Err(error) => {
            let what_to_do = match &error {
                OpenError::Unreachable { .. } => "start the nodes, or mend store: scylla: nodes and tls",
                OpenError::Login { .. } => "mend store: scylla: login, or the user at the nodes",
                OpenError::Tls(_) => "mend store: scylla: tls, or the certificates of the nodes",
                OpenError::Settings(_) => "mend store: scylla in the configuration",
                OpenError::NewerSchema { .. } => "use a newer autonomos",
                OpenError::MissingKeyspace { .. } | OpenError::OlderSchema { .. } | OpenError::Migrate { .. } => {
                    "do what the finding says, then start again"
                }
                OpenError::NotReady(_) => "start the nodes that are away, or see their logs",
                OpenError::Failed(_) => "see the nodes' logs",
            };
            findings.failed("store", error.to_string(), what_to_do);
            return false;
        }
    }
    true
}

/// Who works on what, where processes share these roles.
pub(super) async fn shares(store: &dyn Store, roles: &[RoleName], findings: &mut Findings) -> anyhow::Result<()> {
    workers(&list(store).await?, roles, findings);
    Ok(())
}

fn workers(peers: &Peers, roles: &[RoleName], findings: &mut Findings) {
    let names: Vec<String> =
        peers.nodes.values().map(|node| format!("{} ({})", node.name, node.roles.join(","))).collect();
    findings.ok("processes", format!("{} share the work: {}", names.len(), names.join("; ")));
    for node in peers.nodes.values() {
        if let Some(why) = &node.stall {
            let check = format!("process {}", node.name);
            findings.failed(&check, why.clone(), "see what it names and that process's log; it tries again by itself");
        }
    }
    let known: BTreeSet<&str> = peers.leases.keys().map(|share| share.role.as_str()).collect();
    for role in known.into_iter().chain(roles.iter().map(|role| role.name())).collect::<BTreeSet<_>>() {
        let of_role: Vec<_> = peers.leases.keys().filter(|share| share.role == role).collect();
        let alone: Vec<String> = of_role
            .iter()
            .filter(|share| peers.owner(share).is_none())
            .map(|share| share.partition.to_string())
            .collect();
        let check = format!("role {role}");
        let start = format!("start a process with `autonomos serve --roles {role}`");
        let without = of_role.iter().filter(|share| peers.owner(share).is_none());
        let failed: BTreeSet<&str> =
            without.flat_map(|share| peers.failed_at(share)).map(|node| node.name.as_str()).collect();
        let failed: Vec<&str> = failed.into_iter().collect();
        match (of_role.is_empty(), alone.is_empty()) {
            (true, _) => findings.failed(&check, "nobody has ever worked on it", &start),
            (false, false) => {
                let what = format!("nobody works on partitions {}", alone.join(", "));
                let what_to_do = match &failed[..] {
                    [] => start,
                    _ => format!(
                        "{} failed there and will try again: see that log output, or {start}",
                        failed.join(", ")
                    ),
                };
                findings.failed(&check, what, &what_to_do);
            }
            (false, true) => findings.ok(&check, format!("every one of {} partitions is worked on", of_role.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline::lease::{Lease, NodeRow, Share};

    use super::*;

    #[test]
    fn partitions_that_nobody_works_on_are_named_with_what_to_do() {
        let mut peers = Peers::default();
        let stall = Some("processor of partition 0 of process: the store cannot be reached".to_owned());
        let roles = vec!["process".into()];
        let node = NodeRow { name: "a:1".into(), roles, stall, failed: vec!["repair/00000".into()], version: 3 };
        peers.nodes.insert("id".into(), node);
        for (partition, owner) in [(0, Some("id")), (1, Some("gone")), (2, None)] {
            let share = Share { role: "process".into(), partition };
            let lease = Lease { owner: owner.map(Into::into), name: "a:1".into(), token: 1, version: 1 };
            peers.leases.insert(share, lease);
        }
        let mut findings = Findings::default();
        workers(&peers, &[RoleName::Process, RoleName::Repair], &mut findings);
        let share = Share { role: "repair".into(), partition: 0 };
        peers.leases.insert(share, Lease { owner: None, name: "a:1".into(), token: 1, version: 1 });
        let mut later = Findings::default();
        workers(&peers, &[RoleName::Process, RoleName::Repair], &mut later);
        let told = format!("{:?}", later.rows[3]);
        assert!(told.contains("a:1 failed there") && told.contains("--roles repair"), "{told}");
        let rows: Vec<String> = findings.rows.iter().map(|row| format!("{row:?}")).collect();
        assert_eq!(findings.failed, 3, "{rows:?}");
        assert!(rows[1].contains("process a:1") && rows[1].contains("cannot be reached"), "{}", rows[1]);
        assert!(rows[2].contains("partitions 1, 2") && rows[2].contains("--roles process"), "{}", rows[2]);
        assert!(rows[3].contains("role repair") && rows[3].contains("nobody has ever"), "{}", rows[3]);
    }

    #[tokio::test]
    async fn what_is_embedded_has_no_servers_to_ask() {
        let mut findings = Findings::default();
        assert!(check(&Backends::default(), &mut findings).await);
        assert_eq!((findings.rows.len(), findings.failed), (1, 0));
    }

    #[tokio::test]
    async fn a_place_of_views_is_asked_and_one_that_cannot_be_used_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let check_at = async |location: String| {
            let mut findings = Findings::default();
            let views = Some(ViewSettings::at(location));
            let is_there = check(&Backends { views, ..Backends::default() }, &mut findings).await;
            assert_eq!(is_there, findings.failed == 0);
            (findings.failed, format!("{:?}", findings.rows[1]))
        };
        let (failed, told) = check_at(folder.path().join("views").display().to_string()).await;
        assert!(failed == 0 && told.contains("takes an object once"), "{told}");
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (failed, told) = check_at(file.display().to_string()).await;
        assert!(failed == 1 && told.contains("cannot be used") && told.contains("mend views"), "{told}");
    }
}
