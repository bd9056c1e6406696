//! Hands rows to the operators that compute with them in portions of which they cannot make too much.
//!
//! An operator computes all its expressions over a whole batch: 8,192 rows with a text of 4 KB in each of two thousand
//! columns are 64 GB before anybody could count them. So what its expressions make of a row is estimated here from the
//! plan, and a batch that would come to too much is cut before it gets there.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use futures::{StreamExt, TryStreamExt, stream};

use super::QueryError;
use super::bounded::CASE_BYTES;
use super::functions;
use super::tap::{Tap, Through, same_properties};
use super::weight::{batch_bytes, content_bytes, elements};

/// Bytes that an operator's expressions may make of one portion.
const PORTION_BYTES_MAX: usize = 64 << 20;
/// Bytes that a row takes in each column besides texts and lists.
const CELL_BYTES: usize = 16;

/// Puts a divider below every operator whose expressions make texts or lists, of which one call may make so much.
pub(super) fn divide(plan: Arc<dyn ExecutionPlan>, call_bytes_max: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let divided = plan.transform_up(|node| {
        let Some(weight) = Weight::of(&node)? else { return Ok(Transformed::no(node)) };
        let divider = Arc::new(Divider { weight, call_bytes_max });
        let inputs = node.children().into_iter();
        let inputs = inputs.map(|input| Tap::over(Arc::clone(input), Arc::clone(&divider) as _)).collect();
        Ok(Transformed::yes(node.replace_children(inputs, same_properties())?))
    })?;
    Ok(divided.data)
}

