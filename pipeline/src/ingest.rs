//! Ingest: opens streams and puts their records on the log. An append that is answered is on disk.

use std::sync::Arc;

use schemas::input::{Command, DefinitionKind};
use schemas::mapping::InvalidMapping;
use schemas::record::RecordBatch;
use schemas::{Batch, BatchHeader, BatchKind, Entity, EntityName, Input, Mapping, StreamId, Topic};
use serde::{Deserialize, Serialize};

use crate::definitions::{self, DefinitionError};
use crate::log::{Durability, Log, LogError};
use crate::store::{Expect, Store, StoreError, Table};

/// What the register says about a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Its partition of `inputs` and `decisions`, fixed when it was opened.
    pub partition: u32,
    /// What its records are, fixed when it was opened.
    pub entity: EntityName,
    /// The mapping last asked for.
    pub mapping: Mapping,
    /// The entity's definition last asked for.
    pub entity_definition: Entity,
}

/// Ingest cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entity cannot be defined so.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The mapping does not fit the entity.
    #[error(transparent)]
    Mapping(#[from] InvalidMapping),
    /// A stream feeds one entity for ever.
    #[error("stream {stream} feeds {opened}; for {asked} open another stream over the same source")]
    OtherEntity {
        /// The stream.
        stream: StreamId,
        /// What it was opened for.
        opened: EntityName,
        /// What was asked for.
        asked: EntityName,
    },
}

/// The front door.
#[derive(Clone)]
pub struct Ingest {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
}

/// A stream that records can be appended to.
#[derive(Debug, Clone)]
pub struct OpenStream {
    /// The stream.
    pub id: StreamId,
    /// Its partition.
    pub partition: u32,
}

impl Ingest {
    /// A door to this log and store.
    pub fn new(log: Arc<dyn Log>, store: Arc<dyn Store>) -> Self {
        Self { log, store }
    }

    /// Opens a stream with a mapping, or puts another mapping in force. `entity` brings new definitions; without it the
    /// tenant's own or the shipped one is used. `by` says who wants it.
    pub async fn open(
        &self,
        stream: &StreamId,
        mapping: &Mapping,
        entity: Option<&Entity>,
        by: &str,
    ) -> Result<OpenStream, IngestError> {
        let entity = match entity {
            Some(entity) => definitions::define_entity(&*self.store, stream.tenant, entity).await?,
            None => self.known_entity(stream, &mapping.entity).await?,
        };
        mapping.validate(&entity)?;
        let key = stream.to_string();
        let row = self.store.get(stream.tenant, Table::Streams, &key).await?;
        let known: Option<StreamRow> = row.as_ref().and_then(|r| serde_json::from_slice(&r.value).ok());
        let partition = match &known {
            Some(known) if known.entity != entity.entity => {
                let (opened, asked) = (known.entity.clone(), entity.entity);
                return Err(IngestError::OtherEntity { stream: stream.clone(), opened, asked });
            }
            Some(known) => known.partition,
            None => (stream.hash() % u64::from(self.log.partitions(Topic::Inputs))) as u32,
        };
        let open = OpenStream { id: stream.clone(), partition };
        let wanted =
            StreamRow { partition, entity: entity.entity.clone(), mapping: mapping.clone(), entity_definition: entity };
        if known.as_ref() == Some(&wanted) {
            return Ok(open);
        }
        self.announce(&open, &wanted, known.is_none(), by).await?;
        let value = serde_json::to_vec(&wanted).expect("a stream's row has only text keys");
        let expect = row.map_or(Expect::Absent, |r| Expect::Version(r.version));
        match self.store.put(stream.tenant, Table::Streams, &key, value.into(), expect).await {
            // Whoever was faster said its own on the log, after or before ours; the log's order counts.
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(open),
            Err(error) => Err(error.into()),
        }
    }

    async fn known_entity(&self, stream: &StreamId, name: &EntityName) -> Result<Entity, IngestError> {
        if let Some(entity) = definitions::entity(&*self.store, stream.tenant, name).await? {
            return Ok(entity);
        }
        let shipped = schemas::ontology::shipped_entities();
        let known = shipped.iter().map(|e| e.entity.as_str()).collect::<Vec<_>>().join(", ");
        Err(DefinitionError::Unknown(name.clone(), known).into())
    }

    /// Puts the definitions, then the opening or the command, on the log: the log first, the register after it.
    async fn announce(&self, open: &OpenStream, row: &StreamRow, first: bool, by: &str) -> Result<(), IngestError> {
        let (mapping, entity_definition) = (row.mapping.hash(), row.entity_definition.hash());
        let last = if first {
            let entity = row.entity.clone();
            Input::StreamOpened {
                stream: open.id.clone(),
                entity,
                mapping: mapping.clone(),
                entity_definition: entity_definition.clone(),
            }
        } else {
            let command = Command::ActivateMapping {
                mapping: mapping.clone(),
                entity_definition: entity_definition.clone(),
                by: by.to_owned(),
            };
            Input::Command { id: format!("activate-{mapping}-{entity_definition}"), command }
        };
        let inputs = [
            Input::Definition { hash: mapping, kind: DefinitionKind::Mapping, text: row.mapping.text() },
            Input::Definition {
                hash: entity_definition,
                kind: DefinitionKind::Entity,
                text: row.entity_definition.text(),
            },
            last,
        ];
        let batches = inputs
            .iter()
            .map(|input| {
                let body = serde_json::to_vec(input).expect("an input has only text keys");
                batch(open, BatchKind::Control, 1, body)
            })
            .collect();
        self.log.append(Topic::Inputs, open.partition, batches, Durability::Durable).await?;
        Ok(())
    }

    /// Appends records; they are on disk when this returns. Answers the offset behind the last. Waits while the log is
    /// busy with as many bytes as it may hold.
    pub async fn append(&self, open: &OpenStream, records: RecordBatch) -> Result<u64, LogError> {
        let count = records.count;
        if count == 0 {
            return self.log.end(Topic::Inputs, open.partition).await;
        }
        let batches = vec![batch(open, BatchKind::Records, count, records.body)];
        let firsts = self.log.append(Topic::Inputs, open.partition, batches, Durability::Durable).await?;
        Ok(firsts.first().copied().unwrap_or_default() + u64::from(count))
    }
}

fn batch(open: &OpenStream, kind: BatchKind, count: u32, body: Vec<u8>) -> Batch {
    let (tenant, subject) = (open.id.tenant, open.id.to_string());
    Batch { header: BatchHeader { kind, tenant, subject, count, logged_at: 0, key_id: 0 }, body: body.into() }
}
