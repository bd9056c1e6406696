//! Runs that programs elsewhere have begun and come back for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemas::TenantId;
use tokio::time::Instant;

use super::Run;

/// A run that nobody has come back for is forgotten after so long: what beat its rows is not counted any more.
const LEFT_AFTER: Duration = Duration::from_secs(3_600);
/// Runs of one tenant; the one that was left longest makes room.
const OF_ONE_MAX: usize = 16;

type Id = (TenantId, String);

/// Runs by their tenants and ids.
#[derive(Default)]
pub struct Runs(Mutex<HashMap<Id, Entry>>);

struct Entry {
    run: Arc<Run>,
    touched: Instant,
}

impl Runs {
    /// Keeps a run and gives it an id.
    pub fn keep(self: &Arc<Self>, tenant: TenantId, run: Run) -> String {
        let id = (tenant, uuid::Uuid::new_v4().simple().to_string());
        let mut open = self.0.lock();
        let own = open.iter().filter(|((owner, _), _)| *owner == tenant);
        if own.clone().count() >= OF_ONE_MAX
            && let Some(oldest) = own.min_by_key(|(_, entry)| entry.touched).map(|(id, _)| id.clone())
        {
            open.remove(&oldest);
        }
        open.insert(id.clone(), Entry { run: Arc::new(run), touched: Instant::now() });
        drop(open);
        self.forget_when_left(id.clone());
        id.1
    }

    /// A run of a tenant; it is not left.
    pub fn find(&self, tenant: TenantId, id: &str) -> Option<Arc<Run>> {
        let mut open = self.0.lock();
        let entry = open.get_mut(&(tenant, id.to_owned()))?;
        entry.touched = Instant::now();
        Some(entry.run.clone())
    }

    /// Forgets a run; false when there is none.
    pub fn end(&self, tenant: TenantId, id: &str) -> bool {
        self.0.lock().remove(&(tenant, id.to_owned())).is_some()
    }

    /// Forgets a run once it is left for long. The task ends with the run.
    fn forget_when_left(self: &Arc<Self>, id: Id) {
        let runs = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut until = Instant::now() + LEFT_AFTER;
            loop {
                tokio::time::sleep_until(until).await;
                let Some(runs) = runs.upgrade() else { return };
                let mut open = runs.0.lock();
                let Some(entry) = open.get(&id) else { return };
                until = entry.touched + LEFT_AFTER;
                if until <= Instant::now() {
                    open.remove(&id);
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Line, Opening, Said};

    async fn begun(line: &Line, tenant: TenantId) -> Run {
        let said = Said {
            tenant: Some(tenant),
            connection: "crm",
            stream: "opportunity",
            system: Some("salesforce"),
            mapping: None,
            key: None,
            version: None,
            version_type: None,
            deleted: None,
        };
        let opening = Opening::new(said, line.definitions()).await.unwrap();
        let (stream, mapping) = (opening.stream_of(tenant), opening.mapping);
        line.begin_run(&stream, mapping, None, "test", true).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn runs_are_their_tenants_and_the_one_left_longest_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let line = Line::open(folder.path()).await.unwrap();
        let tenant = line.ensure_tenant(&"acme".parse().unwrap()).await.unwrap();
        let runs = Arc::new(Runs::default());
        let first = runs.keep(tenant, begun(&line, tenant).await);
        let second = runs.keep(tenant, begun(&line, tenant).await);
        for _ in 2..OF_ONE_MAX {
            runs.keep(tenant, begun(&line, tenant).await);
        }
        let stranger = TenantId::from_bytes([9; 16]);
        assert!(runs.find(stranger, &first).is_none() && !runs.end(stranger, &first));
        assert!(runs.find(tenant, &first).is_some(), "it is not left");
        runs.keep(tenant, begun(&line, tenant).await);
        assert!(runs.find(tenant, &first).is_some() && runs.find(tenant, &second).is_none());
        assert!(runs.end(tenant, &first) && runs.find(tenant, &first).is_none());
        drop(runs);
        line.close().await.unwrap();
    }
}
