//! What may not run: checks on the text, the syntax tree, the logical plan and the physical plan, cheapest first.
//!
//! The limits are fixed: they follow from what the planner and its stack bear, not from taste.

mod copies;
mod joins;
mod patterns;
mod plan;
mod syntax;
mod text;
mod types;

pub(super) use joins::check_joins;
pub(super) use plan::check_plan;
pub(super) use syntax::parse;
pub use text::check_text;

/// Bytes of a statement.
pub const SQL_BYTES_MAX: usize = 256 * 1024;
/// Operators of a statement, values of IN lists not counted. Planning cost grows much faster than this count.
pub const OPERATORS_MAX: usize = 500;
/// `||` of a statement: each is a call within the next, and planning takes the third power of such a chain (100: half a
/// second, 300: ten).
pub const CONCATENATIONS_MAX: usize = 100;
/// Values in all IN lists together.
pub const IN_VALUES_MAX: usize = 10_000;
/// Commas outside of IN lists: columns, arguments, rows of VALUES.
pub const COMMAS_MAX: usize = 2_000;
/// Words, names and literals outside of IN lists.
pub const WORDS_MAX: usize = 10_000;
/// UNION, INTERSECT and EXCEPT arms.
pub const SET_ARMS_MAX: usize = 64;
/// SELECTs.
pub const SELECTS_MAX: usize = 128;
/// Joins, by JOIN or by a comma after FROM.
pub const JOINS_MAX: usize = 32;
/// Open brackets at any point.
pub const DEPTH_MAX: usize = 40;
/// Bytes of one text literal: a literal in the select list is copied into every row.
pub const LITERAL_BYTES_MAX: usize = 4 * 1024;
/// Tables and queries after every common table expression is put in where it is named.
pub const RELATIONS_MAX: u64 = 200;
/// Columns of all steps of a plan together: a step copies the columns of what is below it, and the optimizer passes over
/// all steps some eighty times.
pub const PLAN_COLUMNS_MAX: u64 = 100_000;
/// Grouping sets that CUBE and ROLLUP come to.
pub const GROUPING_SETS_MAX: usize = 64;
/// Expression nodes after every column is replaced by what computes it, as the optimizer may do.
pub const EXPRESSION_NODES_MAX: u64 = 100_000;
/// Bytes of a compiled regular expression.
pub const REGEX_BYTES_MAX: usize = 256 * 1024;
/// Wildcards of a pattern of LIKE.
pub const LIKE_WILDCARDS_MAX: usize = 100;
/// Pairs of rows that joins without an equality compare.
pub const JOIN_PAIRS_MAX: f64 = 50e6;
