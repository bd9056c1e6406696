//! RFC 4180: a header row, lines end with CR LF, null is empty and an empty text is `""`.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};

use super::FormatError;
use super::column::{Column, in_utc};

pub(super) fn header(schema: &Schema, out: &mut impl Write) -> Result<(), FormatError> {
    let mut line = String::new();
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            line.push(',');
        }
        push(field.name(), &mut line);
    }
    line.push_str("\r\n");
    Ok(out.write_all(line.as_bytes())?)
}

pub(super) fn rows(batch: &RecordBatch, escape_formulas: bool, out: &mut impl Write) -> Result<(), FormatError> {
    use std::fmt::Write as _;
    let arrays = in_utc(batch);
    let columns = arrays.iter().map(|a| Column::new(a)).collect::<Result<Vec<_>, _>>()?;
    let (mut lines, mut text) = (String::new(), String::new());
    for row in 0..batch.num_rows() {
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                lines.push(',');
            }
            if column.is_null(row) {
                continue;
            }
            text.clear();
            if escape_formulas && is_text(column.array.data_type()) {
                let value = column.text(row).to_string();
                if value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
                    text.push('\'');
                }
                text.push_str(&value);
            } else {
                // Writing to a String cannot fail.
                let _ = write!(text, "{}", column.text(row));
            }
            push(&text, &mut lines);
        }
        lines.push_str("\r\n");
        if lines.len() > 64 << 10 {
            out.write_all(lines.as_bytes())?;
            lines.clear();
        }
    }
    Ok(out.write_all(lines.as_bytes())?)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_text(value),
        other => !other.is_numeric() && !other.is_temporal() && *other != DataType::Boolean,
    }
}

fn push(text: &str, line: &mut String) {
    if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        return line.push_str(text);
    }
    line.push('"');
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            line.push_str("\"\"");
        }
        line.push_str(part);
    }
    line.push('"');
}
