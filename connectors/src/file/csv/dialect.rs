//! How the rows of a CSV file are taken apart: given, or found out from the beginning of the file.

use std::borrow::Cow;
use std::path::Path;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use schemas::wire::{Reader, WireError, put_bytes};

use super::super::fault::Fault;
use super::super::settings::FileSettings;
use super::western;

/// Lines by which a delimiter is judged.
const LINES: usize = 50;

/// Delimiter, quote, line end and encoding. A lane keeps it in its cursor, because a file that grew might look different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Dialect {
    /// The byte between cells.
    pub delimiter: u8,
    /// The byte around cells.
    pub quote: u8,
    /// The last byte of a row.
    pub line_end: u8,
    /// The encoding.
    pub text: Text,
}

/// The encoding of the cells; always one that keeps ASCII bytes as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Text {
    /// Only ASCII so far: the first row that has more decides.
    Undecided,
    /// UTF-8.
    Utf8,
    /// A single-byte encoding.
    Single(&'static Encoding),
}

impl Text {
    fn of(encoding: &'static Encoding) -> Self {
        if encoding == UTF_8 { Self::Utf8 } else { Self::Single(encoding) }
    }

    fn sniff(sample: &[u8]) -> Result<Self, Fault> {
        if sample.is_ascii() {
            return Ok(Self::Undecided);
        }
        let (mut good, mut bad) = (0u64, 0u64);
        let mut rest = sample;
        while let Err(error) = std::str::from_utf8(rest) {
            good += count_non_ascii(&rest[..error.valid_up_to()]);
            // A character cut off at the sample's end says nothing.
            let Some(len) = error.error_len() else {
                rest = &[];
                break;
            };
            bad += 1;
            rest = &rest[error.valid_up_to() + len..];
        }
        good += count_non_ascii(rest);
        // A few broken bytes in UTF-8 are broken rows, not another encoding.
        match (good, bad) {
            (0, 0) => Ok(Self::Undecided),
            _ if good >= bad => Ok(Self::Utf8),
            _ if western::is_likely(sample) => Ok(Self::Single(WINDOWS_1252)),
            _ => Err(Fault::Config(
                "its text is no UTF-8, and in windows-1252 it would be nonsense; give --encoding, for example shift_jis, gbk, \
                 windows-1251, or windows-1252 all the same"
                    .into(),
            )),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Undecided => "",
            Self::Utf8 => UTF_8.name(),
            Self::Single(encoding) => encoding.name(),
        }
    }
}

fn count_non_ascii(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte >= 0xc0).count() as u64
}

impl Dialect {
    /// The most usual one.
    pub(in super::super) fn plain() -> Self {
        Self { delimiter: b',', quote: b'"', line_end: b'\n', text: Text::Undecided }
    }

    /// Finds out what was not given.
    pub(in super::super) fn sniff(
        sample: &[u8],
        path: &Path,
        settings: &FileSettings,
        given: Option<&'static Encoding>,
    ) -> Result<Self, Fault> {
        let has_bom = sample.starts_with(b"\xef\xbb\xbf");
        let sample = if has_bom { &sample[3..] } else { sample };
        let line_end = if memchr::memchr(b'\n', sample).is_none() && memchr::memchr(b'\r', sample).is_some() {
            b'\r'
        } else {
            b'\n'
        };
        let quote = settings.quote.unwrap_or_else(|| sniff_quote(sample, line_end));
        let delimiter = settings.delimiter.unwrap_or_else(|| sniff_delimiter(sample, path, quote, line_end));
        let text = match given {
            Some(encoding) => Text::of(encoding),
            None if has_bom => Text::Utf8,
            None => Text::sniff(sample)?,
        };
        Ok(Self { delimiter, quote, line_end, text })
    }

    /// Whether the settings agree with it.
    pub(in super::super) fn fits(&self, settings: &FileSettings, given: Option<&'static Encoding>) -> bool {
        settings.delimiter.is_none_or(|delimiter| delimiter == self.delimiter)
            && settings.quote.is_none_or(|quote| quote == self.quote)
            && given.is_none_or(|encoding| Text::of(encoding) == self.text)
    }

    /// The row as text, unless its bytes are broken. The first row that is not ASCII decides what is undecided.
    #[inline]
    pub(super) fn decode<'a>(&mut self, raw: &'a [u8]) -> Option<Cow<'a, str>> {
        match self.text {
            Text::Utf8 => std::str::from_utf8(raw).ok().map(Cow::Borrowed),
            Text::Single(encoding) if encoding == WINDOWS_1252 && !western::is_assigned(raw) => None,
            Text::Single(encoding) => encoding.decode_without_bom_handling_and_without_replacement(raw),
            Text::Undecided => match std::str::from_utf8(raw) {
                Ok(text) => {
                    if !text.is_ascii() {
                        self.text = Text::Utf8;
                    }
                    Some(Cow::Borrowed(text))
                }
                Err(_) if !western::is_likely(raw) => None,
                Err(_) => {
                    self.text = Text::Single(WINDOWS_1252);
                    self.decode(raw)
                }
            },
        }
    }

    /// The row without the carriage return of its line end.
    #[inline]
    pub(super) fn without_line_end<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        raw.strip_suffix(b"\r").unwrap_or(raw)
    }

    /// Appends it to a cursor.
    pub(in super::super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.delimiter, self.quote, self.line_end]);
        put_bytes(out, self.text.name().as_bytes());
    }

    /// Reads it from a cursor.
    pub(in super::super) fn get(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let [delimiter, quote, line_end] = reader.array()?;
        let text = match reader.text()? {
            "" => Text::Undecided,
            name => Text::of(Encoding::for_label(name.as_bytes()).ok_or(WireError::Invalid("an encoding"))?),
        };
        Ok(Self { delimiter, quote, line_end, text })
    }
}

