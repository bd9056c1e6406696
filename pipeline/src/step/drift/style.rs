//! How single values are written, and how large they are, as small numbers that can be counted.

use schemas::value::FieldType;
use serde::{Deserialize, Serialize};

use super::format::{Format, format, magnitude};

/// What the values of a watched path become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reads {
    /// Nothing that could be written otherwise.
    #[default]
    Nothing,
    /// A text.
    Text,
    /// A number.
    Number,
    /// A date or a time.
    Time,
}

impl Reads {
    /// What a field of a type makes of its values.
    pub(super) fn of(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Text => Self::Text,
            FieldType::Integer | FieldType::Decimal { .. } => Self::Number,
            FieldType::Date | FieldType::Timestamp => Self::Time,
            FieldType::Boolean | FieldType::Json => Self::Nothing,
        }
    }
}

/// How a value is written. Of a number that stands as JSON has it: how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Style(pub(super) u8);

/// Of a longer value, in bytes, the beginning tells how it is written.
const LOOKED_AT_MAX: usize = 256;
/// A number below 1 with many zeros, and one with many digits.
const SMALLEST: i8 = -8;
const LARGEST: i8 = 23;
/// What plain numbers are below.
const PLAIN: u8 = (LARGEST - SMALLEST + 1) as u8;
const COMMA: Style = Style(PLAIN);
const GROUPED: Style = Style(PLAIN + 1);
const PERCENT: Style = Style(PLAIN + 2);
const MONEY: Style = Style(PLAIN + 3);

/// A day, or a moment: both are read alike.
const ISO: Style = Style(64);
const SECONDS: Style = Style(65);
const MILLIS: Style = Style(66);
const MICROS: Style = Style(67);
const COMPACT: Style = Style(68);
/// Where the names of months begin, in the order of [`NAMED`].
const NAMED_FIRST: u8 = 70;
const NAMED: [&str; 5] = ["%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"];
/// Where days of numbers begin: order, what stands between, time behind.
const DAYS_FIRST: u8 = 80;
const ORDERS: [Order; 4] = [Order::YearFirst, Order::DayFirst, Order::MonthFirst, Order::Unclear];
const BETWEEN: [u8; 3] = *b"/.-";
const TIMES: [&str; 3] = ["", " %H:%M", " %H:%M:%S"];

/// Where texts begin, in the order of [`Format`].
const TEXT_FIRST: u8 = 160;
/// The name of what is none of the others.
pub(super) const UNKNOWN: &str = "something else";
const OTHER: Style = Style(255);

/// In which order the parts of a day stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    YearFirst,
    DayFirst,
    MonthFirst,
    /// The day and the month could each be the other.
    Unclear,
}

impl Style {
    /// How a value is written; nothing for one that tells nothing: a blank, and zero among numbers.
    pub(super) fn of(text: &str, reads: Reads) -> Option<Self> {
        let text = text.trim_ascii();
        let text = &text[..text.floor_char_boundary(LOOKED_AT_MAX)];
        if text.is_empty() {
            return None;
        }
        match reads {
            Reads::Nothing => None,
            Reads::Text => Some(Self(TEXT_FIRST + format(text) as u8)),
            Reads::Number => number(text),
            Reads::Time => Some(time(text)),
        }
    }

    /// Whether it is a number as JSON writes one.
    pub(super) fn is_plain(self) -> bool {
        self.0 < PLAIN
    }

    /// The bit of its size among all sizes of plain numbers; none for what is no such number.
    pub(super) fn size_bit(self) -> u32 {
        if self.is_plain() { 1 << self.0 } else { 0 }
    }

    /// The same number, so many powers of ten larger.
    pub(super) fn shifted(self, by: i8) -> Option<Self> {
        let moved = self.0.checked_add_signed(by)?;
        (self.is_plain() && moved < PLAIN).then_some(Self(moved))
    }

    /// What stands for it where only the way of writing counts: all plain numbers are one.
    pub(super) fn manner(self) -> Self {
        if self.is_plain() { Self(0) } else { self }
    }

    /// The parts of a day of numbers.
    fn day(self) -> Option<(Order, u8, usize)> {
        let place = usize::from(self.0.checked_sub(DAYS_FIRST)?);
        let order = *ORDERS.get(place / (BETWEEN.len() * TIMES.len()))?;
        let between = *BETWEEN.get(place / TIMES.len() % BETWEEN.len())?;
        Some((order, between, place % TIMES.len()))
    }

