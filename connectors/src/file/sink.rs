//! Takes rows into a batch, up to a number of bytes.

use std::collections::HashMap;
use std::fmt::Write;

use schemas::Lane;
use schemas::reason::Reason;
use schemas::record::{Op, Record, RecordBatchWriter};
use schemas::version::Version;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::fault::Fault;

/// Distinct rows of a file whose occurrences are counted one by one.
const COUNTED_MAX: usize = 1 << 20;

/// Counters that all other rows share.
const SHARED_COUNTERS: usize = 1 << 23;

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

/// Keys for rows that have none: the file, the content and which occurrence of it in the file this is. So equal rows stay
/// as many rows as there are, in one file and in several, and a file that is read again gives the same keys again.
///
/// In a file of more than about a million distinct rows those behind share counters. Their keys are still distinct and come
/// again when the file is read again or grows; but where other rows of such a file are put in or taken out, an unchanged
/// row may get another number, and so be a new row.
#[derive(Debug)]
pub(super) struct ContentKeys {
    file: u64,
    // By half of the content's hash: two contents that share it only count together, their keys still differ.
    counted: HashMap<u64, u32>,
    counted_max: usize,
    shared: Vec<u32>,
    key: String,
}

impl ContentKeys {
    /// Keys for the rows of the file with this canonical path.
    pub(super) fn new(path: &[u8]) -> Self {
        Self::with_limit(path, COUNTED_MAX)
    }

    fn with_limit(path: &[u8], counted_max: usize) -> Self {
        let file = xxh3_64(path);
        Self { file, counted: HashMap::new(), counted_max, shared: Vec::new(), key: String::new() }
    }

    fn key(&mut self, payload: &[u8]) -> &str {
        let hash = xxh3_128_with_seed(payload, self.file);
        let count = self.count(hash as u64);
        *count = count.saturating_add(1);
        let count = *count;
        self.key.clear();
        // Writing into a String cannot fail.
        let _ = write!(self.key, "{hash:032x}#{count}");
        &self.key
    }

    fn count(&mut self, half: u64) -> &mut u32 {
        let is_counted = self.counted.len() < self.counted_max || self.counted.contains_key(&half);
        if is_counted {
            return self.counted.entry(half).or_default();
        }
        if self.shared.is_empty() {
            // Pages of it that no row falls on are never touched.
            self.shared = vec![0; SHARED_COUNTERS];
        }
        &mut self.shared[half as usize % SHARED_COUNTERS]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_come_again_however_many_rows_there_are() {
        let rows = || (0..1000).chain(0..1000).chain(500..1500).map(|row: u32| row.to_string());
        let keys = |path: &[u8], counted_max| {
            let mut keys = ContentKeys::with_limit(path, counted_max);
            rows().map(|row| keys.key(row.as_bytes()).to_string()).collect::<Vec<_>>()
        };
        for counted_max in [0, 10, 5000] {
            let first = keys(b"a", counted_max);
            assert_eq!(first, keys(b"a", counted_max));
            assert_eq!(first.iter().collect::<HashSet<_>>().len(), first.len());
            let other: HashSet<String> = keys(b"b", counted_max).into_iter().collect();
            assert!(first.iter().all(|key| !other.contains(key)), "another file's equal rows are other rows");
        }
    }
}
