//! What changes a view: rows of one stream, each with the input that it came from.

use serde::{Deserialize, Serialize};

use crate::ids::{ConnectionName, StreamName};
use crate::input::DefinitionHash;
use crate::value::Value;
use crate::version::Version;
use crate::wire::{self, Reader, WireError};

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// `RecordAccepted`: the canonical row.
    Accepted = 1,
    /// `RecordDeleted`: only key and order key are left.
    Deleted = 2,
}

/// A control event of a view's partition, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ViewControl {
    /// The entity's definition in force; stands before its first row.
    EntityDefined {
        /// Its name.
        hash: DefinitionHash,
        /// Canonical JSON of the [`crate::Entity`].
        text: String,
        /// The input that brought it.
        input: crate::Position,
    },
    /// Everything up to this input was processed. The greater wins; it carries no ordinal and enters no hash.
    Progress {
        /// The next input that the processor will read.
        input: crate::Position,
    },
}

/// What all rows of a batch share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBatch {
    /// The connection that the records came over.
    pub connection: ConnectionName,
    /// The stream that they are of.
    pub stream: StreamName,
    /// Epoch of the inputs' partition.
    pub input_epoch: u32,
    /// The inputs' partition.
    pub input_partition: u32,
    /// When the log took the records, in microseconds since 1970 UTC.
    pub logged_at: i64,
    /// The stream's mapping version in force.
    pub mapping_version: u32,
    /// The lowest confidence of the rules used, in thousandths.
    pub confidence: u16,
}

/// One row, borrowed from its batch.
#[derive(Debug, Clone)]
pub struct EventRow<'a> {
    /// What happened.
    pub kind: RowKind,
    /// Offset of the input.
    pub input_offset: u64,
    /// Place among the events of that input.
    pub ordinal: u32,
    /// Offset at which the record first entered.
    pub origin: u64,
    /// The source key.
    pub key: &'a str,
    /// The source version.
    pub version: Version,
    /// The values in the order of the entity's fields; fields behind the last are null.
    pub values: Values<'a>,
    /// Unmapped fields, a JSON object, or empty.
    pub extras: &'a str,
}

/// Builds the body of a batch of rows.
#[derive(Debug)]
pub struct EventBatchWriter {
    body: Vec<u8>,
    count: u32,
    last_offset: u64,
}

impl EventBatchWriter {
    /// An empty batch.
    pub fn new(shared: &EventBatch, capacity: usize) -> Self {
        let mut body = Vec::with_capacity(capacity + 64);
        wire::put_bytes(&mut body, shared.connection.as_str().as_bytes());
        wire::put_bytes(&mut body, shared.stream.as_str().as_bytes());
        wire::put_u64(&mut body, u64::from(shared.input_epoch));
        wire::put_u64(&mut body, u64::from(shared.input_partition));
        wire::put_i64(&mut body, shared.logged_at);
        wire::put_u64(&mut body, u64::from(shared.mapping_version));
        wire::put_u64(&mut body, u64::from(shared.confidence));
        Self { body, count: 0, last_offset: 0 }
    }
    /// Adds a row; `values` holds what [`put_value`] wrote for `value_count` values.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "a row is these parts, and the hot path builds no struct for them")]
    pub fn push(
        &mut self,
        kind: RowKind,
        input_offset: u64,
        ordinal: u32,
        origin: u64,
        key: &str,
        version: &Version,
        value_count: usize,
        values: &[u8],
        extras: &[u8],
    ) {
        self.body.push(kind as u8);
        wire::put_u64(&mut self.body, input_offset - self.last_offset);
        wire::put_u64(&mut self.body, u64::from(ordinal));
        wire::put_u64(&mut self.body, input_offset - origin);
        wire::put_bytes(&mut self.body, key.as_bytes());
        version.put(&mut self.body);
        wire::put_u64(&mut self.body, value_count as u64);
        wire::put_bytes(&mut self.body, values);
        wire::put_bytes(&mut self.body, extras);
        self.last_offset = input_offset;
        self.count += 1;
    }
    /// Rows so far.
    pub fn count(&self) -> u32 {
        self.count
    }
    /// The body.
    pub fn finish(self) -> Vec<u8> {
        self.body
    }
}

