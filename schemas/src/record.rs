//! What a connector read, and how a batch of it lies on the log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;
use crate::version::Version;
use crate::wire::{self, Reader, WireError};

/// The largest payload of a record, in bytes. A larger one is quarantined with its beginning.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// One reading order that reading again gives again: a file's content, a chunk of one snapshot, a replication slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u128);

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
impl FromStr for Lane {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(s, 16).map(Self)
    }
}
impl Serialize for Lane {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What the source says happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The row is as the payload says.
    #[default]
    Upsert,
    /// The row is gone.
    Delete,
}

/// One record, borrowed from its batch. The payload is a JSON object in the source's own shape; with a `defect` it is
/// the raw bytes that the connector could not make a record of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Integer place in the lane.
    pub ordinal: u64,
    /// What happened.
    pub op: Op,
    /// The key, where the source itself gives one; else the step reads it by the mapping.
    pub key: Option<&'a str>,
    /// The version, where the source itself gives one.
    pub version: Version,
    /// Why the connector could not read it.
    pub defect: Option<Reason>,
    /// The payload.
    pub payload: &'a [u8],
}

const HAS_KEY: u8 = 1;
const HAS_VERSION: u8 = 2;
const IS_DELETE: u8 = 4;
const HAS_DEFECT: u8 = 8;
const HAS_ORIGIN: u8 = 16;

/// Builds the body of a batch of records of one lane.
#[derive(Debug)]
pub struct RecordBatchWriter {
    body: Vec<u8>,
    last_ordinal: u64,
    count: u32,
}

impl RecordBatchWriter {
    /// An empty batch of `lane`; every ordinal must be above `after`.
    pub fn new(lane: Lane, after: u64, capacity: usize) -> Self {
        let mut body = Vec::with_capacity(capacity + 64);
        body.extend_from_slice(&lane.0.to_be_bytes());
        wire::put_u64(&mut body, after);
        Self { body, last_ordinal: after, count: 0 }
    }
    /// Adds a record. Its ordinal must be above the last one's.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) {
        self.push_from(record, None);
    }
    /// Adds a record that entered before, at the offset `origin` of the same partition.
    #[inline]
    pub fn push_from(&mut self, record: &Record<'_>, origin: Option<u64>) {
        debug_assert!(record.ordinal > self.last_ordinal, "ordinals rise within a lane");
        let flags = if record.key.is_some() { HAS_KEY } else { 0 }
            | if record.version == Version::None { 0 } else { HAS_VERSION }
            | if record.op == Op::Delete { IS_DELETE } else { 0 }
            | if record.defect.is_some() { HAS_DEFECT } else { 0 }
            | if origin.is_some() { HAS_ORIGIN } else { 0 };
        self.body.push(flags);
        wire::put_u64(&mut self.body, record.ordinal - self.last_ordinal);
        if let Some(key) = record.key {
            wire::put_bytes(&mut self.body, key.as_bytes());
        }
        if record.version != Version::None {
            record.version.put(&mut self.body);
        }
        if let Some(defect) = record.defect {
            self.body.push(defect.to_wire());
        }
        if let Some(origin) = origin {
            wire::put_u64(&mut self.body, origin);
        }
        wire::put_bytes(&mut self.body, record.payload);
        self.last_ordinal = record.ordinal;
        self.count += 1;
    }
    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }
    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }
    /// The ordinal of the last record.
    pub fn last_ordinal(&self) -> u64 {
        self.last_ordinal
    }
    /// The body; `cursor` is the connector's own note of where this batch ends.
    pub fn finish(mut self, cursor: &[u8]) -> RecordBatch {
        self.body.extend_from_slice(cursor);
        let cursor_len = u32::try_from(cursor.len()).expect("a cursor is small");
        self.body.extend_from_slice(&cursor_len.to_be_bytes());
        RecordBatch { body: self.body, count: self.count }
    }
}

/// The body of a batch of records of one lane, and how many they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    /// The encoded records.
    pub body: Vec<u8>,
    /// How many.
    pub count: u32,
}

/// Reads a batch's body from front to back.
#[derive(Debug)]
pub struct RecordBatchReader<'a> {
    /// The lane of all its records.
    pub lane: Lane,
    /// The connector's note of where the batch ends.
    pub cursor: &'a [u8],
    /// Where the record that was read last first entered, if that was elsewhere.
    pub origin: Option<u64>,
    reader: Reader<'a>,
    ordinal: u64,
}

