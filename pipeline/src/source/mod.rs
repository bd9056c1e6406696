//! The port `Source`: where records come from.

pub mod conformance;
mod memory;

use std::sync::Arc;

use async_trait::async_trait;
use schemas::Lane;
use schemas::input::DeclaredField;
use schemas::record::RecordBatch;

pub use memory::MemorySource;

/// A lane's place as the line holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneCursor {
    /// The lane.
    pub lane: Lane,
    /// The last ordinal that the line took.
    pub ordinal: u64,
    /// The source's own note with it.
    pub cursor: Vec<u8>,
}

/// Records of one lane, in the order of their ordinals.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// The encoded records, their lane and the cursor behind them.
    pub records: RecordBatch,
    /// Bytes of the source read for it, for progress.
    pub source_bytes: u64,
    /// The fields that the source says its records have, from this batch on; nothing where it says none, or said it before.
    pub declared: Option<Arc<[DeclaredField]>>,
}

/// A source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Something in the settings must change first.
    #[error("{0}")]
    Config(String),
    /// The outside failed; trying again may help.
    #[error("{what}")]
    Io {
        /// What was being read.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The content cannot be read any further, and no record can be made of it; what came before is kept.
    #[error("{what}: {message}")]
    Content {
        /// What was being read.
        what: String,
        /// What is wrong, and where.
        message: String,
    },
}

impl SourceError {
    /// The text with its cause, for where it stands among others and no chain of causes is printed.
    pub fn with_cause(&self) -> String {
        match self {
            Self::Io { what, source } => format!("{what}: {source}"),
            Self::Config(_) | Self::Content { .. } => self.to_string(),
        }
    }

    /// Whether trying again may help without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { source, .. } => !matches!(
                source.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::IsADirectory
            ),
            Self::Config(_) | Self::Content { .. } => false,
        }
    }
}

/// One reading of one stream's source.
///
/// - A batch is of one lane. Within a lane ordinals rise from 1 (0 is "nothing read yet"), and the same lane read again gives the same records with the
///   same ordinals. What cannot promise that opens a new lane.
/// - A source starts behind the [`LaneCursor`]s that the line holds; it keeps no cursor of its own.
/// - `next` is asked for more only when the log has taken the last batch. A batch has at most about `max_bytes` unless
///   one record is larger.
/// - A record that cannot be made out is given with its defect; it is never left out.
/// - A source with a schema of its own (a header, columns with types) says it with the first batch of each lane.
#[async_trait]
pub trait Source: Send {
    /// The next records, or `None` when there are no more for now.
    async fn next(&mut self, max_bytes: usize) -> Result<Option<SourceBatch>, SourceError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_file_cannot_be_read_is_told_once() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let why = source.to_string();
        let error = SourceError::Io { what: "a.csv".into(), source };
        assert_eq!(error.with_cause(), format!("a.csv: {why}"));
        assert_eq!(error.to_string(), "a.csv", "the chain of causes goes on with why");
    }
}
