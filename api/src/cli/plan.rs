//! Plans: what a run works with. Names, mapping, settings and files are checked before anything is made.

use anyhow::{Context, bail};
use connectors::file::{FileFormat, FileSettings, FileSource};
use pipeline::Source;
use pipeline::step::KeyReader;
use schemas::mapping::Path;
use schemas::record::RecordBatchReader;
use schemas::{Entity, Mapping, StreamId, TenantId, TenantName, Version, VersionType};

use super::{IngestArgs, tenant_name};
use crate::line::{Definitions, Line, Opening, Said};

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

/// An opening, and the files to read. Files and tenant need not be there yet.
pub struct Draft {
    tenant: TenantName,
    opening: Opening,
    settings: FileSettings,
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
        let name = tenant_name(&args.tenant)?;
        let tenant = match &args.behalf {
            Some(behalf) => Some(behalf.tenant),
            None => definitions.find_tenant(&name).await?,
        };
        let opening = Opening::new(args.said(tenant), definitions).await?;
        let settings = settings(args, opening.mapping.key.is_empty())?;
        settings.check()?;
        Ok(Self { tenant: name, opening, settings })
    }

    /// What to read, and how.
    pub fn settings(&self) -> &FileSettings {
        &self.settings
    }

    /// The tenant, if it is there.
    pub fn tenant(&self) -> Option<TenantId> {
        self.opening.tenant()
    }

    /// Finds the files, and reads from the first what only they tell.
    pub async fn look(&mut self, definitions: Definitions<'_>) -> anyhow::Result<()> {
        let source = FileSource::open(self.settings.clone(), Vec::new())?;
        if let Some(path) = self.opening.open_version() {
            let shown = shown_version_type(source, path).await?;
            self.opening.settle_version(shown, definitions).await?;
        }
        Ok(())
    }

    /// The plan for a tenant of this id.
    pub fn plan(self, tenant: TenantId) -> Plan {
        let Opening { connection, stream, mapping, entity, entity_definition, .. } = self.opening;
        let stream = StreamId { tenant, connection, stream };
        Plan { stream, mapping, entity, entity_definition, settings: self.settings }
    }

    /// The plan for the tenant, or for one that is not made.
    pub fn dry_plan(self) -> Plan {
        let tenant = self.opening.tenant().unwrap_or_else(TenantId::generate);
        self.plan(tenant)
    }
}

impl IngestArgs {
    /// What the command line says of the stream.
    pub fn said(&self, tenant: Option<TenantId>) -> Said<'_> {
        let name = self.mapping.as_ref().and_then(|path| path.to_str()).unwrap_or("the mapping");
        Said {
            tenant,
            connection: &self.connection,
            stream: &self.stream,
            system: self.system.as_deref(),
            mapping: self.mapping_text.as_deref().map(|text| (name, text)),
            key: self.key.as_deref(),
            version: self.version.as_deref(),
            version_type: self.version_type.as_deref(),
            deleted: self.deleted.as_deref(),
        }
    }
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
pub async fn shown_version_type(mut source: FileSource, path: &Path) -> anyhow::Result<VersionType> {
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
