//! Inputs that are no records.

use schemas::advice::{Asked, CallOutcome};
use schemas::decision::Fact;
use schemas::event::ViewControl;
use schemas::input::{Command, DefinitionHash};
use schemas::mapping::Path;
use schemas::{Decision, Entity, Input, Mapping, VersionType};

use super::cast::shorten;
use super::decide::Suggested;
use super::state::Opened;
use super::{InputBatch, Outcome, StepError, StreamState};

/// A longer id of a command is refused, in bytes.
const COMMAND_ID_BYTES_MAX: usize = 256;

pub(super) fn fold_control(state: &mut StreamState, input: InputBatch<'_>) -> Result<Outcome, StepError> {
    let offset = input.first;
    let control: Input =
        serde_json::from_slice(input.body).map_err(|e| StepError::Control { offset, message: e.to_string() })?;
    let mut outcome = Outcome::default();
    let mut facts = Vec::new();
    match control {
        Input::Definition { hash, text, .. } => state.define(hash, text),
        // Opened again after a crash between the log and the register: what is asked for now counts.
        Input::StreamOpened { mapping, entity_definition, .. } => {
            let (mapping, entity, by) = (&mapping, &entity_definition, "open");
            let wanted = Wanted { mapping, entity, by, force: false, made_on: None, why: None };
            if let Err(reason) = activate(state, input, &wanted, &mut outcome) {
                push(&mut outcome, offset, Fact::CommandRefused { id: "open".to_owned(), reason });
            }
        }
        Input::Command { id, .. } if id.len() > COMMAND_ID_BYTES_MAX => {
            let reason = format!("its id is longer than {COMMAND_ID_BYTES_MAX} bytes");
            push(&mut outcome, offset, Fact::CommandRefused { id: shorten(&id), reason });
        }
        Input::Command { id, .. } if !state.take_command(&id) => {}
        Input::Command {
            id,
            command: Command::ActivateMapping { mapping, entity_definition, by, force, made_on, why },
        } => {
            let (mapping, entity, by) = (&mapping, &entity_definition, &*by);
            let wanted = Wanted { mapping, entity, by, force, made_on, why: why.as_deref() };
            let fact = match activate(state, input, &wanted, &mut outcome) {
                Ok(()) => Fact::CommandApplied { id },
                Err(reason) => Fact::CommandRefused { id, reason },
            };
            push(&mut outcome, offset, fact);
        }
        Input::Command { id, command: Command::Decide(decide) } => {
            let fact = match state.decide(&decide, offset, input.logged_at, &mut facts) {
                Ok(()) => Fact::CommandApplied { id },
                Err(reason) => Fact::CommandRefused { id, reason },
            };
            facts.push(fact);
        }
        Input::Command { id, command: Command::SetPolicy { number, policy, by } } => {
            let fact = match state.set_policy(number, policy, by, &mut facts) {
                Ok(()) => Fact::CommandApplied { id },
                Err(reason) => Fact::CommandRefused { id, reason },
            };
            facts.push(fact);
        }
        Input::Command { id, command: Command::Settle(settle) } => {
            let fact = match state.settle(offset, settle, &mut facts) {
                Ok(()) => Fact::CommandApplied { id },
                Err(reason) => Fact::CommandRefused { id, reason },
            };
            facts.push(fact);
        }
        Input::Discarded { settlement, offsets } => state.discard(settlement, &offsets, &mut facts),
        Input::SettlementEnded { settlement } => state.settlement_ended(settlement, &mut facts),
        Input::Suggestion { id, .. } if id.len() > COMMAND_ID_BYTES_MAX || !state.take_command(&id) => {}
        Input::Suggestion { id, case, mapping_version, moves, alternatives, tried, asked, version } => {
            // What was asked was paid for, even if the suggestion comes too late.
            let call = asked.as_ref().and_then(|asked| asked.call.as_ref());
            let (by_model, is_told) = (call.is_some(), call.is_none_or(|call| call.outcome == CallOutcome::Answered));
            facts.extend(asked.into_iter().flat_map(|asked| asked_facts(case, asked)));
            let at = offset;
            let suggested = Suggested { at, case, mapping_version, moves, alternatives, tried, by_model, version };
            // What a model did not answer leaves the case as it is.
            if is_told && let Err(reason) = state.suggested(suggested, &mut facts) {
                facts.push(Fact::CommandRefused { id, reason });
            }
        }
        Input::SchemaDeclared { fields } => state.drift.declare(&fields, offset, &state.shape, &mut facts),
        Input::TimePassed { id } => {
            state.drift.time_passed(&id, input.logged_at, &state.shape, &mut facts);
            state.time_of_waiting(&id, input.logged_at, &mut facts);
        }
    }
    state.waiting.follow(&state.policy, input.logged_at, &mut facts);
    for fact in facts {
        push(&mut outcome, offset, fact);
    }
    Ok(outcome)
}

/// What was looked up and asked for a suggestion, as `decisions` tell it.
fn asked_facts(case: u64, asked: Asked) -> impl Iterator<Item = Fact> {
    let check = asked.coverage.map(|coverage| Fact::RagCoverageCheck {
        case,
        share: coverage.share(),
        recommendation: coverage.recommendation(),
        coverage,
    });
    check.into_iter().chain(asked.call.map(|call| Fact::ModelAsked { case, call }))
}

