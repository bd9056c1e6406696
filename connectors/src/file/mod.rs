//! Files as a source: CSV, NDJSON, JSON, Parquet and Excel; plain, gzip or zstd.
//!
//! Read in this order: [`settings`] is what the user says, `discover` finds the files within their `bounds`, `handle` opens
//! one, `opening` finds out from where to read it (by its `stamp`, by how it begins, its `prefix`, and by the `cursor`, the
//! note that a lane leaves on the line), `manner` is how its bytes become rows, `reading` reads it as one lane. `input` and
//! `decode` turn a file into bytes of text, the formats (`lines`, `ndjson`, `csv`, `json`, `parquet`, `excel`) turn those
//! into rows, `sink` takes rows into a batch, with `keys` where they have none. [`watch`] says when it is worth reading again.

pub mod settings;

mod bounds;
mod discover;
mod handle;
mod stamp;

mod cursor;
mod manner;
mod opening;
mod prefix;
mod reading;

mod decode;
mod input;
mod lines;

mod csv;
mod excel;
mod json;
mod ndjson;
mod parquet;

mod fault;
mod keys;
mod sink;

pub mod watch;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use pipeline::source::{LaneCursor, Source, SourceBatch, SourceError};
use schemas::Lane;
use tokio::task::JoinHandle;

use crate::relay;

pub use bounds::Bounds;
pub use keys::ContentCounts;
pub use settings::{FileFormat, FileSettings};

use cursor::FileCursor;
use discover::Found;
use handle::Wanted;
use reading::{Reading, Taken};
use stamp::Stamp;

/// What one reading gave.
type Read = Result<Option<SourceBatch>, SourceError>;

/// Reads files, each as one lane: continues behind the line's cursors, notices what was appended and what rewritten.
///
/// One broken file does not stop the others: `next` first gives the records of all files, also those before the damage,
/// and then once an error that names every file that could not be read; after that, `None`.
pub struct FileSource {
    idle: Option<Box<Files>>,
    // A reading that a cancelled `next` left behind; the next call waits for it, so no batch is lost.
    running: Option<JoinHandle<(Box<Files>, Read)>>,
    total_bytes: u64,
    found: Vec<Found>,
    wanted: Wanted,
}

/// The place of the greatest generation of a path, as the line holds it.
#[derive(Debug, Clone)]
struct Known {
    cursor: FileCursor,
    ordinal: u64,
}

struct Files {
    settings: Arc<FileSettings>,
    wanted: Wanted,
    known: HashMap<Vec<u8>, Known>,
    lanes: HashSet<Lane>,
    counts: ContentCounts,
    waiting: VecDeque<Found>,
    current: Option<Reading>,
    errors: Vec<SourceError>,
}

impl FileSource {
    /// Finds the files and what is left of them behind `cursors` (of any lanes of this stream). A cursor that cannot be
    /// read is as good as none: its file is read anew, in a lane that the line does not have.
    ///
    /// Fails at once where the settings make no sense or no file at all can be read.
    pub fn open(settings: FileSettings, cursors: Vec<LaneCursor>) -> Result<Self, SourceError> {
        Self::open_counting(settings, cursors, ContentCounts::default())
    }

    /// The same, with what was kept of files whose rows have keys of their content.
    pub fn open_counting(
        settings: FileSettings,
        cursors: Vec<LaneCursor>,
        counts: ContentCounts,
    ) -> Result<Self, SourceError> {
        settings.check()?;
        let settings = Arc::new(settings.resolved());
        let lanes = cursors.iter().map(|cursor| cursor.lane).collect();
        let known = known_places(cursors);
        let (found, mut errors) = discover::discover(&settings);
        if found.is_empty()
            && let Some(error) = joined(&mut errors)
        {
            return Err(error);
        }
        let total_bytes = found.iter().map(|found| bytes_left(found, &known)).sum();
        let wanted = Wanted::new();
        let files = Files {
            settings,
            wanted: wanted.clone(),
            known,
            lanes,
            counts,
            waiting: found.clone().into(),
            current: None,
            errors,
        };
        Ok(Self { idle: Some(Box::new(files)), running: None, total_bytes, found, wanted })
    }

