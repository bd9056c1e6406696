//! Checks on the syntax tree: what kind of statement it is, and how large it grows when its parts are put together.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, SelectItem, SetExpr, Statement as SqlStatement, TableFactor, TableWithJoins,
    Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;

use super::super::QueryError;
use super::*;
use crate::ViewSnapshot;

/// Parses one statement over the given tables and refuses it unless it only reads and can be planned in little time. To
/// be called on a thread with a large stack.
pub(in super::super) fn parse(sql: &str, tables: &[Arc<ViewSnapshot>]) -> Result<Statement, QueryError> {
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(DEPTH_MAX + 10)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(QueryError::planning)?;
    if statements.len() > 1 {
        return Err(QueryError::Forbidden("only one statement at a time is allowed".into()));
    }
    let Some(Statement::Statement(statement)) = statements.pop_front() else {
        return Err(QueryError::Forbidden("only SELECT, SHOW TABLES and DESCRIBE are allowed".into()));
    };
    match &*statement {
        SqlStatement::Query(_)
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ExplainTable { .. } => {}
        _ => return Err(QueryError::Forbidden("only SELECT, SHOW TABLES and DESCRIBE are allowed".into())),
    }
    match statement.visit(&mut Growth::over(tables)) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(Statement::Statement(statement)),
    }
}

/// What a query comes to as if every common table expression were written out where it is named: the planner shares
/// such plans, but walks them once for each mention, so ten lines of doubling would keep it busy for ever.
#[derive(Default, Clone, Copy)]
struct Size {
    /// Tables and queries.
    relations: u64,
    /// Columns that it gives.
    width: u64,
    /// Columns of all steps of its plan: each step of the planner copies the columns of all that is below it.
    columns: u64,
}

struct Growth<'a> {
    tables: &'a [Arc<ViewSnapshot>],
    /// The queries and SELECTs being visited, outermost first.
    open: Vec<Size>,
    /// Sizes of common table expressions by name; the largest where a name is used again.
    named: HashMap<String, Size>,
    /// Names of the common table expressions whose queries are not yet left, by their address.
    pending: HashMap<*const Query, String>,
    /// Columns of all steps of the statement, those of common table expressions that nobody names too.
    columns: u64,
    joins: usize,
    grouping_sets: usize,
    statements: usize,
}

impl<'a> Growth<'a> {
    fn over(tables: &'a [Arc<ViewSnapshot>]) -> Self {
        Self {
            tables,
            open: vec![],
            named: HashMap::new(),
            pending: HashMap::new(),
            columns: 0,
            joins: 0,
            grouping_sets: 1,
            statements: 0,
        }
    }

    /// Counts a part of the innermost open query.
    fn count(&mut self, part: Size) -> ControlFlow<QueryError> {
        let Some(open) = self.open.last_mut() else { return ControlFlow::Continue(()) };
        open.relations = open.relations.saturating_add(part.relations);
        open.width = open.width.saturating_add(part.width);
        open.columns = open.columns.saturating_add(part.columns);
        if open.relations > RELATIONS_MAX {
            return limit(format!("the statement reads more than {RELATIONS_MAX} tables and subqueries"));
        }
        check_columns(open.columns)
    }

    /// Counts what is planned once, whether or not it is part of the answer.
    fn work(&mut self, columns: u64) -> ControlFlow<QueryError> {
        self.columns = self.columns.saturating_add(columns);
        check_columns(self.columns)
    }

    /// Columns of a table; of the widest if its name is not known.
    fn width(&self, name: &str) -> u64 {
        let width = |view: &Arc<ViewSnapshot>| view.schema.fields().len() as u64;
        let known = self.tables.iter().find(|view| view.table == name).map(width);
        known.unwrap_or_else(|| self.tables.iter().map(width).max().unwrap_or(1))
    }
}

