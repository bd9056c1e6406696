//! The key index: for each key the greatest order key seen and where its row lies.
//!
//! It is the largest thing that a view holds, so an entry is small: versions that are texts and origins that differ from
//! the position, both rare, lie beside it. The index is cut into shards by the key's hash. A hash table doubles when it is
//! full; the shards are of different sizes, so that they do not all double at once.

use std::collections::HashMap;
use std::sync::LazyLock;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use schemas::Version;

/// Where a key's row lies. Numbers of files and chunks have 27 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loc(u64);

/// A [`Loc`] taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowPlace {
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
const PLACE: u64 = 3 << 62;
const NUMBER_MASK: u64 = (1 << 27) - 1;

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
    pub fn place(self) -> RowPlace {
        let number = (self.0 >> 32 & NUMBER_MASK) as u32;
        let row = self.0 as u32;
        match self.0 & PLACE {
            0 => RowPlace::File { file: number, row },
            TAIL => RowPlace::Tail { chunk: number, row },
            _ => RowPlace::Deleted,
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

/// How many shards an index has.
pub const SHARDS: usize = 64;

/// The shard of each prefix of a hash. Each shard has 2^(1/64) times as many prefixes as the one before, so that, as keys
/// come in, one after the other doubles.
static SHARD_OF: LazyLock<[u8; 1 << PREFIX_BITS]> = LazyLock::new(|| {
    let share = |n: usize| (n as f64 / SHARDS as f64).exp2() - 1.0;
    let mut shard = 0;
    std::array::from_fn(|prefix| {
        while share(shard + 1) * ((1 << PREFIX_BITS) as f64) <= prefix as f64 {
            shard += 1;
        }
        shard.min(SHARDS - 1) as u8
    })
});
const PREFIX_BITS: u32 = 12;

/// A key's entry. Beside its place, `loc` says of which kind the version is and whether the origin is another input.
#[derive(Debug)]
struct Entry {
    hash: [u64; 2],
    version: i64,
    position: u64,
    loc: u64,
}

const VERSION: u64 = 3 << 60;
const TIME: u64 = 1 << 60;
const INTEGER: u64 = 2 << 60;
const TEXT: u64 = 3 << 60;
const OTHER_ORIGIN: u64 = 1 << 59;
const FLAGS: u64 = VERSION | OTHER_ORIGIN;

impl Entry {
    fn key(&self) -> u128 {
        u128::from(self.hash[1]) << 64 | u128::from(self.hash[0])
    }
    fn loc(&self) -> Loc {
        Loc(self.loc & !FLAGS)
    }
}

/// What lies beside entries.
#[derive(Debug, Default)]
struct Beside {
    texts: HashMap<u128, Box<str>>,
    origins: HashMap<u128, u64>,
    text_bytes: usize,
}

/// What an entry of a side map takes, about.
const SIDE_BYTES: usize = 64;

impl Beside {
    /// How a row compares with the entry.
    #[inline]
    fn compare(&self, order: &OrderKey, entry: &Entry) -> std::cmp::Ordering {
        let version = match (&order.version, entry.loc & VERSION) {
            (PackedVersion::Time(at), TIME) | (PackedVersion::Integer(at), INTEGER) => at.cmp(&entry.version),
            (PackedVersion::None, 0) => std::cmp::Ordering::Equal,
            _ => order.version.cmp(&self.version(entry)),
        };
        version.then_with(|| order.origin.cmp(&self.origin(entry))).then_with(|| order.position.cmp(&entry.position))
    }
    fn version(&self, entry: &Entry) -> PackedVersion {
        match entry.loc & VERSION {
            TIME => PackedVersion::Time(entry.version),
            INTEGER => PackedVersion::Integer(entry.version),
            TEXT => PackedVersion::Text(Box::new(self.texts.get(&entry.key()).cloned().unwrap_or_default())),
            _ => PackedVersion::None,
        }
    }
    fn origin(&self, entry: &Entry) -> u64 {
        if entry.loc & OTHER_ORIGIN == 0 {
            return entry.position;
        }
        self.origins.get(&entry.key()).copied().unwrap_or(entry.position)
    }
    /// An entry's version and flags, once what is rare lies beside it.
    #[inline]
    fn keep(&mut self, hash: u128, order: OrderKey) -> (i64, u64) {
        let (version, kind) = match order.version {
            PackedVersion::None => (0, 0),
            PackedVersion::Time(at) => (at, TIME),
            PackedVersion::Integer(number) => (number, INTEGER),
            PackedVersion::Text(text) => {
                self.text_bytes += text.len();
                let former = self.texts.insert(hash, *text);
                self.text_bytes -= former.map_or(0, |text| text.len());
                (0, TEXT)
            }
        };
        if order.origin == order.position {
            return (version, kind);
        }
        self.origins.insert(hash, order.origin);
        (version, kind | OTHER_ORIGIN)
    }
    /// Drops what lay beside an entry with the flags `former` and is not part of the one with `flags`.
    #[inline]
    fn drop_former(&mut self, hash: u128, former: u64, flags: u64) {
        if former & VERSION == TEXT && flags & VERSION != TEXT {
            self.text_bytes -= self.texts.remove(&hash).map_or(0, |text| text.len());
        }
        if former & OTHER_ORIGIN != 0 && flags & OTHER_ORIGIN == 0 {
            self.origins.remove(&hash);
        }
    }
    fn bytes(&self) -> usize {
        (self.texts.capacity() + self.origins.capacity()) * SIDE_BYTES + self.text_bytes
    }
}

#[derive(Debug, Default)]
struct Shard {
    table: HashTable<Entry>,
    live: usize,
}

impl Shard {
    fn admit(
        &mut self,
        beside: &mut Beside,
        hash: u128,
        mut order: OrderKey,
        inherits_version: bool,
        loc: Loc,
    ) -> Admission {
        let parts = split(hash);
        let position = order.position;
        let is_live = usize::from(loc != Loc::DELETED);
        match self.table.entry(parts[0], |e| e.hash == parts, |e| e.hash[0]) {
            Slot::Vacant(slot) => {
                let (version, flags) = beside.keep(hash, order);
                slot.insert(Entry { hash: parts, version, position, loc: loc.0 | flags });
                self.live += is_live;
                Admission::New
            }
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                if inherits_version {
                    order.version = beside.version(entry);
                }
                match beside.compare(&order, entry) {
                    std::cmp::Ordering::Less => Admission::Late,
                    std::cmp::Ordering::Equal => Admission::Repeated,
                    std::cmp::Ordering::Greater => {
                        let (version, flags) = beside.keep(hash, order);
                        beside.drop_former(hash, entry.loc & FLAGS, flags);
                        let (was, former) = (entry.loc(), entry.position);
                        *entry = Entry { hash: parts, version, position, loc: loc.0 | flags };
                        self.live += is_live;
                        self.live -= usize::from(was != Loc::DELETED);
                        Admission::Replaced { was, position: former }
                    }
                }
            }
        }
    }
}

/// Hashes of keys to entries.
#[derive(Debug)]
pub struct KeyIndex {
    shards: Vec<Shard>,
    beside: Beside,
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), beside: Beside::default() }
    }
}

