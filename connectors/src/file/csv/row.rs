//! From a row of text to a JSON object.

use std::borrow::Cow;

use schemas::reason::Reason;
use schemas::record::RECORD_BYTES_MAX;

use super::dialect::Dialect;
use super::header::Header;

/// Writes the row as a JSON object, or says why it cannot be one.
#[inline]
pub(super) fn write_json(text: &str, dialect: &Dialect, header: &Header, out: &mut Vec<u8>) -> Result<(), Reason> {
    out.clear();
    let mut pieces = header.pieces.iter();
    for cell in Cells::new(text, dialect) {
        let cell = cell.map_err(|Broken| Reason::MalformedRow)?;
        let piece = pieces.next().ok_or(Reason::RowTooLong)?;
        out.extend_from_slice(piece);
        if cell.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            put_json_text(&cell, out);
        }
        if out.len() > RECORD_BYTES_MAX {
            return Err(Reason::RecordTooLarge);
        }
    }
    out.push(b'}');
    Ok(())
}

/// Writes a JSON string.
#[inline]
pub(in super::super) fn put_json_text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[start..at]);
        start = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

/// A quoted cell that is not closed, or has text behind its closing quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// The cells of a row.
pub(super) struct Cells<'a> {
    rest: Option<&'a str>,
    delimiter: u8,
    quote: u8,
}

impl<'a> Cells<'a> {
    /// The cells of `row`, which has no line end.
    pub(super) fn new(row: &'a str, dialect: &Dialect) -> Self {
        Self { rest: Some(row), delimiter: dialect.delimiter, quote: dialect.quote }
    }

    fn quoted(&mut self, row: &'a str) -> Result<Cow<'a, str>, Broken> {
        let mut cell = Cow::Borrowed("");
        let mut start = 1;
        loop {
            let end = start + memchr::memchr(self.quote, &row.as_bytes()[start..]).ok_or(Broken)?;
            let part = &row[start..end];
            match row.as_bytes().get(end + 1) {
                Some(next) if *next == self.quote => {
                    // A doubled quote stands for one.
                    let whole = cell.to_mut();
                    whole.push_str(part);
                    whole.push(char::from(self.quote));
                    start = end + 2;
                    continue;
                }
                Some(next) if *next == self.delimiter => self.rest = Some(&row[end + 2..]),
                Some(_) => return Err(Broken),
                None => self.rest = None,
            }
            if cell.is_empty() {
                return Ok(Cow::Borrowed(part));
            }
            cell.to_mut().push_str(part);
            return Ok(cell);
        }
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = Result<Cow<'a, str>, Broken>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rest.take()?;
        let bytes = row.as_bytes();
        if bytes.first() == Some(&self.quote) {
            return Some(self.quoted(row));
        }
        // Delimiter and quote are ASCII, so every cut is between characters.
        let cell = match memchr::memchr(self.delimiter, bytes) {
            Some(end) => {
                self.rest = Some(&row[end + 1..]);
                &row[..end]
            }
            None => row,
        };
        Some(Ok(Cow::Borrowed(cell)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dialect::Text;
    use super::*;

    const DIALECT: Dialect = Dialect { delimiter: b',', quote: b'"', line_end: b'\n', text: Text::Utf8 };

    fn json(row: &str) -> Result<String, Reason> {
        let header = Header::named(&["a".into(), "b \"x\"".into(), "c".into()]).unwrap();
        let mut out = Vec::new();
        write_json(row, &DIALECT, &header, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn cells_are_texts_an_empty_one_is_null_and_missing_ones_are_left_out() {
        assert_eq!(json("007,\"x \"\"y\"\", z\",").unwrap(), r#"{"a":"007","b \"x\"":"x \"y\", z","c":null}"#);
        assert_eq!(json("1").unwrap(), r#"{"a":"1"}"#);
        assert_eq!(json("\"\",5\" pipe").unwrap(), r#"{"a":null,"b \"x\"":"5\" pipe"}"#);
    }

    #[test]
    fn rows_that_are_no_rows_say_why() {
        assert_eq!(json("1,2,3,4"), Err(Reason::RowTooLong));
        assert_eq!(json("1,2,3,"), Err(Reason::RowTooLong));
        assert_eq!(json("\"1"), Err(Reason::MalformedRow));
        assert_eq!(json("\"1\"2,3"), Err(Reason::MalformedRow));
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_json_text(text: String) {
            let mut out = Vec::new();
            put_json_text(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn what_is_quoted_is_read_back(cells in proptest::collection::vec(any::<String>(), 1..4)) {
            let row: Vec<String> = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
            let back: Vec<String> = Cells::new(&row.join(","), &DIALECT).map(|cell| cell.unwrap().into_owned()).collect();
            prop_assert_eq!(back, cells);
        }

        #[test]
        fn any_row_gives_an_answer_and_no_panic(row in "[a\",é]{0,12}") {
            let _ = json(&row);
        }
    }
}