/// Appends one value with its tag.
#[inline]
pub fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Null => out.push(0),
        Value::Text(text) => {
            out.push(1);
            wire::put_bytes(out, text.as_bytes());
        }
        Value::Integer(number) => {
            out.push(2);
            wire::put_i64(out, number);
        }
        Value::Decimal(units) => {
            out.push(3);
            wire::put_i128(out, units);
        }
        Value::Boolean(false) => out.push(4),
        Value::Boolean(true) => out.push(5),
        Value::Date(days) => {
            out.push(6);
            wire::put_i64(out, i64::from(days));
        }
        Value::Timestamp(at) => {
            out.push(7);
            wire::put_i64(out, at);
        }
    }
}

/// The values of a row, read from front to back.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    left: u64,
    reader: Reader<'a>,
    encoded: &'a [u8],
}

impl<'a> Values<'a> {
    /// The next value; null for ever behind the last.
    #[inline]
    pub fn next_value(&mut self) -> Result<Value<'a>, WireError> {
        if self.left == 0 {
            return Ok(Value::Null);
        }
        self.left -= 1;
        Ok(match self.reader.u8()? {
            0 => Value::Null,
            1 => Value::Text(self.reader.text()?),
            2 => Value::Integer(self.reader.i64()?),
            3 => Value::Decimal(self.reader.i128()?),
            4 => Value::Boolean(false),
            5 => Value::Boolean(true),
            6 => Value::Date(i32::try_from(self.reader.i64()?).map_err(|_| WireError::Invalid("a date"))?),
            7 => Value::Timestamp(self.reader.i64()?),
            _ => return Err(WireError::Invalid("a value")),
        })
    }
}

/// Reads a batch's body from front to back.
#[derive(Debug)]
pub struct EventBatchReader<'a> {
    /// What all rows share.
    pub shared: EventBatch,
    reader: Reader<'a>,
    offset: u64,
}

impl<'a> EventBatchReader<'a> {
    /// Opens a body that [`EventBatchWriter`] made.
    pub fn new(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let invalid = |_| WireError::Invalid("an event batch");
        let shared = EventBatch {
            connection: ConnectionName::new(reader.text()?).map_err(|_| WireError::Invalid("a connection"))?,
            stream: StreamName::new(reader.text()?).map_err(|_| WireError::Invalid("a stream"))?,
            input_epoch: u32::try_from(reader.u64()?).map_err(invalid)?,
            input_partition: u32::try_from(reader.u64()?).map_err(invalid)?,
            logged_at: reader.i64()?,
            mapping_version: u32::try_from(reader.u64()?).map_err(invalid)?,
            confidence: u16::try_from(reader.u64()?).map_err(invalid)?,
        };
        Ok(Self { shared, reader, offset: 0 })
    }
    /// The next row; `None` at the end.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<EventRow<'a>>, WireError> {
        let reader = &mut self.reader;
        if reader.is_empty() {
            return Ok(None);
        }
        let kind = match reader.u8()? {
            1 => RowKind::Accepted,
            2 => RowKind::Deleted,
            _ => return Err(WireError::Invalid("a row kind")),
        };
        let input_offset = self.offset.checked_add(reader.u64()?).ok_or(WireError::Invalid("an offset"))?;
        self.offset = input_offset;
        let ordinal = u32::try_from(reader.u64()?).map_err(|_| WireError::Invalid("an ordinal"))?;
        let origin = input_offset.checked_sub(reader.u64()?).ok_or(WireError::Invalid("an origin"))?;
        let key = reader.text()?;
        let version = Version::get(reader)?;
        let left = reader.u64()?;
        let encoded = reader.bytes()?;
        let extras = reader.text()?;
        let values = Values { left, reader: Reader::new(encoded), encoded };
        Ok(Some(EventRow { kind, input_offset, ordinal, origin, key, version, values, extras }))
    }
}

/// The running hash of a stream's events: equal for equal events in equal order, whatever batches they came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventHash {
    /// The hash so far.
    pub head: u128,
    /// Events so far.
    pub count: u64,
}

