//! Text: suggestions as a mapping file that one can save, edit and use. What is sure stands as a rule, the rest as comments.

use std::fmt::Write;

use schemas::entity::Unit;
use schemas::mapping::{Deleted, FieldRules, Path, Paths, Rule};
use schemas::ontology::shipped_entity;
use schemas::{Entity, Mapping, VersionType, entity};
use serde_json::Value;

use super::yaml::{flow, scalar};
use super::{Guess, SURE_MIN, Suggestions, Target, key, version};
use crate::step::StreamState;

/// A required field is filled by a guess that is likelier than not, in thousandths, rather than by none.
const GUESS_MIN: u16 = 500;
/// Paths without a field that are named.
const NAMED_MAX: usize = 50;

/// What is said beside the suggestions.
#[derive(Debug, Clone, Default)]
pub struct Said<'a> {
    /// The source system.
    pub system: &'a str,
    /// The mapping of the stream, if it has one: its rules stay.
    pub mapping: Option<&'a Mapping>,
    /// The key, instead of a guess.
    pub key: Option<Paths>,
    /// The version, or that there is none, instead of a guess.
    pub version: Option<Option<Path>>,
    /// The version's type.
    pub version_type: Option<VersionType>,
    /// What tells a deleted row.
    pub deleted: Vec<Deleted>,
    /// A line about how the entity was found.
    pub note: String,
}

/// A mapping file of the stream with everything that is sure; comments tell the rest.
pub fn mapping_text(state: &StreamState, entity: &Entity, suggestions: &Suggestions, said: &Said<'_>) -> String {
    let mut file = File { out: String::new(), entity, suggestions };
    file.head(state, said);
    let (mapping, notes) = file.whole_rows(state, said);
    file.fields(&mapping, &notes);
    file.rest();
    file.out
}

struct File<'a> {
    out: String,
    entity: &'a Entity,
    suggestions: &'a Suggestions,
}

/// What is noted of the key and the version.
#[derive(Default)]
struct Notes {
    key: String,
    version: String,
    /// The key's path, where the id is to be read from it.
    id: Option<Path>,
}

impl File<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        // Writing to a text does not fail.
        let _ = writeln!(self.out, "{:indent$}{text}", "");
    }

    fn head(&mut self, state: &StreamState, said: &Said<'_>) {
        self.line(0, "# Suggested by names, types and values; the numbers are probabilities. What is sure (0.90 or more) stands as");
        self.line(
            0,
            "# a rule, the rest as comments. Read it, edit it, and look again: ingest --dry-run --mapping FILE.",
        );
        self.line(0, &format!("system: {}", scalar(said.system)));
        if shipped_entity(&self.entity.entity).as_ref() != Some(self.entity) {
            self.line(0, "entities:");
            let entity = serde_json::to_value(self.entity).unwrap_or_default();
            self.line(2, &format!("- {}", flow(&entity)));
        }
        self.line(0, "streams:");
        self.line(2, &format!("{}:", scalar(state.stream.stream.as_str())));
    }

    /// What concerns whole rows: entity, key, version, deletes.
    fn whole_rows(&mut self, state: &StreamState, said: &Said<'_>) -> (Mapping, Notes) {
        let mut notes = Notes::default();
        let mapping = said.mapping.cloned().unwrap_or_else(|| self.begun(state, said, &mut notes));
        let value = serde_json::to_value(&mapping).unwrap_or_default();
        let members = value.as_object().into_iter().flatten().filter(|(name, _)| *name != "fields");
        for (name, value) in members {
            let note: &str = match name.as_str() {
                "entity" => &said.note,
                "key" => &notes.key,
                "version" => &notes.version,
                _ => "",
            };
            let note = if note.is_empty() { String::new() } else { format!("  # {note}") };
            let value = if name == "key" { alone(value) } else { value };
            self.line(4, &format!("{}: {}{note}", scalar(name), flow(value)));
        }
        if mapping.key.is_empty() {
            self.line(4, "# key: PATH          # no path looks like one: without it, a row is told apart by its file and content");
        }
        if mapping.version.is_none() {
            self.line(4, "# version: PATH      # no path looks like one: without it, the order of arrival decides");
        }
        (mapping, notes)
    }

    /// The mapping of a stream that has none, without fields.
    fn begun(&self, state: &StreamState, said: &Said<'_>, notes: &mut Notes) -> Mapping {
        let told = |guess: Guess<'_>| match guess.confidence {
            Some(confidence) => format!("a guess, {}: check it", chance(confidence)),
            None => "a guess, by its name and its values, which differ: check it".to_owned(),
        };
        let guessed = |guess: Guess<'_>, note: &mut String| {
            let path = Path::new(guess.path).ok()?;
            *note = told(guess);
            Some(path)
        };
        let key = said.key.clone().unwrap_or_else(|| {
            let guess = key(state, self.entity, self.suggestions);
            Paths(guess.and_then(|guess| guessed(guess, &mut notes.key)).into_iter().collect())
        });
        let version = said.version.clone().unwrap_or_else(|| {
            version(state, self.entity, self.suggestions).and_then(|guess| guessed(guess, &mut notes.version))
        });
        if let [only] = &key.0[..] {
            notes.id = Some(only.clone());
        }
        let (entity, version_type, deleted) = (self.entity.entity.clone(), said.version_type, said.deleted.clone());
        let (objects, dialect, repairs, fields) = (Vec::new(), None, None, Default::default());
        Mapping { entity, objects, key, version, version_type, deleted, dialect, repairs, fields }
    }

    fn fields(&mut self, mapping: &Mapping, notes: &Notes) {
        let has_rules = !mapping.fields.is_empty()
            || self.entity.fields.iter().any(|field| rule_of(self.suggestions, self.entity, notes, field).is_some());
        self.line(4, if has_rules { "fields:" } else { "fields: {}" });
        for field in &self.entity.fields {
            let known = mapping.fields.get(&field.name);
            let added = rule_of(self.suggestions, self.entity, notes, field);
            match (added, known) {
                (Some((target, note)), known) => {
                    let mut rules = FieldRules(vec![target.rule.clone()]);
                    rules.0.extend(known.into_iter().flat_map(|known| known.0.iter().cloned()));
                    self.rule(field, &rules, &note);
                }
                (None, Some(known)) => self.rule(field, known, ""),
                (None, None) => {}
            }
            self.doubtful(field, notes, known.is_some());
        }
    }

    fn rule(&mut self, field: &entity::Field, rules: &FieldRules, note: &str) {
        let note = if note.is_empty() { String::new() } else { format!("  # {note}") };
        self.line(6, &format!("{}: {}{note}", scalar(field.name.as_str()), told(rules)));
    }

    /// What is less sure of a field, and that it must have a rule where it must.
    fn doubtful(&mut self, field: &entity::Field, notes: &Notes, is_known: bool) {
        if rule_of(self.suggestions, self.entity, notes, field).is_some() {
            return;
        }
        let required = if field.required && !is_known { "; it is required" } else { "" };
        match self.suggestions.of(&field.name) {
            Some((path, to)) => {
                let others: Vec<String> =
                    path.alternatives.iter().take(2).map(|a| format!("{} {}", a.field, chance(a.confidence))).collect();
                let others = if others.is_empty() { String::new() } else { format!(", else {}", others.join(", ")) };
                let rule = told(&FieldRules(vec![to.rule.clone()]));
                let chance = chance(to.confidence);
                self.line(6, &format!("# {}: {rule}  # {chance}{others}{required}", scalar(field.name.as_str())));
            }
            None if !required.is_empty() => {
                self.line(6, &format!("# {}: PATH  # no path looks like it{required}", scalar(field.name.as_str())));
            }
            None => {}
        }
    }

    /// What stays empty, and what stays in `extras`.
    fn rest(&mut self) {
        let unfilled: Vec<&str> = self.suggestions.unfilled.iter().map(|field| field.as_str()).collect();
        if !unfilled.is_empty() {
            self.line(4, &format!("# nothing fills: {}", unfilled.join(", ")));
        }
        let extras: Vec<_> = self.suggestions.paths.iter().filter(|path| path.to.is_none()).collect();
        if !extras.is_empty() {
            let named: Vec<String> = extras.iter().take(NAMED_MAX).map(|path| scalar(&path.from)).collect();
            let more = match extras.len().saturating_sub(NAMED_MAX) + self.suggestions.left_out {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.line(4, &format!("# stays in extras: {}{more}", named.join(", ")));
        }
    }
}

