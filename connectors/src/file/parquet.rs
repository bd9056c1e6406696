//! Rows of a Parquet file as JSON objects.

use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Encoding, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use schemas::input::{DECLARED_FIELDS_MAX, DeclaredField};
use schemas::mapping::Path;
use schemas::reason::Reason;
use schemas::record::RECORD_BYTES_MAX;
use schemas::shape::{ELEMENTS, TypeClass};

use super::decode::Meter;
use super::fault::Fault;
use super::lines::TooLarge;
use super::reading::Rows;
use super::sink::Sink;

/// About how many bytes of JSON lines are made at once; one row may be more.
const LINES_BYTES: usize = 4 << 20;

/// Rows that are unpacked at once, at most.
const ROWS_MAX: u64 = 1024;

/// What the columns of the rows that are unpacked at once may take.
const COLUMNS_BYTES: u64 = 64 << 20;

/// The rows of a Parquet file: decimals as exact numbers, times as ISO 8601 text, binary as hexadecimal text.
pub(super) struct ParquetRows {
    reader: ParquetRecordBatchReader,
    file: String,
    /// Rows that are unpacked, not all made lines.
    unpacked: Option<Unpacked>,
    /// Rows as JSON lines, not all taken.
    lines: Vec<u8>,
    taken: usize,
    /// What stands for the next row, which is too large to be made a line.
    large: Option<Vec<u8>>,
    row: u64,
    rows: u64,
    size: u64,
    meter: Meter,
    declared: Option<Vec<DeclaredField>>,
}

impl ParquetRows {
    /// Opens `file`; `meter` is told of the progress.
    pub(super) fn open(file: File, name: String, meter: Meter) -> Result<Self, Fault> {
        let size = file.metadata()?.len();
        let (reader, rows, declared) = guarded(|| {
            let metadata = metadata_with_views(&file).map_err(|error| content(&error))?;
            let groups = metadata.metadata().row_groups();
            let rows = groups.iter().map(|group| group.num_rows().max(0) as u64).sum();
            let batch = rows_at_once(metadata.metadata());
            let declared = declared(metadata.schema().fields());
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
            let reader = builder.with_batch_size(batch as usize).build().map_err(|error| content(&error))?;
            Ok((reader, rows, declared))
        })?;
        Ok(Self {
            reader,
            file: name,
            unpacked: None,
            lines: Vec::new(),
            taken: 0,
            large: None,
            row: 0,
            rows,
            size,
            meter,
            declared,
        })
    }

    /// Makes more lines; `false` at the end.
    fn unpack(&mut self) -> Result<bool, Fault> {
        self.lines.clear();
        self.taken = 0;
        let (reader, lines) = (&mut self.reader, &mut self.lines);
        let last = self.unpacked.take();
        let step = guarded(|| {
            let mut unpacked = match last {
                Some(unpacked) => unpacked,
                None => match reader.next() {
                    Some(batch) => Unpacked::new(batch.map_err(|error| content(&error))?),
                    None => return Ok(None),
                },
            };
            let large = unpacked.write_lines(lines)?;
            Ok(Some((unpacked, large)))
        })?;
        let Some((unpacked, large)) = step else {
            return Ok(false);
        };
        self.large = large.map(|(beginning, bytes)| TooLarge::of(0, &beginning).payload(&self.file, bytes));
        self.unpacked = (unpacked.at < unpacked.rows.num_rows()).then_some(unpacked);
        Ok(true)
    }

    /// A row was taken.
    fn advance(&mut self) {
        self.row += 1;
        let done = u128::from(self.row) * u128::from(self.size) / u128::from(self.rows.max(1));
        self.meter.set_bytes(u64::try_from(done).unwrap_or(self.size).min(self.size));
    }
}

impl Rows for ParquetRows {
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault> {
        loop {
            if let Some(large) = &self.large {
                if !sink.offer(self.row + 1, Some(Reason::RecordTooLarge), large)? {
                    return Ok(true);
                }
                self.large = None;
                self.advance();
                continue;
            }
            let rest = &self.lines[self.taken..];
            let Some(len) = memchr::memchr(b'\n', rest) else {
                if !self.unpack()? {
                    return Ok(false);
                }
                continue;
            };
            let line = &rest[..len];
            let taken = if len > RECORD_BYTES_MAX {
                let large = TooLarge::of(0, line).payload(&self.file, len as u64);
                sink.offer(self.row + 1, Some(Reason::RecordTooLarge), &large)?
            } else {
                sink.offer(self.row + 1, None, line)?
            };
            if !taken {
                return Ok(true);
            }
            self.taken += len + 1;
            self.advance();
        }
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.row >= self.rows)
    }

    fn declared(&self) -> Option<&[DeclaredField]> {
        self.declared.as_deref()
    }
}

/// Some rows in memory, and how many of them were made lines.
struct Unpacked {
    rows: RecordBatch,
    /// For each row the bytes of its texts.
    text_bytes: Vec<u64>,
    at: usize,
}

