//! The line over one data folder, as commands and doors use it.
//!
//! [`Line`] is opened and closed in [`crate::roles`]. `waiting` waits for what the roles have done, `definitions` is what
//! plans are made from, `opening` what a stream is opened with, `open` opens streams for pushes, `run` brings records in
//! together, `runs` are those of programs elsewhere, `turns` lets one run of a stream go on at a time. `streams` tells of tenants and their streams, `views` is what
//! can be asked, `queries` are those that run, `items` shows the log item by item, `quarantine` what was set aside,
//! `cases` has people decide drift. `fair` gives turns to tenants, `quotas` says what each may take, `deletion` and `export` are of a tenant as a whole.

mod cases;
mod definitions;
mod deletion;
mod export;
mod fair;
mod items;
mod open;
mod opening;
mod quarantine;
mod queries;
mod quotas;
mod run;
mod runs;
mod streams;
mod turns;
mod views;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;

use pipeline::ingest::Ingest;
use pipeline::payload::Keyring;
use pipeline::{Log, Store};
use projections::sql::QueryEngine;
use schemas::{StreamId, TenantId};
use tokio::sync::{OwnedMutexGuard, broadcast};

pub use cases::{DecideError, Outcome};
pub use definitions::Definitions;
pub use deletion::Halt;
pub(crate) use deletion::Halted;
pub(crate) use fair::{Bounds, Fair};
pub use fair::{Busy, Place};
pub use items::{Cause, EntityFields, Item, LogPlace};
pub use open::OpenError;
pub use opening::{Opening, Said, version_type};
pub(crate) use queries::Running;
pub(crate) use queries::VIEWED_KEPT;
pub use queries::{Asking, NoTurn, RunningQuery, Turn, Viewed};
pub(crate) use quotas::Quotas;
pub use quotas::{Account, OpenStream, OverQuota, QuotaChange, QuotaSettings};
pub use run::{Fates, Run};
pub use runs::Runs;
pub use views::{NotCounted, StreamRows, Superseded, ViewStatus};
pub use waiting::Stalled;

use crate::roles::Roles;
pub(crate) use turns::Turns;

/// Every role of the line over one data folder, in one process.
pub struct Line {
    /// The data folder.
    pub folder: PathBuf,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The keys that seal what tenants have in both.
    pub keys: Arc<Keyring>,
    /// The front door.
    pub ingest: Ingest,
    /// SQL.
    pub queries: QueryEngine,
    pub(crate) roles: Roles,
    pub(crate) turns: Turns,
    /// Whether a full disk is waited for, as a server does.
    pub(crate) is_patient: bool,
    pub(crate) halted: Halted,
    pub(crate) quotas: Quotas,
    /// Places for queries.
    pub(crate) asks: Arc<Fair<TenantId>>,
    /// Places for pushes.
    pub(crate) pushes: Arc<Fair<TenantId>>,
    /// Places for exports.
    pub(crate) exports: Arc<Fair<TenantId>>,
    pub(crate) running: Arc<Running>,
    pub(crate) viewed: broadcast::Sender<Arc<Viewed>>,
}

impl Line {
    /// Waits until no other run of the stream is under way. The turn ends when it is dropped.
    pub async fn turn(&self, stream: &StreamId) -> OwnedMutexGuard<()> {
        self.turns.take(stream).await
    }
}
