//! What can go wrong with a connection.

use schemas::{ConnectionName, TenantName};

use super::schema::Fault;
use crate::rows::RowError;

/// A connection cannot be made, found, changed or run.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The settings are wrong at these places.
    #[error("the settings are not right: errors names each place and what to do")]
    Settings(Vec<Fault>),
    /// The operator declared no folder for the tenant.
    #[error(
        "no folder is declared for the files of {0}: the operator of the server declares one with autonomos serve \
         --files-root {0}=FOLDER, or under files_roots in autonomos.yaml, and starts the server again"
    )]
    NoRoot(TenantName),
    /// There is none of that name.
    #[error("there is no such connection")]
    Unknown,
    /// The name is taken.
    #[error("there is a connection {0} already: change it, or choose another name")]
    Taken(ConnectionName),
    /// Somebody changed it since the caller read it.
    #[error("the connection was changed meanwhile: read it again, and send its new ETag as If-Match")]
    Changed,
    /// Nothing is read while it is paused.
    #[error("the connection is paused: resume it first")]
    Paused,
    /// Beyond the bound.
    #[error("there are {0} connections: delete some that are not used")]
    TooMany(usize),
    /// The server stops.
    #[error("the server is stopping: try again in a moment")]
    Stopping,
    /// A row could not be read or written.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// Something else failed here.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}
