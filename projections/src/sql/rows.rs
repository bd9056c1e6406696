//! A page of a view's rows as one statement: filters, an order, and where the page before ended. Names are checked against
//! the view's columns and values are written as literals of their column's type, so that nothing a caller says is SQL.

use std::fmt::Write;
use std::str::FromStr;

use arrow::datatypes::{DataType, Schema};

/// Columns that tell a row apart, in the order in which they break ties.
pub const ROW_KEY: [&str; 3] = ["_connection", "_stream", "_key"];
/// At most so many conditions.
pub const FILTERS_MAX: usize = 20;
const LIST_MAX: usize = 200;

/// Rows cannot be asked for like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// There is no such column.
    #[error("there is no column {0:?}: see the view's columns")]
    Column(String),
    /// A condition is not written as it should be.
    #[error(
        "the filter {0:?} is not column:operator:value, with eq, ne, lt, lte, gt, gte, in, starts_with, contains, is_null or not_null"
    )]
    Filter(String),
    /// A value does not fit its column.
    #[error("{value:?} is no value of column {column}, which is {data_type}")]
    Value {
        /// The column.
        column: String,
        /// What was given.
        value: String,
        /// What the column holds.
        data_type: &'static str,
    },
    /// Too many conditions or values.
    #[error("at most {FILTERS_MAX} filters of {LIST_MAX} values each")]
    TooMany,
}

/// A page to read.
#[derive(Debug, Clone, Default)]
pub struct RowsPage {
    /// The columns wanted; empty for all.
    pub columns: Vec<String>,
    /// Conditions, all of which hold: `column:operator:value`.
    pub filters: Vec<String>,
    /// The column to order by; the row key alone when empty. Rows without a value come last.
    pub order: Option<String>,
    /// Whether the greatest come first.
    pub descending: bool,
    /// The last row of the page before: the value ordered by, if any, and the row key.
    pub after: Option<(Option<String>, [String; 3])>,
    /// Rows at most.
    pub limit: usize,
}

impl RowsPage {
    /// The statement that reads the page from `table`. The columns of the order and the row key are always read too, for
    /// the next page.
    pub fn to_sql(&self, table: &str, schema: &Schema) -> Result<String, RowsError> {
        let mut wanted = self.columns.clone();
        if !wanted.is_empty() {
            let needed = self.order.iter().map(String::as_str).chain(ROW_KEY);
            for name in needed {
                if !wanted.iter().any(|w| w == name) {
                    wanted.push(name.to_owned());
                }
            }
        }
        let columns = match wanted.is_empty() {
            true => "*".to_owned(),
            false => wanted.iter().map(|name| column(schema, name)).collect::<Result<Vec<_>, _>>()?.join(", "),
        };
        let mut conditions = self.conditions(schema)?;
        conditions.extend(self.behind(schema)?);
        let mut sql = format!("SELECT {columns} FROM {}", quoted(table));
        if !conditions.is_empty() {
            let _ = write!(sql, " WHERE {}", conditions.join(" AND "));
        }
        let mut order = Vec::new();
        if let Some(name) = &self.order {
            let direction = if self.descending { "DESC" } else { "ASC" };
            order.push(format!("{} {direction} NULLS LAST", column(schema, name)?));
        }
        order.extend(ROW_KEY.map(|name| format!("{} ASC", quoted(name))));
        let _ = write!(sql, " ORDER BY {} LIMIT {}", order.join(", "), self.limit);
        Ok(sql)
    }

    fn conditions(&self, schema: &Schema) -> Result<Vec<String>, RowsError> {
        if self.filters.len() > FILTERS_MAX {
            return Err(RowsError::TooMany);
        }
        self.filters.iter().map(|filter| condition(schema, filter)).collect()
    }

    /// What stands behind the last row of the page before.
    fn behind(&self, schema: &Schema) -> Result<Option<String>, RowsError> {
        let Some((value, key)) = &self.after else { return Ok(None) };
        let [connection, stream, row] = key.each_ref().map(|part| text(part));
        let [c, s, k] = ROW_KEY.map(quoted);
        let by_key = format!(
            "({c} > {connection} OR ({c} = {connection} AND ({s} > {stream} OR ({s} = {stream} AND {k} > {row}))))"
        );
        let Some(order) = &self.order else { return Ok(Some(by_key)) };
        let name = column(schema, order)?;
        Ok(Some(match value {
            None => format!("({name} IS NULL AND {by_key})"),
            Some(value) => {
                let value = literal(schema, order, value)?;
                let beyond = if self.descending { "<" } else { ">" };
                format!("({name} {beyond} {value} OR ({name} = {value} AND {by_key}) OR {name} IS NULL)")
            }
        }))
    }
}

