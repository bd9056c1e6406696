//! What a stream was: the versions of its mapping, who or what made each, and the shapes that it had. Rows of `Store`, folded
//! from `decisions`.

use schemas::decision::Fact;
use schemas::input::DefinitionHash;
use schemas::shape::TypeClass;
use schemas::{BatchKind, Decision, EntityName, Input, Position, StreamId, TenantId, Topic};
use serde::{Deserialize, Serialize};

use super::Repairer;
use crate::log::{Log, LogError, Stored};
use crate::process::{ProcessError, stream_of};
use crate::store::{Expect, Row, Store, StoreError, Table};

const READ_BYTES: usize = 1 << 20;
/// Inputs before an activation among which its texts are looked for; they stand right before it.
const LOOK_BACK: u64 = 64;

/// A version of a stream's mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingVersion {
    /// Counted from 1.
    pub version: u32,
    /// The entity that it fills.
    pub entity: EntityName,
    /// The name of its text.
    pub hash: DefinitionHash,
    /// Its text, where it was found.
    pub text: Option<String>,
    /// How it came about.
    pub origin: Origin,
    /// Who wanted it: `open`, `ingest`, `rules`, `command line`, `user:ID` or `key:ID`.
    pub by: String,
    /// Why, where somebody said so.
    #[serde(default)]
    pub why: String,
    /// The case that it repaired, or that was taken back.
    #[serde(default)]
    pub case: Option<Position>,
    /// The input from which on it was in force.
    pub position: Position,
    /// When, in microseconds since 1970 UTC.
    pub at: i64,
}

/// How a version of a mapping came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The stream was opened with it.
    Opened,
    /// Somebody put it in force.
    Set,
    /// A case of drift was repaired.
    Repaired,
    /// A repair was taken back.
    Reverted,
}

impl Origin {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Set => "set",
            Self::Repaired => "repaired",
            Self::Reverted => "reverted",
        }
    }
}

/// A record that showed something new of a stream's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeChange {
    /// The record.
    pub position: Position,
    /// When the log took it, in microseconds since 1970 UTC.
    pub at: i64,
    /// The stream's fingerprint from here on, in hex.
    pub fingerprint: String,
    /// Paths that were seen for the first time with a type, and the type.
    pub observed: Vec<(String, TypeClass)>,
}

impl Repairer {
    /// Keeps what a batch of decisions says of mappings and shapes.
    pub(super) async fn keep_history(
        &self,
        stream: &StreamId,
        stored: &Stored,
        decisions: &[Decision],
    ) -> Result<(), ProcessError> {
        let at = stored.header().logged_at;
        let epoch = self.log.epoch(Topic::Inputs);
        let position = |offset| Position { epoch, partition: self.partition, offset };
        let mut shape: Option<ShapeChange> = None;
        for (place, decision) in decisions.iter().enumerate() {
            match &decision.fact {
                Fact::ShapeObserved { path, class, fingerprint } => {
                    let position = position(decision.input_offset);
                    if shape.as_ref().is_some_and(|known| known.position != position) {
                        self.put_shape(stream, shape.take()).await?;
                    }
                    let new = || ShapeChange { position, at, fingerprint: String::new(), observed: vec![] };
                    let change = shape.get_or_insert_with(new);
                    change.fingerprint.clone_from(fingerprint);
                    change.observed.push((path.clone(), *class));
                }
                Fact::MappingActivated { version, entity, mapping, by, text, why, .. } => {
                    let (origin, case, because) = origin(&decisions[..place], decision, *version);
                    let text = match text {
                        Some(text) => Some(text.clone()),
                        None => definition(&*self.log, stream, self.partition, decision.input_offset, mapping).await?,
                    };
                    let made = MappingVersion {
                        version: *version,
                        entity: entity.clone(),
                        hash: mapping.clone(),
                        text,
                        origin,
                        by: by.clone(),
                        why: why.clone().or(because).unwrap_or_default(),
                        case: case.map(position),
                        position: position(decision.input_offset),
                        at,
                    };
                    let value = serde_json::to_vec(&made).expect("a version has only text keys");
                    let key = version_key(stream, *version);
                    self.store.put(stream.tenant, Table::Mappings, &key, value.into(), Expect::Any).await?;
                }
                _ => {}
            }
        }
        Ok(self.put_shape(stream, shape).await?)
    }

