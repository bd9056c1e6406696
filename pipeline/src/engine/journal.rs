//! A look at the database's journals before it opens them.
//!
//! The database cuts a journal off at the first entry that it cannot read, as a write that a power cut broke off must be.
//! It does so anywhere in the file: one damaged byte would take every acknowledged batch behind it along, unseen. Here
//! such a file is refused, untouched, when whole batches stand behind the damage. What is left out are holes: after a power
//! cut pages that were never synced may be missing in front of others that are there, and a hole is a page that ends
//! in zeros. A batch of the last journal that lacks a whole page, its end in place, would be refused by the database for its
//! checksum: it is cut off here, with what stands behind it. Damage in the last batch of all cannot be told from a write that was broken off.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::OpenError;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];
const START_BYTES: usize = 13;
const ITEM_HEAD_BYTES: usize = 21;
const CLEAR_BYTES: usize = 9;
const END_BYTES: usize = 13;
const PAGE_BYTES: u64 = 4096;
/// A page that ends in so many zeros was not written.
const HOLE_BYTES: u64 = 16;
const BUFFER_BYTES: usize = 1 << 18;

/// Damage that the database would not tell, or not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// Whole batches stand behind damage that begins here.
    Inside(u64),
    /// From here on are pages that were never synced, and the database would not cut them off.
    Torn(u64),
}

/// Refuses journals that have whole batches behind damage; cuts off what was never synced.
pub(super) fn check(database: &Path) -> Result<(), OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let all = journals(database).map_err(at(database))?;
    let mut torn = None;
    for (place, path) in all.iter().enumerate() {
        match damage(path).map_err(at(path))? {
            // A journal is synced before the next one is begun: only the last one can lack what was never synced.
            Some(Damage::Torn(offset)) if place + 1 == all.len() => torn = Some((path, offset)),
            Some(Damage::Torn(offset) | Damage::Inside(offset)) => {
                return Err(OpenError::Journal { path: path.clone(), offset });
            }
            None => {}
        }
    }
    match torn {
        Some((path, offset)) => cut_off(path, offset).map_err(at(path)),
        None => Ok(()),
    }
}

fn cut_off(path: &Path, offset: u64) -> std::io::Result<()> {
    tracing::warn!(path = %path.display(), offset, "a write that was broken off is cut off from the journal");
    let file = File::options().write(true).open(path)?;
    file.set_len(offset)?;
    file.sync_all()
}

fn journals(database: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            journals.push(path);
        }
    }
    // The database numbers them.
    journals.sort_by_key(|path| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
    Ok(journals)
}

/// What is wrong with a journal, if anything is.
fn damage(path: &Path) -> std::io::Result<Option<Damage>> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut valid = 0;
    let is_wrong = loop {
        match next_batch(&mut file)? {
            Next::Whole => valid = file.stream_position()?,
            Next::Wrong => break true,
            Next::Nothing => break false,
        }
    };
    let rest = without_zeros(file.into_inner(), valid)?;
    let next = (1..rest.len()).find(|at| is_batch(&rest[*at..]));
    let before = &rest[..next.unwrap_or(rest.len())];
    Ok(match next {
        // Its end is there: what is missing inside are whole pages.
        _ if is_wrong && has_hole(before, valid, PAGE_BYTES) => Some(Damage::Torn(valid)),
        Some(_) if is_wrong || !has_hole(before, valid, HOLE_BYTES) => Some(Damage::Inside(valid)),
        _ => None,
    })
}

/// What stands next in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A batch, its checksum right.
    Whole,
    /// A batch from beginning to end whose checksum is wrong.
    Wrong,
    /// None, or none that can be made out.
    Nothing,
}

