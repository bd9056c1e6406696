//! Which functions there are: a list of names, so that a new engine release adds none by itself.
//!
//! Left out on purpose: what makes rows or bytes out of a number (`range`, `repeat`, `lpad`), what tells about the
//! engine or its files (`version`, `input_file_name`), and what can nest types without end (`struct`, `map`).

use std::sync::{Arc, LazyLock};

use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, GetFieldAccess, ScalarUDF, WindowUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::bounded::{Bounded, ConcatOperator, Growth};

/// Functions that make numbers, times and truth values, or give one of their arguments.
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
    "character_length",
    "chr",
    "contains",
    "ends_with",
    "find_in_set",
    "octet_length",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "starts_with",
    "strpos",
    "to_hex",
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
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_length",
    "array_position",
    "cardinality",
    "empty",
    "get_field",
    // types
    "arrow_typeof",
];

/// Functions that make texts or lists, and how large these may be.
const GROWING: &[(&str, Growth)] = &[
    ("array_any_value", Growth::Joining),
    ("array_append", Growth::Listing),
    ("array_concat", Growth::Listing),
    ("array_distinct", Growth::Listing),
    ("array_element", Growth::Joining),
    ("array_max", Growth::Joining),
    ("array_min", Growth::Joining),
    ("array_pop_back", Growth::Listing),
    ("array_pop_front", Growth::Listing),
    ("array_prepend", Growth::Listing),
    ("array_remove", Growth::Listing),
    ("array_remove_all", Growth::Listing),
    ("array_reverse", Growth::Listing),
    ("array_slice", Growth::Listing),
    ("array_sort", Growth::Listing),
    ("array_to_string", Growth::Printing),
    ("btrim", Growth::Joining),
    ("concat", Growth::Joining),
    ("concat_ws", Growth::Separating),
    ("initcap", Growth::Recasing),
    ("left", Growth::Joining),
    ("lower", Growth::Recasing),
    ("ltrim", Growth::Joining),
    ("make_array", Growth::Listing),
    ("overlay", Growth::Joining),
    ("regexp_match", Growth::Matching),
    ("regexp_replace", Growth::Spreading { into: 0, what: 2 }),
    ("replace", Growth::Spreading { into: 0, what: 2 }),
    ("reverse", Growth::Joining),
    ("right", Growth::Joining),
    ("rtrim", Growth::Joining),
    ("split_part", Growth::Joining),
    ("string_to_array", Growth::Splitting),
    ("substr", Growth::Joining),
    ("substr_index", Growth::Joining),
    ("to_char", Growth::Formatting),
    ("translate", Growth::Spreading { into: 0, what: 2 }),
    ("upper", Growth::Recasing),
];

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
        Some(_) => grows(function),
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

/// Whether a function makes texts or lists.
pub(super) fn grows(function: &ScalarUDF) -> bool {
    function.inner().is::<Bounded>() || function.inner().is::<ConcatOperator>()
}

fn growth(name: &str) -> Option<Growth> {
    GROWING.iter().find(|(known, _)| *known == name).map(|(_, growth)| *growth)
}

fn bounded_or_plain(function: Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    match growth(function.name()) {
        Some(growth) => Some(Arc::new(ScalarUDF::new_from_impl(Bounded::new(function, growth)))),
        None => SCALAR.contains(&function.name()).then_some(function),
    }
}

/// Plans what has a syntax of its own as bounded functions: `||`, `[…]`, `a[1]`, `a[1:2]`, SUBSTRING and OVERLAY.
#[derive(Debug)]
struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
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
        Ok(planned(expr, |expr| call(name, vec![expr.left.clone(), expr.right.clone()])))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if dimensions(&access.expr.get_type(schema)?) == 0 {
            return Ok(PlannerResult::Original(access));
        }
        let RawFieldAccessExpr { field_access, expr } = access.clone();
        Ok(planned(access, |_| match field_access {
            GetFieldAccess::ListIndex { key } => call("array_element", vec![expr, *key]),
            GetFieldAccess::ListRange { start, stop, stride } => {
                call("array_slice", vec![expr, *start, *stop, *stride])
            }
            GetFieldAccess::NamedStructField { .. } => None,
        }))
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(planned(args, |args| call("substr", args.clone())))
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(planned(args, |args| call("overlay", args.clone())))
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(planned(exprs, |exprs| call("make_array", exprs.clone())))
    }
}

fn planned<T>(original: T, plan: impl FnOnce(&T) -> Option<Expr>) -> PlannerResult<T> {
    match plan(&original) {
        Some(planned) => PlannerResult::Planned(planned),
        None => PlannerResult::Original(original),
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
        for name in SCALAR.iter().chain(GROWING.iter().map(|(name, _)| name)) {
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
