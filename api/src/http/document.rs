//! The OpenAPI document, its schemas closed: an answer with a member that the document does not name is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipeline::repair::{Deed, Status};
use poem::Response;
use schemas::reason::Reason;
use serde_json::{Value, json};

use super::public;

/// Closes every object of the document that lists its members and does not say what else may stand there.
pub fn closed(document: &str) -> String {
    let mut document: Value = match serde_json::from_str(document) {
        Ok(document) => document,
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document cannot be read; it is given as it is");
            return document.to_owned();
        }
    };
    if let Some(schemas) = document.pointer_mut("/components/schemas") {
        close(schemas);
    }
    name_other_paths(&mut document);
    guard_streams(&mut document);
    name_values(&mut document);
    let text = document.to_string();
    // The generator names a charset that JSON has none of, and clients look a media type up by its name.
    text.replace("\"application/json; charset=utf-8\"", "\"application/json\"")
}

/// Says of texts that are words of a list what these are, so that a client can tell them apart.
fn name_values(document: &mut Value) {
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let stages: Vec<Value> = Reason::ALL.iter().map(|reason| json!(reason.stage())).collect();
    let stages: Vec<&str> = stages.iter().filter_map(Value::as_str).collect();
    for (schema, member, words) in [
        ("CaseInfo", "status", Status::ALL.map(Status::name).as_slice()),
        ("DecidedInfo", "status", Deed::ALL.map(Deed::name).as_slice()),
        ("QuarantinedRecord", "reason", &reasons),
        ("QuarantinedRecord", "stage", &stages),
        ("SessionBegun", "token_type", &["bearer"]),
    ] {
        let words: BTreeSet<&str> = words.iter().copied().collect();
        if let Some(member) = document.pointer_mut(&format!("/components/schemas/{schema}/properties/{member}")) {
            member["enum"] = json!(words);
        }
    }
}

/// Names the paths that the document's generator does not know.
fn name_other_paths(document: &mut Value) {
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return };
    if let Some(socket) = paths.get("/api/v1/events/stream").and_then(|path| path.get("get")).cloned().map(socket) {
        paths.insert("/api/v1/events/ws".into(), json!({ "get": socket }));
    }
    let metrics = metrics(paths.get("/readyz").map_or(&Value::Null, |path| &path["get"]["responses"]));
    paths.insert("/metrics".into(), json!({ "get": metrics }));
}

/// The operation of the socket, which shows what the stream does.
fn socket(mut stream: Value) -> Value {
    stream["operationId"] = json!("watch_events_by_socket");
    stream["summary"] = json!("Watch the line over a WebSocket. Each message is an object of id, event and data.");
    if let Some(parameters) = stream.get_mut("parameters").and_then(Value::as_array_mut) {
        // It is closed by whoever opened it, and a browser sends no headers of its own with it.
        parameters.retain(|parameter| parameter["in"] == "query" && parameter["name"] != "seconds");
    }
    if let Some(responses) = stream.get_mut("responses").and_then(Value::as_object_mut) {
        responses.remove("200");
        responses.insert("101".into(), json!({ "description": "It is a WebSocket from here on" }));
    }
    stream
}

/// The operation of the metrics; the problems are told as those of another operation's `responses`.
fn metrics(responses: &Value) -> Value {
    let text = json!({ "text/plain; charset=utf-8": { "schema": { "type": "string" } } });
    json!({
        "tags": ["Operations"],
        "summary": "Metrics in Prometheus text format, on loopback or with the operator's token.",
        "operationId": "metrics",
        "responses": {
            "200": { "description": "The metrics", "content": text },
            "401": responses["401"],
            "503": responses["503"],
        },
    })
}

/// A stream takes a credential or a ticket, which no scheme of the document's generator expresses.
fn guard_streams(document: &mut Value) {
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return };
    for (_, operations) in paths.iter_mut().filter(|(path, _)| public::takes_ticket(path)) {
        for operation in operations.as_object_mut().into_iter().flat_map(|o| o.values_mut()) {
            operation["security"] = json!([{ "Signed": [] }]);
        }
    }
}

fn close(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object.get("type") == Some(&json!("object"))
                && object.contains_key("properties")
                && !object.contains_key("additionalProperties")
            {
                object.insert("additionalProperties".into(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The document as an answer.
pub fn response(document: &Arc<String>) -> Response {
    Response::builder().content_type("application/json").body(document.as_str().to_owned())
}
