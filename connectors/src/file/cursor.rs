//! The note that a batch of a file leaves on the line: where in the file it ends.

use schemas::Lane;
use schemas::wire::{Reader, WireError, put_bytes, put_u64};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::csv::Dialect;

const VERSION: u8 = 1;
const COMPLETE: u8 = 1;
const CONTENT: u8 = 2;
const TERMINATED: u8 = 4;
const DIALECT: u8 = 8;

/// Where a batch ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileCursor {
    /// The canonical path.
    pub path: Vec<u8>,
    /// How often the file was found rewritten; a generation is a lane.
    pub generation: u64,
    /// Whether the batch reached the file's end.
    pub complete: bool,
    /// The place itself.
    pub place: Place,
}

/// The place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In a plain text file, which may be appended to.
    Offset(Offset),
    /// In a file that is only understood as a whole; the ordinal is the place.
    Content(Content),
}

/// Behind the last row taken of a plain text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offset {
    /// Bytes taken.
    pub offset: u64,
    /// Rows taken, blank ones included where the format counts them.
    pub row: u64,
    /// xxh3 of all bytes before `offset`.
    pub hash: u64,
    /// Whether the last row had a line end; if not, nothing but a line end may follow it later.
    pub terminated: bool,
    /// How the rows are taken apart, for CSV.
    pub dialect: Option<Dialect>,
}

/// The identity of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// Its size.
    pub size: u64,
    /// xxh3 of all its bytes.
    pub hash: u128,
    /// A hash of the settings that decide what its rows are.
    pub reading: u64,
}

impl FileCursor {
    /// The lane of a generation of a file.
    pub(super) fn lane(path: &[u8], generation: u64, content: Option<&Content>) -> Lane {
        let mut name = Vec::with_capacity(path.len() + 48);
        put_bytes(&mut name, path);
        put_u64(&mut name, generation);
        if let Some(content) = content {
            name.extend_from_slice(&content.hash.to_be_bytes());
            put_u64(&mut name, content.reading);
        }
        Lane(xxh3_128(&name))
    }

    /// Bytes not taken yet of a file that now has `size` bytes, if it was not rewritten.
    pub(super) fn bytes_left(&self, size: u64) -> u64 {
        match &self.place {
            Place::Offset(place) => size.checked_sub(place.offset).unwrap_or(size),
            Place::Content(content) if self.complete && content.size == size => 0,
            Place::Content(_) => size,
        }
    }

    /// The bytes for the line.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.path.len() + 64);
        let bit = |set: bool, flag: u8| if set { flag } else { 0 };
        let kind = match &self.place {
            Place::Offset(place) => bit(place.terminated, TERMINATED) | bit(place.dialect.is_some(), DIALECT),
            Place::Content(_) => CONTENT,
        };
        out.extend_from_slice(&[VERSION, kind | bit(self.complete, COMPLETE)]);
        put_bytes(&mut out, &self.path);
        put_u64(&mut out, self.generation);
        match &self.place {
            Place::Offset(place) => {
                put_u64(&mut out, place.offset);
                put_u64(&mut out, place.row);
                out.extend_from_slice(&place.hash.to_be_bytes());
                if let Some(dialect) = &place.dialect {
                    dialect.put(&mut out);
                }
            }
            Place::Content(content) => {
                put_u64(&mut out, content.size);
                out.extend_from_slice(&content.hash.to_be_bytes());
                put_u64(&mut out, content.reading);
            }
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.first() {
            Some(&VERSION) => Self::get(&bytes[1..]).map_err(|error| format!("a file's cursor is damaged: {error}")),
            _ => Err("a file's cursor was written by another version of this program; use that version".into()),
        }
    }

    fn get(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u8()?;
        let path = reader.bytes()?.to_vec();
        let generation = reader.u64()?;
        let place = if flags & CONTENT != 0 {
            let size = reader.u64()?;
            let hash = u128::from_be_bytes(reader.array()?);
            Place::Content(Content { size, hash, reading: reader.u64()? })
        } else {
            let (offset, row) = (reader.u64()?, reader.u64()?);
            let hash = u64::from_be_bytes(reader.array()?);
            let dialect = if flags & DIALECT != 0 { Some(Dialect::get(&mut reader)?) } else { None };
            Place::Offset(Offset { offset, row, hash, terminated: flags & TERMINATED != 0, dialect })
        };
        Ok(Self { path, generation, complete: flags & COMPLETE != 0, place })
    }
}

/// A hash of the settings that decide what the rows of a whole file are.
pub(super) fn hash_of_reading(parts: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::csv::Text;
    use super::*;

    fn places() -> impl Strategy<Value = Place> {
        let dialect = (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(delimiter, quote, cr)| Dialect {
            delimiter,
            quote,
            line_end: if cr { b'\r' } else { b'\n' },
            text: Text::Utf8,
        });
        let offset = (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>(), proptest::option::of(dialect)).prop_map(
            |(offset, row, hash, terminated, dialect)| Place::Offset(Offset { offset, row, hash, terminated, dialect }),
        );
        let content = (any::<u64>(), any::<u128>(), any::<u64>())
            .prop_map(|(size, hash, reading)| Place::Content(Content { size, hash, reading }));
        prop_oneof![offset, content]
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back(path: Vec<u8>, generation: u64, complete: bool, place in places()) {
            let cursor = FileCursor { path, generation, complete, place };
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
