//! Ingest: opens streams and puts their records on the log. An append that is answered is on disk.
//!
//! `opening` opens a stream or has it use another mapping, the `register` says which streams are open, `append` puts
//! records and commands on the log, `error` says why one of them cannot go on.

mod append;
mod error;
mod opening;
mod register;

use std::sync::Arc;

use schemas::StreamId;
use tokio::sync::Mutex;

use crate::log::Log;
use crate::store::Store;

pub use error::IngestError;
pub use register::StreamRow;
pub(crate) use register::opened;

/// Streams that can be opened at a time.
const OPENING: usize = 16;

/// The front door.
#[derive(Clone)]
pub struct Ingest {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    /// Openers of one process take turns, by the hash of their stream; those of several step aside.
    opening: Arc<[Mutex<()>; OPENING]>,
}

/// A stream that records can be appended to.
#[derive(Debug, Clone)]
pub struct OpenStream {
    /// The stream.
    pub id: StreamId,
    /// Its partition.
    pub partition: u32,
}

impl Ingest {
    /// A door to this log and store.
    pub fn new(log: Arc<dyn Log>, store: Arc<dyn Store>) -> Self {
        Self { log, store, opening: Arc::new(std::array::from_fn(|_| Mutex::default())) }
    }
}
