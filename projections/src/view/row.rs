//! Rows of events to Arrow columns. This is the hot path: no value is copied but into its column.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Date32Builder, Decimal128Array, Decimal128Builder, Int32Array,
    Int32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field};
use schemas::event::{EventBatch, EventRow};
use schemas::{Value, Version};

use super::columns::Columns;
use super::error::ViewError;
use super::index::PackedVersion;

/// One column that grows.
#[derive(Debug)]
enum Column {
    Text(StringBuilder),
    Integer(Int64Builder),
    Small(Int32Builder),
    Decimal(Decimal128Builder, i128),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
}

/// Room for so many rows is made when nothing is known about what comes.
const ROWS_AT_FIRST: usize = 64;
const TEXT_BYTES_AT_FIRST: usize = 8;
/// Room for texts is made for one in so many bytes more than the last batch had: a buffer that is full by one byte doubles,
/// and a batch keeps all of it.
const TEXT_SLACK: usize = 16;

impl Column {
    fn new(data_type: &DataType, rows: usize, text_bytes: usize) -> Self {
        match data_type {
            DataType::Int64 => Self::Integer(Int64Builder::with_capacity(rows)),
            DataType::Int32 => Self::Small(Int32Builder::with_capacity(rows)),
            DataType::Decimal128(precision, _) => {
                let builder = Decimal128Builder::with_capacity(rows).with_data_type(data_type.clone());
                Self::Decimal(builder, 10i128.pow(u32::from(*precision).min(38)))
            }
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Date32 => Self::Date(Date32Builder::with_capacity(rows)),
            DataType::Timestamp(..) => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(data_type.clone()))
            }
            _ => Self::Text(StringBuilder::with_capacity(rows, text_bytes)),
        }
    }
    /// Appends a value; false if it is of another type or too long.
    #[inline]
    fn append(&mut self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => column.append_value(text),
            (Self::Integer(column), Value::Integer(number)) => column.append_value(number),
            (Self::Decimal(column, limit), Value::Decimal(units)) if units.unsigned_abs() < limit.unsigned_abs() => {
                column.append_value(units);
            }
            (Self::Boolean(column), Value::Boolean(value)) => column.append_value(value),
            (Self::Date(column), Value::Date(days)) => column.append_value(days),
            (Self::Timestamp(column), Value::Timestamp(at)) => column.append_value(at),
            (column, Value::Null) => column.append_null(),
            _ => return false,
        }
        true
    }
    fn append_null(&mut self) {
        match self {
            Self::Text(column) => column.append_null(),
            Self::Integer(column) => column.append_null(),
            Self::Small(column) => column.append_null(),
            Self::Decimal(column, _) => column.append_null(),
            Self::Boolean(column) => column.append_null(),
            Self::Date(column) => column.append_null(),
            Self::Timestamp(column) => column.append_null(),
        }
    }
    #[inline]
    fn text(&mut self, text: &str) {
        if let Self::Text(column) = self {
            column.append_value(text);
        }
    }
    #[inline]
    fn number(&mut self, number: u64) {
        if let Self::Integer(column) = self {
            column.append_value(number.cast_signed());
        }
    }
    fn text_bytes(&self) -> usize {
        if let Self::Text(column) = self { column.values_slice().len() } else { 0 }
    }
    fn builder(&mut self) -> &mut dyn ArrayBuilder {
        match self {
            Self::Text(column) => column,
            Self::Integer(column) => column,
            Self::Small(column) => column,
            Self::Decimal(column, _) => column,
            Self::Boolean(column) => column,
            Self::Date(column) => column,
            Self::Timestamp(column) => column,
        }
    }
    fn finish_cloned(&self) -> ArrayRef {
        match self {
            Self::Text(column) => Arc::new(column.finish_cloned()),
            Self::Integer(column) => Arc::new(column.finish_cloned()),
            Self::Small(column) => Arc::new(column.finish_cloned()),
            Self::Decimal(column, _) => Arc::new(column.finish_cloned()),
            Self::Boolean(column) => Arc::new(column.finish_cloned()),
            Self::Date(column) => Arc::new(column.finish_cloned()),
            Self::Timestamp(column) => Arc::new(column.finish_cloned()),
        }
    }
}

