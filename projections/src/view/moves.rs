//! Where a flush put the rows that it wrote: told by the rank of a row among those that were kept, not key by key.

use super::index::{Loc, RowPlace};
use crate::snapshot::RowSet;

/// Which rows of a file or chunk were written.
#[derive(Debug)]
struct Kept {
    number: u32,
    /// How many rows were written before its first.
    first: u64,
    words: Vec<u64>,
    /// Rows kept before each word.
    ranks: Vec<u32>,
}

impl Kept {
    fn new(number: u32, first: u64, dead: &RowSet, rows: usize) -> (Self, u64) {
        let mut words: Vec<u64> = dead.words().iter().take(rows.div_ceil(64)).map(|w| !w).collect();
        words.resize(rows.div_ceil(64), u64::MAX);
        if let Some(last) = words.last_mut().filter(|_| !rows.is_multiple_of(64)) {
            *last &= (1 << (rows % 64)) - 1;
        }
        let mut kept = 0;
        let rank = |word: &u64| {
            kept += word.count_ones();
            kept - word.count_ones()
        };
        let ranks = words.iter().map(rank).collect();
        (Self { number, first, words, ranks }, first + u64::from(kept))
    }
    fn written(&self, row: u32) -> Option<u64> {
        let (word, bit) = (*self.words.get(row as usize / 64)?, 1u64 << (row % 64));
        let before = (word & (bit - 1)).count_ones();
        (word & bit != 0).then(|| self.first + u64::from(self.ranks[row as usize / 64] + before))
    }
    /// Rows that were written and have died since.
    fn lost<'a>(&'a self, dead: &'a RowSet) -> impl Iterator<Item = u64> + 'a {
        let lost = self.words.iter().zip(dead.words()).map(|(kept, dead)| kept & dead).enumerate();
        let rows = |(at, word): (usize, u64)| {
            (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| at as u32 * 64 + bit)
        };
        lost.flat_map(rows).filter_map(|row| self.written(row))
    }
}

/// The rows that a flush writes, in the order in which it writes them: files, then chunks of the tail.
#[derive(Debug, Default)]
pub struct Moves {
    files: Vec<Kept>,
    chunks: Vec<Kept>,
    rows: u64,
    /// The first row of each new file, and the file's number.
    targets: Vec<(u64, u32)>,
}

impl Moves {
    /// The next file to be written; files come in the order of their numbers.
    pub fn file(&mut self, number: u32, dead: &RowSet, rows: usize) {
        let (kept, next) = Kept::new(number, self.rows, dead, rows);
        self.files.push(kept);
        self.rows = next;
    }
    /// The next chunk to be written; its number follows that of the one before.
    pub fn chunk(&mut self, number: u32, dead: &RowSet, rows: usize) {
        let (kept, next) = Kept::new(number, self.rows, dead, rows);
        self.chunks.push(kept);
        self.rows = next;
    }
    /// The rows from `first` on are in the file `number`; files come in the order of their first rows.
    pub fn land(&mut self, number: u32, first: u64) {
        self.targets.push((first, number));
    }
    /// Rows written in all.
    pub fn rows(&self) -> u64 {
        self.rows
    }
    /// Where a row is now, if it was written.
    #[inline]
    pub fn to(&self, from: Loc) -> Option<Loc> {
        let written = match from.place() {
            RowPlace::File { file, row } => {
                let at = self.files.binary_search_by_key(&file, |kept| kept.number).ok()?;
                self.files[at].written(row)?
            }
            RowPlace::Tail { chunk, row } => {
                let first = self.chunks.first()?.number;
                self.chunks.get(chunk.checked_sub(first)? as usize)?.written(row)?
            }
            RowPlace::Deleted => return None,
        };
        self.target(written)
    }
    fn target(&self, written: u64) -> Option<Loc> {
        let at = self.targets.partition_point(|(first, _)| *first <= written).checked_sub(1)?;
        let (first, number) = self.targets[at];
        Some(Loc::file(number, (written - first) as u32))
    }
    /// Where the rows of a file are now that have died since it was read.
    pub fn lost_in_file<'a>(&'a self, number: u32, dead: &'a RowSet) -> impl Iterator<Item = Loc> + 'a {
        self.lost(self.files.iter().find(move |kept| kept.number == number), dead)
    }
    /// Where the rows of a chunk are now that have died since it was read.
    pub fn lost_in_chunk<'a>(&'a self, number: u32, dead: &'a RowSet) -> impl Iterator<Item = Loc> + 'a {
        self.lost(self.chunks.iter().find(move |kept| kept.number == number), dead)
    }
    fn lost<'a>(&'a self, kept: Option<&'a Kept>, dead: &'a RowSet) -> impl Iterator<Item = Loc> + 'a {
        kept.into_iter().flat_map(|kept| kept.lost(dead)).filter_map(|written| self.target(written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: impl IntoIterator<Item = usize>) -> RowSet {
        let mut set = RowSet::default();
        for row in rows {
            set.insert(row);
        }
        set
    }

    #[test]
    fn a_row_is_found_by_its_rank_in_the_file_where_it_landed() {
        let mut moves = Moves::default();
        moves.file(3, &set([0, 65]), 70);
        moves.file(5, &set([]), 2);
        moves.chunk(9, &set([1]), 3);
        moves.chunk(10, &set([]), 1);
        assert_eq!(moves.rows(), 68 + 2 + 2 + 1);
        moves.land(11, 0);
        moves.land(12, 69);
        assert_eq!(moves.to(Loc::file(3, 0)), None, "it was dead");
        assert_eq!(moves.to(Loc::file(3, 1)), Some(Loc::file(11, 0)));
        assert_eq!(moves.to(Loc::file(3, 66)), Some(Loc::file(11, 64)));
        assert_eq!(moves.to(Loc::file(5, 0)), Some(Loc::file(11, 68)));
        assert_eq!(moves.to(Loc::file(5, 1)), Some(Loc::file(12, 0)));
        assert_eq!(moves.to(Loc::tail(9, 2)), Some(Loc::file(12, 2)));
        assert_eq!(moves.to(Loc::tail(10, 0)), Some(Loc::file(12, 3)));
        assert_eq!(moves.to(Loc::tail(11, 0)), None, "it came later");
        assert_eq!(moves.to(Loc::file(4, 0)), None, "it stays");
        let lost: Vec<_> = moves.lost_in_file(3, &set([0, 1, 65, 69])).collect();
        assert_eq!(lost, [Loc::file(11, 0), Loc::file(11, 67)]);
        assert_eq!(moves.lost_in_chunk(9, &set([1, 2])).collect::<Vec<_>>(), [Loc::file(12, 2)]);
    }
}
