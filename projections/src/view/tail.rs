//! The tail: rows since the table's position, in memory, in chunks.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use schemas::event::{EventBatch, EventRow};

use super::columns::Columns;
use super::error::ViewError;
use super::index::{Loc, PackedVersion};
use super::row::RowBuilder;
use crate::snapshot::{RowSet, TailSnapshot};

/// A chunk is sealed at so many rows; also the most of which a snapshot copies the bits because of one dead row.
pub const CHUNK_ROWS: usize = 8192;
/// A chunk is sealed at so many bytes of events, so that no column comes near Arrow's 2 GiB.
const CHUNK_BYTES: usize = 16 << 20;
/// A snapshot seals the open chunk from so many rows on and copies it below.
const SEAL_FROM_ROWS: usize = 1024;

/// Rows that do not change any more, except that they die.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The rows.
    pub batch: RecordBatch,
    /// The hash of each row's key.
    pub hashes: Arc<Vec<u128>>,
    /// Rows that no longer count.
    pub dead: Arc<RowSet>,
    bytes: usize,
}

/// The rows since the table's position.
#[derive(Debug)]
pub struct Tail {
    layout: Arc<Columns>,
    first: u32,
    chunks: VecDeque<Chunk>,
    open: RowBuilder,
    open_hashes: Vec<u128>,
    open_dead: RowSet,
    open_bytes: usize,
    sealed_bytes: usize,
    rows: usize,
    dead: usize,
    thin: Vec<u32>,
}

/// The rows of a batch that are not in the set.
pub fn live_rows(batch: &RecordBatch, dead: &RowSet) -> RecordBatch {
    if dead.is_empty() {
        return batch.clone();
    }
    let keep = BooleanArray::new(dead.live(0, batch.num_rows()), None);
    arrow::compute::filter_record_batch(batch, &keep).expect("the mask has a bit for each row")
}

