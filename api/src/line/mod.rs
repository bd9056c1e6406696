//! The line over one data folder, as commands and doors use it.
//!
//! [`Line`] is opened and closed in [`crate::roles`]. `waiting` waits for what the roles have done, `definitions` is what
//! plans are made from, `cases` has people decide drift, `evidence` shows what they decide by, `consumers` who reads a view,
//! `settle` has them retry or discard what was set aside, `deletion` and `export` are of a tenant as a whole, `open` opens
//! streams for pushes, `streams` tells of tenants and their streams, `turns` lets one run of a stream go on at a time,
//! `fair` gives turns to tenants, `quotas` says what each may take, `queries` are those that run, `views` is what can be
//! asked, `items` shows the log item by item, `policies` says by what cases are decided, `mappings` what
//! is in force, `journal` who did what, `webhooks` who is told of cases.

mod cases;
mod consumers;
mod definitions;
mod deletion;
mod evidence;
mod export;
mod fair;
mod items;
pub(crate) mod journal;
mod mappings;
mod open;
mod policies;
mod queries;
mod quotas;
mod settle;
mod streams;
mod turns;
mod views;
mod waiting;
mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;

use pipeline::ingest::Ingest;
use pipeline::payload::Keyring;
use pipeline::{Log, Store};
use projections::sql::QueryEngine;
use schemas::{StreamId, TenantId};
use tokio::sync::{OwnedMutexGuard, broadcast};

pub use cases::{DecideError, MadeOn, Outcome};
pub use consumers::Consumer;
pub(crate) use consumers::Consumers;
pub use definitions::Definitions;
pub use deletion::Halt;
pub(crate) use deletion::Halted;
pub use evidence::{Impact, ViewImpact};
pub(crate) use fair::{Bounds, Fair};
pub use fair::{Busy, Place};
pub use items::{EntityFields, Item};
pub use mappings::{DriftOf, InForce, SetMappingError, kind_of};
pub use open::OpenError;
pub use policies::told as policy_told;
pub(crate) use queries::Running;
pub(crate) use queries::VIEWED_KEPT;
pub use queries::{Asking, NoTurn, RunningQuery, Turn, Viewed};
pub(crate) use quotas::Quotas;
pub use quotas::{Account, OpenStream, OverQuota, QuotaChange, QuotaSettings};
pub use settle::{Reasoned, SettleError};
pub use views::{Keys, StreamRows, Superseded, ViewStatus};
pub use waiting::Stalled;
pub use webhooks::{WebhookError, WebhookWanted};

use crate::roles::Roles;
pub(crate) use turns::Turns;

/// Who acts at the command line: whoever may open the folder.
pub const COMMAND_LINE: &str = "command line";

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
    pub(crate) running: Arc<Running>,
    pub(crate) consumers: Arc<Consumers>,
    pub(crate) viewed: broadcast::Sender<Arc<Viewed>>,
}

impl Line {
    /// Waits until no other run of the stream is under way. The turn ends when it is dropped.
    pub async fn turn(&self, stream: &StreamId) -> OwnedMutexGuard<()> {
        self.turns.take(stream).await
    }
}
