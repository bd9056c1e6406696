//! Stops a running plan from inside: every place where rows may multiply asks whether the query is still wanted.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

use super::QueryError;

/// Bytes of one value made by an aggregate, where a join may copy it into every row.
const CELL_BYTES_MAX: usize = 64 << 10;

/// Whether a query is still wanted.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    time: Duration,
    cancelled: AtomicBool,
}

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self { at: Instant::now() + time, time, cancelled: AtomicBool::new(false) }
    }

    pub(super) fn instant(&self) -> tokio::time::Instant {
        self.at.into()
    }

    pub(super) fn error(&self) -> QueryError {
        QueryError::Timeout(self.time)
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(super) fn check(&self) -> Result<(), QueryError> {
        match self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.at {
            true => Err(self.error()),
            false => Ok(()),
        }
    }
}

/// Puts a check on leaves and on nodes that may give many rows for one.
pub(super) fn watch(plan: Arc<dyn ExecutionPlan>, deadline: &Arc<Deadline>) -> Result<Arc<dyn ExecutionPlan>> {
    let copies = plan.exists(|node| Ok(multiplies(node)))?;
    let watched = plan.transform_up(|node| {
        let cells = copies && node.downcast_ref::<AggregateExec>().is_some();
        if !(cells || node.children().is_empty() || multiplies(&node) || is_window(&node)) {
            return Ok(Transformed::no(node));
        }
        Ok(Transformed::yes(Arc::new(Watched { input: node, deadline: Arc::clone(deadline), cells }) as _))
    })?;
    Ok(watched.data)
}

fn multiplies(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<HashJoinExec>().is_some()
        || node.downcast_ref::<NestedLoopJoinExec>().is_some()
        || node.downcast_ref::<CrossJoinExec>().is_some()
        || node.downcast_ref::<SortMergeJoinExec>().is_some()
        || node.downcast_ref::<UnnestExec>().is_some()
}

fn is_window(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<BoundedWindowAggExec>().is_some() || node.downcast_ref::<WindowAggExec>().is_some()
}

/// A node that passes its input on while the query is wanted.
#[derive(Debug, Clone)]
struct Watched {
    input: Arc<dyn ExecutionPlan>,
    deadline: Arc<Deadline>,
    cells: bool,
}

impl DisplayAs for Watched {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl ExecutionPlan for Watched {
    fn name(&self) -> &str {
        "Watched"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(Self { input, ..Self::clone(&self) })),
            _ => Err(DataFusionError::Internal("a watched node has one input".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let deadline = Arc::clone(&self.deadline);
        Ok(make_cooperative(Box::pin(WatchedStream { input, deadline, cells: self.cells })))
    }
}

struct WatchedStream {
    input: SendableRecordBatchStream,
    deadline: Arc<Deadline>,
    cells: bool,
}

impl Stream for WatchedStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Err(error) = self.deadline.check() {
            return Poll::Ready(Some(Err(error.into())));
        }
        let polled = self.input.poll_next_unpin(cx);
        if self.cells
            && let Poll::Ready(Some(Ok(batch))) = &polled
            && batch.columns().iter().any(|c| longest_cell(c) > CELL_BYTES_MAX)
        {
            let text = format!(
                "a collected text or list has more than {CELL_BYTES_MAX} bytes, too many to be joined to other rows"
            );
            return Poll::Ready(Some(Err(QueryError::Limit(text).into())));
        }
        polled
    }
}

impl RecordBatchStream for WatchedStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

fn longest_cell(column: &dyn Array) -> usize {
    match column.data_type() {
        DataType::Utf8 => longest(column.as_string::<i32>().value_offsets().iter().map(|o| *o as usize)),
        DataType::LargeUtf8 => longest(column.as_string::<i64>().value_offsets().iter().map(|o| *o as usize)),
        // Eight bytes an element stands for what elements take on average.
        DataType::List(_) => 8 * longest(column.as_list::<i32>().value_offsets().iter().map(|o| *o as usize)),
        _ => 0,
    }
}

fn longest(offsets: impl Iterator<Item = usize>) -> usize {
    let mut before = None;
    offsets.map(|o| o - before.replace(o).unwrap_or(o)).max().unwrap_or(0)
}