/// The rule that a field gets, and what is noted of it.
fn rule_of(
    suggestions: &Suggestions,
    entity: &Entity,
    notes: &Notes,
    field: &entity::Field,
) -> Option<(Target, String)> {
    let found = suggestions.of(&field.name).map(|(_, to)| to);
    match (found, &notes.id) {
        (Some(to), _) if to.confidence >= SURE_MIN => Some((to.clone(), noted(field, to))),
        (_, Some(id)) if field.name.as_str() == format!("{}_id", entity.entity) => {
            let rule = Rule { from: Paths(vec![id.clone()]), ..Rule::default() };
            let note = "a guess: it is the key".to_owned();
            Some((Target { field: field.name.clone(), confidence: 0, rule }, note))
        }
        (Some(to), _) if field.required && to.confidence >= GUESS_MIN => {
            let note = format!("{}: a guess, because it is required: check it", chance(to.confidence));
            Some((to.clone(), note))
        }
        _ => None,
    }
}

fn noted(field: &entity::Field, to: &Target) -> String {
    let is_said = to.rule.unit.is_some();
    match field.unit {
        Unit::Percent if !is_said => {
            format!(
                "{}; one means one percent: {{from: …, unit: fraction}} where the source writes 0.75 for 75",
                chance(to.confidence)
            )
        }
        _ => chance(to.confidence),
    }
}

/// Rules as a mapping file writes them: a path alone where there is nothing else.
fn told(rules: &FieldRules) -> String {
    let short = |rule: &Rule| {
        let plain = Rule { from: rule.from.clone(), ..Rule::default() };
        match &rule.from.0[..] {
            [only] if *rule == plain => Value::from(only.as_str()),
            _ => {
                let mut value = serde_json::to_value(rule).unwrap_or_default();
                if let Some(from) = value.get_mut("from") {
                    *from = alone(from).clone();
                }
                value
            }
        }
    };
    match &rules.0[..] {
        [only] => flow(&short(only)),
        several => flow(&Value::Array(several.iter().map(short).collect())),
    }
}

/// One of its kind as it is, without a list around it.
fn alone(value: &Value) -> &Value {
    match value.as_array().map(Vec::as_slice) {
        Some([only]) => only,
        _ => value,
    }
}

fn chance(thousandths: u16) -> String {
    format!("{}.{:02}", thousandths / 1000, thousandths % 1000 / 10)
}
