//! Rows of a Parquet file as JSON objects.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use schemas::reason::Reason;
use schemas::record::RECORD_BYTES_MAX;

use super::cursor::Offset;
use super::fault::Fault;
use super::lines::TooLarge;
use super::reading::Rows;
use super::sink::Sink;

/// About how many bytes of rows are unpacked at once.
const BATCH_BYTES: u64 = 4 << 20;

/// The rows of a Parquet file: decimals as exact numbers, times as ISO 8601 text, binary as hexadecimal text.
pub(super) struct ParquetRows {
    reader: ParquetRecordBatchReader,
    file: String,
    // Rows as JSON lines, unpacked but not all taken.
    lines: Vec<u8>,
    taken: usize,
    row: u64,
    rows: u64,
    size: u64,
    count: Arc<AtomicU64>,
}

impl ParquetRows {
    /// Opens `file`; `count` is told of the progress.
    pub(super) fn open(file: File, name: String, count: Arc<AtomicU64>) -> Result<Self, Fault> {
        let size = file.metadata()?.len();
        let (reader, rows) = guarded(|| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| content(&error))?;
            let groups = builder.metadata().row_groups();
            let rows: u64 = groups.iter().map(|group| group.num_rows().max(0) as u64).sum();
            let bytes: u64 = groups.iter().map(|group| group.total_byte_size().max(0) as u64).sum();
            let batch = BATCH_BYTES / (bytes / rows.max(1)).max(1);
            let reader = builder.with_batch_size(batch.clamp(1, 8192) as usize).build();
            Ok((reader.map_err(|error| content(&error))?, rows))
        })?;
        Ok(Self { reader, file: name, lines: Vec::new(), taken: 0, row: 0, rows, size, count })
    }

    /// Unpacks more rows; `false` at the end.
    fn unpack(&mut self) -> Result<bool, Fault> {
        self.lines.clear();
        self.taken = 0;
        let (reader, lines) = (&mut self.reader, &mut self.lines);
        guarded(|| {
            let Some(batch) = reader.next() else {
                return Ok(false);
            };
            write_lines(&batch.map_err(|error| content(&error))?, lines)?;
            Ok(true)
        })
    }
}

fn write_lines(batch: &RecordBatch, lines: &mut Vec<u8>) -> Result<(), Fault> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(lines);
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| content(&error))
}

fn content(error: &dyn std::error::Error) -> Fault {
    Fault::Content(format!("is not readable as Parquet: {error}"))
}

/// Damaged files can make the library panic; that is one file's error, no more.
fn guarded<T>(read: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(Fault::Content("is a damaged Parquet file".into())))
}

impl Rows for ParquetRows {
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault> {
        loop {
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
            self.row += 1;
            self.taken += len + 1;
            let done = u128::from(self.row) * u128::from(self.size) / u128::from(self.rows.max(1));
            self.count.store(u64::try_from(done).unwrap_or(self.size).min(self.size), Ordering::Relaxed);
        }
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.row >= self.rows)
    }

    fn place(&mut self) -> Offset {
        Offset { offset: 0, row: self.row, hash: 0, terminated: true, dialect: None }
    }
}
