//! Who reads a view: the statements that asked it last, as far as this process has seen them.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use schemas::TenantId;

/// Statements that are remembered of one table.
const STATEMENTS_MAX: usize = 20;
/// Tables of which statements are remembered, of all tenants. With more, one of the tenant that has most is forgotten: this
/// is a hint and no record.
const TABLES_MAX: usize = 4_096;
/// Characters of a statement that are remembered.
const STATEMENT_CHARS_MAX: usize = 4_000;
/// Keywords behind which `*` stands for every column.
const BEFORE_ALL: [&str; 3] = ["select", "distinct", "all"];

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
pub(crate) struct Consumers(Mutex<Known>);

#[derive(Default)]
struct Known {
    tenants: HashMap<TenantId, HashMap<String, Readers>>,
    /// Tables of all tenants.
    tables: usize,
    /// Statements that were noted so far.
    noted: u64,
}

/// Who asked a table.
#[derive(Default)]
struct Readers {
    /// The latest first.
    last: VecDeque<Consumer>,
    /// The number of its latest statement among all.
    noted: u64,
}

impl Consumers {
    /// Notes that a statement asked tables.
    pub(crate) fn note<'a>(&self, tenant: TenantId, tables: impl Iterator<Item = &'a String>, by: &str, sql: &str) {
        let at = jiff::Timestamp::now().as_microsecond();
        let statement: String = sql.chars().take(STATEMENT_CHARS_MAX).collect();
        let mut known = self.0.lock();
        for table in tables {
            known.note(tenant, table, Consumer { by: by.to_owned(), at, statement: statement.clone() });
        }
    }

    /// The last statements that asked a table and concern one of the columns; the latest first.
    pub(crate) fn of(&self, tenant: TenantId, table: &str, columns: &[String]) -> Vec<Consumer> {
        let known = self.0.lock();
        let readers = known.tenants.get(&tenant).and_then(|tables| tables.get(table));
        let last = readers.into_iter().flat_map(|readers| &readers.last);
        last.filter(|consumer| concerns(&consumer.statement, columns)).cloned().collect()
    }
}

impl Known {
    fn note(&mut self, tenant: TenantId, table: &str, consumer: Consumer) {
        let is_known = self.tenants.get(&tenant).is_some_and(|tables| tables.contains_key(table));
        if !is_known {
            if self.tables >= TABLES_MAX {
                self.forget_one();
            }
            self.tables += 1;
        }
        self.noted += 1;
        let readers = self.tenants.entry(tenant).or_default().entry(table.to_owned()).or_default();
        readers.noted = self.noted;
        let is_other = |known: &Consumer| known.by != consumer.by || known.statement != consumer.statement;
        readers.last.retain(is_other);
        if readers.last.len() == STATEMENTS_MAX {
            readers.last.pop_back();
        }
        readers.last.push_front(consumer);
    }

    /// Forgets a table of the tenant that has most, the one that was asked longest ago: who has many forgets its own.
    fn forget_one(&mut self) {
        let oldest = |tables: &HashMap<String, Readers>| tables.values().map(|readers| readers.noted).min();
        let most = self.tenants.iter().max_by_key(|(_, tables)| (tables.len(), Reverse(oldest(tables))));
        let Some(tenant) = most.map(|(tenant, _)| *tenant) else { return };
        let Some(tables) = self.tenants.get_mut(&tenant) else { return };
        let table = tables.iter().min_by_key(|(_, readers)| readers.noted).map(|(table, _)| table.clone());
        if table.is_some_and(|table| tables.remove(&table).is_some()) {
            self.tables -= 1;
        }
        if tables.is_empty() {
            self.tenants.remove(&tenant);
        }
    }
}

/// Whether a statement concerns one of the columns: it names it, or takes every one. `$key`, `$version` and `$deleted` are
/// about whole rows, so they concern whoever reads any; and so may what a statement says behind what is remembered of it.
fn concerns(statement: &str, columns: &[String]) -> bool {
    let is_of_rows = columns.iter().any(|column| column.starts_with('$'));
    let is_cut = || statement.chars().nth(STATEMENT_CHARS_MAX - 1).is_some();
    is_of_rows || names(statement, columns) || is_cut()
}

fn names(statement: &str, columns: &[String]) -> bool {
    let (mut before, mut rest) = ((None, None), statement);
    while let Some((part, behind)) = next(rest) {
        let is_named = match part {
            Part::Word(name) | Part::Quoted(name) => columns.iter().any(|column| column.eq_ignore_ascii_case(name)),
            Part::Sign('*') => is_all(before),
            Part::Sign(_) => false,
        };
        if is_named {
            return true;
        }
        (before, rest) = ((before.1, Some(part)), behind);
    }
    false
}

