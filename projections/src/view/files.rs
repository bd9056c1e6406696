//! Parquet files of a view: written from batches, read back for the key index.

use std::sync::Arc;

use arrow::array::{Array, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::columns::{INDEXED, ORIGIN, POSITION, VERSION};
use super::encoding;
use super::error::ViewError;
use super::index::OrderKey;
use super::memory::{Charge, Memory};
use super::place::TablePlace;
use super::row::read_version;
use super::stats;
use super::table::TableFile;
use super::trouble::Trouble;

/// A file is closed at so many rows: small enough that an update rewrites little, large enough to scan well.
pub const FILE_ROWS: usize = 128 << 10;
/// A file of fewer live rows is small: some of them are merged.
pub const SMALL_FILE_ROWS: usize = 32 << 10;
/// A file is closed at so many bytes, too, on disk and in the writer.
const FILE_BYTES: usize = 64 << 20;
/// A row group ends at so many rows.
pub const ROW_GROUP_ROWS: usize = 64 << 10;
/// A row group ends at so many bytes of values, so that no column of a batch read from it comes near Arrow's 2 GiB.
const ROW_GROUP_BYTES: usize = 64 << 20;
const READ_ROWS: usize = 8192;
/// Files are read in batches of about so many bytes of values, if that is less.
const READ_BYTES: usize = 16 << 20;
/// Files are written in blocks, for one piece that grows is copied over and over.
const BLOCK_BYTES: usize = 1 << 20;

/// Hashes keys; a row's key is (connection, stream, source key).
#[derive(Debug, Default)]
pub struct KeyHasher {
    bytes: Vec<u8>,
    prefix: usize,
}

impl KeyHasher {
    /// Sets the stream of the keys that follow.
    pub fn set_stream(&mut self, connection: &str, stream: &str) {
        self.bytes.clear();
        self.bytes.extend_from_slice(connection.as_bytes());
        self.bytes.push(0);
        self.bytes.extend_from_slice(stream.as_bytes());
        self.bytes.push(0);
        self.prefix = self.bytes.len();
    }
    /// The hash of a key of that stream.
    #[inline]
    pub fn hash(&mut self, key: &str) -> u128 {
        self.bytes.truncate(self.prefix);
        self.bytes.extend_from_slice(key.as_bytes());
        xxhash_rust::xxh3::xxh3_128(&self.bytes)
    }
}

/// The key columns of a batch.
struct Keys<'a> {
    connection: &'a StringArray,
    stream: &'a StringArray,
    key: &'a StringArray,
    hasher: KeyHasher,
    last: Option<usize>,
}

fn column<'a>(batch: &'a RecordBatch, name: &str, table: &str) -> Result<&'a Arc<dyn Array>, ViewError> {
    let missing = || ViewError::Table { table: table.to_owned(), reason: format!("a file has no column {name}") };
    batch.column_by_name(name).ok_or_else(missing)
}

fn text<'a>(batch: &'a RecordBatch, name: &str, table: &str) -> Result<&'a StringArray, ViewError> {
    let wrong = || ViewError::Table { table: table.to_owned(), reason: format!("column {name} of a file is no text") };
    column(batch, name, table)?.as_string_opt::<i32>().ok_or_else(wrong)
}

fn number<'a>(
    batch: &'a RecordBatch,
    name: &str,
    table: &str,
) -> Result<&'a arrow::array::PrimitiveArray<Int64Type>, ViewError> {
    let wrong = || ViewError::Table { table: table.to_owned(), reason: format!("column {name} of a file is no int64") };
    column(batch, name, table)?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)
}

impl<'a> Keys<'a> {
    fn of(batch: &'a RecordBatch, table: &str) -> Result<Self, ViewError> {
        let [connection, stream, key, ..] = INDEXED;
        Ok(Self {
            connection: text(batch, connection, table)?,
            stream: text(batch, stream, table)?,
            key: text(batch, key, table)?,
            hasher: KeyHasher::default(),
            last: None,
        })
    }
    /// The hash of a row's key.
    fn hash(&mut self, row: usize) -> u128 {
        let (connection, stream) = (self.connection.value(row), self.stream.value(row));
        let same = self.last.is_some_and(|l| self.connection.value(l) == connection && self.stream.value(l) == stream);
        if !same {
            self.hasher.set_stream(connection, stream);
        }
        self.last = Some(row);
        self.hasher.hash(self.key.value(row))
    }
}

/// Reads a file's key and order columns, or those of the table of deleted keys, row by row. Answers the rows. What is
/// held meanwhile is counted on `memory`.
pub async fn read_keys(
    place: &TablePlace,
    file: &TableFile,
    memory: &Memory,
    mut each: impl FnMut(usize, u128, OrderKey),
) -> Result<usize, ViewError> {
    let table = place.name();
    let mut rows = 0;
    for batch in read_columns(place, file, Some(&INDEXED), memory).await? {
        let batch = batch.map_err(|e| ViewError::io(table, &e))?;
        let mut keys = Keys::of(&batch, table)?;
        let versions = text(&batch, VERSION, table)?;
        let (origins, positions) = (number(&batch, ORIGIN, table)?, number(&batch, POSITION, table)?);
        for row in 0..batch.num_rows() {
            let text = versions.is_valid(row).then(|| versions.value(row));
            let version = read_version(text).ok_or_else(|| ViewError::Table {
                table: table.to_owned(),
                reason: format!("{} has a version that cannot be read", file.name),
            })?;
            let (origin, position) = (origins.value(row).cast_unsigned(), positions.value(row).cast_unsigned());
            each(rows + row, keys.hash(row), OrderKey { version, origin, position });
        }
        rows += batch.num_rows();
    }
    Ok(rows)
}

