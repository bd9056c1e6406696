//! Plans: what a run works with. Names, mapping, settings and files are checked before anything is made.

use anyhow::{Context, bail};
use connectors::file::{FileFormat, FileSettings, FileSource};
use pipeline::Source;
use pipeline::step::KeyReader;
use schemas::mapping::{Deleted, MappingFile, Path, Paths};
use schemas::record::RecordBatchReader;
use schemas::{
    ConnectionName, Entity, Mapping, StreamId, StreamName, TenantId, TenantName, Version, VersionType, ontology,
};

use super::IngestArgs;
use crate::line::{Definitions, Line};

/// Bytes of the source that are looked at to tell the type of its versions.
const LOOK_BYTES: usize = 64 << 10;

/// What a run works with.
pub struct Plan {
    /// The stream.
    pub stream: StreamId,
    /// Its mapping, with what the command line says instead.
    pub mapping: Mapping,
    /// The entity's definition, if a file brings one.
    pub entity: Option<Entity>,
    /// The entity's definition as it will be in force.
    pub entity_definition: Entity,
    /// What to read, and how.
    pub settings: FileSettings,
}

/// A plan whose names, mapping and settings are right. Files and tenant need not be there yet.
pub struct Draft {
    tenant: TenantName,
    tenant_id: Option<TenantId>,
    connection: ConnectionName,
    stream: StreamName,
    mapping: Mapping,
    entity: Option<Entity>,
    entity_definition: Entity,
    settings: FileSettings,
    /// The type of the version is to be told by the first records.
    is_version_type_open: bool,
}

/// Checks everything, finds the files, and makes the tenant when its name is new.
pub async fn plan(args: &IngestArgs, line: &Line) -> anyhow::Result<Plan> {
    let mut draft = Draft::new(args, line.definitions()).await?;
    draft.look(line.definitions()).await?;
    let tenant = match &args.behalf {
        Some(behalf) => behalf.tenant,
        None => line.ensure_tenant(&draft.tenant).await?,
    };
    Ok(draft.plan(tenant))
}

impl Draft {
    /// Checks the names, finds the mapping, applies what the command line says instead, and has it fit the entity.
    pub async fn new(args: &IngestArgs, definitions: Definitions<'_>) -> anyhow::Result<Self> {
        let (tenant, connection, stream) = (args.tenant.parse()?, args.connection.parse()?, args.stream.parse()?);
        let file = mapping_file(args, definitions)?;
        let mut mapping = stream_mapping(&file, &stream)?.clone();
        if let Some(key) = &args.key {
            mapping.key = Paths(key.split(',').map(Path::new).collect::<Result<_, _>>()?);
        }
        if let Some(deleted) = &args.deleted {
            let (field, equals) = match deleted.split_once('=') {
                Some((field, value)) => (field, Some(value.to_owned())),
                None => (deleted.as_str(), None),
            };
            mapping.deleted = vec![Deleted { field: Path::new(field)?, equals }];
        }
        if let Some(version) = &args.version {
            mapping.version = Path::or_none(version)?;
            mapping.version_type = None;
        }
        if let Some(name) = &args.version_type {
            let known = serde_json::from_value(name.as_str().into());
            let unknown = |_| anyhow::anyhow!("there is no version type {name:?}: choose time, integer or text");
            mapping.version_type = Some(known.map_err(unknown)?);
        }
        let is_version_type_open =
            args.version.is_some() && mapping.version.is_some() && mapping.version_type.is_none();
        let settings = settings(args, mapping.key.is_empty())?;
        settings.check()?;
        let tenant_id = match &args.behalf {
            Some(behalf) => Some(behalf.tenant),
            None => definitions.find_tenant(&tenant).await?,
        };
        let mut entity = file.entities.iter().find(|e| e.entity == mapping.entity).cloned();
        if entity.is_none() {
            entity = definitions.folder_entity(&mapping.entity)?;
        }
        let entity_definition = definitions.evolved(tenant_id, &mapping.entity, entity.as_ref()).await?;
        mapping.validate(&entity_definition)?;
        Ok(Self {
            tenant,
            tenant_id,
            connection,
            stream,
            mapping,
            entity,
            entity_definition,
            settings,
            is_version_type_open,
        })
    }

    /// What to read, and how.
    pub fn settings(&self) -> &FileSettings {
        &self.settings
    }

    /// Finds the files, and reads from the first what only they tell.
    pub async fn look(&mut self, definitions: Definitions<'_>) -> anyhow::Result<()> {
        let source = FileSource::open(self.settings.clone(), Vec::new())?;
        if let Some(path) = self.mapping.version.clone().filter(|_| self.is_version_type_open) {
            let known = self.known_version_type(&path, definitions).await?;
            self.mapping.version_type = Some(match known {
                Some(known) => known,
                None => shown_version_type(source, &path).await?,
            });
        }
        Ok(())
    }

