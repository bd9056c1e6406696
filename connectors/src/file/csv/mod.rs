//! Delimited text: rows are split as raw bytes, decoded one by one, and become JSON objects.

mod dialect;
mod header;
mod row;
mod split;
mod western;

use schemas::input::DeclaredField;
use schemas::reason::Reason;

use super::cursor::Tail;
use super::fault::Fault;
use super::input::Input;
use super::lines::{TooLarge, skip_line};
use super::reading::{Place, Rows};
use super::sink::Sink;

pub(super) use dialect::Dialect;
#[cfg(test)]
pub(super) use dialect::Text;
pub(super) use header::Header;
pub(super) use row::put_json_text;
use split::{Row, RowFinder};

/// The rows of a CSV file. The ordinal of a record is its row number below the header; blank lines do not count.
///
/// Every cell becomes a JSON text, an empty one null, whether quoted or not. A row that cannot be taken apart is given as
/// the raw bytes of its first line, and reading goes on with the line after it, so that one stray quote costs one line.
pub(super) struct CsvRows {
    input: Input,
    file: String,
    dialect: Dialect,
    finder: RowFinder,
    header: Option<Header>,
    row: u64,
    terminated: bool,
    /// Where the text ended before a quote was closed, if rows were made out for that reason.
    unclosed: Option<u64>,
    follow: bool,
    json: Vec<u8>,
}

impl CsvRows {
    /// Rows of `input`, which begins with the header.
    pub(super) fn new(input: Input, file: String, dialect: Dialect, follow: bool) -> Self {
        let finder = RowFinder::default();
        Self {
            input,
            file,
            dialect,
            finder,
            header: None,
            row: 0,
            terminated: true,
            unclosed: None,
            follow,
            json: Vec::new(),
        }
    }

    /// Goes on behind `row` rows that ended like `tail`; the header is read from `front`.
    pub(super) fn resume(&mut self, mut front: Input, row: u64, tail: Tail) -> Result<(), Fault> {
        // What was decided about the text since then must not change how the header reads.
        let mut dialect = self.dialect;
        self.header = Header::read(&mut front, &mut dialect, false)?;
        self.row = row;
        if let Tail::OpenQuote(end) = tail {
            self.unclosed = Some(end);
        }
        Ok(())
    }

    /// Offers the row at the front of the input; `false` where the batch is full.
    fn offer(&mut self, sink: &mut Sink, len: usize) -> Result<bool, Fault> {
        let Some(header) = &self.header else {
            return Err(Fault::Content("has no header row".into()));
        };
        let raw = self.dialect.without_line_end(&self.input.bytes()[..len]);
        let ordinal = self.row + 1;
        let lossy = self.input.is_lossy(raw);
        let text = if lossy { None } else { self.dialect.decode(raw) };
        let Some(text) = text else {
            return sink.offer(ordinal, Some(Reason::InvalidEncoding), raw);
        };
        if memchr::memchr(0, raw).is_some() {
            return sink.offer(ordinal, Some(Reason::NulByte), raw);
        }
        match row::write_json(&text, &self.dialect, header, &mut self.json) {
            Ok(()) => sink.offer(ordinal, None, &self.json),
            Err(Reason::RecordTooLarge) => {
                let large = TooLarge::of(self.input.offset(), raw).payload(&self.file, raw.len() as u64);
                sink.offer(ordinal, Some(Reason::RecordTooLarge), &large)
            }
            Err(defect) => sink.offer(ordinal, Some(defect), raw),
        }
    }

    fn take_long_line(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        let large = TooLarge::at(&self.input);
        let (length, terminated) = skip_line(&mut self.input, self.dialect.line_end)?;
        self.row += 1;
        self.terminated = terminated;
        sink.force(self.row, Reason::RecordTooLarge, &large.payload(&self.file, length))
    }
}

impl Rows for CsvRows {
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault> {
        if self.header.is_none() {
            self.header = Header::read(&mut self.input, &mut self.dialect, self.follow)?;
            if self.header.is_none() {
                return Ok(false);
            }
        }
        loop {
            let row = self.finder.find(&mut self.input, &self.dialect, self.follow)?;
            let (span, taken) = match row {
                Row::End => return Ok(false),
                Row::TooLong if sink.is_full() => return Ok(true),
                Row::TooLong => {
                    self.take_long_line(sink)?;
                    continue;
                }
                Row::Whole(span) if self.dialect.without_line_end(&self.input.bytes()[..span.len]).is_empty() => {
                    self.terminated = span.terminated;
                    self.input.consume(span.taken);
                    continue;
                }
                Row::Whole(span) => (span, self.offer(sink, span.len)?),
                Row::Broken(span) | Row::Unclosed(span, _) => {
                    let raw = self.dialect.without_line_end(&self.input.bytes()[..span.len]);
                    (span, sink.offer(self.row + 1, Some(Reason::MalformedRow), raw)?)
                }
            };
            if !taken {
                return Ok(true);
            }
            if let Row::Unclosed(_, end) = row {
                self.unclosed = Some(end);
            }
            self.row += 1;
            self.terminated = span.terminated;
            self.input.consume(span.taken);
        }
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.input.is_at_end()?)
    }

    fn declared(&self) -> Option<&[DeclaredField]> {
        self.header.as_ref().and_then(|header| header.declared.as_deref())
    }

    fn place(&mut self) -> Place {
        let tail = match self.unclosed {
            Some(end) => Tail::OpenQuote(end),
            None if self.terminated => Tail::Final,
            None => Tail::NoLineEnd,
        };
        let (offset, hash) = (self.input.offset(), self.input.hash());
        Place { offset, hash, row: self.row, tail, dialect: Some(self.dialect) }
    }
}
