//! Which keys a scan wants.

/// The keys that start with `prefix` and are greater than `after`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The first key that may be, or the last that may not.
    pub(super) from: String,
    /// Whether `from` itself may be.
    pub(super) inclusive: bool,
    /// The first key behind all with the prefix, where there is one.
    pub(super) to: Option<String>,
}

impl Range {
    pub(super) fn new(prefix: &str, after: Option<&str>) -> Self {
        let (from, inclusive) = match after {
            Some(after) if after >= prefix => (after, false),
            _ => (prefix, true),
        };
        Self { from: from.to_owned(), inclusive, to: behind(prefix) }
    }

    /// Whether no key can be in it.
    pub(super) fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// The least text that is greater than every text that starts with `prefix`.
fn behind(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        if let Some(next) = next_char(last) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

fn next_char(c: char) -> Option<char> {
    match c {
        '\u{d7ff}' => Some('\u{e000}'),
        _ => char::from_u32(u32::from(c) + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_character_can_be_raised() {
        let cases = [
            ("a", Some("b")),
            ("crm/", Some("crm0")),
            ("a\u{10ffff}", Some("b")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("\u{10ffff}", None),
            ("", None),
        ];
        for (prefix, end) in cases {
            assert_eq!(behind(prefix).as_deref(), end, "{prefix:?}");
        }
    }

    #[test]
    fn a_start_before_the_prefix_is_the_prefix_and_one_behind_it_finds_nothing() {
        assert_eq!(Range::new("b", Some("a")), Range { from: "b".into(), inclusive: true, to: Some("c".into()) });
        assert!(!Range::new("b", Some("b")).is_empty());
        assert!(Range::new("b", Some("c")).is_empty());
    }
}
