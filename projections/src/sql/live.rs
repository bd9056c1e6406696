//! The rows of a view that count and that a query wants, right above what reads them.
//!
//! The reader could skip dead rows itself by a row selection, but a selection of scattered rows costs it more than
//! reading them does. Here a batch of consecutive rows needs a slice of the file's bits. The query's filter is put to the
//! same rows, so that what is gathered is gathered once; but only a filter that cannot fail, since a dead row must not
//! even cause an error. Columns that only the filter names are never gathered.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int64Type, SchemaRef, UInt32Type};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Statistics, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, conjunction};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, StatisticsArgs,
};

use super::pick::{Picker, picked};
use super::total::is_total;
use crate::FileSnapshot;

/// The rows of a scan that count and match, in the columns that the query asks for.
#[derive(Debug, Clone)]
pub(super) struct LiveRows {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    /// The first columns of the input, in the types that queries see.
    columns: SchemaRef,
    masks: Option<Masks>,
    /// Rows that count.
    rows: usize,
    /// What a row must match, over `columns`.
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Which of `columns` are given.
    given: Vec<usize>,
}

/// Which rows of a batch count.
#[derive(Debug, Clone)]
pub(super) enum Masks {
    /// A bit for each row of each file, set where the row counts.
    Files {
        /// The files' bits.
        files: Arc<Vec<BooleanBuffer>>,
        /// The column of the input with the file's index; the row's number follows.
        column: usize,
    },
    /// The column of the input that says it itself.
    Column(usize),
}

impl LiveRows {
    /// All rows of an input, of which there are so many.
    pub(super) fn all(input: Arc<dyn ExecutionPlan>, columns: SchemaRef, rows: usize) -> Self {
        Self::new(input, columns, None, rows)
    }

    /// Rows of files without the dead ones. The file's index and the row's number in it follow the columns of the input.
    pub(super) fn of_files(input: Arc<dyn ExecutionPlan>, columns: SchemaRef, files: &[&FileSnapshot]) -> Self {
        let masks = files.iter().map(|f| f.dead.live(0, f.rows)).collect();
        let masks = Masks::Files { files: Arc::new(masks), column: columns.fields().len() };
        let rows = files.iter().map(|f| f.rows.saturating_sub(f.dead.len())).sum();
        Self::new(input, columns, Some(masks), rows)
    }

    /// The rows of an input whose last column says which count, of which there are so many.
    pub(super) fn marked(input: Arc<dyn ExecutionPlan>, columns: SchemaRef, rows: usize) -> Self {
        let masks = Masks::Column(columns.fields().len());
        Self::new(input, columns, Some(masks), rows)
    }

    fn new(input: Arc<dyn ExecutionPlan>, columns: SchemaRef, masks: Option<Masks>, rows: usize) -> Self {
        let given = (0..columns.fields().len()).collect();
        let properties = properties(&input, &columns);
        Self { input, properties, columns, masks, rows, predicate: None, given }
    }

    /// These rows in fewer columns, named by their place among those given now.
    fn giving(&self, wanted: &[usize]) -> Result<Self> {
        let given: Vec<usize> = wanted.iter().filter_map(|i| self.given.get(*i).copied()).collect();
        let properties = properties(&self.input, &Arc::new(self.columns.project(&given)?));
        Ok(Self { properties, given, ..self.clone() })
    }

    /// These rows as far as they match; the filters are over the columns given now.
    fn matching(&self, filters: Vec<Arc<dyn PhysicalExpr>>) -> Result<Self> {
        let mut all: Vec<_> = self.predicate.iter().cloned().collect();
        for filter in filters {
            all.push(moved(filter, |i| self.given.get(i).copied())?);
        }
        Ok(Self { predicate: Some(conjunction(all)), ..self.clone() })
    }
}

fn properties(input: &Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(Arc::clone(schema)),
        Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
        input.pipeline_behavior(),
        input.boundedness(),
    ))
}