/// The batches of a file, which is in memory as long as they are read.
pub struct Batches {
    reader: ParquetRecordBatchReader,
    _held: Charge,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, arrow::error::ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.reader.next()
    }
}

/// Reads a whole file, batch by batch. What is held meanwhile is counted on `memory`.
pub async fn read_file(place: &TablePlace, file: &TableFile, memory: &Memory) -> Result<Batches, ViewError> {
    read_columns(place, file, None, memory).await
}

async fn read_columns(
    place: &TablePlace,
    file: &TableFile,
    columns: Option<&[&str]>,
    memory: &Memory,
) -> Result<Batches, ViewError> {
    let fail = |e: &(dyn std::error::Error + 'static)| ViewError::io(place.name(), e);
    let mut held = memory.charge();
    held.set(usize::try_from(file.bytes).unwrap_or(usize::MAX));
    let bytes = read_bytes(place, file).await?;
    held.set(bytes.len());
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| fail(&e))?;
    if let Some(columns) = columns {
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder = builder.with_projection(mask);
    }
    let rows = batch_rows(builder.metadata());
    let reader = builder.with_batch_size(rows).build().map_err(|e| fail(&e))?;
    Ok(Batches { reader, _held: held })
}

/// The bytes of a file, which are as many as were written.
async fn read_bytes(place: &TablePlace, file: &TableFile) -> Result<Bytes, ViewError> {
    let fail = |error: object_store::Error| match Trouble::of(&error) {
        Trouble::Gone => ViewError::FileGone { table: place.name().to_owned(), file: file.name.clone() },
        _ => ViewError::io(place.name(), &error),
    };
    let got = place.views.get(&place.file(&file.name)).await.map_err(fail)?;
    let bytes = got.bytes().await.map_err(fail)?;
    let found = bytes.len() as u64;
    if found != file.bytes {
        let (table, file, expected) = (place.name().to_owned(), file.name.clone(), file.bytes);
        return Err(ViewError::FileCut { table, file, expected, found });
    }
    Ok(bytes)
}

/// How many rows of a file are read at a time.
fn batch_rows(metadata: &ParquetMetaData) -> usize {
    let values = |group: &RowGroupMetaData| {
        // What a dictionary saves on disk is there again in memory.
        let texts = group.columns().iter().filter_map(|column| column.unencoded_byte_array_data_bytes()).sum::<i64>();
        usize::try_from(group.total_byte_size().saturating_add(texts)).unwrap_or(usize::MAX)
    };
    let row_bytes = |group: &RowGroupMetaData| values(group) / usize::try_from(group.num_rows()).unwrap_or(1).max(1);
    let most = metadata.row_groups().iter().map(row_bytes).max().unwrap_or(0);
    (READ_BYTES / most.max(1)).clamp(1, READ_ROWS)
}

/// Writes rows into as many files as it takes. A file is durable once it is in the list.
pub struct PartWriter {
    place: TablePlace,
    schema: SchemaRef,
    open: Option<ArrowWriter<Blocks>>,
    open_rows: usize,
    group_bytes: usize,
    done: Vec<TableFile>,
    charge: Charge,
}

