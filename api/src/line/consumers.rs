//! Who reads a view: the statements that asked it last, as far as this process has seen them.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use schemas::TenantId;

/// Statements that are remembered of one table.
const STATEMENTS_MAX: usize = 20;
/// Tables of which statements are remembered; with more, everything is forgotten: this is a hint and no record.
const TABLES_MAX: usize = 4_096;
/// Characters of a statement that are remembered.
const STATEMENT_CHARS_MAX: usize = 4_000;

/// Somebody who asked a view.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Consumer {
    /// Who: `user:ID`, `key:ID` or `command line`.
    pub by: String,
    /// When last, in microseconds since 1970 UTC.
    pub at: i64,
    /// The statement, or its beginning.
    pub statement: String,
}

/// The statements that asked each table last.
#[derive(Default)]
pub(crate) struct Consumers(Mutex<HashMap<(TenantId, String), VecDeque<Consumer>>>);

impl Consumers {
    /// Notes that a statement asked tables.
    pub(crate) fn note<'a>(&self, tenant: TenantId, tables: impl Iterator<Item = &'a String>, by: &str, sql: &str) {
        let at = jiff::Timestamp::now().as_microsecond();
        let statement: String = sql.chars().take(STATEMENT_CHARS_MAX).collect();
        let mut all = self.0.lock();
        for table in tables {
            if all.len() >= TABLES_MAX {
                all.clear();
            }
            let known = all.entry((tenant, table.clone())).or_default();
            known.retain(|consumer| consumer.by != by || consumer.statement != statement);
            if known.len() == STATEMENTS_MAX {
                known.pop_back();
            }
            known.push_front(Consumer { by: by.to_owned(), at, statement: statement.clone() });
        }
    }

    /// The last statements that asked a table and name one of the columns, or all of them; the latest first.
    pub(crate) fn of(&self, tenant: TenantId, table: &str, columns: &[String]) -> Vec<Consumer> {
        let all = self.0.lock();
        let known = all.get(&(tenant, table.to_owned())).into_iter().flatten();
        known.filter(|consumer| names(&consumer.statement, columns)).cloned().collect()
    }
}

/// Whether a statement names one of the columns, or takes every one.
fn names(statement: &str, columns: &[String]) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
    let mut words = statement.split(|c| !is_part(c));
    words.any(|word| word == "*" || columns.iter().any(|column| column.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_statements_that_name_a_column_are_known_by_table_and_tenant() {
        let (acme, other) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let consumers = Consumers::default();
        let table = "orders".to_owned();
        let note = |tenant, sql: &str| consumers.note(tenant, [&table].into_iter(), "user:ada", sql);
        for number in 0..30 {
            note(acme, &format!("select sum(total) from orders where n = {number}"));
        }
        note(acme, "select buyer from orders");
        note(acme, "select * from orders");
        note(other, "select total from orders");
        let found = consumers.of(acme, "orders", &["total".into()]);
        assert_eq!(found.len(), STATEMENTS_MAX - 1, "one names another column");
        assert_eq!(found[0].statement, "select * from orders");
        note(acme, "select sum(total) from orders where n = 29");
        assert_eq!(consumers.of(acme, "orders", &["total".into()]).len(), STATEMENTS_MAX - 1, "once");
        assert!(consumers.of(acme, "bills", &["total".into()]).is_empty());
    }
}
