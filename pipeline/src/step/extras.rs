//! What no field takes: kept as it stands in the record.

use std::ops::Range;

use schemas::shape::{Slot, SlotKind, Walker};

use super::rules::{Rules, Spare};
use super::view::View;

/// Closes `extras`: what the walk kept, and alternatives that were present and that no field took. `taken` says of each
/// slot whether a field was made of it.
pub(super) fn write_extras(view: &View<'_>, rules: &Rules, taken: &[bool], walker: &Walker, extras: &mut Vec<u8>) {
    extras.clear();
    extras.push(b'{');
    extras.extend_from_slice(&walker.extras);
    let is_taken = |slot: u32| taken.get(slot as usize).copied().unwrap_or_default();
    for spare in &rules.spares {
        let Some(slot) = view.slots.get(spare.slot as usize) else { continue };
        if matches!(slot.kind, SlotKind::Absent | SlotKind::Null) || is_taken(spare.slot) {
            continue;
        }
        let is_within = |other: &&Spare| {
            other.parts.len() > spare.parts.len() && other.parts.starts_with(&spare.parts) && is_taken(other.slot)
        };
        if !(view.wraps_one_value(spare.slot) && rules.spares.iter().any(|other| is_within(&other))) {
            set(extras, &spare.parts, raw(view.payload, slot));
        }
    }
    if extras.len() == 1 {
        extras.clear();
    } else {
        extras.push(b'}');
    }
}

/// The value in a slot as it stands in the payload.
fn raw<'a>(payload: &'a str, slot: &Slot) -> &'a str {
    let quoted = matches!(slot.kind, SlotKind::Text | SlotKind::EscapedText);
    if quoted { &payload[slot.start - 1..=slot.end] } else { &payload[slot.start..slot.end] }
}

/// Puts a value where its path says: within the objects that are there already, or within new ones. `object` is a JSON
/// object whose closing brace is still to come.
fn set(object: &mut Vec<u8>, parts: &[String], value: &str) {
    let (mut members, mut end) = (1, object.len());
    for (depth, part) in parts.iter().enumerate() {
        let is_last = depth + 1 == parts.len();
        match find_member(&object[members..end], part) {
            Some(found) if is_last => {
                object.splice(members + found.start..members + found.end, value.bytes());
                return;
            }
            Some(found) if object[members + found.start] == b'{' => {
                (members, end) = (members + found.start + 1, members + found.end - 1);
            }
            // The path leads through something that is no object, so it is not from this record.
            Some(_) => return,
            None => {
                let mut text = String::from(if members == end { "" } else { "," });
                for part in &parts[depth..] {
                    text.push_str(if text.is_empty() || text == "," { "" } else { "{" });
                    text.push_str(&serde_json::Value::from(part.as_str()).to_string());
                    text.push(':');
                }
                text.push_str(value);
                text.extend(std::iter::repeat_n('}', parts.len() - depth - 1));
                object.splice(end..end, text.bytes());
                return;
            }
        }
    }
}

/// Where the value of a member lies among `members`, which are valid JSON.
fn find_member(members: &[u8], name: &str) -> Option<Range<usize>> {
    let mut at = 0;
    loop {
        at += members.get(at..)?.iter().position(|b| *b == b'"')?;
        let name_end = string_end(members, at);
        let found: Option<String> = serde_json::from_slice(&members[at..name_end]).ok();
        let colon = members[name_end..].iter().position(|b| *b == b':')?;
        let blanks = members[name_end + colon + 1..].iter().position(|b| !b.is_ascii_whitespace())?;
        let start = name_end + colon + 1 + blanks;
        let end = value_end(members, start);
        if found.as_deref() == Some(name) {
            return Some(start..end);
        }
        at = end;
    }
}

/// The index behind the string that begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The index behind the value that begins at `at`.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' if depth == 0 => break,
            b'}' | b']' if depth == 0 => break,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(object: &str, path: &[&str], value: &str) -> String {
        let mut bytes = object.strip_suffix('}').unwrap().as_bytes().to_vec();
        set(&mut bytes, &path.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), value);
        bytes.push(b'}');
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_value_is_put_where_its_path_says() {
        let cases = [
            ("{}", &["a"][..], r#"{"a":1}"#),
            ("{}", &["a", "b", "c"], r#"{"a":{"b":{"c":1}}}"#),
            (r#"{"x":"},{","y":[{"a":2}]}"#, &["a"], r#"{"x":"},{","y":[{"a":2}],"a":1}"#),
            (r#"{"a":{"x" : {}},"y":2}"#, &["a", "b"], r#"{"a":{"x" : {},"b":1},"y":2}"#),
            (r#"{"a" : {},"y":2}"#, &["a", "b", "c"], r#"{"a" : {"b":{"c":1}},"y":2}"#),
            (r#"{"\u0061":{"b\"":{"z":0}}}"#, &["a", "b\"", "c"], r#"{"\u0061":{"b\"":{"z":0,"c":1}}}"#),
            (r#"{"a":{"b":[5,"]"],"z":0}}"#, &["a", "b"], r#"{"a":{"b":1,"z":0}}"#),
            (r#"{"a":"text"}"#, &["a", "b"], r#"{"a":"text"}"#),
        ];
        for (object, path, expected) in cases {
            assert_eq!(with(object, path, "1"), expected);
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(expected).is_ok());
        }
    }
}
