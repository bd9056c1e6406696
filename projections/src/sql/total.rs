//! Which filters can be put to any row, also to one that does not count, since they cannot fail.

use std::sync::Arc;

use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};

/// Whether a filter only compares columns with constants: no arithmetic, no cast, no function.
pub(super) fn is_total(filter: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(binary) = filter.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::And | Operator::Or => is_total(binary.left()) && is_total(binary.right()),
            op => compares(*op) && is_plain(binary.left()) && is_plain(binary.right()),
        };
    }
    if let Some(like) = filter.downcast_ref::<LikeExpr>() {
        return is_plain(like.expr()) && is_constant(like.pattern());
    }
    if let Some(list) = filter.downcast_ref::<InListExpr>() {
        return is_plain(list.expr()) && list.list().iter().all(is_constant);
    }
    if let Some(null) = filter.downcast_ref::<IsNullExpr>() {
        return is_plain(null.arg());
    }
    if let Some(null) = filter.downcast_ref::<IsNotNullExpr>() {
        return is_plain(null.arg());
    }
    match filter.downcast_ref::<NotExpr>() {
        Some(not) => is_total(not.arg()),
        None => is_plain(filter),
    }
}

fn is_plain(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some() || is_constant(expr)
}

fn is_constant(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Literal>().is_some()
}

fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::{DFSchema, ScalarValue};
    use datafusion::logical_expr::{Expr, cast, col, lit};
    use datafusion::prelude::SessionContext;

    use super::*;

    fn total(expr: Expr) -> bool {
        let fields = vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8View, true)];
        let schema = DFSchema::try_from(Schema::new(fields)).unwrap();
        is_total(&SessionContext::new().create_physical_expr(expr, &schema).unwrap())
    }

    #[test]
    fn comparisons_with_constants_are_total_and_what_computes_is_not() {
        let n = || col("n");
        let text = |t: &str| lit(ScalarValue::Utf8View(Some(t.into())));
        assert!(total(n().gt(lit(1i64)).and(col("t").eq(text("a"))).or(n().is_null())));
        assert!(total(col("t").like(text("a%_b")).and(n().in_list((0..50i64).map(lit).collect(), true))));
        assert!(total((!n().eq(lit(5i64))).and(col("t").is_not_null())));
        assert!(!total((lit(100i64) / n()).gt(lit(1i64))));
        assert!(!total(n().eq(lit(1i64)).or((n() + lit(1i64)).gt(lit(1i64)))));
        assert!(!total(cast(col("t"), DataType::Int64).eq(lit(1i64))));
        assert!(!total(n().in_list(vec![lit(1i64), n() * lit(2i64)], false)));
    }
}
