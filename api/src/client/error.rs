//! What can go wrong with a server, and what to do then.

use poem::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::Address;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A server did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("{server} cannot be reached: is it running, and is this its address?")]
    Unreachable {
        /// The server.
        server: Address,
        /// Why.
        source: reqwest::Error,
    },
    /// It went away in the middle.
    #[error("{server} went away before its answer was whole: run the command again")]
    BrokenOff {
        /// The server.
        server: Address,
        /// How.
        source: reqwest::Error,
    },
    /// Its certificate is not trusted.
    #[error("{server} shows no certificate that is trusted here: name the one that it is signed by with --ca FILE")]
    Untrusted {
        /// The server.
        server: Address,
        /// Why not.
        source: reqwest::Error,
    },
    /// It says why not.
    #[error("{}", told(.status, .problem, .retry_after))]
    Refused {
        /// The status.
        status: StatusCode,
        /// Why, and what to do.
        problem: Problem,
        /// After how many seconds to try again.
        retry_after: Option<u64>,
    },
    /// The credential does not count, or does not any more.
    #[error("{server} does not know you (any more): {remedy}")]
    Unknown {
        /// The server.
        server: Address,
        /// What to do.
        remedy: String,
    },
    /// Nobody has signed in.
    #[error(
        "nobody is signed in to {0}: autonomos login --server {0}, or set AUTONOMOS_API_KEY to the API key of a program"
    )]
    NotSignedIn(Address),
    /// The credential would travel in the open.
    #[error(
        "{0} is not this machine and does not encrypt: use https, or say --insecure-http where something else encrypts"
    )]
    InTheOpen(Address),
    /// The server does not know the route.
    #[error("{server} does not know {path}: {}", versions(.theirs))]
    NoRoute {
        /// The server.
        server: Address,
        /// The route.
        path: String,
        /// Its version.
        theirs: Option<String>,
    },
    /// The answer is not what it should be.
    #[error("the answer of {server} cannot be read ({why}): {}", versions(.theirs))]
    Unreadable {
        /// The server.
        server: Address,
        /// What is wrong with it.
        why: String,
        /// Its version.
        theirs: Option<String>,
    },
    /// Somebody else answers there.
    #[error("{server} sends on to {to}: name that address, if it is the server")]
    Elsewhere {
        /// The server.
        server: Address,
        /// Where to.
        to: String,
    },
    /// What is trusted, or the credential, cannot be used.
    #[error("{0}")]
    Setup(String),
}

/// A problem as a server tells it, after RFC 9457. What a newer one says besides is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// The kind as one word.
    #[serde(default)]
    pub code: String,
    /// What is wrong, and what to do.
    #[serde(default)]
    pub detail: String,
    /// The id under which the server's log knows the request.
    #[serde(default)]
    pub trace_id: String,
    /// What is wrong at which place.
    #[serde(default)]
    pub errors: Vec<PlaceError>,
}

/// What is wrong at one place of what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PlaceError {
    /// The place.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl ClientError {
    /// The stable code of a problem, if it is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.code),
            _ => None,
        }
    }
}

fn told(status: &StatusCode, problem: &Problem, retry_after: &Option<u64>) -> String {
    let Problem { code, detail, trace_id, errors } = problem;
    let mut text = if detail.is_empty() { format!("the server answers {status}") } else { detail.clone() };
    for PlaceError { pointer, detail } in errors {
        text.push_str(&format!("\n  {pointer}: {detail}"));
    }
    if let Some(seconds) = retry_after {
        text.push_str(&format!("; it may work in {seconds} s"));
    }
    // What the server has no words for is found in its log.
    if status.is_server_error() && !trace_id.is_empty() {
        text.push_str(&format!(" ({code}, trace {trace_id})"));
    }
    text
}

fn versions(theirs: &Option<String>) -> String {
    match theirs {
        Some(theirs) if theirs != VERSION => {
            format!("it is version {theirs}, this is {VERSION}; use the same for both")
        }
        Some(_) => format!("it says that it is version {VERSION}, as this is; does a proxy change its answers?"),
        None => format!("it does not say its version, this is {VERSION}; is it an AutonomOS server of that version?"),
    }
}

/// The version that a server says it is.
pub(super) fn version_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::SERVER)?.to_str().ok()?;
    value.strip_prefix("autonomos/").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_the_server_says() {
        let problem = Problem {
            code: "settings_invalid".into(),
            detail: "the settings do not fit".into(),
            trace_id: "0af7".into(),
            errors: vec![PlaceError { pointer: "/settings/files".into(), detail: "name a file".into() }],
        };
        let refused =
            |status, retry_after| ClientError::Refused { status, problem: problem.clone(), retry_after }.to_string();
        assert_eq!(
            refused(StatusCode::UNPROCESSABLE_ENTITY, None),
            "the settings do not fit\n  /settings/files: name a file"
        );
        assert!(refused(StatusCode::SERVICE_UNAVAILABLE, Some(30)).contains("30 s (settings_invalid, trace 0af7)"));
        let nothing =
            ClientError::Refused { status: StatusCode::BAD_GATEWAY, problem: Problem::default(), retry_after: None };
        assert!(nothing.to_string().contains("502 Bad Gateway"));
    }

    #[test]
    fn another_version_is_named() {
        let unreadable = |theirs: Option<&str>| {
            let (server, why) = ("http://127.0.0.1:1".parse().unwrap(), "no case".into());
            ClientError::Unreadable { server, why, theirs: theirs.map(str::to_owned) }.to_string()
        };
        assert!(unreadable(Some("99.1.0")).contains("it is version 99.1.0, this is"));
        assert!(unreadable(Some(VERSION)).contains("proxy"));
        assert!(unreadable(None).contains("does not say its version"));
    }
}
