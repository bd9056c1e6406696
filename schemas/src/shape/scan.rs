//! Scanning JSON tokens: strings eight bytes at a time, numbers by their grammar (RFC 8259).

/// Where a string token ends, and whether it holds escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StringEnd {
    /// Index of the closing quote.
    pub(super) at: usize,
    /// Whether a backslash stands in it.
    pub(super) escaped: bool,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// High bits of the bytes of `word` that end a plain run: a quote, a backslash or a control character.
#[inline]
fn special(word: u64) -> u64 {
    let zero_at = |x: u64| x.wrapping_sub(ONES) & !x;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (control | zero_at(word ^ (ONES * u64::from(b'"'))) | zero_at(word ^ (ONES * u64::from(b'\\')))) & HIGHS
}

/// Finds the end of the string whose first character is at `start`; `None` if it is not valid.
#[inline]
pub(super) fn string_end(bytes: &[u8], start: usize) -> Option<StringEnd> {
    let mut at = start;
    let mut escaped = false;
    loop {
        while let Some(chunk) = bytes.get(at..at + 8) {
            let found = special(u64::from_le_bytes(chunk.try_into().ok()?));
            if found != 0 {
                at += (found.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match *bytes.get(at)? {
            b'"' => return Some(StringEnd { at, escaped }),
            b'\\' => {
                escaped = true;
                at = escape_end(bytes, at)?;
            }
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// The index behind the escape that starts at `at`; a surrogate must have its partner.
fn escape_end(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => {
            let unit = hex4(bytes, at + 2)?;
            match unit {
                0xD800..0xDC00 => {
                    let low = (bytes.get(at + 6..at + 8)? == b"\\u").then(|| hex4(bytes, at + 8))??;
                    (0xDC00..0xE000).contains(&low).then_some(at + 12)
                }
                0xDC00..0xE000 => None,
                _ => Some(at + 6),
            }
        }
        _ => None,
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |unit, b| Some(unit * 16 + char::from(*b).to_digit(16)?))
}

/// The index behind the number that starts at `at`; `None` if it is not valid.
#[inline]
pub(super) fn number_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let digits_end = |mut i: usize| {
        while bytes.get(i).is_some_and(u8::is_ascii_digit) {
            i += 1;
        }
        i
    };
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    let end = digits_end(at);
    if end == at || (bytes[at] == b'0' && end > at + 1) {
        return None;
    }
    at = end;
    if bytes.get(at) == Some(&b'.') {
        let end = digits_end(at + 1);
        if end == at + 1 {
            return None;
        }
        at = end;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = digits_end(at + 1 + sign);
        if end == at + 1 + sign {
            return None;
        }
        at = end;
    }
    Some(at)
}
