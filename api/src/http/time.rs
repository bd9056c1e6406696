//! Times as they stand in answers: RFC 3339 in UTC.

/// Seconds since 1970 UTC.
pub fn of_seconds(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string())
}

/// Microseconds since 1970 UTC.
pub fn of_micros(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| String::new(), |t| t.to_string())
}

/// Reads a time with its zone; seconds since 1970 UTC.
pub fn seconds_of(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
