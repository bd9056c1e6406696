//! Everything that lies on disk or is sent to others, compared with files that are kept for ever.
//!
//! A file that is missing is written by `GOLDEN=write cargo test -p schemas --test golden`; one that is there is never
//! written again.

mod bodies;
mod cloudevents;
mod messages;

use std::path::Path;

use schemas::ids::{StreamId, TenantId};

/// Compares `actual` with the golden file of this name.
fn assert_golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if !path.exists() && std::env::var_os("GOLDEN").is_some() {
        std::fs::write(&path, format!("{actual}\n")).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(actual, golden.trim_end(), "{name}");
}

fn golden_bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let hex = std::fs::read_to_string(path).unwrap();
    let hex = hex.trim();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn tenant() -> TenantId {
    TenantId::from_bytes([7; 16])
}

fn stream() -> StreamId {
    StreamId { tenant: tenant(), connection: "crm".parse().unwrap(), stream: "opportunity".parse().unwrap() }
}
