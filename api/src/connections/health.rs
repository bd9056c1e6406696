//! Whether a connection's streams can be read: each source is opened, its head read, and nothing written.

use std::time::Duration;

use connectors::file::FileSource;
use pipeline::source::{Source, SourceError};
use schemas::record::RecordBatchReader;

use super::roots::hidden;
use crate::cli::IngestArgs;
use crate::cli::plan::Draft;
use crate::line::Definitions;

/// Bytes of a source that are looked at.
const HEAD_BYTES: usize = 64 << 10;
/// How long a source may take to show them.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// A source that shows nothing in time.
#[derive(Debug, thiserror::Error)]
#[error("no record of it could be read within {} s", LOOK_WITHIN.as_secs())]
struct Slow;

/// How a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The stream.
    pub stream: String,
    /// Bytes of its files.
    pub source_bytes: u64,
    /// Records in what was looked at.
    pub records_seen: u64,
    /// Records among them that cannot be read as they are; they will be set aside.
    pub defective: u64,
    /// What is wrong, if it cannot be read.
    pub trouble: Option<Trouble>,
}

/// What is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it is, as one word.
    pub code: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Looks at the source of a stream.
pub async fn look(args: &IngestArgs, definitions: Definitions<'_>) -> Health {
    let mut health =
        Health { stream: args.stream.clone(), source_bytes: 0, records_seen: 0, defective: 0, trouble: None };
    if let Err(error) = try_look(args, definitions, &mut health).await {
        let mut trouble = trouble(&error);
        if let Some(behalf) = &args.behalf {
            trouble.problem = hidden(&trouble.problem, &behalf.bounds);
        }
        health.trouble = Some(trouble);
    }
    health
}

async fn try_look(args: &IngestArgs, definitions: Definitions<'_>, health: &mut Health) -> anyhow::Result<()> {
    let draft = Draft::new(args, definitions).await?;
    let settings = draft.settings().clone();
    let mut source = tokio::task::spawn_blocking(move || FileSource::open(settings, Vec::new())).await??;
    health.source_bytes = source.total_bytes();
    let head = tokio::time::timeout(LOOK_WITHIN, source.next(HEAD_BYTES)).await;
    let Some(batch) = head.map_err(|_| Slow)?? else { return Ok(()) };
    let mut reader = RecordBatchReader::new(&batch.records.body)?;
    while let Some(record) = reader.next_record()? {
        health.records_seen += 1;
        health.defective += u64::from(record.defect.is_some());
    }
    Ok(())
}

fn trouble(error: &anyhow::Error) -> Trouble {
    if error.is::<Slow>() {
        let remedy = "look into the file: its first record is very long, or the disk is slow";
        return Trouble { code: "slow", problem: error.to_string(), remedy };
    }
    let (code, remedy) = match error.downcast_ref::<SourceError>() {
        Some(SourceError::Config(_)) => ("settings", "change the connection's settings: files, format, encoding"),
        Some(SourceError::Io { source, .. }) => match source.kind() {
            std::io::ErrorKind::NotFound => ("not_there", "put the file there, or change files in the settings"),
            std::io::ErrorKind::PermissionDenied => {
                ("not_readable", "the operator gives the server's user the right to read it")
            }
            _ => ("not_reachable", "try again; if it stays, the operator looks at the disk or the mount"),
        },
        Some(SourceError::Content { .. }) => {
            ("content", "repair the file, or say format, delimiter, quote, encoding or sheet in the settings")
        }
        None => ("mapping", "change system, mapping, key, version or stream in the settings"),
    };
    Trouble { code, problem: format!("{error:#}"), remedy }
}
