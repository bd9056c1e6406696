//! Exact decimals: an `i128` of units of 10^-scale. Money never passes through a float.

/// Powers of ten that fit an `i128`.
const MAX_DIGITS: u32 = 38;

/// Why a text is no decimal of the asked precision and scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a number in decimal notation.
    #[error("not a decimal number")]
    Malformed,
    /// More digits behind the point than the field keeps; dropping them would lose value.
    #[error("more decimal places than the field keeps")]
    TooFine,
    /// More digits than the field's precision.
    #[error("more digits than the field holds")]
    TooLarge,
}

/// Reads `text` (JSON number grammar, a leading `+` and surrounding blanks allowed) as units of 10^-`scale`.
///
/// `shift` multiplies by 10^shift first (2 turns a fraction into percent). Zeros behind the last kept place are fine,
/// any other digit there is [`DecimalError::TooFine`]: nothing is rounded. [`parse_rounded`] rounds.
pub fn parse(text: &str, precision: u8, scale: u8, shift: i8) -> Result<i128, DecimalError> {
    let bytes = text.trim_ascii().as_bytes();
    let (negative, mut rest) = match bytes.first() {
        Some(b'-') => (true, &bytes[1..]),
        Some(b'+') => (false, &bytes[1..]),
        _ => (false, bytes),
    };
    let mut units: i128 = 0;
    let mut places: i64 = 0;
    let mut digits = 0usize;
    let mut trailing_zeros: i64 = 0;
    let mut behind_point = false;
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                places += i64::from(behind_point);
                if byte == b'0' {
                    trailing_zeros += i64::from(units != 0);
                } else {
                    units = push_digits(units, trailing_zeros + 1, byte - b'0')?;
                    trailing_zeros = 0;
                }
            }
            b'.' if !behind_point => behind_point = true,
            b'e' | b'E' if digits > 0 => break,
            _ => return Err(DecimalError::Malformed),
        }
        rest = tail;
    }
    if digits == 0 {
        return Err(DecimalError::Malformed);
    }
    let exponent = if rest.is_empty() { 0 } else { parse_exponent(&rest[1..])? };
    if units == 0 {
        return Ok(0);
    }
    // The value is units * 10^(trailing_zeros - places + exponent).
    let power = trailing_zeros - places + exponent + i64::from(shift) + i64::from(scale);
    if power < 0 {
        return Err(DecimalError::TooFine);
    }
    let power = u32::try_from(power).ok().filter(|p| *p <= MAX_DIGITS).ok_or(DecimalError::TooLarge)?;
    let units = units.checked_mul(10i128.pow(power)).ok_or(DecimalError::TooLarge)?;
    if units >= 10i128.checked_pow(u32::from(precision)).ok_or(DecimalError::TooLarge)? {
        return Err(DecimalError::TooLarge);
    }
    Ok(if negative { -units } else { units })
}

/// Reads `text` like [`parse`], and rounds what stands behind the last kept place half to even, however many digits.
pub fn parse_rounded(text: &str, precision: u8, scale: u8, shift: i8) -> Result<i128, DecimalError> {
    match parse(text, precision, scale, shift) {
        // A text of too many digits may be a small number with a long tail.
        Err(DecimalError::TooFine | DecimalError::TooLarge) => round(text, precision, scale, shift),
        exact_or_malformed => exact_or_malformed,
    }
}

fn round(text: &str, precision: u8, scale: u8, shift: i8) -> Result<i128, DecimalError> {
    let text = text.trim_ascii();
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, parse_exponent(exponent.as_bytes())?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || !digits.clone().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::Malformed);
    }
    // So many of the digits are kept; below zero, that many zeros stand between the last place and the first digit.
    let kept = whole.len() as i64 + exponent + i64::from(shift) + i64::from(scale);
    let mut units: i128 = 0;
    let (mut first_lost, mut more_lost) = (0, kept < 0);
    for (at, digit) in (0i64..).zip(digits.map(|b| b - b'0')) {
        if at < kept {
            units = units.checked_mul(10).and_then(|u| u.checked_add(digit.into())).ok_or(DecimalError::TooLarge)?;
        } else if at == kept {
            first_lost = digit;
        } else {
            more_lost |= digit != 0;
        }
    }
    let missing = (kept - (whole.len() + fraction.len()) as i64).max(0);
    if units != 0 && missing > 0 {
        let power = u32::try_from(missing).ok().filter(|p| *p <= MAX_DIGITS).ok_or(DecimalError::TooLarge)?;
        units = units.checked_mul(10i128.pow(power)).ok_or(DecimalError::TooLarge)?;
    }
    let up = first_lost > 5 || first_lost == 5 && (more_lost || units % 2 == 1);
    units += i128::from(up);
    if units >= 10i128.checked_pow(u32::from(precision)).ok_or(DecimalError::TooLarge)? {
        return Err(DecimalError::TooLarge);
    }
    Ok(if negative { -units } else { units })
}

