//! One JSON text per line, taken as it stands: the step parses it, once.

use schemas::reason::Reason;

use super::cursor::Tail;
use super::fault::Fault;
use super::input::Input;
use super::lines::{Found, TooLarge, find_line, is_blank, skip_line, without_cr};
use super::reading::{Place, Rows};
use super::sink::Sink;

/// The lines of an NDJSON file. The ordinal of a record is its line number; blank lines count but are no records.
pub(super) struct NdjsonRows {
    input: Input,
    file: String,
    line: u64,
    terminated: bool,
    follow: bool,
}

impl NdjsonRows {
    /// Lines of `input`, of which the first has the number `line + 1`.
    pub(super) fn new(input: Input, file: String, line: u64, follow: bool) -> Self {
        Self { input, file, line, terminated: true, follow }
    }

    fn take_long_line(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        let large = TooLarge::at(&self.input);
        let (length, terminated) = skip_line(&mut self.input, b'\n')?;
        self.line += 1;
        self.terminated = terminated;
        sink.force(self.line, Reason::RecordTooLarge, &large.payload(&self.file, length))
    }
}

impl Rows for NdjsonRows {
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault> {
        loop {
            let span = match find_line(&mut self.input, b'\n', self.follow)? {
                Found::Line(span) => span,
                Found::TooLong if sink.is_full() => return Ok(true),
                Found::TooLong => {
                    self.take_long_line(sink)?;
                    continue;
                }
                Found::End => return Ok(false),
            };
            let line = without_cr(&self.input.bytes()[..span.len]);
            if !is_blank(line) {
                let defect = self.input.is_lossy(line).then_some(Reason::InvalidEncoding);
                if !sink.offer(self.line + 1, defect, line)? {
                    return Ok(true);
                }
            }
            self.line += 1;
            self.terminated = span.terminated;
            self.input.consume(span.taken);
        }
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.input.is_at_end()?)
    }

    fn place(&mut self) -> Place {
        let tail = if self.terminated { Tail::Final } else { Tail::NoLineEnd };
        Place { offset: self.input.offset(), hash: self.input.hash(), row: self.line, tail, dialect: None }
    }
}
