//! Why a query was refused or failed, in words that a tenant may read.

use std::error::Error;
use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

/// Why a query gave no (full) answer. The text names nothing but what the query itself named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The statement does what queries may not do.
    #[error("{0}")]
    Forbidden(String),
    /// The statement cannot be understood, or names what does not exist.
    #[error("{0}")]
    Invalid(String),
    /// The statement or its result is larger than allowed.
    #[error("{0}")]
    Limit(String),
    /// The query did not end within its time.
    #[error("the query did not end within {} ms: narrow it with a filter or a limit", .0.as_millis())]
    Timeout(Duration),
    /// All places for queries are taken, or all of the tenant's share.
    #[error("too many queries are running: try again in a moment")]
    Busy,
    /// Somebody stopped it.
    #[error("the query was cancelled")]
    Cancelled,
    /// A file that the query was to read is gone or damaged: its snapshot was older than files stay, or the view's table
    /// has lost it. Asking again takes a fresh snapshot, or tells what is wrong with the table.
    #[error("a file of the view has gone since the query began: ask again for a fresh snapshot")]
    Expired,
    /// The query broke off while running.
    #[error("{0}")]
    Failed(String),
}

impl QueryError {
    /// The code that programs go by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "sql_forbidden",
            Self::Invalid(_) => "sql_invalid",
            Self::Limit(_) => "query_limit",
            Self::Timeout(_) => "query_timeout",
            Self::Busy => "query_busy",
            Self::Cancelled => "query_cancelled",
            Self::Expired => "query_expired",
            Self::Failed(_) => "query_failed",
        }
    }

    /// What an error before the first row means. Its text is about the statement, so it is kept, without our names.
    pub(super) fn planning(error: DataFusionError) -> Self {
        if let Some(own) = own_error(&error) {
            return own;
        }
        match error.find_root() {
            DataFusionError::SQL(e, _) => match &**e {
                ParserError::RecursionLimitExceeded => Self::Limit("the statement is nested too deeply".into()),
                ParserError::ParserError(text) | ParserError::TokenizerError(text) => Self::Invalid(readable(text)),
            },
            DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => Self::Invalid(readable(text)),
            DataFusionError::SchemaError(e, _) => Self::Invalid(readable(&e.to_string())),
            DataFusionError::ResourcesExhausted(_) => out_of_memory(),
            DataFusionError::Internal(_) => {
                tracing::debug!(%error, "statement could not be planned");
                Self::Invalid("the statement cannot be planned: write it in a simpler way".into())
            }
            _ => Self::running(error),
        }
    }

    /// What an error while running means. Its text may hold values, so only its kind is told.
    pub(super) fn running(error: DataFusionError) -> Self {
        if let Some(own) = own_error(&error) {
            return own;
        }
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => out_of_memory(),
            DataFusionError::ArrowError(e, _) => arrow(e),
            DataFusionError::Execution(_) | DataFusionError::Plan(_) | DataFusionError::NotImplemented(_) => {
                tracing::debug!(%error, "query failed");
                Self::Failed("a value does not fit the function or cast that it is given to".into())
            }
            _ => {
                tracing::error!(%error, "query failed");
                Self::Failed("the query broke off: try again".into())
            }
        }
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Our own error, however deep DataFusion has wrapped it.
fn own_error(error: &DataFusionError) -> Option<QueryError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(e) = next {
        if let Some(own) = e.downcast_ref::<QueryError>() {
            return Some(own.clone());
        }
        next = e.source();
    }
    None
}

fn out_of_memory() -> QueryError {
    QueryError::Limit("the query needs more memory than it may have: group, sort or join fewer rows".into())
}

fn arrow(error: &ArrowError) -> QueryError {
    let text = match error {
        ArrowError::DivideByZero => "division by zero: guard it with nullif(divisor, 0)",
        ArrowError::ArithmeticOverflow(_) => "a number grew too large: cast to a wider type first",
        ArrowError::CastError(_) | ArrowError::ParseError(_) => "a value cannot be cast: use try_cast for null instead",
        ArrowError::MemoryError(_) | ArrowError::OffsetOverflowError(_) => return out_of_memory(),
        _ => "a value does not fit the function or operator that it is given to",
    };
    QueryError::Failed(text.into())
}

/// An engine's message without its own names, cut to a length that fits an answer.
fn readable(text: &str) -> String {
    let text = text.split("\n\nbacktrace").next().unwrap_or(text);
    let text = text.replace("views.public.", "").replace("DataFusion", "SQL").replace('\n', " ");
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_errors_survive_any_wrapping() {
        let error = DataFusionError::from(QueryError::Limit("x".into())).context("step");
        let error = ArrowError::ExternalError(Box::new(error)).into();
        assert_eq!(QueryError::running(error), QueryError::Limit("x".into()));
    }

    #[test]
    fn texts_while_running_hold_no_values() {
        let error = DataFusionError::Execution("cannot parse 'secret'".into());
        assert!(!QueryError::running(error).to_string().contains("secret"));
        let error = ArrowError::CastError("secret".into()).into();
        assert!(!QueryError::running(error).to_string().contains("secret"));
    }

    #[test]
    fn unknown_tables_are_named_as_the_statement_named_them() {
        let error = DataFusionError::Plan("table 'views.public.x' not found".into());
        assert_eq!(QueryError::planning(error), QueryError::Invalid("table 'x' not found".into()));
    }
}