/// What is to be put in force, and who wants it.
struct Wanted<'a> {
    mapping: &'a DefinitionHash,
    entity: &'a DefinitionHash,
    by: &'a str,
    force: bool,
    /// The mapping version that it was made on.
    made_on: Option<u32>,
    why: Option<&'a str>,
}

/// A mapping that an open stream cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingChange {
    /// Versions of two types have no order that means anything.
    #[error(
        "the versions of an open stream stay {before}, not {after}: with others every later record would lose against \
         what is there, or win; open another stream over the same source"
    )]
    Version {
        /// As they are.
        before: &'static str,
        /// As they would be.
        after: &'static str,
    },
    /// Rows are found by their keys.
    #[error(
        "the key of an open stream stays: with another one every row would stand twice; keep a path of each part \
         (NEW | OLD), open another stream, or force the change"
    )]
    Key,
}

/// Whether an open stream can go from one mapping to the other.
pub fn check_change(before: &Mapping, after: &Mapping, force: bool) -> Result<(), MappingChange> {
    let (old, new) = (version_type(before), version_type(after));
    if old != new {
        return Err(MappingChange::Version { before: old, after: new });
    }
    if force || keeps_key(before, after) { Ok(()) } else { Err(MappingChange::Key) }
}

fn version_type(mapping: &Mapping) -> &'static str {
    match mapping.version.as_ref().map(|_| mapping.version_type.unwrap_or(VersionType::Time)) {
        None => "none",
        Some(VersionType::Time) => "times",
        Some(VersionType::Integer) => "integers",
        Some(VersionType::Text) => "texts",
    }
}

/// Whether records can keep the keys that they had: each part must have a path that it had before.
fn keeps_key(before: &Mapping, after: &Mapping) -> bool {
    let (before, after) = (&before.key.0, &after.key.0);
    let keeps = |(old, new): (&Path, &Path)| old.choices().iter().any(|choice| new.choices().contains(choice));
    before.len() == after.len() && before.iter().zip(after).all(keeps)
}

/// Puts a mapping and an entity definition in force; refused, with the reason, when they do not fit.
fn activate(
    state: &mut StreamState,
    batch: InputBatch<'_>,
    wanted: &Wanted<'_>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let offset = batch.first;
    let Wanted { mapping, entity, by, force, made_on, why } = *wanted;
    let text = |hash: &DefinitionHash| {
        state.definitions.get(hash.as_str()).ok_or_else(|| format!("the definition {hash} was not given"))
    };
    let entity_text = text(entity)?.clone();
    let new_mapping: Mapping = serde_json::from_str(text(mapping)?).map_err(|e| format!("mapping {mapping}: {e}"))?;
    let new_entity: Entity = serde_json::from_str(&entity_text).map_err(|e| format!("entity {entity}: {e}"))?;
    new_mapping.validate(&new_entity).map_err(|e| e.to_string())?;
    if new_mapping.entity != new_entity.entity {
        return Err(format!("the mapping fills {}, the definition is of {}", new_mapping.entity, new_entity.entity));
    }
    let in_force = state.opened.as_ref().map_or(0, |opened| opened.version);
    if let Some(made_on) = made_on.filter(|version| *version != in_force) {
        return Err(format!("it was made on mapping version {made_on}, in force is {in_force}: look again"));
    }
    if let Some(opened) = &state.opened {
        if opened.entity.entity != new_entity.entity {
            return Err(format!("the stream feeds {} for ever", opened.entity.entity));
        }
        if opened.mapping == new_mapping && opened.entity == new_entity {
            return Ok(());
        }
        opened.entity.evolve(&new_entity).map_err(|e| e.to_string())?;
        // Before the first record there is nothing that another order or key could spoil.
        if state.counters.taken > 0 {
            check_change(&opened.mapping, &new_mapping, force).map_err(|e| e.to_string())?;
        }
    }
    let version = state.opened.as_ref().map_or(1, |o| o.version + 1);
    outcome.entity = Some(new_entity.entity.clone());
    let mut input = state.next;
    input.offset = offset;
    outcome.controls.push(ViewControl::EntityDefined { hash: entity.clone(), text: entity_text, input });
    let fact = Fact::MappingActivated {
        version,
        entity: new_entity.entity.clone(),
        mapping: mapping.clone(),
        entity_definition: entity.clone(),
        by: by.chars().take(COMMAND_ID_BYTES_MAX).collect(),
        text: None,
        why: why.map(|why| why.chars().take(1_000).collect()),
    };
    push(outcome, offset, fact);
    state.opened = Some(Opened { entity: new_entity, mapping: new_mapping, version });
    state.bind();
    let mut facts = Vec::new();
    state.drift.end_orphans(&mut facts);
    state.drift.end_mapped(&state.shape, &mut facts);
    state.waiting.follow(&state.policy, batch.logged_at, &mut facts);
    for fact in facts {
        push(outcome, offset, fact);
    }
    // Definitions in force live in `opened`; what was superseded need not be kept to fold on.
    state.definitions.clear();
    Ok(())
}

fn push(outcome: &mut Outcome, input_offset: u64, fact: Fact) {
    let ordinal = outcome.decisions.len() as u32;
    outcome.decisions.push(Decision { input_offset, ordinal, fact });
}
