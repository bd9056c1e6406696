//! Inputs that are no records.

use schemas::decision::Fact;
use schemas::event::ViewControl;
use schemas::input::{Command, DefinitionHash};
use schemas::{Decision, Entity, Input, Mapping};

use super::state::Opened;
use super::{InputBatch, Outcome, StepError, StreamState};

pub(super) fn fold_control(state: &mut StreamState, input: InputBatch<'_>) -> Result<Outcome, StepError> {
    let offset = input.first;
    let control: Input =
        serde_json::from_slice(input.body).map_err(|e| StepError::Control { offset, message: e.to_string() })?;
    let mut outcome = Outcome::default();
    match control {
        Input::Definition { hash, text, .. } => {
            state.definitions.insert(hash.as_str().to_owned(), text);
        }
        Input::StreamOpened { mapping, entity_definition, .. } => {
            // Opened again after a crash between the log and the register: the first one counts.
            if state.opened.is_none() {
                if let Err(reason) = activate(state, offset, &mapping, &entity_definition, "open", &mut outcome) {
                    push(&mut outcome, offset, Fact::CommandRefused { id: "open".to_owned(), reason });
                }
            }
        }
        Input::Command { id, command: Command::ActivateMapping { mapping, entity_definition, by } } => {
            let fact = match activate(state, offset, &mapping, &entity_definition, &by, &mut outcome) {
                Ok(()) => Fact::CommandApplied { id },
                Err(reason) => Fact::CommandRefused { id, reason },
            };
            push(&mut outcome, offset, fact);
        }
        // No timer is ever set yet, so no time that passes means anything.
        Input::TimePassed { .. } => {}
    }
    Ok(outcome)
}

/// Puts a mapping and an entity definition in force; refused, with the reason, when they do not fit.
fn activate(
    state: &mut StreamState,
    offset: u64,
    mapping: &DefinitionHash,
    entity: &DefinitionHash,
    by: &str,
    outcome: &mut Outcome,
) -> Result<(), String> {
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
    if let Some(opened) = &state.opened {
        if opened.entity.entity != new_entity.entity {
            return Err(format!("the stream feeds {} for ever", opened.entity.entity));
        }
        if opened.mapping == new_mapping && opened.entity == new_entity {
            return Ok(());
        }
        opened.entity.evolve(&new_entity).map_err(|e| e.to_string())?;
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
        by: by.to_owned(),
    };
    push(outcome, offset, fact);
    state.opened = Some(Opened { entity: new_entity, mapping: new_mapping, version });
    state.bind();
    // Definitions in force live in `opened`; what was superseded need not be kept to fold on.
    state.definitions.clear();
    Ok(())
}

fn push(outcome: &mut Outcome, input_offset: u64, fact: Fact) {
    let ordinal = outcome.decisions.len() as u32;
    outcome.decisions.push(Decision { input_offset, ordinal, fact });
}
