//! Mappings that come into force: whether an open stream can take one, and what follows when it does.

use schemas::decision::Fact;
use schemas::event::ViewControl;
use schemas::input::DefinitionHash;
use schemas::mapping::Path;
use schemas::policy::DecisionClass;
use schemas::{Entity, Mapping, Position, VersionType};

use super::control::{COMMAND_ID_BYTES_MAX, push};
use super::state::Opened;
use super::{InputBatch, Outcome, StreamState};

/// What is to be put in force, and who wants it.
pub(super) struct Wanted<'a> {
    pub(super) mapping: &'a DefinitionHash,
    pub(super) entity: &'a DefinitionHash,
    pub(super) by: &'a str,
    pub(super) force: bool,
    /// The mapping version that it was made on.
    pub(super) made_on: Option<u32>,
    pub(super) why: Option<&'a str>,
    /// Whether it leaves alone what a case is about for which records are looked at again, or that is not open yet.
    pub(super) once_read: bool,
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
    /// What two people decide is not decided by one who puts a mapping in force.
    #[error(
        "the case {case} waits for a decision about {what}, and two people decide what is {}: decide the case instead, or \
         leave the rules of {what} as they are",
        .class.name()
    )]
    Undecided {
        /// The case.
        case: Position,
        /// What it waits about: a field, or `$key`, `$version`, `$deleted`.
        what: String,
        /// The class for which two people are wanted.
        class: DecisionClass,
    },
    /// What is missing may be a case that two people decide.
    #[error(
        "records that lack what {what} is made of are held as the case {case}, which opens, or is over, as soon as more have \
         come, and two people decide what is {}: try again a little later, or leave the rules of {what} as they are",
        .class.name()
    )]
    Watched {
        /// The case.
        case: Position,
        /// What it is about: a field, or `$key`, `$version`, `$deleted`.
        what: String,
        /// The class for which two people are wanted.
        class: DecisionClass,
    },
    /// Records are looked at again, and those that were not read yet would be left as they are.
    #[error(
        "records are still being looked at again for the case {case}, which is about {what}: try again a little later, or \
         leave the rules of {what} as they are"
    )]
    StillRead {
        /// The case.
        case: Position,
        /// What it is about: a field, or `$key`, `$version`, `$deleted`.
        what: String,
    },
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

/// Whether a stream has this mapping and entity definition already; refused, with the reason, when it cannot take them.
fn is_in_force(state: &StreamState, mapping: &Mapping, entity: &Entity, force: bool) -> Result<bool, String> {
    let Some(opened) = &state.opened else { return Ok(false) };
    if opened.entity.entity != entity.entity {
        return Err(format!("the stream feeds {} for ever", opened.entity.entity));
    }
    if opened.mapping == *mapping && opened.entity == *entity {
        return Ok(true);
    }
    opened.entity.evolve(entity).map_err(|e| e.to_string())?;
    // Before the first record there is nothing that another order or key could spoil.
    if state.counters.taken > 0 {
        check_change(&opened.mapping, mapping, force).map_err(|e| e.to_string())?;
    }
    Ok(false)
}

/// Puts a mapping and an entity definition in force; refused, with the reason, when they do not fit.
pub(super) fn activate(
    state: &mut StreamState,
    batch: InputBatch<'_>,
    wanted: &Wanted<'_>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let offset = batch.first;
    let Wanted { mapping, entity, by, force, made_on, why, once_read } = *wanted;
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
    if is_in_force(state, &new_mapping, &new_entity, force)? {
        return Ok(());
    }
    state.check_undecided(&new_mapping).map_err(|e| e.to_string())?;
    if once_read {
        state.check_read(&new_mapping).map_err(|e| e.to_string())?;
        state.check_watched(&new_mapping).map_err(|e| e.to_string())?;
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
    // Cases that the new rules settle end with it.
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
