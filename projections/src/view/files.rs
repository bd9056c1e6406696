//! Parquet files of a view: written from batches, read back for the key index.

use std::sync::Arc;

use arrow::array::{Array, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use object_store::{ObjectStoreExt as _, PutPayload};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::columns::{EXTRAS, INDEXED, KEY, ORIGIN, POSITION, VERSION};
use super::error::ViewError;
use super::index::{Loc, OrderKey};
use super::place::TablePlace;
use super::row::read_version;
use super::stats;
use super::table::TableFile;

/// A file is closed at so many rows: small enough that an update rewrites little, large enough to scan well.
pub const FILE_ROWS: usize = 128 << 10;
const ROW_GROUP_ROWS: usize = 64 << 10;
const READ_ROWS: usize = 8192;

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
pub struct Keys<'a> {
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
    /// The key columns of `batch`.
    pub fn of(batch: &'a RecordBatch, table: &str) -> Result<Self, ViewError> {
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
    pub fn hash(&mut self, row: usize) -> u128 {
        let (connection, stream) = (self.connection.value(row), self.stream.value(row));
        let same = self.last.is_some_and(|l| self.connection.value(l) == connection && self.stream.value(l) == stream);
        if !same {
            self.hasher.set_stream(connection, stream);
        }
        self.last = Some(row);
        self.hasher.hash(self.key.value(row))
    }
}

/// Reads a file's key and order columns, or those of the table of deleted keys, row by row. Answers the rows.
pub async fn read_keys(
    place: &TablePlace,
    file: &TableFile,
    mut each: impl FnMut(usize, u128, OrderKey),
) -> Result<usize, ViewError> {
    let table = place.name();
    let mut rows = 0;
    for batch in read_columns(place, file, Some(&INDEXED)).await? {
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

/// Reads a whole file, batch by batch.
pub async fn read_file(
    place: &TablePlace,
    file: &TableFile,
) -> Result<impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>>, ViewError> {
    read_columns(place, file, None).await
}

async fn read_columns(
    place: &TablePlace,
    file: &TableFile,
    columns: Option<&[&str]>,
) -> Result<impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>>, ViewError> {
    let fail = |e: &(dyn std::error::Error + 'static)| ViewError::io(place.name(), e);
    let got = place.views.get(&place.file(&file.name)).await.map_err(|e| fail(&e))?;
    let bytes = got.bytes().await.map_err(|e| fail(&e))?;
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| fail(&e))?;
    if let Some(columns) = columns {
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder = builder.with_projection(mask);
    }
    builder.with_batch_size(READ_ROWS).build().map_err(|e| fail(&e))
}

/// A file that was written, and where each of its rows was before.
#[derive(Debug)]
pub struct Part {
    /// The file.
    pub file: TableFile,
    /// Key hash and former place of each row.
    pub rows: Vec<(u128, Loc)>,
}

/// Writes rows into as many files as it takes. A file is durable once it is in the list.
pub struct PartWriter {
    place: TablePlace,
    schema: SchemaRef,
    properties: WriterProperties,
    open: Option<ArrowWriter<Vec<u8>>>,
    rows: Vec<(u128, Loc)>,
    open_rows: usize,
    done: Vec<Part>,
}

impl PartWriter {
    /// Nothing written yet.
    pub fn new(place: TablePlace, schema: SchemaRef) -> Self {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by(format!("autonomos {}", env!("CARGO_PKG_VERSION")));
        // Nearly every value is another one: a dictionary costs time and saves nothing.
        for unique in [KEY, VERSION, ORIGIN, POSITION] {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(unique), false);
        }
        // Nobody looks for a range of these.
        for unsought in [EXTRAS, VERSION] {
            let column = ColumnPath::from(unsought);
            properties = properties.set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let (rows, done) = (Vec::new(), Vec::new());
        Self { place, schema, properties: properties.build(), open: None, rows, open_rows: 0, done }
    }
    fn fail(&self, error: &(dyn std::error::Error + 'static)) -> ViewError {
        ViewError::io(self.place.name(), error)
    }
    /// Writes a batch; `rows` says which key each row has and where it was.
    pub async fn write(
        &mut self,
        batch: &RecordBatch,
        rows: impl IntoIterator<Item = (u128, Loc)>,
    ) -> Result<(), ViewError> {
        let batch = super::columns::conform(batch, &self.schema).map_err(|e| self.fail(&e))?;
        let mut writer = match self.open.take() {
            Some(writer) => writer,
            None => ArrowWriter::try_new(Vec::new(), self.schema.clone(), Some(self.properties.clone()))
                .map_err(|e| self.fail(&e))?,
        };
        writer.write(&batch).map_err(|e| self.fail(&e))?;
        self.open = Some(writer);
        self.rows.extend(rows);
        self.open_rows += batch.num_rows();
        if self.open_rows >= FILE_ROWS { self.close().await } else { Ok(()) }
    }
    async fn close(&mut self) -> Result<(), ViewError> {
        let Some(mut writer) = self.open.take() else { return Ok(()) };
        let metadata = writer.finish().map_err(|e| self.fail(&e))?;
        let bytes = std::mem::take(writer.inner_mut());
        let file = TableFile {
            name: format!("part-{}.parquet", uuid::Uuid::now_v7()),
            bytes: bytes.len() as u64,
            rows: self.open_rows,
            stats: stats::of(&metadata),
        };
        self.open_rows = 0;
        let path = self.place.file(&file.name);
        self.place.views.put(&path, PutPayload::from(bytes)).await.map_err(|e| self.fail(&e))?;
        self.done.push(Part { file, rows: std::mem::take(&mut self.rows) });
        Ok(())
    }
    /// Closes the last file and answers all.
    pub async fn finish(mut self) -> Result<Vec<Part>, ViewError> {
        self.close().await?;
        Ok(self.done)
    }
}
