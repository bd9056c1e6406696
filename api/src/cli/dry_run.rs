//! `ingest --dry-run`: shape, mapping, what stays unmapped and what that could fill. Nothing is written.

mod unmapped;

use anyhow::bail;
use connectors::file::{FileSettings, FileSource};
use pipeline::repair::Knowledge;
use pipeline::step::{self, InputBatch, Scratch, StreamState};
use pipeline::{Source, onboarding};
use poem_openapi::types::ToJSON;
use schemas::decision::Fact;
use schemas::input::DefinitionKind;
use schemas::shape::TypeClass;
use schemas::{BatchKind, Decision, Entity, Input, Mapping, StreamId, TenantId, ontology};
use serde_json::json;

use super::ingest::shown_version;
use super::plan::{Draft, Plan, settings};
use super::{IngestArgs, suggested, tenant_name};
use crate::client::{Client, ClientError};
use crate::http::routes::mappings::suggestions::{self, SuggestionsInfo};
use crate::line::{Definitions, NoMapping};
use crate::output::Output;

/// Bytes of the source that are looked at.
const LOOK_BYTES: usize = 4 << 20;

/// Folds the beginning of the source in memory and tells what would happen.
pub async fn run(args: &IngestArgs, definitions: Definitions<'_>, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut draft = match Draft::new(args, definitions).await {
        Ok(draft) => draft,
        Err(error) => {
            let NoMapping(why) = error.downcast::<NoMapping>()?;
            let tenant = definitions.find_tenant(&tenant_name(&args.tenant)?).await?;
            let (known, entities) = (definitions.knowledge(tenant).await?, definitions.entities(tenant).await?);
            return unmapped::run(args, &why, entities, &known, out).await;
        }
    };
    draft.look(definitions).await?;
    let known = definitions.knowledge(draft.tenant()).await?;
    let Plan { stream, mapping, entity_definition, settings, .. } = draft.dry_plan();
    look(args, stream, &mapping, &entity_definition, settings, &known, out).await
}

/// The same, with the mapping and the entity that a server has. What its tenant has mapped before, it keeps.
pub async fn at(args: &IngestArgs, server: &Client, out: &mut dyn Output) -> anyhow::Result<()> {
    let shown = shown_version(args).await?;
    let known = Knowledge::shipped();
    let planned = match (&args.system, &args.mapping) {
        (None, None) => Err(NoMapping("no mapping is named".into()).into()),
        _ => server.plan(args, shown).await,
    };
    let (mapping, entity) = match planned {
        Ok(planned) => planned,
        Err(error) => {
            let why = unmapped_there(error)?;
            return unmapped::run(args, &why, ontology::shipped_entities(), &known, out).await;
        }
    };
    let (connection, stream) = (args.connection.parse()?, args.stream.parse()?);
    let stream = StreamId { tenant: TenantId::generate(), connection, stream };
    look(args, stream, &mapping, &entity, settings(args, mapping.key.is_empty())?, &known, out).await
}

/// Why a server has no mapping for a stream, if that is what it says.
fn unmapped_there(error: anyhow::Error) -> anyhow::Result<String> {
    let error = match error.downcast::<NoMapping>() {
        Ok(NoMapping(why)) => return Ok(why),
        Err(error) => error,
    };
    match error.downcast_ref() {
        Some(ClientError::Refused { problem, .. }) if problem.code == "mapping_unknown" => Ok(problem.detail.clone()),
        _ => Err(error),
    }
}

async fn look(
    args: &IngestArgs,
    stream: StreamId,
    mapping: &Mapping,
    entity: &Entity,
    settings: FileSettings,
    known: &Knowledge,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    if let Some(wanted) = args.entity.as_ref().filter(|wanted| **wanted != entity.entity.as_str()) {
        bail!("the mapping makes {} of the stream, not {wanted}: leave --entity out", entity.entity);
    }
    let name = format!("{}/{}", stream.connection, stream.stream);
    let look = Look::read(stream, mapping, entity, settings).await?;
    let suggestions = onboarding::suggest(&look.state, Some(mapping), entity, known)?;
    let system = args.system.as_deref().unwrap_or(&args.connection);
    let said = onboarding::Said { system, mapping: Some(mapping), ..Default::default() };
    let text = onboarding::mapping_text(&look.state, entity, &suggestions, &said);
    report(mapping, &look, &suggestions::info(name, &entity.entity, suggestions, text), out)
}

struct Look {
    state: StreamState,
    scratch: Scratch,
    decisions: Vec<Decision>,
    /// Whether all of the source was looked at.
    is_whole: bool,
}

