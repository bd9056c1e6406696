//! Mappings: how a record of one stream becomes a canonical row.
//!
//! A mapping file names a system and, for each of its streams, the entity, key, version and rules. `README.md` has an
//! annotated example.

mod check;
mod diff;
mod one_or_many;
mod path;
mod repair;
mod rule;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use check::InvalidMapping;
pub use diff::Difference;
pub use path::{InvalidPath, Path, Paths};
pub use repair::ImpossibleMove;
pub use rule::{Case, FieldRules, Method, Rule, Split};

use crate::entity::Entity;
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
    /// What orders the records of one key; without it, or when it says `none`, the order of arrival does.
    ///
    /// A stream has versions or has none. A record that lacks its version is never taken for one that is older or newer
    /// than all others, so there is no "optional".
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "version_path")]
    pub version: Option<Path>,
    /// The type of the version; `time` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_type: Option<VersionType>,
    /// How a delete is told; one of several signs is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "one_or_many")]
    pub deleted: Vec<Deleted>,
    /// How the source wraps its values, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// Who decides a repair of drift; the rules, unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairs: Option<Repairs>,
    /// The rules of each canonical field.
    pub fields: IndexMap<EntityName, FieldRules>,
}

/// Who decides a repair of drift; the later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repairs {
    /// What is likelier than not and breaks nothing is applied by itself; a person decides the rest.
    Propagate,
    /// What is sure, breaks nothing and fits the last held records is applied by itself; a person decides the rest.
    Automatic,
    /// A person decides every one.
    Approve,
    /// A person decides every one, and until then everything that comes is held.
    Stop,
}

impl Repairs {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Propagate, Self::Automatic, Self::Approve, Self::Stop];

    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Propagate => "propagate",
            Self::Automatic => "automatic",
            Self::Approve => "approve",
            Self::Stop => "stop",
        }
    }
}

/// A way of wrapping values in objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// MongoDB Extended JSON, canonical or relaxed: `{"$oid": …}`, `{"$date": …}`, `{"$numberLong": …}` and the like
    /// are read as the id, time or number that they wrap.
    ExtendedJson,
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

fn version_path<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Path>, D::Error> {
    Path::or_none(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// How a delete is told from an upsert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deleted {
    /// The field that tells it.
    pub field: Path,
    /// The value that means deleted, whatever the case; without it the field is read as yes or no, or as a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_in_a_rule_is_named() {
        let error = serde_json::from_str::<Rule>(r#"{"form":"Amount"}"#).unwrap_err().to_string();
        assert!(error.contains("form"), "{error}");
    }

    #[test]
    fn a_stream_without_versions_says_none_or_nothing() {
        for version in ["", r#""version":"none","#] {
            let text = format!(r#"{{"entity":"order","key":"id",{version}"fields":{{}}}}"#);
            assert_eq!(serde_json::from_str::<Mapping>(&text).unwrap().version, None);
        }
    }

    #[test]
    fn a_mapping_reads_back_from_its_text() {
        let text = r#"{"entity":"order","key":"id","version":"updated","deleted":[{"field":"gone","equals":"Y"},{"field":"gone_at"}],
            "dialect":"extended_json","fields":{"id":"id","chance":["p",{"from":"q","unit":"fraction","round":true}],"total":{"from":["a","b | c"],"join":" ","unit":"cents"},"currency":{"constant":"EUR"}}}"#;
        let mapping: Mapping = serde_json::from_str(text).unwrap();
        let back: Mapping = serde_json::from_str(&mapping.text()).unwrap();
        assert_eq!(back, mapping);
        assert_eq!(back.hash(), mapping.hash());
    }
}
