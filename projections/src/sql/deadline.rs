//! Stops a running plan from inside: every place where rows may multiply asks whether the query is still wanted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::unnest::UnnestExec;
use futures::{Stream, StreamExt};

use super::QueryError;
use super::tap::{Tap, Through};
use super::windows::is_window;

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
        Ok(Transformed::yes(Tap::over(node, Arc::new(Watch { deadline: Arc::clone(deadline), cells }))))
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

/// Ends a stream when the query is no longer wanted.
#[derive(Debug)]
struct Watch {
    deadline: Arc<Deadline>,
    /// Whether a long value is refused.
    cells: bool,
}

impl Through for Watch {
    fn name(&self) -> &'static str {
        "Watched"
    }

    fn stream(&self, input: SendableRecordBatchStream, _: &TaskContext) -> SendableRecordBatchStream {
        let deadline = Arc::clone(&self.deadline);
        make_cooperative(Box::pin(WatchedStream { input, deadline, cells: self.cells }))
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
