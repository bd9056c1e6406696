//! An opened file: what is read of it is read from this handle, never again by its path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use super::bounds::Bounds;
use super::discover::Found;
use super::fault::Fault;
use super::stamp::Stamp;

/// Whether anybody still wants what is read: a file may be longer than anybody has patience.
#[derive(Debug, Clone)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    /// Somebody does.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
    /// Nobody does any more: whatever reads on fails.
    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A regular file that may be read.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    file: Arc<File>,
    wanted: Wanted,
    /// What it was when it was opened.
    pub(super) stamp: Stamp,
}

impl Handle {
    /// Opens what was found, unless it is no regular file or, by now, a link out of where it was found.
    pub(super) fn open(found: &Found, bounds: Option<&Bounds>, wanted: &Wanted) -> Result<Self, Fault> {
        // Opening a pipe would wait for a writer, and opening a device can do anything at all.
        let kept_waiting = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(kept_waiting.bits() as i32).open(&found.path);
        let file = file.map_err(|error| match fs::metadata(&found.path) {
            Ok(meta) if !meta.is_file() => not_regular(),
            _ => Fault::Io(error),
        })?;
        // The opened file decides, not the path: whoever writes to the folder can change what a path leads to.
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(not_regular());
        }
        if bounds.is_some() || found.base.is_some() {
            let real = real_path(&file, &found.path)?;
            let in_base = found.base.as_ref().is_none_or(|base| real.starts_with(base));
            if !in_base || bounds.is_some_and(|bounds| !bounds.admit(&real)) {
                return Err(Fault::Config("leads out of the folders in which files may be read".into()));
            }
        }
        Ok(Self { file: Arc::new(file), wanted: wanted.clone(), stamp: Stamp::of(&meta) })
    }

    /// The bytes from `start` up to `end`, or to the end of the file as it is when it is reached.
    pub(super) fn read(&self, start: u64, end: u64) -> Part {
        Part { file: self.file.clone(), wanted: self.wanted.clone(), at: start, end }
    }

    /// The stamp of the file as it is now.
    pub(super) fn stamp_now(&self) -> io::Result<Stamp> {
        self.file.metadata().map(|meta| Stamp::of(&meta))
    }

    /// The file itself.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

fn not_regular() -> Fault {
    Fault::Config("is not a regular file; name a file, a directory or a glob".into())
}

/// Where the opened file truly lies.
fn real_path(file: &File, path: &Path) -> Result<PathBuf, Fault> {
    let opened = file.metadata()?;
    if opened.nlink() == 0 {
        return Err(Fault::Io(io::Error::new(io::ErrorKind::NotFound, "the file was deleted when it was opened")));
    }
    if let Ok(real) = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        return Ok(real);
    }
    // Where the system does not tell, the path is followed again and must still lead to the same file.
    let real = fs::canonicalize(path)?;
    let there = fs::symlink_metadata(&real)?;
    if (there.dev(), there.ino()) != (opened.dev(), opened.ino()) {
        return Err(Fault::Io(io::Error::new(io::ErrorKind::ResourceBusy, "the file was replaced when it was opened")));
    }
    Ok(real)
}

/// A part of a file, read by position: several parts of one file do not disturb each other.
#[derive(Debug, Clone)]
pub(super) struct Part {
    file: Arc<File>,
    wanted: Wanted,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.wanted.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody wants the file any more"));
        }
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let len = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = || self.file.metadata().map(|meta| meta.len().min(self.end));
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => end()?.checked_add_signed(by),
        };
        self.at =
            at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the file's beginning"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_wants_any_more_is_not_read_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "0123456789").unwrap();
        let (found, wanted) = (Found { path, base: None, stamp: None }, Wanted::new());
        let Ok(handle) = Handle::open(&found, None, &wanted) else { panic!("it is there") };
        let (mut part, mut bytes) = (handle.read(0, 10), [0; 4]);
        assert_eq!(part.read(&mut bytes).unwrap(), 4);
        wanted.end();
        assert!(part.read(&mut bytes).is_err() && handle.read(0, 10).read(&mut bytes).is_err());
    }
}
