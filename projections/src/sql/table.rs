//! A pinned view as a table: its Parquet files without their dead rows, and its tail.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
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
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use parquet::arrow::RowNumber;

use super::footer::{FooterCache, Reader};
use super::live::LiveRows;
use crate::{FileSnapshot, ViewSnapshot};

/// Columns of a scan that no view can have: names of views' columns hold no control characters.
const FILE_COLUMN: &str = "\u{1}file";
const ROW_COLUMN: &str = "\u{1}row";
/// Files below this size are not cut in two for a second thread.
const SPLIT_BYTES_MIN: usize = 256 << 10;

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

impl ViewTable {
    pub(super) fn new(snapshot: Arc<ViewSnapshot>, footers: Arc<FooterCache>, url: ObjectStoreUrl) -> Self {
        let schema = query_schema(&snapshot.schema);
        Self { snapshot, schema, footers, url }
    }

    /// Files without dead rows, read plainly.
    fn whole_files(
        &self,
        state: &dyn Session,
        files: &[&FileSnapshot],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(files.iter().map(|f| f.rows).sum());
        let scan = self
            .scan_of(state, TableSchema::builder(self.schema()).build(), files.iter().map(|f| part(f)).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_statistics(statistics)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    /// Files with dead rows, read with file and row numbers so that the dead ones can be left out.
    fn torn_files(
        &self,
        state: &dyn Session,
        files: &[&FileSnapshot],
        projection: Option<&Vec<usize>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
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
        let mut columns = projection.cloned().unwrap_or_else(|| (0..width).collect());
        columns.extend([width, width + 1]);
        let scan = self.scan_of(state, schema.clone(), parts.collect()).with_projection_indices(Some(columns))?;
        // Dead rows are still in there.
        let mut statistics = Statistics::new_unknown(schema.table_schema());
        statistics.num_rows = Precision::Inexact(files.iter().map(|f| f.rows).sum());
        let scan = scan.with_statistics(statistics).build();
        Ok(Arc::new(LiveRows::new(DataSourceExec::from_data_source(scan), files)?))
    }

    fn scan_of(&self, state: &dyn Session, schema: TableSchema, parts: Vec<PartitionedFile>) -> FileScanConfigBuilder {
        let reader = Reader { store: Arc::clone(&self.snapshot.store), footers: Arc::clone(&self.footers) };
        let reader: Arc<dyn ParquetFileReaderFactory> = Arc::new(reader);
        let source = ParquetSource::new(schema)
            .with_table_parquet_options(state.table_options().parquet.clone())
            .with_parquet_file_reader_factory(reader);
        FileScanConfigBuilder::new(self.url.clone(), Arc::new(source))
            .with_file_groups(split(parts, state.config().target_partitions()))
    }

    fn tail(&self, projection: Option<&Vec<usize>>, partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&columns)?);
        let mut groups = vec![vec![]; partitions.max(1)];
        for (i, batch) in self.snapshot.tail.iter().enumerate() {
            groups[i % partitions.max(1)].push(conform(batch, &columns, &schema)?);
        }
        groups.retain(|group| !group.is_empty());
        let scan = MemorySourceConfig::try_new(&groups, schema, None)?;
        Ok(DataSourceExec::from_data_source(scan.with_show_sizes(false)))
    }

    fn tail_rows(&self) -> usize {
        self.snapshot.tail.iter().map(RecordBatch::num_rows).sum()
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
        // Statistics leave out row groups and pages; the filter itself stays above the scan.
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
        let mut inputs = vec![];
        let live = self.snapshot.files.iter().filter(|f| f.dead.len() < f.rows);
        let (whole, torn): (Vec<_>, Vec<_>) = live.partition(|f| f.dead.is_empty());
        if !whole.is_empty() {
            inputs.push(self.whole_files(state, &whole, projection, limit)?);
        }
        if !torn.is_empty() {
            inputs.push(self.torn_files(state, &torn, projection)?);
        }
        if self.tail_rows() > 0 {
            inputs.push(self.tail(projection, state.config().target_partitions())?);
        }
        match inputs.len() {
            0 => {
                let schema = match projection {
                    Some(columns) => Arc::new(self.schema.project(columns)?),
                    None => self.schema(),
                };
                Ok(Arc::new(EmptyExec::new(schema)))
            }
            1 => Ok(inputs.remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
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

/// The wanted columns of a batch of the tail, as queries see them: last columns that the batch lacks are null.
fn conform(batch: &RecordBatch, columns: &[usize], schema: &SchemaRef) -> Result<RecordBatch> {
    let mut arrays = Vec::with_capacity(columns.len());
    for (column, field) in columns.iter().zip(schema.fields()) {
        arrays.push(match batch.columns().get(*column) {
            Some(array) if array.data_type() == field.data_type() => Arc::clone(array),
            Some(array) => cast(array, field.data_type())?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}
