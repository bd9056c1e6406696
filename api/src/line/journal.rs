//! The audit journal's entries: who did what, and how it ended. Doors write theirs behind the request; what is done at the
//! command line is written here.

use pipeline::{Expect, Store, StoreError, Table};
use schemas::TenantId;
use serde::{Deserialize, Serialize};

use super::{COMMAND_LINE, Line};

/// How the journal names what is done at the command line.
const METHOD: &str = "COMMAND";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in microseconds since 1970 UTC.
    pub at: i64,
    /// Who: `user:ID`, `key:ID` or `command line`.
    pub who: String,
    /// The address, or the key's name.
    pub name: String,
    /// The method.
    pub method: String,
    /// The path, or the command.
    pub path: String,
    /// How it ended.
    pub status: u16,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// The request's trace.
    pub trace_id: String,
    /// What was changed, where the path does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Writes an entry; `number` tells entries of one moment apart.
pub(crate) async fn put(store: &dyn Store, tenant: TenantId, entry: &Entry, number: u64) -> Result<(), StoreError> {
    let key = format!("{:020}-{:06}", entry.at, number % 1_000_000);
    let value = serde_json::to_vec(entry).map_err(|e| StoreError::Refused(e.to_string()))?;
    store.put(tenant, Table::Journal, &key, value.into(), Expect::Any).await.map(|_| ())
}

impl Line {
    /// Journals a command that has changed something, or takes everything along.
    pub async fn journal(&self, tenant: TenantId, command: &str, detail: &str) -> Result<(), StoreError> {
        let entry = Entry {
            at: jiff::Timestamp::now().as_microsecond(),
            who: COMMAND_LINE.to_owned(),
            name: String::new(),
            method: METHOD.to_owned(),
            path: command.to_owned(),
            status: 200,
            took_us: 0,
            trace_id: String::new(),
            detail: Some(detail.to_owned()),
        };
        put(&*self.store, tenant, &entry, fastrand::u64(..)).await
    }
}
