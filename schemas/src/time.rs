//! Dates and times: days and microseconds since 1970-01-01 UTC.

use std::fmt::Write as _;

/// 0001-01-01T00:00:00Z in microseconds.
pub const MIN_TIMESTAMP: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z in microseconds.
pub const MAX_TIMESTAMP: i64 = 253_402_300_799_999_999;

const DAY_MICROS: i64 = 86_400_000_000;

/// Reads ISO 8601 as sources write it: a date, or date and time with `T` or a blank between, seconds and a fraction
/// optional, then `Z`, `±HH`, `±HHMM`, `±HH:MM` or nothing (UTC). Digits below a microsecond are cut off.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let bytes = text.trim_ascii().as_bytes();
    let days = i64::from(read_date(bytes.get(..10)?)?);
    let rest = &bytes[10..];
    if rest.is_empty() {
        return Some(days * DAY_MICROS);
    }
    if !matches!(rest[0], b'T' | b't' | b' ') {
        return None;
    }
    let (time_micros, zone) = read_time(&rest[1..])?;
    let at = days * DAY_MICROS + time_micros - read_zone(zone.trim_ascii())?;
    (MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(&at).then_some(at)
}

/// Reads a date (`YYYY-MM-DD`), or the date of a timestamp in UTC, as days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i32> {
    let trimmed = text.trim_ascii();
    if trimmed.len() == 10 {
        return read_date(trimmed.as_bytes());
    }
    let days = parse_timestamp(trimmed)?.div_euclid(DAY_MICROS);
    i32::try_from(days).ok()
}

/// Reads a timestamp by a `strptime` pattern; UTC when the pattern has no offset, midnight when it has no time.
///
/// Zones by name (`%Q`) are refused: what they mean changes with the machine's time zone data.
pub fn parse_with_pattern(text: &str, pattern: &str) -> Option<i64> {
    let broken = jiff::fmt::strtime::parse(pattern, text.trim_ascii()).ok()?;
    if broken.iana_time_zone().is_some() {
        return None;
    }
    let at = if broken.timestamp().is_some() || broken.offset().is_some() {
        broken.to_timestamp().ok()?
    } else {
        let civil = broken.to_date().ok()?.to_datetime(broken.to_time().ok()?);
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()
    };
    let micros = at.as_microsecond();
    (MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(&micros).then_some(micros)
}

/// Whether a `strptime` pattern tells a time without doubt: one that it writes reads back to the same time, or to the
/// beginning of its second, minute, hour or day.
pub fn is_pattern(pattern: &str) -> bool {
    const SAMPLE: i64 = 1_729_434_645_123_456;
    let Ok(at) = jiff::Timestamp::from_microsecond(SAMPLE) else { return false };
    let Ok(text) = jiff::fmt::strtime::format(pattern, &at.to_zoned(jiff::tz::TimeZone::UTC)) else { return false };
    let read = parse_with_pattern(&text, pattern);
    [1, 1000, 1_000_000, 60_000_000, 3_600_000_000, DAY_MICROS].iter().any(|unit| read == Some(SAMPLE - SAMPLE % unit))
}

/// Writes microseconds as RFC 3339 in UTC, the fraction only if there is one.
pub fn format_timestamp(at: i64) -> String {
    let mut text = String::with_capacity(27);
    write_timestamp(&mut text, at);
    text
}

/// Writes days since 1970-01-01 as `YYYY-MM-DD`.
pub fn format_date(days: i32) -> String {
    let mut text = String::with_capacity(10);
    write_date(&mut text, i64::from(days));
    text
}

/// Appends what [`format_timestamp`] gives.
pub fn write_timestamp(out: &mut String, at: i64) {
    write_date(out, at.div_euclid(DAY_MICROS));
    let in_day = at.rem_euclid(DAY_MICROS);
    let seconds = in_day / 1_000_000;
    for (mark, number) in [('T', seconds / 3600), (':', seconds / 60 % 60), (':', seconds % 60)] {
        out.push(mark);
        write_digits(out, number, 2);
    }
    let mut micros = in_day % 1_000_000;
    if micros > 0 {
        out.push('.');
        let mut places = 6;
        while micros % 10 == 0 {
            micros /= 10;
            places -= 1;
        }
        write_digits(out, micros, places);
    }
    out.push('Z');
}

fn write_date(out: &mut String, days: i64) {
    // Civil from days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    if (0..10_000).contains(&year) {
        write_digits(out, year, 4);
    } else {
        // No value of ours: ISO 8601 has a sign and more digits there.
        let _ = write!(out, "{year:+07}");
    }
    for number in [month, day] {
        out.push('-');
        write_digits(out, number, 2);
    }
}

