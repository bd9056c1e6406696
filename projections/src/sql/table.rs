//! A pinned view as a table: its Parquet files without their dead rows, and its tail.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{
    FileGroup, FileGroupPartitioner, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use parquet::arrow::RowNumber;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use super::footer::{FooterCache, Reader, lost};
use super::live::LiveRows;
use crate::{FileSnapshot, TailSnapshot, ViewSnapshot};

/// Columns of a scan that no view can have: names of views' columns hold no control characters.
const FILE_COLUMN: &str = "\u{1}file";
const ROW_COLUMN: &str = "\u{1}row";
const LIVE_COLUMN: &str = "\u{1}live";
/// Files below this size are not cut in two for a second thread.
const SPLIT_BYTES_MIN: usize = 256 << 10;
/// Bytes that a batch of rows read from a file may have.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// A view's snapshot in the catalogue of one query.
#[derive(Debug)]
pub(super) struct ViewTable {
    snapshot: Arc<ViewSnapshot>,
    /// The columns as queries see them.
    schema: SchemaRef,
    footers: Arc<FooterCache>,
    /// Under which the query's registry knows the snapshot's store.
    url: ObjectStoreUrl,
}

/// What one query wants of a table.
struct Wanted<'a> {
    state: &'a dyn Session,
    columns: Vec<usize>,
    limit: Option<usize>,
}

impl ViewTable {
    pub(super) fn new(snapshot: Arc<ViewSnapshot>, footers: Arc<FooterCache>, url: ObjectStoreUrl) -> Self {
        let schema = query_schema(&snapshot.schema);
        Self { snapshot, schema, footers, url }
    }

    /// Files without dead rows, read plainly.
    async fn whole_files(&self, wanted: &Wanted<'_>, files: &[&FileSnapshot]) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = files.iter().map(|f| f.rows).sum();
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(rows);
        let parts = files.iter().map(|f| part(f)).collect();
        let scan = self
            .scan_of(wanted.state, TableSchema::builder(self.schema()).build(), parts)
            .with_projection_indices(Some(wanted.columns.clone()))?
            .with_batch_size(self.rows_at_once(wanted, files).await?)
            .with_limit(wanted.limit)
            .with_statistics(statistics)
            .build();
        let columns = Arc::new(self.schema.project(&wanted.columns)?);
        Ok(Arc::new(LiveRows::all(DataSourceExec::from_data_source(scan), columns, rows)))
    }

    /// Files with dead rows, read with file and row numbers so that the dead ones can be left out.
    async fn torn_files(&self, wanted: &Wanted<'_>, files: &[&FileSnapshot]) -> Result<Arc<dyn ExecutionPlan>> {
        let width = self.schema.fields().len();
        let file_column = Field::new(FILE_COLUMN, DataType::UInt32, false);
        let row_column = Field::new(ROW_COLUMN, DataType::Int64, false).with_extension_type(RowNumber);
        let schema = TableSchema::builder(self.schema())
            .with_table_partition_cols(vec![Arc::new(file_column)])
            .with_virtual_columns(vec![Arc::new(row_column)])
            .build();
        let parts = files.iter().zip(0..).map(|(file, i)| {
            let mut part = part(file);
            part.partition_values = vec![ScalarValue::UInt32(Some(i))];
            part
        });
        // Dead rows are still in there.
        let mut statistics = Statistics::new_unknown(schema.table_schema());
        statistics.num_rows = Precision::Inexact(files.iter().map(|f| f.rows).sum());
        let numbered = wanted.columns.iter().copied().chain([width, width + 1]).collect();
        let scan = self
            .scan_of(wanted.state, schema, parts.collect())
            .with_projection_indices(Some(numbered))?
            .with_batch_size(self.rows_at_once(wanted, files).await?)
            .with_statistics(statistics)
            .build();
        let columns = Arc::new(self.schema.project(&wanted.columns)?);
        Ok(Arc::new(LiveRows::of_files(DataSourceExec::from_data_source(scan), columns, files)))
    }

    fn scan_of(&self, state: &dyn Session, schema: TableSchema, parts: Vec<PartitionedFile>) -> FileScanConfigBuilder {
        let (store, footers) = (Arc::clone(&self.snapshot.store), Arc::clone(&self.footers));
        let reader: Arc<dyn ParquetFileReaderFactory> =
            Arc::new(Reader { store, footers, lost: self.snapshot.lost.clone() });
        let source = ParquetSource::new(schema)
            .with_table_parquet_options(state.table_options().parquet.clone())
            .with_parquet_file_reader_factory(reader);
        FileScanConfigBuilder::new(self.url.clone(), Arc::new(source))
            .with_file_groups(split(parts, state.config().target_partitions()))
    }

