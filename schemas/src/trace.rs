//! Where something comes from in a distributed trace, after <https://www.w3.org/TR/trace-context/>.

use std::fmt;
use std::str::FromStr;

/// A `traceparent`: the trace, the request within it, and its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trace {
    /// The trace; never all zeros.
    pub trace_id: [u8; 16],
    /// The request; never all zeros.
    pub span_id: [u8; 8],
    /// Bit 0: sampled.
    pub flags: u8,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no traceparent of version 00")]
pub struct InvalidTrace;

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

impl FromStr for Trace {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let parts: Vec<&str> = text.split('-').collect();
        let ["00", trace, span, flags] = parts.as_slice() else { return Err(InvalidTrace) };
        let trace = hex(trace, 32).filter(|trace| *trace != 0).ok_or(InvalidTrace)?;
        let span = hex(span, 16).and_then(|span| u64::try_from(span).ok()).filter(|span| *span != 0);
        let flags = hex(flags, 2).and_then(|flags| u8::try_from(flags).ok()).ok_or(InvalidTrace)?;
        Ok(Self { trace_id: trace.to_be_bytes(), span_id: span.ok_or(InvalidTrace)?.to_be_bytes(), flags })
    }
}

/// So many hex digits in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_reads_back() {
        let trace: Trace = RIGHT.parse().unwrap();
        assert_eq!((trace.span_id[0], trace.flags, trace.to_string().as_str()), (0xb7, 1, RIGHT));
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let upper = RIGHT.to_uppercase();
        let (long, other) = (format!("{RIGHT}-1"), RIGHT.replacen("00-", "01-", 1));
        for wrong in ["", "00", zeros, &upper, &long, &other, &RIGHT[1..]] {
            assert_eq!(wrong.parse::<Trace>(), Err(InvalidTrace), "{wrong}");
        }
    }
}