impl Unpacked {
    fn new(rows: RecordBatch) -> Self {
        let mut text_bytes = vec![0; rows.num_rows()];
        rows.columns().iter().for_each(|column| add_text_bytes(column, &mut text_bytes));
        Self { rows, text_bytes, at: 0 }
    }

    /// Writes lines until there are enough, or until before a row that is too large; of such a row, if it is the next one,
    /// the beginning of a text of it, and its size.
    fn write_lines(&mut self, lines: &mut Vec<u8>) -> Result<Option<(Vec<u8>, u64)>, Fault> {
        let rest = &self.text_bytes[self.at..];
        let rows = rest.iter().position(|bytes| *bytes > RECORD_BYTES_MAX as u64).unwrap_or(rest.len());
        if rows == 0 {
            let bytes = rest.first().copied().unwrap_or(0);
            let beginning = self.beginning();
            self.at += 1;
            return Ok(Some((beginning, bytes)));
        }
        self.at += write_lines(&self.rows.slice(self.at, rows), lines)?;
        Ok(None)
    }

    fn beginning(&self) -> Vec<u8> {
        let texts = self.rows.columns().iter().filter_map(|column| column.as_string_view_opt());
        let longest = texts.map(|texts| texts.value(self.at)).max_by_key(|text| text.len()).unwrap_or("");
        longest.as_bytes()[..longest.len().min(4096)].to_vec()
    }
}

/// Adds to each row's sum what its texts in this column have.
fn add_text_bytes(column: &dyn Array, sums: &mut [u64]) {
    let mut add = |row: usize, bytes: u64| {
        if let Some(sum) = sums.get_mut(row) {
            *sum = sum.saturating_add(bytes);
        }
    };
    let within = |values: &dyn Array| {
        let mut inner = vec![0; values.len()];
        add_text_bytes(values, &mut inner);
        inner
    };
    let mut add_ranges = |values: &dyn Array, ends: &mut dyn Iterator<Item = (usize, usize)>| {
        let inner = within(values);
        for (row, (start, end)) in ends.enumerate() {
            add(row, inner.get(start..end).unwrap_or_default().iter().sum());
        }
    };
    let pairs =
        |offsets: &[i32]| offsets.windows(2).map(|pair| (pair[0] as usize, pair[1] as usize)).collect::<Vec<_>>();
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().lengths().enumerate().for_each(|(row, len)| add(row, len.into())),
        DataType::BinaryView => {
            column.as_binary_view().lengths().enumerate().for_each(|(row, len)| add(row, u64::from(len) * 2));
        }
        DataType::Struct(_) => column.as_struct().columns().iter().for_each(|inner| add_text_bytes(inner, sums)),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            add_ranges(list.values(), &mut pairs(list.value_offsets()).into_iter());
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let ends = list.value_offsets().windows(2).map(|pair| (pair[0] as usize, pair[1] as usize));
            add_ranges(list.values(), &mut ends.collect::<Vec<_>>().into_iter());
        }
        DataType::Map(..) => {
            let map = column.as_map();
            add_ranges(map.entries(), &mut pairs(map.value_offsets()).into_iter());
        }
        DataType::FixedSizeList(_, len) => {
            let (list, len) = (column.as_fixed_size_list(), *len as usize);
            add_ranges(list.values(), &mut (0..list.len()).map(|row| (row * len, (row + 1) * len)));
        }
        _ => {}
    }
}

/// The metadata with all texts as views: a text that stands once in a dictionary then stands once in memory, however many
/// rows have it. Without views, a file of a few kilobytes could unfold into any number of gigabytes.
fn metadata_with_views(file: &File) -> parquet::errors::Result<ArrowReaderMetadata> {
    let plain = ArrowReaderMetadata::load(file, ArrowReaderOptions::new())?;
    let schema = Schema::new_with_metadata(with_views(plain.schema().fields()), plain.schema().metadata().clone());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    ArrowReaderMetadata::try_new(plain.metadata().clone(), options)
}

fn with_views(fields: &Fields) -> Fields {
    fields.iter().map(with_view).collect()
}

fn with_view(field: &FieldRef) -> FieldRef {
    let data_type = view_of(field.data_type());
    Arc::new(Field::clone(field).with_data_type(data_type))
}

fn view_of(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, value) => view_of(value),
        DataType::Struct(fields) => DataType::Struct(with_views(fields)),
        DataType::List(item) => DataType::List(with_view(item)),
        DataType::LargeList(item) => DataType::LargeList(with_view(item)),
        DataType::FixedSizeList(item, len) => DataType::FixedSizeList(with_view(item), *len),
        DataType::Map(entries, sorted) => DataType::Map(with_view(entries), *sorted),
        other => other.clone(),
    }
}

/// The columns as a schema; nothing where they are too many, or one has no path.
fn declared(fields: &Fields) -> Option<Vec<DeclaredField>> {
    let mut all = Vec::new();
    fields.iter().try_for_each(|field| declare(field.data_type(), &[field.name()], &mut all))?;
    Some(all)
}

