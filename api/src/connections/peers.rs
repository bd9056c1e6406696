//! Connections that another process has changed: a row of the system for each tenant is written at every change, and every
//! process that reads connections looks for such rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline::{Expect, Table};
use schemas::TenantId;

use super::running::Id;
use super::{ConnectionError, Connections};
use crate::rows::RowError;

/// Between two looks: so long may another process go on reading what was paused or deleted.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// Rows read at a time.
const PAGE: usize = 1_000;

impl Connections {
    /// Tells other processes that something of a tenant's connections has changed.
    pub(super) async fn tell_peers(&self, tenant: TenantId) -> Result<(), ConnectionError> {
        if !self.line.has_peers() {
            return Ok(());
        }
        let (key, value) = (tenant.to_string(), b"{}".to_vec().into());
        let told = self.line.store.put(TenantId::SYSTEM, Table::Connections, &key, value, Expect::Any).await;
        told.map_err(RowError::from)?;
        Ok(())
    }

    /// What has changed of which tenant, by the versions of their rows.
    pub(super) async fn changes(&self) -> Result<HashMap<String, u64>, ConnectionError> {
        let mut all = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let store = &self.line.store;
            let rows = store.scan(TenantId::SYSTEM, Table::Connections, "", after.as_deref(), PAGE).await;
            let rows = rows.map_err(RowError::from)?;
            let Some((last, _)) = rows.last() else { return Ok(all) };
            after = Some(last.clone());
            all.extend(rows.into_iter().map(|(key, row)| (key, row.version)));
        }
    }

    /// Takes over what other processes change, from `seen` on, until this one stops.
    pub(super) async fn follow_peers(self: Arc<Self>, mut seen: HashMap<String, u64>) {
        let mut stop = self.stop.subscribe();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            if let Err(error) = self.look(&mut seen).await {
                tracing::warn!(%error, "what other processes change of connections cannot be seen; trying again");
            }
        }
    }

    async fn look(&self, seen: &mut HashMap<String, u64>) -> Result<(), ConnectionError> {
        for (key, version) in self.changes().await? {
            let Ok(tenant) = key.parse() else { continue };
            if seen.get(&key) != Some(&version) {
                self.take_over(tenant).await?;
                seen.insert(key, version);
            }
        }
        Ok(())
    }

    /// Runs what a tenant's connections say now, and nothing else of it.
    pub(super) async fn take_over(&self, tenant: TenantId) -> Result<(), ConnectionError> {
        let mut known: Vec<Id> = self.known.lock().keys().filter(|(owner, _)| *owner == tenant).cloned().collect();
        for (key, _) in self.rows.all(tenant, "").await? {
            let Ok(name) = key.parse() else { continue };
            let id: Id = (tenant, name);
            known.retain(|other| *other != id);
            self.take_over_one(&id).await?;
        }
        for id in known {
            self.take_over_one(&id).await?;
        }
        Ok(())
    }

    async fn take_over_one(&self, id: &Id) -> Result<(), ConnectionError> {
        let _turn = self.turns.take(id).await;
        let Some(connection) = self.rows.get(id.0, id.1.as_str()).await?.map(|row| row.value) else {
            self.runs.halt(id).await;
            self.known.lock().remove(id);
            return Ok(());
        };
        if self.known.lock().get(id) == Some(&connection.changed_at) {
            return Ok(());
        }
        let followed = self.followed(id, &connection).await;
        self.runs.halt(id).await;
        self.known.lock().insert(id.clone(), connection.changed_at);
        match followed {
            Ok(streams) => self.runs.follow(id, streams),
            Err(error) => {
                tracing::warn!(tenant = %id.0, connection = %id.1, %error, "a connection is not followed");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::connections::roots::{DeclaredRoot, Roots};
    use crate::line::Line;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_one_process_makes_pauses_and_deletes_the_other_takes_over() {
        let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let line = Arc::new(Line::open(&data.path().join("data")).await.unwrap());
        let root = DeclaredRoot { tenant: "acme".into(), folder: files.path().to_owned() };
        let connections = async || {
            let roots = Roots::resolve(&line, std::slice::from_ref(&root)).await.unwrap();
            Connections::new(line.clone(), roots)
        };
        let (there, here) = (connections().await, connections().await);
        let tenant = line.tenant(&"acme".parse().unwrap()).await.unwrap();
        let id: Id = (tenant, "crm".parse().unwrap());
        let stream = json!({"stream": "opportunity", "system": "salesforce", "files": ["deals.ndjson"]});
        let settings = json!({"watch": true, "streams": [stream]});
        there.create(&id, "file", settings, "test").await.unwrap();
        assert!(!here.runs.is_open(&id));
        here.take_over(tenant).await.unwrap();
        assert!(here.runs.is_open(&id));
        there.set_paused(&id, true).await.unwrap();
        here.take_over(tenant).await.unwrap();
        assert!(!here.runs.is_open(&id));
        there.set_paused(&id, false).await.unwrap();
        here.take_over(tenant).await.unwrap();
        assert!(here.runs.is_open(&id));
        there.delete(&id).await.unwrap();
        here.take_over(tenant).await.unwrap();
        assert!(!here.runs.is_open(&id) && here.known.lock().is_empty());
        there.stop().await;
        here.stop().await;
        line.close().await.unwrap();
    }
}
