//! Records that a program pushes: a body of NDJSON or one JSON array becomes batches of one lane. The lane is the push's
//! idempotency key, the ordinal a record's place in the body, so the same body again adds nothing.

use schemas::reason::Reason;
use schemas::record::{RECORD_BYTES_MAX, RecordBatch, RecordBatchWriter};
use schemas::{Lane, Op, Record, Version};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Bytes of records in a batch.
const BATCH_BYTES: usize = 512 << 10;
/// Records in a body: many more could only be next to nothing each, and each costs more than its bytes.
const RECORDS_MAX: usize = 200_000;

/// How a pushed body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushFormat {
    /// One JSON object a line.
    Ndjson,
    /// One JSON array of objects.
    Json,
}

/// A body that holds no records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The array cannot be taken apart, so nothing of it is taken.
    #[error("the body is no JSON array: {0}")]
    NoArray(String),
    /// Nothing in it.
    #[error("the body holds no record")]
    Empty,
    /// Too much in it.
    #[error("the body holds more than {RECORDS_MAX} records: send it in parts")]
    TooMany,
}

/// The batches of a body, in order. A record that cannot be read goes along and is quarantined with its reason.
pub fn batches(lane: Lane, format: PushFormat, body: &[u8]) -> Result<Vec<RecordBatch>, PushError> {
    let mut batches =
        Batches { count: 0, lane, writer: RecordBatchWriter::new(lane, 0, 0), ordinal: 0, full: Vec::new() };
    match format {
        PushFormat::Ndjson => {
            for line in body.split(|byte| *byte == b'\n') {
                // A blank line counts, as it does in a file, but is no record.
                batches.ordinal += 1;
                let line = line.trim_ascii();
                if !line.is_empty() {
                    batches.push(line)?;
                }
            }
        }
        PushFormat::Json => {
            let items: Items<'_> =
                serde_json::from_slice(body).map_err(|error| PushError::NoArray(error.to_string()))?;
            for item in items.0 {
                batches.ordinal += 1;
                batches.push(item.get().as_bytes())?;
            }
        }
    }
    batches.finish()
}

/// The items of an array, up to one more than there may be; the rest is looked through and not held.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Items<'de>, A::Error> {
        let mut items = Vec::new();
        while items.len() <= RECORDS_MAX {
            match array.next_element::<&'de RawValue>()? {
                Some(item) => items.push(item),
                None => return Ok(Items(items)),
            }
        }
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Items(items))
    }
}

struct Batches {
    /// Records so far.
    count: usize,
    lane: Lane,
    writer: RecordBatchWriter,
    ordinal: u64,
    full: Vec<RecordBatch>,
}

impl Batches {
    fn push(&mut self, payload: &[u8]) -> Result<(), PushError> {
        self.count += 1;
        if self.count > RECORDS_MAX {
            return Err(PushError::TooMany);
        }
        let defect = match payload.len() > RECORD_BYTES_MAX {
            true => Some(Reason::RecordTooLarge),
            false => std::str::from_utf8(payload).is_err().then_some(Reason::InvalidEncoding),
        };
        // Of a record that is too large its beginning is kept, as the connectors do.
        let payload = &payload[..payload.len().min(RECORD_BYTES_MAX)];
        if self.writer.count() > 0 && self.writer.bytes() + payload.len() > BATCH_BYTES {
            self.turn();
        }
        let (op, version) = (Op::Upsert, Version::None);
        self.writer.push(&Record { ordinal: self.ordinal, op, key: None, version, defect, payload });
        Ok(())
    }

    fn turn(&mut self) {
        let next = RecordBatchWriter::new(self.lane, self.writer.last_ordinal(), BATCH_BYTES);
        self.full.push(std::mem::replace(&mut self.writer, next).finish(b""));
    }

