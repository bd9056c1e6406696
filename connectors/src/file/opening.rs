//! Finding out from where to read a file, and opening its rows there.

use std::collections::HashSet;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use schemas::Lane;
use xxhash_rust::xxh3::Xxh3;

use super::Known;
use super::csv::{CsvRows, Dialect};
use super::cursor::{FileCursor, Tail};
use super::decode::{Compression, Meter, Metered, Transcoded, read_head};
use super::discover::Found;
use super::excel::ExcelRows;
use super::fault::Fault;
use super::handle::{Handle, Part, Wanted};
use super::input::Input;
use super::json::JsonRows;
use super::keys::{ContentCounts, ContentKeys};
use super::manner::Manner;
use super::ndjson::NdjsonRows;
use super::parquet::ParquetRows;
use super::prefix::{self, Prefix};
use super::reading::{Reading, Rows};
use super::settings::{FileFormat, FileSettings};
use super::stamp::Moment;

/// Bytes of text by which format, encoding and dialect are found out.
const SAMPLE_BYTES: usize = 1 << 18;

/// How long a followed file must rest until a last line without an end counts as finished.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// A file before it is known from where to read it.
pub(super) struct Opening<'a> {
    path: &'a Path,
    settings: &'a FileSettings,
    counts: &'a ContentCounts,
    handle: Handle,
    meter: Meter,
    now: Moment,
    /// Nobody may be in the middle of writing a line.
    rests: bool,
    /// Bytes that were read to see what the line has already.
    pub(super) bytes_checked: u64,
}

/// Where reading begins.
enum Start {
    /// The line has everything.
    Nowhere,
    /// Behind what the line has, in its lane.
    Behind(Box<Behind>),
    /// At the first byte, in a new lane.
    Anew,
}

/// The place behind what the line has of a file.
struct Behind {
    /// The bytes of `hash`.
    offset: u64,
    hash: Xxh3,
}

impl<'a> Opening<'a> {
    /// Opens the file.
    pub(super) fn new(
        found: &'a Found,
        settings: &'a FileSettings,
        wanted: &Wanted,
        counts: &'a ContentCounts,
        now: Moment,
    ) -> Result<Self, Fault> {
        let handle = Handle::open(found, settings.bounds.as_ref(), wanted)?;
        let path = found.path.as_path();
        // The time of a file may be wrong, that of another machine or one that lies ahead; then it is enough that the file
        // was the same for so long whenever it was looked at.
        let rested = prefix::rested(path, handle.stamp, now);
        let rests = rested.max(handle.stamp.written_ago(now.wall).unwrap_or_default()) >= SETTLED;
        Ok(Self { path, settings, counts, handle, meter: Meter::default(), now, rests, bytes_checked: 0 })
    }

    /// Goes behind what the line has of the file; `None` where it has everything. `lanes` are all that the line has.
    pub(super) fn open(&mut self, known: Option<&Known>, lanes: &HashSet<Lane>) -> Result<Option<Reading>, Fault> {
        if self.handle.stamp.size == 0 {
            return Ok(None);
        }
        let start = match known {
            Some(known) if known.cursor.manner.fits(self.path, self.settings)? => self.start(known)?,
            _ => Start::Anew,
        };
        match (start, known) {
            (Start::Nowhere, _) => Ok(None),
            (Start::Behind(behind), Some(known)) => self.go_on(*behind, known).map(Some),
            _ => self.begin(known, lanes).map(Some),
        }
    }

    fn start(&mut self, Known { cursor, .. }: &Known) -> Result<Start, Fault> {
        let size = self.handle.stamp.size;
        let FileCursor { prefix, manner, tail, .. } = cursor;
        let has_all = prefix.bytes == size && (cursor.complete || manner.is_by_offset());
        if has_all && prefix::is_known(self.path, self.handle.stamp, *prefix) {
            return Ok(Start::Nowhere);
        }
        let may_go_on = match tail {
            _ if size < prefix.bytes => false,
            Tail::OpenQuote(end) if manner.is_by_offset() => size == *end,
            _ if size == prefix.bytes || manner.is_by_offset() => true,
            // Only the compressed or recoded text tells what follows the last row.
            Tail::NoLineEnd | Tail::OpenQuote(_) => false,
            Tail::Final => manner.is_text(),
        };
        if !may_go_on || self.compression()? != manner.compression {
            return Ok(Start::Anew);
        }
        let checked = prefix::check(self.path, &self.handle, *prefix, self.now)?;
        self.bytes_checked += checked.bytes_read;
        let Some(hash) = checked.hash else {
            return Ok(Start::Anew);
        };
        if has_all {
            return Ok(Start::Nowhere);
        }
        let behind = Behind { offset: prefix.bytes, hash };
        if manner.is_by_offset() && *tail == Tail::NoLineEnd {
            return self.behind_line_end(behind, manner.line_end());
        }
        Ok(Start::Behind(Box::new(behind)))
    }

