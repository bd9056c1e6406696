//! What a stream is opened with: its mapping, found by a system's name or given as a text, and what was said instead.

use schemas::mapping::{Deleted, InvalidPath, MappingFile, Path, Paths};
use schemas::{ConnectionName, Entity, Mapping, StreamId, StreamName, TenantId, VersionType};
use schemas::{ontology, shipped_mapping, shipped_systems};

use super::Definitions;

/// What is said of a stream that is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The tenant, if it is there.
    pub tenant: Option<TenantId>,
    /// The connection.
    pub connection: &'a str,
    /// The stream within the connection.
    pub stream: &'a str,
    /// The system whose mapping is used.
    pub system: Option<&'a str>,
    /// A mapping file's name and text, instead.
    pub mapping: Option<(&'a str, &'a str)>,
    /// The key's path, instead of the mapping's.
    pub key: Option<&'a str>,
    /// The version's path.
    pub version: Option<&'a str>,
    /// The version's type.
    pub version_type: Option<&'a str>,
    /// What tells a deleted row.
    pub deleted: Option<&'a str>,
}

/// Nothing maps the stream.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoMapping(
    /// Why, and what to do.
    pub String,
);

/// What a stream is opened with: its names are right, and its mapping fits its entity.
pub struct Opening {
    tenant: Option<TenantId>,
    /// The connection.
    pub connection: ConnectionName,
    /// The stream within the connection.
    pub stream: StreamName,
    /// Its mapping, with what was said instead.
    pub mapping: Mapping,
    /// The entity's definition, if a file brings one.
    pub entity: Option<Entity>,
    /// The entity's definition as it will be in force.
    pub entity_definition: Entity,
    /// The type of the version is to be told by the first records.
    is_version_type_open: bool,
}

impl Opening {
    /// Checks the names, finds the mapping, applies what is said instead, and has it fit the entity.
    pub async fn new(said: Said<'_>, definitions: Definitions<'_>) -> anyhow::Result<Self> {
        let (connection, stream) = (said.connection.parse()?, said.stream.parse()?);
        let file = mapping_file(said, definitions)?;
        let mut mapping = stream_mapping(&file, &stream)?.clone();
        if let Some(key) = said.key {
            mapping.key = Paths(key.split(',').map(Path::new).collect::<Result<_, _>>()?);
        }
        if let Some(said) = said.deleted {
            mapping.deleted = vec![deleted(said)?];
        }
        if let Some(version) = said.version {
            mapping.version = Path::or_none(version)?;
            mapping.version_type = None;
        }
        if let Some(name) = said.version_type {
            mapping.version_type = Some(version_type(name)?);
        }
        let is_version_type_open =
            said.version.is_some() && mapping.version.is_some() && mapping.version_type.is_none();
        let mut entity = file.entities.iter().find(|e| e.entity == mapping.entity).cloned();
        if entity.is_none() {
            entity = definitions.folder_entity(&mapping.entity)?;
        }
        let entity_definition = definitions.evolved(said.tenant, &mapping.entity, entity.as_ref()).await?;
        mapping.validate(&entity_definition)?;
        let tenant = said.tenant;
        Ok(Self { tenant, connection, stream, mapping, entity, entity_definition, is_version_type_open })
    }

    /// The tenant, if it is there.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The stream, of a tenant of this id.
    pub fn stream_of(&self, tenant: TenantId) -> StreamId {
        StreamId { tenant, connection: self.connection.clone(), stream: self.stream.clone() }
    }

    /// The version's path, while the type of its values is not known.
    pub fn open_version(&self) -> Option<&Path> {
        self.mapping.version.as_ref().filter(|_| self.is_version_type_open)
    }

    /// Settles the version's type: a stream that is open keeps its own, else it is what the first records have shown.
    pub async fn settle_version(&mut self, shown: VersionType, definitions: Definitions<'_>) -> anyhow::Result<()> {
        if self.open_version().is_some() {
            self.mapping.version_type = Some(self.known_version_type(definitions).await?.unwrap_or(shown));
            self.is_version_type_open = false;
        }
        Ok(())
    }

    async fn known_version_type(&self, definitions: Definitions<'_>) -> anyhow::Result<Option<VersionType>> {
        let Some(tenant) = self.tenant else { return Ok(None) };
        Ok(definitions.stream_state(&self.stream_of(tenant)).await?.and_then(|state| {
            let (mapping, _) = state.mapping()?;
            (mapping.version == self.mapping.version).then_some(mapping.version_type)?
        }))
    }
}

/// What tells a deleted row, from COLUMN or COLUMN=VALUE.
pub fn deleted(said: &str) -> Result<Deleted, InvalidPath> {
    let (field, equals) = match said.split_once('=') {
        Some((field, value)) => (field, Some(value.to_owned())),
        None => (said, None),
    };
    Ok(Deleted { field: Path::new(field)?, equals })
}

/// A version's type by its name.
pub fn version_type(name: &str) -> anyhow::Result<VersionType> {
    let unknown = |_| anyhow::anyhow!("there is no version type {name:?}: choose time, integer or text");
    serde_json::from_value(name.into()).map_err(unknown)
}

fn mapping_file(said: Said<'_>, definitions: Definitions<'_>) -> anyhow::Result<MappingFile> {
    if let Some((name, text)) = said.mapping {
        return Ok(ontology::read_mapping(name, text)?);
    }
    let unnamed = || NoMapping("name a system, or a mapping".into());
    let system = said.system.ok_or_else(unnamed)?;
    if let Some(file) = definitions.folder_mapping(system)? {
        return Ok(file);
    }
    let known = || shipped_systems().collect::<Vec<_>>().join(", ");
    let missing =
        || NoMapping(format!("there is no mapping for {system:?}: use --mapping FILE, or one of {}", known()));
    Ok(shipped_mapping(system).ok_or_else(missing)?)
}

fn stream_mapping<'a>(file: &'a MappingFile, stream: &StreamName) -> anyhow::Result<&'a Mapping> {
    if let Some(mapping) = file.stream(stream) {
        return Ok(mapping);
    }
    let known = file.streams.keys().map(StreamName::as_str).collect::<Vec<_>>().join(", ");
    Err(NoMapping(format!("the mapping of {} has no stream {stream}; it has {known}", file.system)).into())
}
