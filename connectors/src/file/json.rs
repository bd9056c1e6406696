//! A JSON array, element by element, or a sequence of JSON texts: split by brackets and strings, never held as a tree.

use schemas::reason::Reason;
use schemas::record::RECORD_BYTES_MAX;

use super::cursor::Tail;
use super::fault::Fault;
use super::input::Input;
use super::lines::TooLarge;
use super::reading::{Place, Rows};
use super::sink::Sink;

/// Bytes of a text that is not closed which are kept as they stand.
const UNCLOSED_BYTES_MAX: usize = 64 << 10;

/// The elements of all arrays at the top of a file, and the texts that stand there outside an array, in order.
///
/// Only brackets and strings are looked at. An element that is not valid JSON is given as it stands; the step says why.
pub(super) struct JsonRows {
    input: Input,
    file: String,
    element: u64,
    in_array: bool,
    /// Where the text begins in which the file ended.
    unclosed: Option<u64>,
    terminated: bool,
}

/// What stands at the front of the input.
enum Element {
    /// An element of so many bytes.
    Whole(usize),
    /// The file ends in it; `true` where something is open.
    Last(usize, bool),
    /// More than a record may have.
    TooLong,
}

impl JsonRows {
    /// Elements of `input`.
    pub(super) fn new(input: Input, file: String) -> Self {
        Self { input, file, element: 0, in_array: false, unclosed: None, terminated: true }
    }

    /// Lets go what stands between elements; `false` at the end of the file.
    fn skip_to_element(&mut self) -> Result<bool, Fault> {
        loop {
            let Some(byte) = self.input.bytes().first().copied() else {
                if self.input.is_at_end()? {
                    return Ok(false);
                }
                continue;
            };
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => {}
                b',' if self.in_array => {}
                b']' if self.in_array => self.in_array = false,
                b'[' if !self.in_array => self.in_array = true,
                _ => return Ok(true),
            }
            self.input.consume(1);
        }
    }

    fn find_element(&mut self) -> Result<Element, Fault> {
        let (mut scanner, mut at) = (Scanner::new(self.in_array), 0);
        loop {
            let found = scanner.scan(self.input.bytes(), &mut at);
            if at > RECORD_BYTES_MAX {
                return Ok(Element::TooLong);
            }
            if found {
                return Ok(Element::Whole(at));
            }
            if !self.input.fill()? {
                // An array must be closed behind its last element.
                return Ok(Element::Last(at, self.in_array || scanner.is_open()));
            }
        }
    }

    fn take_long_element(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        let start = self.input.offset();
        let large = TooLarge::at(&self.input);
        let mut scanner = Scanner::new(self.in_array);
        let mut length = 0;
        self.terminated = loop {
            let mut at = 0;
            let found = scanner.scan(self.input.bytes(), &mut at);
            self.input.consume(at);
            length += at as u64;
            if found || !self.input.fill()? {
                break found;
            }
        };
        if !self.terminated && (self.in_array || scanner.is_open()) {
            self.unclosed = Some(start);
        }
        self.element += 1;
        sink.force(self.element, Reason::RecordTooLarge, &large.payload(&self.file, length))
    }

    /// Offers the element at the front of the input; `false` where the batch is full. One that swallowed much of the file,
    /// because it is not closed, is given by its beginning.
    fn offer(&mut self, sink: &mut Sink, len: usize, is_open: bool) -> Result<bool, Fault> {
        let element = self.input.bytes()[..len].trim_ascii_end();
        if is_open && element.len() > UNCLOSED_BYTES_MAX {
            let beginning = TooLarge::of(self.input.offset(), element).payload(&self.file, element.len() as u64);
            return sink.offer(self.element + 1, Some(Reason::MalformedJson), &beginning);
        }
        let defect = self.input.is_lossy(element).then_some(Reason::InvalidEncoding);
        sink.offer(self.element + 1, defect, element)
    }

    fn end(&mut self) -> Result<bool, Fault> {
        let cut_off = std::mem::take(&mut self.in_array);
        match self.unclosed.take() {
            Some(start) => Err(Fault::Content(format!(
                "the JSON text that begins at byte {start} is not closed: a bracket or a quote is missing, or the file is \
                 cut off; nothing behind it could be read"
            ))),
            None if cut_off => {
                let end = self.input.offset();
                Err(Fault::Content(format!("the JSON array is not closed at byte {end}; the file may be cut off")))
            }
            None => Ok(false),
        }
    }
}