/// The expression over columns that stand elsewhere.
pub(super) fn moved(expr: Arc<dyn PhysicalExpr>, to: impl Fn(usize) -> Option<usize>) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = expr.transform_up(|e| match e.downcast_ref::<Column>() {
        Some(column) => match to(column.index()) {
            Some(index) => Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as _)),
            None => exec_err!("a filter over a column that is not there"),
        },
        None => Ok(Transformed::no(e)),
    })?;
    Ok(moved.data)
}

impl DisplayAs for LiveRows {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.predicate {
            Some(predicate) => write!(f, "LiveRows: {predicate}"),
            None => f.write_str("LiveRows"),
        }
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
            Some(input) if children.is_empty() => {
                let properties = properties(&input, &self.schema());
                Ok(Arc::new(Self { input, properties, ..Self::clone(&self) }))
            }
            _ => Err(DataFusionError::Internal("live rows have one input".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let picker = Picker::new(&self.columns, &self.given, self.predicate.as_ref(), self.masks.clone())?;
        let picked = picked(input, picker, context.session_config().batch_size());
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), picked)))
    }

    fn child_stats_requests(&self, _: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::Skip]
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = match (args.partition(), &self.predicate) {
            (None, None) => Precision::Exact(self.rows),
            (None, Some(_)) => Precision::Inexact(self.rows),
            _ => Precision::Absent,
        };
        Ok(Arc::new(statistics))
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        // The reader below leaves out row groups and pages by them; it never claims to have applied them.
        FilterDescription::from_children(filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        below: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        // Filters that come to be known while the query runs are for the reader alone.
        if phase != FilterPushdownPhase::Pre {
            return Ok(FilterPushdownPropagation::if_all(below));
        }
        let filters: Vec<_> = below.parent_filters.into_iter().map(|f| f.filter).collect();
        let taken = filters.iter().map(|f| if is_total(f) { PushedDown::Yes } else { PushedDown::No }).collect();
        let total: Vec<_> = filters.into_iter().filter(is_total).collect();
        let propagation = FilterPushdownPropagation::with_parent_pushdown_result(taken);
        match total.is_empty() {
            true => Ok(propagation),
            false => Ok(propagation.with_updated_node(Arc::new(self.matching(total)?))),
        }
    }

    fn try_swapping_with_projection(&self, projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let columns = projection.expr().iter().map(|e| {
            let column = e.expr.downcast_ref::<Column>()?;
            (column.name() == e.alias).then_some(column.index())
        });
        // What is computed, or goes by another name, stays above.
        match columns.collect::<Option<Vec<usize>>>() {
            Some(columns) => Ok(Some(Arc::new(self.giving(&columns)?))),
            None => Ok(None),
        }
    }
}

impl Masks {
    /// A bit for each row of a batch, set where the row counts.
    pub(super) fn of(&self, batch: &RecordBatch) -> Result<BooleanBuffer> {
        let (masks, column) = match self {
            Self::Files { files, column } => (files, *column),
            Self::Column(column) => {
                return match batch.columns().get(*column).and_then(|c| c.as_boolean_opt()) {
                    Some(live) => Ok(live.values().clone()),
                    None => exec_err!("a scan that does not say which rows count"),
                };
            }
        };
        let (Some(files), Some(rows)) = (
            batch.columns().get(column).and_then(|c| c.as_primitive_opt::<UInt32Type>()),
            batch.columns().get(column + 1).and_then(|c| c.as_primitive_opt::<Int64Type>()),
        ) else {
            return exec_err!("a scan without row numbers");
        };
        Ok(mask_of(files.values(), rows.values(), masks))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowSet;

    #[test]
    fn masks_hold_every_row_that_is_not_dead_for_consecutive_and_for_scattered_rows() {
        let mut dead = RowSet::default();
        for row in (0..1_000).filter(|r| r % 7 == 0 || (130..300).contains(r)) {
            dead.insert(row);
        }
        let masks = [RowSet::default().live(0, 10), dead.live(0, 1_100)];
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
