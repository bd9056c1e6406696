//! What anybody may ask without signing in, in one list.

/// Paths that need no credential.
const PUBLIC: [&str; 7] = [
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/api/v1/auth/register",
    "/api/v1/auth/login",
    "/api/v1/auth/accept",
];

/// Whether a path needs no credential. `/metrics` decides for itself: loopback or the operator's token.
pub fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path) || path == "/metrics"
}

/// Whether a path opens a stream, for which a one-use ticket may stand in for a credential: browsers cannot send headers
/// with an `EventSource`.
pub fn takes_ticket(path: &str) -> bool {
    matches!(path, "/api/v1/events/stream" | "/api/v1/events/ws")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_are_public() {
        assert!(is_public("/api/v1/auth/login"));
        for private in ["/api/v1/auth/login/", "/api/v1/auth/loginx", "/docs/../api/v1/query", "/api/v1/auth/me", "/"] {
            assert!(!is_public(private), "{private}");
        }
    }
}
