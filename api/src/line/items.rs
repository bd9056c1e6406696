//! A tenant's log, item by item, as people and programs outside see it.

use std::collections::HashMap;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pipeline::Stored;
use pipeline::process::{decode_decisions, stream_of};
use schemas::cloudevent::{CloudEvent, Found};
use schemas::decision::Fact;
use schemas::event::EventBatchReader;
use schemas::record::RecordBatchReader;
use schemas::stage::Stage;
use schemas::value::FieldType;
use schemas::{BatchKind, Decision, EntityName, Position, TenantId, Topic, Trace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Line;

/// One item of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The topic.
    pub topic: Topic,
    /// Where it stands.
    pub position: Position,
    /// When the log took it, in microseconds since 1970 UTC.
    pub logged_at: i64,
    /// The stage that it shows, if any.
    pub stage: Option<Stage>,
    /// Its stream: `connection/stream`.
    pub stream: Option<String>,
    /// Its entity.
    pub entity: Option<String>,
    /// The trace of the request that it comes from.
    pub trace: Option<Trace>,
    /// What it comes from, if it is a fact: the same fact stands twice on the log when a processor was killed.
    pub cause: Option<Cause>,
    /// What it says: a CloudEvent, or the input.
    pub body: Value,
}

/// The input that a fact comes from, and its place among the facts of that input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// The partition of `inputs`.
    pub partition: u32,
    /// The input's offset.
    pub offset: u64,
    /// The fact's place.
    pub ordinal: u32,
}

/// Bytes of batches that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Where a reader of a topic is: it goes through partition after partition, through each from the same offset on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    topic: String,
    epoch: u32,
    partition: u32,
    offset: u64,
    #[serde(default)]
    from: u64,
}

/// The fields of entities, read once.
#[derive(Debug, Default)]
pub struct EntityFields(HashMap<(TenantId, EntityName), Vec<(String, FieldType)>>);

impl Line {
    /// Where a reader of a topic begins: at an offset of each partition.
    pub fn begin_reading(&self, topic: Topic, from: u64) -> LogPlace {
        LogPlace { topic: topic.name().to_owned(), epoch: self.log.epoch(topic), partition: 0, offset: from, from }
    }

    /// A tenant's items of a topic behind a place, which moves on, and whether the end was reached. At most `limit`, and
    /// no more than stand in `scan_max` bytes of packed batches, others' too. Nothing when the place is of another topic.
    pub async fn read_items(
        &self,
        tenant: TenantId,
        topic: Topic,
        place: &mut LogPlace,
        limit: usize,
        scan_max: usize,
    ) -> anyhow::Result<Option<(Vec<Item>, bool)>> {
        if place.topic != topic.name() || place.epoch != self.log.epoch(topic) {
            return Ok(None);
        }
        let (mut items, mut fields, mut scanned) = (Vec::new(), EntityFields::default(), 0);
        while items.len() < limit && scanned < scan_max {
            let batches = self.log.read(topic, place.partition, place.offset, READ_BYTES).await?;
            if batches.is_empty() {
                if place.partition + 1 >= self.log.partitions(topic) {
                    return Ok(Some((items, true)));
                }
                (place.partition, place.offset) = (place.partition + 1, place.from);
                continue;
            }
            for stored in batches {
                scanned += stored.packed.packed_bytes();
                if stored.header().tenant == tenant {
                    let mut found = self.items(topic, place.partition, &stored, place.offset, &mut fields).await?;
                    let left = limit - items.len();
                    if let Some(next) = found.get(left) {
                        place.offset = next.position.offset;
                        found.truncate(left);
                        items.extend(found);
                        return Ok(Some((items, false)));
                    }
                    items.extend(found);
                }
                place.offset = stored.end();
            }
        }
        Ok(Some((items, false)))
    }

    /// The items of a batch from an offset on.
    pub async fn items(
        &self,
        topic: Topic,
        partition: u32,
        stored: &Stored,
        from: u64,
        fields: &mut EntityFields,
    ) -> anyhow::Result<Vec<Item>> {
        let header = stored.header();
        let Some(body) = stored.body(topic, partition)? else { return Ok(Vec::new()) };
        if header.kind == BatchKind::Rows {
            let entity: EntityName = header.subject.parse()?;
            let key = (header.tenant, entity.clone());
            if !fields.0.contains_key(&key) {
                let known = self.entity(header.tenant, &entity).await?;
                let of = known.map(|e| e.fields.iter().map(|f| (f.name.to_string(), f.field_type())).collect());
                fields.0.insert(key.clone(), of.unwrap_or_default());
            }
            return rows(&self.found(topic, partition, stored), &body, from, &entity, &fields.0[&key]);
        }
        let batch = self.found(topic, partition, stored);
        match header.kind {
            BatchKind::Records | BatchKind::Redriven => records(&batch, &header.subject, &body, from),
            BatchKind::Control | BatchKind::ViewControl => control(&batch, &header.subject, &body, from),
            BatchKind::Decisions => decisions(&batch, stored, &body, from),
            BatchKind::Rows => Ok(Vec::new()),
        }
    }

    fn found(&self, topic: Topic, partition: u32, stored: &Stored) -> Batch {
        let header = stored.header();
        let at = Position { epoch: self.log.epoch(topic), partition, offset: stored.first };
        let found = Found { tenant: header.tenant, topic, at, logged_at: header.logged_at };
        Batch { found, trace: header.trace }
    }
}

/// Where a batch stands.
struct Batch {
    found: Found,
    trace: Option<Trace>,
}

