//! Counts on the tokens, before the recursive parser and planner see the statement.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

use super::super::QueryError;
use super::*;

/// Statements that are never queries.
const COMMANDS: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "BEGIN",
    "CALL",
    "CLOSE",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DETACH",
    "DO",
    "DROP",
    "EXECUTE",
    "EXPLAIN",
    "EXPORT",
    "FETCH",
    "GRANT",
    "IMPORT",
    "INSERT",
    "INSTALL",
    "KILL",
    "LISTEN",
    "LOAD",
    "LOCK",
    "MERGE",
    "NOTIFY",
    "OPTIMIZE",
    "PRAGMA",
    "PREPARE",
    "REFRESH",
    "REINDEX",
    "REPLACE",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "START",
    "TRUNCATE",
    "UNLOAD",
    "UPDATE",
    "UPSERT",
    "USE",
    "VACUUM",
];

/// Words that build an expression node around another, as operators do.
const OPERATOR_WORDS: &[&str] = &[
    "ALL", "AND", "ANY", "AT", "BETWEEN", "CASE", "CAST", "COLLATE", "DIV", "EXISTS", "EXTRACT", "ILIKE", "IN",
    "INTERVAL", "IS", "ISNULL", "LIKE", "NOT", "NOTNULL", "OR", "OVERLAPS", "REGEXP", "RLIKE", "SIMILAR", "SOME",
    "TRY_CAST", "WHEN", "XOR",
];

/// Refuses statements that are no query or too large to plan. Linear in the text, and does not recurse.
pub fn check_text(sql: &str) -> Result<(), QueryError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(too_many("bytes", SQL_BYTES_MAX));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().map_err(|e| QueryError::Invalid(e.to_string()))?;
    let mut tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).peekable();
    if let Some(Token::Word(word)) = tokens.peek()
        && word.quote_style.is_none()
        && COMMANDS.contains(&word.value.to_ascii_uppercase().as_str())
    {
        let text = format!("{} is not allowed: only SELECT, SHOW TABLES and DESCRIBE are", word.value.to_uppercase());
        return Err(QueryError::Forbidden(text));
    }
    let mut counts = Counts::default();
    for token in tokens {
        counts.add(&token)?;
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    operators: usize,
    concatenations: usize,
    in_values: usize,
    commas: usize,
    words: usize,
    set_arms: usize,
    selects: usize,
    joins: usize,
    depth: usize,
    name_parts: usize,
    ended: bool,
    before: Before,
    /// Depths at which an IN list was opened; only the innermost matters.
    in_lists: Vec<usize>,
}

#[derive(Default, PartialEq, Clone, Copy)]
enum Before {
    #[default]
    Other,
    In,
    /// A bracket after IN, not yet known to hold values or a query.
    InOpen,
    Comma,
}