    /// Behind the line end that must follow a last row without one, if that row was whole.
    fn behind_line_end(&self, Behind { offset, mut hash }: Behind, line_end: u8) -> Result<Start, Fault> {
        let (around, result) = read_head(self.part(offset.saturating_sub(1)), 3);
        result?;
        let len = match around[..] {
            [_, first, ..] if first == line_end => 1,
            // A second carriage return would be one of the row's own.
            [last, b'\r', second] if second == line_end && last != b'\r' => 2,
            _ => return Ok(Start::Anew),
        };
        hash.update(&around[1..=len]);
        Ok(Start::Behind(Box::new(Behind { offset: offset + len as u64, hash })))
    }

    fn compression(&self) -> Result<Compression, Fault> {
        let (magic, result) = read_head(self.part(0), 4);
        result?;
        Ok(Compression::of(&magic))
    }

    fn begin(&mut self, known: Option<&Known>, lanes: &HashSet<Lane>) -> Result<Reading, Fault> {
        let compression = self.compression()?;
        // A sample of damaged data is still a sample; the damage is reported when reading reaches it.
        let (sample, _) = read_head(compression.unpack(Box::new(self.part(0)))?, SAMPLE_BYTES);
        let manner = Manner::sniff(self.path, self.settings, compression, sample)?;
        let mut generation = known.map_or(1, |known| known.cursor.generation + 1);
        // A cursor that cannot be read hides which generations there were, but not their lanes.
        while lanes.contains(&FileCursor::lane(self.path, generation)) {
            generation += 1;
        }
        if manner.is_by_offset() {
            let rows = self.rows_at(&manner, 0, Xxh3::new())?;
            return Ok(self.reading(generation, 0, manner, rows, None));
        }
        let whole = self.hashed_whole(Xxh3::new(), 0)?;
        self.read_whole(generation, 0, manner, whole)
    }

    fn go_on(&mut self, behind: Behind, known: &Known) -> Result<Reading, Fault> {
        let FileCursor { generation, manner, row, tail, .. } = &known.cursor;
        if !manner.is_by_offset() {
            let whole = self.hashed_whole(behind.hash, behind.offset)?;
            return self.read_whole(*generation, known.ordinal, *manner, whole);
        }
        let lane = FileCursor::lane(self.path, *generation);
        let keys = self.settings.content_keys.then(|| self.counts.take(lane, *manner, known.cursor.prefix));
        if let Some(None) = keys {
            // They need the counts of what came before, so the rows are read again and left out.
            let rows = self.rows_at(manner, 0, Xxh3::new())?;
            return Ok(self.reading(*generation, known.ordinal, *manner, rows, None));
        }
        let front = Input::new(Box::new(self.handle.read(0, behind.offset)), 0);
        let input = past_bom(self.input_at(behind.offset, behind.hash));
        let rows: Box<dyn Rows> = match manner.dialect {
            None => Box::new(NdjsonRows::new(input, self.name(), *row, self.is_growing())),
            Some(dialect) => {
                let mut rows = CsvRows::new(input, self.name(), dialect, self.is_growing());
                rows.resume(past_bom(front), *row, *tail)?;
                Box::new(rows)
            }
        };
        let mut reading = self.reading(*generation, known.ordinal, *manner, rows, None);
        reading.from_start = false;
        reading.keys = keys.flatten();
        Ok(reading)
    }

    fn rows_at(&self, manner: &Manner, offset: u64, hash: Xxh3) -> Result<Box<dyn Rows>, Fault> {
        let input = past_bom(self.input_at(offset, hash));
        Ok(match manner.dialect {
            None => Box::new(NdjsonRows::new(input, self.name(), 0, self.is_growing())),
            Some(dialect) => Box::new(CsvRows::new(input, self.name(), dialect, self.is_growing())),
        })
    }

    fn input_at(&self, offset: u64, hash: Xxh3) -> Input {
        let bytes = Metered::new(self.part(offset), self.meter.clone(), false);
        Input::new(Box::new(bytes), offset).with_hash(hash)
    }

    /// The file as it is now, of which the first `offset` bytes are in `hash`.
    fn hashed_whole(&mut self, mut hash: Xxh3, offset: u64) -> Result<Prefix, Fault> {
        let part = self.handle.read(offset, self.handle.stamp.size);
        let read = prefix::hash_part(&mut hash, part)?;
        self.bytes_checked += read;
        Ok(Prefix::of(offset + read, &hash))
    }

