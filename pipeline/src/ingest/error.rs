//! Why ingest cannot go on.

use schemas::mapping::InvalidMapping;
use schemas::{EntityName, StreamId};

use crate::definitions::DefinitionError;
use crate::log::LogError;
use crate::step::{DEFINITION_BYTES_MAX, MappingChange};
use crate::store::StoreError;

/// Ingest cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entity cannot be defined so.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The mapping does not fit the entity.
    #[error(transparent)]
    Mapping(#[from] InvalidMapping),
    /// The stream cannot take the mapping.
    #[error("stream {stream} cannot take this mapping")]
    Change {
        /// The stream.
        stream: StreamId,
        /// Why.
        source: MappingChange,
    },
    /// The step refused the mapping: what stood on the log before it was not known when it was asked for.
    #[error("stream {stream} cannot take this mapping: {reason}")]
    Refused {
        /// The stream.
        stream: StreamId,
        /// Why.
        reason: String,
    },
    /// Nobody writes a mapping of this size.
    #[error("the mapping is longer than {DEFINITION_BYTES_MAX} bytes")]
    MappingTooLong,
    /// The register's row of the stream cannot be read.
    #[error("what the store says about stream {stream} cannot be read: {message}; restore the store from a backup")]
    Unreadable {
        /// The stream.
        stream: StreamId,
        /// What is wrong.
        message: String,
    },
    /// Others keep asking for other mappings of the stream.
    #[error("others put other mappings on stream {stream} all the time; agree on one, then try again")]
    Contended {
        /// The stream.
        stream: StreamId,
    },
    /// A stream feeds one entity for ever.
    #[error("stream {stream} feeds {opened}; for {asked} open another stream over the same source")]
    OtherEntity {
        /// The stream.
        stream: StreamId,
        /// What it was opened for.
        opened: EntityName,
        /// What was asked for.
        asked: EntityName,
    },
}