impl Tail {
    /// An empty tail.
    pub fn new(layout: Arc<Columns>) -> Self {
        Self {
            open: RowBuilder::new(layout.clone()),
            layout,
            first: 0,
            chunks: VecDeque::new(),
            open_hashes: Vec::new(),
            open_dead: RowSet::default(),
            open_bytes: 0,
            sealed_bytes: 0,
            rows: 0,
            dead: 0,
            thin: Vec::new(),
        }
    }
    /// Goes on under a schema with more columns.
    pub fn set_layout(&mut self, layout: Arc<Columns>) {
        self.seal();
        self.layout = layout.clone();
        self.open = RowBuilder::new(layout);
    }
    /// The rows that follow are of this batch.
    pub fn begin(&mut self, shared: &EventBatch) {
        self.open.begin(shared);
    }
    fn open_chunk(&self) -> u32 {
        self.first + self.chunks.len() as u32
    }
    /// Where the next row will lie.
    #[inline]
    pub fn next(&self) -> Loc {
        Loc::tail(self.open_chunk(), self.open_hashes.len() as u32)
    }
    /// Appends a row of the batch that was begun; `bytes` is about what it takes.
    #[inline]
    pub fn append(
        &mut self,
        row: &mut EventRow<'_>,
        hash: u128,
        version: &PackedVersion,
        bytes: usize,
    ) -> Result<(), ViewError> {
        self.open.append(row, version)?;
        self.open_hashes.push(hash);
        self.open_bytes += bytes;
        self.rows += 1;
        if self.open_hashes.len() >= CHUNK_ROWS || self.open_bytes >= CHUNK_BYTES {
            self.seal();
        }
        Ok(())
    }
    /// A row no longer counts.
    pub fn kill(&mut self, chunk: u32, row: u32) {
        let row = row as usize;
        if chunk == self.open_chunk() {
            self.dead += usize::from(self.open_dead.insert(row));
        } else if let Some(sealed) = self.chunks.get_mut(chunk.wrapping_sub(self.first) as usize)
            && Arc::make_mut(&mut sealed.dead).insert(row)
        {
            self.dead += 1;
            if sealed.dead.len() == thin_at(sealed.hashes.len()) {
                self.thin.push(chunk);
            }
        }
    }
    /// Makes a chunk of the open rows.
    pub fn seal(&mut self) {
        if self.open_hashes.is_empty() {
            return;
        }
        let batch = self.open.finish();
        let bytes = batch.get_array_memory_size() + self.open_hashes.len() * 16;
        let dead = std::mem::take(&mut self.open_dead);
        if dead.len() >= thin_at(self.open_hashes.len()) {
            self.thin.push(self.open_chunk());
        }
        let hashes = Arc::new(std::mem::take(&mut self.open_hashes));
        self.chunks.push_back(Chunk { batch, hashes, dead: Arc::new(dead), bytes });
        self.sealed_bytes += bytes;
        self.open_bytes = 0;
    }
    /// Drops the dead rows of chunks that are mostly dead, from chunk `from` on, and answers which rows have moved.
    pub fn compact(&mut self, from: u32) -> Vec<(u128, Loc, Loc)> {
        let mut moved = Vec::new();
        for number in std::mem::take(&mut self.thin) {
            if number < from {
                // It is being flushed; if that comes to nothing, its turn is still to come.
                self.thin.push(number);
                continue;
            }
            let Some(chunk) = self.chunks.get_mut(number.wrapping_sub(self.first) as usize) else { continue };
            let mut kept = Vec::with_capacity(chunk.hashes.len() - chunk.dead.len());
            for (row, hash) in chunk.hashes.iter().enumerate().filter(|(row, _)| !chunk.dead.contains(*row)) {
                moved.push((*hash, Loc::tail(number, row as u32), Loc::tail(number, kept.len() as u32)));
                kept.push(*hash);
            }
            self.rows -= chunk.dead.len();
            self.dead -= chunk.dead.len();
            chunk.batch = live_rows(&chunk.batch, &chunk.dead);
            chunk.dead = Arc::default();
            self.sealed_bytes -= chunk.bytes;
            chunk.bytes = chunk.batch.get_array_memory_size() + kept.len() * 16;
            self.sealed_bytes += chunk.bytes;
            chunk.hashes = Arc::new(kept);
        }
        moved
    }
    /// The rows as they are now, under the newest schema.
    pub fn snapshot(&mut self) -> Vec<TailSnapshot> {
        if self.open_hashes.len() >= SEAL_FROM_ROWS {
            self.seal();
        }
        let schema = &self.layout.schema;
        let mut all: Vec<_> = self
            .chunks
            .iter()
            .map(|chunk| TailSnapshot {
                batch: super::columns::conform(&chunk.batch, schema).expect("only columns were added, all nullable"),
                dead: chunk.dead.clone(),
            })
            .collect();
        if !self.open_hashes.is_empty() {
            all.push(TailSnapshot { batch: self.open.finish_cloned(), dead: Arc::new(self.open_dead.clone()) });
        }
        all.retain(|part| part.live() > 0);
        all
    }
    /// All chunks, sealed, and the number behind the last.
    pub fn freeze(&mut self) -> (Vec<(u32, Chunk)>, u32) {
        self.seal();
        let chunks = (self.first..).zip(self.chunks.iter().cloned()).collect();
        (chunks, self.open_chunk())
    }
    /// The dead rows of each chunk below `upto`.
    pub fn dead_below(&self, upto: u32) -> impl Iterator<Item = (u32, &RowSet)> {
        (self.first..upto).zip(&self.chunks).map(|(number, chunk)| (number, &*chunk.dead))
    }
    /// Forgets the chunks below `upto`.
    pub fn forget(&mut self, upto: u32) {
        while self.first < upto {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.first += 1;
            self.rows -= chunk.hashes.len();
            self.dead -= chunk.dead.len();
            self.sealed_bytes -= chunk.bytes;
        }
        if self.rows == 0 {
            self.open.expect_nothing();
        }
        let first = self.first;
        self.thin.retain(|number| *number >= first);
    }
    /// Forgets the first chunks, up to one that has a row which counts.
    pub fn leave_dead(&mut self) {
        let dead = self.chunks.iter().take_while(|chunk| chunk.dead.len() == chunk.hashes.len()).count();
        self.forget(self.first + dead as u32);
    }
    /// Rows, dead ones too.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Rows that count.
    pub fn live(&self) -> usize {
        self.rows - self.dead
    }
    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.sealed_bytes + self.open_bytes * 2 + self.open_hashes.len() * 16
    }
}

/// A chunk of so many rows is worth rewriting once so many are dead.
fn thin_at(rows: usize) -> usize {
    (rows * 3 / 4).max(1)
}
