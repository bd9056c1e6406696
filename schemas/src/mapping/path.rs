//! Paths into a record, as mapping files write them.

use serde::{Deserialize, Serialize};

use crate::shape::{DEPTH_MAX, ELEMENTS, FIELD_NAME_BYTES_MAX, PATH_BYTES_MAX};

/// A source path, or several of which the first that is present counts: `Owner.Name | owner_name`.
///
/// Parts are joined by dots; `[]` behind a part means the elements of that array, of which the first that is not null
/// counts: `emails[].value`. A dot, a bar, a bracket or a backslash within a name stands behind a backslash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path {
    text: String,
    choices: Vec<Vec<String>>,
}

/// A text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a path: write names joined by dots, alternatives divided by |, and \\. for a dot within a name; at \
     most 128 names of 1,024 bytes each, 4,096 together"
)]
pub struct InvalidPath(pub String);

/// A character, and whether it stood behind a backslash.
type Mark = (char, bool);

impl Path {
    /// Reads a path.
    pub fn new(text: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath(text.chars().take(200).collect());
        let mut marks: Vec<Mark> = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            marks.push(if c == '\\' { (chars.next().ok_or_else(invalid)?, true) } else { (c, false) });
        }
        let choices: Option<Vec<_>> = marks.split(|mark| *mark == ('|', false)).map(read_choice).collect();
        Ok(Self { text: text.to_owned(), choices: choices.ok_or_else(invalid)? })
    }
    /// The path of one member called exactly `name`.
    pub fn member(name: &str) -> Result<Self, InvalidPath> {
        Self::new(&escape(name))
    }
    /// The path of these parts, from the outside in, each exactly as it is; [`ELEMENTS`] is an array's elements.
    pub fn of_parts(parts: &[&str]) -> Result<Self, InvalidPath> {
        let mut text = String::new();
        for part in parts {
            if *part == ELEMENTS {
                text.push_str(ELEMENTS);
                continue;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&escape(part));
        }
        Self::new(&text)
    }
    /// This path with the alternatives of `first` before its own; those that it has already stay where they are.
    pub fn after(&self, first: &Self) -> Result<Self, InvalidPath> {
        if first.choices.iter().all(|choice| self.choices.contains(choice)) {
            return Ok(self.clone());
        }
        Self::new(&format!("{} | {}", first.text, self.text))
    }
    /// A version's path, or none when the text is `none`: the source has no versions. A field of that name is `\none`.
    pub fn or_none(text: &str) -> Result<Option<Self>, InvalidPath> {
        if text.trim() == "none" { Ok(None) } else { Self::new(text).map(Some) }
    }
    /// The alternatives, each a list of parts from the outside in; an array's elements are the part [`ELEMENTS`].
    pub fn choices(&self) -> &[Vec<String>] {
        &self.choices
    }
    /// The alternatives as [`crate::shape::ShapeTree::path`] writes them.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.choices.iter().map(|parts| crate::shape::join(parts.iter().map(String::as_str)))
    }
    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A name as a path writes it; blanks are the name's own.
fn escape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '\\' | '.' | '|' | '[') || c.is_whitespace() {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// The parts of one alternative; none when it is not allowed.
fn read_choice(marks: &[Mark]) -> Option<Vec<String>> {
    let blank = |mark: &Mark| mark.0.is_whitespace() && !mark.1;
    let start = marks.iter().position(|m| !blank(m))?;
    let end = marks.iter().rposition(|m| !blank(m))? + 1;
    let mut parts = Vec::new();
    for mut name in marks[start..end].split(|mark| *mark == ('.', false)) {
        let mut arrays = 0;
        while let [front @ .., ('[', false), (']', false)] = name {
            (name, arrays) = (front, arrays + 1);
        }
        let mut part: String = name.iter().map(|mark| mark.0).collect();
        if part.is_empty() || part.len() > FIELD_NAME_BYTES_MAX {
            return None;
        }
        // As the walk does it: a member that is literally called "[]" is not the elements of an array.
        if part == ELEMENTS {
            part.push('\\');
        }
        parts.push(part);
        parts.extend(std::iter::repeat_n(ELEMENTS.to_owned(), arrays));
    }
    let bytes: usize = parts.iter().map(|part| part.len() + 1).sum();
    (parts.len() < DEPTH_MAX as usize && bytes <= PATH_BYTES_MAX).then_some(parts)
}

impl TryFrom<String> for Path {
    type Error = InvalidPath;
    fn try_from(text: String) -> Result<Self, InvalidPath> {
        Self::new(&text)
    }
}
impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.text
    }
}
impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// One path or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Paths(pub Vec<Path>);

impl Paths {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::one_or_many::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_have_alternatives_and_escapes() {
        let path = Path::new(r"Owner.Name | a\.b.c |d\|e").unwrap();
        assert_eq!(path.choices(), [vec!["Owner", "Name"], vec!["a.b", "c"], vec!["d|e"]]);
        assert_eq!(path.texts().collect::<Vec<_>>(), ["Owner.Name", r"a\.b.c", r"d\|e"]);
        for bad in ["", "a..b", "a|", "|", "a\\", ".a", "[]", "a.[].b"] {
            assert!(Path::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_of_parts_has_exactly_these_parts() {
        let parts = ["a.b", "c|d", "[x]", " e ", "[]", "f"];
        let path = Path::of_parts(&parts).unwrap();
        assert_eq!(path.choices(), [parts]);
        assert_eq!(Path::new(path.as_str()).unwrap(), path);
    }

    #[test]
    fn a_path_is_put_before_another_once() {
        let (old, new) = (Path::new("Amount | Total").unwrap(), Path::new("deal.amount").unwrap());
        let both = old.after(&new).unwrap();
        assert_eq!(both.as_str(), "deal.amount | Amount | Total");
        assert_eq!(both.after(&new).unwrap(), both);
    }

    #[test]
    fn brackets_behind_a_name_are_the_elements_of_an_array_and_others_are_letters() {
        let path = Path::new(r"emails[].value | tags[][] | Amount [EUR] | odd\[] | a[0]").unwrap();
        let expected = [
            vec!["emails", "[]", "value"],
            vec!["tags", "[]", "[]"],
            vec!["Amount [EUR]"],
            vec!["odd[]"],
            vec!["a[0]"],
        ];
        assert_eq!(path.choices(), expected);
        assert_eq!(Path::member("[]").unwrap().choices(), [["[]\\"]]);
        assert_eq!(path.texts().next().as_deref(), Some("emails[].value"));
    }

    #[test]
    fn a_path_that_no_record_can_have_is_refused() {
        assert!(Path::new(&"n".repeat(1025)).is_err());
        assert!(Path::new(&["n".repeat(1000).as_str(); 5].join(".")).is_err());
        assert!(Path::new(&["n"; 200].join(".")).is_err());
        assert!(Path::new(&format!("n{}", "[]".repeat(200))).is_err());
        assert!(Path::new(&["n"; 100].join(".")).is_ok());
    }

    #[test]
    fn a_version_may_be_none() {
        assert_eq!(Path::or_none("none"), Ok(None));
        assert_eq!(Path::or_none(r"\none").unwrap().unwrap().choices(), [["none"]]);
    }

    proptest! {
        #[test]
        fn any_name_is_a_member(name in ".{1,20}") {
            prop_assume!(name != "[]");
            let path = Path::member(&name).unwrap();
            prop_assert_eq!(path.choices(), [[name]]);
        }
    }
}
