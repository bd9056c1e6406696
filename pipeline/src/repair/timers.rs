//! Times that steps asked for: rows of `Store`, so that they outlive the process, and in memory in the order in which
//! they come due.

use std::collections::BTreeMap;

use schemas::{StreamId, TenantId};
use serde::{Deserialize, Serialize};

use crate::store::{Expect, Store, StoreError, Table};

const PAGE: usize = 1_000;

/// A time that a stream asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timer {
    pub(super) stream: StreamId,
    pub(super) id: String,
    /// In microseconds since 1970 UTC.
    pub(super) at: i64,
}

/// The timers of the streams of one partition.
pub(super) struct Timers {
    partition: u32,
    due: BTreeMap<String, Timer>,
}

impl Timers {
    pub(super) async fn read(store: &dyn Store, partition: u32) -> Result<Self, StoreError> {
        let mut due: BTreeMap<String, Timer> = BTreeMap::new();
        let prefix = format!("{partition:05}/");
        loop {
            let after = due.last_key_value().map(|(key, _)| key.clone());
            let rows = store.scan(TenantId::SYSTEM, Table::Timers, &prefix, after.as_deref(), PAGE).await?;
            if rows.is_empty() {
                return Ok(Self { partition, due });
            }
            for (key, row) in rows {
                let timer = serde_json::from_slice(&row.value);
                let timer = timer.map_err(|e| StoreError::Unreadable(format!("the timer {key}: {e}")))?;
                due.insert(key, timer);
            }
        }
    }

    /// Keeps a timer.
    pub(super) async fn set(&mut self, store: &dyn Store, timer: Timer) -> Result<(), StoreError> {
        let Timer { stream, id, at } = &timer;
        let key = format!("{:05}/{:020}/{}/{stream}/{id}", self.partition, (*at).max(0), stream.tenant);
        let value = serde_json::to_vec(&timer).expect("a timer has only text keys");
        store.put(TenantId::SYSTEM, Table::Timers, &key, value.into(), Expect::Any).await?;
        self.due.insert(key, timer);
        Ok(())
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<i64> {
        self.due.first_key_value().map(|(_, timer)| timer.at)
    }

    /// The next one, if it is due.
    pub(super) fn due(&self, now: i64) -> Option<(String, Timer)> {
        let (key, timer) = self.due.first_key_value()?;
        (timer.at <= now).then(|| (key.clone(), timer.clone()))
    }

    /// Forgets one that was told.
    pub(super) async fn forget(&mut self, store: &dyn Store, key: &str) -> Result<(), StoreError> {
        store.delete(TenantId::SYSTEM, Table::Timers, key, Expect::Any).await?;
        self.due.remove(key);
        Ok(())
    }
}
