//! Drift, told on whole records: what is held, when a case opens, what a decision does.

mod absences;
mod bad_input;
mod batches;
mod candidates;
mod decisions;
mod declared;
mod narrowing;
mod notices;
mod refills;
mod renamed;
mod reverts;
mod sparse;
mod swaps;
mod types;
mod values;
mod waning;

use schemas::decision::Fact;
use schemas::drift::{Decide, DriftKind, Move, Tried, Verdict};
use schemas::event::EventBatchReader;
use schemas::input::Command;
use schemas::reason::Reason;
use schemas::record::RecordBatchWriter;
use schemas::{BatchKind, Input, Lane, Op, Record, Value, Version};

use crate::step::tests::{Stream, opening, quarantined, row_count};
use crate::step::{Again, InputBatch, Outcome, Scratch, fold, redriven_for};

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[
    {"name":"order_id","type":"text","required":true},{"name":"total","type":"decimal"},
    {"name":"note","type":"text"},{"name":"buyer","type":"text"}]}"#;
const MAPPING: &str =
    r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","total":"Total","note":"Note","buyer":"Buyer.Name"}}"#;

fn stream() -> Stream {
    let mut stream = Stream::new();
    for input in opening(MAPPING, ENTITY) {
        stream.control(&input);
    }
    stream
}

/// A stream that has seen so many records with everything.
fn steady(records: usize) -> Stream {
    let mut stream = stream();
    let payloads: Vec<String> = (0..records).map(|id| with(id, "Total")).collect();
    assert_eq!(row_count(&feed(&mut stream, &payloads)) as usize, records);
    stream
}

fn with(id: usize, name: &str) -> String {
    format!(r#"{{"Id":"{id}","{name}":{id}.5,"Note":"n{id}","Buyer":{{"Name":"b"}}}}"#)
}

fn feed(stream: &mut Stream, payloads: &[String]) -> Outcome {
    stream.records(&payloads.iter().map(String::as_str).collect::<Vec<_>>())
}

fn names(outcome: &Outcome) -> Vec<&'static str> {
    // The times that people have are told elsewhere.
    let is_hold = |fact: &Fact| !matches!(fact, Fact::TimerSet { id, .. } if !id.starts_with("hold-"));
    let names = outcome.decisions.iter().filter(|d| is_hold(&d.fact)).map(|d| d.fact.type_name());
    names.filter(|name| !matches!(*name, "ShapeObserved" | "RecordHeld")).collect()
}

fn held(outcome: &Outcome) -> Vec<u64> {
    let held = outcome.decisions.iter().filter(|d| matches!(d.fact, Fact::RecordHeld { .. }));
    held.map(|d| d.input_offset).collect()
}

fn totals(outcome: &Outcome) -> Vec<Option<i128>> {
    let mut all = Vec::new();
    for (body, _) in &outcome.rows {
        let mut reader = EventBatchReader::new(body).unwrap();
        while let Some(mut row) = reader.next_row().unwrap() {
            row.values.next_value().unwrap();
            all.push(match row.values.next_value().unwrap() {
                Value::Decimal(units) => Some(units),
                _ => None,
            });
        }
    }
    all
}

fn reconciles(stream: &Stream) {
    let c = stream.state.counters;
    assert_eq!(c.taken, c.accepted + c.deleted + c.quarantined + c.held + c.duplicate, "{c:?}");
}

fn only_case(stream: &Stream) -> u64 {
    let cases: Vec<u64> = stream.state.drift().cases().keys().copied().collect();
    assert_eq!(cases.len(), 1, "{cases:?}");
    cases[0]
}

fn renamed(from: &str, to: &str, confidence: u16) -> Move {
    let (from, to) = (from.to_owned(), vec![to.to_owned()]);
    Move { from, to, kind: DriftKind::Renamed, confidence, part: None, change: None, transform: None, signals: vec![] }
}

