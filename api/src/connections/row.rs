//! What is stored of connections, and of how their streams fared.

use std::sync::Arc;

use pipeline::{Store, Table};
use schemas::{ConnectionName, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::line::Fates;
use crate::rows::{RowError, Rows};

/// A connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// The connector's type.
    pub connector: String,
    /// Its settings, after the connector's schema.
    pub settings: Value,
    /// Nothing is read while it is.
    pub paused: bool,
    /// Who made it.
    pub by: String,
    /// When it was made, in microseconds since 1970 UTC.
    pub created_at: i64,
    /// When it was changed last.
    pub changed_at: i64,
}

impl Connection {
    /// Whether its files are followed.
    pub fn is_watched(&self) -> bool {
        self.settings["watch"] == true
    }
}

/// How the runs of a stream ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Runs that have ended.
    pub runs: u64,
    /// When the last one ended, in microseconds since 1970 UTC.
    pub ended_at: i64,
    /// When one ended well for the last time.
    pub succeeded_at: Option<i64>,
    /// What the last run that took records made of them.
    pub fates: Option<Fates>,
    /// Why the last run failed; empty when it did not.
    pub error: Option<String>,
}

/// The book of how runs ended.
#[derive(Clone)]
pub struct Ledger {
    rows: Arc<Rows<Sync>>,
}

impl Ledger {
    /// The book in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { rows: Arc::new(Rows::new(store, Table::Syncs)) }
    }

    /// Notes how a run of a stream ended.
    pub async fn note(&self, tenant: TenantId, stream: &str, ended: Result<Fates, String>) -> Result<(), RowError> {
        let now = jiff::Timestamp::now().as_microsecond();
        loop {
            let found = self.rows.get(tenant, stream).await?;
            let (mut sync, version) = found.map_or_else(Default::default, |row| (row.value, row.version));
            sync.runs += 1;
            sync.ended_at = now;
            match &ended {
                Ok(fates) => {
                    sync.succeeded_at = Some(now);
                    sync.error = None;
                    if fates.taken > 0 || sync.fates.is_none() {
                        sync.fates = Some(*fates);
                    }
                }
                Err(error) => sync.error = Some(error.clone()),
            }
            let written = match version {
                0 => self.rows.insert(tenant, stream, &sync).await?,
                version => self.rows.replace(tenant, stream, &sync, version).await?,
            };
            if written {
                return Ok(());
            }
        }
    }

    /// How the runs of a stream ended: `CONNECTION/STREAM`.
    pub async fn of(&self, tenant: TenantId, stream: &str) -> Result<Option<Sync>, RowError> {
        Ok(self.rows.get(tenant, stream).await?.map(|row| row.value))
    }

    /// Forgets a connection.
    pub async fn forget(&self, tenant: TenantId, connection: &ConnectionName) -> Result<(), RowError> {
        for (key, _) in self.rows.all(tenant, &format!("{connection}/")).await? {
            self.rows.remove(tenant, &key).await?;
        }
        Ok(())
    }
}