fn push_digits(units: i128, places: i64, digit: u8) -> Result<i128, DecimalError> {
    if units == 0 {
        return Ok(i128::from(digit));
    }
    let power = u32::try_from(places).ok().filter(|p| *p <= MAX_DIGITS).ok_or(DecimalError::TooLarge)?;
    units.checked_mul(10i128.pow(power)).and_then(|u| u.checked_add(i128::from(digit))).ok_or(DecimalError::TooLarge)
}

fn parse_exponent(digits: &[u8]) -> Result<i64, DecimalError> {
    let text = std::str::from_utf8(digits).map_err(|_| DecimalError::Malformed)?;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::Malformed);
    }
    let magnitude = unsigned.parse::<i64>().unwrap_or(i64::MAX).min(1_000_000);
    Ok(if text.starts_with('-') { -magnitude } else { magnitude })
}

/// Writes units of 10^-`scale` in plain notation.
pub fn format(units: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if units < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(parse("0", 24, 4, 0), Ok(0));
        assert_eq!(parse("-0.000000000000000000000000000000000000000000", 24, 4, 0), Ok(0));
        assert_eq!(parse("250000", 24, 4, 0), Ok(2_500_000_000));
        assert_eq!(parse("12.50000000", 24, 4, 0), Ok(125_000));
        assert_eq!(parse("1.5e3", 24, 4, 0), Ok(15_000_000));
        assert_eq!(parse("0.75", 9, 4, 2), Ok(750_000));
        assert_eq!(parse(" +7 ", 24, 0, 0), Ok(7));
        assert_eq!(parse("0.00001", 24, 4, 0), Err(DecimalError::TooFine));
        assert_eq!(parse("1e999999999999999999", 24, 4, 0), Err(DecimalError::TooLarge));
        assert_eq!(parse("1e-999999999999999999", 24, 4, 0), Err(DecimalError::TooFine));
        assert_eq!(parse("99999", 4, 0, 0), Err(DecimalError::TooLarge));
        assert_eq!(parse("1e38", 38, 0, 0), Err(DecimalError::TooLarge));
        for bad in ["", "-", ".", "NaN", "1,000", "$5", "0x10", "1e", "1e+", "1.2.3", "--1", "Infinity"] {
            assert_eq!(parse(bad, 24, 4, 0), Err(DecimalError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn what_may_be_rounded_is_rounded_half_to_even_whatever_its_length() {
        let round = |text| parse_rounded(text, 9, 4, 0);
        let float = "0.200000000000000011102230246251565404236316680908203125";
        assert_eq!(parse(float, 9, 4, 2), Err(DecimalError::TooLarge));
        assert_eq!(parse_rounded(float, 9, 4, 2), Ok(200_000));
        assert_eq!(round("0.30000000000000004"), Ok(3000));
        assert_eq!(round("0.12345"), Ok(1234), "a half goes to the even neighbour");
        assert_eq!(round("0.12355"), Ok(1236));
        assert_eq!(round("-0.12355"), Ok(-1236));
        assert_eq!(round("0.123450000000000000000000000000000000000000000000001"), Ok(1235));
        assert_eq!(round("0.00005"), Ok(0));
        assert_eq!(round("0.00005000001"), Ok(1));
        assert_eq!(round("0.00000999999"), Ok(0));
        assert_eq!(round("9.99999e-5"), Ok(1));
        assert_eq!(round("1e-999999999999999999"), Ok(0));
        assert_eq!(round("1234.5678912e1"), Ok(123_456_789));
        assert_eq!(round("99999.99999"), Err(DecimalError::TooLarge), "rounding up may need a digit more");
        assert_eq!(round("123456"), Err(DecimalError::TooLarge));
        assert_eq!(round("1e999999999999999999"), Err(DecimalError::TooLarge));
        for bad in ["", "-", ".", "NaN", "0.1x", "1e", "1.2.3", "--0.00001", "0.00001e+"] {
            assert_eq!(round(bad), Err(DecimalError::Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn rounding_changes_nothing_that_fits_and_little_that_does_not(
            units in -10i128.pow(20)..10i128.pow(20), tail in "[0-9]{0,60}",
        ) {
            let text = format(units, 6);
            prop_assert_eq!(parse_rounded(&text, 24, 6, 0), parse(&text, 24, 6, 0));
            let rounded = parse_rounded(&format!("{text}{tail}"), 24, 6, 0).unwrap();
            prop_assert!((rounded - units).abs() <= 1);
        }

        #[test]
        fn a_decimal_reads_back_from_its_text(units in -10i128.pow(24)+1..10i128.pow(24), scale in 0u8..12) {
            prop_assert_eq!(parse(&format(units, scale), 24, scale, 0), Ok(units));
        }

        #[test]
        fn any_text_gives_an_answer_and_no_panic(text in ".{0,60}", scale in 0u8..38, shift: i8) {
            let _ = parse(&text, 38, scale, shift);
            let _ = parse_rounded(&text, 38, scale, shift);
        }
    }
}