    async fn put_shape(&self, stream: &StreamId, change: Option<ShapeChange>) -> Result<(), StoreError> {
        let Some(change) = change else { return Ok(()) };
        let value = serde_json::to_vec(&change).expect("a shape has only text keys");
        let key = format!("{stream}/{:020}", change.position.offset);
        self.store.put(stream.tenant, Table::Shapes, &key, value.into(), Expect::Any).await.map(|_| ())
    }
}

/// How a version came about: a repair or its revert says so right before, of the same input.
fn origin(before: &[Decision], activated: &Decision, version: u32) -> (Origin, Option<u64>, Option<String>) {
    let same = before.iter().rev().take_while(|decision| decision.input_offset == activated.input_offset);
    for decision in same {
        match &decision.fact {
            Fact::RepairApplied { case, why, .. } => return (Origin::Repaired, Some(*case), Some(why.clone())),
            Fact::RepairReverted { case, why, .. } => return (Origin::Reverted, Some(*case), Some(why.clone())),
            _ => {}
        }
    }
    (if version == 1 { Origin::Opened } else { Origin::Set }, None, None)
}

/// The text of a definition that stands on `inputs` before it was used.
async fn definition(
    log: &dyn Log,
    stream: &StreamId,
    partition: u32,
    before: u64,
    wanted: &DefinitionHash,
) -> Result<Option<String>, LogError> {
    let (mut next, mut found) = (before.saturating_sub(LOOK_BACK), None);
    while next < before {
        let batches = log.read(Topic::Inputs, partition, next, READ_BYTES).await?;
        let Some(end) = batches.last().map(Stored::end) else { break };
        for stored in batches.iter().filter(|s| s.first < before && s.header().kind == BatchKind::Control) {
            if stream_of(stored.header()).as_ref() != Some(stream) {
                continue;
            }
            let Some(body) = stored.body(Topic::Inputs, partition)? else { continue };
            if let Ok(Input::Definition { hash, text, .. }) = serde_json::from_slice(&body)
                && hash == *wanted
            {
                found = Some(text);
            }
        }
        next = end;
    }
    Ok(found)
}

fn version_key(stream: &StreamId, version: u32) -> String {
    format!("{stream}/{version:010}")
}

/// The versions of a stream's mapping from the first behind `after` on, the earliest first.
pub async fn versions(
    store: &dyn Store,
    stream: &StreamId,
    after: Option<u32>,
    limit: usize,
) -> Result<Vec<MappingVersion>, StoreError> {
    let after = after.map(|version| version_key(stream, version));
    let rows = store.scan(stream.tenant, Table::Mappings, &format!("{stream}/"), after.as_deref(), limit).await?;
    rows.iter().map(|(key, row)| read(key, row)).collect()
}

/// A version of a stream's mapping.
pub async fn version(store: &dyn Store, stream: &StreamId, version: u32) -> Result<Option<MappingVersion>, StoreError> {
    let key = version_key(stream, version);
    let row = store.get(stream.tenant, Table::Mappings, &key).await?;
    row.map(|row| read(&key, &row)).transpose()
}

/// What was new of the shapes of a tenant's streams, of one or all, from the first after `after` on.
pub async fn shapes(
    store: &dyn Store,
    tenant: TenantId,
    stream: Option<&StreamId>,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, ShapeChange)>, StoreError> {
    let prefix = stream.map_or_else(String::new, |s| format!("{s}/"));
    let rows = store.scan(tenant, Table::Shapes, &prefix, after, limit).await?;
    rows.into_iter().map(|(key, row)| Ok((key.clone(), read(&key, &row)?))).collect()
}

fn read<T: serde::de::DeserializeOwned>(key: &str, row: &Row) -> Result<T, StoreError> {
    serde_json::from_slice(&row.value).map_err(|e| StoreError::Unreadable(format!("the history {key}: {e}")))
}
