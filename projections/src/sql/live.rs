//! Leaves dead rows out of a scan: by row number, right above the reader.
//!
//! The reader could skip them itself by a row selection, but a selection of scattered rows costs it more than reading
//! them does. Here a batch of consecutive rows needs a slice of the file's bits and one filter. It happens below every
//! filter of the query, so that a dead row cannot even cause an error.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::FilterBuilder;
use arrow::datatypes::{Int64Type, SchemaRef, UInt32Type};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, StatisticsArgs,
};
use futures::StreamExt;

use crate::{FileSnapshot, RowSet};

/// The live rows of a scan whose last two columns are the file's index and the row's number in it. Gives the columns
/// before these.
#[derive(Debug, Clone)]
pub(super) struct LiveRows {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    /// A bit for each row of each file, set where the row counts.
    masks: Arc<Vec<BooleanBuffer>>,
    rows: usize,
}

impl LiveRows {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, files: &[&FileSnapshot]) -> Result<Self> {
        let masks = files.iter().map(|f| live_mask(&f.dead, f.rows)).collect();
        let rows = files.iter().map(|f| f.rows.saturating_sub(f.dead.len())).sum();
        Self::over(input, Arc::new(masks), rows)
    }

    fn over(input: Arc<dyn ExecutionPlan>, masks: Arc<Vec<BooleanBuffer>>, rows: usize) -> Result<Self> {
        let width = input.schema().fields().len().saturating_sub(2);
        let schema = Arc::new(input.schema().project(&(0..width).collect::<Vec<_>>())?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            datafusion::physical_plan::Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Self { input, properties: Arc::new(properties), masks, rows })
    }
}

impl DisplayAs for LiveRows {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("LiveRows")
    }
}

impl ExecutionPlan for LiveRows {
    fn name(&self) -> &str {
        "LiveRows"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(Self::over(input, Arc::clone(&self.masks), self.rows)?)),
            _ => Err(DataFusionError::Internal("live rows have one input".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (schema, masks) = (self.schema(), Arc::clone(&self.masks));
        let batches = input.map(move |batch| live_batch(&batch?, &schema, &masks));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn child_stats_requests(&self, _: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::Skip]
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        if args.partition().is_none() {
            statistics.num_rows = Precision::Exact(self.rows);
        }
        Ok(Arc::new(statistics))
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        // The scan below prunes by them; it never claims to have applied them.
        FilterDescription::from_children(filters, &self.children())
    }
}

/// The rows of a batch that count, without the two last columns.
fn live_batch(batch: &RecordBatch, schema: &SchemaRef, masks: &[BooleanBuffer]) -> Result<RecordBatch> {
    let width = schema.fields().len();
    let (Some(files), Some(rows)) = (
        batch.columns().get(width).and_then(|c| c.as_primitive_opt::<UInt32Type>()),
        batch.columns().get(width + 1).and_then(|c| c.as_primitive_opt::<Int64Type>()),
    ) else {
        return exec_err!("a scan without row numbers");
    };
    let mask = mask_of(files.values(), rows.values(), masks);
    let filter = BooleanArray::new(mask, None);
    let live = filter.true_count();
    let columns = &batch.columns()[..width];
    let columns = match live == batch.num_rows() {
        true => columns.to_vec(),
        false => {
            let filter = match width > 1 {
                true => FilterBuilder::new(&filter).optimize().build(),
                false => FilterBuilder::new(&filter).build(),
            };
            columns.iter().map(|c| filter.filter(c)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let options = RecordBatchOptions::new().with_row_count(Some(live));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn mask_of(files: &[u32], rows: &[i64], masks: &[BooleanBuffer]) -> BooleanBuffer {
    let alive = |file: u32, row: i64| {
        let mask = masks.get(file as usize);
        // A row that the snapshot does not know is not shown.
        mask.is_some_and(|m| usize::try_from(row).is_ok_and(|row| row < m.len() && m.value(row)))
    };
    if let (Some(file), Some(first), Some(last)) = (files.first(), rows.first(), rows.last())
        && files.last() == Some(file)
        && usize::try_from(last - first).is_ok_and(|d| d + 1 == rows.len())
        && let (Some(mask), Ok(first)) = (masks.get(*file as usize), usize::try_from(*first))
        && first + rows.len() <= mask.len()
    {
        return mask.slice(first, rows.len());
    }
    BooleanBuffer::collect_bool(rows.len(), |i| alive(files[i], rows[i]))
}

/// A bit for each row, set where the row is not in the set.
fn live_mask(dead: &RowSet, rows: usize) -> BooleanBuffer {
    let words = dead.words();
    let live: Vec<u64> = (0..rows.div_ceil(64)).map(|i| !words.get(i).copied().unwrap_or(0)).collect();
    BooleanBuffer::new(live.into(), 0, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hold_every_row_that_is_not_dead_for_consecutive_and_for_scattered_rows() {
        let mut dead = RowSet::default();
        for row in (0..1_000).filter(|r| r % 7 == 0 || (130..300).contains(r)) {
            dead.insert(row);
        }
        let masks = [live_mask(&RowSet::default(), 10), live_mask(&dead, 1_100)];
        for step in [1, 3] {
            for first in [0, 1, 63, 64, 65, 500, 998] {
                let rows: Vec<i64> = (first..1_100).step_by(step).collect();
                let mask = mask_of(&vec![1; rows.len()], &rows, &masks);
                for (i, row) in rows.iter().enumerate() {
                    assert_eq!(mask.value(i), !dead.contains(*row as usize), "{first} {row}");
                }
            }
        }
        assert_eq!(
            mask_of(&[0, 0, 1, 1], &[9, 10, 0, 1], &masks).iter().collect::<Vec<_>>(),
            [true, false, false, true]
        );
        assert_eq!(mask_of(&[2], &[0], &masks).count_set_bits(), 0);
    }
}
