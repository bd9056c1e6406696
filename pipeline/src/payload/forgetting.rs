//! Processes that share a store learn from it which keys others have destroyed.
//!
//! Who destroys a key notes so in a row of the system, and every process looks for such rows every few seconds: it drops the
//! key from its memory and then what it has of the tenant. One that cannot look believes in no key any more after a while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::BoxFuture;
use schemas::TenantId;
use tokio::sync::watch;

use super::Keyring;
use crate::store::{Expect, StoreError, Table};

/// After so long no process that reaches the store opens or seals anything with a key that was destroyed.
pub const FORGOTTEN_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// A process that could not look for so long believes in no key until it can ask for it.
const BELIEVED: Duration = Duration::from_secs(60);
/// How far the clocks of processes may be apart, in microseconds: rows this old are looked at again.
const APART_MICROS: u64 = 3_600_000_000;
/// Rows read at a time.
const PAGE: usize = 1_000;

/// The rows of destroyed keys stand behind those of deletions that are under way.
const PREFIX: &str = "gone/";

/// Drops what a process has of tenants, which have no key any more. False where it has to be tried again.
pub type DropTenants = Arc<dyn Fn(BTreeSet<TenantId>) -> BoxFuture<'static, bool> + Send + Sync>;

impl Keyring {
    /// Tells the processes that share the store that a tenant's key was destroyed.
    pub async fn tell_destroyed(&self, tenant: TenantId) -> Result<(), StoreError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let key = format!("{PREFIX}{:020}/{tenant}", since.as_micros());
        let value = Bytes::from_static(b"{}");
        self.store().put(TenantId::SYSTEM, Table::Deletions, &key, value, Expect::Any).await.map(drop)
    }

    /// The tenants whose keys were destroyed from a time on, and when; all times in microseconds since 1970 UTC.
    async fn destroyed_since(&self, at: u64) -> Result<Vec<(u64, TenantId)>, StoreError> {
        let (mut after, mut found) = (format!("{PREFIX}{at:020}"), Vec::new());
        loop {
            let rows = self.store().scan(TenantId::SYSTEM, Table::Deletions, PREFIX, Some(&after), PAGE).await?;
            let Some((last, _)) = rows.last() else { return Ok(found) };
            after = last.clone();
            for (key, _) in &rows {
                let place = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
                let place =
                    place.and_then(|(at, tenant)| Some((at.parse::<u64>().ok()?, tenant.parse::<TenantId>().ok()?)));
                found.push(place.ok_or_else(|| StoreError::Unreadable(format!("the note {key} of a destroyed key")))?);
            }
        }
    }
}

/// Whether a row of `Table::Deletions` notes a destroyed key, and no deletion that is under way.
pub fn is_of_destroyed_key(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// Forgets the tenants whose keys other processes have destroyed, until `shutdown` says true.
pub async fn follow_destroyed(keys: Arc<Keyring>, dropped: DropTenants, mut shutdown: watch::Receiver<bool>) {
    let mut follower = Follower { keys, dropped, from: 0, done: BTreeSet::new() };
    let mut looked = Instant::now();
    loop {
        match follower.look().await {
            Ok(()) => looked = Instant::now(),
            Err(error) => {
                tracing::warn!(%error, "whose keys were destroyed cannot be seen; trying again");
                if looked.elapsed() >= BELIEVED {
                    follower.keys.doubt();
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
    }
}

struct Follower {
    keys: Arc<Keyring>,
    dropped: DropTenants,
    /// What was destroyed before is dropped.
    from: u64,
    done: BTreeSet<TenantId>,
}

impl Follower {
    async fn look(&mut self) -> Result<(), StoreError> {
        let found = self.keys.destroyed_since(self.from).await?;
        // Nothing is opened and nothing kept for them from here on.
        found.iter().for_each(|(_, tenant)| self.keys.forget(*tenant));
        let new: BTreeSet<TenantId> =
            found.iter().map(|(_, tenant)| *tenant).filter(|tenant| !self.done.contains(tenant)).collect();
        if !new.is_empty() {
            if !(self.dropped)(new.clone()).await {
                return Ok(());
            }
            self.done.extend(new);
        }
        let newest = found.iter().map(|(at, _)| *at).max().unwrap_or(0);
        self.from = self.from.max(newest.saturating_sub(APART_MICROS));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use parking_lot::Mutex;

    use super::*;
    use crate::payload::SealedStore;
    use crate::store::{MemoryStore, Store};
    use crate::testing::TENANT;

    const MASTER: [u8; 32] = [9; 32];

    #[tokio::test]
    async fn a_key_that_another_process_has_destroyed_is_dropped_here_and_what_there_is_of_the_tenant_once_it_can_be() {
        let bare: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let keyring = async || Arc::new(Keyring::open(bare.clone(), &MASTER).await.unwrap());
        let (there, here) = (keyring().await, keyring().await);
        let sealed = SealedStore::new(bare.clone(), here.clone());
        sealed.put(TENANT, Table::Users, "ada", Bytes::from_static(b"{}"), Expect::Any).await.unwrap();
        there.destroy(TENANT).await.unwrap();
        assert!(sealed.get(TENANT, Table::Users, "ada").await.unwrap().is_some(), "nobody has told this process");
        there.tell_destroyed(TENANT).await.unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let dropped: DropTenants = Arc::new({
            let asked = asked.clone();
            move |tenants: BTreeSet<TenantId>| {
                asked.lock().push(tenants);
                let is_done = asked.lock().len() > 1;
                async move { is_done }.boxed()
            }
        });
        let mut follower = Follower { keys: here.clone(), dropped, from: 0, done: BTreeSet::new() };
        for times in [1, 2, 2] {
            follower.look().await.unwrap();
            assert_eq!(sealed.get(TENANT, Table::Users, "ada").await.unwrap(), None);
            assert_eq!(*asked.lock(), vec![BTreeSet::from([TENANT]); times]);
        }
    }

    #[tokio::test]
    async fn keys_that_are_doubted_are_asked_for_again() {
        let bare: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let keys = Arc::new(Keyring::open(bare.clone(), &MASTER).await.unwrap());
        let sealed = SealedStore::new(bare.clone(), keys.clone());
        sealed.put(TENANT, Table::Users, "ada", Bytes::from_static(b"{}"), Expect::Any).await.unwrap();
        let other = Keyring::open(bare.clone(), &MASTER).await.unwrap();
        other.destroy(TENANT).await.unwrap();
        keys.doubt();
        assert_eq!(sealed.get(TENANT, Table::Users, "ada").await.unwrap(), None);
    }
}
