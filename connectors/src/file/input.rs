//! A window on the bytes of a file: big reads, no copies, an offset, and a hash of what was consumed.

use std::io::{self, Read};

use schemas::record::RECORD_BYTES_MAX;
use xxhash_rust::xxh3::Xxh3;

const WINDOW_BYTES: usize = 1 << 20;
const WINDOW_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// Reads forward; what was not consumed stays in the window.
pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    window: Vec<u8>,
    start: usize,
    end: usize,
    hashed: usize,
    hash: Xxh3,
    offset: u64,
    ended: bool,
    transcoded: bool,
}

impl Input {
    /// An input whose first byte is at `offset` of the file.
    pub(super) fn new(reader: Box<dyn Read + Send>, offset: u64) -> Self {
        let window = vec![0; WINDOW_BYTES];
        Self { reader, window, start: 0, end: 0, hashed: 0, hash: Xxh3::new(), offset, ended: false, transcoded: false }
    }
    /// Goes on with the hash of what stands before.
    pub(super) fn with_hash(mut self, hash: Xxh3) -> Self {
        self.hash = hash;
        self
    }
    /// The bytes were turned into UTF-8 on the way, with U+FFFD for what was broken.
    pub(super) fn with_transcoding(mut self) -> Self {
        self.transcoded = true;
        self
    }
    /// The bytes in the window.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.window[self.start..self.end]
    }
    /// The offset of the first byte in the window.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
    /// Whether these bytes lost something when they were turned into UTF-8.
    pub(super) fn is_lossy(&self, bytes: &[u8]) -> bool {
        self.transcoded && memchr::memmem::find(bytes, "\u{fffd}".as_bytes()).is_some()
    }
    /// Lets the first `len` bytes of the window go.
    #[inline]
    pub(super) fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.end - self.start, "only what is in the window is consumed");
        self.start += len;
        self.offset += len as u64;
    }
    /// The hash of everything consumed, to go on with.
    pub(super) fn hash(&mut self) -> Xxh3 {
        self.hash_consumed();
        self.hash.clone()
    }
    /// Reads more into the window; `false` at the end of the file.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.end == self.window.len() {
            self.make_room()?;
        }
        loop {
            match self.reader.read(&mut self.window[self.end..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(len) => {
                    self.end += len;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    /// Whether nothing is left at all.
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        while self.start == self.end {
            if !self.fill()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn make_room(&mut self) -> io::Result<()> {
        self.hash_consumed();
        if self.start > 0 {
            self.window.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.hashed = 0;
            return Ok(());
        }
        if self.window.len() >= WINDOW_BYTES_MAX {
            return Err(io::Error::other("a record does not fit into the read window"));
        }
        self.window.resize(self.window.len() * 2, 0);
        Ok(())
    }

    fn hash_consumed(&mut self) {
        self.hash.update(&self.window[self.hashed..self.start]);
        self.hashed = self.start;
    }
}