impl Visitor for Growth<'_> {
    type Break = QueryError;

    fn pre_visit_statement(&mut self, _: &SqlStatement) -> ControlFlow<QueryError> {
        self.statements += 1;
        match self.statements > 1 {
            true => ControlFlow::Break(QueryError::Forbidden("a query may not hold other statements".into())),
            false => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        if let Some(with) = &query.with {
            if with.recursive {
                return ControlFlow::Break(QueryError::Forbidden("WITH RECURSIVE is not allowed".into()));
            }
            for table in &with.cte_tables {
                self.pending.insert(&raw const *table.query, table.alias.name.value.to_lowercase());
            }
        }
        let width = values_width(&query.body);
        self.open.push(Size { relations: 1, width, columns: width });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let size = self.open.pop().unwrap_or_default();
        match self.pending.remove(&(&raw const *query)) {
            Some(name) => {
                let known = self.named.entry(name).or_default();
                known.relations = size.relations.max(known.relations);
                known.width = size.width.max(known.width);
                known.columns = size.columns.max(known.columns);
                ControlFlow::Continue(())
            }
            None => self.count(size),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        self.joins += tables_of(&select.from).saturating_sub(1);
        if self.joins > JOINS_MAX {
            return limit(format!("the statement joins more than {JOINS_MAX} times, by JOIN or by a comma after FROM"));
        }
        self.open.push(Size::default());
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        let read = self.open.pop().unwrap_or_default();
        let is_wildcard =
            |item: &&SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        let wildcards = select.projection.iter().filter(is_wildcard).count() as u64;
        let width = wildcards.saturating_mul(read.width).saturating_add(select.projection.len() as u64);
        // A row of joins copies the columns of all tables so far at each join; then there are filter and projection.
        let columns = read.width.saturating_mul(tables_of(&select.from) as u64).saturating_add(width);
        self.work(columns)?;
        // The arms of a UNION give the same columns.
        let known = self.open.last().map_or(0, |query| query.width);
        let wider = width.saturating_sub(known);
        let columns = read.columns.saturating_add(columns);
        self.count(Size { relations: read.relations, width: wider, columns })
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<QueryError> {
        let name = relation.to_string().to_lowercase();
        let name = name.rsplit('.').next().unwrap_or_default().trim_matches('"');
        match self.named.get(name).copied() {
            Some(size) => self.count(size),
            None => {
                let width = self.width(name);
                self.count(Size { relations: 1, width, columns: width })
            }
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<QueryError> {
        let sets = match expr {
            Expr::Cube(sets) => 1usize.checked_shl(sets.len().min(63) as u32).unwrap_or(usize::MAX),
            Expr::Rollup(sets) => sets.len() + 1,
            Expr::GroupingSets(sets) => sets.len(),
            _ => return ControlFlow::Continue(()),
        };
        self.grouping_sets = self.grouping_sets.saturating_mul(sets.max(1));
        match self.grouping_sets > GROUPING_SETS_MAX {
            true => limit(format!("the statement groups by more than {GROUPING_SETS_MAX} sets of columns")),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Tables and subqueries that are joined, also those in brackets.
fn tables_of(from: &[TableWithJoins]) -> usize {
    let count = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => tables_of(std::slice::from_ref(table_with_joins)),
        _ => 1,
    };
    from.iter()
        .map(|table| count(&table.relation) + table.joins.iter().map(|j| count(&j.relation)).sum::<usize>())
        .sum()
}

/// Columns of VALUES where it stands for a query, in any arm of a UNION.
fn values_width(body: &SetExpr) -> u64 {
    match body {
        SetExpr::Values(values) => values.rows.first().map_or(0, |row| row.len() as u64),
        SetExpr::SetOperation { left, right, .. } => values_width(left).max(values_width(right)),
        _ => 0,
    }
}

fn check_columns(columns: u64) -> ControlFlow<QueryError> {
    match columns > PLAN_COLUMNS_MAX {
        true => ControlFlow::Break(too_wide()),
        false => ControlFlow::Continue(()),
    }
}

/// What a statement is told whose plan would carry too many columns through too many steps.
pub(super) fn too_wide() -> QueryError {
    QueryError::Limit(
        "the statement carries too many columns through too many joins and subqueries: name the columns it needs"
            .into(),
    )
}

fn limit(text: String) -> ControlFlow<QueryError> {
    ControlFlow::Break(QueryError::Limit(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(sql: &str) -> Option<&'static str> {
        parse(sql, &[]).err().map(|e| e.code())
    }

    #[test]
    fn only_reading_statements_pass() {
        for sql in ["SELECT 1", "WITH a AS (SELECT 1) SELECT * FROM a", "VALUES (1)", "SHOW TABLES", "DESCRIBE t"] {
            assert_eq!(code(sql), None, "{sql}");
        }
        for sql in [
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "COPY t TO 'x.csv'",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW ALL",
            "SHOW FUNCTIONS",
            "WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT * FROM a) SELECT * FROM a",
        ] {
            assert_eq!(code(sql), Some("sql_forbidden"), "{sql}");
        }
    }

    #[test]
    fn doubling_common_table_expressions_are_refused() {
        let mut sql = "WITH a0 AS (SELECT 1 AS x)".to_owned();
        for i in 1..30 {
            sql += &format!(", A{i} AS (SELECT * FROM a{0} UNION ALL SELECT * FROM \"a{0}\")", i - 1);
        }
        assert_eq!(code(&(sql + " SELECT * FROM a29")), Some("query_limit"));
    }

    #[test]
    fn joins_by_comma_count_like_joins_by_word() {
        let many = |count: usize| (0..count).map(|i| format!("t t{i}")).collect::<Vec<_>>().join(",");
        assert_eq!(code(&format!("SELECT 1 FROM {}", many(JOINS_MAX + 1))), None);
        assert_eq!(code(&format!("SELECT 1 FROM {}", many(JOINS_MAX + 2))), Some("query_limit"));
        let half = many(JOINS_MAX / 2 + 2);
        assert_eq!(code(&format!("WITH a AS (SELECT 1 FROM {half}) SELECT 1 FROM {half}")), Some("query_limit"));
        let joined = " JOIN t USING (x)".repeat(JOINS_MAX);
        assert_eq!(code(&format!("SELECT 1 FROM t{joined}")), None);
        assert_eq!(code(&format!("SELECT 1 FROM t{joined}, t")), Some("query_limit"));
        assert_eq!(code(&format!("SELECT 1 FROM (t{joined}), t")), Some("query_limit"));
    }

    #[test]
    fn columns_are_counted_through_every_step() {
        let wide = |columns: usize| {
            let row = (0..columns).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
            format!("WITH a AS (VALUES ({row}))")
        };
        let all = |count: usize| (0..count).map(|i| format!("a t{i}")).collect::<Vec<_>>().join(",");
        assert_eq!(code(&format!("{} SELECT * FROM {}", wide(50), all(30))), None);
        assert_eq!(code(&format!("{} SELECT 1 FROM {}", wide(1_500), all(30))), Some("query_limit"));
        assert_eq!(code(&format!("{} SELECT {} FROM a", wide(1_000), vec!["*"; 900].join(","))), Some("query_limit"));
        let unused = format!(", b AS (SELECT * FROM {})", all(4));
        let uses = (0..100).map(|i| format!(", c{i} AS (SELECT * FROM b)")).collect::<String>();
        assert_eq!(code(&format!("{}{unused}{uses} SELECT 1", wide(500))), Some("query_limit"));
        let chain = (0..60).map(|i| format!(", c{} AS (SELECT * FROM c{i})", i + 1)).collect::<String>();
        assert_eq!(code(&format!("{}, c0 AS (SELECT * FROM a){chain} SELECT * FROM c60", wide(200))), None);
        let arms = vec!["SELECT * FROM a"; 60].join(" UNION ALL ");
        assert_eq!(code(&format!("{} {arms}", wide(200))), None);
    }

    #[test]
    fn cubes_are_bounded() {
        assert_eq!(code("SELECT 1 FROM t GROUP BY CUBE (a, b, c)"), None);
        assert_eq!(code("SELECT 1 FROM t GROUP BY CUBE (a, b, c, d), CUBE (e, f, g)"), Some("query_limit"));
    }
}
