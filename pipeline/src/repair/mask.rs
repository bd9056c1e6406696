//! What of a case's values is masked: fields that their entity calls sensitive, what a policy names, whatever source path
//! feeds them or may do so, and whatever field is made of a masked path.

use std::collections::BTreeSet;

use schemas::drift::{Lost, Move};
use schemas::mapping::{FieldRules, Path};
use schemas::{Entity, Mapping};
use serde_json::Value;

use super::Case;
use crate::step::StreamState;

/// What stands in the place of a masked value.
pub const MASKED: &str = "***";
/// Masks every value.
const EVERYTHING: &str = "*";

/// What is masked of a case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    is_all: bool,
    fields: BTreeSet<String>,
    paths: BTreeSet<String>,
    /// Paths that the mapping reads; of others nobody knows what they hold.
    known: BTreeSet<String>,
    /// A masked field was lost: every unknown path may be it.
    is_lost: bool,
    is_key: bool,
}

impl Mask {
    /// What is masked of the values of a case of a stream; nothing is known of one that is not open. The case's row and the
    /// state may each know of something lost that the other does not know yet.
    pub fn of_case(state: &StreamState, case: &Case, names: &[String]) -> Option<Self> {
        let ((mapping, _), entity) = (state.mapping()?, state.entity()?);
        let mut lost = state.drift().lost(case.position.offset, state.shape());
        lost.extend(case.lost.iter().cloned());
        Some(Self::new(entity, mapping, &lost, names))
    }

    /// What is masked of a stream, whatever is lost; nothing is known of one that is not open.
    pub(super) fn of_stream(state: &StreamState, names: &[String]) -> Option<Self> {
        let ((mapping, _), entity) = (state.mapping()?, state.entity()?);
        Some(Self::new(entity, mapping, &[], names))
    }

    /// What is masked where this was lost. `names` are canonical fields or source paths; `*` is all.
    fn new(entity: &Entity, mapping: &Mapping, lost: &[Lost], names: &[String]) -> Self {
        let is_named = |name: &str| names.iter().any(|n| n == name);
        let sensitive = entity.fields.iter().filter(|f| f.sensitive || is_named(f.name.as_str()));
        let mut fields: BTreeSet<String> = sensitive.map(|field| field.name.to_string()).collect();
        let paths_of = |wanted: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
            let rules = mapping.fields.iter().filter(|(name, _)| wanted(name.as_str()));
            rules.flat_map(|(_, rules)| rules.paths()).flat_map(|path| path.texts()).collect()
        };
        let mut paths = paths_of(&|name| fields.contains(name));
        paths.extend(names.iter().cloned());
        // As paths are written elsewhere, too.
        paths.extend(
            names.iter().filter_map(|name| Path::new(name).ok()).flat_map(|path| path.texts().collect::<Vec<_>>()),
        );
        // A field that a masked path feeds has its value, and so may have any other path that feeds it.
        while let Some(fed) = fed_by(mapping, &paths, &fields) {
            paths.extend(paths_of(&|name| name == fed));
            fields.insert(fed);
        }
        let key: Vec<String> = mapping.key.0.iter().flat_map(|path| path.texts()).collect();
        let is_masked = |path: &String| is_covered(&paths, path);
        let (is_key, mut known) = (key.iter().any(is_masked), paths_of(&|_| true));
        known.extend(key);
        let is_lost = lost
            .iter()
            .any(|lost| lost.feeds.iter().any(|feed| fields.contains(feed)) || lost.paths.iter().any(is_masked));
        Self { is_all: is_named(EVERYTHING), fields, paths, known, is_lost, is_key }
    }

    /// What is masked of what moves would make: a field that they have a masked path feed is, too.
    pub(super) fn moved(&self, lost: &[Lost], moves: &[Move]) -> Self {
        let is_hidden = |path: &String| {
            let hides = |path: Path| path.texts().any(|text| self.hides_path(&text));
            self.hides_path(path) || Path::new(path).is_ok_and(hides)
        };
        let mut mask = self.clone();
        for to in moves.iter().filter(|to| to.to.iter().any(is_hidden)) {
            let fed = lost.iter().filter(|lost| lost.path == to.from || lost.paths.contains(&to.from));
            mask.fields.extend(fed.flat_map(|lost| lost.feeds.iter().cloned()));
        }
        mask
    }

    /// A canonical field's value, or what stands in its place.
    pub fn field(&self, name: &str, value: Value) -> Value {
        hidden(value, self.hides_field(name))
    }

    /// Whether a canonical field's value is masked.
    pub fn hides_field(&self, name: &str) -> bool {
        self.is_all || self.fields.contains(name)
    }

    /// The value at a source path, or what stands in its place.
    pub fn path(&self, path: &str, value: Value) -> Value {
        hidden(value, self.hides_path(path))
    }

    /// Whether the value at a source path is masked.
    pub fn hides_path(&self, path: &str) -> bool {
        let may_be_lost = self.is_lost && !self.known.contains(path);
        self.is_all || may_be_lost || is_covered(&self.paths, path)
    }

    /// Whether the mapping reads this very path.
    pub(super) fn knows(&self, path: &str) -> bool {
        self.known.contains(path)
    }

    /// Whether a path lies inside what is masked, so that its name may be a part of that; where all is masked, inside
    /// anything.
    pub(super) fn hides_name(&self, path: &str, is_nested: bool) -> bool {
        (self.is_all && is_nested) || self.paths.iter().any(|masked| path != masked && is_inside(path, masked))
    }

    /// A row's key, or what stands in its place.
    pub fn key(&self, key: String) -> String {
        if self.is_all || self.is_key { MASKED.to_owned() } else { key }
    }
}

