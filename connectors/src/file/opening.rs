//! Finding out how to read a file, and from where.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use encoding_rs::{Encoding, UTF_8};
use xxhash_rust::xxh3::Xxh3;

use super::Known;
use super::csv::{CsvRows, Dialect};
use super::cursor::{Content, FileCursor, Offset, Place, hash_of_reading};
use super::decode::{Compression, Counted, Transcoded, read_head};
use super::excel::ExcelRows;
use super::fault::Fault;
use super::input::Input;
use super::json::JsonRows;
use super::ndjson::NdjsonRows;
use super::parquet::ParquetRows;
use super::reading::{Reading, Rows};
use super::settings::{FileFormat, FileSettings};
use super::sink::ContentKeys;

/// Bytes of text by which format, encoding and dialect are found out.
const SAMPLE_BYTES: usize = 1 << 18;

/// How long a followed file must rest until a last line without an end counts as finished.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// A file before it is known how to read it.
pub(super) struct Opening<'a> {
    path: &'a Path,
    settings: &'a FileSettings,
    known: Option<&'a Known>,
    file: File,
    meta: Metadata,
    compression: Compression,
    format: FileFormat,
    sample: Vec<u8>,
    /// The encoding that the whole text is turned into UTF-8 from, where its bytes cannot be split as they are.
    transcode: Option<&'static Encoding>,
    given: Option<&'static Encoding>,
    count: Arc<AtomicU64>,
}

impl<'a> Opening<'a> {
    /// Looks at the file's beginning.
    pub(super) fn new(path: &'a Path, settings: &'a FileSettings, known: Option<&'a Known>) -> Result<Self, Fault> {
        let meta = fs::metadata(path)?;
        // A pipe or a device would block or never end, and could not be read again.
        if !meta.is_file() {
            return Err(Fault::Config("is not a regular file; name a file, a directory or a glob".into()));
        }
        let mut file = File::open(path)?;
        let (magic, result) = read_head(&mut file, 4);
        result?;
        file.seek(SeekFrom::Start(0))?;
        let compression = Compression::of(&magic);
        let given = settings.encoding().map_err(|error| Fault::Config(error.to_string()))?;
        let named = settings.format.or_else(|| FileFormat::of(path)).ok_or_else(|| {
            Fault::Config("its name does not tell the format; give --format csv|ndjson|json|parquet|excel".into())
        })?;
        // A sample of damaged data is still a sample; the damage is reported when reading reaches it.
        let (sample, _) = match compression.unpack(Box::new(file.try_clone()?)) {
            Ok(reader) => read_head(reader, SAMPLE_BYTES),
            Err(error) => return Err(error.into()),
        };
        file.seek(SeekFrom::Start(0))?;
        let format = match (settings.format, named) {
            (None, FileFormat::Json) if holds_lines(&sample) => FileFormat::Ndjson,
            _ => named,
        };
        let transcode = transcoding(format, given, &sample);
        let count = Arc::default();
        Ok(Self { path, settings, known, file, meta, compression, format, sample, transcode, given, count })
    }

    /// Goes behind what the line has of the file; `None` where it has everything.
    pub(super) fn open(self) -> Result<Option<Reading>, Fault> {
        if self.meta.len() == 0 {
            return Ok(None);
        }
        let lines = matches!(self.format, FileFormat::Csv | FileFormat::Ndjson);
        if lines && self.compression == Compression::None && self.transcode.is_none() {
            self.open_appendable()
        } else {
            self.open_whole()
        }
    }

