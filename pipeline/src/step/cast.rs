//! From a source's text to a canonical value: without loss, or not at all.

use std::borrow::Cow;

use schemas::decimal;
use schemas::mapping::{Case, Rule};
use schemas::shape::SlotKind;
use schemas::time;
use schemas::value::{FieldType, Value};

use super::rules::FieldRule;

/// A value of the payload: what kind of token it was, and its text.
#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    pub(super) kind: SlotKind,
    pub(super) text: Cow<'a, str>,
}

/// Casts a token that needs no transform. `Err` says what is wrong, without the value's text cut off.
#[inline]
pub(super) fn cast<'a>(token: &'a Token<'_>, field_type: FieldType, shift: i8) -> Result<Value<'a>, String> {
    let text: &str = &token.text;
    let refuse = |what: &str| Err(format!("{:?} is not {what}", shorten(text)));
    match field_type {
        FieldType::Text => match token.kind {
            SlotKind::Nested => Err("an object or array is not a text".to_owned()),
            _ => Ok(Value::Text(text)),
        },
        FieldType::Json => Ok(Value::Text(text)),
        _ if text.trim_ascii().is_empty() => Ok(Value::Null),
        FieldType::Decimal { precision, scale } => match token.kind {
            SlotKind::Text | SlotKind::EscapedText | SlotKind::Number => {
                match decimal::parse(text, precision, scale, shift) {
                    Ok(units) => Ok(Value::Decimal(units)),
                    Err(error) => Err(format!("{:?}: {error}", shorten(text))),
                }
            }
            _ => refuse("a decimal number"),
        },
        FieldType::Integer => match decimal::parse(text, 19, 0, shift).map(i64::try_from) {
            Ok(Ok(number)) => Ok(Value::Integer(number)),
            _ => refuse("a whole number of 64 bits"),
        },
        FieldType::Boolean => match boolean(text) {
            Some(truth) => Ok(Value::Boolean(truth)),
            None => refuse("yes or no"),
        },
        FieldType::Date => match time::parse_date(text) {
            Some(days) if token.kind != SlotKind::Number => Ok(Value::Date(days)),
            _ => refuse("a date (YYYY-MM-DD, or say its format in the mapping)"),
        },
        FieldType::Timestamp => match time::parse_timestamp(text) {
            Some(at) if token.kind != SlotKind::Number => Ok(Value::Timestamp(at)),
            _ => refuse("a time (ISO 8601, or say its format in the mapping)"),
        },
    }
}

/// Reads yes or no as sources write it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    const YES: [&str; 6] = ["true", "t", "yes", "y", "1", "on"];
    const NO: [&str; 6] = ["false", "f", "no", "n", "0", "off"];
    let text = text.trim_ascii();
    let is = |words: [&str; 6]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
    if is(YES) {
        Some(true)
    } else if is(NO) {
        Some(false)
    } else {
        None
    }
}

/// Applies a rule's transforms, in the order in which the rule lists them; `None` is null.
pub(super) fn transform(parts: &[Token<'_>], rule: &Rule) -> Option<String> {
    let mut text = match (parts, &rule.constant) {
        ([], None) => return None,
        ([], Some(constant)) => constant.clone(),
        (parts, _) => {
            let texts: Vec<&str> = parts.iter().map(|p| &*p.text).collect();
            texts.join(rule.join.as_deref().unwrap_or(" "))
        }
    };
    if let Some(split) = &rule.split {
        text = text.split(split.by.as_str()).nth(split.part)?.to_owned();
    }
    if rule.trim {
        text = text.trim().to_owned();
    }
    match rule.case {
        Some(Case::Upper) => text = text.to_uppercase(),
        Some(Case::Lower) => text = text.to_lowercase(),
        None => {}
    }
    if let Some(value) = rule.values.get(&text) {
        text.clone_from(value);
    }
    Some(text)
}

/// Casts a text that transforms have made.
pub(super) fn cast_transformed<'a>(
    token: &'a Token<'_>,
    field_type: FieldType,
    rule: &FieldRule,
) -> Result<Value<'a>, String> {
    let Some(format) = &rule.rule.format else { return cast(token, field_type, rule.shift) };
    let text = token.text.trim_ascii();
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let epoch = |micros_of_one: i128| {
        let scaled = decimal::parse(text, 38, 6, 0).ok()?.checked_mul(micros_of_one)? / 1_000_000;
        let at = i64::try_from(scaled).ok()?;
        (time::MIN_TIMESTAMP..=time::MAX_TIMESTAMP).contains(&at).then_some(at)
    };
    let at = match format.as_str() {
        "epoch_seconds" => epoch(1_000_000),
        "epoch_millis" => epoch(1_000),
        "epoch_micros" => epoch(1),
        pattern => time::parse_with_pattern(text, pattern),
    };
    match (at, field_type) {
        (None, _) => Err(format!("{:?} is not a time as the format {format:?} says", shorten(text))),
        (Some(at), FieldType::Date) => {
            i32::try_from(at.div_euclid(86_400_000_000)).map(Value::Date).map_err(|_| "a date out of range".to_owned())
        }
        (Some(at), _) => Ok(Value::Timestamp(at)),
    }
}

/// The beginning of a text, for messages.
pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(60).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token<'_> {
        Token { kind: SlotKind::Text, text: text.into() }
    }

    #[test]
    fn values_are_cast_without_loss_or_refused() {
        let decimal = FieldType::Decimal { precision: 24, scale: 4 };
        assert_eq!(cast(&token("007"), FieldType::Text, 0), Ok(Value::Text("007")));
        assert_eq!(cast(&token("0"), decimal, 0), Ok(Value::Decimal(0)));
        assert_eq!(cast(&token("0.75"), decimal, 2), Ok(Value::Decimal(750_000)));
        assert_eq!(cast(&token(""), decimal, 0), Ok(Value::Null));
        assert!(cast(&token("12.34567"), decimal, 0).is_err());
        assert_eq!(cast(&token("9223372036854775807"), FieldType::Integer, 0), Ok(Value::Integer(i64::MAX)));
        assert!(cast(&token("9223372036854775808"), FieldType::Integer, 0).is_err());
        assert_eq!(cast(&token("Yes"), FieldType::Boolean, 0), Ok(Value::Boolean(true)));
        assert!(cast(&token("maybe"), FieldType::Boolean, 0).is_err());
        let number = Token { kind: SlotKind::Number, text: "20240101".into() };
        assert!(cast(&number, FieldType::Date, 0).is_err(), "a number is no date unless a format says so");
        let nested = Token { kind: SlotKind::Nested, text: "{}".into() };
        assert!(cast(&nested, FieldType::Text, 0).is_err());
        assert_eq!(cast(&nested, FieldType::Json, 0), Ok(Value::Text("{}")));
    }

    #[test]
    fn transforms_apply_in_their_order() {
        let rule: Rule = serde_json::from_str(
            r#"{"from":["a","b"],"join":"|","split":{"by":"|","part":1},"trim":true,"case":"lower","values":{"won":"Closed Won"}}"#,
        )
        .unwrap();
        assert_eq!(transform(&[token("x"), token(" WON ")], &rule).as_deref(), Some("Closed Won"));
        assert_eq!(transform(&[token("x")], &rule), None, "a part that is not there is null");
    }
}
