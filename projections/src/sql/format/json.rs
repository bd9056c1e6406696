//! One array of objects, a row a line. What JSON numbers cannot hold exactly is text: decimals, NaN and infinities.

use std::collections::HashSet;
use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Schema};
use arrow::error::ArrowError;

use super::FormatError;
use super::column::{Column, in_utc, zoneless};

/// The columns' names as keys; a name that comes again gets a number, so that no value is lost.
pub(super) fn keys(schema: &Schema) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut keys = vec![];
    for field in schema.fields() {
        let mut key = field.name().clone();
        let mut count = 1;
        while !seen.insert(key.clone()) {
            count += 1;
            key = format!("{}_{count}", field.name());
        }
        keys.push(key);
    }
    keys.iter().map(|key| quoted(key)).collect()
}

pub(super) fn rows(
    batch: &RecordBatch,
    keys: &[String],
    rows: &mut usize,
    out: &mut impl Write,
) -> Result<(), FormatError> {
    let arrays = in_utc(batch);
    let columns = arrays.iter().map(Encoder::new).collect::<Result<Vec<_>, _>>()?;
    let mut lines = String::new();
    for row in 0..batch.num_rows() {
        lines.push_str(if *rows > 0 { ",\n{" } else { "\n{" });
        *rows += 1;
        for (i, (key, column)) in keys.iter().zip(&columns).enumerate() {
            if i > 0 {
                lines.push(',');
            }
            lines.push_str(key);
            lines.push(':');
            column.push(row, &mut lines)?;
        }
        lines.push('}');
        if lines.len() > 64 << 10 {
            out.write_all(lines.as_bytes())?;
            lines.clear();
        }
    }
    Ok(out.write_all(lines.as_bytes())?)
}

enum Encoder<'a> {
    /// Prints as it is: whole numbers and truth values.
    Plain(Column<'a>),
    /// Prints in quotes.
    Text(Column<'a>),
    Float(&'a ArrayRef),
    List(&'a ArrayRef),
    Struct(&'a ArrayRef, Vec<String>),
}

impl<'a> Encoder<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Float(array),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Self::List(array),
            DataType::Struct(fields) => Self::Struct(array, keys(&Schema::new(fields.clone()))),
            DataType::Boolean | DataType::Null => Self::Plain(Column::new(array)?),
            whole if whole.is_integer() => Self::Plain(Column::new(array)?),
            _ => Self::Text(Column::new(array)?),
        })
    }

    fn push(&self, row: usize, line: &mut String) -> Result<(), ArrowError> {
        use std::fmt::Write as _;
        match self {
            Self::Plain(column) if !column.is_null(row) => {
                // Writing to a String cannot fail.
                let _ = write!(line, "{}", column.text(row));
            }
            Self::Text(column) if !column.is_null(row) => push_quoted(&column.text(row).to_string(), line),
            Self::Float(array) if !array.is_null(row) => push_float(array, row, line),
            Self::List(array) if !array.is_null(row) => push_list(array, row, line)?,
            Self::Struct(array, keys) if !array.is_null(row) => push_struct(array, keys, row, line)?,
            _ => line.push_str("null"),
        }
        Ok(())
    }
}

fn push_float(array: &ArrayRef, row: usize, line: &mut String) {
    let value = match array.data_type() {
        DataType::Float16 => array.as_primitive::<Float16Type>().value(row).to_f64(),
        // The shortest text that reads back as the same 32 bits.
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            value.to_string().parse().unwrap_or_else(|_| value.into())
        }
        _ => array.as_primitive::<Float64Type>().value(row),
    };
    match serde_json::Number::from_f64(value) {
        Some(number) => line.push_str(&number.to_string()),
        None if value.is_nan() => line.push_str("\"NaN\""),
        None if value > 0.0 => line.push_str("\"Infinity\""),
        None => line.push_str("\"-Infinity\""),
    }
}

fn push_list(array: &ArrayRef, row: usize, line: &mut String) -> Result<(), ArrowError> {
    let items = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(row),
        DataType::LargeList(_) => array.as_list::<i64>().value(row),
        _ => array.as_fixed_size_list().value(row),
    };
    let items = zoneless(&items);
    let encoder = Encoder::new(&items)?;
    line.push('[');
    for i in 0..items.len() {
        if i > 0 {
            line.push(',');
        }
        encoder.push(i, line)?;
    }
    line.push(']');
    Ok(())
}

fn push_struct(array: &ArrayRef, keys: &[String], row: usize, line: &mut String) -> Result<(), ArrowError> {
    line.push('{');
    for (i, (key, column)) in keys.iter().zip(array.as_struct().columns()).enumerate() {
        if i > 0 {
            line.push(',');
        }
        line.push_str(key);
        line.push(':');
        Encoder::new(&zoneless(&column.slice(row, 1)))?.push(0, line)?;
    }
    line.push('}');
    Ok(())
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    push_quoted(text, &mut out);
    out
}

fn push_quoted(text: &str, line: &mut String) {
    // A text always has a JSON form.
    line.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "null".into()));
}
