//! From a source's text to a canonical value: without loss, or not at all.

use std::borrow::Cow;

use schemas::decimal::{self, DecimalError};
use schemas::mapping::{Case, Rule};
use schemas::shape::SlotKind;
use schemas::time;
use schemas::value::{FieldType, Value};

use super::rules::{FieldRule, Scaling};

/// A value of the payload: what kind of token it was, and its text.
#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    pub(super) kind: SlotKind,
    pub(super) text: Cow<'a, str>,
}

/// Casts a token that needs no transform. `Err` says what is wrong, without the value's text cut off.
#[inline]
pub(super) fn cast<'a>(token: &'a Token<'_>, field_type: FieldType, scaling: Scaling) -> Result<Value<'a>, String> {
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
                match decimal(text, precision, scale, scaling) {
                    Ok(units) => Ok(Value::Decimal(units)),
                    Err(error @ DecimalError::TooFine) => {
                        Err(format!("{:?}: {error} (round: true in the field's rule rounds them)", shorten(text)))
                    }
                    Err(error) => Err(format!("{:?}: {error}", shorten(text))),
                }
            }
            _ => refuse("a decimal number"),
        },
        FieldType::Integer => match decimal(text, 19, 0, scaling).map(i64::try_from) {
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

#[inline]
fn decimal(text: &str, precision: u8, scale: u8, Scaling { shift, round }: Scaling) -> Result<i128, DecimalError> {
    let parse = if round { decimal::parse_rounded } else { decimal::parse };
    parse(text, precision, scale, shift)
}

/// The token as JSON. A text is a JSON string, so that `"5"` and `5` stay two; only a whole object or array that stands
/// in a text is taken for itself, as that is how flat files carry one.
pub(super) fn as_json<'a>(token: Token<'a>) -> Token<'a> {
    if !matches!(token.kind, SlotKind::Text | SlotKind::EscapedText) {
        return token;
    }
    let nested = token.text.trim_ascii_start().starts_with(['{', '[']);
    if nested && serde_json::from_str::<serde::de::IgnoredAny>(&token.text).is_ok() {
        return Token { kind: SlotKind::Nested, ..token };
    }
    Token { kind: SlotKind::Nested, text: serde_json::Value::from(&*token.text).to_string().into() }
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
        // A blank part of several is as good as none.
        (parts, constant) if constant.is_some() || rule.from.0.len() > 1 => {
            let texts: Vec<&str> = parts.iter().map(|p| &*p.text).filter(|t| !t.trim_ascii().is_empty()).collect();
            match (texts.is_empty(), constant) {
                (true, None) => return None,
                (true, Some(constant)) => constant.clone(),
                (false, _) => texts.join(rule.join.as_deref().unwrap_or(" ")),
            }
        }
        (parts, _) => parts.iter().map(|p| &*p.text).collect(),
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
    let Some(format) = &rule.rule.format else { return cast(token, field_type, rule.scaling) };
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

    const AS_IT_IS: Scaling = Scaling { shift: 0, round: false };

    fn token(text: &str) -> Token<'_> {
        Token { kind: SlotKind::Text, text: text.into() }
    }

    #[test]
    fn values_are_cast_without_loss_or_refused() {
        let decimal = FieldType::Decimal { precision: 24, scale: 4 };
        assert_eq!(cast(&token("007"), FieldType::Text, AS_IT_IS), Ok(Value::Text("007")));
        assert_eq!(cast(&token("0"), decimal, AS_IT_IS), Ok(Value::Decimal(0)));
        assert_eq!(cast(&token("0.75"), decimal, Scaling { shift: 2, round: false }), Ok(Value::Decimal(750_000)));
        assert_eq!(cast(&token(""), decimal, AS_IT_IS), Ok(Value::Null));
        let refused = cast(&token("12.34567"), decimal, AS_IT_IS).unwrap_err();
        assert!(refused.contains("round: true"), "{refused}");
        let rounded = Scaling { shift: 0, round: true };
        assert_eq!(cast(&token("0.30000000000000004"), decimal, rounded), Ok(Value::Decimal(3000)));
        assert_eq!(cast(&token("2.5"), FieldType::Integer, rounded), Ok(Value::Integer(2)));
        assert_eq!(cast(&token("9223372036854775807"), FieldType::Integer, AS_IT_IS), Ok(Value::Integer(i64::MAX)));
        assert!(cast(&token("9223372036854775808"), FieldType::Integer, AS_IT_IS).is_err());
        assert_eq!(cast(&token("Yes"), FieldType::Boolean, AS_IT_IS), Ok(Value::Boolean(true)));
        assert!(cast(&token("maybe"), FieldType::Boolean, AS_IT_IS).is_err());
        let number = Token { kind: SlotKind::Number, text: "20240101".into() };
        assert!(cast(&number, FieldType::Date, AS_IT_IS).is_err(), "a number is no date unless a format says so");
        let nested = Token { kind: SlotKind::Nested, text: "{}".into() };
        assert!(cast(&nested, FieldType::Text, AS_IT_IS).is_err());
        assert_eq!(cast(&nested, FieldType::Json, AS_IT_IS), Ok(Value::Text("{}")));
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

    #[test]
    fn blank_parts_are_left_out_of_a_join_and_a_constant_stands_in_when_all_are_blank() {
        let join: Rule = serde_json::from_str(r#"{"from":["a","b"],"join":" "}"#).unwrap();
        assert_eq!(transform(&[token(""), token("Lovelace")], &join).as_deref(), Some("Lovelace"));
        assert_eq!(transform(&[token(""), token(" ")], &join), None);
        let constant: Rule = serde_json::from_str(r#"{"from":"a","constant":"EUR"}"#).unwrap();
        assert_eq!(transform(&[token("")], &constant).as_deref(), Some("EUR"));
        assert_eq!(transform(&[token("USD")], &constant).as_deref(), Some("USD"));
    }

    #[test]
    fn json_keeps_texts_and_numbers_apart_and_is_always_json() {
        let number = Token { kind: SlotKind::Number, text: "5".into() };
        assert_eq!(as_json(number).text, "5");
        assert_eq!(as_json(token("5")).text, r#""5""#);
        assert_eq!(as_json(token(r#"say "hi""#)).text, r#""say \"hi\"""#);
        assert_eq!(as_json(token(r#"["a","b"]"#)).text, r#"["a","b"]"#);
        assert_eq!(as_json(token("[a, b]")).text, r#""[a, b]""#);
    }
}
