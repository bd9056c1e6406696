//! A portion of the records that are looked at again. However many there are, and however often they came again since, so many
//! rows are kept in memory: the next portion begins behind them, and whatever stands behind them is read again for it.

use std::collections::HashMap;

use schemas::event::RowKind;

use super::redrive::Held;

/// Rows of a portion: some 26 MB. A batch of rows is not cut.
pub(super) const ROWS_MAX: usize = 500_000;

/// A portion, as long as rows are read for it: all of the stream's from where it begins, in their order.
pub(super) struct Portion {
    rows_max: usize,
    /// Behind the last record that was taken.
    last: u64,
    /// The last record that is meant.
    until: u64,
    /// What was taken, in the order of `inputs`.
    taken: Vec<Held>,
    /// Of each of these the last input that made a row of it, by its origin.
    latest: HashMap<u64, u64>,
    /// Where the next one begins, once this one is full.
    next: Option<u64>,
}

impl Portion {
    /// Of so many rows, of the records from `last` on and up to `until`.
    pub(super) fn new(rows_max: usize, last: u64, until: u64) -> Self {
        Self { rows_max, last, until, taken: Vec::new(), latest: HashMap::new(), next: None }
    }

    /// Looks at a row.
    pub(super) fn see(&mut self, kind: RowKind, row: Held) {
        let Held { offset, origin } = row;
        if let Some(latest) = self.latest.get_mut(&origin) {
            *latest = offset.max(*latest);
        }
        let is_meant = kind == RowKind::Accepted && offset >= self.last && offset <= self.until;
        if is_meant && self.next.is_none() {
            self.last = offset + 1;
            self.taken.push(row);
            self.latest.insert(origin, offset);
        }
    }

    /// A batch of rows ends here.
    pub(super) fn batch_ends(&mut self, end: u64) {
        if self.taken.len() >= self.rows_max && self.next.is_none() {
            self.next = Some(end);
        }
    }

    /// The records that are to be looked at again: what was withdrawn, or came again, since then has another fate. Beside them
    /// what is behind the last that was taken; and where the next portion begins, if there is one.
    pub(super) fn finish(self) -> (Vec<Held>, u64, Option<u64>) {
        let Self { mut taken, latest, last, next, .. } = self;
        taken.retain(|row| latest.get(&row.origin).is_some_and(|latest| *latest == row.offset));
        (taken, last, next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = (RowKind, u64, u64);

    /// What is looked at again of batches of rows, from one input to another, so many at a time; and in how many portions.
    fn looked_at(batches: &[Vec<Row>], rows_max: usize, since: u64, until: u64) -> (Vec<u64>, usize) {
        let (mut all, mut from, mut last, mut portions) = (Vec::new(), 0u64, since + 1, 0);
        loop {
            portions += 1;
            let mut portion = Portion::new(rows_max, last, until);
            for (at, batch) in batches.iter().enumerate().skip(from as usize) {
                for (kind, offset, origin) in batch.iter().copied() {
                    portion.see(kind, Held { offset, origin });
                }
                portion.batch_ends(at as u64 + 1);
            }
            let (held, behind, next) = portion.finish();
            all.extend(held.iter().map(|row| row.offset));
            last = behind;
            match next {
                Some(next) => from = next,
                None => return (all, portions),
            }
        }
    }

    #[test]
    fn what_came_again_or_was_withdrawn_since_then_is_left_out_whatever_a_portion_holds() {
        let new = |offset: u64| (RowKind::Accepted, offset, offset);
        let batches = vec![
            vec![new(8), new(9)],
            vec![new(10), new(11), new(12)],
            // One came again, another was withdrawn.
            vec![(RowKind::Accepted, 13, 10), (RowKind::Deleted, 14, 11), new(15)],
            // What a processor that started again put there once more, and more.
            vec![new(11), new(12), (RowKind::Accepted, 13, 10)],
            vec![(RowKind::Accepted, 16, 15), new(17)],
        ];
        for (rows_max, portions) in [(1, 4), (3, 3), (100, 1)] {
            assert_eq!(looked_at(&batches, rows_max, 9, 16), (vec![12, 13, 16], portions), "{rows_max} at a time");
        }
    }

    proptest! {
        #[test]
        fn small_portions_give_what_a_large_one_gives(
            moves in prop::collection::vec((any::<bool>(), 0u64..40, 0usize..12), 1..120),
            (since, until) in (0u64..60, 40u64..130),
            rows_max in 1usize..20,
        ) {
            let (mut batches, mut rows): (Vec<Vec<Row>>, Vec<Row>) = (vec![vec![]], Vec::new());
            for (offset, (is_row, back, cut)) in moves.into_iter().enumerate() {
                let offset = offset as u64;
                let kind = if is_row { RowKind::Accepted } else { RowKind::Deleted };
                // Some records are new, some came again.
                let origin = if back < 20 { offset } else { offset.saturating_sub(back - 19) };
                rows.push((kind, offset, origin));
                if cut == 0 {
                    // A run that stands twice, in part.
                    let again = rows[rows.len().saturating_sub(back as usize)..].to_vec();
                    batches.push(again);
                }
                if cut < 3 {
                    batches.push(vec![]);
                }
                batches.last_mut().unwrap().push((kind, offset, origin));
            }
            let (whole, one) = looked_at(&batches, usize::MAX, since, until);
            prop_assert_eq!(one, 1);
            prop_assert_eq!(looked_at(&batches, rows_max, since, until).0, whole.clone());
            // Of each record its last row, if that is one of those.
            let latest = |origin: u64| rows.iter().filter(|row| row.2 == origin).map(|row| row.1).max();
            let is_meant = |row: &&Row| row.0 == RowKind::Accepted && row.1 > since && row.1 <= until;
            let meant = rows.iter().filter(is_meant).filter(|row| latest(row.2) == Some(row.1)).map(|row| row.1);
            prop_assert_eq!(meant.collect::<Vec<_>>(), whole);
        }
    }
}
