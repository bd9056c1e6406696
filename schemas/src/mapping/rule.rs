//! Rules: how one canonical field is filled.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Path, Paths, one_or_many};
use crate::entity::Unit;

/// How one canonical field is filled: by the first of its rules whose source is in the record. Mostly there is one; a
/// second one is for a source that gives the same thing in another place and another unit or format.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FieldRules(#[serde(with = "one_or_many")] pub Vec<Rule>);

impl FieldRules {
    /// Every path of every rule.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().flat_map(|rule| &rule.from.0)
    }
}

/// A path, or a path with transforms, which apply in the order of these members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rule {
    /// Where the value stands; several are joined by `join`, blank ones left out.
    #[serde(skip_serializing_if = "Paths::is_empty")]
    pub from: Paths,
    /// What stands between joined values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// Used when no path is present, or all are null or blank.
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
    /// Digits behind the field's last place are rounded, half to even, instead of refused: for numbers that a source
    /// computes in floats, as 0.30000000000000004 for 0.3.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub round: bool,
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
            #[serde(default)]
            round: bool,
            confidence: Option<u16>,
            method: Option<Method>,
        }
        /// A rule is a path's text or a map; told apart by hand, so that a typo in the map is named.
        struct RuleVisitor;
        impl<'de> serde::de::Visitor<'de> for RuleVisitor {
            type Value = Rule;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "a path, or a rule with from, join, constant, split, trim, case, values, format, unit, round",
                )
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rule, E> {
                let from = Paths(vec![Path::new(text).map_err(E::custom)?]);
                Ok(Rule { from, ..Rule::default() })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
                let full = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let Full { from, join, constant, split, trim, case, values, format, unit, round, confidence, method } =
                    full;
                Ok(Rule { from, join, constant, split, trim, case, values, format, unit, round, confidence, method })
            }
        }
        deserializer.deserialize_any(RuleVisitor)
    }
}
