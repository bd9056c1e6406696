//! How often the optimizer writes a part of an expression out.
//!
//! `x BETWEEN a AND b` becomes `x >= a AND x <= b`, and `coalesce(x, y)` becomes a CASE that names `x` twice: thirty of
//! them inside each other would become 2^30 nodes in one step of the optimizer, which nothing can stop.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Values of an IN list up to which it becomes a chain of comparisons.
const IN_LIST_WRITTEN_OUT: usize = 3;
/// Branches of a regular expression up to which it becomes a chain of comparisons.
const BRANCHES_WRITTEN_OUT: u64 = 4;

/// Copies of the child at a place, in the order in which an expression gives its children.
pub(super) fn of(expr: &Expr, place: usize) -> u64 {
    match expr {
        Expr::Between(_) if place == 0 => 2,
        Expr::InList(e) if place == 0 && e.list.len() <= IN_LIST_WRITTEN_OUT => e.list.len().max(1) as u64,
        Expr::BinaryExpr(e) if place == 0 && matches_regex(e) => BRANCHES_WRITTEN_OUT,
        Expr::Case(case) => of_case(case, place),
        Expr::ScalarFunction(call) => match call.func.name() {
            // The last argument stands in ELSE alone.
            "coalesce" | "nvl" if place + 1 < call.args.len() => 2,
            "regexp_like" if place == 0 => BRANCHES_WRITTEN_OUT,
            _ => 1,
        },
        _ => 1,
    }
}

/// A CASE that gives truth values becomes ANDs and ORs: each branch says that none of the conditions before it holds.
fn of_case(case: &Case, place: usize) -> u64 {
    let branches = case.when_then_expr.len();
    let Some(place) = place.checked_sub(usize::from(case.expr.is_some())) else { return 1 };
    let (branch, is_condition) = (place / 2, place % 2 == 0);
    match is_condition && branch < branches && (branches < 3 || gives_constants(case)) {
        true => (branches - branch + 1) as u64,
        false => 1,
    }
}

fn gives_constants(case: &Case) -> bool {
    let constant = |e: &Expr| matches!(e, Expr::Literal(ScalarValue::Boolean(_), _));
    case.when_then_expr.iter().all(|(_, then)| constant(then))
}

fn matches_regex(expr: &BinaryExpr) -> bool {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    matches!(expr.op, RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch)
}

#[cfg(test)]
mod tests {
    use datafusion::functions::core::expr_fn::coalesce;
    use datafusion::logical_expr::{col, lit, when};

    use super::*;

    fn copies(expr: &Expr, count: usize) -> Vec<u64> {
        (0..count).map(|place| of(expr, place)).collect()
    }

    #[test]
    fn what_is_written_out_more_than_once_is_counted_so() {
        assert_eq!(copies(&col("a").between(lit(1), lit(2)), 3), [2, 1, 1]);
        assert_eq!(copies(&col("a").in_list(vec![lit(1), lit(2)], false), 3), [2, 1, 1]);
        assert_eq!(copies(&col("a").in_list(vec![lit(1); 4], false), 5), [1; 5]);
        assert_eq!(copies(&coalesce(vec![col("a"), col("b"), col("c")]), 3), [2, 2, 1]);
        let case = when(col("a"), col("x")).when(col("b"), col("y")).otherwise(col("z")).unwrap();
        assert_eq!(copies(&case, 5), [3, 1, 2, 1, 1]);
        let case = (0..3).fold(when(col("a"), col("x")), |mut case, _| case.when(col("b"), col("y"))).end().unwrap();
        assert_eq!(copies(&case, 8), [1; 8]);
    }
}