/// The columns of rows that are not yet a batch. What all rows of a batch of events share is kept once, as a run.
#[derive(Debug)]
pub struct RowBuilder {
    layout: Arc<Columns>,
    columns: Vec<Column>,
    runs: Vec<(EventBatch, usize)>,
    version: String,
    rows: usize,
    expected: Expected,
}

/// How large the next batch will be, about.
#[derive(Debug, Default)]
struct Expected {
    rows: usize,
    text_bytes: Vec<usize>,
}

impl RowBuilder {
    /// No rows yet, and no room for any.
    pub fn new(layout: Arc<Columns>) -> Self {
        let (columns, runs) = (Vec::new(), Vec::new());
        Self { layout, columns, runs, version: String::new(), rows: 0, expected: Expected::default() }
    }
    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// The rows that follow are of this batch.
    pub fn begin(&mut self, shared: &EventBatch) {
        if self.runs.last().is_some_and(|(last, _)| last == shared) {
            return;
        }
        self.runs.pop_if(|(_, rows)| *rows == 0);
        self.runs.push((shared.clone(), 0));
    }
    /// Nothing is known about what comes.
    pub fn expect_nothing(&mut self) {
        self.expected = Expected::default();
    }
    fn make_room(&mut self) {
        let rows = self.expected.rows.max(ROWS_AT_FIRST);
        let text_bytes = |at: usize| self.expected.text_bytes.get(at).map_or(0, |bytes| bytes + bytes / TEXT_SLACK);
        let column = |(at, field): (usize, &Arc<Field>)| match self.is_shared(at) {
            // Built from the runs.
            true => Column::new(field.data_type(), 0, 0),
            false => Column::new(field.data_type(), rows, text_bytes(at).max(rows * TEXT_BYTES_AT_FIRST)),
        };
        self.columns = self.layout.schema.fields().iter().enumerate().map(column).collect();
    }
    fn is_shared(&self, at: usize) -> bool {
        at.checked_sub(self.layout.extras).is_some_and(|system| SHARED.contains(&system))
    }
    /// Appends an accepted row of the batch that was begun. After an error the builder is of no more use.
    #[inline]
    pub fn append(&mut self, row: &mut EventRow<'_>, version: &PackedVersion) -> Result<(), ViewError> {
        if self.columns.is_empty() {
            self.make_room();
        }
        for &at in &self.layout.fields {
            let value =
                row.values.next_value().map_err(|source| ViewError::Events { offset: row.input_offset, source })?;
            if !self.columns[at].append(value) {
                return Err(self.mismatch(at, row.input_offset, value));
            }
        }
        for &at in &self.layout.unknown {
            self.columns[at].append_null();
        }
        let [extras, _, _, key, version_column, origin, position, ..] = &mut self.columns[self.layout.extras..] else {
            unreachable!("Columns checks that the system columns stand behind extras");
        };
        if row.extras.is_empty() {
            extras.append_null()
        } else {
            extras.text(row.extras)
        }
        key.text(row.key);
        self.version.clear();
        if write_version(&mut self.version, version) {
            version_column.text(&self.version);
        } else {
            version_column.append_null();
        }
        origin.number(row.origin);
        position.number(row.input_offset);
        self.rows += 1;
        if let Some((_, rows)) = self.runs.last_mut() {
            *rows += 1;
        }
        Ok(())
    }
    fn mismatch(&self, at: usize, input: u64, value: Value<'_>) -> ViewError {
        let field = self.layout.schema.field(at);
        let found = match value {
            Value::Null => "null",
            Value::Text(_) => "a text",
            Value::Integer(_) => "an integer",
            Value::Decimal(_) => "a decimal, perhaps of too many digits,",
            Value::Boolean(_) => "a boolean",
            Value::Date(_) => "a date",
            Value::Timestamp(_) => "a timestamp",
        };
        ViewError::Value { input, column: field.name().clone(), expected: field.data_type().to_string(), found }
    }
    /// The rows as a batch; the builder is empty afterwards and expects as many again.
    pub fn finish(&mut self) -> RecordBatch {
        self.expected = Expected { rows: self.rows, text_bytes: self.columns.iter().map(Column::text_bytes).collect() };
        let mut columns = std::mem::take(&mut self.columns);
        let arrays = columns.iter_mut().enumerate().map(|(at, c)| self.array(at, || c.builder().finish())).collect();
        let batch = self.batch(arrays);
        self.rows = 0;
        let last = self.runs.pop();
        self.runs.clear();
        self.runs.extend(last.map(|(shared, _)| (shared, 0)));
        batch
    }
    /// The rows as a batch; the builder goes on.
    pub fn finish_cloned(&self) -> RecordBatch {
        let columns = self.columns.iter().enumerate();
        self.batch(columns.map(|(at, column)| self.array(at, || column.finish_cloned())).collect())
    }
    fn array(&self, at: usize, own: impl FnOnce() -> ArrayRef) -> ArrayRef {
        match at.checked_sub(self.layout.extras) {
            Some(1) => self.repeat_text(|b| b.connection.as_str()),
            Some(2) => self.repeat_text(|b| b.stream.as_str()),
            Some(7) => Arc::new(Int32Array::from_iter_values(self.repeat(|b| b.input_partition.cast_signed()))),
            Some(8) => Arc::new(Int32Array::from_iter_values(self.repeat(|b| b.mapping_version.cast_signed()))),
            Some(9) => {
                let confidence = Decimal128Array::from_iter_values(self.repeat(|b| i128::from(b.confidence)));
                Arc::new(confidence.with_data_type(self.layout.schema.field(at).data_type().clone()))
            }
            Some(10) => {
                let logged = TimestampMicrosecondArray::from_iter_values(self.repeat(|b| b.logged_at));
                Arc::new(logged.with_data_type(self.layout.schema.field(at).data_type().clone()))
            }
            _ => own(),
        }
    }
    fn repeat<T: Copy>(&self, of: impl Fn(&EventBatch) -> T) -> impl Iterator<Item = T> {
        self.runs.iter().flat_map(move |(shared, rows)| std::iter::repeat_n(of(shared), *rows))
    }
    fn repeat_text(&self, of: for<'a> fn(&'a EventBatch) -> &'a str) -> ArrayRef {
        let bytes = self.runs.iter().map(|(shared, rows)| of(shared).len() * rows).sum();
        let mut column = StringBuilder::with_capacity(self.rows, bytes);
        for (shared, rows) in &self.runs {
            (0..*rows).for_each(|_| column.append_value(of(shared)));
        }
        Arc::new(column.finish())
    }
    fn batch(&self, columns: Vec<ArrayRef>) -> RecordBatch {
        RecordBatch::try_new(self.layout.schema.clone(), columns)
            .expect("every column has the type of its field and a value for every row")
    }
}