impl Counts {
    fn add(&mut self, token: &Token) -> Result<(), QueryError> {
        if self.ended && *token != Token::SemiColon {
            return Err(QueryError::Forbidden("only one statement at a time is allowed".into()));
        }
        let before = std::mem::replace(&mut self.before, Before::Other);
        if before == Before::InOpen && !is_query_word(token) {
            self.in_lists.push(self.depth);
            self.in_values += 1;
        }
        self.name_parts = match token {
            Token::Word(_) => self.name_parts,
            Token::Period => self.name_parts + 1,
            _ => 0,
        };
        match token {
            Token::Word(word) => self.word(word),
            Token::Comma if self.in_values_here() => {
                self.in_values += 1;
                self.before = Before::Comma;
            }
            Token::Comma => self.commas += 1,
            Token::LParen => {
                self.depth += 1;
                if before == Before::In {
                    self.before = Before::InOpen;
                }
            }
            Token::LBracket | Token::LBrace => {
                self.depth += 1;
                self.operators += 1;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if self.in_values_here() {
                    self.in_lists.pop();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            Token::SemiColon => self.ended = true,
            // The sign of a value in a list is part of the value.
            Token::Minus | Token::Plus if matches!(before, Before::Comma | Before::InOpen) => {}
            Token::Number(..) if self.in_values_here() => {}
            Token::Period => {}
            other => self.literal_or_operator(other)?,
        }
        self.check()
    }

    fn in_values_here(&self) -> bool {
        self.in_lists.last() == Some(&self.depth) && self.depth > 0
    }

    fn word(&mut self, word: &Word) {
        self.words += 1;
        if word.quote_style.is_some() {
            return;
        }
        let upper = word.value.to_ascii_uppercase();
        match upper.as_str() {
            "SELECT" => self.selects += 1,
            "JOIN" | "APPLY" => self.joins += 1,
            "UNION" | "INTERSECT" | "EXCEPT" | "MINUS" => self.set_arms += 1,
            word if OPERATOR_WORDS.contains(&word) => {
                self.operators += 1;
                if word == "IN" {
                    self.before = Before::In;
                }
            }
            _ => {}
        }
    }

    fn literal_or_operator(&mut self, token: &Token) -> Result<(), QueryError> {
        match literal_bytes(token) {
            Some(bytes) if bytes > LITERAL_BYTES_MAX => {
                return Err(too_many("bytes in one literal", LITERAL_BYTES_MAX));
            }
            Some(_) if self.in_values_here() => {}
            Some(_) => self.words += 1,
            None => {
                self.operators += 1;
                self.concatenations += usize::from(*token == Token::StringConcat);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), QueryError> {
        for (count, max, what) in [
            (self.operators, OPERATORS_MAX, "operators"),
            (self.concatenations, CONCATENATIONS_MAX, "||, where concat takes any number of texts"),
            (self.in_values, IN_VALUES_MAX, "values in IN lists"),
            (self.commas, COMMAS_MAX, "columns and arguments"),
            (self.words, WORDS_MAX, "words"),
            (self.set_arms, SET_ARMS_MAX, "UNION arms"),
            (self.selects, SELECTS_MAX, "SELECTs"),
            (self.joins, JOINS_MAX, "JOINs"),
            (self.depth, DEPTH_MAX, "nested brackets"),
            (self.name_parts, 8, "parts of a name"),
        ] {
            if count > max {
                return Err(too_many(what, max));
            }
        }
        Ok(())
    }
}

/// Bytes of a literal, or none for an operator.
fn literal_bytes(token: &Token) -> Option<usize> {
    Some(match token {
        Token::Number(text, _)
        | Token::SingleQuotedString(text)
        | Token::DoubleQuotedString(text)
        | Token::TripleSingleQuotedString(text)
        | Token::TripleDoubleQuotedString(text)
        | Token::SingleQuotedByteStringLiteral(text)
        | Token::DoubleQuotedByteStringLiteral(text)
        | Token::TripleSingleQuotedByteStringLiteral(text)
        | Token::TripleDoubleQuotedByteStringLiteral(text)
        | Token::SingleQuotedRawStringLiteral(text)
        | Token::DoubleQuotedRawStringLiteral(text)
        | Token::TripleSingleQuotedRawStringLiteral(text)
        | Token::TripleDoubleQuotedRawStringLiteral(text)
        | Token::NationalStringLiteral(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text)
        | Token::HexStringLiteral(text) => text.len(),
        Token::DollarQuotedString(text) => text.value.len(),
        Token::QuoteDelimitedStringLiteral(text) | Token::NationalQuoteDelimitedStringLiteral(text) => text.value.len(),
        _ => return None,
    })
}

fn is_query_word(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none()
        && ["SELECT", "WITH", "VALUES", "TABLE", "FROM"].contains(&word.value.to_ascii_uppercase().as_str()))
}

fn too_many(what: &str, max: usize) -> QueryError {
    QueryError::Limit(format!("the statement has more than {max} {what}: split it or make it shorter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(sql: &str) -> Option<&'static str> {
        check_text(sql).err().map(|e| e.code())
    }

    fn chain(item: &str, separator: &str, count: usize) -> String {
        vec![item; count].join(separator)
    }

    #[test]
    fn operators_are_counted_wherever_they_stand() {
        assert_eq!(code(&format!("SELECT {}", chain("1", "+", 400))), None);
        for count in [600, 2_000, 100_000] {
            assert_eq!(code(&format!("SELECT {}", chain("1", "+", count))), Some("query_limit"));
            assert_eq!(code(&format!("SELECT 1 WHERE {}", chain("a=1", " OR ", count))), Some("query_limit"));
            assert_eq!(code(&format!("SELECT a IN ({})", chain("1", "+", count))), Some("query_limit"));
            assert_eq!(code(&format!("SELECT a IN (1, {})", chain("1", "+", count))), Some("query_limit"));
            assert_eq!(code(&format!("SELECT {}1", "- ".repeat(count))), Some("query_limit"));
            assert_eq!(code(&format!("SELECT {}true", "NOT ".repeat(count))), Some("query_limit"));
            assert_eq!(code(&format!("SELECT 1{}", "::int".repeat(count))), Some("query_limit"));
            assert_eq!(code(&format!("SELECT CASE {} END", "WHEN a THEN b ".repeat(count))), Some("query_limit"));
        }
    }

    #[test]
    fn concatenations_are_functions_within_functions_and_bounded_more_closely() {
        assert_eq!(code(&format!("SELECT {}", chain("a", "||", CONCATENATIONS_MAX + 1))), None);
        assert_eq!(code(&format!("SELECT {}", chain("a", "||", CONCATENATIONS_MAX + 2))), Some("query_limit"));
    }

    #[test]
    fn lists_of_ten_thousand_values_pass_and_of_a_million_do_not() {
        assert_eq!(code(&format!("SELECT a IN ({})", chain("-12.5", ", ", 10_000))), None);
        assert_eq!(code(&format!("SELECT a IN ({})", chain("'ab'", ",", 10_000))), None);
        assert_eq!(code(&format!("SELECT a IN ({})", chain("1", ",", 10_001))), Some("query_limit"));
        assert_eq!(code(&format!("SELECT a IN ({})", chain("1", ",", 1_000_000))), Some("query_limit"));
        assert_eq!(code("SELECT a IN (SELECT 1) AND b IN (1, 2) OR c IN ((1), (2))"), None);
    }

    #[test]
    fn depth_arms_and_length_are_bounded() {
        assert_eq!(code(&format!("SELECT {}1{}", "(".repeat(40), ")".repeat(40))), None);
        assert_eq!(code(&format!("SELECT {}1{}", "(".repeat(41), ")".repeat(41))), Some("query_limit"));
        assert_eq!(code(&format!("SELECT {}1", "(".repeat(200_000))), Some("query_limit"));
        assert_eq!(code(&chain("SELECT 1", " UNION ALL ", 10_000)), Some("query_limit"));
        assert_eq!(code(&format!("SELECT '{}'", "x".repeat(10 << 20))), Some("query_limit"));
        assert_eq!(code(&format!("SELECT '{}'", "x".repeat(5_000))), Some("query_limit"));
        assert_eq!(code(&format!("SELECT {}", chain("a", ".", 2_000))), Some("query_limit"));
    }

    #[test]
    fn commands_and_second_statements_are_forbidden() {
        for sql in
            ["SET a = 1", "drop table t", " /* x */ insert into t values (1)", "SELECT 1; SELECT 2", "explain select 1"]
        {
            assert_eq!(code(sql), Some("sql_forbidden"), "{sql}");
        }
        assert_eq!(code("SELECT 1;"), None);
        assert_eq!(code("SELECT 'a; drop table t'"), None);
    }
}
