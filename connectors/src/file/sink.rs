//! Takes rows into a batch, up to a number of bytes.

use schemas::Lane;
use schemas::reason::Reason;
use schemas::record::{Op, Record, RecordBatchWriter};
use schemas::version::Version;

use super::fault::Fault;
use super::keys::ContentKeys;

/// What a record takes in a batch besides its payload, at most about.
const OVERHEAD_BYTES: usize = 64;

/// A batch in the making.
pub(super) struct Sink<'a> {
    writer: RecordBatchWriter,
    bytes_max: usize,
    skip: u64,
    keys: Option<&'a mut ContentKeys>,
}

impl<'a> Sink<'a> {
    /// A batch of `lane` that only takes rows behind the ordinal `after`.
    pub(super) fn new(
        lane: Lane,
        after: u64,
        bytes_max: usize,
        capacity: usize,
        keys: Option<&'a mut ContentKeys>,
    ) -> Self {
        Self { writer: RecordBatchWriter::new(lane, after, capacity), bytes_max, skip: after, keys }
    }
    /// Takes a row, or says with `false` that the batch is full and the row must be offered to the next one. Rows that
    /// the line already has are taken and left out.
    #[inline]
    pub(super) fn offer(&mut self, ordinal: u64, defect: Option<Reason>, payload: &[u8]) -> Result<bool, Fault> {
        let bytes = self.writer.bytes() + payload.len() + OVERHEAD_BYTES;
        if ordinal > self.skip && bytes > self.bytes_max && self.writer.count() > 0 {
            return Ok(false);
        }
        self.push(ordinal, defect, payload)?;
        Ok(true)
    }
    /// Takes a small row even where the batch is full, because it cannot be offered twice.
    pub(super) fn force(&mut self, ordinal: u64, defect: Reason, payload: &[u8]) -> Result<(), Fault> {
        self.push(ordinal, Some(defect), payload)
    }
    /// Whether the batch has reached its size.
    pub(super) fn is_full(&self) -> bool {
        self.writer.bytes() >= self.bytes_max && self.writer.count() > 0
    }
    /// The batch.
    pub(super) fn into_writer(self) -> RecordBatchWriter {
        self.writer
    }

    #[inline]
    fn push(&mut self, ordinal: u64, defect: Option<Reason>, payload: &[u8]) -> Result<(), Fault> {
        let key = self.keys.as_mut().map(|keys| keys.key(payload));
        if ordinal > self.skip {
            self.writer.push(&Record { ordinal, op: Op::Upsert, key, version: Version::None, defect, payload });
        }
        Ok(())
    }
}
