//! MongoDB Extended JSON: an object that only says the type of the value within.

use std::borrow::Cow;

use schemas::shape::SlotKind;
use schemas::time;
use serde_json::Value;

use super::cast::Token;

/// A longer object wraps no single value that a field could take.
const WRAPPED_BYTES_MAX: usize = 64 << 10;

/// The value that `object` wraps; nothing when it is an object of its own.
pub(super) fn unwrap(object: &str) -> Option<Token<'static>> {
    if object.len() > WRAPPED_BYTES_MAX {
        return None;
    }
    let Value::Object(members) = serde_json::from_str(object).ok()? else { return None };
    let mut members = members.into_iter();
    let (Some((name, value)), None) = (members.next(), members.next()) else { return None };
    let token = |kind, text: String| Some(Token { kind, text: Cow::Owned(text) });
    match (name.as_str(), value) {
        ("$oid" | "$uuid" | "$symbol", Value::String(text)) => token(SlotKind::Text, text),
        ("$numberInt" | "$numberLong" | "$numberDouble" | "$numberDecimal", Value::String(text)) => {
            token(SlotKind::Number, text)
        }
        ("$date", Value::String(text)) => token(SlotKind::Text, text),
        ("$date", Value::Number(millis)) => token(SlotKind::Text, written(&millis.to_string())?),
        ("$date", Value::Object(millis)) => match millis.get("$numberLong") {
            Some(Value::String(millis)) if millis.len() < 20 => token(SlotKind::Text, written(millis)?),
            _ => None,
        },
        _ => None,
    }
}

/// Milliseconds since 1970 as a time is written.
fn written(millis: &str) -> Option<String> {
    let micros = millis.parse::<i64>().ok()?.checked_mul(1000)?;
    (time::MIN_TIMESTAMP..=time::MAX_TIMESTAMP).contains(&micros).then(|| time::format_timestamp(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unwrapped_and_objects_stay_objects() {
        let cases = [
            (r#"{"$oid":"507f1f77bcf86cd799439011"}"#, Some((SlotKind::Text, "507f1f77bcf86cd799439011"))),
            (r#"{"$date":"2024-10-20T14:30:00Z"}"#, Some((SlotKind::Text, "2024-10-20T14:30:00Z"))),
            (r#"{"$date":{"$numberLong":"1729434600000"}}"#, Some((SlotKind::Text, "2024-10-20T14:30:00Z"))),
            (r#"{ "$date" : 1729434600000 }"#, Some((SlotKind::Text, "2024-10-20T14:30:00Z"))),
            (r#"{"$numberInt":"-3"}"#, Some((SlotKind::Number, "-3"))),
            (r#"{"$numberDecimal":"12.3400"}"#, Some((SlotKind::Number, "12.3400"))),
            (r#"{"$date":{"$numberLong":"9223372036854775807"}}"#, None),
            (r#"{"$oid":"1","x":2}"#, None),
            (r#"{"city":"Rome"}"#, None),
            (r#"["$oid"]"#, None),
            ("{}", None),
        ];
        for (object, expected) in cases {
            let token = unwrap(object);
            assert_eq!(token.as_ref().map(|t| (t.kind, &*t.text)), expected, "{object}");
        }
    }
}