    /// Whether two are one way of writing days, of which some days tell the order and others do not.
    pub(super) fn is_same_day(self, other: Self) -> bool {
        match (self.day(), other.day()) {
            (Some((one, between, time)), Some((two, other, last))) => {
                let is_open = one == Order::Unclear || two == Order::Unclear;
                (between, time) == (other, last) && (one == two || is_open) && Order::YearFirst != one
            }
            _ => self == other,
        }
    }

    /// Whether nothing in it tells the day from the month.
    pub(super) fn is_unclear(self) -> bool {
        self.day().is_some_and(|(order, ..)| order == Order::Unclear)
    }

    /// Its name: as a mapping's `format` for times, else in words. What does not tell the day from the month has the day
    /// first.
    pub(super) fn name(self) -> String {
        if let Some((order, between, time)) = self.day() {
            let between = char::from(between);
            let parts = match order {
                Order::YearFirst => ["%Y", "%m", "%d"],
                Order::DayFirst | Order::Unclear => ["%d", "%m", "%Y"],
                Order::MonthFirst => ["%m", "%d", "%Y"],
            };
            return format!("{}{between}{}{between}{}{}", parts[0], parts[1], parts[2], TIMES[time]);
        }
        let named = self.0.checked_sub(NAMED_FIRST).and_then(|place| NAMED.get(usize::from(place)));
        let text = match self {
            ISO => "iso",
            SECONDS => "epoch_seconds",
            MILLIS => "epoch_millis",
            MICROS => "epoch_micros",
            COMPACT => "%Y%m%d",
            COMMA => "numbers with a decimal comma",
            GROUPED => "numbers with groups of digits",
            PERCENT => "numbers with a percent sign",
            MONEY => "numbers with a currency",
            plain if plain.is_plain() => "plain numbers",
            other => match named {
                Some(pattern) => pattern,
                None if other.0 >= TEXT_FIRST && other != OTHER => "text of another kind",
                None => UNKNOWN,
            },
        };
        text.to_owned()
    }
}

fn number(text: &str) -> Option<Style> {
    match format(text) {
        Format::Integer | Format::Decimal => {
            let is_zero = text.bytes().take_while(|b| !matches!(b, b'e' | b'E')).all(|b| !matches!(b, b'1'..=b'9'));
            let has_exponent = text.contains(['e', 'E']);
            let digits = magnitude(text)?.clamp(SMALLEST, LARGEST);
            (!is_zero && !has_exponent).then(|| Style((digits - SMALLEST) as u8))
        }
        _ => Some(marked_number(text)),
    }
}

/// A number that is not written as JSON writes one.
fn marked_number(text: &str) -> Style {
    let has_digit = text.bytes().any(|b| b.is_ascii_digit());
    let of_number = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | '-' | '+' | '\'' | ' ' | '\u{a0}');
    let marks: Vec<char> = text.chars().filter(|c| !of_number(*c)).collect();
    let is_currency = |c: &char| matches!(c, '$' | '€' | '£' | '¥') || c.is_ascii_uppercase();
    match &marks[..] {
        _ if !has_digit => OTHER,
        [] => match (text.rfind(','), text.rfind('.')) {
            (Some(comma), Some(point)) if comma < point => GROUPED,
            (Some(comma), None) if text.len() - comma == 4 && text.find(',') != Some(comma) => GROUPED,
            (Some(_), _) => COMMA,
            _ => GROUPED,
        },
        ['%'] => PERCENT,
        marks if marks.len() <= 3 && marks.iter().all(is_currency) => MONEY,
        _ => OTHER,
    }
}

fn time(text: &str) -> Style {
    let bytes = text.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) {
        return match bytes.len() {
            8 if matches!(bytes[0], b'1' | b'2') => COMPACT,
            9 | 10 => SECONDS,
            12 | 13 => MILLIS,
            15 | 16 => MICROS,
            _ => OTHER,
        };
    }
    // Seconds with a fraction.
    if let Some((whole, fraction)) = text.split_once('.')
        && matches!(whole.len(), 9 | 10)
        && [whole, fraction].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()))
    {
        return SECONDS;
    }
    if schemas::time::parse_timestamp(text).is_some() {
        return ISO;
    }
    numbered_day(text).or_else(|| named_day(text)).unwrap_or(OTHER)
}

