//! The OpenAPI document, its schemas closed: an answer with a member that the document does not name is wrong.

use std::sync::Arc;

use poem::Response;
use serde_json::{Value, json};

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
    document.to_string()
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
