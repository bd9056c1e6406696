//! What the environment says of log, store and views. It counts more than the file, so that one file serves many processes
//! and passwords need not stand in it.

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::Sections;

/// A variable, and what it says.
struct Variable {
    name: &'static str,
    path: &'static [&'static str],
    is_list: bool,
}

const fn text(name: &'static str, path: &'static [&'static str]) -> Variable {
    Variable { name, path, is_list: false }
}

const KAFKA: [Variable; 6] = [
    text("AUTONOMOS_KAFKA_BROKERS", &["brokers"]),
    text("AUTONOMOS_KAFKA_TOPIC_PREFIX", &["topic_prefix"]),
    text("AUTONOMOS_KAFKA_CA_FILE", &["tls", "ca_file"]),
    text("AUTONOMOS_KAFKA_MECHANISM", &["sasl", "mechanism"]),
    text("AUTONOMOS_KAFKA_USERNAME", &["sasl", "username"]),
    text("AUTONOMOS_KAFKA_PASSWORD", &["sasl", "password"]),
];
const SCYLLA: [Variable; 6] = [
    Variable { name: "AUTONOMOS_SCYLLA_NODES", path: &["nodes"], is_list: true },
    text("AUTONOMOS_SCYLLA_KEYSPACE", &["keyspace"]),
    text("AUTONOMOS_SCYLLA_DATACENTER", &["datacenter"]),
    text("AUTONOMOS_SCYLLA_CA_FILE", &["tls", "ca_file"]),
    text("AUTONOMOS_SCYLLA_USERNAME", &["login", "username"]),
    text("AUTONOMOS_SCYLLA_PASSWORD", &["login", "password"]),
];
const VIEWS: [Variable; 5] = [
    text("AUTONOMOS_VIEWS_LOCATION", &["location"]),
    text("AUTONOMOS_VIEWS_ENDPOINT", &["endpoint"]),
    text("AUTONOMOS_VIEWS_REGION", &["region"]),
    text("AUTONOMOS_VIEWS_ACCESS_KEY", &["access_key"]),
    text("AUTONOMOS_VIEWS_SECRET_KEY", &["secret_key"]),
];
/// How a login at Kafka is proved, where only the environment names one.
const MECHANISM: &str = "SCRAM-SHA-512";

/// The sections with what the environment says of them.
pub(super) fn overlaid(sections: Sections, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Sections> {
    let mut log = overlay(sections.log, "kafka", &KAFKA, "AUTONOMOS_KAFKA_BROKERS", &variable)?;
    if let Some(sasl) = log.as_mut().and_then(|log| log.pointer_mut("/kafka/sasl")).and_then(Value::as_object_mut) {
        sasl.entry("mechanism").or_insert_with(|| json!(MECHANISM));
    }
    let store = overlay(sections.store, "scylla", &SCYLLA, "AUTONOMOS_SCYLLA_NODES", &variable)?;
    // The others name a backend first; here there is one alone.
    let views = sections.views.map(|views| json!({ "views": views }));
    let views = overlay(views, "views", &VIEWS, "AUTONOMOS_VIEWS_LOCATION", &variable)?;
    let views = views.and_then(|mut views| views.get_mut("views").map(Value::take));
    Ok(Sections { log, store, views })
}

/// A section with what the environment says of one of its backends. `first` alone makes it one of that backend.
fn overlay(
    section: Option<Value>,
    backend: &str,
    variables: &[Variable],
    first: &str,
    variable: &impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Value>> {
    let said: Vec<(&Variable, String)> =
        variables.iter().filter_map(|known| Some((known, variable(known.name).filter(|v| !v.is_empty())?))).collect();
    let Some((any, _)) = said.first() else { return Ok(section) };
    let mut section = match section {
        Some(section) if section.get(backend).is_some() => section,
        _ if said.iter().any(|(known, _)| known.name == first) => json!({ backend: {} }),
        _ => bail!("{} is set, and nothing names {backend}: set {first}, or name it in the configuration", any.name),
    };
    for (known, value) in said {
        let value: Value = match known.is_list {
            true => value.split(',').map(|one| json!(one.trim())).collect(),
            false => json!(value),
        };
        let path = [&[backend][..], known.path].concat();
        set(&mut section, &path, value);
    }
    Ok(Some(section))
}

/// Sets what lies at a path; whatever is no map on the way there is refused later, by what reads the section.
fn set(at: &mut Value, path: &[&str], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        *at = value;
        return;
    };
    if at.is_null() {
        *at = Value::Object(Map::new());
    }
    if let Some(map) = at.as_object_mut() {
        set(map.entry(*name).or_insert(Value::Null), rest, value);
    }
}
