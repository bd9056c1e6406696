//! From a file's raw bytes to bytes of text: compression by its magic bytes, encodings that are not supersets of ASCII.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use encoding_rs::{CoderResult, Decoder, Encoding};
use xxhash_rust::xxh3::Xxh3;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// Gzip, of one or many members.
    Gzip,
    /// Zstandard, of one or many frames.
    Zstd,
}

impl Compression {
    /// Tells by the file's first bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A zstd stream may begin with a skippable frame.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
    /// Unpacks `raw`.
    pub(super) fn unpack(self, raw: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::None => raw,
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::with_capacity(1 << 18, raw))),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(raw)?),
        })
    }
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// What was read of a file, told while it is read.
#[derive(Clone, Default)]
pub(super) struct Meter {
    bytes: Arc<AtomicU64>,
    hash: Arc<Mutex<Xxh3>>,
}

impl Meter {
    /// How many raw bytes were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    /// Says how much was read, where nothing is read through [`Metered`].
    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }
    /// The hash of the raw bytes.
    pub(super) fn hash(&self) -> Xxh3 {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells a meter what is read.
pub(super) struct Metered<R> {
    inner: R,
    meter: Meter,
    hashed: bool,
}

impl<R> Metered<R> {
    /// Tells `meter` how much is read from `inner`, and, `hashed`, what.
    pub(super) fn new(inner: R, meter: Meter, hashed: bool) -> Self {
        Self { inner, meter, hashed }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        if self.hashed {
            self.meter.hash.lock().unwrap_or_else(PoisonError::into_inner).update(&buffer[..len]);
        }
        self.meter.bytes.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

/// Turns text of any encoding into UTF-8; what is broken becomes U+FFFD.
pub(super) struct Transcoded<R> {
    inner: R,
    decoder: Decoder,
    raw: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    // Text that did not fit into the caller's buffer.
    text: Vec<u8>,
    text_start: usize,
    text_end: usize,
}

impl<R: Read> Transcoded<R> {
    /// Reads `inner` as `encoding`; a byte order mark is taken off.
    pub(super) fn new(inner: R, encoding: &'static Encoding) -> Self {
        Self {
            inner,
            decoder: encoding.new_decoder_with_bom_removal(),
            raw: vec![0; 1 << 16],
            start: 0,
            end: 0,
            ended: false,
            text: vec![0; 1 << 16],
            text_start: 0,
            text_end: 0,
        }
    }

    fn decode_more(&mut self) -> io::Result<()> {
        while self.text_start == self.text_end {
            if self.start == self.end && !self.ended {
                self.start = 0;
                self.end = self.inner.read(&mut self.raw)?;
                self.ended = self.end == 0;
            }
            let (result, read, written, _) =
                self.decoder.decode_to_utf8(&self.raw[self.start..self.end], &mut self.text, self.ended);
            self.start += read;
            self.text_start = 0;
            self.text_end = written;
            if self.ended && result == CoderResult::InputEmpty {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Transcoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A decoder that was told of the end must not be called again.
        let finished = self.ended && self.start == self.end;
        if self.text_start == self.text_end && !finished {
            self.decode_more()?;
        }
        let len = buffer.len().min(self.text_end - self.text_start);
        buffer[..len].copy_from_slice(&self.text[self.text_start..self.text_start + len]);
        self.text_start += len;
        Ok(len)
    }
}

/// Reads until `len` bytes or the end.
pub(super) fn read_head(reader: impl Read, len: usize) -> (Vec<u8>, io::Result<()>) {
    let mut head = Vec::new();
    let result = reader.take(len as u64).read_to_end(&mut head).map(drop);
    (head, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_encoding_becomes_utf_8_through_buffers_of_any_size() {
        let text = "größe,€,日本\n".repeat(20_000);
        let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let mut reader = Transcoded::new(&utf16[..], encoding_rs::UTF_16LE);
        let mut out = Vec::new();
        let mut buffer = [0u8; 7];
        loop {
            let len = reader.read(&mut buffer).unwrap();
            if len == 0 {
                break;
            }
            out.extend_from_slice(&buffer[..len]);
        }
        assert_eq!(String::from_utf8(out).unwrap(), text);
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn half_a_character_at_the_end_is_marked() {
        let mut out = String::new();
        Transcoded::new(&b"a\0b"[..], encoding_rs::UTF_16LE).read_to_string(&mut out).unwrap();
        assert_eq!(out, "a\u{fffd}");
    }
}