fn suggest(stream: &mut Stream, id: &str, moves: Vec<Move>) -> Outcome {
    let (case, mapping_version) = (only_case(stream), stream.state.mapping().unwrap().1);
    stream.control(&Input::Suggestion {
        id: id.to_owned(),
        case,
        mapping_version,
        moves,
        alternatives: vec![],
        tried: clean(),
        asked: None,
        version: None,
    })
}

/// A dry run of which nothing is to be said.
fn clean() -> Option<Tried> {
    Some(Tried { records: 30, accepted: 30, quarantined: 0, held: 0 })
}

fn decide(stream: &mut Stream, id: &str, verdict: Verdict) -> Outcome {
    let (case, mapping_version) = (only_case(stream), stream.state.mapping().unwrap().1);
    let decide = Decide {
        case,
        mapping_version,
        version: None,
        once_read: false,
        verdict,
        by: "ada".to_owned(),
        why: "seen".to_owned(),
    };
    stream.control(&Input::Command { id: id.to_owned(), command: Command::Decide(decide) })
}

/// The same as people give it: not while records are looked at again for the case.
fn decide_once_read(stream: &mut Stream, id: &str, verdict: Verdict) -> Outcome {
    let (case, mapping_version) = (only_case(stream), stream.state.mapping().unwrap().1);
    let (version, once_read, by, why) = (None, true, "ada".to_owned(), "seen".to_owned());
    let decide = Decide { case, mapping_version, version, once_read, verdict, by, why };
    stream.control(&Input::Command { id: id.to_owned(), command: Command::Decide(decide) })
}

/// The ends of everything that is looked at again, as the repairer says them.
fn recall_ends(asked: &Outcome) -> Vec<Input> {
    let end = |d: &schemas::Decision| match d.fact {
        Fact::RecordsRecalled { case, since, .. } | Fact::RepairReverted { into: case, since, .. } => {
            Some(Input::RecallEnded { case, at: d.input_offset, since })
        }
        _ => None,
    };
    asked.decisions.iter().filter_map(end).collect()
}

/// Every held record of a batch that was fed, as the repairer sends it again.
fn redrive(stream: &mut Stream, case: u64, offsets: &[u64], payloads: &[String]) -> Outcome {
    let mut writer = RecordBatchWriter::new(Lane(1000 + u128::from(case)), 0, 0);
    for (origin, payload) in offsets.iter().zip(payloads) {
        let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
        let record = Record { ordinal: origin + 1, op, key: None, version, defect: None, payload };
        writer.push_from(&record, Some(*origin));
    }
    let batch = writer.finish(&case.to_be_bytes());
    stream.fold(BatchKind::Redriven, batch.count, &batch.body)
}

/// Records that were accepted, as the repairer sends them again for a case.
fn send_again(stream: &mut Stream, case: u64, why: Again, offsets: &[u64], payloads: &[String]) -> Outcome {
    let lane = if why == Again::Reverted { 30_000 } else { 20_000 };
    let mut writer = RecordBatchWriter::new(Lane(lane + u128::from(case)), 0, 0);
    for (origin, payload) in offsets.iter().zip(payloads) {
        let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
        let record = Record { ordinal: origin + 1, op, key: None, version, defect: None, payload };
        writer.push_from(&record, Some(*origin));
    }
    let batch = writer.finish(&redriven_for(case, why));
    stream.fold(BatchKind::Redriven, batch.count, &batch.body)
}

/// A person says of a case where its values have gone.
fn edit(stream: &mut Stream, case: u64, moves: Vec<Move>) -> Outcome {
    let (verdict, mapping_version) = (Verdict::Edit { moves }, stream.state.mapping().unwrap().1);
    let decide = Decide {
        case,
        mapping_version,
        version: None,
        once_read: false,
        verdict,
        by: "ada".to_owned(),
        why: "seen".to_owned(),
    };
    stream.control(&Input::Command { id: format!("e-{case}"), command: Command::Decide(decide) })
}

fn released(outcome: &Outcome) -> Vec<(u64, u64)> {
    let over = outcome.decisions.iter().filter_map(|d| match d.fact {
        Fact::RecordsReleased { case, count, .. } => Some((case, count)),
        _ => None,
    });
    over.collect()
}
