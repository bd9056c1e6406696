//! What the paths of a stream could fill, as the API and the command line tell it.

use pipeline::onboarding::{Suggested, Suggestions, Target};
use poem_openapi::Object;
use schemas::EntityName;

use crate::line::SuggestedMapping;

/// What the paths of a stream could fill that no rule reads yet.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct SuggestionsInfo {
    /// The stream: `connection/stream`.
    pub stream: String,
    /// The entity that it fills, or would fill.
    pub entity: String,
    /// The version of the mapping that was looked at; null where there is none.
    pub version: Option<u32>,
    /// Entities by how well they fit a stream without a mapping, the best first.
    pub entities: Vec<EntityFit>,
    /// The paths that no rule reads, in the order in which they came.
    pub fields: Vec<FieldSuggested>,
    /// Canonical fields that nothing fills and nothing is suggested for.
    pub unfilled: Vec<String>,
    /// Paths that were not looked at, because they are too many.
    pub left_out: u64,
    /// A mapping file: matches of 0.90 or more as rules, others as comments.
    pub mapping: String,
}

/// How well an entity fits.
#[derive(Debug, Object)]
pub struct EntityFit {
    /// The entity.
    pub entity: String,
    /// From 0 to 1; no probability.
    pub score: f64,
}

/// A path that no rule reads.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct FieldSuggested {
    /// The path, as mappings write it.
    pub from: String,
    /// The type of most of its values.
    #[oai(rename = "type")]
    pub kind: String,
    /// The field that it fills likeliest; null when none is likely, or another path fills it likelier.
    pub to: Option<String>,
    /// How likely that is, from 0 to 1.
    pub confidence: Option<f64>,
    /// What else it could fill, the likeliest first.
    pub alternatives: Vec<FieldAlternative>,
}

/// Another field that a path could fill.
#[derive(Debug, Object)]
pub struct FieldAlternative {
    /// The field.
    pub field: String,
    /// How likely that is, from 0 to 1.
    pub confidence: f64,
}

/// The suggestions for a stream that has a mapping.
pub fn of_stream(found: SuggestedMapping) -> SuggestionsInfo {
    let SuggestedMapping { stream, entity, version, suggestions, text } = found;
    SuggestionsInfo { version: Some(version), ..info(stream.to_string(), &entity, suggestions, text) }
}

/// Suggestions and the mapping file made of them.
pub fn info(stream: String, entity: &EntityName, suggestions: Suggestions, mapping: String) -> SuggestionsInfo {
    SuggestionsInfo {
        stream,
        entity: entity.to_string(),
        version: None,
        entities: Vec::new(),
        fields: suggestions.paths.into_iter().map(field).collect(),
        unfilled: suggestions.unfilled.iter().map(ToString::to_string).collect(),
        left_out: suggestions.left_out as u64,
        mapping,
    }
}

fn field(path: Suggested) -> FieldSuggested {
    let (to, confidence) = path.to.map(|to| (to.field.to_string(), share(to.confidence))).unzip();
    let alternative = |to: Target| FieldAlternative { field: to.field.to_string(), confidence: share(to.confidence) };
    let alternatives = path.alternatives.into_iter().map(alternative).collect();
    FieldSuggested { from: path.from, kind: path.kind.to_owned(), to, confidence, alternatives }
}

/// Thousandths as a number from 0 to 1.
pub fn share(thousandths: u16) -> f64 {
    f64::from(thousandths) / 1000.0
}
