//! The workload as the line knows it: a Salesforce stream that feeds opportunities.

use anyhow::{Context, Result};
use pipeline::step::{self, InputBatch, Scratch, StreamState};
use schemas::input::DefinitionKind;
use schemas::mapping::{Deleted, Path, Paths};
use schemas::record::{RecordBatch, RecordBatchWriter};
use schemas::{
    BatchKind, Entity, Input, Lane, Mapping, Op, Record, StreamId, TenantId, Version, VersionType, ontology,
    shipped_mapping,
};

/// Records of a batch, about as many bytes as `ingest` appends at once.
const BATCH_RECORDS: usize = 1000;
/// Offset, count and body of a batch of rows.
pub type Rows = (u64, u32, Vec<u8>);

/// A tenant's stream.
pub fn id(tenant: TenantId) -> Result<StreamId> {
    Ok(StreamId { tenant, connection: "crm".parse()?, stream: "opportunity".parse()? })
}

/// The shipped mapping with key, version and delete as the campaigns name them on the command line, and its entity.
pub fn definition() -> Result<(Mapping, Entity)> {
    let file = shipped_mapping("salesforce").context("salesforce does not ship")?;
    let mut mapping = file.stream(&"opportunity".parse()?).context("salesforce has no opportunities")?.clone();
    mapping.key = Paths(vec![Path::new("Id")?]);
    mapping.version = Some(Path::new("LastModifiedDate")?);
    mapping.version_type = Some(VersionType::Time);
    mapping.deleted = vec![Deleted { field: Path::new("IsDeleted")?, equals: Some("true".to_owned()) }];
    let entity = ontology::shipped_entity(&mapping.entity).context("its entity does not ship")?;
    Ok((mapping, entity))
}

/// The state of a tenant's stream that was just opened.
pub fn opened(tenant: TenantId) -> Result<StreamState> {
    let (mapping, entity) = definition()?;
    let stream = id(tenant)?;
    let mut state = StreamState::new(stream.clone(), 0, 1);
    let (m, e) = (mapping.hash(), entity.hash());
    for input in [
        Input::Definition { hash: m.clone(), kind: DefinitionKind::Mapping, text: mapping.text() },
        Input::Definition { hash: e.clone(), kind: DefinitionKind::Entity, text: entity.text() },
        Input::StreamOpened { stream, entity: entity.entity.clone(), mapping: m, entity_definition: e },
    ] {
        let body = serde_json::to_vec(&input)?;
        let first = state.next.offset;
        let input = InputBatch { kind: BatchKind::Control, first, count: 1, logged_at: 0, body: &body };
        step::fold(&mut state, input, &mut Scratch::default())?;
    }
    Ok(state)
}

/// Lines as batches of one lane, whose first ordinal follows `after`.
pub fn batches(lines: &[&[u8]], mut after: u64) -> Vec<RecordBatch> {
    let batch = |chunk: &[&[u8]]| {
        let mut writer = RecordBatchWriter::new(Lane(1), after, 512 << 10);
        for payload in chunk {
            after += 1;
            let (op, version) = (Op::Upsert, Version::None);
            writer.push(&Record { ordinal: after, op, key: None, version, defect: None, payload });
        }
        writer.finish(b"")
    };
    lines.chunks(BATCH_RECORDS).map(batch).collect()
}

/// Folds batches; answers the rows that each gave.
pub fn fold(state: &mut StreamState, batches: &[RecordBatch]) -> Result<Vec<Rows>> {
    let mut scratch = Scratch::default();
    let (mut rows, mut offset) = (Vec::with_capacity(batches.len()), 0);
    for batch in batches {
        let first = state.next.offset;
        let input = InputBatch { kind: BatchKind::Records, first, count: batch.count, logged_at: 0, body: &batch.body };
        for (body, count) in step::fold(state, input, &mut scratch)?.rows {
            rows.push((offset, count, body));
            offset += u64::from(count);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Workload;

    #[test]
    fn every_record_of_the_workload_becomes_a_row_or_a_delete() {
        let workload = Workload { records: 5_000, keys: 500, tenants: 1, ..Workload::default() };
        let mut text = Vec::new();
        let counts = workload.write(0, &mut text).unwrap();
        let mut state = opened(TenantId::generate()).unwrap();
        let rows = fold(&mut state, &batches(&crate::input::lines(&text), 0)).unwrap();
        assert_eq!(rows.iter().map(|(_, count, _)| u64::from(*count)).sum::<u64>(), 5_000);
        assert_eq!(state.counters.accepted + state.counters.deleted, 5_000, "{:?}", state.counters);
        assert!(state.counters.deleted >= counts.deletes, "repeated lines delete once more");
    }
}
