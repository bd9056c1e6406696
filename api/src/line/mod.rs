//! The line over one data folder, as commands and doors use it.
//!
//! [`Line`] is opened and closed in [`crate::roles`]. `waiting` waits for what the roles have done, `lag` says how far they are
//! behind, `definitions` is what plans are made from, `opening` what a stream is opened with, `open` opens streams for pushes,
//! `run` brings records in together, `runs` are those of programs elsewhere, `turns` lets one run of a stream go on at a time. `streams` tells of
//! tenants and their streams, `views` is what can be asked, `queries` are those that run, `consumers` who reads a view,
//! `items` shows the log item by item, `quarantine` what was set aside, `settle` has people retry or discard it, `cases` has
//! them decide drift, `evidence` shows what they decide by, `policies` by what cases are decided, `mappings` what is in force,
//! `journal` who did what, `webhooks` who is told of cases, `panics` counts what went wrong inside. `fair` gives turns to
//! tenants, `quotas` says what each may take, `deletion` and `export` are of a tenant as a whole, `advice` what its questions
//! to a language model have cost.

mod advice;
mod cases;
mod consumers;
mod definitions;
mod deletion;
mod evidence;
mod export;
mod fair;
mod items;
pub(crate) mod journal;
mod lag;
mod mappings;
mod open;
mod opening;
mod panics;
mod policies;
mod quarantine;
mod queries;
mod quotas;
mod run;
mod runs;
mod settle;
mod streams;
mod turns;
mod views;
mod waiting;
mod webhooks;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use connectors::file::ContentCounts;
use parking_lot::Mutex;
use pipeline::ingest::Ingest;
use pipeline::payload::Keyring;
use pipeline::repair::Asking as AskingModel;
use pipeline::{Log, Store};
use projections::sql::QueryEngine;
use schemas::{StreamId, TenantId};
use tokio::sync::{OwnedMutexGuard, broadcast};

pub use advice::{Advice, told as advice_told};
pub use cases::{DecideError, MadeOn, Outcome};
pub use consumers::Consumer;
pub(crate) use consumers::Consumers;
pub use definitions::Definitions;
pub use deletion::Halt;
pub(crate) use deletion::Halted;
pub use evidence::{Impact, ViewImpact};
pub(crate) use fair::{Bounds, Fair};
pub use fair::{Busy, Place};
pub use items::{Cause, EntityFields, Item, LogPlace};
pub use lag::Lag;
pub use mappings::{DriftOf, InForce, SetMappingError, SuggestError, SuggestedMapping};
pub use open::OpenError;
pub use opening::{NoMapping, Opening, Said, deleted, version_type};
pub use panics::Panics;
pub use policies::told as policy_told;
pub(crate) use queries::Running;
pub(crate) use queries::VIEWED_KEPT;
pub use queries::{Asking, NoTurn, RunningQuery, Turn, Viewed};
pub(crate) use quotas::Quotas;
pub use quotas::{Account, OpenStream, OverQuota, QuotaChange, QuotaSettings};
pub use run::{Fates, Run};
pub use runs::Runs;
pub use settle::{Reasoned, SettleError};
pub use views::{NotCounted, StreamRows, Superseded, ViewStatus};
pub use waiting::Stalled;
pub use webhooks::{WebhookError, WebhookWanted};

use crate::roles::Roles;
pub(crate) use turns::Turns;

/// Who acts at the command line: whoever may open the folder.
pub const COMMAND_LINE: &str = "command line";

/// The line over one data folder. Its roles run in this process, or in others beside it.
pub struct Line {
    /// The data folder.
    pub folder: PathBuf,
    /// Rows of the folder itself, wherever log and store are: as long as they are open, nobody else has the folder.
    pub(crate) _local: Arc<dyn Store>,
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
    /// The language model that is asked, if there is one.
    pub(crate) asking: Option<Arc<AskingModel>>,
    pub(crate) halted: Arc<Halted>,
    /// Why streams that the server watches are not read, by stream.
    pub(crate) troubles: Mutex<BTreeMap<String, String>>,
    /// Requests, and runs of watched streams, that panicked.
    pub(crate) panics: Arc<Panics>,
    /// What is kept of files whose rows have keys of their content.
    pub(crate) content_counts: ContentCounts,
    pub(crate) quotas: Quotas,
    /// Places for queries.
    pub(crate) asks: Arc<Fair<TenantId>>,
    /// Places for pushes.
    pub(crate) pushes: Arc<Fair<TenantId>>,
    /// Places for exports.
    pub(crate) exports: Arc<Fair<TenantId>>,
    /// Places for suggestions of mappings.
    pub(crate) suggests: Arc<Fair<TenantId>>,
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