/// Goes behind the next batch.
fn next_batch(file: &mut BufReader<File>) -> std::io::Result<Next> {
    let mut head = [0; ITEM_HEAD_BYTES];
    let mut read = |file: &mut BufReader<File>, bytes: usize| match file.read_exact(&mut head[..bytes]) {
        Ok(()) => Ok(Some(head)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    };
    if read(file, START_BYTES)?.is_none_or(|head| head[0] != START) {
        return Ok(Next::Nothing);
    }
    let mut checksum = Xxh3::new();
    loop {
        let Some(tag) = read(file, 1)? else { return Ok(Next::Nothing) };
        let bytes = match tag[0] {
            ITEM => ITEM_HEAD_BYTES - 1,
            CLEAR => CLEAR_BYTES - 1,
            END => {
                let Some(end) = read(file, END_BYTES - 1)? else { return Ok(Next::Nothing) };
                let is_whole = end[..8] == checksum.digest().to_le_bytes();
                return Ok(match end[8..12] == TRAILER {
                    true if is_whole => Next::Whole,
                    true => Next::Wrong,
                    false => Next::Nothing,
                });
            }
            _ => return Ok(Next::Nothing),
        };
        let Some(head) = read(file, bytes)? else { return Ok(Next::Nothing) };
        checksum.update(&tag[..1]);
        checksum.update(&head[..bytes]);
        if tag[0] == ITEM {
            let Some(bytes) = item_bytes(&head[..bytes]) else { return Ok(Next::Nothing) };
            if !take_in(file, bytes, &mut checksum)? {
                return Ok(Next::Nothing);
            }
        }
    }
}

/// Takes the next bytes into a checksum; false when the file ends before.
fn take_in(file: &mut BufReader<File>, mut bytes: usize, checksum: &mut Xxh3) -> std::io::Result<bool> {
    while bytes > 0 {
        let buffer = file.fill_buf()?;
        let part = buffer.len().min(bytes);
        if part == 0 {
            return Ok(false);
        }
        checksum.update(&buffer[..part]);
        file.consume(part);
        bytes -= part;
    }
    Ok(true)
}

/// Bytes of an item's key and value, from what stands behind its tag: type, compression, keyspace, three lengths.
fn item_bytes(head: &[u8]) -> Option<usize> {
    let [value_type, compression, ..] = *head else { return None };
    let key = u16::from_le_bytes(head.get(10..12)?.try_into().ok()?);
    let value = u32::from_le_bytes(head.get(16..20)?.try_into().ok()?);
    (matches!(value_type, 0 | 1 | 2 | 4) && compression <= 1).then_some(usize::from(key) + value as usize)
}

/// Whether a whole batch begins here, its checksum right.
fn is_batch(bytes: &[u8]) -> bool {
    if bytes[0] != START || !matches!(bytes.get(START_BYTES), Some(&(ITEM | CLEAR))) {
        return false;
    }
    let mut at = START_BYTES;
    loop {
        let bytes_of_entry = match bytes.get(at) {
            Some(&ITEM) => bytes.get(at + 1..at + ITEM_HEAD_BYTES).and_then(item_bytes).map(|n| n + ITEM_HEAD_BYTES),
            Some(&CLEAR) => Some(CLEAR_BYTES),
            Some(&END) => {
                let Some(end) = bytes.get(at + 1..at + END_BYTES) else { return false };
                let checksum = xxh3_64(&bytes[START_BYTES..at]).to_le_bytes();
                return end[..8] == checksum && end[8..] == TRAILER;
            }
            _ => None,
        };
        let Some(bytes_of_entry) = bytes_of_entry else { return false };
        at += bytes_of_entry;
    }
}

/// What stands in a file from `start` on, without the zeros at its end: a journal is made longer than it is used. Holes are
/// not read.
fn without_zeros(mut file: File, start: u64) -> std::io::Result<Vec<u8>> {
    let mut chunk = vec![0; 1 << 16];
    let (mut rest, mut at) = (Vec::new(), start);
    while let Some(data) = next_data(&file, at)? {
        at = file.seek(SeekFrom::Start(data))?;
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        if let Some(last) = chunk[..read].iter().rposition(|byte| *byte != 0) {
            rest.resize((at - start) as usize, 0);
            rest.extend_from_slice(&chunk[..=last]);
        }
        at += read as u64;
    }
    Ok(rest)
}

/// Where, from `at` on, a file has bytes that are written; `at` where the file system cannot say.
fn next_data(file: &File, at: u64) -> std::io::Result<Option<u64>> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(Some(at)),
        Err(error) => Err(error.into()),
    }
}

