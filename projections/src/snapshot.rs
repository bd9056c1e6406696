//! What a query reads: one consistent pair of table version and tail.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use parking_lot::Mutex;

/// A set of row numbers, one bit a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    len: usize,
}

impl RowSet {
    /// Adds a row; false if it was there.
    pub fn insert(&mut self, row: usize) -> bool {
        let (word, bit) = (row / 64, 1u64 << (row % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(new);
        new
    }
    /// Whether a row is in the set.
    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|w| w & (1 << (row % 64)) != 0)
    }
    /// Rows in the set.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The bits, 64 rows a word, the lowest row in the lowest bit; rows behind the last word are not in the set.
    pub fn words(&self) -> &[u64] {
        &self.words
    }
    /// If it is a set of dead rows, the live ones: a bit for each of `rows` rows from `from` on, set where the row is not in it.
    pub fn live(&self, from: usize, rows: usize) -> BooleanBuffer {
        if from.is_multiple_of(64) {
            let mut words: Vec<u64> = self.words.iter().skip(from / 64).take(rows.div_ceil(64)).map(|w| !w).collect();
            words.resize(rows.div_ceil(64), u64::MAX);
            return BooleanBuffer::new(Buffer::from_vec(words), 0, rows);
        }
        BooleanBuffer::collect_bool(rows, |row| !self.contains(from + row))
    }
}

/// A Parquet file of the table and the rows of it that the tail replaces.
#[derive(Debug, Clone)]
pub struct FileSnapshot {
    /// Where it lies in the view's object store.
    pub path: Path,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: usize,
    /// Rows that no longer count.
    pub dead: Arc<RowSet>,
}

/// Rows in memory, and which of them do not count.
#[derive(Debug, Clone)]
pub struct TailSnapshot {
    /// The rows.
    pub batch: RecordBatch,
    /// Rows that no longer count.
    pub dead: Arc<RowSet>,
}

impl TailSnapshot {
    /// Rows that count.
    pub fn live(&self) -> usize {
        self.batch.num_rows().saturating_sub(self.dead.len())
    }
}

/// Where whoever reads files of a view tells that one is gone, or shorter than it was. Shared by the view and all its
/// snapshots: the view looks whether it still needs that file.
#[derive(Debug, Clone, Default)]
pub struct Lost(Arc<Mutex<Option<LostFile>>>);

/// A file that could not be read because of what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostFile {
    /// Where it lies, or lay.
    pub path: Path,
    /// The bytes that it had.
    pub expected: u64,
    /// Those that it has; `None` if it is gone.
    pub found: Option<u64>,
}

impl Lost {
    /// A file is lost.
    pub fn tell(&self, file: LostFile) {
        *self.0.lock() = Some(file);
    }
    /// What was told last, once.
    pub fn take(&self) -> Option<LostFile> {
        self.0.lock().take()
    }
}

/// A view pinned at one log position: files of one table version and the tail, each with its dead rows named.
#[derive(Debug, Clone)]
pub struct ViewSnapshot {
    /// The name that SQL knows it by.
    pub table: String,
    /// Columns of the view as of now; an older file may lack the last ones (null there).
    pub schema: SchemaRef,
    /// Where the files lie.
    pub store: Arc<dyn object_store::ObjectStore>,
    /// The files.
    pub files: Vec<FileSnapshot>,
    /// The tail. Its rows are shared with the view: a snapshot that copied what counts would copy nearly all of it each time.
    pub tail: Vec<TailSnapshot>,
    /// The event position that the snapshot stands at: the next offset of the view's partition of `events`.
    pub position: schemas::Position,
    /// Where a reader tells that one of the files is lost.
    pub lost: Lost,
}
