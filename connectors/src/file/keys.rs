//! Keys for rows that nothing else tells apart.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemas::Lane;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::manner::Manner;
use super::prefix::Prefix;

/// Distinct rows of a file whose occurrences are counted one by one.
const COUNTED_MAX: usize = 1 << 20;

/// Counters that all other rows share.
const SHARED_COUNTERS: usize = 1 << 23;

/// What the counts of files that may grow take in memory, at most.
const KEPT_BYTES_MAX: usize = 128 << 20;

/// How many such files there are, at most.
const KEPT_FILES_MAX: usize = 256;

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

    /// The key of the next row.
    pub(super) fn key(&mut self, payload: &[u8]) -> &str {
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

    fn bytes(&self) -> usize {
        // What the table takes for an entry, and its control byte.
        self.counted.capacity() * (size_of::<(u64, u32)>() + 1) + self.shared.len() * size_of::<u32>()
    }
}

/// The counts behind a place in a file.
struct Kept {
    lane: Lane,
    manner: Manner,
    prefix: Prefix,
    keys: ContentKeys,
}

/// How often which rows of which files were counted, where the rows have keys of their content. Only a cache, of the files
/// that ended last: without the counts a file that grew is read again from its beginning. Whoever reads the same files
/// again and again keeps one, and gives it to every source.
#[derive(Clone, Default)]
pub struct ContentCounts(Arc<Mutex<VecDeque<Kept>>>);

impl ContentCounts {
    /// Keeps the counts behind a place, so that reading can go on there when the file grows.
    pub(super) fn keep(&self, lane: Lane, manner: Manner, prefix: Prefix, keys: ContentKeys) {
        let mut kept = self.kept();
        kept.retain(|other| (other.lane, other.manner) != (lane, manner));
        kept.push_back(Kept { lane, manner, prefix, keys });
        while kept.len() > KEPT_FILES_MAX || kept.iter().map(|kept| kept.keys.bytes()).sum::<usize>() > KEPT_BYTES_MAX {
            kept.pop_front();
        }
    }

    /// Takes the counts behind a place, if they were kept.
    pub(super) fn take(&self, lane: Lane, manner: Manner, prefix: Prefix) -> Option<ContentKeys> {
        let mut kept = self.kept();
        let at = kept.iter().position(|kept| (kept.lane, kept.manner, kept.prefix) == (lane, manner, prefix))?;
        kept.remove(at).map(|kept| kept.keys)
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        // Its entries are only ever put in and taken out as a whole, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