    /// Rows in a batch, fewer than usual where rows are long; none for as many as usual.
    async fn rows_at_once(&self, wanted: &Wanted<'_>, files: &[&FileSnapshot]) -> Result<Option<usize>> {
        let names: Vec<&str> = wanted.columns.iter().map(|i| self.schema.field(*i).name().as_str()).collect();
        let mut row_bytes = 1;
        for file in files {
            let meta = part(file).object_meta;
            let footer = match self.footers.load(&self.snapshot.store, &meta, PageIndexPolicy::Skip).await {
                Ok(footer) => footer,
                Err(error) => {
                    let expired = lost(&self.snapshot.store, &meta, &self.snapshot.lost).await;
                    return Err(expired.map_or(error, DataFusionError::from));
                }
            };
            row_bytes = row_bytes.max(row_bytes_of(&footer, &names));
        }
        let rows = (BATCH_BYTES_MAX / row_bytes).max(1);
        Ok((rows < wanted.state.config().batch_size()).then_some(rows))
    }

    fn tail(&self, wanted: &Wanted<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = wanted.state.config().target_partitions().max(1);
        let has_dead = self.snapshot.tail.iter().any(|part| !part.dead.is_empty());
        let fields = self.snapshot.schema.project(&wanted.columns)?.fields;
        let marked = has_dead.then(|| Arc::new(Field::new(LIVE_COLUMN, DataType::Boolean, false)));
        let schema = Arc::new(Schema::new(fields.iter().cloned().chain(marked).collect::<Vec<_>>()));
        let mut groups = vec![vec![]; partitions];
        for (i, part) in self.snapshot.tail.iter().enumerate() {
            groups[i % partitions].push(conform(part, &wanted.columns, &schema)?);
        }
        groups.retain(|group| !group.is_empty());
        let scan = MemorySourceConfig::try_new(&groups, schema, None)?.with_show_sizes(false);
        let scan = DataSourceExec::from_data_source(scan);
        // Texts become views above it: batch by batch, on all threads, and only where they are looked at.
        let columns = Arc::new(self.schema.project(&wanted.columns)?);
        Ok(Arc::new(match has_dead {
            true => LiveRows::marked(scan, columns, self.tail_rows()),
            false => LiveRows::all(scan, columns, self.tail_rows()),
        }))
    }

    fn tail_rows(&self) -> usize {
        self.snapshot.tail.iter().map(TailSnapshot::live).sum()
    }
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // The scan takes those that cannot fail once the plan is put together.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        let files: usize = self.snapshot.files.iter().map(|f| f.rows.saturating_sub(f.dead.len())).sum();
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(files + self.tail_rows());
        Some(statistics)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let wanted = Wanted { state, columns, limit };
        let mut inputs = vec![];
        let live = self.snapshot.files.iter().filter(|f| f.dead.len() < f.rows);
        let (whole, torn): (Vec<_>, Vec<_>) = live.partition(|f| f.dead.is_empty());
        if !whole.is_empty() {
            inputs.push(self.whole_files(&wanted, &whole).await?);
        }
        if !torn.is_empty() {
            inputs.push(self.torn_files(&wanted, &torn).await?);
        }
        if self.tail_rows() > 0 {
            inputs.push(self.tail(&wanted)?);
        }
        match inputs.len() {
            0 => Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&wanted.columns)?)))),
            1 => Ok(inputs.remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
}

/// Bytes of a row in the given columns, on average in the row group where that is most.
fn row_bytes_of(footer: &ParquetMetaData, names: &[&str]) -> usize {
    let groups = footer.row_groups().iter().map(|group| {
        let named = |path: &[String]| path.first().is_some_and(|name| names.contains(&name.as_str()));
        let columns = group.columns().iter().filter(|c| named(c.column_path().parts()));
        let bytes: i64 = columns.map(|c| c.uncompressed_size()).sum();
        usize::try_from(bytes / group.num_rows().max(1)).unwrap_or(0)
    });
    groups.max().unwrap_or(0)
}

/// Files in as many groups as there are threads, large files cut at row groups.
fn split(files: Vec<PartitionedFile>, partitions: usize) -> Vec<FileGroup> {
    let whole = vec![FileGroup::new(files)];
    FileGroupPartitioner::new()
        .with_target_partitions(partitions)
        .with_repartition_file_min_size(SPLIT_BYTES_MIN)
        .repartition_file_groups(&whole)
        .unwrap_or(whole)
}

fn part(file: &FileSnapshot) -> PartitionedFile {
    let mut part = PartitionedFile::new(String::new(), file.bytes);
    part.object_meta.location = file.path.clone();
    part
}

/// The view's columns as queries see them: texts as views, which the reader need not copy.
fn query_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// The wanted columns of a part of the tail, last columns that it lacks being null, and which of its rows count if the schema
/// has one column more.
fn conform(part: &TailSnapshot, columns: &[usize], schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = part.batch.num_rows();
    let mut arrays: Vec<ArrayRef> = columns
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match part.batch.columns().get(*column) {
            Some(array) => Arc::clone(array),
            None => new_null_array(field.data_type(), rows),
        })
        .collect();
    if schema.fields().len() > columns.len() {
        arrays.push(Arc::new(BooleanArray::new(part.dead.live(0, rows), None)));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}
