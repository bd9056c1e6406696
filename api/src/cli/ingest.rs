//! `ingest`: files in, every record's fate out.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, bail};
use connectors::file::{FileFormat, FileSettings, FileSource};
use pipeline::Source;
use pipeline::ingest::OpenStream;
use pipeline::source::LaneCursor;
use pipeline::step::{Counters, KeyReader};
use schemas::mapping::{Deleted, MappingFile, Path, Paths};
use schemas::record::{RECORD_BYTES_MAX, RecordBatchReader, RecordBatchWriter};
use schemas::{Entity, Lane, Mapping, Op, Record, StreamId, StreamName, Topic, Version, VersionType, ontology};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{IngestArgs, Mode};
use crate::output::{Output, Progress};
use crate::roles::Line;

/// Bytes of records that go to the log at once.
const BATCH_BYTES: usize = 512 << 10;

/// What became of the records of one run. `in` = visible + superseded + quarantined + duplicate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Fates {
    /// Records acknowledged: durable in `inputs`.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Rows, or deletes, that count now.
    pub visible: u64,
    /// Rows that a greater order key beat, before or after them.
    pub superseded: u64,
    /// Set aside with a reason.
    pub quarantined: u64,
    /// Taken before.
    pub duplicate: u64,
    /// Deletes among the visible and the superseded.
    pub deletes: u64,
}

/// What a run works with, once names and files are checked.
pub struct Plan {
    /// The stream.
    pub stream: StreamId,
    /// Its mapping, with what the command line says instead.
    pub mapping: Mapping,
    /// The entity's definition, if a file brings one.
    pub entity: Option<Entity>,
    /// What to read, and how.
    pub settings: FileSettings,
}