impl Rows for JsonRows {
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault> {
        loop {
            if !self.skip_to_element()? {
                return self.end();
            }
            let (len, found, is_open) = match self.find_element()? {
                Element::Whole(len) => (len, true, false),
                Element::Last(len, is_open) => (len, false, is_open),
                Element::TooLong if sink.is_full() => return Ok(true),
                Element::TooLong => {
                    self.take_long_element(sink)?;
                    continue;
                }
            };
            if !self.offer(sink, len, is_open)? {
                return Ok(true);
            }
            if is_open {
                self.unclosed = Some(self.input.offset());
            }
            self.terminated = found;
            self.element += 1;
            self.input.consume(len);
        }
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        // What is not closed is an error, which the next batch finds.
        Ok(!self.skip_to_element()? && !self.in_array && self.unclosed.is_none())
    }

    fn place(&mut self) -> Place {
        let tail = if self.terminated { Tail::Final } else { Tail::NoLineEnd };
        Place { offset: self.input.offset(), hash: self.input.hash(), row: self.element, tail, dialect: None }
    }
}

/// Looks for the end of an element, over as many windows as it takes.
struct Scanner {
    in_array: bool,
    depth: u64,
    in_text: bool,
    escaped: bool,
}

impl Scanner {
    fn new(in_array: bool) -> Self {
        Self { in_array, depth: 0, in_text: false, escaped: false }
    }

    /// Whether a bracket or a string was opened and not closed yet.
    fn is_open(&self) -> bool {
        self.depth > 0 || self.in_text
    }

    /// Goes on at `at`; `true` where `at` is the element's end.
    fn scan(&mut self, bytes: &[u8], at: &mut usize) -> bool {
        while *at < bytes.len() {
            if self.escaped {
                self.escaped = false;
                *at += 1;
                continue;
            }
            if self.in_text {
                let Some(skipped) = memchr::memchr2(b'"', b'\\', &bytes[*at..]) else {
                    *at = bytes.len();
                    return false;
                };
                *at += skipped + 1;
                self.escaped = bytes[*at - 1] == b'\\';
                self.in_text = self.escaped;
                continue;
            }
            match bytes[*at] {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b']' if self.depth == 0 && self.in_array => return true,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 && !self.in_array {
                        *at += 1;
                        return true;
                    }
                }
                b',' if self.depth == 0 && self.in_array => return true,
                b'\n' if self.depth == 0 && !self.in_array => return true,
                _ => {}
            }
            *at += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The elements of `text`, read in pieces of `step` bytes.
    fn split(text: &[u8], step: usize) -> Vec<String> {
        let mut elements = Vec::new();
        let mut rest = text;
        let mut in_array = false;
        while let Some(byte) = rest.first() {
            match byte {
                b' ' | b'\n' | b'\t' | b'\r' => {}
                b',' if in_array => {}
                b']' if in_array => in_array = false,
                b'[' if !in_array => in_array = true,
                _ => {
                    let (mut scanner, mut at, mut seen) = (Scanner::new(in_array), 0, 0);
                    while seen < rest.len() {
                        seen = (seen + step).min(rest.len());
                        if scanner.scan(&rest[..seen], &mut at) {
                            break;
                        }
                    }
                    elements.push(String::from_utf8_lossy(rest[..at].trim_ascii_end()).into_owned());
                    rest = &rest[at..];
                    continue;
                }
            }
            rest = &rest[1..];
        }
        elements
    }

    #[test]
    fn elements_are_split_by_brackets_and_strings() {
        let text = br#" [ {"a":"]},{\""} , [1,2] ,3,"x,y" ] {"b":{}} "#;
        let expected = [r#"{"a":"]},{\""}"#, "[1,2]", "3", r#""x,y""#, r#"{"b":{}}"#];
        for step in [1, 2, 7, 1000] {
            assert_eq!(split(text, step), expected);
        }
    }

    #[test]
    fn an_element_that_is_not_json_is_given_as_it_stands() {
        assert_eq!(split(b"[{\"a\":1} x, nope]", 100), ["{\"a\":1} x", "nope"]);
        assert_eq!(split(b"garbage\n{\"a\":1}{\"b\":2}", 100), ["garbage", "{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(split(b"}{", 100), ["}", "{"]);
    }

    proptest! {
        #[test]
        fn the_window_does_not_change_the_elements(text in r#"[\[\]{}",\\a \n]{0,40}"#, step in 1usize..8) {
            prop_assert_eq!(split(text.as_bytes(), step), split(text.as_bytes(), 1 << 20));
        }
    }
}
