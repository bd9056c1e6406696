//! Formats: what a single value looks like.

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// True or false, in any spelling.
    Boolean,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Decimal,
    /// Seconds or milliseconds since 1970, of our days.
    Epoch,
    /// A day.
    Date,
    /// A moment.
    DateTime,
    /// An e-mail address.
    Email,
    /// A web address or domain.
    Url,
    /// A telephone number.
    Phone,
    /// A UUID.
    Uuid,
    /// An identifier or code: letters and digits mixed.
    Code,
    /// Two or three capital letters.
    Capitals,
    /// One word.
    Word,
    /// A few words.
    Phrase,
    /// Many words.
    Text,
    /// A network address.
    Ip,
    /// An object.
    Object,
}

/// How many formats there are.
pub const FORMATS: usize = Format::Object as usize + 1;

/// How near two formats are to each other, from 0 to 1.
pub fn kinship(one: usize, other: usize) -> f32 {
    use Format as F;
    if one == other {
        return 1.0;
    }
    let kin: [(F, F, f32); 19] = [
        (F::Integer, F::Decimal, 0.6),
        (F::Integer, F::Epoch, 0.5),
        (F::Integer, F::Code, 0.4),
        (F::Integer, F::Boolean, 0.15),
        (F::Integer, F::Phone, 0.3),
        (F::Epoch, F::DateTime, 0.7),
        (F::Epoch, F::Date, 0.5),
        (F::Date, F::DateTime, 0.75),
        (F::Uuid, F::Code, 0.5),
        (F::Uuid, F::Integer, 0.3),
        (F::Word, F::Phrase, 0.7),
        (F::Word, F::Capitals, 0.4),
        (F::Word, F::Code, 0.25),
        (F::Phrase, F::Text, 0.5),
        (F::Phrase, F::Code, 0.1),
        (F::Capitals, F::Code, 0.2),
        (F::Word, F::Text, 0.2),
        (F::Phrase, F::Capitals, 0.15),
        (F::Word, F::Boolean, 0.1),
    ];
    let found = kin
        .iter()
        .find(|(a, b, _)| (*a as usize, *b as usize) == (one, other) || (*b as usize, *a as usize) == (one, other));
    found.map_or(0.0, |(_, _, near)| *near)
}

/// What a text looks like, and the number or day in it.
pub fn format(text: &str) -> (Format, Option<f64>) {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'+' | b'e' | b'E'));
    if let Some(number) = text.parse::<f64>().ok().filter(|_| is_plain) {
        return numeric(text, number);
    }
    if let Some((day, is_moment)) = day(text) {
        return (if is_moment { Format::DateTime } else { Format::Date }, Some(day));
    }
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "true" | "false" | "yes" | "no") {
        return (Format::Boolean, Some(f64::from(u8::from(matches!(lower.as_str(), "true" | "yes")))));
    }
    (wordy(text), None)
}

fn numeric(text: &str, number: f64) -> (Format, Option<f64>) {
    const SECONDS: std::ops::Range<f64> = 9.0e8..2.2e9;
    if text.contains(['.', 'e', 'E']) {
        return (Format::Decimal, Some(number));
    }
    if SECONDS.contains(&number) && text.len() == 10 {
        return (Format::Epoch, Some(number / 86_400.0));
    }
    if SECONDS.contains(&(number / 1000.0)) && text.len() == 13 {
        return (Format::Epoch, Some(number / 86_400_000.0));
    }
    (Format::Integer, Some(number))
}

/// Days since 1970 of a text that begins like 2024-05-31, and whether a time of day follows.
fn day(text: &str) -> Option<(f64, bool)> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let bytes = text.as_bytes();
    if bytes.len() < 10 || !matches!((bytes[4], bytes[7]), (b'-', b'-') | (b'/', b'/')) {
        return None;
    }
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Good enough to compare ranges of days.
    let days = (year - 1970) as f64 * 365.2425 + (month - 1) as f64 * 30.44 + day as f64;
    Some((days, bytes.len() > 10))
}

fn wordy(text: &str) -> Format {
    let count = |f: fn(char) -> bool| text.chars().filter(|c| f(*c)).count();
    let (digits, letters, spaces) =
        (count(|c| c.is_ascii_digit()), count(char::is_alphabetic), count(char::is_whitespace));
    let length = text.chars().count();
    if spaces == 0 && text.contains('@') && text.contains('.') && !text.contains("://") {
        return Format::Email;
    }
    if is_uuid(text) {
        return Format::Uuid;
    }
    if spaces == 0 && (text.contains("://") || text.starts_with("www.") || text.starts_with('/') || is_domain(text)) {
        return Format::Url;
    }
    if letters == 0 && digits >= 4 && text.bytes().filter(|b| *b == b'.').count() == 3 {
        return Format::Ip;
    }
    if letters == 0 && digits >= 6 {
        return Format::Phone;
    }
    if spaces == 0 && digits > 0 && length >= 3 {
        return Format::Code;
    }
    if spaces == 0 && (2..=3).contains(&length) && text.chars().all(char::is_uppercase) {
        return Format::Capitals;
    }
    match spaces {
        0 if length >= 16 && !text.contains(['_', '-']) && text.chars().skip(1).any(char::is_uppercase) => Format::Code,
        0 => Format::Word,
        1..=4 => Format::Phrase,
        _ => Format::Text,
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
}

fn is_domain(text: &str) -> bool {
    let Some((host, end)) = text.rsplit_once('.') else { return false };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    !host.is_empty()
        && host.chars().all(is_host)
        && (2..=6).contains(&end.len())
        && end.chars().all(|c| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(text: &str) -> Format {
        format(text).0
    }

    #[test]
    fn formats_are_told_from_values() {
        assert_eq!(format_of("1728021360"), Format::Epoch);
        assert_eq!(format_of("424"), Format::Integer);
        assert_eq!(format_of("12.50"), Format::Decimal);
        assert_eq!(format_of("2024-05-31"), Format::Date);
        assert_eq!(format_of("2024-05-31T10:00:00Z"), Format::DateTime);
        assert_eq!(format_of("a.b@example.com"), Format::Email);
        assert_eq!(format_of("www.example.com"), Format::Url);
        assert_eq!(format_of("example.co.uk"), Format::Url);
        assert_eq!(format_of("+49 30 258434"), Format::Phone);
        assert_eq!(format_of("03653b1d-296a-4f84-9e39-bb368ce09031"), Format::Uuid);
        assert_eq!(format_of("001dM00003jU9GyQAK"), Format::Code);
        assert_eq!(format_of("USD"), Format::Capitals);
        assert_eq!(format_of("Closed Won"), Format::Phrase);
        assert_eq!(format_of("nan"), Format::Word);
    }
}
