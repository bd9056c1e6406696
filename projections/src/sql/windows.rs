//! Counts the rows that window functions keep: an operator that waits for the end of a frame, or of all rows, holds them
//! without asking the memory pool.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use futures::StreamExt;
use parking_lot::Mutex;

use super::tap::{Tap, Through, same_properties};
use super::weight::batch_bytes;

/// A window operator puts the rows it keeps together, so for a moment it has them twice.
const COPIES: usize = 2;

/// Whether a node computes window functions.
pub(super) fn is_window(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<BoundedWindowAggExec>().is_some() || node.downcast_ref::<WindowAggExec>().is_some()
}

/// Counts what goes into each window operator and has not come out.
pub(super) fn count_windows(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let counted = plan.transform_up(|node| {
        if !is_window(&node) {
            return Ok(Transformed::no(node));
        }
        let kept = Arc::new(Kept::default());
        let inputs = node.children().into_iter();
        let inputs = inputs.map(|input| Tap::over(Arc::clone(input), Arc::new(Taken(Arc::clone(&kept))))).collect();
        Ok(Transformed::yes(Tap::over(node.replace_children(inputs, same_properties())?, Arc::new(Given(kept)))))
    })?;
    Ok(counted.data)
}

/// What one operator keeps, all its partitions together.
#[derive(Debug, Default)]
struct Kept(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    taken: usize,
    bytes: usize,
    given: usize,
    /// Lives as long as the plan: the operator lets its input go before it computes.
    reservation: Option<MemoryReservation>,
}

impl Kept {
    fn take(&self, batch: &RecordBatch, pool: &Arc<dyn MemoryPool>) -> Result<()> {
        let mut rows = self.0.lock();
        rows.taken += batch.num_rows();
        rows.bytes = rows.bytes.saturating_add(batch_bytes(batch));
        rows.reserve(pool)
    }

    fn give(&self, batch: &RecordBatch, pool: &Arc<dyn MemoryPool>) -> Result<()> {
        let mut rows = self.0.lock();
        rows.given += batch.num_rows();
        rows.reserve(pool)
    }
}

impl Rows {
    fn reserve(&mut self, pool: &Arc<dyn MemoryPool>) -> Result<()> {
        let kept = self.taken.saturating_sub(self.given);
        let row_bytes = self.bytes / self.taken.max(1);
        let reservation = self.reservation.get_or_insert_with(|| MemoryConsumer::new("window").register(pool));
        reservation.try_resize(kept.saturating_mul(row_bytes).saturating_mul(COPIES))
    }
}

#[derive(Debug)]
struct Taken(Arc<Kept>);

impl Through for Taken {
    fn name(&self) -> &'static str {
        "IntoWindow"
    }

    fn stream(&self, input: SendableRecordBatchStream, context: &TaskContext) -> SendableRecordBatchStream {
        let (kept, pool) = (Arc::clone(&self.0), Arc::clone(context.memory_pool()));
        let schema = input.schema();
        let counted = input.map(move |batch| batch.and_then(|batch| kept.take(&batch, &pool).map(|()| batch)));
        Box::pin(RecordBatchStreamAdapter::new(schema, counted))
    }
}

#[derive(Debug)]
struct Given(Arc<Kept>);

impl Through for Given {
    fn name(&self) -> &'static str {
        "OutOfWindow"
    }

    fn stream(&self, input: SendableRecordBatchStream, context: &TaskContext) -> SendableRecordBatchStream {
        let (kept, pool) = (Arc::clone(&self.0), Arc::clone(context.memory_pool()));
        let schema = input.schema();
        let counted = input.map(move |batch| batch.and_then(|batch| kept.give(&batch, &pool).map(|()| batch)));
        Box::pin(RecordBatchStreamAdapter::new(schema, counted))
    }
}
