//! How the bytes of a file become rows: given, or found out from the file's name and its beginning.

use std::path::Path;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use schemas::wire::{Reader, WireError, put_bytes, put_u64};
use xxhash_rust::xxh3::xxh3_64;

use super::csv::Dialect;
use super::decode::Compression;
use super::fault::Fault;
use super::settings::{FileFormat, FileSettings};

/// All that decides what the rows of a file are, besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// The format.
    pub(super) format: FileFormat,
    /// How the file is packed.
    pub(super) compression: Compression,
    /// The encoding that the whole text is turned into UTF-8 from, where its bytes cannot be split as they are.
    pub(super) transcode: Option<&'static Encoding>,
    /// How rows are taken apart, for CSV.
    pub(super) dialect: Option<Dialect>,
    /// A hash of the given sheet's name, for Excel.
    pub(super) sheet: u64,
}

impl Manner {
    /// Finds out what was not given. `sample` is the unpacked beginning.
    pub(super) fn sniff(
        path: &Path,
        settings: &FileSettings,
        compression: Compression,
        mut sample: Vec<u8>,
    ) -> Result<Self, Fault> {
        let given = given_encoding(settings)?;
        let named = settings.format.or_else(|| FileFormat::of(path)).ok_or_else(|| {
            Fault::Config("its name does not tell the format; give --format csv|ndjson|json|parquet|excel".into())
        })?;
        let transcode = transcoding(named, given, &sample);
        if let Some(encoding) = transcode {
            sample = encoding.decode_with_bom_removal(&sample).0.into_owned().into_bytes();
        }
        let format = match (settings.format, named) {
            (None, FileFormat::Json) if holds_lines(&sample) => FileFormat::Ndjson,
            _ => named,
        };
        let encoding = if transcode.is_some() { Some(UTF_8) } else { given };
        let dialect = match format {
            FileFormat::Csv => Some(Dialect::sniff(&sample, path, settings, encoding)?),
            _ => None,
        };
        let sheet = sheet_hash(format, settings);
        Ok(Self { format, compression, transcode, dialect, sheet })
    }

    /// Whether the settings still read the file so.
    pub(super) fn fits(&self, path: &Path, settings: &FileSettings) -> Result<bool, Fault> {
        let given = given_encoding(settings)?;
        let named = settings.format.or_else(|| FileFormat::of(path));
        let format = named == Some(self.format)
            || (settings.format.is_none() && (named, self.format) == (Some(FileFormat::Json), FileFormat::Ndjson));
        let dialect = match (&self.dialect, self.transcode) {
            (None, _) => true,
            (Some(dialect), None) => dialect.fits(settings, given),
            (Some(dialect), Some(_)) => dialect.fits(settings, None),
        };
        let encoding = match (self.transcode, self.dialect) {
            (Some(encoding), _) => given.is_none_or(|given| given == encoding),
            // The dialect has it.
            (None, Some(_)) => true,
            (None, None) => given.is_none_or(|given| given == UTF_8) || !self.is_text(),
        };
        Ok(format && dialect && encoding && sheet_hash(self.format, settings) == self.sheet)
    }

