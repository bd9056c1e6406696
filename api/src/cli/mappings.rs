//! `mappings` and `drift`: the mappings of streams, what they were, and how the streams' shapes have changed.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use schemas::mapping::MappingFile;
use schemas::time::format_timestamp;
use schemas::{Mapping, StreamId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::line::{COMMAND_LINE, DriftOf, InForce, Line, kind_of};
use crate::output::Output;

const PAGE: usize = 500;

/// What to do with mappings.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum MappingsCommand {
    /// List the mappings in force, and who or what made each.
    List(TenantArgs),
    /// Show a stream's mapping: the one in force, or a version.
    Show(ShowMappingArgs),
    /// List the versions of a stream's mapping: who or what made each, when and why.
    History(StreamArgs),
    /// Tell what differs between two versions of a stream's mapping.
    Diff(DiffArgs),
    /// Put another mapping in force for what comes from now on.
    Set(SetMappingArgs),
}

/// What to see of drift.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum DriftCommand {
    /// List the streams, with their fingerprints and how many cases they had.
    List(TenantArgs),
    /// Show how a stream's shape changed, record by record, and its cases.
    Show(StreamArgs),
}

/// Whose streams.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct TenantArgs {
    /// Whose streams.
    #[arg(long)]
    pub tenant: String,
}

/// Which stream.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct StreamArgs {
    /// Whose stream.
    #[arg(long)]
    pub tenant: String,
    /// The stream: CONNECTION/STREAM.
    pub stream: String,
}

/// Options of `mappings show`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ShowMappingArgs {
    /// The stream.
    #[command(flatten)]
    pub of: StreamArgs,
    /// This version; the one in force when left out.
    #[arg(long = "mapping-version")]
    pub version: Option<u32>,
}

/// Options of `mappings diff`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DiffArgs {
    /// The stream.
    #[command(flatten)]
    pub of: StreamArgs,
    /// The first version.
    #[arg(long)]
    pub from: u32,
    /// The second one; the one in force when left out.
    #[arg(long)]
    pub to: Option<u32>,
}

/// Options of `mappings set`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SetMappingArgs {
    /// The stream.
    #[command(flatten)]
    pub of: StreamArgs,
    /// A mapping file that has the stream, or a file with the stream's mapping alone; in YAML or JSON.
    pub file: PathBuf,
    /// The file's text; filled in by the command itself.
    #[arg(skip)]
    #[serde(default)]
    pub text: Option<String>,
    /// The mapping version that it was made on; by default the one in force.
    #[arg(long)]
    pub mapping_version: Option<u32>,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    pub why: String,
}

/// Carries out a `mappings` command.
pub async fn run(command: MappingsCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    line.wait_cases().await?;
    match command {
        MappingsCommand::List(args) => list(&args, line, out).await,
        MappingsCommand::Show(args) => show(&args, line, out).await,
        MappingsCommand::History(args) => history(&args, line, out).await,
        MappingsCommand::Diff(args) => diff(&args, line, out).await,
        MappingsCommand::Set(args) => set(&args, line, out).await,
    }
}

/// Carries out a `drift` command.
pub async fn drift(command: DriftCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    line.wait_cases().await?;
    match command {
        DriftCommand::List(args) => list_drift(&args, line, out).await,
        DriftCommand::Show(args) => show_drift(&args, line, out).await,
    }
}

async fn stream_of(args: &StreamArgs, line: &Line) -> anyhow::Result<StreamId> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let Some((connection, stream)) = args.stream.split_once('/') else {
        bail!("{:?} names no stream: write CONNECTION/STREAM", args.stream)
    };
    Ok(StreamId { tenant, connection: connection.parse()?, stream: stream.parse()? })
}

async fn in_force(stream: &StreamId, line: &Line) -> anyhow::Result<InForce> {
    let now = line.mapping_in_force(stream).await?;
    now.with_context(|| format!("there is no stream {stream}: see autonomos mappings list"))
}

