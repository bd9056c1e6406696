//! YAML of one line: texts of anybody's making stand in it and say nothing else.

use std::fmt::Write;

use serde_json::Value;

/// Words that YAML of one or another version reads as something else than a text.
const WORDS: [&str; 12] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "none"];

/// A text as a YAML scalar of one line: bare where nothing in it means anything, else in double quotes, what cannot be seen
/// or would turn the line around written as an escape.
pub fn scalar(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let is_bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(is_word);
    if is_bare && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c => push_seen(&mut quoted, c),
        }
    }
    quoted.push('"');
    quoted
}

/// A text as a person can see it, in one line and without quotes: what cannot be seen or would turn the line around is
/// written as an escape.
pub fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for c in text.chars() {
        push_seen(&mut seen, c);
    }
    seen
}

fn push_seen(out: &mut String, c: char) {
    if !is_hidden(c) {
        return out.push(c);
    }
    let number = u32::from(c);
    // Writing to a text does not fail.
    let _ = if number > 0xffff { write!(out, "\\U{number:08X}") } else { write!(out, "\\u{number:04X}") };
}

/// Controls, blanks that are no space, marks that join, hide or turn around, and what is no character.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(u32::from(c),
            0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f | 0x2028..=0x202e
            | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xffff | 0xe0000..=0xe0fff)
        || u32::from(c) & 0xfffe == 0xfffe
}

/// A value in YAML's flow style.
pub fn flow(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::String(text) => scalar(text),
        Value::Array(all) => format!("[{}]", joined(all.iter().map(flow).collect())),
        Value::Object(all) => {
            format!(
                "{{{}}}",
                joined(all.iter().map(|(name, value)| format!("{}: {}", scalar(name), flow(value))).collect())
            )
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_or_cannot_be_seen_is_quoted() {
        assert_eq!(scalar("deal_name"), "deal_name");
        assert_eq!(scalar("Owner.Name"), "Owner.Name");
        let odd = ["yes", "NULL", "1e3", "", "-", "a: b", "#x", "$(rm -rf /)", "{a}", "*x", "&x", "!x", "%", "@", "`"];
        assert!(odd.into_iter().all(|text| scalar(text) == format!("\"{text}\"")));
        assert_eq!(scalar("a\"b\\c\nd"), r#""a\"b\\c\u000Ad""#);
        assert_eq!(scalar("\u{202e}x\u{85}\u{e0041}"), r#""\u202Ex\u0085\U000E0041""#);
        assert_eq!(scalar("größe"), "\"größe\"");
    }

    #[test]
    fn what_a_person_sees_has_neither_controls_nor_marks_that_hide_or_turn_around() {
        assert_eq!(visible("größe, lines[].note \"x\""), "größe, lines[].note \"x\"");
        assert_eq!(visible("a\u{1b}[2J\n\u{202e}b"), r"a\u001B[2J\u000A\u202Eb");
        assert_eq!(
            visible("Am\u{ad}o\u{200b}u\u{2060}nt\u{3164}\u{e0041}"),
            r"Am\u00ADo\u200Bu\u2060nt\u3164\U000E0041"
        );
    }

    #[test]
    fn a_value_stands_in_one_line() {
        let value = serde_json::json!({"from": ["a, b", "c"], "trim": true, "split": {"by": ",", "part": 0}});
        assert_eq!(flow(&value), r#"{from: ["a, b", c], trim: true, split: {by: ",", part: 0}}"#);
    }
}
