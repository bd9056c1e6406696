//! Reading one file as one lane.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pipeline::source::{SourceBatch, SourceError};
use schemas::Lane;

use super::Known;
use super::cursor::{Content, FileCursor, Offset, Place};
use super::decode::Compression;
use super::fault::Fault;
use super::opening::Opening;
use super::settings::FileSettings;
use super::sink::{ContentKeys, Sink};

/// The rows of one file, in order.
pub(super) trait Rows: Send {
    /// Offers rows until the batch is full (`true`) or there are no more (`false`).
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault>;
    /// Whether nothing follows what was taken; may say `false` where only blanks follow.
    fn is_at_end(&mut self) -> Result<bool, Fault>;
    /// Where the rows taken so far end, for files that may be appended to.
    fn place(&mut self) -> Offset;
}

/// What one call gave.
pub(super) struct Taken {
    /// The records, if there were any.
    pub batch: Option<SourceBatch>,
    /// Set when the file gives nothing more, with the reason if it is a bad one.
    pub ended: Option<Result<(), SourceError>>,
}

/// One file being read.
pub(super) struct Reading {
    /// Its canonical path.
    pub(super) path: PathBuf,
    /// The lane of this generation of it.
    pub(super) lane: Lane,
    /// How often it was found rewritten.
    pub(super) generation: u64,
    /// What is left of it.
    pub(super) rows: Box<dyn Rows>,
    /// The last ordinal that the line has.
    pub(super) after: u64,
    /// Makes keys of the content, where nothing else tells rows apart.
    pub(super) keys: Option<ContentKeys>,
    /// What the file was when it was opened, where it is only understood as a whole.
    pub(super) content: Option<(Content, Metadata)>,
    /// How it is packed.
    pub(super) compression: Compression,
    /// Raw bytes read so far.
    pub(super) count: Arc<AtomicU64>,
    /// Those of them that a batch has told of.
    pub(super) counted: u64,
    /// Its size in bytes when it was opened.
    pub(super) size: u64,
}

impl Reading {
    /// Opens a file behind what the line has of it; `None` where it has everything.
    pub(super) fn open(
        path: &Path,
        settings: &FileSettings,
        known: Option<&Known>,
    ) -> Result<Option<Self>, SourceError> {
        Opening::new(path, settings, known).and_then(Opening::open).map_err(|fault| fault.of(path))
    }

    /// The next records.
    pub(super) fn next(&mut self, bytes_max: usize) -> Taken {
        let left = usize::try_from(self.size.saturating_sub(self.counted)).unwrap_or(usize::MAX);
        let capacity = bytes_max.min(left.saturating_mul(2).saturating_add(4096));
        let mut sink = Sink::new(self.lane, self.after, bytes_max, capacity, self.keys.as_mut());
        let result = self.rows.fill(&mut sink).and_then(|more| Ok(more && !self.rows.is_at_end()?));
        let writer = sink.into_writer();
        let ended = match result {
            Ok(true) => None,
            Ok(false) => Some(self.check_unchanged()),
            Err(fault) => Some(Err(self.explained(fault))),
        };
        let batch = (writer.count() > 0).then(|| {
            self.after = writer.last_ordinal();
            let cursor = self.cursor(matches!(ended, Some(Ok(())))).encode();
            let count = self.count.load(Ordering::Relaxed);
            let source_bytes = count - self.counted;
            self.counted = count;
            SourceBatch { records: writer.finish(&cursor), source_bytes }
        });
        Taken { batch, ended }
    }

    fn cursor(&mut self, complete: bool) -> FileCursor {
        let place = match &self.content {
            Some((content, _)) => Place::Content(*content),
            None => Place::Offset(self.rows.place()),
        };
        let path = self.path.as_os_str().as_encoded_bytes().to_vec();
        FileCursor { path, generation: self.generation, complete, place }
    }

    /// A file that is understood as a whole must not change under the reader.
    fn check_unchanged(&self) -> Result<(), SourceError> {
        let Some((content, before)) = &self.content else {
            return Ok(());
        };
        let same = fs::metadata(&self.path)
            .is_ok_and(|now| now.len() == content.size && now.modified().ok() == before.modified().ok());
        if same {
            return Ok(());
        }
        let changed = io::Error::new(io::ErrorKind::ResourceBusy, "the file changed while it was read; read it again");
        Err(Fault::Io(changed).of(&self.path))
    }

    /// What failed in a compressed file is the file's content, not the disk.
    fn explained(&self, fault: Fault) -> SourceError {
        let fault = match fault {
            Fault::Io(error) if self.compression != Compression::None => Fault::Content(format!(
                "the {} data is damaged or cut off at or before byte {} of {}: {error}; what came before was read",
                self.compression.name(),
                self.count.load(Ordering::Relaxed),
                self.size,
            )),
            other => other,
        };
        fault.of(&self.path)
    }
}