impl Look {
    /// Folds the beginning of a source.
    async fn read(
        stream: StreamId,
        mapping: &Mapping,
        entity: &Entity,
        settings: FileSettings,
    ) -> anyhow::Result<Self> {
        let mut look = Self {
            state: StreamState::new(stream.clone(), 0, 0),
            scratch: Scratch::default(),
            decisions: Vec::new(),
            is_whole: false,
        };
        let (hash, entity_definition) = (mapping.hash(), entity.hash());
        for input in [
            Input::Definition { hash: hash.clone(), kind: DefinitionKind::Mapping, text: mapping.text() },
            Input::Definition { hash: entity_definition.clone(), kind: DefinitionKind::Entity, text: entity.text() },
            Input::StreamOpened { stream, entity: entity.entity.clone(), mapping: hash, entity_definition },
        ] {
            look.fold(BatchKind::Control, 1, &serde_json::to_vec(&input)?)?;
        }
        let mut source = FileSource::open(settings, Vec::new())?;
        let mut seen = 0;
        while seen < LOOK_BYTES {
            let Some(batch) = source.next(256 << 10).await? else {
                look.is_whole = true;
                break;
            };
            seen += batch.records.body.len();
            look.fold(BatchKind::Records, batch.records.count, &batch.records.body)?;
        }
        // A snapshot has the absences counted up to now.
        look.state.snapshot();
        Ok(look)
    }

    fn fold(&mut self, kind: BatchKind, count: u32, body: &[u8]) -> anyhow::Result<()> {
        let input = InputBatch { kind, first: self.state.next.offset, count, logged_at: 0, body };
        self.decisions.extend(step::fold(&mut self.state, input, &mut self.scratch)?.decisions);
        Ok(())
    }
}

fn report(mapping: &Mapping, look: &Look, found: &SuggestionsInfo, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut taken: Vec<(String, String)> = Vec::new();
    for (field, rules) in &mapping.fields {
        for path in rules.paths().flat_map(|path| path.texts()) {
            taken.push((path, field.to_string()));
        }
    }
    let observed = look.state.shape().observed();
    let rows: Vec<_> = observed
        .iter()
        .filter_map(|(path, class)| {
            let fields: Vec<_> = taken.iter().filter(|(p, _)| p == path).map(|(_, f)| f.as_str()).collect();
            // What an object is made of is told path by path, unless a field takes it whole.
            let to = match (fields.is_empty(), class) {
                (true, TypeClass::Object) => return None,
                (true, _) => "extras".to_owned(),
                (false, _) => fields.join(", "),
            };
            Some(vec![json!(path), json!(class), json!(to)])
        })
        .collect();
    out.table(&["path", "type", "becomes"], &rows)?;
    let counters = look.state.counters;
    quarantined(look, out)?;
    let missing = look.state.missing.iter();
    let unfilled: Vec<_> = missing.filter(|(_, n)| **n == counters.accepted).map(|(field, _)| field.as_str()).collect();
    if out.json() {
        let fingerprint = look.state.shape().fingerprint().to_string();
        out.value(&json!({
            "counters": counters, "fingerprint": fingerprint, "never_filled": unfilled, "whole": look.is_whole,
            "suggested": found.to_json(),
        }))?;
    } else {
        out.line(&format!(
            "looked at {} records: {} would be rows, {} deletes, {} quarantined; fields never filled: {}",
            counters.taken,
            counters.accepted,
            counters.deleted,
            counters.quarantined,
            if unfilled.is_empty() { "none".to_owned() } else { unfilled.join(", ") }
        ))?;
        suggested::paths(found, out)?;
        ended(look, out)?;
        suggested::file(found, out)?;
    }
    Ok(())
}

/// What would be set aside, of the first ones.
fn quarantined(look: &Look, out: &mut dyn Output) -> anyhow::Result<()> {
    let row = |decision: &Decision| match &decision.fact {
        Fact::RecordQuarantined { reason, field, detail, lane_ordinal, .. } => {
            Some(vec![json!(lane_ordinal), json!(reason.code()), json!(field), json!(detail)])
        }
        _ => None,
    };
    let rows: Vec<_> = look.decisions.iter().filter_map(row).take(20).collect();
    if !rows.is_empty() {
        out.table(&["row", "reason", "field", "detail"], &rows)?;
    }
    Ok(())
}

fn ended(look: &Look, out: &mut dyn Output) -> anyhow::Result<()> {
    if !look.is_whole {
        out.line(&format!("only the first {} MiB of records were looked at", LOOK_BYTES >> 20))?;
    }
    Ok(out.line("nothing was written")?)
}