    fn read_whole(&self, generation: u64, after: u64, manner: Manner, whole: Prefix) -> Result<Reading, Fault> {
        let packed = manner.compression != Compression::None;
        let rows: Box<dyn Rows> = match manner.format {
            FileFormat::Parquet | FileFormat::Excel if packed => {
                return Err(Fault::Config(format!(
                    "is {} around a format that is compressed by itself; unpack it first",
                    manner.compression.name()
                )));
            }
            FileFormat::Csv => {
                let dialect = manner.dialect.unwrap_or_else(Dialect::plain);
                Box::new(CsvRows::new(self.text(&manner, whole)?, self.name(), dialect, false))
            }
            FileFormat::Ndjson => Box::new(NdjsonRows::new(self.text(&manner, whole)?, self.name(), 0, false)),
            FileFormat::Json => Box::new(JsonRows::new(self.text(&manner, whole)?, self.name())),
            FileFormat::Parquet => Box::new(ParquetRows::open(self.handle.file()?, self.name(), self.meter.clone())?),
            FileFormat::Excel => {
                self.meter.set_bytes(whole.bytes);
                let bytes = BufReader::new(self.handle.read(0, whole.bytes));
                Box::new(ExcelRows::open(bytes, self.name(), self.settings.sheet.clone())?)
            }
        };
        Ok(self.reading(generation, after, manner, rows, Some(whole)))
    }

    /// The text of a file that is read as a whole, as it was when it was hashed.
    fn text(&self, manner: &Manner, whole: Prefix) -> Result<Input, Fault> {
        let raw = Metered::new(self.handle.read(0, whole.bytes), self.meter.clone(), true);
        let bytes = manner.compression.unpack(Box::new(raw))?;
        Ok(match manner.transcode {
            None => past_bom(Input::new(bytes, 0)),
            Some(encoding) => Input::new(Box::new(Transcoded::new(bytes, encoding)), 0).with_transcoding(),
        })
    }

    fn part(&self, offset: u64) -> Part {
        self.handle.read(offset, u64::MAX)
    }

    /// Whether somebody may be in the middle of writing a line.
    fn is_growing(&self) -> bool {
        self.settings.follow && !self.rests
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn reading(
        &self,
        generation: u64,
        after: u64,
        manner: Manner,
        rows: Box<dyn Rows>,
        whole: Option<Prefix>,
    ) -> Reading {
        Reading {
            path: self.path.to_path_buf(),
            handle: self.handle.clone(),
            lane: FileCursor::lane(self.path, generation),
            generation,
            manner,
            rows,
            after,
            keys: self.settings.content_keys.then(|| ContentKeys::new(self.path.as_os_str().as_encoded_bytes())),
            counts: self.counts.clone(),
            whole,
            from_start: true,
            meter: self.meter.clone(),
            counted: 0,
            has_declared: false,
        }
    }
}

/// Lets a UTF-8 byte order mark go.
fn past_bom(mut input: Input) -> Input {
    if input.offset() == 0 {
        // Damage this early is reported when the rows are read.
        while input.bytes().len() < 3 && input.fill().unwrap_or(false) {}
        if input.bytes().starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
    }
    input
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::time::{Instant, SystemTime};

    use super::super::known_places;
    use super::super::stamp::Stamp;
    use super::*;
    use pipeline::source::LaneCursor;
    use schemas::record::RecordBatchReader;

    /// A file, and what the line has of it.
    struct Line {
        _folder: tempfile::TempDir,
        path: PathBuf,
        settings: FileSettings,
        counts: ContentCounts,
        cursors: Vec<LaneCursor>,
        keys: Vec<String>,
        bytes_read: u64,
        begun: Instant,
    }

    impl Line {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = fs::canonicalize(folder.path()).unwrap().join(name);
            fs::write(&path, bytes).unwrap();
            let (settings, counts) = (FileSettings::default(), ContentCounts::default());
            let (cursors, keys, begun) = (Vec::new(), Vec::new(), Instant::now());
            Self { _folder: folder, path, settings, counts, cursors, keys, bytes_read: 0, begun }
        }
        fn append(&self, bytes: &[u8]) {
            fs::File::options().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
        }
        /// Looks at the file so long after it was changed, however slow this machine is: the rows that are new, and the bytes
        /// read to see that.
        fn look(&mut self, later: Duration) -> (u64, u64) {
            let meta = fs::metadata(&self.path).unwrap();
            let changed = Duration::new(meta.ctime().unsigned_abs(), meta.ctime_nsec() as u32);
            let now = Moment { wall: SystemTime::UNIX_EPOCH + changed + later, steady: self.begun + later };
            let stamp = Some(Stamp::of(&meta));
            let found = Found { path: self.path.clone(), base: None, stamp };
            let known = known_places(self.cursors.clone());
            let known = known.get(self.path.as_os_str().as_encoded_bytes());
            let lanes = self.cursors.iter().map(|cursor| cursor.lane).collect();
            let mut opening = Opening::new(&found, &self.settings, &Wanted::new(), &self.counts, now).unwrap();
            let reading = opening.open(known, &lanes).unwrap();
            let checked = opening.bytes_checked;
            let mut rows = 0;
            if let Some(mut reading) = reading {
                loop {
                    let taken = reading.next(1 << 20);
                    if let Some(batch) = taken.batch {
                        let mut records = RecordBatchReader::new(&batch.records.body).unwrap();
                        while let Some(record) = records.next_record().unwrap() {
                            rows += 1;
                            self.keys.extend(record.key.map(str::to_string));
                            self.cursors =
                                vec![LaneCursor { lane: records.lane, ordinal: record.ordinal, cursor: Vec::new() }];
                        }
                        self.cursors[0].cursor = records.cursor.to_vec();
                    }
                    if let Some(ended) = taken.ended {
                        self.bytes_read = reading.meter.bytes();
                        break ended.unwrap();
                    }
                }
            }
            (rows, checked)
        }
    }