/// A part of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    /// A keyword, a number, or a name without quotes.
    Word(&'a str),
    /// A name in quotes.
    Quoted(&'a str),
    /// Any other character.
    Sign(char),
}

/// The next part of a statement, and what is behind it. Blanks, comments and texts name nothing and are passed over.
fn next(statement: &str) -> Option<(Part<'_>, &str)> {
    let mut rest = statement.trim_start();
    loop {
        let (passed, end) = if let Some(comment) = rest.strip_prefix("--") {
            (comment, "\n")
        } else if let Some(comment) = rest.strip_prefix("/*") {
            (comment, "*/")
        } else if let Some(text) = rest.strip_prefix('\'') {
            (text, "'")
        } else {
            break;
        };
        rest = passed.split_once(end).map_or("", |(_, behind)| behind).trim_start();
    }
    if let Some(name) = rest.strip_prefix('"') {
        let (name, behind) = name.split_once('"').unwrap_or((name, ""));
        return Some((Part::Quoted(name), behind));
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    if end > 0 {
        let (word, behind) = rest.split_at(end);
        return Some((Part::Word(word), behind));
    }
    let mut signs = rest.chars();
    Some((Part::Sign(signs.next()?), signs.as_str()))
}

/// Whether a `*` behind these two parts takes every column, as in `select *`, `n, *` and `t.*`: a product does not, and
/// neither does `count(*)`. Behind the brackets of `distinct on (n)` it looks like a product, and is not told from one.
fn is_all(before: (Option<Part<'_>>, Option<Part<'_>>)) -> bool {
    match before {
        (_, Some(Part::Word(word))) => BEFORE_ALL.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)),
        (_, Some(Part::Sign(','))) | (Some(Part::Quoted(_)), Some(Part::Sign('.'))) => true,
        // `2.` is a number.
        (Some(Part::Word(name)), Some(Part::Sign('.'))) => !name.starts_with(|c: char| c.is_ascii_digit()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: TenantId = TenantId::from_bytes([1; 16]);
    const OTHER: TenantId = TenantId::from_bytes([2; 16]);

    fn is_told_of(statement: &str, column: &str) -> bool {
        let consumers = Consumers::default();
        consumers.note(ACME, [&"orders".to_owned()].into_iter(), "user:ada", statement);
        !consumers.of(ACME, "orders", &[column.to_owned()]).is_empty()
    }

    #[test]
    fn the_last_statements_that_name_a_column_are_known_by_table_and_tenant() {
        let consumers = Consumers::default();
        let table = "orders".to_owned();
        let note = |tenant, sql: &str| consumers.note(tenant, [&table].into_iter(), "user:ada", sql);
        for number in 0..30 {
            note(ACME, &format!("select sum(total) from orders where n = {number}"));
        }
        note(ACME, "select buyer from orders");
        note(ACME, "select * from orders");
        note(OTHER, "select total from orders");
        let found = consumers.of(ACME, "orders", &["total".into()]);
        assert_eq!(found.len(), STATEMENTS_MAX - 1, "one names another column");
        assert_eq!(found[0].statement, "select * from orders");
        note(ACME, "select sum(total) from orders where n = 29");
        assert_eq!(consumers.of(ACME, "orders", &["total".into()]).len(), STATEMENTS_MAX - 1, "once");
        assert!(consumers.of(ACME, "bills", &["total".into()]).is_empty());
    }

    #[test]
    fn a_column_is_named_wherever_it_stands_but_in_texts_and_comments() {
        for statement in [
            "select amount*probability from orders",
            "select probability*amount from orders",
            "select sum(o.amount) from orders o",
            "select \"Amount\" from orders",
            "select n from orders where AMOUNT>1",
            "select 'it''s' || amount from orders",
            "select n /* of each */ from orders order by amount",
        ] {
            assert!(is_told_of(statement, "amount"), "{statement}");
        }
        for statement in [
            "select amounts from orders",
            "select n from orders where kind = 'amount'",
            "select n from orders -- not the amount",
            "select n /* amount */ from orders",
        ] {
            assert!(!is_told_of(statement, "amount"), "{statement}");
        }
    }

    #[test]
    fn every_column_is_taken_by_a_star_that_is_a_projection_and_by_no_product_and_no_count() {
        for statement in [
            "select * from orders",
            "SELECT DISTINCT * FROM orders",
            "select n, * from orders",
            "select o.* from orders o",
            "select \"o\".* from orders \"o\"",
            "select n from (select\n*from orders)",
            "select /* all */ * from orders",
        ] {
            assert!(is_told_of(statement, "amount"), "{statement}");
        }
        for statement in [
            "select count(*) from orders",
            "select count( * ) from orders",
            "select n * 2 from orders",
            "select n*2. * 3 from orders",
            "select (n) * sum(m) from orders",
            "select n from orders -- *",
            "select ', *' from orders",
        ] {
            assert!(!is_told_of(statement, "amount"), "{statement}");
        }
    }

    #[test]
    fn who_reads_any_column_is_concerned_by_what_rows_are_known_by() {
        for member in ["$key", "$version", "$deleted"] {
            assert!(is_told_of("select count(*) from orders", member), "{member}");
        }
        let long = format!("select n from orders where n in ({}0)", "1, ".repeat(STATEMENT_CHARS_MAX));
        assert!(is_told_of(&long, "amount"), "what it asks for at its end is not known any more");
    }

    #[test]
    fn a_tenant_with_many_tables_forgets_its_own_and_the_oldest_first() {
        let consumers = Consumers::default();
        let note = |tenant, table: String| consumers.note(tenant, [&table].into_iter(), "user:ada", "select * from t");
        let is_known = |tenant, table: &str| !consumers.of(tenant, table, &[]).is_empty();
        note(ACME, "orders".into());
        for number in 0..TABLES_MAX + 10 {
            note(OTHER, format!("t{number}"));
            // Asked again and again.
            note(OTHER, "t0".into());
        }
        assert!(is_known(ACME, "orders"), "nobody else's");
        assert!(is_known(OTHER, "t0") && is_known(OTHER, &format!("t{}", TABLES_MAX + 9)));
        assert!(!is_known(OTHER, "t1") && !is_known(OTHER, "t10"));
        assert!(is_known(OTHER, "t20"));
        let known = consumers.0.lock();
        assert_eq!(known.tables, TABLES_MAX);
        assert_eq!(known.tenants.values().map(HashMap::len).sum::<usize>(), TABLES_MAX);
    }
}
