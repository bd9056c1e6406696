//! Aligned columns for people. Widths come from the first rows; later rows that are wider are cut, but for numbers: one
//! that lacks digits would be another.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::FormatError;
use super::column::{Column, in_utc, is_number};

/// Characters of a column at most.
const WIDTH_MAX: usize = 48;
/// Rows that are looked at before the first is written.
const ROWS_SEEN: usize = 1_000;

/// A table whose widths may not be known yet.
pub(super) struct Table {
    names: Vec<String>,
    right: Vec<bool>,
    widths: Vec<usize>,
    /// Rows seen and not yet written.
    waiting: Vec<Vec<String>>,
    begun: bool,
}

impl Table {
    pub(super) fn new(schema: &Schema) -> Self {
        let names: Vec<_> = schema.fields().iter().map(|f| printable(f.name())).collect();
        let widths = names.iter().map(|n| width(n)).collect();
        let right = schema.fields().iter().map(|f| is_number(f.data_type())).collect();
        Self { names, right, widths, waiting: vec![], begun: false }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch, out: &mut impl Write) -> Result<(), FormatError> {
        let arrays = in_utc(batch);
        let columns = arrays.iter().map(|a| Column::new(a)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cell = |(column, is_number): (&Column<'_>, &bool)| {
                let text = column.text(row).to_string();
                if *is_number { text } else { printable(&text) }
            };
            let cells: Vec<_> = columns.iter().zip(&self.right).map(cell).collect();
            if self.begun {
                self.line(&cells, out)?;
                continue;
            }
            for (known, cell) in self.widths.iter_mut().zip(&cells) {
                *known = width(cell).max(*known);
            }
            self.waiting.push(cells);
            if self.waiting.len() == ROWS_SEEN {
                self.begin(out)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut impl Write) -> Result<(), FormatError> {
        if !self.begun {
            self.begin(out)?;
        }
        Ok(())
    }

    fn begin(&mut self, out: &mut impl Write) -> Result<(), FormatError> {
        self.begun = true;
        self.line(&self.names, out)?;
        let rules: Vec<_> = self.widths.iter().map(|w| "-".repeat(*w)).collect();
        self.line(&rules, out)?;
        for cells in std::mem::take(&mut self.waiting) {
            self.line(&cells, out)?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String], out: &mut impl Write) -> Result<(), FormatError> {
        let mut line = String::new();
        for (i, (cell, max)) in cells.iter().zip(&self.widths).enumerate() {
            if i > 0 {
                line.push_str("  ");
            }
            let cell = if self.right[i] { cell.clone() } else { cut(cell, *max) };
            let gap = " ".repeat(max.saturating_sub(width(&cell)));
            match self.right[i] {
                true => line.extend([gap.as_str(), &cell]),
                false => line.extend([cell.as_str(), &gap]),
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        Ok(out.write_all(line.as_bytes())?)
    }
}

/// A value on one line, cut to the largest width. Control characters could drive the reader's terminal.
fn printable(text: &str) -> String {
    // A little more than fits, so that the cut is seen.
    let head: String = text.chars().take(WIDTH_MAX + 1).flat_map(visible).collect();
    cut(&head, WIDTH_MAX)
}

fn visible(c: char) -> Vec<char> {
    match c {
        '\n' => vec!['\\', 'n'],
        '\r' => vec!['\\', 'r'],
        '\t' => vec!['\\', 't'],
        // Marks that turn the direction of writing hide what a value says.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => vec!['\u{fffd}'],
        c if c.is_control() => vec!['\u{fffd}'],
        c => vec![c],
    }
}

fn cut(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut taken = String::new();
    let mut left = max.saturating_sub(1);
    for c in text.chars() {
        let Some(rest) = left.checked_sub(columns(c)) else { break };
        left = rest;
        taken.push(c);
    }
    taken.push('…');
    taken
}

fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Terminal columns of a character: East Asian wide ones and emoji take two, combining marks none.
fn columns(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}
