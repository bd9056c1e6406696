//! What the user says about the files of a stream.

use std::path::Path;

use encoding_rs::Encoding;
use pipeline::source::SourceError;
use serde::{Deserialize, Serialize};

use super::bounds::Bounds;
use super::discover;

/// Which files to read, and how. What is not given is found out from the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileSettings {
    /// Files, globs (`data/*.csv`) and directories (their supported files, without subdirectories).
    pub files: Vec<String>,
    /// The format; else by the file name's ending.
    pub format: Option<FileFormat>,
    /// The byte between the cells of a CSV row.
    pub delimiter: Option<u8>,
    /// The byte around a CSV cell that holds delimiters or line ends.
    pub quote: Option<u8>,
    /// The text encoding, by its WHATWG label (`utf-8`, `windows-1252`, `utf-16le`, `shift_jis` …).
    pub encoding: Option<String>,
    /// The Excel sheet; else the first.
    pub sheet: Option<String>,
    /// Give every record a key made of its content and its occurrence, because nothing else tells rows apart.
    pub content_keys: bool,
    /// The files may still be written: an unterminated last line is left until the file rests for ten seconds, and
    /// a directory or glob without a file is no error.
    pub follow: bool,
    /// Where the files must lie; else anywhere. It is the operator's word and no part of what is stored or sent: whoever
    /// opens a source for somebody else sets it each time.
    #[serde(skip)]
    pub bounds: Option<Bounds>,
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Delimited text with a header row.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// A JSON array of objects, or one object.
    Json,
    /// Apache Parquet.
    Parquet,
    /// An Excel workbook (xlsx, xlsm, xlsb).
    Excel,
}

impl FileFormat {
    /// The format that a file's name promises; the ending of a compression is looked through.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "csv" | "tsv" | "tab" | "psv" => Some(Self::Csv),
            "ndjson" | "jsonl" | "jsonlines" => Some(Self::Ndjson),
            "json" => Some(Self::Json),
            "parquet" | "pq" => Some(Self::Parquet),
            "xlsx" | "xlsm" | "xlsb" | "xls" => Some(Self::Excel),
            _ => None,
        }
    }
}

impl FileSettings {
    /// Refuses settings that can never work.
    pub fn check(&self) -> Result<(), SourceError> {
        if self.files.is_empty() {
            return Err(SourceError::Config("no file is named; give a file, a directory or a glob".into()));
        }
        self.encoding()?;
        for (what, byte) in [("delimiter", self.delimiter), ("quote", self.quote)] {
            if byte.is_some_and(|byte| !byte.is_ascii() || matches!(byte, b'\n' | b'\r' | 0)) {
                return Err(SourceError::Config(format!("the {what} must be one ASCII character and no line end")));
            }
        }
        if self.delimiter.is_some() && self.delimiter == self.quote {
            return Err(SourceError::Config("delimiter and quote must differ".into()));
        }
        Ok(())
    }

    /// The first named file that lies outside the bounds, by its number. What is found later is held to them too.
    pub fn outside(&self) -> Option<(usize, SourceError)> {
        discover::outside(&self.clone().resolved())
    }

    /// With the true paths of its bounds.
    pub(super) fn resolved(mut self) -> Self {
        self.bounds = self.bounds.map(|bounds| bounds.resolved());
        self
    }

    /// The given encoding.
    pub(super) fn encoding(&self) -> Result<Option<&'static Encoding>, SourceError> {
        let Some(label) = &self.encoding else {
            return Ok(None);
        };
        let unknown =
            || SourceError::Config(format!("the encoding {label:?} is not known; try utf-8, windows-1252 or utf-16le"));
        Encoding::for_label_no_replacement(label.as_bytes()).map(Some).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_format_through_a_compression() {
        assert_eq!(FileFormat::of(Path::new("a/B.CSV.GZ")), Some(FileFormat::Csv));
        assert_eq!(FileFormat::of(Path::new("x.jsonl.zst")), Some(FileFormat::Ndjson));
        assert_eq!(FileFormat::of(Path::new("x.json")), Some(FileFormat::Json));
        assert_eq!(FileFormat::of(Path::new("x.gz")), None);
        assert_eq!(FileFormat::of(Path::new("x")), None);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = FileSettings { files: vec!["x.csv".into()], ..Default::default() };
        assert!(good.check().is_ok());
        let nothing = FileSettings::default();
        assert!(nothing.check().is_err());
        let encoding = FileSettings { encoding: Some("latin-77".into()), ..good.clone() };
        assert!(encoding.check().unwrap_err().to_string().contains("latin-77"));
        let delimiter = FileSettings { delimiter: Some(b'\n'), ..good.clone() };
        assert!(delimiter.check().is_err());
        let same = FileSettings { delimiter: Some(b'"'), quote: Some(b'"'), ..good };
        assert!(same.check().is_err());
    }
}
