//! Trials: what would become of records by other rules. The step itself tells it, on a copy of the state; nothing is
//! changed.

use schemas::cloudevent::json_value;
use schemas::decision::Fact;
use schemas::drift::Decide;
use schemas::event::{EventBatchReader, RowKind};
use schemas::reason::Reason;
use schemas::record::RecordBatchWriter;
use schemas::{BatchKind, Lane, Mapping};
use serde_json::{Map, Value};

use super::drift::Drift;
use super::state::Opened;
use super::{InputBatch, Scratch, StepError, StreamState, fold};
use crate::records::Found;

/// No lane of a real source has this name: it is not the hash of one.
const LANE: Lane = Lane(u128::MAX);

/// What would become of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It would be a row.
    Accepted {
        /// The row's key.
        key: String,
        /// The canonical fields by name.
        row: Map<String, Value>,
    },
    /// It would be a delete.
    Deleted,
    /// It would be set aside.
    Quarantined {
        /// Why, as a stable code.
        reason: Reason,
        /// The field or path concerned.
        field: Option<String>,
        /// What exactly would be wrong.
        detail: String,
    },
    /// It would be held, still or again.
    Held,
}

/// A copy of a stream's state that records are tried on.
pub struct Trial {
    state: StreamState,
    scratch: Scratch,
    /// The case that held the records, if they are tried as those that come again.
    case: Option<u64>,
    ordinal: u64,
}

impl StreamState {
    /// A trial by another mapping alone: nothing is held.
    pub fn under(&self, mapping: Mapping) -> Result<Trial, String> {
        let Some(opened) = &self.opened else { return Err("the stream is not open".to_owned()) };
        mapping.validate(&opened.entity).map_err(|e| e.to_string())?;
        let mut state = self.clone();
        state.opened = Some(Opened { mapping, ..opened.clone() });
        state.bind();
        // What watches nothing misses nothing.
        state.drift = Drift::default();
        Ok(Trial { state, scratch: Scratch::default(), case: None, ordinal: 0 })
    }

    /// A trial behind a decision, given now: the records of its case come again. Refused as the decision would be.
    pub fn behind(&self, decide: &Decide, now: i64) -> Result<Trial, String> {
        let mut state = self.clone();
        // What it would do once everybody has approved it.
        state.policy.two_persons = None;
        state.decide(decide, self.next.offset, now, &mut Vec::new())?;
        state.next.offset += 1;
        Ok(Trial { state, scratch: Scratch::default(), case: Some(decide.case), ordinal: 0 })
    }
}

impl Trial {
    /// What would become of the records, one fate for each. They entered before the state that is tried.
    pub fn fates(&mut self, records: &[Found]) -> Result<Vec<Fate>, StepError> {
        let mut writer = RecordBatchWriter::new(LANE, self.ordinal, 0);
        for record in records {
            self.ordinal += 1;
            writer.push_from(&record.record(self.ordinal), Some(record.origin));
        }
        let cursor = self.case.map_or_else(Vec::new, |case| case.to_be_bytes().to_vec());
        let kind = if self.case.is_some() { BatchKind::Redriven } else { BatchKind::Records };
        let batch = writer.finish(&cursor);
        // The case waits for a further decision, and what it holds with it.
        if self.case.is_some_and(|case| !self.state.drift.is_awaited(case)) || records.is_empty() {
            return Ok(vec![Fate::Held; records.len()]);
        }
        let first = self.state.next.offset;
        let logged_at = records.last().map_or(0, |record| record.logged_at);
        let input = InputBatch { kind, first, count: batch.count, logged_at, body: &batch.body };
        let outcome = fold(&mut self.state, input, &mut self.scratch)?;
        let mut fates = vec![Fate::Held; records.len()];
        let mut set = |offset: u64, fate: Fate| {
            let place = offset.checked_sub(first).and_then(|place| usize::try_from(place).ok());
            if let Some(known) = place.and_then(|place| fates.get_mut(place)) {
                *known = fate;
            }
        };
        for decision in outcome.decisions {
            if let Fact::RecordQuarantined { reason, field, detail, .. } = decision.fact {
                set(decision.input_offset, Fate::Quarantined { reason, field, detail });
            }
        }
        for (body, _) in &outcome.rows {
            self.rows(body, &mut set).map_err(|source| StepError::Malformed { offset: first, source })?;
        }
        Ok(fates)
    }

