//! Formats of single values, told from their bytes.

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Nothing, or blanks.
    Blank,
    /// True or false, yes or no.
    Boolean,
    /// A whole number.
    Integer,
    /// A number with a point or an exponent.
    Decimal,
    /// A day: 2024-05-31.
    Date,
    /// A moment: a day with a time behind it.
    Moment,
    /// An e-mail address.
    Email,
    /// A web address.
    Url,
    /// Hex digits in five groups.
    Uuid,
    /// Letters and digits without blanks.
    Code,
    /// Letters without blanks.
    Word,
    /// With blanks.
    Phrase,
}

/// How many formats there are.
pub const FORMATS: usize = Format::Phrase as usize + 1;

/// What a value looks like.
pub(super) fn format(text: &str) -> Format {
    let text = text.trim_ascii();
    let bytes = text.as_bytes();
    let is = |test: fn(&u8) -> bool| bytes.iter().any(test);
    if bytes.is_empty() {
        Format::Blank
    } else if let Some(number) = number(bytes) {
        number
    } else if ["true", "false", "yes", "no"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        Format::Boolean
    } else if is_day(bytes) {
        if bytes.len() > 10 { Format::Moment } else { Format::Date }
    } else if is(u8::is_ascii_whitespace) {
        Format::Phrase
    } else if text.contains("://") || text.starts_with("www.") {
        Format::Url
    } else if text.contains('@') && text.contains('.') {
        Format::Email
    } else if is_uuid(bytes) {
        Format::Uuid
    } else if is(u8::is_ascii_digit) {
        Format::Code
    } else {
        Format::Word
    }
}

fn number(bytes: &[u8]) -> Option<Format> {
    let digits = bytes.strip_prefix(b"-").or(bytes.strip_prefix(b"+")).unwrap_or(bytes);
    if !digits.first()?.is_ascii_digit() || !digits.last()?.is_ascii_digit() {
        return None;
    }
    if digits.iter().all(u8::is_ascii_digit) {
        return Some(Format::Integer);
    }
    let (points, others) = digits.iter().filter(|b| !b.is_ascii_digit()).fold((0, 0), |(points, others), b| match b {
        b'.' => (points + 1, others),
        b'e' | b'E' => (points, others + 1),
        b'-' | b'+' => (points, others),
        _ => (points, 9),
    });
    let has_sign_inside = others == 0 && digits.iter().any(|b| matches!(b, b'-' | b'+'));
    (points <= 1 && others <= 1 && !has_sign_inside).then_some(Format::Decimal)
}

fn is_day(bytes: &[u8]) -> bool {
    let fits = |(at, b): (usize, &u8)| match at {
        4 | 7 => matches!(b, b'-' | b'/'),
        _ => b.is_ascii_digit(),
    };
    bytes.get(..10).is_some_and(|day| day.iter().enumerate().all(fits))
}

fn is_uuid(bytes: &[u8]) -> bool {
    let fits = |(at, b): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    bytes.len() == 36 && bytes.iter().enumerate().all(fits)
}

/// How many digits stand before the point of a number; for one below 1 how many zeros stand behind it, negative.
pub(super) fn magnitude(text: &str) -> Option<i8> {
    let digits = text.trim_ascii().trim_start_matches(['-', '+']);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let before = whole.bytes().take_while(u8::is_ascii_digit).count();
    if before > 0 || fraction.is_empty() {
        return i8::try_from(before).ok();
    }
    let zeros = fraction.bytes().take_while(|b| *b == b'0').count();
    i8::try_from(zeros).ok().map(|zeros| -zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_from_bytes() {
        let cases = [
            ("", Format::Blank),
            (" ", Format::Blank),
            ("Yes", Format::Boolean),
            ("-12", Format::Integer),
            ("007", Format::Integer),
            ("1.5e-3", Format::Decimal),
            ("0.75", Format::Decimal),
            ("1.2.3", Format::Code),
            ("2024-05-31", Format::Date),
            ("2024-05-31T10:00:00Z", Format::Moment),
            ("a.b@example.com", Format::Email),
            ("https://example.com", Format::Url),
            ("03653b1d-296a-4f84-9e39-bb368ce09031", Format::Uuid),
            ("AB-12", Format::Code),
            ("won", Format::Word),
            ("Closed Won", Format::Phrase),
        ];
        for (text, expected) in cases {
            assert_eq!(format(text), expected, "{text:?}");
        }
    }

    #[test]
    fn magnitudes_tell_cents_from_euros() {
        let cases = [("1299.00", 4), ("129900", 6), ("0.75", 0), ("0.0075", -2), ("-12", 2), ("0", 0)];
        for (text, expected) in cases {
            assert_eq!(magnitude(text), Some(expected), "{text}");
        }
    }
}
