//! Assignment: which pairs together are worth most when no field is used twice.

/// The best assignment of rows to columns, by the Hungarian method with shortest augmenting paths. A row whose pairs are
/// worth nothing (zero or less) stays without a counterpart.
///
/// `worth(row, column)` must be the same whenever it is asked.
pub fn assign(rows: usize, columns: usize, worth: impl Fn(usize, usize) -> f32) -> Vec<Option<usize>> {
    let mut owners = vec![None; rows];
    if rows == 0 || columns == 0 {
        return owners;
    }
    // The method wants no more rows than columns.
    let is_tall = rows > columns;
    let (n, m) = if is_tall { (columns, rows) } else { (rows, columns) };
    let gain = |i: usize, j: usize| f64::from(if is_tall { worth(j, i) } else { worth(i, j) }).max(0.0);
    let taken_by = solve(n, m, |i, j| -gain(i, j));
    for (j, i) in taken_by.into_iter().enumerate() {
        let Some(i) = i else { continue };
        if gain(i, j) > 0.0 {
            let (row, column) = if is_tall { (j, i) } else { (i, j) };
            owners[row] = Some(column);
        }
    }
    owners
}

/// For each of `m` columns the row that has it, so that the sum of costs is least; `n <= m`.
fn solve(n: usize, m: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<Option<usize>> {
    // One-based with a column 0 that stands for "none yet", as the method is usually written.
    let (mut u, mut v) = (vec![0.0; n + 1], vec![0.0; m + 1]);
    let (mut owner, mut way) = (vec![0usize; m + 1], vec![0usize; m + 1]);
    for row in 1..=n {
        owner[0] = row;
        let mut at = 0;
        let mut least = vec![f64::INFINITY; m + 1];
        let mut used = vec![false; m + 1];
        loop {
            used[at] = true;
            let (mut delta, mut next) = (f64::INFINITY, 0);
            for column in 1..=m {
                if used[column] {
                    continue;
                }
                let reduced = cost(owner[at] - 1, column - 1) - u[owner[at]] - v[column];
                if reduced < least[column] {
                    least[column] = reduced;
                    way[column] = at;
                }
                if least[column] < delta {
                    delta = least[column];
                    next = column;
                }
            }
            for column in 0..=m {
                if used[column] {
                    u[owner[column]] += delta;
                    v[column] -= delta;
                } else {
                    least[column] -= delta;
                }
            }
            at = next;
            if owner[at] == 0 {
                break;
            }
        }
        while at != 0 {
            owner[at] = owner[way[at]];
            at = way[at];
        }
    }
    owner.into_iter().skip(1).map(|row| row.checked_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_best_even_where_the_greedy_choice_is_not() {
        let worth = [[9.0, 8.0], [8.0, 1.0]];
        assert_eq!(assign(2, 2, |i, j| worth[i][j]), [Some(1), Some(0)]);
    }

    #[test]
    fn a_row_that_is_worth_nothing_stays_alone() {
        let worth = [[3.0], [5.0], [-1.0]];
        assert_eq!(assign(3, 1, |i, j| worth[i][j]), [None, Some(0), None]);
        assert_eq!(assign(2, 3, |_, _| -1.0), [None, None]);
        assert!(assign(0, 3, |_, _| 1.0).is_empty() && assign(1, 0, |_, _| 1.0) == [None]);
    }

    #[test]
    fn it_equals_the_best_of_all_permutations() {
        let mut seed = 7u32;
        for _ in 0..50 {
            let mut cells = [[0.0f32; 4]; 4];
            for cell in cells.iter_mut().flatten() {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *cell = (seed >> 20) as f32 + 1.0;
            }
            let found: f32 = assign(4, 4, |i, j| cells[i][j])
                .iter()
                .enumerate()
                .map(|(i, j)| cells[i][j.expect("worth something")])
                .sum();
            assert_eq!(found, best(&cells, 0, [false; 4]));
        }
    }

    fn best(cells: &[[f32; 4]; 4], row: usize, used: [bool; 4]) -> f32 {
        (0..4)
            .filter(|j| !used[*j])
            .map(|j| {
                let mut used = used;
                used[j] = true;
                cells[row][j] + if row < 3 { best(cells, row + 1, used) } else { 0.0 }
            })
            .fold(0.0, f32::max)
    }
}
