//! Records that a source elsewhere has read: a client pushes its batches as they are, with lane, ordinals and cursor, and is
//! told where its lanes are when it begins again.
//!
//! A relay is such a client on one machine, by an id that it keeps. Its lanes and cursors are its own: files of the same
//! path on two machines are two files.

use pipeline::source::LaneCursor;
use schemas::record::{RECORD_BYTES_MAX, RecordBatch, RecordBatchReader, RecordBatchWriter};
use schemas::wire::WireError;
use schemas::{Lane, StreamId};
use xxhash_rust::xxh3::xxh3_128;

/// How a relayed batch is called in `Content-Type`. Its bytes are those of a batch on `inputs`.
pub const MEDIA_TYPE: &str = "application/vnd.autonomos.records.v1";

/// How the cursor of a relayed lane begins; the relay's id, its own name of the lane and its own cursor follow.
const TAG: &[u8] = b"relay\x01";
/// A longer cursor is refused, in bytes.
const CURSOR_BYTES_MAX: usize = 6 << 10;

/// A client that relays, on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay(pub u128);

/// A batch that cannot be taken; nothing of it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// It does not follow its codec.
    #[error("the batch cannot be read: {0}; use the same version of the program and the server")]
    Unreadable(#[from] WireError),
    /// Nothing in it.
    #[error("the batch holds no record")]
    Empty,
    /// Its ordinals do not rise.
    #[error("the ordinals of the batch do not rise")]
    Order,
    /// Only a decision of a case brings in records that came before.
    #[error("the batch says of its records that they came before")]
    Origin,
    /// A record or the cursor is too long.
    #[error("{0} of the batch is too long")]
    TooLong(&'static str),
}

/// Whether a cursor is a relay's.
pub fn is_relayed(cursor: &[u8]) -> bool {
    cursor.starts_with(TAG)
}

impl Relay {
    /// A batch of the relay as it goes on the log of a stream: checked, in a lane that is the relay's alone.
    pub fn take(self, stream: &StreamId, body: &[u8]) -> Result<RecordBatch, RelayError> {
        let mut reader = RecordBatchReader::new(body)?;
        let (lane, cursor) = (reader.lane, reader.cursor);
        if cursor.len() > CURSOR_BYTES_MAX {
            return Err(RelayError::TooLong("the cursor"));
        }
        let mut writer: Option<RecordBatchWriter> = None;
        while let Some(record) = reader.next_record()? {
            let after = record.ordinal.checked_sub(1).ok_or(RelayError::Order)?;
            let writer =
                writer.get_or_insert_with(|| RecordBatchWriter::new(self.lane(stream, lane), after, body.len()));
            if writer.count() > 0 && record.ordinal <= writer.last_ordinal() {
                return Err(RelayError::Order);
            }
            if reader.origin.is_some() {
                return Err(RelayError::Origin);
            }
            if record.payload.len() > RECORD_BYTES_MAX {
                return Err(RelayError::TooLong("a record"));
            }
            writer.push(&record);
        }
        Ok(writer.ok_or(RelayError::Empty)?.finish(&self.cursor(lane, cursor)))
    }

    /// The relay's lanes among those of a stream, as it calls them itself.
    pub fn own(self, lanes: &[LaneCursor]) -> Vec<LaneCursor> {
        let own = |place: &LaneCursor| {
            let rest = place.cursor.strip_prefix(TAG)?.strip_prefix(&self.0.to_be_bytes())?;
            let (lane, cursor) = rest.split_first_chunk::<16>()?;
            let lane = Lane(u128::from_be_bytes(*lane));
            Some(LaneCursor { lane, ordinal: place.ordinal, cursor: cursor.to_vec() })
        };
        lanes.iter().filter_map(own).collect()
    }

    fn lane(self, stream: &StreamId, lane: Lane) -> Lane {
        Lane(xxh3_128(format!("relay\n{}\n{stream}\n{:032x}\n{lane}", stream.tenant, self.0).as_bytes()))
    }

    fn cursor(self, lane: Lane, cursor: &[u8]) -> Vec<u8> {
        [TAG, &self.0.to_be_bytes(), &lane.0.to_be_bytes(), cursor].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemas::{Op, Record, TenantId, Version};

    use super::*;

    fn stream() -> StreamId {
        let (connection, stream) = ("crm".parse().unwrap(), "opportunity".parse().unwrap());
        StreamId { tenant: TenantId::from_bytes([7; 16]), connection, stream }
    }

    fn record(ordinal: u64, payload: &[u8]) -> Record<'_> {
        Record { ordinal, op: Op::Upsert, key: Some("k"), version: Version::None, defect: None, payload }
    }

    fn batch(after: u64, ordinals: std::ops::Range<u64>, cursor: &[u8]) -> RecordBatch {
        let mut writer = RecordBatchWriter::new(Lane(5), after, 0);
        ordinals.for_each(|ordinal| writer.push(&record(ordinal, b"{\"a\":1}")));
        writer.finish(cursor)
    }

    #[test]
    fn a_batch_keeps_its_records_and_a_relay_finds_its_own_places_again() {
        let (mine, others) = (Relay(1), Relay(2));
        let taken = mine.take(&stream(), &batch(3, 4..9, b"behind 8").body).unwrap();
        assert_eq!(taken.count, 5);
        let mut reader = RecordBatchReader::new(&taken.body).unwrap();
        assert_ne!(reader.lane, Lane(5), "a lane of the server's own files may be called so");
        assert_eq!(reader.next_record().unwrap(), Some(record(4, b"{\"a\":1}")));
        let again = mine.take(&stream(), &batch(0, 1..9, b"").body).unwrap();
        assert_eq!(RecordBatchReader::new(&again.body).unwrap().lane, reader.lane, "the same lane again");
        let other = others.take(&stream(), &batch(3, 4..9, b"").body).unwrap();
        assert_ne!(RecordBatchReader::new(&other.body).unwrap().lane, reader.lane, "two machines, two files");
        let place = LaneCursor { lane: reader.lane, ordinal: 8, cursor: reader.cursor.to_vec() };
        let files = LaneCursor { lane: Lane(9), ordinal: 1, cursor: b"\x02some file".to_vec() };
        let own = mine.own(&[files.clone(), place.clone()]);
        assert_eq!(own, [LaneCursor { lane: Lane(5), ordinal: 8, cursor: b"behind 8".to_vec() }]);
        assert_eq!(others.own(&[files, place]), []);
    }

    #[test]
    fn what_would_stop_a_partition_or_come_in_by_the_back_door_is_refused() {
        let take = |body: &[u8]| Relay(1).take(&stream(), body).unwrap_err();
        assert_eq!(take(&batch(0, 1..1, b"").body), RelayError::Empty);
        let first = batch(0, 1..3, b"").body;
        assert!(matches!(take(&first[..first.len() - 7]), RelayError::Unreadable(_)));
        let mut still = batch(0, 1..3, b"").body;
        // The second record's step in ordinals: behind the lane, `after`, and a first record of flags, step, key and payload.
        let second = 16 + 1 + 1 + 1 + 2 + 8 + 1;
        assert_eq!(std::mem::replace(&mut still[second], 0), 1);
        assert_eq!(take(&still), RelayError::Order);
        assert_eq!(take(&batch(0, 1..2, &[0; 7_000]).body), RelayError::TooLong("the cursor"));
        let mut writer = RecordBatchWriter::new(Lane(5), 0, 0);
        writer.push_from(&record(1, b"{}"), Some(3));
        assert_eq!(take(&writer.finish(b"").body), RelayError::Origin);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_whole_or_refused(bytes: Vec<u8>) {
            if let Ok(taken) = Relay(1).take(&stream(), &bytes) {
                let mut reader = RecordBatchReader::new(&taken.body).unwrap();
                let mut count = 0;
                while reader.next_record().unwrap().is_some() {
                    count += 1;
                }
                prop_assert_eq!(count, taken.count);
            }
        }
    }
}