    /// Whether it is text, in which more may follow what was read.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.format, FileFormat::Csv | FileFormat::Ndjson | FileFormat::Json)
    }

    /// Whether reading can go on at a byte of the file.
    pub(super) fn is_by_offset(&self) -> bool {
        let lines = matches!(self.format, FileFormat::Csv | FileFormat::Ndjson);
        lines && self.compression == Compression::None && self.transcode.is_none()
    }

    /// The last byte of a row, where rows are lines.
    pub(super) fn line_end(&self) -> u8 {
        self.dialect.map_or(b'\n', |dialect| dialect.line_end)
    }

    /// Appends it to a cursor.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.format as u8, self.compression as u8, u8::from(self.dialect.is_some())]);
        put_bytes(out, self.transcode.map_or("", Encoding::name).as_bytes());
        if let Some(dialect) = &self.dialect {
            dialect.put(out);
        }
        put_u64(out, self.sheet);
    }

    /// Reads it from a cursor.
    pub(super) fn get(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let [format, compression, has_dialect] = reader.array()?;
        let formats = [FileFormat::Csv, FileFormat::Ndjson, FileFormat::Json, FileFormat::Parquet, FileFormat::Excel];
        let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
        let transcode = match reader.text()? {
            "" => None,
            name => Some(Encoding::for_label(name.as_bytes()).ok_or(WireError::Invalid("an encoding"))?),
        };
        Ok(Self {
            format: *formats.get(usize::from(format)).ok_or(WireError::Invalid("a format"))?,
            compression: *compressions.get(usize::from(compression)).ok_or(WireError::Invalid("a compression"))?,
            transcode,
            dialect: if has_dialect != 0 { Some(Dialect::get(reader)?) } else { None },
            sheet: reader.u64()?,
        })
    }
}

fn given_encoding(settings: &FileSettings) -> Result<Option<&'static Encoding>, Fault> {
    settings.encoding().map_err(|error| Fault::Config(error.to_string()))
}

fn sheet_hash(format: FileFormat, settings: &FileSettings) -> u64 {
    match &settings.sheet {
        Some(sheet) if format == FileFormat::Excel => xxh3_64(sheet.as_bytes()),
        _ => 0,
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
            let marked = || Encoding::for_bom(sample).map(|(encoding, _)| encoding);
            let encoding = given.or_else(marked).or_else(|| utf_16_without_mark(sample))?;
            // Cells of CSV are decoded one row at a time; JSON must be UTF-8 as a whole.
            let splits = encoding == UTF_8 || (format == FileFormat::Csv && encoding.is_single_byte());
            (!splits).then_some(encoding)
        }
    }
}

/// UTF-16 that does not say so: it begins with an ASCII character, a good part of its units are ASCII, their zero bytes
/// all stand on the same side, and so do those of its line ends.
fn utf_16_without_mark(sample: &[u8]) -> Option<&'static Encoding> {
    let (units, _) = sample.as_chunks::<2>();
    let (encoding, high) = match units.first()? {
        [0, low] if low.is_ascii() && *low != 0 => (UTF_16BE, 0),
        [low, 0] if low.is_ascii() && *low != 0 => (UTF_16LE, 1),
        _ => return None,
    };
    let count = |wanted: &dyn Fn(&[u8; 2]) -> bool| units.iter().filter(|unit| wanted(unit)).count();
    let ascii = count(&|unit| unit[high] == 0 && unit[1 - high] != 0);
    let contrary = count(&|unit| unit[1 - high] == 0);
    let ends = count(&|unit| unit[high] == 0 && unit[1 - high] == b'\n');
    let other_ends = count(&|unit| unit.contains(&b'\n')) - ends;
    let is_likely = units.len() >= 4 && ascii >= units.len() / 5 && contrary <= units.len() / 100;
    (is_likely && (ends >= other_ends)).then_some(encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_16_is_known_without_a_mark_and_other_bytes_are_not_taken_for_it() {
        let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        for text in ["a,b\n1,2\n", "id;名前\n1;日本語日本語\n", "[{\"x\":\"ж\"}]"] {
            assert_eq!(utf_16_without_mark(&little(text)), Some(UTF_16LE), "{text}");
            assert_eq!(utf_16_without_mark(&big(text)), Some(UTF_16BE), "{text}");
        }
        let others: [&[u8]; 7] =
            [b"", b"a,b\n1,2\n", b"a\n\0\n", b"a\0,b\n1,2\n3,4\n", b"a,\0\n1,\0\n", b"\0\0\0\0\0\0\0\0", b"a\0"];
        for other in others {
            assert_eq!(utf_16_without_mark(other), None, "{other:?}");
        }
    }
}
