//! Inputs that are no records.

use schemas::advice::{Asked, CallOutcome};
use schemas::decision::Fact;
use schemas::input::Command;
use schemas::{Decision, Input};

use super::activation::{Wanted, activate};
use super::cast::shorten;
use super::decide::Suggested;
use super::{InputBatch, Outcome, StepError, StreamState};

/// A longer id of a command is refused, in bytes.
pub(super) const COMMAND_ID_BYTES_MAX: usize = 256;

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
            let wanted = Wanted { mapping, entity, by, force: false, made_on: None, why: None, once_read: false };
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
            command: Command::ActivateMapping { mapping, entity_definition, by, force, made_on, why, once_read },
        } => {
            let (mapping, entity, by) = (&mapping, &entity_definition, &*by);
            let wanted = Wanted { mapping, entity, by, force, made_on, why: why.as_deref(), once_read };
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
        Input::RecallEnded { case, at, since } => state.drift.recall_ended(case, (at, since)),
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

pub(super) fn push(outcome: &mut Outcome, input_offset: u64, fact: Fact) {
    let ordinal = outcome.decisions.len() as u32;
    outcome.decisions.push(Decision { input_offset, ordinal, fact });
}