/// Reads files into the line; answers once every record has its fate.
pub async fn run(args: &IngestArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<Fates> {
    let started = Instant::now();
    let plan = plan(args, line).await?;
    let open = line.ingest.open(&plan.stream, &plan.mapping, plan.entity.as_ref(), "ingest").await?;
    line.wait_processed(open.partition).await?;
    let before = line.stream_state(&plan.stream).await?;
    let cursors: Vec<LaneCursor> = before
        .as_ref()
        .map(|s| {
            s.lanes.iter().map(|(lane, l)| LaneCursor { lane: *lane, ordinal: l.ordinal, cursor: l.cursor.clone() })
        })
        .into_iter()
        .flatten()
        .collect();
    let counted = before.map_or_else(Counters::default, |s| s.counters);
    let from = line.log.end(Topic::Inputs, open.partition).await?;
    let watch = line.watch(&plan, from).await?;
    let source = FileSource::open(plan.settings.clone(), cursors)?;
    let reading = read(line, &open, source, out).await?;
    let mut acknowledged = reading.acknowledged;
    if args.mode == Mode::Snapshot && reading.failed.is_none() {
        acknowledged += delete_missing(args, line, &plan, &open).await?;
    }
    let mut fates = Fates { taken: acknowledged, ..Fates::default() };
    if args.no_wait {
        line.log.sync().await?;
    } else {
        out.progress(&Progress { acknowledged, stage: "waiting".into(), ..Progress::default() });
        line.wait_processed(open.partition).await?;
        let after = line.stream_state(&plan.stream).await?.map_or_else(Counters::default, |s| s.counters);
        let superseded = line.settle(&plan, watch).await?;
        fates.quarantined = after.quarantined - counted.quarantined;
        fates.duplicate = after.duplicate - counted.duplicate;
        fates.deletes = after.deleted - counted.deleted;
        let rows = after.accepted + after.deleted - counted.accepted - counted.deleted;
        fates.visible = rows.saturating_sub(superseded);
        fates.superseded = rows - fates.visible;
        out.progress(&Progress { acknowledged, stage: "flushing".into(), ..Progress::default() });
        line.flush(plan.stream.tenant, Some(&plan.mapping.entity)).await?;
    }
    report(&plan, fates, args.no_wait, started, out)?;
    match reading.failed {
        Some(error) => Err(error).context("some files could not be read to their end; what was read before is kept"),
        None => Ok(fates),
    }
}

fn report(plan: &Plan, fates: Fates, no_wait: bool, started: Instant, out: &mut dyn Output) -> anyhow::Result<()> {
    let seconds = started.elapsed().as_secs_f64();
    let rate = fates.taken as f64 / seconds.max(1e-9);
    if out.json() {
        let mut value = serde_json::to_value(fates)?;
        value["durable"] = fates.taken.into();
        value["seconds"] = serde_json::json!(seconds);
        return Ok(out.value(&value)?);
    }
    let Fates { taken, visible, superseded, quarantined, duplicate, deletes } = fates;
    let stream = &plan.stream;
    if no_wait {
        out.line(&format!("{stream}: {taken} records durable, {rate:.0} a second"))?;
        return Ok(());
    }
    out.line(&format!(
        "{stream}: {taken} in = {visible} visible + {superseded} superseded + {quarantined} quarantined + {duplicate} \
         duplicate; {deletes} of them deletes; {rate:.0} a second"
    ))?;
    if quarantined > 0 {
        out.line("see why with: autonomos quarantine list")?;
    }
    Ok(())
}

struct Reading {
    acknowledged: u64,
    failed: Option<pipeline::SourceError>,
}

/// Reads the source to its end and appends everything; reading goes on while the log writes.
async fn read(line: &Line, open: &OpenStream, mut source: FileSource, out: &mut dyn Output) -> anyhow::Result<Reading> {
    let total = source.total_bytes();
    let (sender, mut receiver) = mpsc::channel(2);
    let reader = tokio::spawn(async move {
        loop {
            let next = source.next(BATCH_BYTES).await;
            let last = !matches!(next, Ok(Some(_)));
            if sender.send(next).await.is_err() || last {
                return;
            }
        }
    });
    let mut reading = Reading { acknowledged: 0, failed: None };
    let mut progress = Progress { source_bytes_total: total, stage: "reading".into(), ..Progress::default() };
    while let Some(next) = receiver.recv().await {
        match next {
            Ok(Some(batch)) => {
                let count = u64::from(batch.records.count);
                line.ingest.append(open, batch.records).await?;
                reading.acknowledged += count;
                progress.acknowledged = reading.acknowledged;
                progress.source_bytes += batch.source_bytes;
                out.progress(&progress);
            }
            Ok(None) => break,
            Err(error) => reading.failed = Some(error),
        }
    }
    reader.await.context("the reader of the files ended early")?;
    Ok(reading)
}

/// The keys of everything that the files hold, read as the step reads them; what the line took before is read again.
async fn keys_of_files(plan: &Plan) -> anyhow::Result<HashSet<String>> {
    let mut source = FileSource::open(plan.settings.clone(), Vec::new())?;
    let mut payload_keys = KeyReader::of(&plan.mapping);
    let mut keys = HashSet::new();
    while let Some(batch) = source.next(BATCH_BYTES).await? {
        let mut reader = RecordBatchReader::new(&batch.records.body)?;
        while let Some(record) = reader.next_record()? {
            let key = record.key.or_else(|| payload_keys.read(record.payload));
            // Most keys repeat in nothing but the snapshot before: only new ones are copied.
            if let Some(key) = key.filter(|key| !keys.contains(*key)) {
                keys.insert(key.to_owned());
            }
        }
    }
    Ok(keys)
}

/// Appends a delete for each visible row of the stream whose key the snapshot lacks.
async fn delete_missing(args: &IngestArgs, line: &Line, plan: &Plan, open: &OpenStream) -> anyhow::Result<u64> {
    let keys = keys_of_files(plan).await?;
    line.wait_processed(open.partition).await?;
    let visible = line.visible_keys(&plan.stream, &plan.mapping.entity).await?;
    let missing: Vec<&String> = visible.iter().filter(|key| !keys.contains(*key)).collect();
    if missing.is_empty() {
        return Ok(0);
    }
    let share = missing.len() as f64 / visible.len() as f64 * 100.0;
    if share > f64::from(args.max_deletes) {
        bail!(
            "the snapshot lacks {} of {} rows ({share:.1} %), more than {} %: nothing was deleted. If they are really \
             gone, run it again with --max-deletes {}",
            missing.len(),
            visible.len(),
            args.max_deletes,
            share.ceil() as u64
        );
    }
    let lane = Lane(uuid::Uuid::now_v7().as_u128());
    let mut writer = RecordBatchWriter::new(lane, 0, missing.len() * 32);
    for (at, key) in missing.iter().enumerate() {
        writer.push(&Record {
            ordinal: at as u64 + 1,
            op: Op::Delete,
            key: Some(key.as_str()),
            version: Version::None,
            defect: None,
            payload: b"{}",
        });
    }
    debug_assert!(writer.bytes() < RECORD_BYTES_MAX * 4);
    line.ingest.append(open, writer.finish(b"")).await?;
    Ok(missing.len() as u64)
}

/// Checks the names, finds the mapping and applies what the command line says instead.
pub async fn plan(args: &IngestArgs, line: &Line) -> anyhow::Result<Plan> {
    let tenant = if args.dry_run {
        line.tenant_or_new(&args.tenant.parse()?).await?
    } else {
        line.ensure_tenant(&args.tenant.parse()?).await?
    };
    let stream = StreamId { tenant, connection: args.connection.parse()?, stream: args.stream.parse()? };
    let file = mapping_file(args, line)?;
    let mut mapping = stream_mapping(&file, &stream.stream)?.clone();
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
    let settings = settings(args, mapping.key.is_empty())?;
    if let Some(version) = &args.version {
        mapping.version = Some(Path::new(version)?);
        mapping.version_type = None;
    }
    mapping.version_type = match (&args.version_type, &mapping.version, mapping.version_type) {
        (Some(name), ..) => Some(
            serde_json::from_value(name.as_str().into())
                .map_err(|_| anyhow::anyhow!("there is no version type {name:?}: choose time, integer or text"))?,
        ),
        (None, Some(path), None) if args.version.is_some() => Some(version_type(line, &stream, path, &settings).await?),
        (None, _, known) => known,
    };
    let mut entity = file.entities.iter().find(|e| e.entity == mapping.entity).cloned();
    if entity.is_none() {
        entity = line.folder_entity(&mapping.entity)?;
    }
    Ok(Plan { stream, mapping, entity, settings })
}

fn mapping_file(args: &IngestArgs, line: &Line) -> anyhow::Result<MappingFile> {
    if let Some(text) = &args.mapping_text {
        let name = args.mapping.as_ref().map_or_else(|| "the mapping".to_owned(), |p| p.display().to_string());
        return Ok(ontology::read_mapping(&name, text)?);
    }
    let system = args.system.as_deref().context("say --system or --mapping")?;
    if let Some(file) = line.folder_mapping(system)? {
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
    let files = args.files.iter().map(|f| f.to_string_lossy().into_owned()).collect();
    let (encoding, sheet) = (args.encoding.clone(), args.sheet.clone());
    let follow = args.follow;
    Ok(FileSettings { files, format, delimiter, quote, encoding, sheet, content_keys, follow })
}

/// The type of the version that the first records show; a stream that is open keeps its own.
async fn version_type(
    line: &Line,
    stream: &StreamId,
    path: &Path,
    settings: &FileSettings,
) -> anyhow::Result<VersionType> {
    let known = line.stream_state(stream).await?.and_then(|s| {
        let (mapping, _) = s.mapping()?;
        (mapping.version.as_ref() == Some(path)).then_some(mapping.version_type)?
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let mut source = FileSource::open(settings.clone(), Vec::new())?;
    let Some(batch) = source.next(64 << 10).await? else { return Ok(VersionType::Time) };
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