fn declare(data_type: &DataType, parts: &[&str], all: &mut Vec<DeclaredField>) -> Option<()> {
    if all.len() == DECLARED_FIELDS_MAX {
        return None;
    }
    let path = Path::of_parts(parts).ok()?.as_str().to_owned();
    all.push(DeclaredField { path, class: class(data_type) });
    let below = |part| [parts, &[part]].concat();
    match data_type {
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|field| declare(field.data_type(), &below(field.name()), all))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            declare(item.data_type(), &below(ELEMENTS), all)
        }
        _ => Some(()),
    }
}

/// What the values of a column are as JSON, where that is sure.
fn class(data_type: &DataType) -> Option<TypeClass> {
    Some(match data_type {
        DataType::Boolean => TypeClass::Boolean,
        kind if kind.is_numeric() => TypeClass::Number,
        DataType::Utf8View | DataType::BinaryView | DataType::Date32 | DataType::Timestamp(..) => TypeClass::Text,
        DataType::Struct(_) | DataType::Map(..) => TypeClass::Object,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => TypeClass::Array,
        _ => return None,
    })
}

/// How many rows can be unpacked at once, by what a row of the widest row group can take.
fn rows_at_once(metadata: &ParquetMetaData) -> u64 {
    let row_bytes = metadata.row_groups().iter().map(|group| {
        let rows = group.num_rows().max(1) as u64;
        group.columns().iter().fold(0u64, |sum, column| sum.saturating_add(value_bytes(column, rows)))
    });
    (COLUMNS_BYTES / row_bytes.max().unwrap_or(0).max(1)).clamp(1, ROWS_MAX)
}

/// What one row's values of a column can take in memory.
fn value_bytes(column: &ColumnChunkMetaData, rows: u64) -> u64 {
    let packed = column.uncompressed_size().max(0) as u64;
    let values = (column.num_values().max(0) as u64).div_ceil(rows).max(1);
    let bytes = match column.column_type() {
        Type::FIXED_LEN_BYTE_ARRAY => column.column_descr().type_length().max(0) as u64,
        // Each value repeats the beginning of the one before it, so any of them may be as long as all are together. The
        // bound is loose: a quarter of it at a time is a good deal.
        Type::BYTE_ARRAY if column.encodings().any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY) => packed / 4,
        Type::BYTE_ARRAY => 16 + packed / rows,
        _ => 16,
    };
    values.saturating_mul(bytes)
}

/// Writes rows as lines until there are enough; how many rows.
fn write_lines(rows: &RecordBatch, lines: &mut Vec<u8>) -> Result<usize, Fault> {
    let mut sink = Lines { lines, is_full: false };
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut sink);
    let written = writer.write(rows).and_then(|()| writer.finish());
    drop(writer);
    match written {
        Ok(()) => Ok(rows.num_rows()),
        Err(error) if !sink.is_full => Err(content(&error)),
        Err(_) => {
            // The row whose line was cut off is written again.
            let end = memchr::memrchr(b'\n', lines).map_or(0, |at| at + 1);
            lines.truncate(end);
            Ok(memchr::memchr_iter(b'\n', lines).count())
        }
    }
}

/// Takes lines until it has enough.
struct Lines<'a> {
    lines: &'a mut Vec<u8>,
    is_full: bool,
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.lines.len() >= LINES_BYTES && memchr::memchr(b'\n', self.lines).is_some() {
            self.is_full = true;
            return Err(io::Error::other("enough"));
        }
        self.lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn content(error: &dyn std::error::Error) -> Fault {
    Fault::Content(format!("is not readable as Parquet: {error}"))
}

/// Damaged files can make the library panic; that is one file's error, no more.
fn guarded<T>(read: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(Fault::Content("is a damaged Parquet file".into())))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    #[test]
    fn a_large_text_of_a_dictionary_stands_once_in_memory_and_lines_are_made_by_handfuls() {
        const TEXT_BYTES: usize = 1 << 20;
        let values = StringArray::from(vec!["x".repeat(TEXT_BYTES)]);
        let keys = Int32Array::from(vec![0; 2000]);
        let column: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(values)));
        let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        // By default a dictionary this large would be given up.
        let properties = WriterProperties::builder().set_dictionary_page_size_limit(1 << 30).build();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut rows = ParquetRows::open(file, "a".into(), Meter::default()).unwrap();
        for _ in 0..5 {
            assert!(rows.unpack().unwrap());
            assert!(rows.lines.len() <= LINES_BYTES + 2 * TEXT_BYTES && !rows.lines.is_empty());
            let unpacked = rows.unpacked.as_ref().unwrap();
            assert!(unpacked.rows.num_rows() > 500);
            assert!(unpacked.rows.get_array_memory_size() < 8 << 20, "{}", unpacked.rows.get_array_memory_size());
        }
    }
}