impl Batch {
    fn at(&self, place: u64) -> Found {
        let mut found = self.found;
        found.at.offset += place;
        found
    }

    fn item(
        &self,
        place: u64,
        stage: Option<Stage>,
        stream: Option<String>,
        entity: Option<String>,
        body: Value,
    ) -> Item {
        let (Found { topic, at: position, logged_at, .. }, trace) = (self.at(place), self.trace);
        Item { topic, position, logged_at, stage, stream, entity, trace, cause: None, body }
    }

    fn is_before(&self, place: u64, from: u64) -> bool {
        self.found.at.offset + place < from
    }
}

fn records(batch: &Batch, stream: &str, body: &[u8], from: u64) -> anyhow::Result<Vec<Item>> {
    let mut reader = RecordBatchReader::new(body)?;
    let (lane, mut place, mut items) = (reader.lane, 0, Vec::new());
    while let Some(record) = reader.next_record()? {
        if !batch.is_before(place, from) {
            let mut body = json!({ "input": "record", "lane": lane, "ordinal": record.ordinal, "op": record.op,
                "key": record.key, "defect": record.defect });
            if let Some(origin) = reader.origin {
                body["origin"] = origin.into();
            }
            match std::str::from_utf8(record.payload) {
                Ok(text) => body["payload"] = text.into(),
                Err(_) => body["payload_base64"] = STANDARD.encode(record.payload).into(),
            }
            // What comes again was ingested before.
            let stage = reader.origin.is_none().then_some(Stage::Ingested);
            items.push(batch.item(place, stage, Some(stream.to_owned()), None, body));
        }
        place += 1;
    }
    Ok(items)
}

fn control(batch: &Batch, subject: &str, body: &[u8], from: u64) -> anyhow::Result<Vec<Item>> {
    if batch.is_before(0, from) {
        return Ok(Vec::new());
    }
    let body: Value = serde_json::from_slice(body).context("a control item")?;
    let is_command = body["input"] == "command";
    let (stream, entity) = match batch.found.topic {
        Topic::Events => (None, Some(subject.to_owned())),
        Topic::Inputs | Topic::Decisions => (Some(subject.to_owned()), None),
    };
    Ok(vec![batch.item(0, is_command.then_some(Stage::Intent), stream, entity, body)])
}

fn decisions(batch: &Batch, stored: &Stored, body: &[u8], from: u64) -> anyhow::Result<Vec<Item>> {
    let Some(stream) = stream_of(stored.header()) else { return Ok(Vec::new()) };
    let mut items = Vec::new();
    for (decision, place) in decode_decisions(body)?.iter().zip(0..) {
        if !batch.is_before(place, from) {
            let event = CloudEvent::of_decision(batch.at(place), &stream, decision).traced(batch.trace);
            let (partition, ordinal) = (batch.found.at.partition, decision.ordinal);
            let cause = Some(Cause { partition, offset: decision.input_offset, ordinal });
            let (stage, stream, body) = (stage_of(decision), Some(stream.to_string()), serde_json::to_value(event)?);
            items.push(Item { cause, ..batch.item(place, stage, stream, None, body) });
        }
    }
    Ok(items)
}

fn stage_of(decision: &Decision) -> Option<Stage> {
    Some(match &decision.fact {
        Fact::RecordQuarantined { .. }
        | Fact::SettlementBegun { .. }
        | Fact::RecordDiscarded { .. }
        | Fact::SettlementEnded { .. } => Stage::Quarantined,
        Fact::ShapeObserved { .. }
        | Fact::RecordHeld { .. }
        | Fact::DriftDetected { .. }
        | Fact::RecordsRecalled { .. }
        | Fact::RepairProposed { .. }
        | Fact::RagCoverageCheck { .. }
        | Fact::ModelAsked { .. }
        | Fact::RepairApplied { .. }
        | Fact::RepairReverted { .. }
        | Fact::RepairRejected { .. }
        | Fact::ApprovalGiven { .. }
        | Fact::CaseSnoozed { .. }
        | Fact::CaseReminded { .. }
        | Fact::RecordsReleased { .. }
        | Fact::RecordsRedriven { .. } => Stage::Drift,
        Fact::MappingActivated { .. }
        | Fact::PolicySet { .. }
        | Fact::CommandApplied { .. }
        | Fact::CommandRefused { .. } => Stage::Journaled,
        Fact::TimerSet { .. } => return None,
    })
}

fn rows(
    batch: &Batch,
    body: &[u8],
    from: u64,
    entity: &EntityName,
    fields: &[(String, FieldType)],
) -> anyhow::Result<Vec<Item>> {
    let mut reader = EventBatchReader::new(body)?;
    let shared = reader.shared.clone();
    let stream = format!("{}/{}", shared.connection, shared.stream);
    let (mut place, mut items) = (0, Vec::new());
    while let Some(row) = reader.next_row()? {
        if !batch.is_before(place, from) {
            let event = CloudEvent::of_row(batch.at(place), entity, &shared, &row, fields)?.traced(batch.trace);
            let (stream, entity) = (Some(stream.clone()), Some(entity.to_string()));
            let cause = Cause { partition: shared.input_partition, offset: row.input_offset, ordinal: row.ordinal };
            let item = batch.item(place, Some(Stage::Canonicalized), stream, entity, serde_json::to_value(event)?);
            items.push(Item { cause: Some(cause), ..item });
        }
        place += 1;
    }
    Ok(items)
}
