//! Rivals: what a pair is worth once every other pair is known.

use crate::assign::assign;
use crate::signals::{Signals, at};

/// Log-odds from which a pair takes part in the assignment: an unlikely pair still beats none.
const ASSIGN_FROM: f32 = -3.0;
/// Leads are cut here: more says nothing more.
const LEAD_MAX: f32 = 8.0;

/// What is looked at besides the pair itself.
pub const RIVAL_SIGNALS: [&str; 20] = [
    "log_odds",
    "lead_in_row",
    "lead_in_column",
    "rank_in_row",
    "rank_in_column",
    "assigned",
    "best_of_both",
    "rows",
    "columns",
    "column_is_taken",
    "same_path",
    "words_f",
    "words_sure",
    "meaning",
    "against",
    "side_source",
    "compatible_type",
    "same_native_type",
    "formats",
    "nulls",
];

/// Where the signals stand that agreement looks at again.
pub mod rival {
    /// Log-odds of the pair, seen alone.
    pub const LOG_ODDS: usize = 0;
    /// How far the next best target of the source is behind.
    pub const LEAD_IN_ROW: usize = 1;
    /// How far the next best source of the target is behind.
    pub const LEAD_IN_COLUMN: usize = 2;
    /// The best assignment takes the pair.
    pub const ASSIGNED: usize = 5;
}

/// Log-odds of all pairs, and which of them the best assignment takes.
#[derive(Debug)]
pub struct Table {
    rows: usize,
    columns: usize,
    cells: Vec<f32>,
    assigned: Vec<Option<usize>>,
    taken: Vec<Option<usize>>,
    /// The two best of each row and column.
    row_best: Vec<[f32; 2]>,
    column_best: Vec<[f32; 2]>,
}

impl Table {
    /// From log-odds, row by row.
    pub fn new(rows: usize, columns: usize, cells: Vec<f32>) -> Self {
        let assigned = assign(rows, columns, |i, j| cells[i * columns + j] - ASSIGN_FROM);
        let mut taken = vec![None; columns];
        for (row, column) in assigned.iter().enumerate() {
            if let Some(column) = column {
                taken[*column] = Some(row);
            }
        }
        let mut row_best = vec![[-LEAD_MAX; 2]; rows];
        let mut column_best = vec![[-LEAD_MAX; 2]; columns];
        for (i, best) in row_best.iter_mut().enumerate() {
            for (j, column) in column_best.iter_mut().enumerate() {
                let cell = cells[i * columns + j];
                rise(best, cell);
                rise(column, cell);
            }
        }
        Self { rows, columns, cells, assigned, taken, row_best, column_best }
    }

    /// The columns of a row that are likeliest, best first; equal ones by their place in `order`.
    pub fn likeliest(&self, row: usize, count: usize, order: &[usize]) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.columns).collect();
        let by =
            |a: &usize, b: &usize| self.cell(row, *b).total_cmp(&self.cell(row, *a)).then(order[*a].cmp(&order[*b]));
        if all.len() > count && count > 0 {
            all.select_nth_unstable_by(count - 1, by);
            all.truncate(count);
        }
        all.sort_unstable_by(by);
        let assigned = self.assigned.get(row).copied().flatten();
        all.extend(assigned.filter(|column| !all.contains(column)));
        all
    }

    /// What a pair looks like among its rivals, in the order of [`RIVAL_SIGNALS`].
    pub fn signals(&self, row: usize, column: usize, pair: &Signals) -> [f32; RIVAL_SIGNALS.len()] {
        let cell = self.cell(row, column);
        let lead =
            |best: &[f32; 2]| (cell - if cell >= best[0] { best[1] } else { best[0] }).clamp(-LEAD_MAX, LEAD_MAX);
        let (in_row, in_column) = (lead(&self.row_best[row]), lead(&self.column_best[column]));
        let above_in_row = (0..self.columns).filter(|j| self.cell(row, *j) > cell).take(4).count();
        let above_in_column = (0..self.rows).filter(|i| self.cell(*i, column) > cell).take(4).count();
        let is = |is: bool| f32::from(u8::from(is));
        [
            cell,
            in_row,
            in_column,
            above_in_row as f32,
            above_in_column as f32,
            is(self.assigned[row] == Some(column)),
            is(above_in_row == 0 && above_in_column == 0),
            (self.rows as f32).ln().min(4.0),
            (self.columns as f32).ln().min(4.0),
            is(self.taken[column].is_some_and(|taker| taker != row)),
            pair[at::SAME_PATH],
            pair[at::WORDS_F],
            pair[at::WORDS_SURE],
            pair[at::MEANING],
            pair[at::AGAINST],
            pair[at::SIDE_SOURCE],
            pair[at::COMPATIBLE_TYPE],
            pair[at::SAME_NATIVE_TYPE],
            pair[at::FORMATS],
            pair[at::NULLS],
        ]
    }

    fn cell(&self, row: usize, column: usize) -> f32 {
        self.cells[row * self.columns + column]
    }
}

fn rise(best: &mut [f32; 2], value: f32) {
    if value > best[0] {
        *best = [value, best[0]];
    } else if value > best[1] {
        best[1] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_knows_its_lead_its_rank_and_whether_it_is_assigned() {
        let table = Table::new(2, 2, vec![3.0, 2.0, 2.5, -5.0]);
        let pair = [0.0; crate::signals::SIGNALS.len()];
        assert_eq!(table.assigned, [Some(1), Some(0)]);
        let first = table.signals(0, 0, &pair);
        assert_eq!(&first[..7], &[3.0, 1.0, 0.5, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(table.likeliest(1, 1, &[0, 1]), [0]);
        assert_eq!(table.likeliest(0, 2, &[0, 1]), [0, 1]);
    }
}
