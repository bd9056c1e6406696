//! The note that a batch of a file leaves on the line: where in the file it ends.

use std::path::Path;

use schemas::Lane;
use schemas::wire::{Reader, WireError, put_bytes, put_u64};
use xxhash_rust::xxh3::xxh3_128;

use super::manner::Manner;
use super::prefix::Prefix;

/// Of the cursors and of the lanes: where one changes, files are read anew.
const VERSION: u8 = 2;

/// Where a batch ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileCursor {
    /// The canonical path.
    pub path: Vec<u8>,
    /// How often the file was found rewritten; a generation is a lane.
    pub generation: u64,
    /// Whether the batch reached the file's end.
    pub complete: bool,
    /// How the file is read. A generation keeps it, because a file that grew might look different.
    pub manner: Manner,
    /// In plain text, which can be gone on with at a byte: what was taken. Else all that the file was when it was read;
    /// then the ordinal is the place.
    pub prefix: Prefix,
    /// Rows taken, blank ones included where the format counts them.
    pub row: u64,
    /// Whether the rows taken stay what they are when the file grows.
    pub tail: Tail,
}

/// What the last rows taken hang on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing: whatever follows, they stay.
    Final,
    /// The last row had no line end. Only if one follows was that row whole.
    NoLineEnd,
    /// A quote was not closed up to the end of the file, which had so many bytes of text: rows behind that quote were
    /// only made out because nothing more followed.
    OpenQuote(u64),
}

impl FileCursor {
    /// The lane of a generation of a file.
    pub(super) fn lane(path: &Path, generation: u64) -> Lane {
        let mut name = vec![VERSION];
        put_bytes(&mut name, path.as_os_str().as_encoded_bytes());
        put_u64(&mut name, generation);
        Lane(xxh3_128(&name))
    }

    /// Bytes not taken yet of a file that now has `size` bytes, if it was not rewritten.
    pub(super) fn bytes_left(&self, size: u64) -> u64 {
        if self.manner.is_by_offset() {
            size.checked_sub(self.prefix.bytes).unwrap_or(size)
        } else if self.complete && self.prefix.bytes == size {
            0
        } else {
            size
        }
    }

    /// The bytes for the line.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.path.len() + 64);
        out.push(VERSION);
        put_bytes(&mut out, &self.path);
        put_u64(&mut out, self.generation);
        out.push(u8::from(self.complete));
        self.manner.put(&mut out);
        put_u64(&mut out, self.prefix.bytes);
        out.extend_from_slice(&self.prefix.hash.to_be_bytes());
        put_u64(&mut out, self.row);
        match self.tail {
            Tail::Final => out.push(0),
            Tail::NoLineEnd => out.push(1),
            Tail::OpenQuote(bytes) => {
                out.push(2);
                put_u64(&mut out, bytes);
            }
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(WireError::Invalid("the version of a file's cursor"));
        }
        let cursor = Self {
            path: reader.bytes()?.to_vec(),
            generation: reader.u64()?,
            complete: reader.u8()? != 0,
            manner: Manner::get(&mut reader)?,
            prefix: Prefix { bytes: reader.u64()?, hash: u128::from_be_bytes(reader.array()?) },
            row: reader.u64()?,
            tail: match reader.u8()? {
                0 => Tail::Final,
                1 => Tail::NoLineEnd,
                2 => Tail::OpenQuote(reader.u64()?),
                _ => return Err(WireError::Invalid("the tail of a file's cursor")),
            },
        };
        if reader.is_empty() { Ok(cursor) } else { Err(WireError::Invalid("a file's cursor")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::csv::{Dialect, Text};
    use super::super::decode::Compression;
    use super::super::settings::FileFormat;
    use super::*;

    fn manners() -> impl Strategy<Value = Manner> {
        let dialect = (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(delimiter, quote, cr)| Dialect {
            delimiter,
            quote,
            line_end: if cr { b'\r' } else { b'\n' },
            text: Text::Utf8,
        });
        let formats = prop_oneof![Just(FileFormat::Csv), Just(FileFormat::Json), Just(FileFormat::Excel)];
        let compressions = prop_oneof![Just(Compression::None), Just(Compression::Gzip), Just(Compression::Zstd)];
        let encodings = prop_oneof![Just(None), Just(Some(encoding_rs::UTF_16LE))];
        (formats, compressions, encodings, proptest::option::of(dialect), any::<u64>()).prop_map(
            |(format, compression, transcode, dialect, sheet)| Manner {
                format,
                compression,
                transcode,
                dialect,
                sheet,
            },
        )
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back(
            path: Vec<u8>, generation: u64, complete: bool, manner in manners(), bytes: u64, hash: u128, row: u64,
            tail in prop_oneof![Just(Tail::Final), Just(Tail::NoLineEnd), any::<u64>().prop_map(Tail::OpenQuote)],
        ) {
            let prefix = Prefix { bytes, hash };
            let cursor = FileCursor { path, generation, complete, manner, prefix, row, tail };
            prop_assert_eq!(FileCursor::decode(&cursor.encode()), Ok(cursor));
        }

        #[test]
        fn any_bytes_give_an_answer_and_no_panic(mut bytes: Vec<u8>) {
            let _ = FileCursor::decode(&bytes);
            bytes.insert(0, VERSION);
            let _ = FileCursor::decode(&bytes);
        }
    }
}
