//! Lines of a text file, with a bound on what is held of one.

use std::io;

use schemas::record::RECORD_BYTES_MAX;
use serde_json::json;

use super::fault::Fault;
use super::input::Input;

/// Bytes of a record that is too large which are kept.
const HEAD_BYTES: usize = 1024;

/// A line in the window of an [`Input`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Bytes of the line, without its end.
    pub len: usize,
    /// Bytes to consume: the line and its end.
    pub taken: usize,
    /// Whether it has a line end.
    pub terminated: bool,
}

/// What stands at the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A line.
    Line(Span),
    /// A line of which the window holds more than a record may have.
    TooLong,
    /// Nothing more, or only an unterminated line that is left for later.
    End,
}

/// Finds the line at the front of the input.
#[inline]
pub(super) fn find_line(input: &mut Input, line_end: u8, follow: bool) -> io::Result<Found> {
    let mut searched = 0;
    loop {
        let bytes = input.bytes();
        if let Some(at) = memchr::memchr(line_end, &bytes[searched..]) {
            let len = searched + at;
            return Ok(if len > RECORD_BYTES_MAX {
                Found::TooLong
            } else {
                Found::Line(Span { len, taken: len + 1, terminated: true })
            });
        }
        searched = bytes.len();
        if searched > RECORD_BYTES_MAX {
            return Ok(Found::TooLong);
        }
        if !input.fill()? {
            return Ok(match searched {
                0 => Found::End,
                _ if follow => Found::End,
                len => Found::Line(Span { len, taken: len, terminated: false }),
            });
        }
    }
}

/// What is kept of a record that is too large.
#[derive(Debug)]
pub(super) struct TooLarge {
    offset: u64,
    head: Vec<u8>,
}

impl TooLarge {
    /// Keeps the beginning of what stands at the front of the input.
    pub(super) fn at(input: &Input) -> Self {
        Self::of(input.offset(), input.bytes())
    }
    /// Keeps the beginning of these bytes, which stand at `offset` in the file.
    pub(super) fn of(offset: u64, bytes: &[u8]) -> Self {
        Self { offset, head: bytes[..bytes.len().min(HEAD_BYTES)].to_vec() }
    }
    /// The payload that stands for the record, which is `length` bytes long.
    pub(super) fn payload(&self, file: &str, length: u64) -> Vec<u8> {
        json!({
            "file": file,
            "byte_offset": self.offset,
            "byte_length": length,
            "beginning": String::from_utf8_lossy(&self.head),
        })
        .to_string()
        .into_bytes()
    }
}

/// Lets a line go that is too long to be held; its length, and whether it had an end.
pub(super) fn skip_line(input: &mut Input, line_end: u8) -> Result<(u64, bool), Fault> {
    let mut length = 0;
    loop {
        let bytes = input.bytes();
        if let Some(at) = memchr::memchr(line_end, bytes) {
            input.consume(at + 1);
            return Ok((length + at as u64, true));
        }
        let held = bytes.len();
        length += held as u64;
        input.consume(held);
        if !input.fill()? {
            return Ok((length, false));
        }
    }
}

/// The line without a carriage return before its end.
#[inline]
pub(super) fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Whether a line has nothing but white space.
#[inline]
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.first().is_none_or(u8::is_ascii_whitespace) && line.iter().all(u8::is_ascii_whitespace)
}