    fn rows(&self, body: &[u8], set: &mut impl FnMut(u64, Fate)) -> Result<(), schemas::wire::WireError> {
        let fields = self.state.opened.as_ref().map_or(&[][..], |opened| &opened.entity.fields);
        let mut reader = EventBatchReader::new(body)?;
        while let Some(mut row) = reader.next_row()? {
            if row.kind == RowKind::Deleted {
                set(row.input_offset, Fate::Deleted);
                continue;
            }
            let mut canonical = Map::new();
            for field in fields {
                canonical.insert(field.name.to_string(), json_value(row.values.next_value()?, field.field_type()));
            }
            set(row.input_offset, Fate::Accepted { key: row.key.to_owned(), row: canonical });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use schemas::drift::{DriftKind, Move, Verdict};
    use schemas::{Op, Version};

    use super::*;
    use crate::step::tests::{Stream, opening};

    const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[
        {"name":"order_id","type":"text","required":true},{"name":"total","type":"decimal"}]}"#;
    const MAPPING: &str = r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","total":"Total"}}"#;

    fn payload(id: usize, name: &str, value: &str) -> String {
        format!(r#"{{"Id":"{id}","{name}":{value}}}"#)
    }

    /// A stream with a case that holds thirty records, the last of which cannot be cast.
    fn drifted() -> (Stream, Vec<Found>) {
        let mut stream = Stream::new();
        for input in opening(MAPPING, ENTITY) {
            stream.control(&input);
        }
        let before: Vec<String> = (0..50).map(|id| payload(id, "Total", "1.5")).collect();
        stream.records(&before.iter().map(String::as_str).collect::<Vec<_>>());
        let value = |id: usize| if id == 79 { "\"lots\"" } else { "2.5" };
        let held: Vec<String> = (50..80).map(|id| payload(id, "Sum", value(id))).collect();
        let first = stream.state.next.offset;
        stream.records(&held.iter().map(String::as_str).collect::<Vec<_>>());
        let found = |(at, text): (u64, &String)| Found {
            offset: first + at,
            origin: first + at,
            logged_at: 0,
            op: Op::Upsert,
            key: None,
            version: Version::None,
            defect: None,
            payload: Bytes::copy_from_slice(text.as_bytes()),
        };
        let held = (0..).zip(&held).map(found).collect();
        (stream, held)
    }

    fn edit(stream: &Stream, to: &str) -> Decide {
        let (case, mapping_version) = (*stream.state.drift().cases().keys().next().unwrap(), 1);
        let kind = DriftKind::Renamed;
        let to = Move {
            from: "Total".into(),
            to: vec![to.into()],
            kind,
            confidence: 0,
            part: None,
            change: None,
            transform: None,
            signals: vec![],
        };
        let (verdict, by, why) = (Verdict::Edit { moves: vec![to] }, "ada".into(), String::new());
        Decide { case, mapping_version, version: None, once_read: false, verdict, by, why }
    }

    #[test]
    fn a_decision_is_tried_on_a_copy_and_every_record_says_what_would_become_of_it() {
        let (mut stream, held) = drifted();
        let before = stream.state.snapshot();
        let mut trial = stream.state.behind(&edit(&stream, "Sum"), 0).unwrap();
        let fates = trial.fates(&held).unwrap();
        let rows = fates.iter().filter(|f| matches!(f, Fate::Accepted { row, .. } if row["total"] == "2.5000"));
        assert_eq!(rows.count(), 29);
        assert!(matches!(&fates[29], Fate::Quarantined { reason: Reason::CastFailed, field, .. }
            if field.as_deref() == Some("total")));
        let wrong = stream.state.behind(&edit(&stream, "Nothing"), 0);
        assert!(wrong.is_err_and(|why| why.contains("no record had Nothing")));
        assert_eq!(stream.state.snapshot(), before);
    }

    #[test]
    fn what_would_be_refused_is_refused() {
        let (stream, _) = drifted();
        let stale = Decide { mapping_version: 7, ..edit(&stream, "Sum") };
        assert!(stream.state.behind(&stale, 0).is_err_and(|e| e.contains("version 7")));
        let bad = serde_json::from_str(&MAPPING.replace("total\":\"", "nothing\":\"")).unwrap();
        assert!(stream.state.under(bad).is_err());
    }

    #[test]
    fn a_mapping_is_tried_alone_and_holds_nothing() {
        let (stream, held) = drifted();
        let same = stream.state.mapping().unwrap().0.clone();
        let fates = stream.state.under(same).unwrap().fates(&held).unwrap();
        assert!(fates.iter().all(|f| matches!(f, Fate::Accepted { row, .. } if row["total"].is_null())));
        let other = serde_json::from_str(&MAPPING.replace("Total", "Sum")).unwrap();
        let fates = stream.state.under(other).unwrap().fates(&held).unwrap();
        assert!(matches!(&fates[0], Fate::Accepted { key, row } if key == "50" && row["total"] == "2.5000"));
    }
}