impl<'a> RecordBatchReader<'a> {
    /// Opens a body that [`RecordBatchWriter`] made.
    pub fn new(body: &'a [u8]) -> Result<Self, WireError> {
        let (front, len) = body.split_last_chunk::<4>().ok_or(WireError::Truncated)?;
        let cursor_len = u32::from_be_bytes(*len) as usize;
        let split = front.len().checked_sub(cursor_len).ok_or(WireError::Truncated)?;
        let (front, cursor) = front.split_at(split);
        let mut reader = Reader::new(front);
        let lane = Lane(u128::from_be_bytes(reader.array()?));
        let ordinal = reader.u64()?;
        Ok(Self { lane, cursor, origin: None, reader, ordinal })
    }
    /// The next record; `None` at the end.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record<'a>>, WireError> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let flags = self.reader.u8()?;
        let delta = self.reader.u64()?;
        self.ordinal = self.ordinal.checked_add(delta).ok_or(WireError::Invalid("an ordinal"))?;
        let key = if flags & HAS_KEY != 0 { Some(self.reader.text()?) } else { None };
        let version = if flags & HAS_VERSION != 0 { Version::get(&mut self.reader)? } else { Version::None };
        let defect = if flags & HAS_DEFECT != 0 {
            Some(Reason::from_wire(self.reader.u8()?).ok_or(WireError::Invalid("a reason"))?)
        } else {
            None
        };
        self.origin = if flags & HAS_ORIGIN != 0 { Some(self.reader.u64()?) } else { None };
        let op = if flags & IS_DELETE != 0 { Op::Delete } else { Op::Upsert };
        let payload = self.reader.bytes()?;
        Ok(Some(Record { ordinal: self.ordinal, op, key, version, defect, payload }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_batch_of_records_reads_back(
            rows in proptest::collection::vec((1u64..5, any::<Option<String>>(), any::<Option<i64>>(), any::<bool>(),
                proptest::option::of(0u8..17), any::<Vec<u8>>()), 0..20),
            lane: u128, cursor: Vec<u8>, after in 0u64..1_000_000,
        ) {
            let mut writer = RecordBatchWriter::new(Lane(lane), after, 0);
            let mut ordinal = after;
            let records: Vec<Record<'_>> = rows.iter().map(|(step, key, version, delete, defect, payload)| {
                ordinal += step;
                Record {
                    ordinal,
                    op: if *delete { Op::Delete } else { Op::Upsert },
                    key: key.as_deref(),
                    version: version.map_or(Version::None, Version::Integer),
                    defect: defect.and_then(Reason::from_wire),
                    payload,
                }
            }).collect();
            records.iter().for_each(|r| writer.push(r));
            let batch = writer.finish(&cursor);
            prop_assert_eq!(batch.count as usize, records.len());
            let mut reader = RecordBatchReader::new(&batch.body).unwrap();
            prop_assert_eq!(reader.lane, Lane(lane));
            prop_assert_eq!(reader.cursor, &cursor[..]);
            for record in &records {
                prop_assert_eq!(reader.next_record().unwrap(), Some(record.clone()));
            }
            prop_assert_eq!(reader.next_record().unwrap(), None);
        }

        #[test]
        fn where_a_record_first_entered_reads_back(origins: Vec<Option<u64>>) {
            let mut writer = RecordBatchWriter::new(Lane(1), 0, 0);
            let (op, version) = (Op::Upsert, Version::None);
            for (ordinal, origin) in (1..).zip(&origins) {
                let record =
                    Record { ordinal, op, key: None, version: version.clone(), defect: None, payload: b"{}" };
                writer.push_from(&record, *origin);
            }
            let batch = writer.finish(b"");
            let mut reader = RecordBatchReader::new(&batch.body).unwrap();
            for origin in &origins {
                prop_assert!(reader.next_record().unwrap().is_some());
                prop_assert_eq!(reader.origin, *origin);
            }
        }

        #[test]
        fn any_bytes_give_an_answer_and_no_panic(bytes: Vec<u8>) {
            if let Ok(mut reader) = RecordBatchReader::new(&bytes) {
                while let Ok(Some(_)) = reader.next_record() {}
            }
        }
    }
}
