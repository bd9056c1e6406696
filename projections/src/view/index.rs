//! The key index: for each key the greatest order key seen and where its row lies.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use schemas::Version;

/// Where a key's row lies. Numbers of files and chunks have 30 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loc(u64);

/// A [`Loc`] taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a file of the table.
    File {
        /// The file's number in the view.
        file: u32,
        /// The row.
        row: u32,
    },
    /// In a chunk of the tail.
    Tail {
        /// The chunk's number.
        chunk: u32,
        /// The row.
        row: u32,
    },
    /// Nowhere: the key is deleted.
    Deleted,
}

const TAIL: u64 = 1 << 62;
const DELETED: u64 = 2 << 62;
const NUMBER_MASK: u64 = (1 << 30) - 1;

impl Loc {
    /// The key is deleted.
    pub const DELETED: Self = Self(DELETED);
    /// A row of a file.
    pub fn file(file: u32, row: u32) -> Self {
        Self((u64::from(file) & NUMBER_MASK) << 32 | u64::from(row))
    }
    /// A row of the tail.
    pub fn tail(chunk: u32, row: u32) -> Self {
        Self(TAIL | (u64::from(chunk) & NUMBER_MASK) << 32 | u64::from(row))
    }
    /// The parts.
    pub fn place(self) -> Place {
        let number = (self.0 >> 32 & NUMBER_MASK) as u32;
        let row = self.0 as u32;
        match self.0 & (3 << 62) {
            0 => Place::File { file: number, row },
            TAIL => Place::Tail { chunk: number, row },
            _ => Place::Deleted,
        }
    }
}

/// A source version in 16 bytes; ordered as [`Version`] is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackedVersion {
    /// The source gives none.
    None,
    /// Microseconds since 1970 UTC.
    Time(i64),
    /// A number.
    Integer(i64),
    /// A text; boxed twice, for rare long entries must not make all others longer.
    Text(Box<Box<str>>),
}

impl From<Version> for PackedVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::None => Self::None,
            Version::Time(at) => Self::Time(at),
            Version::Integer(number) => Self::Integer(number),
            Version::Text(text) => Self::Text(Box::new(text)),
        }
    }
}

/// What orders the rows of one key: the greater wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderKey {
    /// The source version.
    pub version: PackedVersion,
    /// Offset at which the record first entered.
    pub origin: u64,
    /// Offset of the input.
    pub position: u64,
}

/// A key's entry.
#[derive(Debug)]
pub struct Entry {
    hash: [u64; 2],
    /// The greatest order key seen.
    pub order: OrderKey,
    /// Where the row lies.
    pub loc: Loc,
}

/// What became of a row that asked to be the newest of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The key was not known.
    New,
    /// It took the place of an older row, or of a delete.
    Replaced {
        /// Where that was.
        was: Loc,
        /// The input that had made it.
        position: u64,
    },
    /// A newer one is there.
    Late,
    /// The very same one is there.
    Repeated,
}

/// Hashes of keys to entries.
#[derive(Debug, Default)]
pub struct KeyIndex {
    table: HashTable<Entry>,
    live: usize,
    text_bytes: usize,
}

fn split(hash: u128) -> [u64; 2] {
    [hash as u64, (hash >> 64) as u64]
}

fn text_bytes(version: &PackedVersion) -> usize {
    match version {
        PackedVersion::Text(text) => text.len() + 32,
        _ => 0,
    }
}

impl KeyIndex {
    /// Offers a row. `inherits_version` gives it the version of the row that it meets. If it wins, the entry says
    /// `loc`.
    #[inline]
    pub fn admit(&mut self, hash: u128, mut order: OrderKey, inherits_version: bool, loc: Loc) -> Admission {
        let hash = split(hash);
        let is_live = loc != Loc::DELETED;
        match self.table.entry(hash[0], |e| e.hash == hash, |e| e.hash[0]) {
            Slot::Vacant(slot) => {
                self.text_bytes += text_bytes(&order.version);
                self.live += usize::from(is_live);
                slot.insert(Entry { hash, order, loc });
                Admission::New
            }
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                if inherits_version {
                    order.version = entry.order.version.clone();
                }
                match order.cmp(&entry.order) {
                    std::cmp::Ordering::Less => Admission::Late,
                    std::cmp::Ordering::Equal => Admission::Repeated,
                    std::cmp::Ordering::Greater => {
                        self.text_bytes += text_bytes(&order.version);
                        self.text_bytes -= text_bytes(&entry.order.version);
                        self.live += usize::from(is_live);
                        self.live -= usize::from(entry.loc != Loc::DELETED);
                        let was = std::mem::replace(&mut entry.loc, loc);
                        let position = entry.order.position;
                        entry.order = order;
                        Admission::Replaced { was, position }
                    }
                }
            }
        }
    }
    /// The entry of a key.
    pub fn get(&self, hash: u128) -> Option<&Entry> {
        let hash = split(hash);
        self.table.find(hash[0], |e| e.hash == hash)
    }
    /// Moves a row from one place to another; false if it no longer lies at the first.
    pub fn relocate(&mut self, hash: u128, from: Loc, to: Loc) -> bool {
        let hash = split(hash);
        match self.table.find_mut(hash[0], |e| e.hash == hash) {
            Some(entry) if entry.loc == from => {
                entry.loc = to;
                true
            }
            _ => false,
        }
    }
    /// Makes room for so many more keys.
    pub fn reserve(&mut self, keys: usize) {
        self.table.reserve(keys, |e| e.hash[0]);
    }
    /// Keys that have a row.
    pub fn live(&self) -> usize {
        self.live
    }
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.table.allocation_size() + self.text_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(version: i64, position: u64) -> OrderKey {
        OrderKey { version: PackedVersion::Integer(version), origin: position, position }
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 56);
    }

    #[test]
    fn the_greater_order_key_wins_whatever_the_order_of_arrival() {
        let mut index = KeyIndex::default();
        assert_eq!(index.admit(1, order(5, 0), false, Loc::tail(0, 0)), Admission::New);
        assert_eq!(index.admit(1, order(4, 1), false, Loc::tail(0, 1)), Admission::Late);
        assert_eq!(index.admit(1, order(5, 0), false, Loc::tail(0, 1)), Admission::Repeated);
        let was = Admission::Replaced { was: Loc::tail(0, 0), position: 0 };
        assert_eq!(index.admit(1, order(5, 2), false, Loc::DELETED), was);
        assert_eq!(index.live(), 0);
        assert_eq!(index.admit(1, order(5, 1), false, Loc::tail(0, 1)), Admission::Late, "the delete was newer");
    }

    #[test]
    fn a_place_reads_back_from_its_packed_form() {
        assert_eq!(Loc::file(7, u32::MAX).place(), Place::File { file: 7, row: u32::MAX });
        assert_eq!(Loc::tail(9, 1).place(), Place::Tail { chunk: 9, row: 1 });
        assert_eq!(Loc::DELETED.place(), Place::Deleted);
    }
}
