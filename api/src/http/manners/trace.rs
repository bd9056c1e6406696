//! The trace: a W3C `traceparent` comes in or is made, goes through the log, and goes out again.

use std::sync::Arc;

use poem::http::HeaderValue;
use poem::{Endpoint, IntoResponse, Request, Response, Result};

use crate::auth::secret;

tokio::task_local! {
    static TRACE: Trace;
}

/// The header's name.
pub const HEADER: &str = "traceparent";

/// Where a request stands in a trace, after <https://www.w3.org/TR/trace-context/>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The trace: 32 hex digits.
    pub trace: String,
    /// This request: 16 hex digits.
    pub span: String,
    /// The flags: 2 hex digits.
    pub flags: String,
}

impl Trace {
    /// Goes on with the caller's trace; a header that does not follow the format is ignored, as the format wants.
    pub fn follow(header: Option<&str>) -> Self {
        let span = secret::random::<8>().map_or_else(|_| "0000000000000001".into(), |bytes| secret::hex(&bytes));
        if let Some((trace, flags)) = header.and_then(parse) {
            return Self { trace: trace.to_owned(), span, flags: flags.to_owned() };
        }
        let trace = secret::random::<16>().map_or_else(|_| format!("{span}{span}"), |bytes| secret::hex(&bytes));
        Self { trace, span, flags: "00".into() }
    }

    /// The header that names this request as the parent of what follows.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{}", self.trace, self.span, self.flags)
    }
}

fn parse(header: &str) -> Option<(&str, &str)> {
    let is_hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = header.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_known =
        version == "00" && parts.next().is_none() || is_hex(version, 2) && version != "ff" && version != "00";
    let is_right = is_known
        && is_hex(trace, 32)
        && is_hex(parent, 16)
        && is_hex(flags, 2)
        && trace.bytes().any(|b| b != b'0')
        && parent.bytes().any(|b| b != b'0');
    is_right.then_some((trace, flags))
}

/// The trace id of the request being answered, or zeros outside of one.
pub fn id() -> String {
    TRACE.try_with(|trace| trace.trace.clone()).unwrap_or_else(|_| "0".repeat(32))
}

/// The trace of the request being answered.
pub fn current() -> Option<Trace> {
    TRACE.try_with(Trace::clone).ok()
}

/// The same, as it stands on the log.
pub fn on_log() -> Option<schemas::Trace> {
    current().and_then(|trace| trace.header().parse().ok())
}

/// Follows the trace around an endpoint.
pub async fn around<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let trace = Trace::follow(request.header(HEADER));
    let header = HeaderValue::try_from(trace.header());
    let mut response = TRACE.scope(trace, endpoint.call(request)).await?.into_response();
    if let Ok(header) = header {
        response.headers_mut().insert(HEADER, header);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_goes_on_under_its_own_span() {
        let trace = Trace::follow(Some(RIGHT));
        assert_eq!(trace.trace, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.flags, "01");
        assert_ne!(trace.span, "b7ad6b7169203331");
        assert!(parse(&trace.header()).is_some());
    }

    #[test]
    fn a_header_that_is_no_trace_begins_a_new_one() {
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for wrong in
            ["", "x", "00-1-2-3", &RIGHT.to_uppercase(), zeros, &format!("{RIGHT}-1"), &RIGHT.replace("00-", "ff-")]
        {
            let trace = Trace::follow(Some(wrong));
            assert_ne!(trace.trace, "0af7651916cd43dd8448eb211c80319c", "{wrong}");
            assert!(parse(&trace.header()).is_some());
        }
    }
}