fn write_digits(out: &mut String, number: i64, places: u32) {
    let mut left = number;
    for place in (0..places).rev() {
        let unit = 10i64.pow(place);
        out.push(char::from(b'0' + (left / unit) as u8));
        left %= unit;
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn read_date(bytes: &[u8]) -> Option<i32> {
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > month_days {
        return None;
    }
    // Days from civil: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

fn read_time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let hour = digits(bytes.get(..2)?)?;
    if bytes.get(2) != Some(&b':') {
        return None;
    }
    let minute = digits(bytes.get(3..5)?)?;
    let mut rest = &bytes[5..];
    let mut second = 0;
    let mut micros = 0;
    if rest.first() == Some(&b':') {
        second = digits(rest.get(1..3)?)?;
        rest = &rest[3..];
        if matches!(rest.first(), Some(b'.' | b',')) {
            let len = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if len == 0 {
                return None;
            }
            let kept = len.min(6);
            micros = digits(&rest[1..=kept])? * 10i64.pow(6 - kept as u32);
            rest = &rest[1 + len..];
        }
    }
    // A leap second is folded into the second before it, as POSIX time does.
    let second = if second == 60 { 59 } else { second };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((((hour * 60 + minute) * 60 + second) * 1_000_000 + micros, rest))
}

fn read_zone(zone: &[u8]) -> Option<i64> {
    let sign = match zone.first() {
        None => return Some(0),
        Some(b'Z' | b'z') if zone.len() == 1 => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return None,
    };
    let hours = digits(zone.get(1..3)?)?;
    let minutes = match &zone[3..] {
        [] => 0,
        [b':', rest @ ..] if rest.len() == 2 => digits(rest)?,
        rest if rest.len() == 2 => digits(rest)?,
        _ => return None,
    };
    (hours <= 18 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_sources_write_them() {
        let expected = Some(1_729_434_600_000_000);
        for text in [
            "2024-10-20T14:30:00Z",
            "2024-10-20T14:30:00.000+0000",
            "2024-10-20 14:30:00",
            "2024-10-20T16:30:00+02:00",
            "2024-10-20T14:30",
            "2024-10-20T10:30:00.0000000-04",
            " 2024-10-20T14:30:00Z ",
        ] {
            assert_eq!(parse_timestamp(text), expected, "{text}");
        }
        assert_eq!(parse_timestamp("2024-10-20"), Some(1_729_382_400_000_000));
        assert_eq!(parse_timestamp("0001-01-01"), Some(MIN_TIMESTAMP));
        assert_eq!(parse_timestamp("9999-12-31T23:59:59.999999Z"), Some(MAX_TIMESTAMP));
        for bad in [
            "",
            "2024-13-01",
            "2023-02-29",
            "2024-10-20T",
            "2024-10-20T25:00:00Z",
            "20241020",
            "2024-10-20T14:30:00.Z",
            "2024-10-20T14:30:00+19:00",
            "2024-10-20x14:30:00",
            "10/20/2024",
            "0000-01-01",
            "2024-10-20T14:30:00ZZ",
        ] {
            assert_eq!(parse_timestamp(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_date_is_the_day_in_utc() {
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert_eq!(parse_date("1970-01-01T23:30:00-01:00"), Some(1));
        assert_eq!(format_date(1), "1970-01-02");
        assert_eq!(format_date(parse_date("9999-12-31").unwrap()), "9999-12-31");
        assert_eq!(format_date(parse_date("0001-01-01").unwrap()), "0001-01-01");
        assert_eq!(format_date(parse_date("2024-02-29").unwrap()), "2024-02-29");
    }

    #[test]
    fn times_are_written_to_the_last_microsecond_that_can_be_read() {
        assert_eq!(format_timestamp(MAX_TIMESTAMP), "9999-12-31T23:59:59.999999Z");
        assert_eq!(format_timestamp(MIN_TIMESTAMP), "0001-01-01T00:00:00Z");
        assert_eq!(format_timestamp(1_729_434_645_120_000), "2024-10-20T14:30:45.12Z");
        assert_eq!(format_timestamp(MAX_TIMESTAMP + 1), "+010000-01-01T00:00:00Z");
        assert!(format_timestamp(i64::MIN).starts_with('-') && format_date(i32::MAX).starts_with('+'));
    }

    #[test]
    fn a_pattern_without_a_zone_means_utc() {
        assert_eq!(parse_with_pattern("20/10/2024", "%d/%m/%Y"), Some(1_729_382_400_000_000));
        assert_eq!(parse_with_pattern("10/20/2024 14:30", "%m/%d/%Y %H:%M"), Some(1_729_434_600_000_000));
        assert_eq!(parse_with_pattern("x", "%d/%m/%Y"), None);
    }

    #[test]
    fn a_pattern_gives_the_time_that_is_written_or_none() {
        assert_eq!(parse_with_pattern("2024-10-20 16:30 +02:00", "%F %H:%M %:z"), Some(1_729_434_600_000_000));
        assert_eq!(parse_with_pattern("1729434600", "%s"), Some(1_729_434_600_000_000));
        assert_eq!(parse_with_pattern("2024-10-20 16:30 Europe/Berlin", "%F %H:%M %Q"), None, "never taken for UTC");
        assert_eq!(parse_with_pattern("2024-10-20 :30", "%F :%M"), None, "minutes without an hour are not midnight");
    }

    #[test]
    fn a_pattern_that_leaves_a_doubt_is_none() {
        for good in [
            "%d/%m/%Y",
            "%m/%d/%Y %H:%M",
            "%Y%m%dT%H%M%S%z",
            "%F %T%.f",
            "%b %d, %Y %I:%M %p",
            "%s",
            "%Y-%jT%R",
            "%y%m%d",
        ] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in
            ["", "today", "%m/%Y", "%H:%M", "%F :%M", "%F %I:%M", "%F %T %Q", "%F %T %Z", "%K", "%F %", "epoch_second"]
        {
            assert!(!is_pattern(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_timestamp_reads_back_from_its_text(at in MIN_TIMESTAMP..=MAX_TIMESTAMP) {
            prop_assert_eq!(parse_timestamp(&format_timestamp(at)), Some(at));
        }

        #[test]
        fn a_timestamp_of_the_last_days_reads_back_too(at in MAX_TIMESTAMP - 3 * DAY_MICROS..=MAX_TIMESTAMP) {
            prop_assert_eq!(parse_timestamp(&format_timestamp(at)), Some(at));
        }

        #[test]
        fn a_timestamp_is_written_as_others_write_it(at in MIN_TIMESTAMP..=MAX_TIMESTAMP - 2 * DAY_MICROS) {
            prop_assert_eq!(format_timestamp(at), jiff::Timestamp::from_microsecond(at).unwrap().to_string());
        }

        #[test]
        fn any_text_gives_an_answer_and_no_panic(text in ".{0,40}") {
            let _ = parse_timestamp(&text);
            let _ = parse_date(&text);
            let _ = is_pattern(&text);
        }
    }
}
