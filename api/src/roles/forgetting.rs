//! What a process drops of tenants that another one has deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use parking_lot::Mutex;
use pipeline::payload::DropTenants;
use projections::view::{ProjectorHandle, ViewError};
use schemas::TenantId;

use crate::line::Halted;

/// The tables at a place that processes share, as far as this one writes them.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<Partitions>>);

#[derive(Default)]
struct Partitions {
    /// What writes each.
    writers: BTreeMap<u32, ProjectorHandle>,
    /// Whose tables must not be there.
    gone: BTreeSet<TenantId>,
}

/// Writing the tables of a partition; over when this is dropped.
pub(super) struct Writing {
    written: Written,
    partition: u32,
}

impl Written {
    /// A partition is written from now on. What is there of deleted tenants, which a writer that died may have left, goes
    /// first.
    pub(super) async fn begin(&self, partition: u32, writer: ProjectorHandle) -> Result<Writing, ViewError> {
        let gone = {
            let mut all = self.0.lock();
            all.writers.insert(partition, writer.clone());
            all.gone.clone()
        };
        let writing = Writing { written: self.clone(), partition };
        writer.forget_all(&gone).await?;
        Ok(writing)
    }

    async fn forget(&self, tenants: &BTreeSet<TenantId>) -> Result<(), ViewError> {
        let writers: Vec<ProjectorHandle> = {
            let mut all = self.0.lock();
            all.gone.extend(tenants);
            all.writers.values().cloned().collect()
        };
        for writer in writers {
            writer.forget_all(tenants).await?;
        }
        Ok(())
    }

    /// What a process without doors drops: its views, and the tables that it writes.
    pub(super) fn dropped(self) -> DropTenants {
        Arc::new(move |tenants: BTreeSet<TenantId>| {
            let written = self.clone();
            async move { is_done(written.forget(&tenants).await) }.boxed()
        })
    }

    /// What one with doors drops: what it reads for them, the views by which it answers, and the tables that it writes.
    pub(super) fn dropped_with_doors(
        self,
        halted: Arc<Halted>,
        projector: ProjectorHandle,
        views: PathBuf,
    ) -> DropTenants {
        Arc::new(move |tenants: BTreeSet<TenantId>| {
            let (written, halted) = (self.clone(), halted.clone());
            let (projector, views) = (projector.clone(), views.clone());
            async move {
                for tenant in &tenants {
                    halted.halt(*tenant).await;
                }
                let done = is_done(projector.forget_all(&tenants).await) && is_done(written.forget(&tenants).await);
                // What lay in it is gone; a folder that something stands in is told by who reads the views.
                tenants.iter().for_each(|tenant| _ = std::fs::remove_dir_all(views.join(tenant.to_string())));
                done
            }
            .boxed()
        })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.written.0.lock().writers.remove(&self.partition);
    }
}

fn is_done(dropped: Result<(), ViewError>) -> bool {
    if let Err(error) = &dropped {
        tracing::warn!(%error, "the views of a tenant that was deleted are not gone yet; trying again");
    }
    dropped.is_ok()
}
