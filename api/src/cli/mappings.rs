//! `mappings` and `drift`: the mappings of streams, what they were, and how the streams' shapes have changed.

use anyhow::Context;
use pipeline::onboarding::{flow, visible};
use poem_openapi::types::ToJSON;
use schemas::Mapping;
use schemas::mapping::MappingFile;
use serde_json::{Value, json};

use super::backend::{Backend, StreamPath};
use super::suggested;
use super::{DiffArgs, DriftCommand, MappingsCommand, SetMappingArgs, ShowMappingArgs, StreamArgs};
use crate::http::routes::drift::{CaseSummary, Count, ShapeInfo};
use crate::http::routes::mappings::VersionInfo;
use crate::output::Output;

/// Carries out a `mappings` command.
pub async fn run(command: &MappingsCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        MappingsCommand::List(_) => list(of, out).await,
        MappingsCommand::Show(args) => show(args, of, out).await,
        MappingsCommand::History(args) => history(args, of, out).await,
        MappingsCommand::Diff(args) => diff(args, of, out).await,
        MappingsCommand::Suggest(args) => suggest(args, of, out).await,
        MappingsCommand::Set(args) => set(args, of, out).await,
    }
}

/// Carries out a `drift` command.
pub async fn drift(command: &DriftCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        DriftCommand::List(_) => list_drift(of, out).await,
        DriftCommand::Show(args) => show_drift(args, of, out).await,
    }
}

async fn list(of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let rows = of.mappings().await?.into_iter().map(|now| {
        vec![
            json!(now.stream),
            json!(now.entity),
            json!(now.version),
            json!(now.fields),
            json!(now.origin),
            json!(now.by),
            json!(now.at),
        ]
    });
    let rows: Vec<_> = rows.collect();
    Ok(out.table(&["stream", "entity", "version", "fields", "origin", "by", "at"], &rows)?)
}

async fn show(args: &ShowMappingArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream: StreamPath = args.of.stream.parse()?;
    let mapping = of.mapping(&stream, args.version).await?.mapping.0;
    if out.json() {
        return Ok(out.value(&mapping)?);
    }
    let text = serde_saphyr::to_string(&mapping)?;
    // A file with names that cannot be seen says them by escapes, and is the same mapping.
    match text.lines().all(|line| visible(line) == line) {
        true => Ok(out.line(text.trim_end())?),
        false => Ok(out.line(&flow(&mapping))?),
    }
}

async fn history(args: &StreamArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream: StreamPath = args.stream.parse()?;
    let row = |made: VersionInfo| {
        let VersionInfo { version, hash, origin, by, why, case, at, .. } = made;
        vec![json!(version), json!(origin), json!(by), json!(at), json!(case), json!(why), json!(hash)]
    };
    let rows: Vec<_> = of.mapping_versions(&stream).await?.into_iter().map(row).collect();
    Ok(out.table(&["version", "origin", "by", "at", "case", "why", "hash"], &rows)?)
}

async fn diff(args: &DiffArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream: StreamPath = args.of.stream.parse()?;
    for difference in of.mapping_diff(&stream, args.from, args.to).await? {
        let (before, after) = (difference.before.map(|said| said.0), difference.after.map(|said| said.0));
        if out.json() {
            out.value(&json!({ "what": difference.what, "before": before, "after": after }))?;
            continue;
        }
        for (sign, said) in [('-', before), ('+', after)] {
            if let Some(said) = said {
                out.tell(&format!("{sign} {}: {said}", difference.what))?;
            }
        }
    }
    Ok(())
}

async fn suggest(args: &StreamArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let info = of.mapping_suggestions(&args.stream.parse()?).await?;
    if out.json() {
        return Ok(out.value(&info.to_json())?);
    }
    suggested::paths(&info, out)?;
    suggested::file(&info, out)
}

async fn set(args: &SetMappingArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream: StreamPath = args.of.stream.parse()?;
    let text = args.text.as_deref().context("the mapping file was not read")?;
    let mapping = read_mapping(text, &stream).with_context(|| format!("reading {}", args.file.display()))?;
    let before = of.mapping(&stream, None).await?.version;
    let set = of.set_mapping(&stream, &mapping, args.mapping_version.unwrap_or(before), &args.why).await?;
    if out.json() {
        let made_by = set.made.map(|made| made.by);
        return Ok(out.value(&json!({ "stream": set.stream, "version": set.version, "by": made_by }))?);
    }
    let what = if set.version == before { "was in force already" } else { "is in force" };
    Ok(out.line(&format!("version {} of the mapping of {} {what}", set.version, set.stream))?)
}

/// The mapping of a stream in a mapping file, or a file that holds nothing else.
fn read_mapping(text: &str, stream: &StreamPath) -> anyhow::Result<Mapping> {
    let value: Value = serde_saphyr::from_str(text)?;
    if value.get("streams").is_none() {
        return Ok(serde_json::from_value(value)?);
    }
    let file: MappingFile = serde_json::from_value(value)?;
    let known = || file.streams.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mapping = file.stream(&stream.stream).cloned();
    mapping.with_context(|| format!("it has no stream {}: it has {}", stream.stream, known()))
}

async fn list_drift(of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let rows = of.drift().await?.into_iter().map(|drift| {
        vec![
            json!(drift.stream),
            json!(drift.paths),
            json!(drift.fingerprint),
            counts(&drift.cases),
            counts(&drift.kinds),
            json!(drift.held),
            json!(drift.last_opened_at),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let columns = ["stream", "paths", "fingerprint", "cases", "kinds", "held", "last_opened_at"];
    Ok(out.table(&columns, &rows)?)
}

fn counts(counts: &[Count]) -> Value {
    json!(counts.iter().map(|Count { name, count }| format!("{count} {name}")).collect::<Vec<_>>().join(", "))
}

async fn show_drift(args: &StreamArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let history = of.drift_of(&args.stream.parse()?).await?;
    let shapes = history.shapes.into_iter().map(|change| {
        let ShapeInfo { position, at, fingerprint, observed } = change;
        let new: Vec<String> = observed.iter().map(|o| format!("{} ({})", o.path, o.class)).collect();
        (
            offset_of(&position),
            vec![json!(position), json!(at), json!("shape"), json!(new.join(", ")), json!(fingerprint)],
        )
    });
    let cases = history.cases.into_iter().map(|case| {
        let CaseSummary { case: position, status, kind, lost, began_at, held, by, .. } = case;
        let by = by.map_or_else(String::new, |by| format!(" by {by}"));
        let detail = format!("{kind} {}, {status}{by}, {held} held", lost.join(", "));
        (offset_of(&position), vec![json!(position), json!(began_at), json!("case"), json!(detail), json!(null)])
    });
    let mut rows: Vec<(u64, Vec<Value>)> = shapes.chain(cases).collect();
    rows.sort_by_key(|(offset, _)| *offset);
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(out.table(&["position", "at", "what", "detail", "fingerprint"], &rows)?)
}

/// A stream lies in one partition, so the offset alone orders.
fn offset_of(position: &str) -> u64 {
    position.parse().map_or(0, |position: schemas::Position| position.offset)
}
