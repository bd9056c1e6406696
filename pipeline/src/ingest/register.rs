//! The register: which streams are open, and what for.

use schemas::{Entity, EntityName, Mapping, StreamId};
use serde::{Deserialize, Serialize};

use super::{Ingest, IngestError, OpenStream};
use crate::store::{Expect, Row, StoreError, Table};

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
    /// Whether the log has it. It is written before and after: who finds it false says it on the log again.
    #[serde(default)]
    pub announced: bool,
    /// What was asked for before: it is again, once the step has refused this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Box<Former>>,
}

/// What was asked for before something else was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    mapping: Mapping,
    entity_definition: Entity,
    announced: bool,
}

impl StreamRow {
    /// Whether the same is asked for, and whether it was announced, whatever was before.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        let said = |row: &Self| (row.partition, row.announced);
        said(self) == said(other)
            && self.entity == other.entity
            && self.mapping == other.mapping
            && self.entity_definition == other.entity_definition
    }

    /// What is asked for now, for whoever asks for something else.
    pub(super) fn as_former(&self) -> Box<Former> {
        let (mapping, entity_definition) = (self.mapping.clone(), self.entity_definition.clone());
        Box::new(Former { mapping, entity_definition, announced: self.announced })
    }

    /// Takes back what was refused. Rows of earlier releases do not tell what was before: such a one is only said again by
    /// who asks for it again.
    fn take_back(&mut self) {
        self.announced = false;
        if let Some(former) = self.former.take() {
            let Former { mapping, entity_definition, announced } = *former;
            (self.mapping, self.entity_definition, self.announced) = (mapping, entity_definition, announced);
        }
    }
}

impl Ingest {
    /// A stream that was opened before, if it was.
    pub async fn find(&self, stream: &StreamId) -> Result<Option<OpenStream>, IngestError> {
        let row = self.store.get(stream.tenant, Table::Streams, &stream.to_string()).await?;
        let known = row.map(|row| read_row(stream, &row)).transpose()?;
        Ok(known.map(|known| OpenStream { id: stream.clone(), partition: known.partition }))
    }

    /// Writes the register's row; nothing when it is not as expected.
    pub(super) async fn register(
        &self,
        open: &OpenStream,
        row: &StreamRow,
        expect: Expect,
    ) -> Result<Option<u64>, IngestError> {
        let value = serde_json::to_vec(row).expect("a stream's row has only text keys");
        match self.store.put(open.id.tenant, Table::Streams, &open.id.to_string(), value.into(), expect).await {
            Ok(version) => Ok(Some(version)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that the step refused what a command of this id announced: what was asked for before is again, so that who asks
    /// for that leaves in force what is, and who asks for the other again says it on the log again. An opener that is not done
    /// has its turn again, and is told.
    pub async fn refused(&self, open: &OpenStream, id: &str) -> Result<(), StoreError> {
        let Some(version) = announced_as(id) else { return Ok(()) };
        let (tenant, key) = (open.id.tenant, open.id.to_string());
        loop {
            let Some(row) = self.store.get(tenant, Table::Streams, &key).await? else { return Ok(()) };
            // Written before it was announced, and once more behind that; whoever wrote later has announced something else.
            if !(version..=version.saturating_add(1)).contains(&row.version) {
                return Ok(());
            }
            // Whoever opens the stream is told that a row cannot be read.
            let Ok(mut known) = serde_json::from_slice::<StreamRow>(&row.value) else { return Ok(()) };
            known.take_back();
            let value = serde_json::to_vec(&known).expect("a stream's row has only text keys");
            match self.store.put(tenant, Table::Streams, &key, value.into(), Expect::Version(row.version)).await {
                Err(StoreError::Conflict { .. }) => {}
                written => return written.map(|_| ()),
            }
        }
    }
}

const ANNOUNCED: &str = "activate-";

/// The id of the command that announces a version of the register's row: no other one of the stream has it.
pub(super) fn announcement(version: u64) -> String {
    format!("{ANNOUNCED}{version}")
}

/// The version that a command of this id announces, if it is one of those.
fn announced_as(id: &str) -> Option<u64> {
    id.strip_prefix(ANNOUNCED)?.parse().ok()
}

/// The stream of a row of the register.
pub(crate) fn opened(stream: &StreamId, row: &Row) -> Result<OpenStream, IngestError> {
    let known = read_row(stream, row)?;
    Ok(OpenStream { id: stream.clone(), partition: known.partition })
}

/// Reads a row of the register.
pub(super) fn read_row(stream: &StreamId, row: &Row) -> Result<StreamRow, IngestError> {
    serde_json::from_slice(&row.value)
        .map_err(|e| IngestError::Unreadable { stream: stream.clone(), message: e.to_string() })
}
