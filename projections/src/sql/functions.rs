//! Which functions there are: a list of names, so that a new engine release adds none by itself.
//!
//! Left out on purpose: what makes rows or bytes out of a number (`range`, `repeat`, `lpad`), what tells about the
//! engine or its files (`version`, `input_file_name`), and what can nest types without end (`struct`, `map`).

use std::sync::{Arc, LazyLock};

use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF, WindowUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::bounded::{Bounded, ConcatOperator, Growth};

/// Functions whose result is about as large as their arguments.
const SCALAR: &[&str] = &[
    // conditions
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "nvl",
    "nvl2",
    // numbers
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "isnan",
    "iszero",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "nanvl",
    "pi",
    "power",
    "radians",
    "random",
    "round",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    // text
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "chr",
    "contains",
    "ends_with",
    "find_in_set",
    "initcap",
    "left",
    "lower",
    "ltrim",
    "octet_length",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "to_hex",
    "upper",
    // time
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "now",
    "to_date",
    "to_local_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    // lists and structs
    "array_any_value",
    "array_distinct",
    "array_element",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_length",
    "array_max",
    "array_min",
    "array_pop_back",
    "array_pop_front",
    "array_position",
    "array_remove",
    "array_remove_all",
    "array_reverse",
    "array_slice",
    "array_sort",
    "cardinality",
    "empty",
    "get_field",
    // types
    "arrow_typeof",
];

/// Functions that put their arguments together.
const JOINING: &[&str] = &[
    "array_append",
    "array_concat",
    "array_prepend",
    "concat",
    "concat_ws",
    "make_array",
    "overlay",
    "string_to_array",
];

/// Functions that put one argument in many places of another.
const SPREADING: &[&str] = &["array_to_string", "regexp_replace", "replace", "to_char", "translate"];

const AGGREGATE: &[&str] = &[
    "any_value",
    "approx_distinct",
    "approx_median",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "median",
    "min",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "var",
    "var_pop",
];

/// Aggregates that take a moving frame row by row; the others would start again, or copy the frame, at every row.
const OVER_WINDOW: &[&str] = &[
    "avg",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "first_value",
    "last_value",
    "max",
    "min",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];

const WINDOW: &[&str] = &[
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];

static SCALAR_FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let all = SessionStateDefaults::default_scalar_functions();
    let mut known: Vec<_> = all.into_iter().filter_map(bounded_or_plain).collect();
    known.push(Arc::new(ScalarUDF::new_from_impl(ConcatOperator::new())));
    known
});

/// The scalar functions, those that grow under a bound.
pub(super) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    SCALAR_FUNCTIONS.clone()
}

/// The aggregate functions.
pub(super) fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let all = SessionStateDefaults::default_aggregate_functions();
    all.into_iter().filter(|f| AGGREGATE.contains(&f.name())).collect()
}

/// The window functions.
pub(super) fn window_functions() -> Vec<Arc<WindowUDF>> {
    let all = SessionStateDefaults::default_window_functions();
    all.into_iter().filter(|f| WINDOW.contains(&f.name())).collect()
}

/// What turns operators into functions: ours first, so that nothing that grows goes around its bound.
pub(super) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    let mut all: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(Operators)];
    all.extend(SessionStateDefaults::default_expr_planners());
    all
}

/// Whether a plan may call a scalar function; one that grows only in its bounded form.
pub(super) fn allows_scalar(function: &ScalarUDF) -> bool {
    match growth(function.name()) {
        Some(_) => function.inner().is::<Bounded>(),
        None => SCALAR.contains(&function.name()) || function.inner().is::<ConcatOperator>(),
    }
}

/// Whether a plan may aggregate with a function.
pub(super) fn allows_aggregate(function: &AggregateUDF) -> bool {
    AGGREGATE.contains(&function.name())
}

/// Whether a plan may aggregate with a function over a window.
pub(super) fn allows_aggregate_over_window(function: &AggregateUDF) -> bool {
    OVER_WINDOW.contains(&function.name())
}

/// Whether a plan may use a window function.
pub(super) fn allows_window(function: &WindowUDF) -> bool {
    WINDOW.contains(&function.name())
}

fn growth(name: &str) -> Option<Growth> {
    match name {
        "to_char" => Some(Growth::Spreading { into: 0, what: 1 }),
        "array_to_string" => Some(Growth::Spreading { into: 0, what: 1 }),
        name if SPREADING.contains(&name) => Some(Growth::Spreading { into: 0, what: 2 }),
        name if JOINING.contains(&name) => Some(Growth::Joining),
        _ => None,
    }
}

fn bounded_or_plain(function: Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    match growth(function.name()) {
        Some(growth) => Some(Arc::new(ScalarUDF::new_from_impl(Bounded::new(function, growth)))),
        None => SCALAR.contains(&function.name()).then_some(function),
    }
}

/// Plans `||` and `[...]` as bounded functions.
#[derive(Debug)]
struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use datafusion::logical_expr::ExprSchemable;
        if expr.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expr));
        }
        let dimensions = (dimensions(&expr.left.get_type(schema)?), dimensions(&expr.right.get_type(schema)?));
        let name = match dimensions {
            (0, 0) => ConcatOperator::NAME,
            (left, right) if left == right => "array_concat",
            (left, right) if left > right => "array_append",
            _ => "array_prepend",
        };
        Ok(match call(name, vec![expr.left.clone(), expr.right.clone()]) {
            Some(planned) => PlannerResult::Planned(planned),
            None => PlannerResult::Original(expr),
        })
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(match call("make_array", exprs.clone()) {
            Some(planned) => PlannerResult::Planned(planned),
            None => PlannerResult::Original(exprs),
        })
    }
}

fn call(name: &str, args: Vec<Expr>) -> Option<Expr> {
    SCALAR_FUNCTIONS.iter().find(|f| f.name() == name).map(|f| f.call(args))
}

fn dimensions(data_type: &arrow::datatypes::DataType) -> usize {
    use arrow::datatypes::DataType::{FixedSizeList, LargeList, LargeListView, List, ListView};
    match data_type {
        List(f) | LargeList(f) | FixedSizeList(f, _) | ListView(f) | LargeListView(f) => 1 + dimensions(f.data_type()),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_a_function_of_the_engine() {
        let known = SessionStateDefaults::default_scalar_functions();
        for name in SCALAR.iter().chain(JOINING).chain(SPREADING) {
            assert!(known.iter().any(|f| f.name() == *name), "{name}");
        }
        for name in AGGREGATE.iter().chain(OVER_WINDOW) {
            assert!(aggregate_functions().iter().any(|f| f.name() == *name), "{name}");
        }
        assert_eq!(window_functions().len(), WINDOW.len());
    }

    #[test]
    fn what_makes_bytes_of_numbers_or_tells_about_the_engine_is_not_there() {
        let names: Vec<_> = scalar_functions()
            .iter()
            .flat_map(|f| {
                let mut names = f.aliases().to_vec();
                names.push(f.name().to_owned());
                names
            })
            .collect();
        for name in [
            "repeat",
            "lpad",
            "rpad",
            "range",
            "generate_series",
            "array_repeat",
            "array_resize",
            "version",
            "input_file_name",
            "arrow_metadata",
            "struct",
            "named_struct",
            "map",
            "uuid",
            "levenshtein",
        ] {
            assert!(!names.iter().any(|n| n == name), "{name}");
        }
    }
}