    fn open_appendable(mut self) -> Result<Option<Reading>, Fault> {
        let mut generation = 1;
        let mut from = None;
        if let Some(known) = self.known {
            generation = known.cursor.generation;
            match self.continued(known)? {
                Some((place, _)) if place.offset >= self.meta.len() => return Ok(None),
                Some(found) => from = Some((found, known.ordinal)),
                None => generation += 1,
            }
        }
        let (place, hash, after) = match from {
            Some(((place, hash), after)) => (Some(place), hash, after),
            None => (None, Xxh3::new(), 0),
        };
        let dialect = match self.format {
            FileFormat::Csv => Some(place.as_ref().and_then(|place| place.dialect).unwrap_or_else(|| self.dialect())),
            _ => None,
        };
        // Keys made of content need the counts of what came before, so the rows are read again and left out.
        let start = place.filter(|_| !self.settings.content_keys);
        let offset = start.as_ref().map_or(0, |place| place.offset);
        let hash = if start.is_some() { hash } else { Xxh3::new() };
        self.file.seek(SeekFrom::Start(offset))?;
        let input = Input::new(self.counted()?, offset).with_hash(hash);
        let row = start.as_ref().map_or(0, |place| place.row);
        let rows: Box<dyn Rows> = match dialect {
            None => Box::new(NdjsonRows::new(past_bom(input)?, self.name(), row, self.is_growing())),
            Some(dialect) => {
                let mut rows = CsvRows::new(past_bom(input)?, self.name(), dialect, self.is_growing());
                if start.is_some() {
                    let mut front = File::open(self.path)?;
                    front.seek(SeekFrom::Start(0))?;
                    rows.resume(past_bom(Input::new(Box::new(front), 0))?, row)?;
                }
                Box::new(rows)
            }
        };
        Ok(Some(self.reading(generation, after, rows, None)))
    }

    /// The place to go on from, and the hash of what is before it, unless the file was rewritten.
    fn continued(&mut self, known: &Known) -> Result<Option<(Offset, Xxh3)>, Fault> {
        let Place::Offset(place) = &known.cursor.place else {
            return Ok(None);
        };
        if place.offset > self.meta.len() || !self.reads_like(place) {
            return Ok(None);
        }
        let mut hash = Xxh3::new();
        let prefix = hash_file(&mut self.file, place.offset, |bytes| hash.update(bytes))?;
        if prefix != place.offset || hash.digest() != place.hash {
            return Ok(None);
        }
        let mut place = place.clone();
        if !place.terminated && place.offset < self.meta.len() {
            // The last row had no line end. Only if one follows was that row whole.
            let line_end = place.dialect.map_or(b'\n', |dialect| dialect.line_end);
            let (next, result) = read_head(&mut self.file, 2);
            result?;
            let len = match next[..] {
                [first, ..] if first == line_end => 1,
                [b'\r', second] if second == line_end => 2,
                _ => return Ok(None),
            };
            hash.update(&next[..len]);
            place.offset += len as u64;
            place.terminated = true;
        }
        Ok(Some((place, hash)))
    }

    /// Whether the settings still read the file as the line's cursor did.
    fn reads_like(&self, place: &Offset) -> bool {
        match (&place.dialect, self.format) {
            (None, FileFormat::Ndjson) => true,
            (Some(dialect), FileFormat::Csv) => dialect.fits(self.settings, self.given),
            _ => false,
        }
    }

    fn dialect(&self) -> Dialect {
        Dialect::sniff(&self.sample, self.path, self.settings, self.given)
    }

    fn open_whole(mut self) -> Result<Option<Reading>, Fault> {
        let mut hash = Xxh3::new();
        let size = hash_file(&mut self.file, u64::MAX, |bytes| hash.update(bytes))?;
        self.file.seek(SeekFrom::Start(0))?;
        let content = Content { size, hash: hash.digest128(), reading: self.hash_of_settings() };
        let (mut generation, mut after) = (1, 0);
        if let Some(Known { cursor, ordinal }) = self.known {
            generation = cursor.generation;
            match &cursor.place {
                Place::Content(place) if *place == content && cursor.complete => return Ok(None),
                Place::Content(place) if *place == content => after = *ordinal,
                _ => generation += 1,
            }
        }
        let rows = self.whole_rows()?;
        let meta = self.meta.clone();
        Ok(Some(self.reading(generation, after, rows, Some((content, meta)))))
    }

    fn whole_rows(&mut self) -> Result<Box<dyn Rows>, Fault> {
        let follow = false;
        Ok(match self.format {
            FileFormat::Csv => {
                let (input, dialect) = match self.transcode {
                    None => (self.text()?, self.dialect()),
                    Some(encoding) => {
                        self.sample = encoding.decode_with_bom_removal(&self.sample).0.into_owned().into_bytes();
                        (self.text()?, Dialect::sniff(&self.sample, self.path, self.settings, Some(UTF_8)))
                    }
                };
                Box::new(CsvRows::new(input, self.name(), dialect, follow))
            }
            FileFormat::Ndjson => Box::new(NdjsonRows::new(self.text()?, self.name(), 0, follow)),
            FileFormat::Json => Box::new(JsonRows::new(self.text()?, self.name())),
            FileFormat::Parquet | FileFormat::Excel if self.compression != Compression::None => {
                return Err(Fault::Config(format!(
                    "is {} around a format that is compressed by itself; unpack it first",
                    self.compression.name()
                )));
            }
            FileFormat::Parquet => {
                Box::new(ParquetRows::open(self.file.try_clone()?, self.name(), self.count.clone())?)
            }
            FileFormat::Excel => {
                self.count.store(self.meta.len(), Ordering::Relaxed);
                Box::new(ExcelRows::open(self.path.to_path_buf(), self.settings.sheet.clone())?)
            }
        })
    }

