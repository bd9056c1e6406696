//! Checks on the syntax tree: what kind of statement it is, and how large it grows when its parts are put together.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Query, Statement as SqlStatement, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;

use super::super::QueryError;
use super::*;

/// Parses one statement and refuses it unless it only reads. To be called on a thread with a large stack.
pub(in super::super) fn parse(sql: &str) -> Result<Statement, QueryError> {
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
    let mut growth = Growth { grouping_sets: 1, ..Growth::default() };
    match statement.visit(&mut growth) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(Statement::Statement(statement)),
    }
}

/// Counts relations as if every common table expression were written out where it is named: the planner shares such
/// plans, but walks them once for each mention, so ten lines of doubling would keep it busy for ever.
#[derive(Default)]
struct Growth {
    /// Relations of the queries being visited, outermost first.
    open: Vec<u64>,
    /// Relations of a common table expression by name; the largest where a name is used again.
    named: HashMap<String, u64>,
    /// Names of the common table expressions whose queries are not yet left, by their address.
    pending: HashMap<*const Query, String>,
    grouping_sets: usize,
    statements: usize,
}

impl Growth {
    fn count(&mut self, relations: u64) -> ControlFlow<QueryError> {
        let Some(open) = self.open.last_mut() else { return ControlFlow::Continue(()) };
        *open = open.saturating_add(relations);
        match *open > RELATIONS_MAX {
            true => limit(format!("the statement reads more than {RELATIONS_MAX} tables and subqueries")),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Growth {
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
        self.open.push(1);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let relations = self.open.pop().unwrap_or(0);
        match self.pending.remove(&(&raw const *query)) {
            Some(name) => {
                let known = self.named.entry(name).or_default();
                *known = relations.max(*known);
                ControlFlow::Continue(())
            }
            None => self.count(relations),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<QueryError> {
        let name = relation.to_string().to_lowercase();
        let relations = self.named.get(name.trim_matches('"')).copied().unwrap_or(1);
        self.count(relations)
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

fn limit(text: String) -> ControlFlow<QueryError> {
    ControlFlow::Break(QueryError::Limit(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(sql: &str) -> Option<&'static str> {
        parse(sql).err().map(|e| e.code())
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
    fn cubes_are_bounded() {
        assert_eq!(code("SELECT 1 FROM t GROUP BY CUBE (a, b, c)"), None);
        assert_eq!(code("SELECT 1 FROM t GROUP BY CUBE (a, b, c, d), CUBE (e, f, g)"), Some("query_limit"));
    }
}