    const SOON: Duration = Duration::ZERO;
    const LATER: Duration = Duration::from_secs(100);

    #[test]
    fn a_file_that_did_not_change_is_not_read_again() {
        for (name, bytes) in [("a.csv", &b"a\n1\n"[..]), ("a.json", b"[1]"), ("b.ndjson", b"1\n\n2")] {
            let mut line = Line::new(name, bytes);
            assert!(line.look(SOON).0 > 0);
            // Written just now: the same stamp may still stand for other bytes, so it is checked, and then known.
            assert_eq!(line.look(LATER), (0, bytes.len() as u64), "{name}");
            assert_eq!(line.look(LATER), (0, 0), "{name}");
            line.append(b"\n");
            assert!(line.look(LATER).1 > 0, "{name}");
        }
    }

    #[test]
    fn a_large_file_that_grows_is_not_read_as_a_whole_each_time() {
        let row = [b"{\"x\":\"".to_vec(), vec![b'x'; 1 << 20], b"\"}\n".to_vec()].concat();
        let mut line = Line::new("a.ndjson", &row.repeat(70));
        assert_eq!(line.look(SOON), (70, 0));
        for _ in 0..3 {
            line.append(&row);
            let (rows, checked) = line.look(SOON);
            assert_eq!(rows, 1);
            assert!(checked < 1 << 20, "{checked}");
        }
        // It grew by a quarter: all of it is read once, and then it is known again.
        line.append(&row.repeat(20));
        assert_eq!(line.look(SOON).0, 20);
        line.append(&row);
        assert!(line.look(SOON).1 > 90 << 20);
        line.append(&row);
        assert!(line.look(SOON).1 < 1 << 20);
        // Other bytes at its beginning are seen at once.
        let mut other = fs::File::options().write(true).open(&line.path).unwrap();
        other.write_all(b"{\"y\"").unwrap();
        assert_eq!(line.look(SOON).0, 95);
        // So are those of a row in its middle, as long as they were before.
        other.seek(SeekFrom::Start(40 * row.len() as u64)).unwrap();
        other.write_all(b"{\"z\"").unwrap();
        assert_eq!(line.look(SOON).0, 95);
    }

    #[test]
    fn a_file_whose_time_lies_ahead_rests_when_it_was_the_same_for_long_enough() {
        let mut line = Line::new("a.csv", b"a\n1\n2");
        line.settings.follow = true;
        let ahead = SystemTime::now() + Duration::from_secs(1 << 30);
        fs::File::options().write(true).open(&line.path).unwrap().set_modified(ahead).unwrap();
        assert_eq!(line.look(SOON).0, 1);
        assert_eq!(line.look(SOON).0, 0);
        assert_eq!(line.look(SETTLED).0, 1);
    }

    #[test]
    fn a_file_with_keys_of_its_content_is_not_read_from_its_beginning_when_it_grows() {
        let mut line = Line::new("a.csv", b"a\nx\ny\nx\n");
        line.settings.content_keys = true;
        line.look(SOON);
        line.append(b"x\nz\n");
        assert_eq!(line.look(SOON).0, 2);
        assert_eq!(line.bytes_read, 4);
        let mut anew = Line { path: line.path.clone(), ..Line::new("a.csv", b"") };
        anew.settings.content_keys = true;
        anew.look(SOON);
        assert_eq!(line.keys, anew.keys);
        assert_eq!(line.keys.len(), 5);
    }
}
