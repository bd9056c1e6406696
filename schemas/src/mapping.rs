//! Mappings: how a record of one stream becomes a canonical row.
//!
//! A mapping file names a system and, for each of its streams, the entity, key, version and rules. `README.md` has an
//! annotated example.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::entity::{Entity, Unit};
use crate::ids::{EntityName, StreamName};
use crate::input::DefinitionHash;
use crate::version::VersionType;

/// A mapping file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingFile {
    /// The source system, for example `salesforce`.
    pub system: String,
    /// Entities that the file brings itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// A mapping for each stream.
    pub streams: IndexMap<StreamName, Mapping>,
}

impl MappingFile {
    /// The mapping of a stream: by its name, else by one of its `objects`, whatever the case.
    pub fn stream(&self, name: &StreamName) -> Option<&Mapping> {
        let matches = |other: &str| other.eq_ignore_ascii_case(name.as_str());
        self.streams.get(name).or_else(|| {
            self.streams
                .iter()
                .find(|(n, m)| matches(n.as_str()) || m.objects.iter().any(|o| matches(o)))
                .map(|(_, m)| m)
        })
    }
}

/// The rules of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What its records are.
    pub entity: EntityName,
    /// Other names that sources and files give the stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// The parts of the row's key; without any, content and order make the key.
    #[serde(default, skip_serializing_if = "Paths::is_empty")]
    pub key: Paths,
    /// What orders the records of one key; without it, the order of arrival does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Path>,
    /// The type of the version; `time` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_type: Option<VersionType>,
    /// How a delete is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Deleted>,
    /// A rule for each canonical field.
    pub fields: IndexMap<EntityName, Rule>,
}

impl Mapping {
    /// The canonical text of the mapping.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a mapping has no map keys that are not text")
    }
    /// The name of [`Mapping::text`].
    pub fn hash(&self) -> DefinitionHash {
        DefinitionHash::of(&self.text())
    }
}

/// A source path, or several of which the first that is present counts: `Owner.Name | owner_name`.
///
/// Parts are joined by dots; a dot, a bar or a backslash within a name stands behind a backslash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path {
    text: String,
    choices: Vec<Vec<String>>,
}

/// A text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a path: write names joined by dots, alternatives divided by |, and \\. for a dot within a name")]
pub struct InvalidPath(pub String);

impl Path {
    /// Reads a path.
    pub fn new(text: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath(text.chars().take(200).collect());
        let mut choices = vec![vec![String::new()]];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let choice = choices.last_mut().expect("there is always a choice");
            match c {
                '\\' => choice.last_mut().expect("a choice has a part").push(chars.next().ok_or_else(invalid)?),
                '.' => choice.push(String::new()),
                '|' => choices.push(vec![String::new()]),
                c => choice.last_mut().expect("a choice has a part").push(c),
            }
        }
        for choice in &mut choices {
            let last = choice.len() - 1;
            choice[0] = choice[0].trim_start().to_owned();
            choice[last] = choice[last].trim_end().to_owned();
            if choice.iter().any(|part| part.is_empty() || part.len() > crate::shape::FIELD_NAME_BYTES_MAX) {
                return Err(invalid());
            }
        }
        Ok(Self { text: text.to_owned(), choices })
    }
    /// The path of one member called exactly `name`.
    pub fn member(name: &str) -> Result<Self, InvalidPath> {
        Self::new(&name.replace('\\', "\\\\").replace('.', "\\.").replace('|', "\\|"))
    }
    /// The alternatives, each a list of parts from the outside in.
    pub fn choices(&self) -> &[Vec<String>] {
        &self.choices
    }
    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "Vec<Path>")]
pub struct Paths(pub Vec<Path>);

impl Paths {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Path),
    Many(Vec<Path>),
}

impl From<OneOrMany> for Paths {
    fn from(paths: OneOrMany) -> Self {
        match paths {
            OneOrMany::One(path) => Self(vec![path]),
            OneOrMany::Many(paths) => Self(paths),
        }
    }
}
impl From<Paths> for Vec<Path> {
    fn from(paths: Paths) -> Self {
        paths.0
    }
}

/// How a delete is told from an upsert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deleted {
    /// The field that tells it.
    pub field: Path,
    /// The value that means deleted; without it the field is read as yes or no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
}

/// How one canonical field is filled: a path, or a path with transforms, which apply in the order of these members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rule {
    /// Where the value stands; several are joined by `join`.
    #[serde(skip_serializing_if = "Paths::is_empty")]
    pub from: Paths,
    /// What stands between joined values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// Used when no path is present or all are null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<String>,
    /// Cut into parts, keep one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Blanks at both ends go.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trim: bool,
    /// Upper or lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<Case>,
    /// Replaces whole values; a value that is not listed stays.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub values: IndexMap<String, String>,
    /// How dates and times are written: a `strptime` pattern, `epoch_seconds`, `epoch_millis` or `epoch_micros`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What one means in the source; converted to the field's unit exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// How sure the rule is, in thousandths; 1000 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<u16>,
    /// Where the rule comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
}

/// Cuts a text into parts and keeps one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// What divides the parts.
    pub by: String,
    /// Which part, from 0; a missing part is null.
    pub part: usize,
}

/// A case to bring text into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// All capitals.
    Upper,
    /// No capitals.
    Lower,
}