    /// The plan for a tenant of this id.
    pub fn plan(self, tenant: TenantId) -> Plan {
        let stream = StreamId { tenant, connection: self.connection, stream: self.stream };
        let (mapping, entity, entity_definition) = (self.mapping, self.entity, self.entity_definition);
        Plan { stream, mapping, entity, entity_definition, settings: self.settings }
    }

    /// The plan for the tenant, or for one that is not made.
    pub fn dry_plan(self) -> Plan {
        let tenant = self.tenant_id.unwrap_or_else(TenantId::generate);
        self.plan(tenant)
    }

    /// A stream that is open keeps the type of its version.
    async fn known_version_type(
        &self,
        path: &Path,
        definitions: Definitions<'_>,
    ) -> anyhow::Result<Option<VersionType>> {
        let Some(tenant) = self.tenant_id else { return Ok(None) };
        let stream = StreamId { tenant, connection: self.connection.clone(), stream: self.stream.clone() };
        Ok(definitions.stream_state(&stream).await?.and_then(|state| {
            let (mapping, _) = state.mapping()?;
            (mapping.version.as_ref() == Some(path)).then_some(mapping.version_type)?
        }))
    }
}

fn mapping_file(args: &IngestArgs, definitions: Definitions<'_>) -> anyhow::Result<MappingFile> {
    if let Some(text) = &args.mapping_text {
        let name = args.mapping.as_ref().map_or_else(|| "the mapping".to_owned(), |p| p.display().to_string());
        return Ok(ontology::read_mapping(&name, text)?);
    }
    let system = args.system.as_deref().context("say --system or --mapping")?;
    if let Some(file) = definitions.folder_mapping(system)? {
        return Ok(file);
    }
    let known = || ontology::shipped_systems().collect::<Vec<_>>().join(", ");
    ontology::shipped_mapping(system)
        .with_context(|| format!("there is no mapping for {system:?}: use --mapping FILE, or one of {}", known()))
}

fn stream_mapping<'a>(file: &'a MappingFile, stream: &StreamName) -> anyhow::Result<&'a Mapping> {
    if let Some(mapping) = file.stream(stream) {
        return Ok(mapping);
    }
    let known = file.streams.keys().map(StreamName::as_str).collect::<Vec<_>>().join(", ");
    bail!("the mapping of {} has no stream {stream}; it has {known}", file.system)
}

/// How the files are to be read.
pub fn settings(args: &IngestArgs, content_keys: bool) -> anyhow::Result<FileSettings> {
    let format: Option<FileFormat> = match &args.format {
        Some(name) => Some(serde_json::from_value(name.as_str().into()).map_err(|_| {
            anyhow::anyhow!("there is no file format {name:?}: choose csv, ndjson, json, parquet or excel")
        })?),
        None => None,
    };
    let delimiter = match args.delimiter.as_deref() {
        None => None,
        Some("\\t" | "tab") => Some(b'\t'),
        Some(text) if text.len() == 1 => Some(text.as_bytes()[0]),
        Some(text) => bail!("the delimiter {text:?} is not one character"),
    };
    let quote = match args.quote {
        Some(quote) => Some(u8::try_from(quote).context("the quote must be an ASCII character")?),
        None => None,
    };
    let text = |file: &std::path::PathBuf| {
        let text = file.to_str().with_context(|| format!("the path {file:?} is no UTF-8: rename it"))?;
        anyhow::Ok(text.to_owned())
    };
    let files = args.files.iter().map(text).collect::<Result<_, _>>()?;
    let (encoding, sheet) = (args.encoding.clone(), args.sheet.clone());
    let follow = args.follow;
    let bounds = args.behalf.as_ref().map(|behalf| behalf.bounds.clone());
    Ok(FileSettings { files, format, delimiter, quote, encoding, sheet, content_keys, follow, bounds })
}

/// The type of the version that the first records show.
async fn shown_version_type(mut source: FileSource, path: &Path) -> anyhow::Result<VersionType> {
    let Some(batch) = source.next(LOOK_BYTES).await? else { return Ok(VersionType::Time) };
    let mut reader = RecordBatchReader::new(&batch.records.body)?;
    let mut values = KeyReader::new(std::slice::from_ref(path));
    while let Some(record) = reader.next_record()? {
        if let Some(text) = values.read(record.payload) {
            let fits = |version_type: &VersionType| Version::parse(text, *version_type).is_some();
            let order = [VersionType::Integer, VersionType::Time, VersionType::Text];
            return Ok(order.into_iter().find(fits).unwrap_or(VersionType::Text));
        }
    }
    Ok(VersionType::Time)
}