/// Every stream of a tenant.
async fn streams(tenant: TenantId, line: &Line) -> anyhow::Result<Vec<StreamId>> {
    let mut all: Vec<StreamId> = Vec::new();
    loop {
        let after = all.last().map(ToString::to_string);
        let page = line.stream_names(tenant, after.as_deref(), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

async fn list(args: &TenantArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let mut rows = Vec::new();
    for stream in streams(tenant, line).await? {
        let Some(now) = line.mapping_in_force(&stream).await? else { continue };
        let made = now.made.as_ref();
        rows.push(vec![
            json!(stream.to_string()),
            json!(now.entity.as_str()),
            json!(now.version),
            json!(now.mapping.fields.len()),
            json!(made.map(|made| made.origin.name())),
            json!(made.map(|made| made.by.as_str())),
            json!(made.map(|made| format_timestamp(made.at))),
        ]);
    }
    Ok(out.table(&["stream", "entity", "version", "fields", "origin", "by", "at"], &rows)?)
}

async fn version(stream: &StreamId, version: u32, line: &Line) -> anyhow::Result<Mapping> {
    let known = line.mapping_version(stream, version).await?;
    let (mapping, _) =
        known.with_context(|| format!("{stream} has no version {version}: see autonomos mappings history"))?;
    Ok(mapping)
}

async fn show(args: &ShowMappingArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream = stream_of(&args.of, line).await?;
    let mapping = match args.version {
        None => in_force(&stream, line).await?.mapping,
        Some(wanted) => version(&stream, wanted, line).await?,
    };
    if out.json() {
        return Ok(out.value(&mapping)?);
    }
    Ok(out.line(serde_saphyr::to_string(&mapping)?.trim_end())?)
}

async fn history(args: &StreamArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream = stream_of(args, line).await?;
    in_force(&stream, line).await?;
    let row = |made: pipeline::repair::MappingVersion| {
        vec![
            json!(made.version),
            json!(made.origin.name()),
            json!(made.by),
            json!(format_timestamp(made.at)),
            json!(made.case.map(|case| case.to_string())),
            json!(made.why),
            json!(made.hash.as_str()),
        ]
    };
    let rows: Vec<_> = line.mapping_history(&stream).await?.into_iter().map(row).collect();
    Ok(out.table(&["version", "origin", "by", "at", "case", "why", "hash"], &rows)?)
}

async fn diff(args: &DiffArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream = stream_of(&args.of, line).await?;
    let before = version(&stream, args.from, line).await?;
    let after = match args.to {
        Some(to) => version(&stream, to, line).await?,
        None => in_force(&stream, line).await?.mapping,
    };
    for difference in before.diff(&after) {
        if out.json() {
            out.value(&difference)?;
            continue;
        }
        for (sign, said) in [('-', &difference.before), ('+', &difference.after)] {
            if let Some(said) = said {
                out.line(&format!("{sign} {}: {said}", difference.what))?;
            }
        }
    }
    Ok(())
}

async fn set(args: &SetMappingArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream = stream_of(&args.of, line).await?;
    let text = args.text.as_deref().context("the mapping file was not read")?;
    let mapping = read_mapping(text, &stream).with_context(|| format!("reading {}", args.file.display()))?;
    let before = in_force(&stream, line).await?;
    let made_on = args.mapping_version.unwrap_or(before.version);
    let set = line.set_mapping(&stream, &mapping, Some(made_on), (COMMAND_LINE, &args.why)).await?;
    let detail = format!("mapping of {stream}: version {} → {}: {}", before.version, set.version, args.why);
    line.journal(stream.tenant, "mappings set", &detail).await?;
    line.catch_up().await?;
    if out.json() {
        let made_by = set.made.map(|made| made.by);
        return Ok(out.value(&json!({ "stream": stream.to_string(), "version": set.version, "by": made_by }))?);
    }
    let what = if set.version == before.version { "was in force already" } else { "is in force" };
    Ok(out.line(&format!("version {} of the mapping of {stream} {what}", set.version))?)
}

/// The mapping of a stream in a mapping file, or a file that holds nothing else.
fn read_mapping(text: &str, stream: &StreamId) -> anyhow::Result<Mapping> {
    let value: Value = serde_saphyr::from_str(text)?;
    if value.get("streams").is_none() {
        return Ok(serde_json::from_value(value)?);
    }
    let file: MappingFile = serde_json::from_value(value)?;
    let known = || file.streams.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mapping = file.stream(&stream.stream).cloned();
    mapping.with_context(|| format!("it has no stream {}: it has {}", stream.stream, known()))
}

async fn list_drift(args: &TenantArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let mut rows = Vec::new();
    for stream in streams(tenant, line).await? {
        let Some(drift) = line.drift_of(&stream).await? else { continue };
        let DriftOf { stream, paths, fingerprint, cases, kinds, last_opened_at, held } = drift;
        rows.push(vec![
            json!(stream.to_string()),
            json!(paths),
            json!(fingerprint),
            counts(cases.into_iter().map(|(name, count)| (name.to_owned(), count))),
            counts(kinds.into_iter()),
            json!(held),
            json!(last_opened_at.map(format_timestamp)),
        ]);
    }
    let columns = ["stream", "paths", "fingerprint", "cases", "kinds", "held", "last_opened_at"];
    Ok(out.table(&columns, &rows)?)
}

fn counts(counts: impl Iterator<Item = (String, u64)>) -> Value {
    json!(counts.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", "))
}

async fn show_drift(args: &StreamArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream = stream_of(args, line).await?;
    in_force(&stream, line).await?;
    let mut after: Option<String> = None;
    let mut rows: Vec<(u64, Vec<Value>)> = Vec::new();
    loop {
        let page = line.shapes_of(&stream, after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (_, change) in page {
            let new: Vec<String> = change
                .observed
                .iter()
                .map(|(path, class)| format!("{path} ({})", format!("{class:?}").to_lowercase()))
                .collect();
            let row = vec![
                json!(change.position.to_string()),
                json!(format_timestamp(change.at)),
                json!("shape"),
                json!(new.join(", ")),
                json!(change.fingerprint),
            ];
            rows.push((change.position.offset, row));
        }
    }
    for case in line.cases_of(&stream).await? {
        let lost: Vec<&str> = case.lost.iter().map(|lost| lost.path.as_str()).collect();
        let by = case.decided.last().map_or_else(String::new, |decided| format!(" by {}", decided.by));
        let row = vec![
            json!(case.position.to_string()),
            json!(format_timestamp(case.began_at)),
            json!("case"),
            json!(format!("{} {}, {}{by}, {} held", kind_of(&case), lost.join(", "), case.status.name(), case.held)),
            json!(null),
        ];
        rows.push((case.position.offset, row));
    }
    rows.sort_by_key(|(offset, _)| *offset);
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(out.table(&["position", "at", "what", "detail", "fingerprint"], &rows)?)
}
