//! A node of a plan that sees every batch on its way and changes nothing about the plan.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};

/// What is done with the batches.
pub(super) trait Through: fmt::Debug + Send + Sync {
    /// A name for plans.
    fn name(&self) -> &'static str;

    /// The stream that takes the place of a partition's stream: the same rows in the same order, or an error.
    fn stream(&self, input: SendableRecordBatchStream, context: &TaskContext) -> SendableRecordBatchStream;
}

/// A node that passes its input through something.
#[derive(Debug)]
pub(super) struct Tap {
    input: Arc<dyn ExecutionPlan>,
    through: Arc<dyn Through>,
}

impl Tap {
    pub(super) fn over(input: Arc<dyn ExecutionPlan>, through: Arc<dyn Through>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, through })
    }
}

/// How taps are put below a node: they give what they take.
pub(super) fn same_properties() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep)
}

impl DisplayAs for Tap {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.through.name())
    }
}

impl ExecutionPlan for Tap {
    fn name(&self) -> &str {
        self.through.name()
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
            Some(input) if children.is_empty() => Ok(Self::over(input, Arc::clone(&self.through))),
            _ => Err(DataFusionError::Internal("a tap has one input".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(self.through.stream(self.input.execute(partition, Arc::clone(&context))?, &context))
    }
}