    fn counted(&self) -> Result<Box<dyn Read + Send>, Fault> {
        Ok(Box::new(Counted::new(self.file.try_clone()?, self.count.clone())))
    }

    fn text(&self) -> Result<Input, Fault> {
        let bytes = self.compression.unpack(self.counted()?)?;
        match self.transcode {
            None => past_bom(Input::new(bytes, 0)),
            Some(encoding) => Ok(Input::new(Box::new(Transcoded::new(bytes, encoding)), 0).with_transcoding()),
        }
    }

    fn hash_of_settings(&self) -> u64 {
        hash_of_reading(&[
            &[self.format as u8],
            self.settings.delimiter.as_slice(),
            self.settings.quote.as_slice(),
            self.given.map_or("", Encoding::name).as_bytes(),
            self.settings.sheet.as_deref().unwrap_or("").as_bytes(),
        ])
    }

    /// Whether somebody may be in the middle of writing a line.
    fn is_growing(&self) -> bool {
        let resting = self.meta.modified().ok().and_then(|modified| modified.elapsed().ok());
        self.settings.follow && resting.is_none_or(|resting| resting < SETTLED)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn reading(
        self,
        generation: u64,
        after: u64,
        rows: Box<dyn Rows>,
        content: Option<(Content, Metadata)>,
    ) -> Reading {
        let path = self.path.as_os_str().as_encoded_bytes();
        let lane = FileCursor::lane(path, generation, content.as_ref().map(|(content, _)| content));
        Reading {
            path: self.path.to_path_buf(),
            lane,
            generation,
            rows,
            after,
            keys: self.settings.content_keys.then(ContentKeys::default),
            content,
            compression: self.compression,
            count: self.count,
            counted: 0,
            size: self.meta.len(),
        }
    }
}

/// Whether a `.json` file has one JSON text per line.
fn holds_lines(sample: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', sample) else {
        return false;
    };
    let (first, rest) = sample.split_at(end);
    let first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    first.trim_ascii_start().first() == Some(&b'{')
        && !rest.trim_ascii().is_empty()
        && serde_json::from_slice::<serde::de::IgnoredAny>(first).is_ok()
}

/// The encoding to turn the whole text from, where rows cannot be split before decoding.
fn transcoding(format: FileFormat, given: Option<&'static Encoding>, sample: &[u8]) -> Option<&'static Encoding> {
    match format {
        FileFormat::Parquet | FileFormat::Excel => None,
        FileFormat::Csv | FileFormat::Ndjson | FileFormat::Json => {
            let encoding = given.or_else(|| Encoding::for_bom(sample).map(|(encoding, _)| encoding))?;
            // Cells of CSV are decoded one row at a time; JSON must be UTF-8 as a whole.
            let splits = encoding == UTF_8 || (format == FileFormat::Csv && encoding.is_single_byte());
            (!splits).then_some(encoding)
        }
    }
}

/// Lets a UTF-8 byte order mark go.
fn past_bom(mut input: Input) -> Result<Input, Fault> {
    if input.offset() == 0 {
        // Damage this early is reported when the rows are read.
        while input.bytes().len() < 3 && input.fill().unwrap_or(false) {}
        if input.bytes().starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
    }
    Ok(input)
}

/// Gives the first `len` bytes of the file to `update`; how many there were.
fn hash_file(file: &mut File, len: u64, mut update: impl FnMut(&[u8])) -> Result<u64, Fault> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    while done < len {
        let wanted = usize::try_from(len - done).unwrap_or(usize::MAX).min(buffer.len());
        match file.read(&mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(read) => {
                update(&buffer[..read]);
                done += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}