impl PartWriter {
    /// Nothing written yet; buffers are counted on `memory`.
    pub fn new(place: TablePlace, schema: SchemaRef, memory: &Memory) -> Self {
        let charge = memory.charge();
        Self { place, schema, open: None, open_rows: 0, group_bytes: 0, done: Vec::new(), charge }
    }
    fn fail(&self, error: &(dyn std::error::Error + 'static)) -> ViewError {
        ViewError::io(self.place.name(), error)
    }
    /// Writes a batch.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), ViewError> {
        let batch = super::columns::conform(batch, &self.schema).map_err(|e| self.fail(&e))?;
        let mut writer = match self.open.take() {
            Some(writer) => writer,
            None => ArrowWriter::try_new(Blocks::default(), self.schema.clone(), Some(encoding::of(&batch)))
                .map_err(|e| self.fail(&e))?,
        };
        writer.write(&batch).map_err(|e| self.fail(&e))?;
        self.open_rows += batch.num_rows();
        self.group_bytes += batch.get_array_memory_size();
        if writer.in_progress_rows() == 0 {
            self.group_bytes = 0;
        } else if self.group_bytes >= ROW_GROUP_BYTES {
            writer.flush().map_err(|e| self.fail(&e))?;
            self.group_bytes = 0;
        }
        let bytes = writer.bytes_written() + writer.in_progress_size();
        self.charge.set(writer.bytes_written() + writer.memory_size());
        self.open = Some(writer);
        if self.open_rows >= FILE_ROWS || bytes >= FILE_BYTES { self.close().await } else { Ok(()) }
    }
    async fn close(&mut self) -> Result<(), ViewError> {
        let Some(mut writer) = self.open.take() else { return Ok(()) };
        let metadata = writer.finish().map_err(|e| self.fail(&e))?;
        let payload = std::mem::take(writer.inner_mut()).into_payload();
        drop(writer);
        let file = TableFile {
            name: format!("part-{}.parquet", uuid::Uuid::now_v7()),
            bytes: payload.content_length() as u64,
            rows: std::mem::take(&mut self.open_rows),
            stats: stats::of(&metadata),
        };
        self.group_bytes = 0;
        let path = self.place.file(&file.name);
        self.charge.set(payload.content_length());
        self.place.views.put(&path, payload).await.map_err(|e| self.fail(&e))?;
        self.charge.set(0);
        self.done.push(file);
        Ok(())
    }
    /// Closes the last file and answers all. After an error nothing is left of them.
    pub async fn finish(mut self, written: Result<(), ViewError>) -> Result<Vec<TableFile>, ViewError> {
        let closed = match written {
            Ok(()) => self.close().await,
            Err(error) => Err(error),
        };
        if closed.is_err() {
            discard(&self.place, &self.done).await;
        }
        closed.map(|()| self.done)
    }
}

/// Deletes files that no version of a table names.
pub async fn discard(place: &TablePlace, files: &[TableFile]) {
    for file in files {
        // What stays is swept when the view is opened again.
        let _ = place.views.delete(&place.file(&file.name)).await;
    }
}

/// Bytes in blocks.
#[derive(Default)]
struct Blocks {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Blocks {
    fn into_payload(mut self) -> PutPayload {
        self.full.push(self.open.into());
        self.full.into_iter().collect()
    }
}

impl std::io::Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.open.len() + bytes.len() > BLOCK_BYTES && !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open).into());
        }
        self.open.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array, Int64Array};

    use super::*;
    use crate::view::columns::deleted_schema;
    use crate::view::place::Place;

    /// Rows of the table of deleted keys, with keys of about one MiB.
    fn batch(keys: &[String]) -> RecordBatch {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(vec![text; keys.len()])) };
        let number: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
        let columns: Vec<ArrayRef> = vec![
            text("crm"),
            text("orders"),
            Arc::new(StringArray::from_iter_values(keys)),
            text("i1"),
            number.clone(),
            number,
            Arc::new(Int32Array::from_iter_values(vec![0; keys.len()])),
        ];
        RecordBatch::try_new(deleted_schema(), columns).unwrap()
    }

    fn place(folder: &std::path::Path) -> TablePlace {
        let name = schemas::EntityName::new("orders").unwrap();
        Place::local(folder).unwrap().table(schemas::TenantId::from_bytes([1; 16]), &name)
    }

    #[tokio::test]
    async fn large_values_are_read_a_few_at_a_time_even_when_a_dictionary_hid_them() {
        let folder = tempfile::tempdir().unwrap();
        let (place, memory) = (place(folder.path()), Memory::default());
        let mut writer = PartWriter::new(place.clone(), deleted_schema(), &memory);
        let keys = vec!["k".repeat(900 << 10); 10];
        for _ in 0..15 {
            writer.write(&batch(&keys)).await.unwrap();
        }
        let files = writer.finish(Ok(())).await.unwrap();
        assert!(files[0].bytes < 8 << 20, "a dictionary or compression made it small: {} bytes", files[0].bytes);
        let mut rows = 0;
        assert_eq!(memory.bytes(), 0);
        for batch in read_file(&place, &files[0], &memory).await.unwrap() {
            let batch = batch.unwrap();
            assert_eq!(memory.bytes() as u64, files[0].bytes, "the file is in memory");
            assert!(batch.num_rows() <= 20, "{} rows of 900 KiB", batch.num_rows());
            rows += batch.num_rows();
        }
        assert_eq!((rows, memory.bytes()), (150, 0));
    }

    #[tokio::test]
    async fn a_file_is_closed_at_so_many_bytes_and_buffers_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (place, memory) = (place(folder.path()), Memory::default());
        let mut writer = PartWriter::new(place.clone(), deleted_schema(), &memory);
        let mut seed = 1u64;
        let mut noise = || -> String {
            let mut word = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed ^ seed >> 31).to_le_bytes()
            };
            (0..131_072).flat_map(|_| word()).map(|byte| char::from(b'0' + byte % 64)).collect()
        };
        for _ in 0..10 {
            let keys: Vec<_> = (0..10).map(|_| noise()).collect();
            writer.write(&batch(&keys)).await.unwrap();
            assert!(memory.bytes() < FILE_BYTES * 3 / 2);
        }
        assert!(memory.bytes() > 1 << 20);
        let files = writer.finish(Ok(())).await.unwrap();
        assert_eq!(memory.bytes(), 0);
        assert!(files.len() > 1, "{} files", files.len());
    }
}