/// A field, not one of `known`, that is made of one of these paths.
fn fed_by(mapping: &Mapping, paths: &BTreeSet<String>, known: &BTreeSet<String>) -> Option<String> {
    let is_fed = |rules: &FieldRules| rules.paths().any(|path| path.texts().any(|text| is_covered(paths, &text)));
    let mut unknown = mapping.fields.iter().filter(|(name, _)| !known.contains(name.as_str()));
    unknown.find(|(_, rules)| is_fed(rules)).map(|(name, _)| name.to_string())
}

/// Whether a path is one of these, lies inside one, or has one inside.
fn is_covered(paths: &BTreeSet<String>, path: &str) -> bool {
    paths.iter().any(|masked| is_inside(path, masked) || is_inside(masked, path))
}

/// Whether a path is another one or goes on from it. A dot within a name stands behind a backslash, so it is none here.
fn is_inside(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Null is no secret: that something is missing is what a case is about.
fn hidden(value: Value, is_hidden: bool) -> Value {
    if is_hidden && !value.is_null() { MASKED.into() } else { value }
}

#[cfg(test)]
mod tests {
    use schemas::drift::DriftKind;

    use super::*;
    use crate::testing::{ENTITY, MAPPING, parse};

    fn mask(lost: &str, feeds: &str, names: &[&str]) -> Mask {
        let (mapping, entity) = parse(MAPPING, &ENTITY.replace("\"decimal\"", "\"decimal\",\"sensitive\":true"));
        let (path, paths) = (lost.to_owned(), vec![lost.to_owned()]);
        let lost = [Lost { path, paths, feeds: vec![feeds.into()], retyped: false, change: None }];
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Mask::new(&entity, &mapping, &lost, &names)
    }

    #[test]
    fn a_sensitive_field_is_masked_with_every_path_that_may_hold_it() {
        let mask = mask("Total", "total", &[]);
        assert_eq!(mask.field("total", 5.into()), MASKED);
        assert_eq!(mask.path("Total", 5.into()), MASKED);
        assert_eq!(mask.path("Sum", 5.into()), MASKED, "it may be the lost one under another name");
        assert_eq!(mask.path("Updated", "2026".into()), MASKED, "so may this one: no field is made of it");
        assert_eq!((mask.path("Id", 7.into()), mask.key("7".into())), (7.into(), "7".to_owned()));
        assert_eq!(mask.path("Sum", Value::Null), Value::Null);
    }

    #[test]
    fn a_masked_source_path_masks_the_fields_that_are_made_of_it_and_whatever_else_feeds_them() {
        let entity =
            ENTITY.replace("{\"name\":\"total\"", "{\"name\":\"net\",\"type\":\"decimal\"},{\"name\":\"total\"");
        let repaired = MAPPING.replace("\"Total\"", "\"Betrag | Total\",\"net\":\"Net\"");
        let (mapping, entity) = parse(&repaired, &entity);
        let mask = Mask::new(&entity, &mapping, &[], &["Total".to_owned()]);
        assert_eq!(mask.field("total", 5.into()), MASKED);
        assert!(mask.hides_path("Total") && mask.hides_path("Betrag"), "the same value under its new name");
        assert!(!mask.hides_field("net") && !mask.hides_field("order_id") && !mask.hides_path("Net"));
        assert_eq!(mask.key("7".into()), "7");
        let key = Mask::new(&entity, &mapping, &[], &["Id".to_owned()]);
        assert!(key.hides_field("order_id") && !key.hides_field("total"));
        assert_eq!(key.key("7".into()), MASKED);
    }

    #[test]
    fn what_a_move_would_make_of_a_masked_path_is_masked() {
        let mask = mask("Sum", "sum", &["Secret"]);
        let lost = |path: &str, feed: &str| Lost {
            path: path.into(),
            paths: vec![path.into()],
            feeds: vec![feed.into()],
            retyped: false,
            change: None,
        };
        let lost = [lost("Sum", "sum"), lost("Name", "name")];
        let moved = |to: &str| {
            let (from, to) = ("Sum".to_owned(), vec![to.to_owned()]);
            let (kind, confidence) = (DriftKind::Renamed, 0);
            let to = Move { from, to, kind, confidence, part: None, change: None, transform: None, signals: vec![] };
            mask.moved(&lost, &[to])
        };
        for to in ["Secret", "Secret.part", "Other | Secret"] {
            assert!(moved(to).hides_field("sum") && !moved(to).hides_field("name"), "{to}");
        }
        assert!(!moved("Other").hides_field("sum"));
    }

    #[test]
    fn what_a_policy_names_is_masked_and_nothing_else() {
        let mask_of = |names: &[&str]| mask("Updated", "$version", names);
        let named = mask_of(&["Sum", "Id"]);
        assert_eq!((named.path("Sum", 5.into()), named.path("Other", 5.into())), (MASKED.into(), 5.into()));
        assert_eq!(named.key("7".into()), MASKED);
        let around = mask_of(&["customer", r"Order\ No", "lines[].note"]);
        for path in ["customer", "customer.email", "customer[].email", "Order No.x", "lines", "lines[].note.text"] {
            assert!(around.hides_path(path), "{path} lies inside or around a masked one");
        }
        for path in ["customers", r"customer\.email", "lines[].count", "Order"] {
            assert!(!around.hides_path(path), "{path} lies beside them");
        }
        assert!(around.hides_name("customer.email", true) && around.hides_name("lines[].note.text", true));
        assert!(!around.hides_name("customer", false) && !around.hides_name("lines", false), "names beside values");
        let all = mask_of(&["*"]);
        assert!(all.hides_name("a.b", true) && !all.hides_name("a", false));
        assert_eq!((all.field("order_id", 7.into()), all.path("Any", 7.into())), (MASKED.into(), MASKED.into()));
        assert_eq!(all.key("7".into()), MASKED);
    }
}
