//! Checks on patterns: they must stand in the statement, and be small once compiled.
//!
//! The engine compiles a pattern for each batch of rows, or for each row where it differs, and keeps these all: a column
//! of patterns such as `\w{500}` would take gigabytes, and seconds in which nothing can stop the query.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use regex::RegexBuilder;

use super::super::QueryError;
use super::plan::not_allowed;
use super::{LIKE_WILDCARDS_MAX, REGEX_BYTES_MAX};

/// Refuses `||` that is not ours, and operators with patterns that are no constants or too large.
pub(super) fn check_operator(expr: &BinaryExpr) -> Result<(), QueryError> {
    match expr.op {
        Operator::StringConcat => Err(not_allowed("this form of ||")),
        Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => {
            check_regex(&expr.right, None)
        }
        Operator::LikeMatch | Operator::ILikeMatch | Operator::NotLikeMatch | Operator::NotILikeMatch => {
            check_like(&expr.right)
        }
        _ => Ok(()),
    }
}

/// Refuses calls of regular expression functions with a pattern that is no constant or too large.
pub(super) fn check_function(call: &ScalarFunction) -> Result<(), QueryError> {
    let flags = match call.func.name() {
        "regexp_like" | "regexp_match" => 2,
        "regexp_count" | "regexp_replace" => 3,
        "regexp_instr" => 4,
        _ => return Ok(()),
    };
    match call.args.get(1) {
        Some(pattern) => check_regex(pattern, call.args.get(flags)),
        None => Ok(()),
    }
}

/// Refuses a regular expression that is no constant or too large, or whose flags are no constant or no letters.
pub(super) fn check_regex(pattern: &Expr, flags: Option<&Expr>) -> Result<(), QueryError> {
    let Some(pattern) = constant(pattern)? else { return Ok(()) };
    let flags = flags.map(constant).transpose()?.flatten().unwrap_or_default();
    if !flags.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err(QueryError::Invalid("flags of a regular expression are letters".into()));
    }
    // Ignoring case makes it larger; the operators that do so are not told apart here.
    match RegexBuilder::new(pattern).case_insensitive(true).size_limit(REGEX_BYTES_MAX).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            let text = "a regular expression is too large: repeat less, and write [a-z] or [0-9] for \\w or \\d";
            Err(QueryError::Limit(text.into()))
        }
        Err(_) => Err(QueryError::Invalid("a pattern is no regular expression".into())),
    }
}

/// Refuses a pattern of LIKE that is no constant or has too many wildcards.
pub(super) fn check_like(pattern: &Expr) -> Result<(), QueryError> {
    let Some(pattern) = constant(pattern)? else { return Ok(()) };
    match pattern.matches(['%', '_']).count() > LIKE_WILDCARDS_MAX {
        true => Err(QueryError::Limit(format!("a pattern has more than {LIKE_WILDCARDS_MAX} wildcards"))),
        false => Ok(()),
    }
}

/// The text of a pattern, none for null.
fn constant(expr: &Expr) -> Result<Option<&str>, QueryError> {
    match expr {
        Expr::Alias(e) => constant(&e.expr),
        Expr::Cast(e) => constant(&e.expr),
        Expr::TryCast(e) => constant(&e.expr),
        Expr::Literal(ScalarValue::Null, _) => Ok(None),
        Expr::Literal(value, _) if value.try_as_str().is_some() => Ok(value.try_as_str().flatten()),
        _ => Err(QueryError::Invalid(
            "a pattern must be written as one text: for others use starts_with, ends_with, contains or strpos".into(),
        )),
    }
}
