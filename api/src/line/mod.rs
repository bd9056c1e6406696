//! The line over one data folder, as commands and doors use it.
//!
//! [`Line`] is opened and closed in [`crate::roles`]. `cases` has people decide drift, `waiting` waits for what the roles have done, `definitions` is what
//! plans are made from, `open` opens streams for pushes, `streams` tells of tenants and their streams, `turns` lets one run
//! of a stream go on at a time, `views` is what can be asked, `items` shows the log item by item.

mod cases;
mod definitions;
mod items;
mod open;
mod streams;
mod turns;
mod views;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;

use pipeline::ingest::Ingest;
use pipeline::{Log, Store};
use projections::sql::QueryEngine;
use schemas::StreamId;
use tokio::sync::OwnedMutexGuard;

pub use cases::{DecideError, Outcome};
pub use definitions::Definitions;
pub use items::{EntityFields, Item};
pub use open::OpenError;
pub use views::{Keys, StreamRows, Superseded, ViewStatus};

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
    /// The front door.
    pub ingest: Ingest,
    /// SQL.
    pub queries: QueryEngine,
    pub(crate) roles: Roles,
    pub(crate) turns: Turns,
}

impl Line {
    /// Waits until no other run of the stream is under way. The turn ends when it is dropped.
    pub async fn turn(&self, stream: &StreamId) -> OwnedMutexGuard<()> {
        self.turns.take(stream).await
    }
}
