//! The types of connectors that there are.

use serde_json::Value;

use super::file::{self, FileConnection};
use super::schema::{Fault, check, with_secrets_kept, without_secrets};

/// A type of connector.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Its name, as a connection names it.
    pub name: &'static str,
    /// What it reads.
    pub title: &'static str,
    /// The JSON Schema of its settings.
    pub schema: Value,
}

/// Every type of connector.
pub fn all() -> Vec<Connector> {
    let title =
        "CSV, NDJSON, JSON, Parquet and Excel files, plain, gzip or zstd: a file, a glob or a folder, once or watched";
    vec![Connector { name: "file", title, schema: file::schema() }]
}

/// A connection's settings as they may be shown: without secrets, and nothing of a connector that is not known.
pub fn shown(connector: &str, settings: &Value) -> Value {
    let known = all().into_iter().find(|known| known.name == connector);
    known.map_or(Value::Null, |known| without_secrets(&known.schema, settings))
}

/// Settings that replace others, with the secrets that they leave out.
pub fn replacing(connector: &str, former: &Value, settings: Value) -> Value {
    match all().into_iter().find(|known| known.name == connector) {
        Some(known) => with_secrets_kept(&known.schema, former, settings),
        None => settings,
    }
}

/// Reads a connection's settings; every fault with its place.
pub fn read(connector: &str, settings: &Value) -> Result<FileConnection, Vec<Fault>> {
    let known = all();
    let Some(found) = known.iter().find(|known| known.name == connector) else {
        let names: Vec<_> = known.iter().map(|known| known.name).collect();
        return Err(vec![Fault::new("/connector", format!("there is no such connector: use {}", names.join(", ")))]);
    };
    let faults = check(&found.schema, settings, "/settings");
    if !faults.is_empty() {
        return Err(faults);
    }
    let connection: FileConnection =
        serde_json::from_value(settings.clone()).map_err(|e| vec![Fault::new("/settings", e.to_string())])?;
    let faults = connection.faults();
    if faults.is_empty() { Ok(connection) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(settings: Value) -> Vec<String> {
        read("file", &settings).err().unwrap_or_default().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn what_the_schema_lets_in_can_be_read() {
        let whole = json!({"watch": true, "streams": [{
            "stream": "deals", "files": ["*.csv"], "system": "salesforce", "key": "Id", "version": "none",
            "version_type": "time", "deleted": "gone=1", "mode": "append", "max_deletes": 3, "format": "csv",
            "delimiter": "tab", "quote": "'", "encoding": "utf-8", "sheet": "x"
        }]});
        let named: Vec<_> =
            whole["streams"][0].as_object().unwrap().keys().cloned().chain(["mapping".into()]).collect();
        let known = file::schema()["properties"]["streams"]["items"]["properties"].clone();
        assert!(known.as_object().unwrap().keys().all(|name| named.contains(name)), "the test names every setting");
        assert_eq!(pointers(whole), [""; 0]);
    }

    #[test]
    fn what_does_not_go_together_is_told_at_its_place() {
        let stream = |more: Value| {
            let mut stream = json!({"stream": "deals", "files": ["a.csv"], "system": "salesforce"});
            stream.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            stream
        };
        assert_eq!(pointers(json!({"streams": [stream(json!({"mapping": "x"}))]})), ["/settings/streams/0"]);
        assert_eq!(pointers(json!({"streams": [stream(json!({"stream": "a b"}))]})), ["/settings/streams/0/stream"]);
        let twice = json!({"streams": [stream(json!({})), stream(json!({}))]});
        assert_eq!(pointers(twice), ["/settings/streams/1/stream"]);
        let watched = json!({"watch": true, "streams": [stream(json!({"mode": "snapshot"}))]});
        assert_eq!(pointers(watched), ["/settings/streams/0/mode"]);
        assert_eq!(read("ftp", &json!({})).unwrap_err()[0].pointer, "/connector");
    }
}
