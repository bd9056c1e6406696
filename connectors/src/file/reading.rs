//! Reading one file as one lane.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use pipeline::source::{SourceBatch, SourceError};
use schemas::Lane;
use schemas::input::DeclaredField;
use xxhash_rust::xxh3::Xxh3;

use super::Known;
use super::csv::Dialect;
use super::cursor::{FileCursor, Tail};
use super::decode::{Compression, Meter};
use super::discover::Found;
use super::fault::Fault;
use super::handle::{Handle, Wanted};
use super::keys::{ContentCounts, ContentKeys};
use super::manner::Manner;
use super::opening::Opening;
use super::prefix::{self, Prefix};
use super::settings::FileSettings;
use super::sink::Sink;
use super::stamp::Moment;

/// The rows of one file, in order.
pub(super) trait Rows: Send {
    /// Offers rows until the batch is full (`true`) or there are no more (`false`).
    fn fill(&mut self, sink: &mut Sink) -> Result<bool, Fault>;
    /// Whether nothing follows what was taken; may say `false` where only blanks follow.
    fn is_at_end(&mut self) -> Result<bool, Fault>;
    /// The fields that the file says its rows have, once its beginning was read.
    fn declared(&self) -> Option<&[DeclaredField]> {
        None
    }
    /// Where the rows taken so far end, for text, in which more may follow.
    fn place(&mut self) -> Place {
        Place { offset: 0, hash: Xxh3::new(), row: 0, tail: Tail::Final, dialect: None }
    }
}

/// A place behind a row of text.
pub(super) struct Place {
    /// Bytes taken.
    pub(super) offset: u64,
    /// The hash of all bytes before `offset`.
    pub(super) hash: Xxh3,
    /// Rows taken, blank ones included where the format counts them.
    pub(super) row: u64,
    /// What the last rows hang on.
    pub(super) tail: Tail,
    /// How the rows are taken apart, for CSV.
    pub(super) dialect: Option<Dialect>,
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
    /// The opened file.
    pub(super) handle: Handle,
    /// The lane of this generation of it.
    pub(super) lane: Lane,
    /// How often it was found rewritten.
    pub(super) generation: u64,
    /// How its bytes become rows.
    pub(super) manner: Manner,
    /// What is left of it.
    pub(super) rows: Box<dyn Rows>,
    /// The last ordinal that the line has.
    pub(super) after: u64,
    /// Makes keys of the content, where nothing else tells rows apart.
    pub(super) keys: Option<ContentKeys>,
    /// Where they are kept once the file was read.
    pub(super) counts: ContentCounts,
    /// What the file was when it was opened, where reading cannot go on at a byte.
    pub(super) whole: Option<Prefix>,
    /// Whether all of its bytes are read.
    pub(super) from_start: bool,
    /// What was read so far.
    pub(super) meter: Meter,
    /// Bytes of that which a batch has told of.
    pub(super) counted: u64,
    /// Whether a batch has told what the file declares.
    pub(super) has_declared: bool,
}

impl Reading {
    /// Opens a file behind what the line has of it; `None` where it has everything.
    pub(super) fn open(
        found: &Found,
        settings: &FileSettings,
        wanted: &Wanted,
        counts: &ContentCounts,
        known: Option<&Known>,
        lanes: &HashSet<Lane>,
    ) -> Result<Option<Self>, SourceError> {
        let opening = Opening::new(found, settings, wanted, counts, Moment::now());
        let opened = opening.and_then(|mut opening| opening.open(known, lanes));
        opened.map_err(|fault| fault.of(&found.path))
    }

    /// The next records.
    pub(super) fn next(&mut self, bytes_max: usize) -> Taken {
        let left = usize::try_from(self.size().saturating_sub(self.counted)).unwrap_or(usize::MAX);
        let capacity = bytes_max.min(left.saturating_mul(2).saturating_add(4096));
        let mut sink = Sink::new(self.lane, self.after, bytes_max, capacity, self.keys.as_mut());
        let result = self.rows.fill(&mut sink).and_then(|more| Ok(more && !self.rows.is_at_end()?));
        let writer = sink.into_writer();
        let ended = match result {
            Ok(true) => None,
            Ok(false) => Some(self.end()),
            Err(fault) => Some(Err(self.explained(fault))),
        };
        let batch = (writer.count() > 0).then(|| {
            self.after = writer.last_ordinal();
            let cursor = self.cursor(matches!(ended, Some(Ok(())))).encode();
            let count = self.meter.bytes();
            let source_bytes = count.saturating_sub(self.counted);
            self.counted = count;
            let is_first = !std::mem::replace(&mut self.has_declared, true);
            let declared = self.rows.declared().filter(|_| is_first).map(Into::into);
            SourceBatch { records: writer.finish(&cursor), source_bytes, declared }
        });
        Taken { batch, ended }
    }

    fn size(&self) -> u64 {
        self.handle.stamp.size
    }

    fn cursor(&mut self, complete: bool) -> FileCursor {
        let Place { offset, hash, row, tail, dialect } = self.rows.place();
        FileCursor {
            path: self.path.as_os_str().as_encoded_bytes().to_vec(),
            generation: self.generation,
            complete,
            manner: Manner { dialect, ..self.manner },
            prefix: self.whole.unwrap_or_else(|| Prefix::of(offset, &hash)),
            row,
            tail,
        }
    }

    /// The file was read to its end.
    fn end(&mut self) -> Result<(), SourceError> {
        if let Some(whole) = self.whole
            && !self.is_unchanged(whole).unwrap_or(false)
        {
            let changed = "the file changed while it was read; read it again";
            return Err(Fault::Io(io::Error::new(io::ErrorKind::ResourceBusy, changed)).of(&self.path));
        }
        let now = Moment::now();
        match self.whole {
            Some(whole) => prefix::remember(&self.path, &self.handle, &self.meter.hash(), whole, true, now),
            None => {
                let Place { offset, hash, dialect, .. } = self.rows.place();
                let prefix = Prefix::of(offset, &hash);
                if let Some(keys) = self.keys.take() {
                    self.counts.keep(self.lane, Manner { dialect, ..self.manner }, prefix, keys);
                }
                prefix::remember(&self.path, &self.handle, &hash, prefix, self.from_start, now);
            }
        }
        Ok(())
    }

    /// A file that was hashed before it was read must have been the same when it was read. That a text grew meanwhile
    /// does no harm.
    fn is_unchanged(&self, whole: Prefix) -> io::Result<bool> {
        if !self.manner.is_text() {
            return Ok(self.handle.stamp_now()? == self.handle.stamp);
        }
        // What follows the last frame of compressed data is not asked for by its decoder.
        let (mut hash, read) = (self.meter.hash(), self.meter.bytes());
        let rest = prefix::hash_part(&mut hash, self.handle.read(read, whole.bytes))?;
        Ok(Prefix::of(read + rest, &hash) == whole)
    }

    /// What failed in a compressed file is the file's content, not the disk.
    fn explained(&self, fault: Fault) -> SourceError {
        let fault = match fault {
            Fault::Io(error) if self.manner.compression != Compression::None => Fault::Content(format!(
                "the {} data is damaged or cut off at or before byte {} of {}: {error}; what came before was read",
                self.manner.compression.name(),
                self.meter.bytes(),
                self.size(),
            )),
            other => other,
        };
        fault.of(&self.path)
    }
}
