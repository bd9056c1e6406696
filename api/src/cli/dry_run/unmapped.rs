//! A look at a stream that nothing maps: which entity fits best, and what its paths could fill.

use anyhow::Context;
use pipeline::onboarding::{self, Fit, Said};
use pipeline::repair::Knowledge;
use poem_openapi::types::ToJSON;
use schemas::mapping::{Path, Paths};
use schemas::{Entity, Mapping, StreamId, TenantId};
use serde_json::json;

use super::{Look, ended, quarantined};
use crate::cli::plan::settings;
use crate::cli::{IngestArgs, suggested};
use crate::http::routes::mappings::suggestions::{self, EntityFit, SuggestionsInfo, share};
use crate::line::{deleted, version_type};
use crate::output::Output;

/// Entities that are named.
const NAMED: usize = 3;

/// Tells what could be made of a stream that has no mapping, and why it has none.
pub(super) async fn run(
    args: &IngestArgs,
    why: &str,
    entities: Vec<Entity>,
    known: &Knowledge,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let stream =
        StreamId { tenant: TenantId::generate(), connection: args.connection.parse()?, stream: args.stream.parse()? };
    let entities = match &args.entity {
        None => entities,
        Some(wanted) => vec![named(wanted, entities)?],
    };
    let (mapping, entity) = nothing()?;
    let look = Look::read(stream.clone(), &mapping, &entity, settings(args, true)?).await?;
    let fits = onboarding::fits(&look.state, entities, known);
    let best = fits.first().context("the source has too many fields to match: map it by hand")?;
    let said = said(args, &fits)?;
    let text = onboarding::mapping_text(&look.state, &best.entity, &best.suggestions, &said);
    let name = format!("{}/{}", stream.connection, stream.stream);
    let entities = fits.iter().map(|fit| EntityFit { entity: fit.entity.entity.to_string(), score: share(fit.score) });
    let info = SuggestionsInfo {
        entities: entities.collect(),
        ..suggestions::info(name, &best.entity.entity, best.suggestions.clone(), text)
    };
    report(why, &look, &info, out)
}

fn report(why: &str, look: &Look, info: &SuggestionsInfo, out: &mut dyn Output) -> anyhow::Result<()> {
    let records = look.state.counters.taken;
    if out.json() {
        quarantined(look, out)?;
        let whole = look.is_whole;
        return Ok(out.value(&json!({ "why": why, "records": records, "whole": whole, "suggested": info.to_json() }))?);
    }
    out.line(&format!("{why}; so this is what {} could be:", info.stream))?;
    let fits = info.entities.iter().take(NAMED).map(|fit| format!("{} {:.2}", fit.entity, fit.score));
    let fits: Vec<String> = fits.collect();
    out.line(&format!("looked at {records} records; entities by how well they fit: {}", fits.join(", ")))?;
    quarantined(look, out)?;
    if info.fields.is_empty() {
        out.line("no record has a path that could be mapped")?;
    } else {
        suggested::paths(info, out)?;
    }
    ended(look, out)?;
    suggested::file(info, out)
}

fn named(wanted: &str, entities: Vec<Entity>) -> anyhow::Result<Entity> {
    let known = entities.iter().map(|entity| entity.entity.to_string()).collect::<Vec<_>>().join(", ");
    let found = entities.into_iter().find(|entity| entity.entity.as_str() == wanted);
    found.with_context(|| {
        format!("there is no entity {wanted:?}: choose one of {known}, or define it in a mapping file")
    })
}

/// A mapping that reads nothing, so that every record flows and is looked at.
fn nothing() -> anyhow::Result<(Mapping, Entity)> {
    let mapping = serde_json::from_value(json!({ "entity": "looked_at", "fields": {} }))?;
    let field = json!({ "name": "nothing", "type": "text" });
    let entity = json!({ "entity": "looked_at", "table": "looked_at", "fields": [field] });
    Ok((mapping, serde_json::from_value(entity)?))
}

/// What the command line says beside the suggestions.
fn said<'a>(args: &'a IngestArgs, fits: &[Fit]) -> anyhow::Result<Said<'a>> {
    let keys = |text: &str| text.split(',').map(Path::new).collect::<Result<_, _>>().map(Paths);
    let scores: Vec<String> =
        fits.iter().take(NAMED).map(|fit| format!("{} {:.2}", fit.entity.entity, share(fit.score))).collect();
    let note = match args.entity {
        Some(_) => String::new(),
        None => format!("a guess, by how well they fit: {}", scores.join(", ")),
    };
    Ok(Said {
        system: args.system.as_deref().unwrap_or(&args.connection),
        mapping: None,
        key: args.key.as_deref().map(keys).transpose()?,
        version: args.version.as_deref().map(Path::or_none).transpose()?,
        version_type: args.version_type.as_deref().map(version_type).transpose()?,
        deleted: args.deleted.as_deref().map(deleted).transpose()?.into_iter().collect(),
        note,
    })
}
