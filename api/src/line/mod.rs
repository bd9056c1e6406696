//! The line over one data folder, as commands and doors use it.
//!
//! [`Line`] is opened and closed in [`crate::roles`]. `waiting` waits for what the roles have done, `definitions` is what
//! plans are made from, `streams` tells of tenants and their streams, `views` of what can be asked.

mod definitions;
mod items;
mod open;
mod streams;
mod views;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;

use pipeline::ingest::Ingest;
use pipeline::{Log, Store};
use projections::sql::QueryEngine;

pub use definitions::Definitions;
pub use items::{EntityFields, Item};
pub use open::OpenError;
pub use views::Superseded;

use crate::roles::Roles;

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
}
