//! The beginning of a file, by which it is known again; and what this process remembers of it, so that a file is not read
//! only to see that nothing is new.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::handle::Handle;
use super::stamp::{Moment, Stamp};

/// Up to this size a beginning is simply hashed again when its file changed.
const CHEAP_BYTES: u64 = 64 << 20;

/// Bytes at the two ends of a beginning that are looked at when it is too large to be hashed again each time.
const EDGE_BYTES: u64 = 64 << 10;

/// Files of which something is remembered, at most.
const FILES_MAX: usize = 1 << 16;

/// The first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    /// How many.
    pub(super) bytes: u64,
    /// Their xxh3.
    pub(super) hash: u128,
}

impl Prefix {
    /// What `hash` has taken in.
    pub(super) fn of(bytes: u64, hash: &Xxh3) -> Self {
        Self { bytes, hash: hash.digest128() }
    }
}

/// What is remembered of a file.
struct Entry {
    seen: Stamp,
    since: Instant,
    fact: Option<Fact>,
}

/// The file with this stamp begins with this prefix.
struct Fact {
    stamp: Stamp,
    prefix: Prefix,
    /// Whether the file with the same stamp is surely the same; if it was just written, another writing may look alike.
    distinct: bool,
    /// Kept for a large one only.
    running: Option<Box<Running>>,
}

/// By which a large beginning goes on without being read again.
struct Running {
    hash: Xxh3,
    edges: u128,
    /// How large it was when it was last read as a whole.
    verified: u64,
}

/// Only a cache: what is not in it is found out from the file.
static ENTRIES: LazyLock<Mutex<HashMap<u128, Entry>>> = LazyLock::new(Mutex::default);

fn entries() -> MutexGuard<'static, HashMap<u128, Entry>> {
    // An entry is only ever replaced as a whole, so a panic elsewhere leaves nothing half done.
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id(path: &Path) -> u128 {
    xxh3_128(path.as_os_str().as_encoded_bytes())
}

/// Takes note of the file's stamp; for how long it was the same whenever this process looked.
pub(super) fn rested(path: &Path, stamp: Stamp, now: Moment) -> Duration {
    let mut entries = entries();
    let id = id(path);
    if entries.len() >= FILES_MAX
        && !entries.contains_key(&id)
        && let Some(any) = entries.keys().next().copied()
    {
        entries.remove(&any);
    }
    let entry = entries.entry(id).or_insert_with(|| Entry { seen: stamp, since: now.steady, fact: None });
    if entry.seen != stamp {
        (entry.seen, entry.since) = (stamp, now.steady);
    }
    now.steady.saturating_duration_since(entry.since)
}

/// Remembers how a file begins that was read as far as that, `from_start` or behind a beginning that was checked.
pub(super) fn remember(path: &Path, handle: &Handle, hash: &Xxh3, prefix: Prefix, from_start: bool, now: Moment) {
    // Taken after the reading: a file that changes from now on has another stamp.
    let Ok(stamp) = handle.stamp_now() else {
        return;
    };
    let edges = (prefix.bytes > CHEAP_BYTES).then(|| edges(handle, prefix.bytes).ok()).flatten();
    let mut entries = entries();
    let Some(entry) = entries.get_mut(&id(path)) else {
        return;
    };
    let verified = match &entry.fact {
        _ if from_start => prefix.bytes,
        Some(Fact { running: Some(running), .. }) => running.verified,
        _ => 0,
    };
    let running = edges.map(|edges| Box::new(Running { hash: hash.clone(), edges, verified }));
    entry.fact = Some(Fact { stamp, prefix, distinct: stamp.is_distinct(now.wall), running });
}

/// Whether the file is surely the one that began with `prefix`, without reading it.
pub(super) fn is_known(path: &Path, stamp: Stamp, prefix: Prefix) -> bool {
    let entries = entries();
    let fact = entries.get(&id(path)).and_then(|entry| entry.fact.as_ref());
    fact.is_some_and(|fact| fact.distinct && fact.stamp == stamp && fact.prefix == prefix)
}

/// How a beginning was checked.
pub(super) struct Checked {
    /// Goes on behind the beginning; `None` where the file begins otherwise.
    pub(super) hash: Option<Xxh3>,
    /// Bytes that were read for it.
    pub(super) bytes_read: u64,
}

/// Checks whether the opened file begins with `prefix`.
///
/// A large file that grew is not read as a whole each time: it must still be the same inode, with the same bytes at both
/// ends of the former beginning; all of it is read once it has grown by a quarter. So a file that grows for ever costs a
/// few readings in all, and one that was written anew without being replaced, longer, and otherwise in its middle alone, is
/// found out at the latest then. One that changed and did not grow is read as a whole.
pub(super) fn check(path: &Path, handle: &Handle, prefix: Prefix, now: Moment) -> io::Result<Checked> {
    if let Some((hash, edges_then)) = running(path, handle.stamp, prefix)
        && edges(handle, prefix.bytes)? == edges_then
    {
        return Ok(Checked { hash: Some(hash), bytes_read: 2 * EDGE_BYTES });
    }
    let mut hash = Xxh3::new();
    let bytes_read = hash_part(&mut hash, handle.read(0, prefix.bytes))?;
    if Prefix::of(bytes_read, &hash) != prefix {
        return Ok(Checked { hash: None, bytes_read });
    }
    remember(path, handle, &hash, prefix, true, now);
    Ok(Checked { hash: Some(hash), bytes_read })
}

fn running(path: &Path, stamp: Stamp, prefix: Prefix) -> Option<(Xxh3, u128)> {
    let entries = entries();
    let fact = entries.get(&id(path))?.fact.as_ref()?;
    let running = fact.running.as_ref()?;
    let is_same = fact.stamp.is_of_same_file(&stamp) && fact.prefix == prefix && stamp.size > fact.stamp.size;
    let grew = prefix.bytes.saturating_sub(running.verified);
    (is_same && grew <= running.verified / 4).then(|| (running.hash.clone(), running.edges))
}

/// A hash of the two ends of the first `bytes` bytes.
fn edges(handle: &Handle, bytes: u64) -> io::Result<u128> {
    let mut hash = Xxh3::new();
    hash_part(&mut hash, handle.read(0, EDGE_BYTES.min(bytes)))?;
    hash_part(&mut hash, handle.read(bytes.saturating_sub(EDGE_BYTES), bytes))?;
    Ok(hash.digest128())
}

/// Adds all bytes of `part` to `hash`; how many there were.
pub(super) fn hash_part(hash: &mut Xxh3, mut part: impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    loop {
        match part.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(len) => {
                hash.update(&buffer[..len]);
                done += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
