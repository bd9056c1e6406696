//! Checks on the logical plan: an allow list of node kinds, expressions and functions, and how far expressions grow.
//!
//! The optimizer may replace a column by the expression that computes it. Forty nested queries that each add a column to
//! itself would become 2^40 nodes, so what every column would come to is counted here before the optimizer runs.

use std::collections::HashSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition};

use super::super::{QueryError, functions};
use super::*;

/// Refuses a plan that holds anything but reading nodes over the given tables and the allowed functions.
pub(in super::super) fn check_plan(plan: &LogicalPlan, tables: &HashSet<String>) -> Result<(), QueryError> {
    Check { tables, nodes: 0, columns: 0 }.columns(plan).map(|_| ())
}

struct Check<'a> {
    tables: &'a HashSet<String>,
    /// Expression nodes so far, columns written out.
    nodes: u64,
    /// Columns of all nodes so far.
    columns: u64,
}

impl Check<'_> {
    /// Checks a node and what is below it, and gives the written-out size of each of its columns.
    fn columns(&mut self, plan: &LogicalPlan) -> Result<Vec<u64>, QueryError> {
        let width = plan.schema().fields().len();
        self.columns = self.columns.saturating_add(width as u64);
        if self.columns > PLAN_COLUMNS_MAX {
            return Err(syntax::too_wide());
        }
        match plan {
            LogicalPlan::TableScan(scan) => {
                if !self.tables.contains(scan.table_name.table()) {
                    return Err(QueryError::Invalid(format!("table '{}' not found", scan.table_name.table())));
                }
                self.expressions(plan, &DFSchema::empty(), &[])?;
                Ok(vec![1; width])
            }
            LogicalPlan::EmptyRelation(_) | LogicalPlan::DescribeTable(_) => Ok(vec![1; width]),
            LogicalPlan::Values(_) => {
                self.expressions(plan, &DFSchema::empty(), &[])?;
                Ok(vec![1; width])
            }
            LogicalPlan::Projection(node) => {
                let below = self.columns(&node.input)?;
                node.expr.iter().map(|e| self.expression(e, node.input.schema(), &below)).collect()
            }
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Union(_) => self.passing(plan, width),
            LogicalPlan::Subquery(node) => self.columns(&node.subquery),
            other => Err(QueryError::Forbidden(format!("{} is not allowed in a query", kind(other)))),
        }
    }

    /// A node whose columns come from its inputs, or are computed once in it.
    fn passing(&mut self, plan: &LogicalPlan, width: usize) -> Result<Vec<u64>, QueryError> {
        let inputs = plan.inputs();
        let mut schema = DFSchema::empty();
        let mut below = vec![];
        for (i, input) in inputs.iter().enumerate() {
            let columns = self.columns(input)?;
            match plan {
                // Each column of a union is one of its inputs' columns: the largest counts.
                LogicalPlan::Union(_) if i > 0 => {
                    for (known, new) in below.iter_mut().zip(columns) {
                        *known = new.max(*known);
                    }
                }
                _ => below.extend(columns),
            }
            schema.merge(input.schema());
        }
        self.expressions(plan, &schema, &below)?;
        let largest = below.iter().copied().max().unwrap_or(1);
        Ok(match plan {
            LogicalPlan::Window(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Distinct(_) => {
                below.resize(width, 1);
                below
            }
            LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) if below.len() == width => below,
            LogicalPlan::Union(_) if below.len() == width => below,
            _ => vec![largest; width],
        })
    }

    fn expressions(&mut self, plan: &LogicalPlan, schema: &DFSchema, below: &[u64]) -> Result<(), QueryError> {
        let mut result = Ok(());
        plan.apply_expressions(|e| {
            Ok(match self.expression(e, schema, below) {
                Ok(_) => TreeNodeRecursion::Continue,
                Err(error) => {
                    result = Err(error);
                    TreeNodeRecursion::Stop
                }
            })
        })
        .map_err(QueryError::planning)?;
        result
    }

    /// Checks an expression, and gives its size with every column written out.
    fn expression(&mut self, expr: &Expr, schema: &DFSchema, below: &[u64]) -> Result<u64, QueryError> {
        let size = self.written_out(expr, schema, below)?;
        self.nodes = self.nodes.saturating_add(size);
        match self.nodes > EXPRESSION_NODES_MAX {
            true => Err(QueryError::Limit(
                "the statement computes expressions from expressions too many times over: split it".into(),
            )),
            false => Ok(size),
        }
    }

    fn written_out(&mut self, expr: &Expr, schema: &DFSchema, below: &[u64]) -> Result<u64, QueryError> {
        self.node(expr)?;
        let mut size = match expr {
            Expr::Column(column) => size_of(column, schema, below),
            _ => 1,
        };
        let mut place = 0;
        expr.apply_children(|child| {
            let inner = self.written_out(child, schema, below).map_err(DataFusionError::from)?;
            size = size.saturating_add(inner.saturating_mul(copies::of(expr, place)));
            place += 1;
            Ok(TreeNodeRecursion::Continue)
        })
        .map_err(QueryError::planning)?;
        Ok(size)
    }

    fn node(&mut self, expr: &Expr) -> Result<(), QueryError> {
        match expr {
            Expr::Alias(_)
            | Expr::Column(_)
            | Expr::Literal(..)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::InList(_)
            | Expr::GroupingSet(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Unnest(_) => Ok(()),
            Expr::Cast(e) => types::check(e.field.data_type()),
            Expr::TryCast(e) => types::check(e.field.data_type()),
            Expr::Like(e) => patterns::check_like(&e.pattern),
            Expr::SimilarTo(e) => patterns::check_regex(&e.pattern, None),
            Expr::BinaryExpr(e) => patterns::check_operator(e),
            Expr::ScalarFunction(f) if functions::allows_scalar(&f.func) => patterns::check_function(f),
            Expr::ScalarFunction(f) => Err(not_allowed(f.func.name())),
            Expr::AggregateFunction(f) if functions::allows_aggregate(&f.func) => Ok(()),
            Expr::AggregateFunction(f) => Err(not_allowed(f.func.name())),
            Expr::WindowFunction(f) => {
                let allowed = match &f.fun {
                    WindowFunctionDefinition::AggregateUDF(f) => functions::allows_aggregate_over_window(f),
                    WindowFunctionDefinition::WindowUDF(f) => functions::allows_window(f),
                };
                if allowed { Ok(()) } else { Err(not_allowed(&format!("{} over a window", f.fun.name()))) }
            }
            Expr::Exists(e) => self.columns(&e.subquery.subquery).map(|_| ()),
            Expr::InSubquery(e) => self.columns(&e.subquery.subquery).map(|_| ()),
            Expr::SetComparison(e) => self.columns(&e.subquery.subquery).map(|_| ()),
            Expr::ScalarSubquery(e) => self.columns(&e.subquery).map(|_| ()),
            Expr::ScalarVariable(..) => Err(not_allowed("a variable")),
            Expr::Placeholder(_) => Err(QueryError::Invalid("parameters are not known: write the value".into())),
            _ => Err(not_allowed("this expression")),
        }
    }
}

fn size_of(column: &Column, schema: &DFSchema, below: &[u64]) -> u64 {
    let known = schema.maybe_index_of_column(column).and_then(|i| below.get(i).copied());
    known.unwrap_or_else(|| below.iter().copied().max().unwrap_or(1))
}

pub(super) fn not_allowed(what: &str) -> QueryError {
    QueryError::Forbidden(format!("{what} is not allowed in a query"))
}

fn kind(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Dml(_) => "changing rows",
        LogicalPlan::Ddl(_) => "CREATE or DROP",
        LogicalPlan::Copy(_) => "COPY",
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => "EXPLAIN",
        LogicalPlan::RecursiveQuery(_) => "WITH RECURSIVE",
        LogicalPlan::Repartition(_) => "DISTRIBUTE BY",
        _ => "this statement",
    }
}