fn numbered_day(text: &str) -> Option<Style> {
    let between = *text.as_bytes().iter().find(|b| !b.is_ascii_digit())?;
    let place = BETWEEN.iter().position(|b| *b == between)?;
    let (day, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = day.split(char::from(between));
    let (one, two, three) = (parts.next()?, parts.next()?, parts.next()?);
    let is_number = |part: &&str| part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some() || ![one, two, three].iter().all(is_number) {
        return None;
    }
    let order = match (one.len(), two.len(), three.len()) {
        (4, 1..=2, 1..=2) => Order::YearFirst,
        (1..=2, 1..=2, 4) => match (one.parse::<u8>().ok()?, two.parse::<u8>().ok()?) {
            (13..=31, 1..=12) => Order::DayFirst,
            (1..=12, 13..=31) => Order::MonthFirst,
            (1..=12, 1..=12) => Order::Unclear,
            _ => return None,
        },
        _ => return None,
    };
    let is_digit = |at: usize| rest.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let time = match rest.len() {
        0 => 0,
        5 if [0, 1, 3, 4].into_iter().all(is_digit) => 1,
        8 if [0, 1, 3, 4, 6, 7].into_iter().all(is_digit) => 2,
        _ => return None,
    };
    let order = ORDERS.iter().position(|known| *known == order)?;
    let style = (order * BETWEEN.len() + place) * TIMES.len() + time;
    u8::try_from(style).ok().map(|style| Style(DAYS_FIRST + style))
}

fn named_day(text: &str) -> Option<Style> {
    if !text.bytes().any(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let reads = |pattern: &&str| schemas::time::parse_with_pattern(text, pattern).is_some();
    let place = NAMED.iter().position(reads)?;
    u8::try_from(place).ok().map(|place| Style(NAMED_FIRST + place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, reads: Reads) -> String {
        Style::of(text, reads).map_or_else(|| "nothing".to_owned(), Style::name)
    }

    #[test]
    fn times_are_told_by_how_they_are_written() {
        let cases = [
            ("2024-05-31", "iso"),
            ("2024-05-31T10:00:00.000+0000", "iso"),
            ("2024-05-31 10:00", "iso"),
            ("1717142400", "epoch_seconds"),
            ("1717142400.5", "epoch_seconds"),
            ("1717142400000", "epoch_millis"),
            ("1717142400000000", "epoch_micros"),
            ("20240531", "%Y%m%d"),
            ("31/05/2024", "%d/%m/%Y"),
            ("05/31/2024", "%m/%d/%Y"),
            ("5/6/2024", "%d/%m/%Y"),
            ("31.05.2024 10:20", "%d.%m.%Y %H:%M"),
            ("2024/05/31 10:20:30", "%Y/%m/%d %H:%M:%S"),
            ("31 May 2024", "%d %b %Y"),
            ("March 3, 2024", "%B %d, %Y"),
            ("soon", "something else"),
            ("99/99/2024", "something else"),
            (" ", "nothing"),
        ];
        for (text, expected) in cases {
            assert_eq!(name(text, Reads::Time), expected, "{text:?}");
        }
    }

    #[test]
    fn every_name_of_a_time_that_is_a_pattern_can_stand_in_a_mapping() {
        for style in (64..TEXT_FIRST).map(Style) {
            let name = style.name();
            assert!(!name.starts_with('%') || schemas::time::is_pattern(&name), "{name}");
        }
    }

    #[test]
    fn numbers_are_told_by_their_size_and_by_their_marks() {
        let size = |text: &str| Style::of(text, Reads::Number).unwrap();
        assert_eq!(size("12.99").shifted(2), Some(size("1299")));
        assert_eq!(size("0.75").shifted(2), Some(size("75")));
        assert_eq!(size("0.05").shifted(2), Some(size("5")));
        assert_eq!(size("-75000").shifted(-3), Some(size("75")));
        assert_eq!(Style::of("0.00", Reads::Number), None);
        let cases = [
            ("1.234,56", "numbers with a decimal comma"),
            ("12,5", "numbers with a decimal comma"),
            ("1,234.56", "numbers with groups of digits"),
            ("1,234,567", "numbers with groups of digits"),
            ("75 %", "numbers with a percent sign"),
            ("$12.50", "numbers with a currency"),
            ("12 EUR", "numbers with a currency"),
            ("lots", "something else"),
            ("7", "plain numbers"),
        ];
        for (text, expected) in cases {
            assert_eq!(name(text, Reads::Number), expected, "{text:?}");
        }
    }

    #[test]
    fn a_day_that_could_be_a_month_goes_with_either_order() {
        let day = |text: &str| Style::of(text, Reads::Time).unwrap();
        assert!(day("05/06/2024").is_same_day(day("31/05/2024")));
        assert!(day("05/06/2024").is_same_day(day("05/31/2024")));
        assert!(!day("31/05/2024").is_same_day(day("05/31/2024")));
        assert!(!day("31/05/2024").is_same_day(day("31.05.2024")));
    }
}
