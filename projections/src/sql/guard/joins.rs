//! Checks on the physical plan: joins that compare every row with every row.
//!
//! Such a join runs for seconds between two points where it could be stopped, so the time limit alone does not hold it.

use std::sync::Arc;

use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};

use super::super::QueryError;
use super::JOIN_PAIRS_MAX;

/// Elements that a list is taken to have where it is made into rows.
const LIST_LENGTH: f64 = 100.0;

/// Refuses joins without an equality whose inputs may have more pairs of rows than a query has time for.
pub(in super::super) fn check_joins(plan: &Arc<dyn ExecutionPlan>) -> Result<(), QueryError> {
    rows_max(plan).map(|_| ())
}

/// Rows that a node may give. Joins by equality are taken to match each row once: they can be stopped while running.
fn rows_max(plan: &Arc<dyn ExecutionPlan>) -> Result<f64, QueryError> {
    let mut inputs = vec![];
    for child in plan.children() {
        inputs.push(rows_max(child)?);
    }
    let rows = match inputs.as_slice() {
        [] => known_rows(plan),
        [one] if plan.downcast_ref::<UnnestExec>().is_some() => one * LIST_LENGTH,
        [_] if ungrouped(plan) => 1.0,
        [one] => *one,
        many if plan.downcast_ref::<UnionExec>().is_some() => many.iter().sum(),
        [left, right] if compares_all(plan) => {
            let pairs = left * right;
            if pairs > JOIN_PAIRS_MAX {
                return Err(QueryError::Limit(format!(
                    "a join without an equality would compare {left:.0} with {right:.0} rows, {JOIN_PAIRS_MAX:.0} pairs \
                     are allowed: add a condition such as ON a.x = b.x, or aggregate first"
                )));
            }
            pairs
        }
        many => many.iter().sum(),
    };
    Ok(plan.fetch().map_or(rows, |limit| rows.min(limit as f64)))
}

fn compares_all(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<CrossJoinExec>().is_some()
        || plan.downcast_ref::<NestedLoopJoinExec>().is_some()
        || plan.downcast_ref::<PiecewiseMergeJoinExec>().is_some()
}

fn ungrouped(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<AggregateExec>().is_some_and(|a| a.group_expr().is_empty())
}

fn known_rows(plan: &Arc<dyn ExecutionPlan>) -> f64 {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::default());
    // A leaf without statistics is none of ours; it is taken to be large.
    statistics.ok().and_then(|s| s.num_rows.get_value().copied()).map_or(1e6, |rows| rows as f64)
}