/// A double quote, unless the header's cells stand in single ones.
fn sniff_quote(sample: &[u8], line_end: u8) -> u8 {
    let first = sample.split(|byte| *byte == line_end).next().unwrap_or_default().trim_ascii_end();
    let single = first.len() > 1 && first.starts_with(b"'") && first.ends_with(b"'") && !first.contains(&b'"');
    if single { b'\'' } else { b'"' }
}

/// The delimiter that most lines have as often as the header has it.
fn sniff_delimiter(sample: &[u8], path: &Path, quote: u8, line_end: u8) -> u8 {
    let candidates: [u8; 4] = [b',', b';', b'\t', b'|'];
    let lines = counts_per_line(sample, candidates, quote, line_end);
    let Some(header) = lines.first() else {
        return b',';
    };
    let score = |index: usize| {
        let count = header[index];
        let agreeing = lines.iter().filter(|line| line[index] == count).count();
        (count > 0).then_some((agreeing, count))
    };
    let by_name = path.to_str().is_some_and(|path| path.contains(".tsv") || path.contains(".tab"));
    let fallback = if by_name { b'\t' } else { b',' };
    // In a tie the earlier candidate wins.
    (0..candidates.len())
        .rev()
        .filter_map(|index| score(index).map(|score| (score, index)))
        .max_by_key(|(score, _)| *score)
        .map_or(fallback, |(_, index)| candidates[index])
}

/// How often each candidate stands outside quotes, for each of the first lines that the sample has in full.
fn counts_per_line(sample: &[u8], candidates: [u8; 4], quote: u8, line_end: u8) -> Vec<[u32; 4]> {
    let mut lines = Vec::new();
    let mut counts = [0u32; 4];
    let (mut quoted, mut fresh) = (false, true);
    for byte in sample {
        if *byte == quote {
            quoted = !quoted;
        } else if !quoted && *byte == line_end {
            if !fresh {
                lines.push(counts);
            }
            if lines.len() == LINES {
                return lines;
            }
            counts = [0; 4];
            fresh = true;
            continue;
        } else if !quoted && let Some(index) = candidates.iter().position(|candidate| candidate == byte) {
            counts[index] += 1;
        }
        fresh &= *byte == b'\r';
    }
    // The last line may be cut off; it only counts where it is the only one.
    if lines.is_empty() && !fresh {
        lines.push(counts);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sniff(sample: &[u8]) -> Dialect {
        Dialect::sniff(sample, Path::new("x.csv"), &FileSettings::default(), None).unwrap()
    }

    #[test]
    fn the_delimiter_is_the_one_that_the_lines_agree_on() {
        assert_eq!(sniff(b"a,b\n1,2\n").delimiter, b',');
        assert_eq!(sniff(b"name;amount\nx;1,5\ny;2,5\n").delimiter, b';');
        assert_eq!(sniff(b"a\tb c\n1\t2,3\n").delimiter, b'\t');
        assert_eq!(sniff(b"a|b|c\n1|2|3\n").delimiter, b'|');
        assert_eq!(sniff(b"\"a;b;c\",d\n\"1;2\",3\n").delimiter, b',');
        assert_eq!(sniff(b"only\n1\n").delimiter, b',');
        assert_eq!(sniff(b"").delimiter, b',');
        assert_eq!(
            Dialect::sniff(b"one\n", Path::new("x.tsv"), &FileSettings::default(), None).unwrap().delimiter,
            b'\t'
        );
    }

    #[test]
    fn the_encoding_is_what_most_of_the_text_is() {
        assert_eq!(sniff(b"a,b\n").text, Text::Undecided);
        assert_eq!(sniff("größe,b\n".as_bytes()).text, Text::Utf8);
        assert_eq!(sniff(b"gr\xf6\xdfe,b\n").text, Text::Single(WINDOWS_1252));
        assert_eq!(sniff("größe,äöü\n\u{20ac}".as_bytes().split_last().unwrap().1).text, Text::Utf8);
        assert_eq!(sniff(b"\xef\xbb\xbfa,b\n").text, Text::Utf8);
    }

    #[test]
    fn the_first_row_that_is_not_ascii_decides_an_undecided_encoding() {
        let mut dialect = sniff(b"a,b\n");
        assert_eq!(dialect.decode(b"x").as_deref(), Some("x"));
        assert_eq!(dialect.text, Text::Undecided);
        assert_eq!(dialect.decode(b"caf\xe9").as_deref(), Some("café"));
        assert_eq!(dialect.text, Text::Single(WINDOWS_1252));
        let mut dialect = sniff(b"a,b\n");
        assert_eq!(dialect.decode("é".as_bytes()).as_deref(), Some("é"));
        assert_eq!(dialect.decode(b"caf\xe9"), None);
        let mut dialect = sniff(b"a,b\n");
        assert_eq!(dialect.decode(b"\x93\xfa\x96{\x8c\xea"), None, "Shift-JIS");
        assert_eq!(dialect.text, Text::Undecided);
    }

    #[test]
    fn old_line_ends_and_single_quotes_are_seen() {
        assert_eq!(sniff(b"a,b\r1,2\r").line_end, b'\r');
        assert_eq!(sniff(b"a,b\r\n1,2\r\n").line_end, b'\n');
        assert_eq!(sniff(b"'a','b'\n'1','2'\n").quote, b'\'');
    }
}
