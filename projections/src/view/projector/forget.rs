//! Forgetting a tenant: its views are closed without a flush, and their folder is emptied.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use schemas::TenantId;

use super::{Duty, ProjectorHandle, Shared, Slot};
use crate::view::error::ViewError;

impl ProjectorHandle {
    /// Closes every view of a tenant and, where this process writes them, deletes what lies in its folder. The tenant's key has
    /// been destroyed, so that none is opened again.
    pub async fn forget(&self, tenant: TenantId) -> Result<(), ViewError> {
        let shared = self.shared();
        for number in 0..shared.partitions.len() as u32 {
            for slot in shared.unlist(number, tenant).await {
                shared.quiesce(&slot).await;
            }
        }
        match shared.duty {
            Duty::Write => shared.empty_folder(tenant).await,
            Duty::Follow => Ok(()),
        }
    }
}

impl Shared {
    /// Takes a tenant's views of a partition from those that are open, being opened, or to be completed.
    async fn unlist(&self, number: u32, tenant: TenantId) -> Vec<Arc<Slot>> {
        let partition = self.partition(number);
        let _gate = partition.gate.lock().await;
        let open = self.open_views(Some(number)).into_iter().filter(|slot| slot.view.tenant() == tenant);
        let open: Vec<_> = open.collect();
        for slot in &open {
            self.views.lock().remove(&slot.key());
        }
        partition.incomplete.lock().retain(|(owner, _), _| *owner != tenant);
        for ((owner, _), loading) in partition.loading.lock().iter() {
            if let Some(loading) = loading.upgrade().filter(|_| *owner == tenant) {
                loading.is_stale.store(true, Ordering::Release);
            }
        }
        open
    }

    /// Stops a view, and waits until nobody writes to its tables any more.
    async fn quiesce(&self, slot: &Slot) {
        slot.view.state.lock().stop(ViewError::Undefined(slot.view.entity().clone()));
        slot.view.quiesced().await;
    }

    async fn empty_folder(&self, tenant: TenantId) -> Result<(), ViewError> {
        let folder = Path::from(tenant.to_string());
        let fail = |e: object_store::Error| ViewError::io(folder.as_ref(), &e);
        let views = self.place.store();
        let listed: Vec<_> = views.list(Some(&folder)).try_collect().await.map_err(fail)?;
        for object in listed {
            match views.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }
}
