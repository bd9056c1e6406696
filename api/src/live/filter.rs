//! What a reader wants to see.

use schemas::stage::Stage;

use crate::auth::{Caller, Who};
use crate::line::Item;

/// Stages, connections, streams and entities that are wanted; empty for all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Stages.
    pub stages: Vec<Stage>,
    /// Connections.
    pub connections: Vec<String>,
    /// Streams: `connection/stream`.
    pub streams: Vec<String>,
    /// Entities.
    pub entities: Vec<String>,
    /// The connections that the caller's key is bound to.
    bound: Vec<String>,
}

/// A stage that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no stage {0:?}: use ingested, canonicalized, materialized, viewed, quarantined, drift, intent or journaled"
)]
pub struct UnknownStage(String);

impl Filter {
    /// A filter from lists that are divided by commas.
    pub fn new(
        caller: &Caller,
        stages: Option<&str>,
        connections: Option<&str>,
        streams: Option<&str>,
        entities: Option<&str>,
    ) -> Result<Self, UnknownStage> {
        let list = |text: Option<&str>| {
            text.into_iter()
                .flat_map(|t| t.split(','))
                .map(str::trim)
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let stages: Vec<String> = list(stages);
        let stage = |name: &String| {
            serde_json::from_value(name.as_str().into()).map_err(|_| UnknownStage(name.chars().take(40).collect()))
        };
        let bound = match &caller.who {
            Who::Key { connections, .. } => connections.clone(),
            Who::User { .. } => Vec::new(),
        };
        Ok(Self {
            stages: stages.iter().map(stage).collect::<Result<_, _>>()?,
            connections: list(connections),
            streams: list(streams),
            entities: list(entities),
            bound,
        })
    }

    /// Whether an item of that stage is wanted.
    pub fn wants(&self, stage: Stage, item: &Item) -> bool {
        self.wants_of(stage, item.stream.as_deref(), item.entity.as_deref())
    }

    /// The same of what is of a stream or an entity, or of neither.
    pub fn wants_of(&self, stage: Stage, stream: Option<&str>, entity: Option<&str>) -> bool {
        let connection = stream.and_then(|s| s.split('/').next());
        let is_in = |list: &[String], value: Option<&str>| {
            list.is_empty() || value.is_some_and(|value| list.iter().any(|wanted| wanted == value))
        };
        (self.stages.is_empty() || self.stages.contains(&stage))
            && is_in(&self.bound, connection)
            && is_in(&self.connections, connection)
            && is_in(&self.streams, stream)
            && is_in(&self.entities, entity)
    }
}