/// Whether a page of `bytes`, which begin at `start` of the file, ends in so many zeros.
fn has_hole(bytes: &[u8], start: u64, zeros: u64) -> bool {
    let end = start + bytes.len() as u64;
    let mut page_end = (start / PAGE_BYTES + 1) * PAGE_BYTES;
    while page_end <= end {
        let from = page_end.saturating_sub(zeros).max(start);
        let zeros = &bytes[(from - start) as usize..(page_end - start) as usize];
        if zeros.iter().all(|byte| *byte == 0) {
            return true;
        }
        page_end += PAGE_BYTES;
    }
    false
}

#[cfg(test)]
mod tests {
    use schemas::Topic;

    use super::*;
    use crate::engine::{Embedded, Partitions};
    use crate::log::conformance::batch;
    use crate::log::{Durability, EmbeddedLog, Log};

    const BATCHES: usize = 40;

    fn body(n: usize) -> String {
        (0..200).map(|i| format!("{n}:{} ", i * i * (n + 7))).collect()
    }

    async fn folder_with_batches() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let log = Embedded::open(folder.path(), Partitions::default()).unwrap().log();
        for n in 0..BATCHES {
            log.append(Topic::Inputs, 0, vec![batch(&body(n), 1)], Durability::Durable).await.unwrap();
        }
        // Its loss could not be told from a write that was broken off.
        log.append(Topic::Inputs, 1, vec![batch("last", 1)], Durability::Durable).await.unwrap();
        folder
    }

    fn journal(folder: &Path) -> PathBuf {
        let mut all = journals(&folder.join("engine")).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn batch_starts(path: &Path) -> Vec<u64> {
        let mut file = BufReader::new(File::open(path).unwrap());
        let mut starts = vec![0];
        while next_batch(&mut file).unwrap() == Next::Whole {
            starts.push(file.stream_position().unwrap());
        }
        starts
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }

    async fn texts(log: &EmbeddedLog) -> Option<Vec<String>> {
        let (mut texts, end) = (Vec::new(), log.end(Topic::Inputs, 0).await.unwrap());
        while (texts.len() as u64) < end {
            let read = log.read(Topic::Inputs, 0, texts.len() as u64, usize::MAX).await.ok()?;
            for stored in read {
                texts.push(String::from_utf8(stored.body(Topic::Inputs, 0).ok()??.to_vec()).unwrap());
            }
        }
        log.damage(Topic::Inputs, 0).is_none().then_some(texts)
    }

    #[tokio::test]
    async fn a_journal_with_whole_batches_behind_damage_is_refused_and_not_touched() {
        let folder = folder_with_batches().await;
        let path = journal(folder.path());
        let starts = batch_starts(&path);
        assert!(starts.len() > BATCHES);
        let middle = starts[starts.len() / 2];
        for at in [middle, middle + 13, middle + 13 + 12] {
            flip(&path, at as usize);
            let damaged = fs::read(&path).unwrap();
            let refused = Embedded::open(folder.path(), Partitions::default()).err().unwrap();
            assert!(matches!(refused, OpenError::Journal { offset, .. } if offset == middle), "{refused}");
            assert!(fs::read(&path).unwrap() == damaged);
            flip(&path, at as usize);
        }
        let log = Embedded::open(folder.path(), Partitions::default()).unwrap().log();
        assert_eq!(texts(&log).await.unwrap().len(), BATCHES);
    }

    #[tokio::test]
    async fn a_write_that_was_broken_off_is_cut_off_with_what_was_never_synced_behind_it() {
        let folder = folder_with_batches().await;
        let path = journal(folder.path());
        let starts = batch_starts(&path);
        let kept = fs::read(&path).unwrap();
        let mut torn = kept.clone();
        let last = starts[starts.len() - 2] as usize;
        torn[last + 30..].fill(0);
        fs::write(&path, &torn).unwrap();
        drop(Embedded::open(folder.path(), Partitions::default()).unwrap());
        let mut hole = kept.clone();
        let page = starts[20].div_ceil(PAGE_BYTES) * PAGE_BYTES;
        hole[starts[20] as usize..page as usize].fill(0);
        fs::write(&path, &hole).unwrap();
        assert_eq!(damage(&path).unwrap(), None);
    }

    #[tokio::test]
    async fn a_last_batch_that_lacks_a_page_is_cut_off_though_its_end_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let log = Embedded::open(folder.path(), Partitions::default()).unwrap().log();
        let large: String = (0..20_000_u64).map(|n| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        for body in ["first", &large] {
            log.append(Topic::Inputs, 0, vec![batch(body, 1)], Durability::Durable).await.unwrap();
        }
        drop(log);
        let path = journal(folder.path());
        let starts = batch_starts(&path);
        let [.., last, end] = starts[..] else { panic!("{starts:?}") };
        let page = (last / PAGE_BYTES + 1) * PAGE_BYTES;
        assert!(page + PAGE_BYTES < end);
        let mut bytes = fs::read(&path).unwrap();
        bytes[page as usize..(page + PAGE_BYTES) as usize].fill(0);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(damage(&path).unwrap(), Some(Damage::Torn(last)));
        let number: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let next = path.with_file_name(format!("{}.jnl", number + 1));
        fs::write(&next, b"").unwrap();
        let refused = check(path.parent().unwrap()).unwrap_err();
        assert!(
            matches!(refused, OpenError::Journal { offset, .. } if offset == last),
            "a later one is begun: {refused}"
        );
        assert!(fs::read(&path).unwrap() == bytes, "and it is not touched");
        fs::remove_file(next).unwrap();
        let log = Embedded::open(folder.path(), Partitions::default()).unwrap().log();
        assert_eq!(texts(&log).await.unwrap(), ["first"]);
    }

    #[tokio::test]
    async fn a_changed_byte_anywhere_in_the_folder_loses_nothing_unseen() {
        let folder = folder_with_batches().await;
        let expected: Vec<String> = (0..BATCHES).map(body).collect();
        for is_flushed in [false, true] {
            if is_flushed {
                let shared = crate::engine::Shared::open(folder.path(), Partitions::default(), 1).unwrap();
                shared.keyspaces.all().for_each(|keyspace| keyspace.rotate_memtable_and_wait().unwrap());
            }
            let files = files(&folder.path().join("engine"));
            let mut random = 0x9E37_79B9_7F4A_7C15_u64;
            for turn in 0..40 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (path, len) = &files[(random >> 33) as usize % files.len()];
                let at = (random >> 20) as usize % len;
                let copy = tempfile::tempdir().unwrap();
                copy_folder(folder.path(), copy.path());
                flip(&copy.path().join(path.strip_prefix(folder.path()).unwrap()), at);
                let Ok(opened) = Embedded::open(copy.path(), Partitions::default()) else { continue };
                if let Some(found) = texts(&opened.log()).await {
                    assert!(found == expected, "turn {turn}: byte {at} of {} of {len}", path.display());
                }
            }
        }
    }

    /// Files with the length up to their last byte that is not zero.
    fn files(folder: &Path) -> Vec<(PathBuf, usize)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(self::files(&path));
            } else if let Some(last) = fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0) {
                files.push((path, last + 1));
            }
        }
        files.sort();
        files
    }

    fn copy_folder(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let copy = to.join(path.file_name().unwrap());
            if path.is_dir() {
                fs::create_dir(&copy).unwrap();
                copy_folder(&path, &copy);
            } else if path.extension().is_some_and(|extension| extension == "jnl") {
                // Most of it is room that is not used yet.
                let bytes = fs::read(&path).unwrap();
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                fs::write(&copy, &bytes[..used]).unwrap();
            } else {
                fs::copy(&path, &copy).unwrap();
            }
        }
    }
}
