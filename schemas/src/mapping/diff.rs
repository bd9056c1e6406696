//! What differs between two mappings, member by member.

use serde_json::Value;

use super::Mapping;

/// Something that two mappings do not say alike.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// What: a field of the entity, or another member of the mapping as `$key`, `$version`, `$deleted`.
    pub what: String,
    /// What the first says of it; nothing where it says nothing.
    pub before: Option<Value>,
    /// What the second says of it.
    pub after: Option<Value>,
}

impl Mapping {
    /// What is not the same in another mapping: first what concerns whole rows, then the fields.
    pub fn diff(&self, after: &Self) -> Vec<Difference> {
        let (before, after) = (members(self), members(after));
        let names =
            before.iter().chain(after.iter().filter(|(name, _)| !before.iter().any(|(known, _)| known == name)));
        let of = |all: &[(String, Value)], name: &str| all.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let differences = names.map(|(name, _)| Difference {
            what: name.clone(),
            before: of(&before, name),
            after: of(&after, name),
        });
        differences.filter(|difference| difference.before != difference.after).collect()
    }
}

fn members(mapping: &Mapping) -> Vec<(String, Value)> {
    let Ok(Value::Object(members)) = serde_json::to_value(mapping) else { return Vec::new() };
    let mut all = Vec::new();
    let mut fields = Vec::new();
    for (name, value) in members {
        match value {
            Value::Object(rules) if name == "fields" => fields.extend(rules),
            value => all.push((format!("${name}"), value)),
        }
    }
    all.extend(fields);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_changed_and_taken_away_is_told() {
        let mapping = |text: &str| serde_json::from_str::<Mapping>(text).unwrap();
        let before =
            mapping(r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","total":"Total","note":"Note"}}"#);
        let after = mapping(
            r#"{"entity":"order","key":"No | Id","version":"At","fields":{"order_id":"Id","total":"Sum | Total","buyer":"B"}}"#,
        );
        let told: Vec<(String, bool, bool)> =
            before.diff(&after).into_iter().map(|d| (d.what, d.before.is_some(), d.after.is_some())).collect();
        let expected = [
            ("$key", true, true),
            ("total", true, true),
            ("note", true, false),
            ("$version", false, true),
            ("buyer", false, true),
        ];
        assert_eq!(told, expected.map(|(what, before, after)| (what.to_owned(), before, after)));
        assert_eq!(before.diff(&before), []);
    }
}
