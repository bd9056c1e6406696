//! Taking over what another process has committed to the view's table, file by file. At every moment in between each row
//! counts once: in the file that is taken, or where it was before.

use std::collections::HashSet;
use std::time::Instant;

use arrow::datatypes::SchemaRef;

use super::State;
use crate::view::index::{Admission, Loc, OrderKey};
use crate::view::table::TableFile;

impl State {
    /// Takes a file of the table. Its rows stand for those that are known from the log, or in files that it replaces.
    pub fn take_file(&mut self, file: TableFile, keys: Vec<(u128, OrderKey)>) {
        let number = self.add_file(file);
        for (row, (hash, order)) in keys.into_iter().enumerate() {
            let loc = Loc::file(number, row as u32);
            match self.index.admit(hash, order, false, loc) {
                Admission::New => {}
                Admission::Replaced { was, .. } => self.kill(was),
                Admission::Late => self.kill(loc),
                Admission::Repeated => self.take_row(hash, loc),
            }
        }
        self.snapshot = None;
        self.recount();
    }
    /// The very row that counts lies at `loc` now.
    fn take_row(&mut self, hash: u128, loc: Loc) {
        match self.index.loc(hash) {
            Some(was) if was != Loc::DELETED && self.index.relocate(hash, was, loc) => self.kill(was),
            _ => self.kill(loc),
        }
    }
    /// Leaves the files that the table does not name any more. False if one of them has a row that counts: then nothing is
    /// left, and only reading the table from the start tells what it holds.
    pub fn leave_files(&mut self, named: &HashSet<&str>, schema: SchemaRef) -> bool {
        let is_left = |file: &TableFile| !named.contains(file.name.as_str());
        if self.files.values().any(|f| is_left(&f.file) && f.dead.len() < f.file.rows) {
            return false;
        }
        self.files.retain(|_, f| !is_left(&f.file));
        self.committed_schema = schema;
        self.tail.seal();
        for (hash, from, to) in self.tail.compact(0) {
            self.index.relocate(hash, from, to);
        }
        self.tail.leave_dead();
        // The projector writes them.
        self.take_tombstones();
        self.dirty_since = (self.tail.rows() > 0).then(Instant::now);
        self.snapshot = None;
        self.recount();
        true
    }
}
