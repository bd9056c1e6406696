//! Onboarding: which fields of an entity the paths of a stream could fill that no rule reads yet. The same matcher answers
//! that answers for drift; names, types and probabilities go out, values never do.

mod guess;
#[cfg(test)]
mod tests;
mod text;
mod yaml;

use std::collections::BTreeMap;

use matcher::{Candidate, Field, Kind, Matcher, Problem, Task, TooLarge, likeness};
use schemas::mapping::{Path, Paths, Rule};
use schemas::shape::{NodeId, TypeClass};
use schemas::value::TypeName;
use schemas::{Entity, EntityName, Mapping, entity};

use crate::repair::{Knowledge, field_of, thousandths};
use crate::step::StreamState;

pub use guess::{Guess, key, version};
pub use text::{Said, mapping_text};
pub use yaml::{flow, scalar, visible};

/// From this confidence on a match stands as a rule, in thousandths.
pub const SURE_MIN: u16 = 900;
/// What is less likely is not named, in thousandths.
const LIKELY_MIN: u16 = 80;
/// Paths that are matched, in the order in which they came, and pairs of a path and a field: a second's work.
const PATHS_MAX: usize = 2_000;
const PAIRS_MAX: usize = 400_000;

/// A field that a path could fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The field.
    pub field: EntityName,
    /// How likely that is, in thousandths.
    pub confidence: u16,
    /// What is to be done with the path's value.
    pub rule: Rule,
}

/// A path that fills nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggested {
    /// The path, as mappings write it.
    pub from: String,
    /// The type of most of its values.
    pub kind: &'static str,
    /// The field that it fills likeliest; none when another path does so likelier.
    pub to: Option<Target>,
    /// What else it could fill, the likeliest first.
    pub alternatives: Vec<Target>,
    node: NodeId,
}

/// What the paths of a stream could fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestions {
    /// The paths that fill nothing yet, in the order in which they came.
    pub paths: Vec<Suggested>,
    /// Fields that nothing fills, and for which there is no suggestion.
    pub unfilled: Vec<EntityName>,
    /// Later paths, which were too many to be matched.
    pub left_out: usize,
}

impl Suggestions {
    /// The path that is suggested for a field.
    pub fn of(&self, field: &EntityName) -> Option<(&Suggested, &Target)> {
        self.paths.iter().find_map(|path| Some((path, path.to.as_ref().filter(|to| to.field == *field)?)))
    }
}

/// How well an entity fits a stream.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The entity.
    pub entity: Entity,
    /// How well, in thousandths; no probability.
    pub score: u16,
    /// What the stream's paths could fill of it.
    pub suggestions: Suggestions,
}

/// The entities by how well they fit a stream that has no mapping, the best first.
pub fn fits(state: &StreamState, entities: Vec<Entity>, known: &Knowledge) -> Vec<Fit> {
    let stream = state.stream.stream.as_str();
    let mut all = Vec::new();
    for entity in entities {
        let Ok(suggestions) = suggest(state, None, &entity, known) else { continue };
        let found: u64 =
            suggestions.paths.iter().filter_map(|path| path.to.as_ref()).map(|to| u64::from(to.confidence)).sum();
        let sides = (suggestions.paths.len() + entity.fields.len()).max(1) as u64;
        // Both count: how many of the paths find a field, and how many of the fields a path.
        let share = u16::try_from(2 * found / sides).unwrap_or(1000);
        let name = match known.calls(&entity.entity, stream) {
            true => 1000,
            false => thousandths(likeness(stream, entity.entity.as_str()).max(likeness(stream, entity.table.as_str()))),
        };
        all.push(Fit { score: share / 10 * 7 + name / 10 * 3, entity, suggestions });
    }
    all.sort_by(|one, other| other.score.cmp(&one.score).then(one.entity.entity.cmp(&other.entity.entity)));
    all
}

/// What the paths that no rule of `mapping` reads could fill of the fields that it leaves empty.
pub fn suggest(
    state: &StreamState,
    mapping: Option<&Mapping>,
    entity: &Entity,
    known: &Knowledge,
) -> Result<Suggestions, TooLarge> {
    let targets: Vec<&entity::Field> = entity.fields.iter().filter(|field| is_empty(state, mapping, field)).collect();
    let mut nodes = unread(state, mapping);
    let paths_max = PATHS_MAX.min(PAIRS_MAX / targets.len().max(1));
    let left_out = nodes.len().saturating_sub(paths_max);
    nodes.truncate(paths_max);
    let (tree, profiles) = (state.shape(), state.drift().profiles());
    let sources: Vec<Field> = nodes.iter().map(|(node, _)| field_of(tree.path(*node), profiles.of(*node))).collect();
    let problem = Problem {
        source_entity: state.stream.stream.to_string(),
        target_entity: entity.entity.to_string(),
        targets: targets.iter().map(|field| target(field)).collect(),
        sources,
    };
    let approved = known.approved_for(&entity.entity, &problem.sources);
    let found = Matcher::default().find(&problem, Task::Onboard, &approved)?;
    let winners = winners(&found);
    let mut paths = Vec::new();
    for (row, ((node, path), candidates)) in nodes.into_iter().zip(found).enumerate() {
        let told = |candidate: &Candidate| {
            let confidence = thousandths(candidate.confidence);
            let field = &targets.get(candidate.target).filter(|_| confidence >= LIKELY_MIN)?.name;
            let how = known.rule(&entity.entity, field.as_str(), &tree.path(node));
            let rule = Rule { from: Paths(vec![path.clone()]), ..how.cloned().unwrap_or_default() };
            Some(Target { field: field.clone(), confidence, rule })
        };
        let mut alternatives: Vec<Target> = candidates.iter().filter_map(told).collect();
        let is_winner = candidates.first().is_some_and(|first| winners.get(&first.target) == Some(&row));
        let to = (is_winner && !alternatives.is_empty()).then(|| alternatives.remove(0));
        let kind = problem.sources.get(row).map_or("unknown", |field| kind(field.kind));
        paths.push(Suggested { from: path.as_str().to_owned(), kind, to, alternatives, node });
    }
    let is_suggested = |field: &&EntityName| paths.iter().any(|p| p.to.as_ref().is_some_and(|to| to.field == **field));
    let unfilled = targets.iter().map(|field| &field.name).filter(|field| !is_suggested(field)).cloned().collect();
    Ok(Suggestions { paths, unfilled, left_out })
}