/// The system columns behind `extras` that are the same for all rows of a batch of events: connection, stream,
/// partition, mapping version, confidence and the time of the log.
const SHARED: [usize; 6] = [1, 2, 7, 8, 9, 10];

/// Writes a version as [`Version::to_column`] does; false for a source without versions.
pub fn write_version(out: &mut String, version: &PackedVersion) -> bool {
    use std::fmt::Write as _;
    // Writing to a string does not fail.
    match version {
        PackedVersion::None => return false,
        PackedVersion::Time(at) => {
            out.push('t');
            schemas::time::write_timestamp(out, *at);
        }
        PackedVersion::Integer(number) => {
            let _ = write!(out, "i{number}");
        }
        PackedVersion::Text(text) => {
            out.push('x');
            out.push_str(text);
        }
    }
    true
}

/// Reads a version column's value.
pub fn read_version(text: Option<&str>) -> Option<PackedVersion> {
    Version::from_column(text).map(PackedVersion::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_version() -> impl Strategy<Value = Version> {
        prop_oneof![
            Just(Version::None),
            (schemas::time::MIN_TIMESTAMP..=schemas::time::MAX_TIMESTAMP).prop_map(Version::Time),
            (-3_000_000i64..3_000_000).prop_map(|s| Version::Time(s * 1_000_000)),
            (-3_000_000i64..3_000_000).prop_map(|s| Version::Time(s * 1_000)),
            any::<i64>().prop_map(Version::Integer),
            "[a-z]{1,9}".prop_map(|t| Version::Text(t.into())),
        ]
    }

    proptest! {
        #[test]
        fn a_version_is_written_as_schemas_writes_it(version in any_version()) {
            let mut out = String::new();
            let is_some = write_version(&mut out, &version.clone().into());
            prop_assert_eq!(is_some.then_some(out), version.to_column());
        }
    }
}
