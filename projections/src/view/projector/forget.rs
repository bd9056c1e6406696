//! Forgetting tenants: their views are closed without a flush, and their folders are emptied.

use std::collections::BTreeSet;
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
        self.forget_all(&BTreeSet::from([tenant])).await
    }
    /// The same for many; of these few need have anything here.
    pub async fn forget_all(&self, tenants: &BTreeSet<TenantId>) -> Result<(), ViewError> {
        let shared = self.shared();
        for number in 0..shared.partitions.len() as u32 {
            for slot in shared.unlist(number, tenants).await {
                shared.quiesce(&slot).await;
            }
        }
        if shared.duty == Duty::Follow || tenants.is_empty() {
            return Ok(());
        }
        // The folders are listed once where asking for each would take longer.
        let present = if tenants.len() == 1 { tenants.clone() } else { &shared.folders().await? & tenants };
        for tenant in present {
            shared.empty_folder(tenant).await?;
        }
        Ok(())
    }
}

impl Shared {
    /// Takes tenants' views of a partition from those that are open, being opened, or to be completed.
    async fn unlist(&self, number: u32, tenants: &BTreeSet<TenantId>) -> Vec<Arc<Slot>> {
        let partition = self.partition(number);
        let _gate = partition.gate.lock().await;
        let open = self.open_views(Some(number)).into_iter().filter(|slot| tenants.contains(&slot.view.tenant()));
        let open: Vec<_> = open.collect();
        for slot in &open {
            self.views.lock().remove(&slot.key());
        }
        partition.incomplete.lock().retain(|(owner, _), _| !tenants.contains(owner));
        for ((owner, _), loading) in partition.loading.lock().iter() {
            if let Some(loading) = loading.upgrade().filter(|_| tenants.contains(owner)) {
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

    /// The tenants that have a folder of views.
    async fn folders(&self) -> Result<BTreeSet<TenantId>, ViewError> {
        let listed = self.place.store().list_with_delimiter(None).await.map_err(|e| ViewError::io("views", &e))?;
        Ok(listed.common_prefixes.iter().filter_map(|folder| folder.filename()?.parse().ok()).collect())
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