/// Where a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The names are the same.
    Exact,
    /// Found by names, types and values.
    Heuristic,
    /// Found beside approved mappings.
    Rag,
    /// Proposed by a model.
    Llm,
    /// A person's.
    Human,
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            #[serde(default)]
            from: Paths,
            join: Option<String>,
            constant: Option<String>,
            split: Option<Split>,
            #[serde(default)]
            trim: bool,
            case: Option<Case>,
            #[serde(default)]
            values: IndexMap<String, String>,
            format: Option<String>,
            unit: Option<Unit>,
            confidence: Option<u16>,
            method: Option<Method>,
        }
        /// A rule is a path's text or a map; told apart by hand, so that a typo in the map is named.
        struct RuleVisitor;
        impl<'de> serde::de::Visitor<'de> for RuleVisitor {
            type Value = Rule;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a path, or a rule with from, join, constant, split, trim, case, values, format, unit")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rule, E> {
                let from = Paths(vec![Path::new(text).map_err(E::custom)?]);
                Ok(Rule { from, ..Rule::default() })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
                let full = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let Full { from, join, constant, split, trim, case, values, format, unit, confidence, method } = full;
                Ok(Rule { from, join, constant, split, trim, case, values, format, unit, confidence, method })
            }
        }
        deserializer.deserialize_any(RuleVisitor)
    }
}

/// What is wrong with a mapping, beyond its syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMapping {
    /// No such field.
    #[error("entity {entity} has no field {field}; it has {known}")]
    UnknownField {
        /// The entity.
        entity: EntityName,
        /// The name.
        field: EntityName,
        /// The names that there are.
        known: String,
    },
    /// A required field has no rule.
    #[error("the required field {field} of entity {entity} has no rule")]
    RequiredUnmapped {
        /// The entity.
        entity: EntityName,
        /// The field.
        field: EntityName,
    },
    /// A rule says nothing.
    #[error("the rule of {0} needs from or constant")]
    EmptyRule(EntityName),
    /// More paths than can be kept apart.
    #[error("the mapping names more than 4,096 paths")]
    TooManyPaths,
    /// A transform that does not go with the type.
    #[error("the rule of {field}: {transform} does not go with type {type_name}")]
    TransformType {
        /// The field.
        field: EntityName,
        /// The transform.
        transform: &'static str,
        /// The field's type.
        type_name: &'static str,
    },
}

impl Mapping {
    /// Checks the mapping against the entity that it fills.
    pub fn validate(&self, entity: &Entity) -> Result<(), InvalidMapping> {
        for (name, rule) in &self.fields {
            let Some(field) = entity.fields.iter().find(|f| f.name == *name) else {
                let known = entity.fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(InvalidMapping::UnknownField { entity: entity.entity.clone(), field: name.clone(), known });
            };
            if rule.from.is_empty() && rule.constant.is_none() {
                return Err(InvalidMapping::EmptyRule(name.clone()));
            }
            let field_type = field.field_type();
            let refuse = |transform| {
                Err(InvalidMapping::TransformType { field: name.clone(), transform, type_name: field_type.name() })
            };
            use crate::value::FieldType as T;
            if rule.format.is_some() && !matches!(field_type, T::Date | T::Timestamp) {
                return refuse("format");
            }
            if rule.unit.is_some() && !matches!(field_type, T::Decimal { .. } | T::Integer) {
                return refuse("unit");
            }
        }
        for field in entity.fields.iter().filter(|f| f.required) {
            if !self.fields.contains_key(&field.name) {
                let (entity, field) = (entity.entity.clone(), field.name.clone());
                return Err(InvalidMapping::RequiredUnmapped { entity, field });
            }
        }
        let paths = |paths: &Paths| paths.0.iter().map(|p| p.choices().len()).sum::<usize>();
        if self.fields.values().map(|r| paths(&r.from)).sum::<usize>() + paths(&self.key) > 4096 {
            return Err(InvalidMapping::TooManyPaths);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_alternatives_and_escapes() {
        let path = Path::new(r"Owner.Name | a\.b.c |d\|e").unwrap();
        assert_eq!(path.choices(), [vec!["Owner", "Name"], vec!["a.b", "c"], vec!["d|e"]]);
        assert_eq!(Path::member("a.b|c\\").unwrap().choices(), [vec!["a.b|c\\"]]);
        for bad in ["", "a..b", "a|", "|", "a\\", ".a"] {
            assert!(Path::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_typo_in_a_rule_is_named() {
        let error = serde_json::from_str::<Rule>(r#"{"form":"Amount"}"#).unwrap_err().to_string();
        assert!(error.contains("form"), "{error}");
    }

    #[test]
    fn a_mapping_reads_back_from_its_text() {
        let text = r#"{"entity":"order","key":"id","version":"updated","deleted":{"field":"gone","equals":"Y"},
            "fields":{"id":"id","total":{"from":["a","b | c"],"join":" ","unit":"cents"},"currency":{"constant":"EUR"}}}"#;
        let mapping: Mapping = serde_json::from_str(text).unwrap();
        let back: Mapping = serde_json::from_str(&mapping.text()).unwrap();
        assert_eq!(back, mapping);
        assert_eq!(back.hash(), mapping.hash());
    }
}
