//! The OpenAPI document, its schemas closed: an answer with a member that the document does not name is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipeline::repair::Status;
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
        ("DecidedInfo", "status", Status::ALL.map(Status::name).as_slice()),
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