impl EventHash {
    /// Takes in one row.
    pub fn extend(&mut self, shared: &EventBatch, row: &EventRow<'_>) {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.head.to_be_bytes());
        wire::put_u64(&mut bytes, u64::from(shared.input_epoch));
        wire::put_u64(&mut bytes, u64::from(shared.input_partition));
        wire::put_u64(&mut bytes, row.input_offset);
        wire::put_u64(&mut bytes, u64::from(row.ordinal));
        bytes.push(row.kind as u8);
        wire::put_u64(&mut bytes, row.origin);
        wire::put_i64(&mut bytes, shared.logged_at);
        wire::put_u64(&mut bytes, u64::from(shared.mapping_version));
        wire::put_u64(&mut bytes, u64::from(shared.confidence));
        wire::put_bytes(&mut bytes, row.key.as_bytes());
        row.version.put(&mut bytes);
        wire::put_bytes(&mut bytes, row.values.encoded);
        wire::put_bytes(&mut bytes, row.extras.as_bytes());
        self.head = xxhash_rust::xxh3::xxh3_128(&bytes);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared() -> EventBatch {
        EventBatch {
            connection: ConnectionName::new("crm").unwrap(),
            stream: StreamName::new("opportunity").unwrap(),
            input_epoch: 1,
            input_partition: 2,
            logged_at: 1_700_000_000_000_000,
            mapping_version: 4,
            confidence: 1000,
        }
    }

    fn body() -> Vec<u8> {
        let mut writer = EventBatchWriter::new(&shared(), 0);
        let mut values = Vec::new();
        put_value(&mut values, Value::Text("006"));
        put_value(&mut values, Value::Decimal(-1_234_500));
        put_value(&mut values, Value::Null);
        put_value(&mut values, Value::Boolean(true));
        put_value(&mut values, Value::Date(19_000));
        put_value(&mut values, Value::Timestamp(1_700_000_000_000_000));
        put_value(&mut values, Value::Integer(-7));
        writer.push(RowKind::Accepted, 41, 0, 40, "006", &Version::Time(5), 7, &values, b"{\"x\":1}");
        writer.push(RowKind::Deleted, 42, 1, 42, "007", &Version::Text("b".into()), 0, &[], b"");
        writer.finish()
    }

    #[test]
    fn version_1_lies_on_disk_as_it_always_did() {
        let hex: String = body().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, include_str!("../golden/event_rows_v1.hex").trim());
    }

    #[test]
    fn rows_read_back() {
        let body = body();
        let mut reader = EventBatchReader::new(&body).unwrap();
        assert_eq!(reader.shared, shared());
        let mut row = reader.next_row().unwrap().unwrap();
        assert_eq!((row.kind, row.input_offset, row.ordinal, row.origin), (RowKind::Accepted, 41, 0, 40));
        assert_eq!((row.key, row.extras), ("006", "{\"x\":1}"));
        assert_eq!(row.values.next_value(), Ok(Value::Text("006")));
        assert_eq!(row.values.next_value(), Ok(Value::Decimal(-1_234_500)));
        assert_eq!(row.values.next_value(), Ok(Value::Null));
        assert_eq!(row.values.next_value(), Ok(Value::Boolean(true)));
        assert_eq!(row.values.next_value(), Ok(Value::Date(19_000)));
        assert_eq!(row.values.next_value(), Ok(Value::Timestamp(1_700_000_000_000_000)));
        assert_eq!(row.values.next_value(), Ok(Value::Integer(-7)));
        assert_eq!(row.values.next_value(), Ok(Value::Null), "fields that are newer than the row are null");
        let row = reader.next_row().unwrap().unwrap();
        assert_eq!((row.kind, row.input_offset, row.ordinal), (RowKind::Deleted, 42, 1));
        assert!(reader.next_row().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer_and_no_panic(bytes: Vec<u8>) {
            if let Ok(mut reader) = EventBatchReader::new(&bytes) {
                while let Ok(Some(mut row)) = reader.next_row() {
                    while row.values.left > 0 && row.values.next_value().is_ok() {}
                }
            }
        }
    }
}
