//! Opening a stream that records are pushed to.

use pipeline::Table;
use pipeline::ingest::{IngestError, OpenStream, StreamRow};
use schemas::{Mapping, StreamId, shipped_mapping, shipped_systems};

use super::Line;

/// A stream cannot be opened for a push.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody opened it, and no system was named.
    #[error("there is no stream {0}: name a system whose mapping it follows, for example salesforce")]
    Unknown(StreamId),
    /// There is no mapping for that system.
    #[error("there is no mapping for {system:?}: use one of {known}")]
    System {
        /// What was asked for.
        system: String,
        /// What there is.
        known: String,
    },
    /// The system's mapping has no such stream.
    #[error("the mapping of {system} has no stream {stream}: it has {known}")]
    Stream {
        /// The system.
        system: String,
        /// What was asked for.
        stream: String,
        /// What there is.
        known: String,
    },
    /// The front door refused.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The operator's own mapping file, or the store.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl Line {
    /// Opens a stream: as it is, or with a system's mapping.
    pub async fn open_stream(
        &self,
        stream: &StreamId,
        system: Option<&str>,
        by: &str,
    ) -> Result<OpenStream, OpenError> {
        let mapping = match system {
            Some(system) => self.system_mapping(stream, system)?,
            None => return self.known_stream(stream).await,
        };
        Ok(self.ingest.open(stream, &mapping, None, by).await?)
    }

    async fn known_stream(&self, stream: &StreamId) -> Result<OpenStream, OpenError> {
        let row = self.store.get(stream.tenant, Table::Streams, &stream.to_string()).await;
        let row = row.map_err(|e| OpenError::Ingest(e.into()))?.ok_or_else(|| OpenError::Unknown(stream.clone()))?;
        let known: StreamRow = serde_json::from_slice(&row.value).map_err(|e| OpenError::Failed(e.into()))?;
        Ok(OpenStream { id: stream.clone(), partition: known.partition })
    }

    fn system_mapping(&self, stream: &StreamId, system: &str) -> Result<Mapping, OpenError> {
        let known = || shipped_systems().collect::<Vec<_>>().join(", ");
        let unknown = || OpenError::System { system: system.chars().take(80).collect(), known: known() };
        let is_name = system.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !is_name {
            return Err(unknown());
        }
        let own = self.definitions().folder_mapping(system).map_err(OpenError::Failed)?;
        let file = own.or_else(|| shipped_mapping(system)).ok_or_else(unknown)?;
        file.stream(&stream.stream).cloned().ok_or_else(|| OpenError::Stream {
            system: file.system.clone(),
            stream: stream.stream.to_string(),
            known: file.streams.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        })
    }
}
