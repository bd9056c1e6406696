//! What kind of failure an error of a view's storage is, however deep other libraries have wrapped it.

use std::error::Error;
use std::io::ErrorKind;

/// A kind of failure that is dealt with in a way of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There is no room.
    Full,
    /// There is no such object.
    Gone,
    /// There is no such bucket.
    NoBucket,
    /// The login is refused, or has no right to it.
    Denied,
    /// It did not answer, or said that it cannot at the moment.
    Away,
    /// Anything else.
    Other,
}

/// Beginning of what an error of a request to an object store says, once it is tried no more.
const REQUEST: &str = "Error performing ";
/// What stands in it before the status of an answer.
const STATUS: &str = "non-2xx status code: ";

impl Trouble {
    /// The kind of an error.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(known) = Self::of_one(error) {
                return known;
            }
            next = error.source();
        }
        // The library of the tables keeps the texts of some errors alone.
        Self::told(&error.to_string()).unwrap_or(Self::Other)
    }
    fn of_one(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Self::of_io(io.kind());
        }
        match error.downcast_ref::<object_store::Error>()? {
            object_store::Error::NotFound { source, .. } => Some(Self::told(&source.to_string()).unwrap_or(Self::Gone)),
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Some(Self::Denied)
            }
            _ => None,
        }
    }
    fn of_io(kind: ErrorKind) -> Option<Self> {
        match kind {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(Self::Full),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some(Self::Denied),
            ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::NotConnected
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted => Some(Self::Away),
            _ => None,
        }
    }
    /// The kind of what a client of an object store says of a request.
    fn told(text: &str) -> Option<Self> {
        let text = &text[text.find(REQUEST)?..];
        let Some((_, status)) = text.split_once(STATUS) else {
            // A redirect without a target is a wrong region; all else that has no status had no answer.
            return (!text.contains("redirect")).then_some(Self::Away);
        };
        let digits = status.bytes().take_while(u8::is_ascii_digit).count();
        match status[..digits].parse::<u16>().ok()? {
            401 | 403 => Some(Self::Denied),
            404 if status.contains("NoSuchBucket") => Some(Self::NoBucket),
            404 => Some(Self::Gone),
            408 | 429 | 500..=599 => Some(Self::Away),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Box<dyn Error + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: source.into() }
    }

    #[test]
    fn errors_of_disks_are_known_however_deep() {
        for (kind, expected) in [
            (ErrorKind::StorageFull, Trouble::Full),
            (ErrorKind::TimedOut, Trouble::Away),
            (ErrorKind::ReadOnlyFilesystem, Trouble::Denied),
            (ErrorKind::InvalidData, Trouble::Other),
        ] {
            assert_eq!(Trouble::of(&generic(std::io::Error::from(kind))), expected, "{kind:?}");
        }
    }

    #[test]
    fn what_a_server_answers_is_known_by_its_status_even_where_only_the_text_is_left() {
        let answer = |status: &str| {
            format!("Error performing GET http://s3/b/x in 1ms - Server returned non-2xx status code: {status}")
        };
        for (text, expected) in [
            (answer("403 Forbidden: <Code>AccessDenied</Code>"), Trouble::Denied),
            (answer("404 Not Found: <Code>NoSuchBucket</Code>"), Trouble::NoBucket),
            (answer("404 Not Found: <Code>NoSuchKey</Code>"), Trouble::Gone),
            (answer("503 Service Unavailable: <Code>SlowDown</Code>"), Trouble::Away),
            (answer("400 Bad Request: "), Trouble::Other),
            ("Error performing PUT http://s3/b/x in 9s - HTTP error: error sending request".into(), Trouble::Away),
            ("Error performing GET http://s3 in 1ms - Received redirect without LOCATION".into(), Trouble::Other),
            ("no checkpoint".into(), Trouble::Other),
        ] {
            assert_eq!(Trouble::of(&generic(format!("wrapped: {text}"))), expected, "{text}");
        }
        let source = answer("404 Not Found: <Code>NoSuchBucket</Code>").into();
        let missing = object_store::Error::NotFound { path: "x".into(), source };
        assert_eq!(Trouble::of(&missing), Trouble::NoBucket);
        let source = "no data in memory".into();
        assert_eq!(Trouble::of(&object_store::Error::NotFound { path: "x".into(), source }), Trouble::Gone);
    }
}