    /// Whether every file is as it was when the source was opened. Where it is not, somebody is in the middle of writing one:
    /// asked when all was read, it tells whether what is missing from the records is missing from the files.
    pub fn is_as_opened(&self) -> bool {
        self.found.iter().all(|found| {
            let stamp = std::fs::metadata(&found.path).ok().map(|meta| Stamp::of(&meta));
            stamp.is_some() && found.stamp == stamp
        })
    }

    /// Bytes of all files that were not taken yet when the source was opened, for progress.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

impl Drop for FileSource {
    /// What still reads in the background stops.
    fn drop(&mut self) {
        self.wanted.end();
    }
}

#[async_trait]
impl Source for FileSource {
    async fn next(&mut self, max_bytes: usize) -> Result<Option<SourceBatch>, SourceError> {
        if let Some(mut files) = self.idle.take() {
            self.running = Some(tokio::task::spawn_blocking(move || {
                let result = files.next(max_bytes);
                (files, result)
            }));
        }
        let Some(running) = self.running.as_mut() else {
            return Ok(None);
        };
        let ended = running.await;
        self.running = None;
        let (files, result) = ended.map_err(|error| SourceError::Content {
            what: "files".into(),
            message: format!("the reader stopped unexpectedly: {error}"),
        })?;
        self.idle = Some(files);
        result
    }
}

impl Files {
    fn next(&mut self, max_bytes: usize) -> Result<Option<SourceBatch>, SourceError> {
        loop {
            if let Some(reading) = self.current.as_mut() {
                let Taken { batch, ended } = reading.next(max_bytes);
                if let Some(result) = ended {
                    self.errors.extend(result.err());
                    self.current = None;
                }
                if batch.is_some() {
                    return Ok(batch);
                }
                continue;
            }
            let Some(found) = self.waiting.pop_front() else {
                return joined(&mut self.errors).map_or(Ok(None), Err);
            };
            let known = self.known.get(found.path.as_os_str().as_encoded_bytes());
            let opened = Reading::open(&found, &self.settings, &self.wanted, &self.counts, known, &self.lanes);
            match opened {
                Ok(reading) => self.current = reading,
                Err(error) => self.errors.push(error),
            }
        }
    }
}

fn known_places(cursors: Vec<LaneCursor>) -> HashMap<Vec<u8>, Known> {
    let mut known: HashMap<Vec<u8>, Known> = HashMap::new();
    for LaneCursor { lane, ordinal, cursor } in cursors {
        // Lanes of this stream that no file of this machine made (a push, a re-drive) have no cursor of ours.
        if cursor.is_empty() || relay::is_relayed(&cursor) {
            continue;
        }
        let cursor = match FileCursor::decode(&cursor) {
            Ok(cursor) => cursor,
            Err(error) => {
                tracing::warn!(%error, %lane, "a file's place is not readable, so the file is read anew");
                continue;
            }
        };
        let is_latest = known.get(&cursor.path).is_none_or(|other| other.cursor.generation <= cursor.generation);
        if is_latest {
            known.insert(cursor.path.clone(), Known { cursor, ordinal });
        }
    }
    known
}

fn bytes_left(found: &Found, known: &HashMap<Vec<u8>, Known>) -> u64 {
    let size = found.stamp.map_or(0, |stamp| stamp.size);
    known.get(found.path.as_os_str().as_encoded_bytes()).map_or(size, |known| known.cursor.bytes_left(size))
}

/// All errors as one; where there are several, one line for each.
fn joined(errors: &mut Vec<SourceError>) -> Option<SourceError> {
    if errors.len() < 2 {
        return errors.pop();
    }
    let lines: Vec<String> = errors.iter().map(SourceError::with_cause).collect();
    errors.clear();
    Some(SourceError::Content { what: format!("{} inputs", lines.len()), message: lines.join("\n") })
}
