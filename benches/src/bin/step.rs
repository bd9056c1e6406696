//! What do shape and step cost, without log, disk and views? Prints CPU-seconds per million records for each part.
//!
//! `cargo run -p benches --bin step -- [RECORDS]`

use std::time::Instant;

use benches::Workload;
use pipeline::step::{self, InputBatch, Scratch, StreamState};
use schemas::input::DefinitionKind;
use schemas::record::{RecordBatch, RecordBatchWriter};
use schemas::shape::{ShapeTree, Walker};
use schemas::{BatchKind, Input, Lane, Op, Record, StreamId, TenantId, Version, ontology};

fn main() -> anyhow::Result<()> {
    let records: u64 = std::env::args().nth(1).map_or(Ok(400_000), |n| n.parse())?;
    let workload = Workload { records, tenants: 1, ..Workload::default() };
    let mut ndjson = Vec::new();
    workload.write(0, &mut ndjson)?;
    let lines: Vec<&[u8]> = ndjson.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    let million = lines.len() as f64 / 1e6;
    let report = |part: &str, started: Instant| {
        println!("{part:<12} {:>7.3} s per million records", started.elapsed().as_secs_f64() / million);
    };
    println!("{} records, {} bytes each", lines.len(), ndjson.len() / lines.len().max(1));

    let started = Instant::now();
    let (mut tree, mut walker) = (ShapeTree::default(), Walker::default());
    for line in &lines {
        let text = std::str::from_utf8(line)?;
        walker.walk(&mut tree, text).map_err(|e| anyhow::anyhow!("{}", e.reason))?;
    }
    report("fingerprint", started);

    let started = Instant::now();
    let batches = batches(&lines);
    report("batch", started);

    let started = Instant::now();
    let mut state = opened()?;
    let mut scratch = Scratch::default();
    let mut bytes = 0;
    for batch in &batches {
        let first = state.next.offset;
        let input = InputBatch { kind: BatchKind::Records, first, count: batch.count, logged_at: 0, body: &batch.body };
        bytes += step::fold(&mut state, input, &mut scratch)?.rows.iter().map(|(body, _)| body.len()).sum::<usize>();
    }
    report("step", started);
    println!("{:?}, {} bytes a row", state.counters, bytes / lines.len().max(1));
    Ok(())
}

fn batches(lines: &[&[u8]]) -> Vec<RecordBatch> {
    let mut after = 0;
    lines
        .chunks(1000)
        .map(|chunk| {
            let mut writer = RecordBatchWriter::new(Lane(1), after, 512 << 10);
            for payload in chunk {
                after += 1;
                let (op, version) = (Op::Upsert, Version::None);
                writer.push(&Record { ordinal: after, op, key: None, version, defect: None, payload });
            }
            writer.finish(b"")
        })
        .collect()
}

fn opened() -> anyhow::Result<StreamState> {
    let file = ontology::shipped_mapping("salesforce").expect("salesforce ships");
    let stream: schemas::StreamName = "opportunity".parse()?;
    let mapping = file.stream(&stream).expect("salesforce has opportunities").clone();
    let entity = ontology::shipped_entity(&mapping.entity).expect("its entity ships");
    let id = StreamId { tenant: TenantId::generate(), connection: "crm".parse()?, stream };
    let mut state = StreamState::new(id.clone(), 0, 1);
    let (m, e) = (mapping.hash(), entity.hash());
    for input in [
        Input::Definition { hash: m.clone(), kind: DefinitionKind::Mapping, text: mapping.text() },
        Input::Definition { hash: e.clone(), kind: DefinitionKind::Entity, text: entity.text() },
        Input::StreamOpened { stream: id, entity: entity.entity.clone(), mapping: m, entity_definition: e },
    ] {
        let body = serde_json::to_vec(&input)?;
        let first = state.next.offset;
        let input = InputBatch { kind: BatchKind::Control, first, count: 1, logged_at: 0, body: &body };
        step::fold(&mut state, input, &mut Scratch::default())?;
    }
    Ok(state)
}