    fn finish(mut self) -> Result<Vec<RecordBatch>, PushError> {
        if self.writer.count() > 0 {
            self.full.push(self.writer.finish(b""));
        }
        if self.full.is_empty() { Err(PushError::Empty) } else { Ok(self.full) }
    }
}

#[cfg(test)]
mod tests {
    use schemas::record::RecordBatchReader;

    use super::*;

    fn read(batches: &[RecordBatch]) -> Vec<(u64, Option<Reason>, Vec<u8>)> {
        let mut records = Vec::new();
        for batch in batches {
            let mut reader = RecordBatchReader::new(&batch.body).unwrap();
            while let Some(record) = reader.next_record().unwrap() {
                records.push((record.ordinal, record.defect, record.payload.to_vec()));
            }
        }
        records
    }

    #[test]
    fn lines_and_arrays_give_the_same_records() {
        let lines = batches(Lane(1), PushFormat::Ndjson, b"{\"a\":1}\r\n\n {\"a\":2}\n").unwrap();
        assert_eq!(read(&lines), [(1, None, b"{\"a\":1}".to_vec()), (3, None, b"{\"a\":2}".to_vec())]);
        let array = batches(Lane(1), PushFormat::Json, b"[{\"a\":1}, {\"a\":2}]").unwrap();
        assert_eq!(read(&array), [(1, None, b"{\"a\":1}".to_vec()), (2, None, b"{\"a\":2}".to_vec())]);
    }

    #[test]
    fn what_is_no_array_is_refused_whole_and_what_is_no_object_goes_along() {
        assert!(matches!(batches(Lane(1), PushFormat::Json, b"[{\"a\":1}, {"), Err(PushError::NoArray(_))));
        assert!(matches!(batches(Lane(1), PushFormat::Json, b"{\"a\":1}"), Err(PushError::NoArray(_))));
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert_eq!(read(&batches(Lane(1), PushFormat::Json, &deep).unwrap()).len(), 1, "the step refuses its depth");
        assert_eq!(batches(Lane(1), PushFormat::Json, b"[]"), Err(PushError::Empty));
        assert_eq!(batches(Lane(1), PushFormat::Ndjson, b"\n \n"), Err(PushError::Empty));
        assert_eq!(read(&batches(Lane(1), PushFormat::Json, b"[7]").unwrap()), [(1, None, b"7".to_vec())]);
        let bad = batches(Lane(1), PushFormat::Ndjson, b"\xff\xfe").unwrap();
        assert_eq!(read(&bad)[0].1, Some(Reason::InvalidEncoding));
    }

    #[test]
    fn more_records_than_a_body_may_hold_are_refused_whole() {
        let lines = "1\n".repeat(RECORDS_MAX);
        let array = |more: &str| format!("[{}1{more}]", "1,".repeat(RECORDS_MAX - 1)).into_bytes();
        assert!(batches(Lane(1), PushFormat::Ndjson, lines.as_bytes()).is_ok());
        assert!(batches(Lane(1), PushFormat::Json, &array("")).is_ok());
        let many = format!("{lines}1\n");
        assert_eq!(batches(Lane(1), PushFormat::Ndjson, many.as_bytes()), Err(PushError::TooMany));
        assert_eq!(batches(Lane(1), PushFormat::Json, &array(",1,1")), Err(PushError::TooMany));
        assert!(matches!(batches(Lane(1), PushFormat::Json, &array(",1,")), Err(PushError::NoArray(_))));
    }

    #[test]
    fn large_bodies_become_several_batches_with_rising_ordinals() {
        let line = format!("{{\"a\":\"{}\"}}\n", "x".repeat(100_000));
        let all = batches(Lane(1), PushFormat::Ndjson, line.repeat(20).as_bytes()).unwrap();
        assert!(all.len() > 3);
        let ordinals: Vec<u64> = read(&all).iter().map(|r| r.0).collect();
        assert_eq!(ordinals, (1..=20).collect::<Vec<_>>());
    }
}
