//! From what the step gave to batches on the log, none of them too large for it.

use std::collections::HashMap;

use schemas::decision::Fact;
use schemas::{Batch, BatchHeader, BatchKind, Decision, EntityName, TenantId};
use serde::Deserialize;

use crate::step::Outcome;

/// A batch of decisions is cut once its body has so many bytes.
const DECISIONS_BYTES: usize = 8 << 20;
/// An append has so many bytes, or one batch: a log on servers takes it as one message.
const APPEND_BYTES: usize = 16 << 20;
/// What a batch takes beside its body and its subject, at most.
const AROUND_BYTES: usize = 256;

/// What a round gave so far and is not on the log yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) events: HashMap<u32, Vec<Batch>>,
    pub(super) decisions: Vec<Batch>,
    pub(super) bytes: usize,
}

impl Output {
    /// Takes in what the fold of a batch gave.
    pub(super) fn take(&mut self, outcome: Outcome, input: &BatchHeader, partitions: u32) {
        let (mut events, mut decisions) = (HashMap::new(), Vec::new());
        collect(outcome, input, partitions, &mut events, &mut decisions);
        self.bytes += events.values().flatten().chain(&decisions).map(|batch| batch.body.len()).sum::<usize>();
        for (partition, batches) in events {
            self.events.entry(partition).or_default().extend(batches);
        }
        self.decisions.extend(decisions);
    }
}

/// Cuts batches into appends that every log takes, in their order.
pub(super) fn appends(batches: Vec<Batch>) -> Vec<Vec<Batch>> {
    let (mut appends, mut bytes) = (Vec::<Vec<Batch>>::new(), 0);
    for batch in batches {
        let more = batch.body.len() + batch.header.subject.len() + AROUND_BYTES;
        match appends.last_mut() {
            Some(last) if bytes + more <= APPEND_BYTES => {
                bytes += more;
                last.push(batch);
            }
            _ => {
                bytes = more;
                appends.push(vec![batch]);
            }
        }
    }
    appends
}

/// Sorts an outcome into batches for the topics.
pub fn collect(
    outcome: Outcome,
    input: &BatchHeader,
    partitions: u32,
    events: &mut HashMap<u32, Vec<Batch>>,
    decisions: &mut Vec<Batch>,
) {
    let batch = |kind, subject: &str, count, body: Vec<u8>| {
        let BatchHeader { tenant, logged_at, trace, .. } = *input;
        let header = BatchHeader { kind, tenant, subject: subject.to_owned(), count, logged_at, key_id: 0, trace };
        Batch { header, body: body.into() }
    };
    if let Some(entity) = outcome.entity.filter(|_| !outcome.controls.is_empty() || !outcome.rows.is_empty()) {
        let to = events.entry(events_partition(input.tenant, &entity, partitions)).or_default();
        for control in &outcome.controls {
            let body = serde_json::to_vec(control).expect("a control event has only text keys");
            to.push(batch(BatchKind::ViewControl, entity.as_str(), 1, body));
        }
        for (rows, count) in outcome.rows {
            to.push(batch(BatchKind::Rows, entity.as_str(), count, rows));
        }
    }
    for (count, body) in encode_decisions(&outcome.decisions) {
        decisions.push(batch(BatchKind::Decisions, &input.subject, count, body));
    }
}

/// The partition of `events` that a view lies in.
pub fn events_partition(tenant: TenantId, entity: &EntityName, partitions: u32) -> u32 {
    (schemas::ids::view_hash(tenant, entity) % u64::from(partitions)) as u32
}

fn encode_decisions(decisions: &[Decision]) -> Vec<(u32, Vec<u8>)> {
    let (mut bodies, mut count, mut body) = (Vec::new(), 0, Vec::new());
    for decision in decisions {
        serde_json::to_writer(&mut body, decision).expect("writing to memory cannot fail");
        body.push(b'\n');
        count += 1;
        if body.len() >= DECISIONS_BYTES {
            bodies.push((std::mem::take(&mut count), std::mem::take(&mut body)));
        }
    }
    if count > 0 {
        bodies.push((count, body));
    }
    bodies
}

/// Reads the body of a batch of decisions.
pub fn decode_decisions(body: &[u8]) -> Result<Vec<Decision>, serde_json::Error> {
    decisions(body).collect()
}

/// The same, one by one.
pub(crate) fn decisions(body: &[u8]) -> impl Iterator<Item = Result<Decision, serde_json::Error>> {
    body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(decode_decision)
}

/// A decision that holds a record, as it is written. Where a stream is repaired most decisions are such, and several read
/// them: so they are read without being buffered, as a tagged one is otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldLine {
    input_offset: u64,
    ordinal: u32,
    event: HeldEvent,
    case: u64,
    origin: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum HeldEvent {
    RecordHeld,
}

fn decode_decision(line: &[u8]) -> Result<Decision, serde_json::Error> {
    match serde_json::from_slice(line) {
        Ok(HeldLine { input_offset, ordinal, event: HeldEvent::RecordHeld, case, origin }) => {
            Ok(Decision { input_offset, ordinal, fact: Fact::RecordHeld { case, origin } })
        }
        // Another one says so with its third member.
        Err(_) => serde_json::from_slice(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::batch;

    #[test]
    fn decisions_are_read_as_they_are_written_and_by_whatever_release() {
        let decision = |ordinal, fact| Decision { input_offset: 7, ordinal, fact };
        let all = [
            decision(0, Fact::RecordHeld { case: u64::MAX, origin: 3 }),
            decision(1, Fact::TimerSet { id: r#"","event":"record_held","case":1,"origin":2"#.to_owned(), at: 5 }),
            decision(2, Fact::RecordsReleased { case: 7, count: 1, why: "is back".to_owned() }),
        ];
        let lines: Vec<String> = all.iter().map(|decision| serde_json::to_string(decision).unwrap()).collect();
        assert_eq!(decode_decisions(format!("{}\n", lines.join("\n")).as_bytes()).unwrap(), all);
        let other = br#"{"origin":3,"event":"record_held","why":"later","case":9,"ordinal":0,"input_offset":7}"#;
        assert_eq!(decode_decisions(other).unwrap(), [decision(0, Fact::RecordHeld { case: 9, origin: 3 })]);
        assert!(decode_decisions(br#"{"input_offset":7,"ordinal":0,"event":"record_held"}"#).is_err());
    }

    #[test]
    fn what_is_too_much_for_one_append_is_cut_between_batches_and_stays_in_order() {
        let sized = |n: usize, bytes: usize| Batch { body: vec![n as u8; bytes].into(), ..batch("", 1) };
        let sizes = [5 << 20, 10 << 20, 2 << 20, 40 << 20, 1];
        let batches: Vec<Batch> = sizes.iter().enumerate().map(|(n, bytes)| sized(n, *bytes)).collect();
        let cut = appends(batches.clone());
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
        assert!(cut.concat() == batches);
        assert!(appends(Vec::new()).is_empty());
    }
}
