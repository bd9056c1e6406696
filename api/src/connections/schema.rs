//! A JSON Schema as it is published, and the check of a value against it: one text says both what is allowed and what is
//! refused, and every fault names its place as a JSON pointer (RFC 6901).
//!
//! Of JSON Schema there is what settings need: `type`, `properties`, `required`, `additionalProperties: false`, `items`,
//! `minItems`, `maxItems`, `minLength`, `maxLength`, `minimum`, `maximum`, `enum`, and `writeOnly` for secrets: they are
//! stored, and never shown.

use serde_json::{Map, Value};

/// What is wrong at one place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: a JSON pointer; empty for the whole.
    pub pointer: String,
    /// What is wrong there, and what to do.
    pub detail: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Faults beyond these are not told.
const FAULTS_MAX: usize = 20;

/// Every fault of `value`, up to a bound, at places below `pointer`.
pub fn check(schema: &Value, value: &Value, pointer: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    visit(schema, value, pointer, &mut faults);
    faults.truncate(FAULTS_MAX);
    faults
}

fn visit(schema: &Value, value: &Value, at: &str, faults: &mut Vec<Fault>) {
    if faults.len() >= FAULTS_MAX {
        return;
    }
    let wanted = schema["type"].as_str().unwrap_or_default();
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => true,
    };
    if !fits {
        return faults.push(Fault::new(at, format!("this must be of the type {wanted}")));
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let names: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        return faults.push(Fault::new(at, format!("use one of {}", names.join(", "))));
    }
    match value {
        Value::Object(object) => visit_object(schema, object, at, faults),
        Value::Array(items) => {
            within(schema, items.len() as u64, "minItems", "maxItems", "entries", at, faults);
            for (number, item) in items.iter().enumerate() {
                visit(&schema["items"], item, &format!("{at}/{number}"), faults);
            }
        }
        Value::String(text) => {
            within(schema, text.chars().count() as u64, "minLength", "maxLength", "characters", at, faults);
        }
        Value::Number(number) => {
            let number = number.as_u64().unwrap_or_default();
            if value.as_i64().is_some_and(|n| n < 0) || is_outside(schema, number, "minimum", "maximum") {
                let (least, most) = (&schema["minimum"], &schema["maximum"]);
                faults.push(Fault::new(at, format!("this must lie between {least} and {most}")));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn visit_object(schema: &Value, object: &Map<String, Value>, at: &str, faults: &mut Vec<Fault>) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            faults.push(Fault::new(format!("{at}/{name}"), "this is missing"));
        }
    }
    for (name, value) in object {
        let place = format!("{at}/{}", escaped(name));
        match schema["properties"].get(name) {
            Some(schema) => visit(schema, value, &place, faults),
            None if schema["additionalProperties"] == Value::Bool(false) => {
                faults.push(Fault::new(place, "there is no such setting: leave it out"));
            }
            None => {}
        }
    }
}

/// A value as it may be shown: without its secrets.
pub fn without_secrets(schema: &Value, value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let shown = object.iter().filter(|(name, _)| !is_secret(&schema["properties"][name.as_str()]));
            let shown =
                shown.map(|(name, value)| (name.clone(), without_secrets(&schema["properties"][name.as_str()], value)));
            Value::Object(shown.collect())
        }
        Value::Array(items) => items.iter().map(|item| without_secrets(&schema["items"], item)).collect(),
        other => other.clone(),
    }
}

/// A value that replaces a former one: a secret that it leaves out stays, for nobody was shown it. Lists have no former
/// entries.
pub fn with_secrets_kept(schema: &Value, former: &Value, mut value: Value) -> Value {
    let (Value::Object(former), Value::Object(object)) = (former, &mut value) else { return value };
    for (name, old) in former {
        let schema = &schema["properties"][name.as_str()];
        match object.get_mut(name) {
            Some(new) => *new = with_secrets_kept(schema, old, new.take()),
            None if is_secret(schema) => _ = object.insert(name.clone(), old.clone()),
            None => {}
        }
    }
    value
}

fn is_secret(schema: &Value) -> bool {
    schema["writeOnly"] == true
}

fn within(schema: &Value, found: u64, least: &str, most: &str, what: &str, at: &str, faults: &mut Vec<Fault>) {
    if is_outside(schema, found, least, most) {
        let bound = |name: &str| schema[name].as_u64();
        let detail = match (bound(least), bound(most)) {
            (Some(least), Some(most)) => format!("this has {found} {what}: {least} to {most} are allowed"),
            (_, Some(most)) => format!("this has {found} {what}: at most {most} are allowed"),
            (least, None) => format!("this has {found} {what}: at least {} are needed", least.unwrap_or_default()),
        };
        faults.push(Fault::new(at, detail));
    }
}

fn is_outside(schema: &Value, found: u64, least: &str, most: &str) -> bool {
    schema[least].as_u64().is_some_and(|least| found < least) || schema[most].as_u64().is_some_and(|most| found > most)
}

/// A member's name within a pointer, shortened: it comes from outside.
fn escaped(name: &str) -> String {
    let name: String = name.chars().take(80).collect();
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_never_shown_and_stays_until_it_is_replaced() {
        let secret = json!({"type": "string", "writeOnly": true});
        let login = json!({"type": "object", "properties": {"user": {"type": "string"}, "password": secret}});
        let schema = json!({"type": "object", "properties": {
            "login": login, "token": secret, "more": {"type": "array", "items": login}
        }});
        let stored = json!({"login": {"user": "ada", "password": "p"}, "token": "t", "more": [{"password": "q"}]});
        let shown = without_secrets(&schema, &stored);
        assert_eq!(shown, json!({"login": {"user": "ada"}, "more": [{}]}));
        let kept = |value: Value| with_secrets_kept(&schema, &stored, value);
        assert_eq!(
            kept(json!({"login": {"user": "eve"}})),
            json!({"login": {"user": "eve", "password": "p"}, "token": "t"})
        );
        assert_eq!(kept(json!({"token": "new"}))["token"], "new");
        assert_eq!(kept(json!({"token": "", "more": [{}]}))["more"], json!([{}]), "lists have no former entries");
    }

    #[test]
    fn every_fault_names_its_place() {
        let text = json!({"type": "string", "minLength": 1, "maxLength": 3});
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["names"],
            "properties": {
                "names": {"type": "array", "minItems": 1, "items": text},
                "share": {"type": "integer", "minimum": 0, "maximum": 100},
                "mode": {"type": "string", "enum": ["a", "b"]},
            },
        });
        let faults =
            |value: Value| check(&schema, &value, "/settings").into_iter().map(|f| f.pointer).collect::<Vec<_>>();
        assert_eq!(faults(json!({"names": ["a"], "share": 100, "mode": "b"})), [""; 0]);
        assert_eq!(faults(json!(7)), ["/settings"]);
        assert_eq!(faults(json!({"a/b~": 1})), ["/settings/names", "/settings/a~1b~0"]);
        assert_eq!(faults(json!({"names": ["", "abcd", "ok", 7]})).len(), 3);
        assert_eq!(faults(json!({"names": []})), ["/settings/names"]);
        for bad in [json!(-1), json!(101), json!(1.5), json!("1")] {
            assert_eq!(faults(json!({"names": ["a"], "share": bad})), ["/settings/share"]);
        }
        assert_eq!(faults(json!({"names": ["a"], "mode": "c"})), ["/settings/mode"]);
        assert_eq!(faults(json!({"names": vec![""; 100]})).len(), FAULTS_MAX);
    }
}
