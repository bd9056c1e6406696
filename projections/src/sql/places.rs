//! Places for running queries: so many in all, and a share of them for each tenant.
//!
//! Without shares a single tenant with slow queries would hold every place, and the others would be told to try again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemas::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::QueryError;

/// All places of an engine.
pub(super) struct Places {
    common: Arc<Semaphore>,
    shares: Arc<Shares>,
}

/// A query's place, free again once it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _common: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _share: Share,
}

impl Places {
    /// So many places, half of them for one tenant at most.
    pub(super) fn new(count: usize) -> Self {
        let count = count.max(1);
        let shares = Shares { places: (count / 2).max(1), tenants: Mutex::default() };
        Self { common: Arc::new(Semaphore::new(count)), shares: Arc::new(shares) }
    }

    /// A place for a tenant's query; an error if none becomes free within the time.
    pub(super) async fn take(&self, tenant: TenantId, wait: Duration) -> Result<Place, QueryError> {
        match timeout(wait, self.wait(tenant)).await {
            Ok(Some(place)) => Ok(place),
            _ => Err(QueryError::Busy),
        }
    }

    async fn wait(&self, tenant: TenantId) -> Option<Place> {
        // The tenant's own queue comes first: who waits in it takes no common place from others.
        let (share, places) = Shares::enter(&self.shares, tenant);
        let own = places.acquire_owned().await.ok()?;
        let common = Arc::clone(&self.common).acquire_owned().await.ok()?;
        Some(Place { _common: common, _own: own, _share: share })
    }
}

/// The shares of the tenants that ask at the moment.
#[derive(Debug)]
struct Shares {
    /// Places of one tenant.
    places: usize,
    tenants: Mutex<HashMap<TenantId, Asking>>,
}

#[derive(Debug)]
struct Asking {
    places: Arc<Semaphore>,
    /// Queries that wait or run.
    queries: usize,
}

impl Shares {
    fn enter(shares: &Arc<Self>, tenant: TenantId) -> (Share, Arc<Semaphore>) {
        let mut tenants = shares.tenants.lock();
        let new = || Asking { places: Arc::new(Semaphore::new(shares.places)), queries: 0 };
        let asking = tenants.entry(tenant).or_insert_with(new);
        asking.queries += 1;
        let places = Arc::clone(&asking.places);
        drop(tenants);
        (Share { shares: Arc::clone(shares), tenant }, places)
    }
}

/// A query's mark in its tenant's share; with the last one the share goes.
#[derive(Debug)]
struct Share {
    shares: Arc<Shares>,
    tenant: TenantId,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut tenants = self.shares.tenants.lock();
        if let Some(asking) = tenants.get_mut(&self.tenant) {
            asking.queries -= 1;
            if asking.queries == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn tenant(number: u8) -> TenantId {
        TenantId::from_bytes([number; 16])
    }

    #[tokio::test]
    async fn a_tenant_with_many_queries_leaves_places_to_others() {
        let places = Places::new(4);
        let first = [places.take(tenant(1), LONG).await.unwrap(), places.take(tenant(1), LONG).await.unwrap()];
        let mut third = Box::pin(places.take(tenant(1), LONG));
        assert!((&mut third).now_or_never().is_none());
        let other = places.take(tenant(2), LONG).now_or_never().unwrap().unwrap();
        drop(first);
        let third = third.await.unwrap();
        drop((third, other));
    }

    #[tokio::test]
    async fn who_waits_for_its_own_share_holds_no_common_place() {
        let places = Places::new(2);
        let first = places.take(tenant(1), LONG).await.unwrap();
        let mut waiting = Box::pin(places.take(tenant(1), LONG));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(places.common.available_permits(), 1);
        drop(first);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn an_engine_of_one_place_serves_every_tenant_in_turn() {
        let places = Places::new(1);
        let first = places.take(tenant(1), LONG).await.unwrap();
        assert!(matches!(places.take(tenant(2), Duration::ZERO).await, Err(QueryError::Busy)));
        drop(first);
        places.take(tenant(2), LONG).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_tenant_whose_queries_have_ended_or_given_up() {
        let places = Places::new(2);
        let first = places.take(tenant(1), LONG).await.unwrap();
        assert!(matches!(places.take(tenant(1), Duration::ZERO).await, Err(QueryError::Busy)));
        assert_eq!(places.shares.tenants.lock().len(), 1);
        drop(first);
        assert!(places.shares.tenants.lock().is_empty());
    }
}