fn split(hash: u128) -> [u64; 2] {
    [hash as u64, (hash >> 64) as u64]
}

fn shard_of(hash: u128) -> usize {
    usize::from(SHARD_OF[(hash >> (128 - PREFIX_BITS)) as usize])
}

impl KeyIndex {
    /// Offers a row. `inherits_version` gives it the version of the row that it meets. If it wins, the entry says
    /// `loc`.
    #[inline]
    pub fn admit(&mut self, hash: u128, order: OrderKey, inherits_version: bool, loc: Loc) -> Admission {
        self.shards[shard_of(hash)].admit(&mut self.beside, hash, order, inherits_version, loc)
    }
    /// The greatest order key of a key.
    pub fn order(&self, hash: u128) -> Option<OrderKey> {
        let (shard, beside, parts) = (&self.shards[shard_of(hash)], &self.beside, split(hash));
        let entry = shard.table.find(parts[0], |e| e.hash == parts)?;
        Some(OrderKey { version: beside.version(entry), origin: beside.origin(entry), position: entry.position })
    }
    /// Where a key's row lies.
    pub fn loc(&self, hash: u128) -> Option<Loc> {
        let parts = split(hash);
        self.shards[shard_of(hash)].table.find(parts[0], |e| e.hash == parts).map(Entry::loc)
    }
    /// Moves a row from one place to another; false if it no longer lies at the first.
    pub fn relocate(&mut self, hash: u128, from: Loc, to: Loc) -> bool {
        let parts = split(hash);
        match self.shards[shard_of(hash)].table.find_mut(parts[0], |e| e.hash == parts) {
            Some(entry) if entry.loc() == from => {
                entry.loc = to.0 | entry.loc & FLAGS;
                true
            }
            _ => false,
        }
    }
    /// Moves the rows of a shard, in the order in which they lie.
    pub fn relocate_shard(&mut self, shard: usize, to: impl Fn(Loc) -> Option<Loc>) {
        for entry in self.shards[shard].table.iter_mut() {
            if let Some(to) = to(entry.loc()) {
                entry.loc = to.0 | entry.loc & FLAGS;
            }
        }
    }
    /// Makes room for so many more keys.
    pub fn reserve(&mut self, keys: usize) {
        let mut prefixes = [0; SHARDS];
        SHARD_OF.iter().for_each(|shard| prefixes[usize::from(*shard)] += 1);
        for (shard, prefixes) in self.shards.iter_mut().zip(prefixes) {
            shard.table.reserve((keys * prefixes) >> PREFIX_BITS, |e| e.hash[0]);
        }
    }
    /// Keys that have a row.
    pub fn live(&self) -> usize {
        self.shards.iter().map(|s| s.live).sum()
    }
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|s| s.table.allocation_size()).sum::<usize>() + self.beside.bytes()
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
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn the_greater_order_key_wins_whatever_the_order_of_arrival() {
        let mut index = KeyIndex::default();
        assert_eq!(index.admit(hash(1), order(5, 0), false, Loc::tail(0, 0)), Admission::New);
        assert_eq!(index.admit(hash(1), order(4, 1), false, Loc::tail(0, 1)), Admission::Late);
        assert_eq!(index.admit(hash(1), order(5, 0), false, Loc::tail(0, 1)), Admission::Repeated);
        let was = Admission::Replaced { was: Loc::tail(0, 0), position: 0 };
        assert_eq!(index.admit(hash(1), order(5, 2), false, Loc::DELETED), was);
        assert_eq!(index.live(), 0);
        assert_eq!(index.admit(hash(1), order(5, 1), false, Loc::tail(0, 1)), Admission::Late, "the delete was newer");
    }

    fn hash(key: u64) -> u128 {
        xxhash_rust::xxh3::xxh3_128(&key.to_le_bytes())
    }

    #[test]
    fn an_index_grows_in_small_steps() {
        let mut index = KeyIndex::default();
        let mut before = 0;
        for key in 0..400_000 {
            index.admit(hash(key), order(1, key), false, Loc::tail(0, 0));
            if key % 4_000 == 0 && key >= 100_000 {
                let now = index.bytes();
                assert!(before == 0 || now < before + before / 10, "from {before} to {now} at {key}");
                assert!(now < key as usize * 80, "{now} bytes for {key} keys");
                before = now;
            }
        }
    }

    #[test]
    fn a_version_that_is_a_text_and_another_origin_come_back_and_go_with_their_row() {
        let mut index = KeyIndex::default();
        let text = |text: &str| PackedVersion::Text(Box::new(text.into()));
        let key = |version, origin, position| OrderKey { version, origin, position };
        for (at, key) in [
            key(PackedVersion::None, 7, 7),
            key(PackedVersion::Time(3), 1, 8),
            key(PackedVersion::Integer(-4), 9, 9),
            key(text("a"), 10, 10),
            key(text("b"), 5, 11),
            key(text("b"), 6, 10),
        ]
        .into_iter()
        .enumerate()
        {
            let admitted = index.admit(hash(1), key.clone(), false, Loc::tail(0, at as u32));
            assert!(!matches!(admitted, Admission::Late | Admission::Repeated), "{key:?}");
            assert_eq!(index.order(hash(1)), Some(key.clone()));
            assert_eq!(index.admit(hash(1), key, false, Loc::DELETED), Admission::Repeated);
        }
        assert_eq!(index.admit(hash(1), key(text("b"), 5, 99), false, Loc::DELETED), Admission::Late, "by its origin");
        let inherited = index.admit(hash(1), key(PackedVersion::None, 12, 12), true, Loc::DELETED);
        assert_eq!(inherited, Admission::Replaced { was: Loc::tail(0, 5), position: 10 });
        assert_eq!(index.order(hash(1)), Some(key(text("b"), 12, 12)));
    }

    #[test]
    fn a_place_reads_back_from_its_packed_form() {
        assert_eq!(Loc::file(7, u32::MAX).place(), RowPlace::File { file: 7, row: u32::MAX });
        assert_eq!(Loc::tail(9, 1).place(), RowPlace::Tail { chunk: 9, row: 1 });
        assert_eq!(Loc::DELETED.place(), RowPlace::Deleted);
    }
}