/// Calls in a plan that make texts or lists.
pub(super) fn growing_calls(plan: &Arc<dyn ExecutionPlan>) -> Result<usize> {
    let mut calls = 0;
    plan.apply(|node| {
        node.apply_expressions(&mut |root| {
            root.apply(|expr| {
                calls += usize::from(grows(expr));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(calls)
}

fn grows(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| functions::grows(call.fun()))
}

/// What an operator makes of its rows.
#[derive(Debug, Clone, PartialEq)]
enum Weight {
    /// What its expressions make of each row.
    Computed(Computed),
    /// A row for each element of these columns.
    Unnested { lists: Vec<usize> },
}

impl Weight {
    /// None for an operator that makes no texts or lists.
    fn of(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Self>> {
        if let Some(unnest) = node.downcast_ref::<UnnestExec>() {
            let lists = unnest.list_column_indices().iter().map(|list| list.index_in_input_schema).collect();
            return Ok(Some(Self::Unnested { lists }));
        }
        let inputs = node.children();
        let Some(first) = inputs.first() else { return Ok(None) };
        let schema = first.schema();
        let mut computed = Computed::default();
        if node.downcast_ref::<AggregateExec>().is_some_and(merges) {
            // Its expressions are those of the rows that were aggregated before; it only puts lists together.
            computed.copies = schema.fields().iter().filter(|f| f.data_type().is_nested()).count();
            return Ok((computed != Computed::default()).then_some(Self::Computed(computed)));
        }
        node.apply_expressions(&mut |root| {
            match root.downcast_ref::<Column>() {
                Some(_) if writes_out(node, root, &schema) => computed.copies += 1,
                Some(_) => {}
                None if root.downcast_ref::<Literal>().is_some() => computed.add(root),
                None => computed.add_makers(root, &schema),
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok((computed != Computed::default()).then_some(Self::Computed(computed)))
    }

    /// Bytes that the operator may make of these rows.
    fn bytes(&self, rows: &RecordBatch) -> usize {
        match self {
            Self::Computed(computed) => {
                let copied = batch_bytes(rows).saturating_mul(computed.copies);
                copied.saturating_add(rows.num_rows().saturating_mul(computed.constants))
            }
            Self::Unnested { lists } => {
                let lists = lists.iter().filter_map(|i| rows.columns().get(*i));
                let made = lists.clone().map(|list| elements(list)).max().unwrap_or(0);
                let content = lists.map(|list| content_bytes(list)).fold(0, usize::saturating_add);
                made.saturating_mul(CELL_BYTES * rows.num_columns()).saturating_add(content)
            }
        }
    }

    /// What one call makes of these rows where it does not multiply them: a row and a constant for each, recased.
    fn call_bytes(&self, rows: &RecordBatch) -> usize {
        match self {
            Self::Computed(computed) if computed.calls => {
                let constants = rows.num_rows().saturating_mul(computed.largest);
                batch_bytes(rows).saturating_add(constants).saturating_mul(CASE_BYTES)
            }
            _ => 0,
        }
    }
}

/// What is put below an operator: what that makes of its rows, and what one call in it may make.
#[derive(Debug)]
struct Divider {
    weight: Weight,
    call_bytes_max: usize,
}

impl Divider {
    fn is_too_much(&self, rows: &RecordBatch) -> bool {
        self.weight.bytes(rows) > PORTION_BYTES_MAX
            || rows.num_rows() > 1 && self.weight.call_bytes(rows) > self.call_bytes_max
    }
}

/// So many copies of a row, and constants of so many bytes beside each.
#[derive(Debug, Clone, Default, PartialEq)]
struct Computed {
    copies: usize,
    constants: usize,
    /// Bytes of the largest constant.
    largest: usize,
    /// Whether functions make texts or lists in it.
    calls: bool,
}

impl Computed {
    /// Adds the expressions in a tree that make texts or lists, each with all that is below it.
    fn add_makers(&mut self, expr: &Arc<dyn PhysicalExpr>, schema: &Schema) {
        let leaf = expr.children().is_empty();
        match made(expr, schema) {
            Some(_) if !leaf => self.add(expr),
            _ => expr.children().into_iter().for_each(|child| self.add_makers(child, schema)),
        }
    }

    fn add(&mut self, expr: &Arc<dyn PhysicalExpr>) {
        match expr.downcast_ref::<Literal>() {
            Some(literal) => {
                self.constants += literal.value().size();
                self.largest = self.largest.max(literal.value().size());
            }
            None => self.copies += 1,
        }
        self.calls |= grows(expr);
        expr.children().into_iter().for_each(|child| self.add(child));
    }
}

/// Whether an aggregation takes what others have aggregated.
fn merges(aggregate: &AggregateExec) -> bool {
    use AggregateMode::{Final, FinalPartitioned, PartialReduce};
    matches!(aggregate.mode(), Final | FinalPartitioned | PartialReduce)
}

/// Whether an operator writes the values of a column out once more: a sort its keys, an aggregation its lists.
fn writes_out(node: &Arc<dyn ExecutionPlan>, column: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    match made(column, schema) {
        Some(_) if node.downcast_ref::<SortExec>().is_some() => true,
        Some(made) => made.is_nested() && node.downcast_ref::<AggregateExec>().is_some(),
        None => false,
    }
}

/// The type of what an expression makes, if that is a text or a list.
fn made(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<DataType> {
    // The filter of a join is about columns of both inputs; what it makes is not looked at here.
    let made = expr.data_type(schema).ok()?;
    (!made.is_primitive() && made != DataType::Boolean && made != DataType::Null).then_some(made)
}

/// Rows that would come to too much are cut in two until they do not.
fn cut(batch: RecordBatch, divider: &Divider) -> Result<Vec<RecordBatch>> {
    let (mut left, mut portions) = (vec![batch], vec![]);
    while let Some(rows) = left.pop() {
        let count = rows.num_rows();
        if !divider.is_too_much(&rows) {
            portions.push(rows);
        } else if count > 1 {
            left.push(rows.slice(count / 2, count - count / 2));
            left.push(rows.slice(0, count / 2));
        } else {
            let text = format!(
                "the statement may make more than {PORTION_BYTES_MAX} bytes of one row: compute fewer texts or lists"
            );
            return Err(QueryError::Limit(text).into());
        }
    }
    Ok(portions)
}

impl Through for Divider {
    fn name(&self) -> &'static str {
        "Portions"
    }

    fn stream(&self, input: SendableRecordBatchStream, _: &TaskContext) -> SendableRecordBatchStream {
        let schema = input.schema();
        let divider = Self { weight: self.weight.clone(), call_bytes_max: self.call_bytes_max };
        let portions = input.map(move |batch| cut(batch?, &divider).map(|cut| stream::iter(cut).map(Ok))).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema, portions))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn rows(count: usize, bytes: usize) -> RecordBatch {
        let texts = StringArray::from_iter_values((0..count).map(|_| "x".repeat(bytes)));
        let ids = Int64Array::from_iter_values(0..count as i64);
        RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("text", Arc::new(texts) as _)]).unwrap()
    }

    fn divider(computed: Computed) -> Divider {
        Divider { weight: Weight::Computed(computed), call_bytes_max: 1 << 20 }
    }

    #[test]
    fn a_batch_is_cut_so_that_no_portion_comes_to_too_much_and_keeps_its_order() {
        let heavy = divider(Computed { copies: 1_000, constants: 4_000, ..Computed::default() });
        let batch = rows(8_192, 100);
        let portions = cut(batch.clone(), &heavy).unwrap();
        assert!(portions.len() > 10 && portions.iter().all(|p| !heavy.is_too_much(p)));
        assert_eq!(arrow::compute::concat_batches(&batch.schema(), &portions).unwrap(), batch);
        let light = divider(Computed { copies: 2, constants: 10, ..Computed::default() });
        assert_eq!(cut(batch, &light).unwrap().len(), 1);
    }

    #[test]
    fn a_batch_is_cut_so_that_a_call_that_keeps_its_rows_small_is_not_refused() {
        let calls = divider(Computed { copies: 2, constants: 4_000, largest: 4_000, calls: true });
        let portions = cut(rows(8_192, 100), &calls).unwrap();
        assert!(portions.len() > 64 && portions.iter().all(|p| p.num_rows() * 4_100 * CASE_BYTES <= 1 << 20));
        // One row is for the call itself to refuse.
        assert_eq!(cut(rows(1, 1 << 20), &calls).unwrap().len(), 1);
    }

    #[test]
    fn one_row_that_comes_to_too_much_is_refused() {
        let heavy = divider(Computed { copies: 1_000, ..Computed::default() });
        assert!(cut(rows(2, 1 << 20), &heavy).is_err());
    }
}