fn condition(schema: &Schema, filter: &str) -> Result<String, RowsError> {
    let wrong = || RowsError::Filter(filter.chars().take(80).collect());
    let (name, rest) = filter.split_once(':').ok_or_else(wrong)?;
    let (operator, value) = rest.split_once(':').unwrap_or((rest, ""));
    let column = column(schema, name)?;
    let compare = |sign: &str| Ok(format!("{column} {sign} {}", literal(schema, name, value)?));
    match operator {
        "eq" => compare("="),
        "ne" => Ok(format!("{column} IS DISTINCT FROM {}", literal(schema, name, value)?)),
        "lt" => compare("<"),
        "lte" => compare("<="),
        "gt" => compare(">"),
        "gte" => compare(">="),
        "is_null" => Ok(format!("{column} IS NULL")),
        "not_null" => Ok(format!("{column} IS NOT NULL")),
        "starts_with" | "contains" if !is_text(schema, name) => Err(wrong()),
        "starts_with" => Ok(format!("starts_with({column}, {})", text(value))),
        "contains" => Ok(format!("strpos({column}, {}) > 0", text(value))),
        "in" => {
            let values: Vec<&str> = value.split(',').collect();
            if values.len() > LIST_MAX {
                return Err(RowsError::TooMany);
            }
            let values: Result<Vec<_>, _> = values.iter().map(|value| literal(schema, name, value)).collect();
            Ok(format!("{column} IN ({})", values?.join(", ")))
        }
        _ => Err(wrong()),
    }
}

fn is_text(schema: &Schema, name: &str) -> bool {
    schema.field_with_name(name).is_ok_and(|f| f.data_type() == &DataType::Utf8)
}

fn column(schema: &Schema, name: &str) -> Result<String, RowsError> {
    match schema.field_with_name(name) {
        Ok(field) => Ok(quoted(field.name())),
        Err(_) => Err(RowsError::Column(name.chars().take(80).collect())),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A value written as its column's type.
fn literal(schema: &Schema, name: &str, value: &str) -> Result<String, RowsError> {
    let field = schema.field_with_name(name).map_err(|_| RowsError::Column(name.chars().take(80).collect()))?;
    let wrong = |data_type| RowsError::Value {
        column: field.name().clone(),
        value: value.chars().take(80).collect(),
        data_type,
    };
    match field.data_type() {
        DataType::Boolean => match value {
            "true" | "false" => Ok(value.to_owned()),
            _ => Err(wrong("true or false")),
        },
        DataType::Int32 => i32::from_str(value).map(|n| n.to_string()).map_err(|_| wrong("a whole number")),
        DataType::Int64 => i64::from_str(value).map(|n| n.to_string()).map_err(|_| wrong("a whole number")),
        DataType::Decimal128(precision, scale) => {
            let scale = u8::try_from(*scale).unwrap_or(0);
            let digits = schemas::decimal::parse(value, *precision, scale, 0).map_err(|_| wrong("a decimal number"))?;
            let written = schemas::decimal::format(digits, scale);
            Ok(format!("CAST('{written}' AS DECIMAL({precision}, {scale}))"))
        }
        DataType::Date32 => {
            let days = schemas::time::parse_date(value).ok_or_else(|| wrong("a date such as 2026-01-31"))?;
            Ok(format!("CAST('{}' AS DATE)", schemas::time::format_date(days)))
        }
        DataType::Timestamp(..) => {
            let wrong = || wrong("a time such as 2026-01-31T00:00:00Z");
            let at = schemas::time::parse_timestamp(value).ok_or_else(wrong)?;
            // Nanoseconds would end in the year 2262.
            Ok(format!("CAST('{}' AS TIMESTAMP(6))", schemas::time::format_timestamp(at)))
        }
        _ => Ok(text(value)),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    fn schema() -> Schema {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        Schema::new(vec![
            text("name"),
            Field::new("amount", DataType::Decimal128(24, 2), true),
            Field::new("closed", DataType::Boolean, true),
            text("_connection"),
            text("_stream"),
            text("_key"),
        ])
    }

    fn sql(page: &RowsPage) -> Result<String, RowsError> {
        page.to_sql("deals", &schema())
    }

    #[test]
    fn what_a_caller_says_never_becomes_sql() {
        let page = RowsPage { filters: vec!["name:eq:x' OR true --".into()], limit: 5, ..RowsPage::default() };
        assert!(sql(&page).unwrap().contains("\"name\" = 'x'' OR true --'"));
        for bad in [
            "name\" OR 1=1 --:eq:1",
            "nope:eq:1",
            "name",
            "name:like:x",
            "amount:eq:1 OR 1=1",
            "amount:contains:1",
            "closed:eq:maybe",
        ] {
            let page = RowsPage { filters: vec![bad.into()], limit: 5, ..RowsPage::default() };
            assert!(sql(&page).is_err(), "{bad}");
        }
        let page = RowsPage { order: Some("name; drop".into()), limit: 5, ..RowsPage::default() };
        assert!(sql(&page).is_err());
    }

    #[test]
    fn a_page_behind_a_row_without_a_value_holds_only_such_rows() {
        let key = ["crm".to_owned(), "deal".to_owned(), "7".to_owned()];
        let mut page = RowsPage { order: Some("amount".into()), limit: 5, ..RowsPage::default() };
        page.after = Some((None, key.clone()));
        assert!(sql(&page).unwrap().contains("(\"amount\" IS NULL AND (\"_connection\" > 'crm'"));
        page.after = Some((Some("12.50".into()), key));
        let sql = sql(&page).unwrap();
        assert!(sql.contains("\"amount\" > CAST('12.50' AS DECIMAL(24, 2)) OR"), "{sql}");
        assert!(sql.contains("OR \"amount\" IS NULL)"), "{sql}");
    }
}