/// The path that has the best claim to each target, of those that have none better.
fn winners(found: &[Vec<Candidate>]) -> BTreeMap<usize, usize> {
    let mut winners: BTreeMap<usize, (usize, f32)> = BTreeMap::new();
    for (row, first) in found.iter().enumerate().filter_map(|(row, candidates)| Some((row, candidates.first()?))) {
        let best = winners.entry(first.target).or_insert((row, first.rank()));
        if first.rank() > best.1 {
            *best = (row, first.rank());
        }
    }
    winners.into_iter().map(|(target, (row, _))| (target, row)).collect()
}

/// The paths with values of their own that no rule reads, and how mappings write them.
fn unread(state: &StreamState, mapping: Option<&Mapping>) -> Vec<(NodeId, Path)> {
    let tree = state.shape();
    let paths = mapping.into_iter().flat_map(|mapping| mapping.fields.values()).flat_map(|rules| rules.paths());
    let read = paths.flat_map(Path::choices).filter_map(|parts| tree.find(parts));
    let read: Vec<NodeId> = read.filter(|node| has_any(state, *node)).collect();
    let is_read = |node: NodeId| {
        read.iter().any(|read| node == *read || tree.is_below(node, *read) || tree.is_below(*read, node))
    };
    let nodes = tree.nodes().filter(|node| has_values(state, *node) && !is_read(*node));
    nodes.filter_map(|node| Some((node, Path::of_parts(&tree.parts(node)).ok()?))).collect()
}

/// An object is told member by member; a list is one value, and so is what stands in a list of objects.
fn has_values(state: &StreamState, node: NodeId) -> bool {
    let (tree, types) = (state.shape(), state.shape().types(node));
    let is_plain = types & (TypeClass::Boolean as u8 | TypeClass::Number as u8 | TypeClass::Text as u8) != 0;
    let is_null = types == 0 && state.drift().profiles().of(node).is_some();
    let is_element = tree.parts(node).contains(&schemas::shape::ELEMENTS);
    match is_element {
        true => is_plain && tree.parts(node).last() != Some(&schemas::shape::ELEMENTS),
        false => is_plain || is_null || types & TypeClass::Array as u8 != 0,
    }
}

/// Whether no rule fills a field from this stream: it has none, or none whose paths were ever there.
fn is_empty(state: &StreamState, mapping: Option<&Mapping>, field: &entity::Field) -> bool {
    let Some(rules) = mapping.and_then(|mapping| mapping.fields.get(&field.name)) else { return true };
    let is_there = |rule: &Rule| {
        let paths = rule.from.0.iter().flat_map(|path| path.choices());
        rule.constant.is_some() || paths.filter_map(|parts| state.shape().find(parts)).any(|node| has_any(state, node))
    };
    !rules.0.iter().any(is_there)
}

/// Whether a path was ever there, were it null: that a mapping names it makes it a node.
fn has_any(state: &StreamState, node: NodeId) -> bool {
    state.shape().types(node) != 0 || state.drift().profiles().of(node).is_some()
}

fn target(field: &entity::Field) -> Field {
    let kind = match field.type_name {
        TypeName::Text => Kind::String,
        TypeName::Integer => Kind::Integer,
        TypeName::Decimal => Kind::Number,
        TypeName::Boolean => Kind::Boolean,
        TypeName::Date => Kind::Date,
        TypeName::Timestamp => Kind::DateTime,
        TypeName::Json => Kind::Object,
    };
    Field { name: field.name.to_string(), kind, description: field.doc.clone(), ..Field::default() }
}

/// A type as entities call it.
const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "text",
        Kind::Integer => "integer",
        Kind::Number => "decimal",
        Kind::Boolean => "boolean",
        Kind::Date => "date",
        Kind::DateTime => "timestamp",
        Kind::Object | Kind::Array => "json",
        Kind::Unknown => "unknown",
    }
}
