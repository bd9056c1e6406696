//! A flush as the state sees it: what is to be written, and what became of the rows that were.

use std::sync::Arc;
use std::time::Instant;

use super::{State, Tombstone, ViewFile};
use crate::view::columns::Columns;
use crate::view::error::ViewError;
use crate::view::files::SMALL_FILE_ROWS;
use crate::view::index::{Loc, SHARDS};
use crate::view::marks::Standing;
use crate::view::moves::Moves;
use crate::view::table::TableFile;
use crate::view::tail::Chunk;

/// More small files than this are merged by the next flush.
const SMALL_FILES_MAX: usize = 8;
/// What a flush writes; the view goes on meanwhile.
#[derive(Debug)]
pub struct Plan {
    /// How far the view had come.
    pub standing: Standing,
    /// The columns.
    pub columns: Arc<Columns>,
    /// Whether the table does not have them yet.
    pub is_schema_new: bool,
    /// Files to write anew.
    pub files: Vec<(u32, ViewFile)>,
    /// Chunks of the tail to write.
    pub chunks: Vec<(u32, Chunk)>,
    upto: u32,
    /// Keys deleted since the last flush.
    pub tombstones: Vec<Tombstone>,
}

/// What a flush wrote, and which rows those are.
#[derive(Debug)]
pub struct Written {
    /// The files.
    pub files: Vec<TableFile>,
    /// Where their rows were.
    pub moves: Moves,
}

impl State {
    /// What a flush has to write, if anything. Nothing that it names changes place until `finish` or `abort`.
    pub fn prepare(&mut self) -> Result<Option<Plan>, ViewError> {
        self.check_running()?;
        if !self.is_dirty() {
            return Ok(None);
        }
        let is_small = |f: &ViewFile| f.file.rows - f.dead.len() < SMALL_FILE_ROWS;
        let merges = self.files.values().filter(|f| is_small(f)).count() >= SMALL_FILES_MAX;
        let is_touched = |f: &ViewFile| !f.dead.is_empty() || merges && is_small(f);
        let files = self.files.iter().filter(|(_, f)| is_touched(f)).map(|(n, f)| (*n, f.clone())).collect();
        let (chunks, upto) = self.tail.freeze();
        self.frozen = upto;
        Ok(Some(Plan {
            standing: self.standing.clone(),
            columns: self.columns.clone(),
            is_schema_new: self.columns.schema != self.committed_schema,
            files,
            chunks,
            upto,
            tombstones: self.take_tombstones(),
        }))
    }
    /// The keys deleted since the last flush; forgotten here.
    pub fn take_tombstones(&mut self) -> Vec<Tombstone> {
        self.tombstone_bytes = 0;
        std::mem::take(&mut self.tombstones)
    }
    /// The flush wrote nothing that counts.
    pub fn abort(&mut self, mut plan: Plan) {
        self.frozen = 0;
        plan.tombstones.append(&mut self.tombstones);
        self.tombstones = plan.tombstones;
        self.tombstone_bytes = self.tombstones.iter().map(Tombstone::bytes).sum();
        self.recount();
    }
    /// The flush is committed: its files take the place of what it wrote. Then [`State::settle`] tells the index, shard
    /// by shard; until it has told all, no other flush may start.
    pub fn finish(&mut self, plan: Plan, written: Written, deleted: Option<u64>) {
        let Written { files, mut moves } = written;
        let mut first = 0;
        for file in files {
            let rows = file.rows as u64;
            moves.land(self.add_file(file), first);
            first += rows;
        }
        let mut lost: Vec<Loc> = Vec::new();
        for (number, _) in &plan.files {
            if let Some(former) = self.files.remove(number) {
                lost.extend(moves.lost_in_file(*number, &former.dead));
            }
        }
        for (number, dead) in self.tail.dead_below(plan.upto) {
            lost.extend(moves.lost_in_chunk(number, dead));
        }
        lost.into_iter().for_each(|loc| self.kill(loc));
        self.moves = Some(moves);
        self.tail.forget(plan.upto);
        self.frozen = 0;
        self.committed = plan.standing.position.offset;
        self.committed_schema = plan.columns.schema.clone();
        self.standing.deleted = deleted;
        let is_clean = self.tail.rows() == 0
            && self.tombstones.is_empty()
            && self.columns.schema == self.committed_schema
            && self.files.values().all(|f| f.dead.is_empty());
        self.dirty_since = if is_clean { None } else { Some(Instant::now()) };
        self.snapshot = None;
        self.recount();
    }
    /// Tells a shard of the index where the last flush put its rows.
    pub fn settle(&mut self, shard: usize) {
        if let Some(moves) = &self.moves {
            self.index.relocate_shard(shard, |loc| moves.to(loc));
        }
        if shard + 1 == SHARDS {
            self.moves = None;
        }
    }
}
