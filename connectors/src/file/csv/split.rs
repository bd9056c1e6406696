//! Where a row ends.

use std::io;

use schemas::record::RECORD_BYTES_MAX;

use super::super::input::Input;
use super::super::lines::{Found, Span, find_line};
use super::dialect::Dialect;

/// What stands at the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// A row, perhaps of several lines.
    Whole(Span),
    /// The first line of something that is no row: a quote is not closed, or text follows a closing one.
    Broken(Span),
    /// The same, but only because the text ends, here, before a quote is closed.
    Unclosed(Span, u64),
    /// A line of which the window holds more than a record may have.
    TooLong,
    /// Nothing more, or only an unfinished row that is left for later.
    End,
}

/// Finds rows, one after the other.
#[derive(Debug, Default)]
pub(super) struct RowFinder {
    /// How far the last search for a closing quote went in vain, as an offset in the file, and its state there.
    vain: Option<(u64, State)>,
}

/// Where in a row a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    CellStart,
    Plain,
    Quoted,
    /// Behind a quote inside a quoted cell: the cell's end, or the first half of a quote in it.
    Quote,
    /// Behind a carriage return behind the end of a quoted cell.
    Return,
}

/// What a search found in the bytes that it was given.
enum Step {
    Ended(usize),
    Broken,
    More,
}

impl RowFinder {
    /// Finds the row at the front of the input.
    #[inline]
    pub(super) fn find(&mut self, input: &mut Input, dialect: &Dialect, follow: bool) -> io::Result<Row> {
        match find_line(input, dialect.line_end, follow)? {
            Found::Line(line) if memchr::memchr(dialect.quote, &input.bytes()[..line.len]).is_none() => {
                Ok(Row::Whole(line))
            }
            Found::Line(line) => self.find_quoted(input, dialect, follow, line),
            Found::TooLong => Ok(Row::TooLong),
            Found::End => Ok(Row::End),
        }
    }

    /// A row whose first line has a quote.
    fn find_quoted(&mut self, input: &mut Input, dialect: &Dialect, follow: bool, line: Span) -> io::Result<Row> {
        let (mut state, mut at) = (State::CellStart, 0);
        let mut step = scan(&input.bytes()[..line.taken], dialect, &mut state, &mut at);
        // A search in vain was inside quotes at every line end that it passed, so this one, being so too, would go the
        // same way: it goes on where that one stopped. Without this, bad quotes could cost quadratic time.
        if let (Step::More, Some((stopped, stopped_in))) = (&step, self.vain)
            && let Some(ahead) = stopped.checked_sub(input.offset()).and_then(|ahead| usize::try_from(ahead).ok())
            && ahead > at
        {
            (state, at) = (stopped_in, ahead);
        }
        let row = loop {
            if matches!(step, Step::More) {
                step = scan(input.bytes(), dialect, &mut state, &mut at);
            }
            let in_vain = match step {
                Step::Ended(len) if len <= RECORD_BYTES_MAX => {
                    return Ok(Row::Whole(Span { len, taken: len + 1, terminated: true }));
                }
                Step::Ended(_) | Step::Broken => true,
                Step::More => at > RECORD_BYTES_MAX,
            };
            if in_vain {
                break Row::Broken(line);
            }
            if !input.fill()? {
                if follow {
                    return Ok(Row::End);
                }
                if state != State::Quoted {
                    return Ok(Row::Whole(Span { len: at, taken: at, terminated: false }));
                }
                break Row::Unclosed(line, input.offset() + at as u64);
            }
        };
        self.vain = Some((input.offset() + at as u64, state));
        Ok(row)
    }
}

/// Goes on at `at` in `state`; both stay before the byte that ended or broke the row.
fn scan(bytes: &[u8], dialect: &Dialect, state: &mut State, at: &mut usize) -> Step {
    let Dialect { delimiter, quote, line_end, .. } = *dialect;
    while let Some(byte) = bytes.get(*at).copied() {
        *state = match *state {
            State::Quoted => match memchr::memchr(quote, &bytes[*at..]) {
                Some(skipped) => {
                    *at += skipped;
                    State::Quote
                }
                None => {
                    *at = bytes.len();
                    return Step::More;
                }
            },
            State::Plain => match memchr::memchr2(delimiter, line_end, &bytes[*at..]) {
                Some(skipped) => {
                    *at += skipped;
                    if bytes[*at] == line_end {
                        return Step::Ended(*at);
                    }
                    State::CellStart
                }
                None => {
                    *at = bytes.len();
                    return Step::More;
                }
            },
            State::CellStart | State::Quote | State::Return if byte == line_end => return Step::Ended(*at),
            State::CellStart | State::Quote if byte == delimiter => State::CellStart,
            State::CellStart if byte == quote => State::Quoted,
            State::CellStart => State::Plain,
            State::Quote if byte == quote => State::Quoted,
            State::Quote if byte == b'\r' => State::Return,
            State::Quote | State::Return => return Step::Broken,
        };
        *at += 1;
    }
    Step::More
}
