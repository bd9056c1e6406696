//! `ingest --dry-run`: shape, mapping and what stays unmapped. Nothing is written.

use connectors::file::{FileSettings, FileSource};
use pipeline::Source;
use pipeline::step::{self, InputBatch, Scratch, StreamState};
use schemas::decision::Fact;
use schemas::input::DefinitionKind;
use schemas::shape::TypeClass;
use schemas::{BatchKind, Decision, Entity, Input, Mapping, StreamId, TenantId};
use serde_json::json;

use super::IngestArgs;
use super::ingest::shown_version;
use super::plan::{Draft, Plan, settings};
use crate::client::Client;
use crate::line::Definitions;
use crate::output::Output;

/// Bytes of the source that are looked at.
const LOOK_BYTES: usize = 4 << 20;

/// Folds the beginning of the source in memory and tells what would happen.
pub async fn run(args: &IngestArgs, definitions: Definitions<'_>, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut draft = Draft::new(args, definitions).await?;
    draft.look(definitions).await?;
    let Plan { stream, mapping, entity_definition, settings, .. } = draft.dry_plan();
    look(stream, &mapping, &entity_definition, settings, out).await
}

/// The same, with the mapping and the entity that a server has.
pub async fn at(args: &IngestArgs, server: &Client, out: &mut dyn Output) -> anyhow::Result<()> {
    let shown = shown_version(args).await?;
    let (mapping, entity) = server.plan(args, shown).await?;
    let (connection, stream) = (args.connection.parse()?, args.stream.parse()?);
    let stream = StreamId { tenant: TenantId::generate(), connection, stream };
    look(stream, &mapping, &entity, settings(args, mapping.key.is_empty())?, out).await
}

async fn look(
    stream: StreamId,
    mapping: &Mapping,
    entity: &Entity,
    settings: FileSettings,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let mut look = Look {
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
    report(mapping, &look, out)
}

struct Look {
    state: StreamState,
    scratch: Scratch,
    decisions: Vec<Decision>,
    /// Whether all of the source was looked at.
    is_whole: bool,
}

impl Look {
    fn fold(&mut self, kind: BatchKind, count: u32, body: &[u8]) -> anyhow::Result<()> {
        let input = InputBatch { kind, first: self.state.next.offset, count, logged_at: 0, body };
        self.decisions.extend(step::fold(&mut self.state, input, &mut self.scratch)?.decisions);
        Ok(())
    }
}

fn report(mapping: &schemas::Mapping, look: &Look, out: &mut dyn Output) -> anyhow::Result<()> {
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
    let quarantined: Vec<_> = look
        .decisions
        .iter()
        .filter_map(|d| match &d.fact {
            Fact::RecordQuarantined { reason, field, detail, lane_ordinal, .. } => {
                Some(vec![json!(lane_ordinal), json!(reason.code()), json!(field), json!(detail)])
            }
            _ => None,
        })
        .take(20)
        .collect();
    if !quarantined.is_empty() {
        out.table(&["row", "reason", "field", "detail"], &quarantined)?;
    }
    let missing = look.state.missing.iter();
    let unfilled: Vec<_> = missing.filter(|(_, n)| **n == counters.accepted).map(|(field, _)| field.as_str()).collect();
    if out.json() {
        let fingerprint = look.state.shape().fingerprint().to_string();
        out.value(&json!({ "counters": counters, "fingerprint": fingerprint, "never_filled": unfilled, "whole": look.is_whole }))?;
    } else {
        out.line(&format!(
            "looked at {} records: {} would be rows, {} deletes, {} quarantined; fields never filled: {}",
            counters.taken,
            counters.accepted,
            counters.deleted,
            counters.quarantined,
            if unfilled.is_empty() { "none".to_owned() } else { unfilled.join(", ") }
        ))?;
        if !look.is_whole {
            out.line(&format!("only the first {} MiB of records were looked at", LOOK_BYTES >> 20))?;
        }
        out.line("nothing was written")?;
    }
    Ok(())
}
