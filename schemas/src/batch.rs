//! How anything lies on the log: a header in clear, a compressed body, a checksum over both.

use std::cell::RefCell;

use bytes::Bytes;

use crate::ids::TenantId;
use crate::trace::Trace;
use crate::wire::{self, Reader, WireError};

/// The newest version of the batch format that this build writes: 2 where the header has a trace, 1 otherwise. Every version
/// ever written stays readable.
pub const FORMAT_VERSION: u8 = 2;
const WITHOUT_TRACE: u8 = 1;

/// A body larger than this is refused when read, so that a broken length cannot ask for all memory.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// What a batch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BatchKind {
    /// `inputs`: records of one lane of one stream.
    Records = 1,
    /// `inputs`: one [`crate::Input`] as JSON.
    Control = 2,
    /// `events`: rows accepted, deleted or withdrawn, of one stream.
    Rows = 3,
    /// `events`: one [`crate::event::ViewControl`] as JSON.
    ViewControl = 4,
    /// `decisions`: [`crate::Decision`]s, one JSON a line.
    Decisions = 5,
    /// `inputs`: records of one stream that were held, on their way again; each says where it first entered.
    Redriven = 6,
}

impl BatchKind {
    fn from_wire(number: u8) -> Result<Self, WireError> {
        Ok(match number {
            1 => Self::Records,
            2 => Self::Control,
            3 => Self::Rows,
            4 => Self::ViewControl,
            5 => Self::Decisions,
            6 => Self::Redriven,
            _ => return Err(WireError::Invalid("a batch kind")),
        })
    }
}

/// What stands in clear before a batch's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// What the body is.
    pub kind: BatchKind,
    /// The owner.
    pub tenant: TenantId,
    /// The stream (`connection/stream`) on `inputs` and `decisions`, the entity on `events`.
    pub subject: String,
    /// Items, each with an offset of its own.
    pub count: u32,
    /// When the log took it, in microseconds since 1970 UTC; set by the log.
    pub logged_at: i64,
    /// The key that seals the body; 0 is none.
    pub key_id: u32,
    /// The trace of the request that it comes from.
    pub trace: Option<Trace>,
}

/// A batch with its body as it is before compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What stands in clear.
    pub header: BatchHeader,
    /// The body.
    pub body: Bytes,
}

/// Bytes that are no batch of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Written by a newer build.
    #[error("the batch has format version {0}, this build reads up to {FORMAT_VERSION}: use a newer autonomos")]
    NewerFormat(u8),
    /// Bits have changed.
    #[error("the batch fails its checksum: the bytes are damaged")]
    Checksum,
    /// The body cannot be unpacked.
    #[error("the batch body cannot be unpacked")]
    Unpack,
    /// Sealed with a key that is not here.
    #[error("the batch is sealed with key {0} of its tenant, which is not here")]
    Sealed(u32),
    /// The bytes do not follow the format.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A header takes at most so many bytes beside its subject, the length and the codec of the body among them.
const HEADER_BYTES: usize = 128;
const CODEC_NONE: u8 = 0;
const CODEC_LZ4: u8 = 1;
/// Below this, compression costs more than it saves.
const COMPRESS_FROM_BYTES: usize = 256;
/// What stands before a packed body, and what sealing puts behind it.
const ENDS_BYTES: usize = 32;
/// Room that a thread keeps for compressing.
const ROOM_BYTES_MAX: usize = 2 << 20;

thread_local! {
    /// Used once more for each body: the greatest size that a body may come to is several times what it comes to, and
    /// fresh memory would have to be cleared.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Batch {
    /// The batch as it lies on disk: version, checksum, header, body.
    pub fn encode(&self) -> Vec<u8> {
        let packed_bytes = if self.header.key_id == 0 { self.body.len() / 2 } else { self.body.len() };
        let mut out = Vec::with_capacity(HEADER_BYTES + self.header.subject.len() + packed_bytes);
        let version = if self.header.trace.is_some() { FORMAT_VERSION } else { WITHOUT_TRACE };
        out.push(version);
        out.extend_from_slice(&[0; 8]);
        let header = &self.header;
        out.push(header.kind as u8);
        out.extend_from_slice(&header.tenant.to_bytes());
        wire::put_bytes(&mut out, header.subject.as_bytes());
        wire::put_u64(&mut out, u64::from(header.count));
        wire::put_i64(&mut out, header.logged_at);
        wire::put_u64(&mut out, u64::from(header.key_id));
        if let Some(trace) = &header.trace {
            out.extend_from_slice(&trace.trace_id);
            out.extend_from_slice(&trace.span_id);
            out.push(trace.flags);
        }
        if header.key_id == 0 {
            pack(&self.body, &mut out);
        } else {
            // A sealed body was packed before, and does not get smaller.
            put_plain(&self.body, &mut out);
        }
        let checksum = checksum(version, &out[9..]);
        out[1..9].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Reads an encoded batch.
    pub fn decode(bytes: &Bytes) -> Result<Self, BatchError> {
        let packed = PackedBatch::decode(bytes)?;
        let body = packed.body()?;
        Ok(Self { header: packed.header, body })
    }
}

/// Appends a body as it lies behind its header: length, codec, compressed bytes.
pub fn pack(body: &[u8], out: &mut Vec<u8>) {
    if body.len() < COMPRESS_FROM_BYTES {
        return put_plain(body, out);
    }
    ROOM.with_borrow_mut(|room| {
        // What is too long for it (2 GB) stays as it is.
        let Ok(size) = lz4::block::compress_bound(body.len()) else { return put_plain(body, out) };
        if room.len() < size {
            room.resize(size, 0);
        }
        let Ok(written) = lz4::block::compress_to_buffer(body, None, false, room) else { return put_plain(body, out) };
        out.reserve(written + ENDS_BYTES);
        wire::put_u64(out, body.len() as u64);
        out.push(CODEC_LZ4);
        out.extend_from_slice(&room[..written]);
        room.truncate(ROOM_BYTES_MAX);
        room.shrink_to(ROOM_BYTES_MAX);
    });
}

fn put_plain(body: &[u8], out: &mut Vec<u8>) {
    wire::put_u64(out, body.len() as u64);
    out.push(CODEC_NONE);
    out.extend_from_slice(body);
}

/// Reads what [`pack`] wrote.
pub fn unpack(packed: &Bytes) -> Result<Bytes, BatchError> {
    Packed::read(&mut Reader::new(packed), packed)?.body()
}

/// A body as it lies behind its header.
#[derive(Debug, Clone)]
struct Packed {
    codec: u8,
    body_len: usize,
    bytes: Bytes,
}

impl Packed {
    /// Reads up to the end of `bytes`, within which `reader` stands.
    fn read(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Self, BatchError> {
        let body_len = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
        if body_len > BODY_BYTES_MAX {
            return Err(WireError::Invalid("a body length").into());
        }
        let codec = reader.u8()?;
        let bytes = bytes.slice(bytes.len() - reader.rest().len()..);
        Ok(Self { codec, body_len, bytes })
    }

    fn body(&self) -> Result<Bytes, BatchError> {
        let body = match self.codec {
            CODEC_NONE => self.bytes.clone(),
            CODEC_LZ4 => {
                let size = i32::try_from(self.body_len).map_err(|_| BatchError::Unpack)?;
                let body = lz4::block::decompress(&self.bytes, Some(size)).map_err(|_| BatchError::Unpack)?;
                body.into()
            }
            _ => return Err(WireError::Invalid("a codec").into()),
        };
        if body.len() == self.body_len { Ok(body) } else { Err(BatchError::Unpack) }
    }
}

/// The checksum of what stands behind it. It covers the version as well, as its seed (version 1 has seed 0), so that
/// damage is not taken for a newer format; every later version keeps these nine bytes.
fn checksum(version: u8, rest: &[u8]) -> u64 {
    match version.wrapping_sub(1) {
        0 => xxhash_rust::xxh3::xxh3_64(rest),
        seed => xxhash_rust::xxh3::xxh3_64_with_seed(rest, seed.into()),
    }
}

fn read_trace(reader: &mut Reader<'_>) -> Result<Trace, WireError> {
    Ok(Trace { trace_id: reader.array()?, span_id: reader.array()?, flags: reader.u8()? })
}

/// A batch as it was read: the header in clear and checked, the body still packed.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    /// What stands in clear.
    pub header: BatchHeader,
    packed: Packed,
}

impl PackedBatch {
    /// Reads the header of an encoded batch and checks the checksum over everything.
    pub fn decode(bytes: &Bytes) -> Result<Self, BatchError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if u64::from_be_bytes(reader.array()?) != checksum(version, reader.rest()) {
            return Err(BatchError::Checksum);
        }
        if version > FORMAT_VERSION {
            return Err(BatchError::NewerFormat(version));
        }
        let header = BatchHeader {
            kind: BatchKind::from_wire(reader.u8()?)?,
            tenant: TenantId::from_bytes(reader.array()?),
            subject: reader.text()?.to_owned(),
            count: u32::try_from(reader.u64()?).map_err(|_| WireError::Invalid("a count"))?,
            logged_at: reader.i64()?,
            key_id: u32::try_from(reader.u64()?).map_err(|_| WireError::Invalid("a key id"))?,
            trace: if version > WITHOUT_TRACE { Some(read_trace(&mut reader)?) } else { None },
        };
        let packed = Packed::read(&mut reader, bytes)?;
        Ok(Self { header, packed })
    }

    /// Bytes of the packed body.
    pub fn packed_bytes(&self) -> usize {
        self.packed.bytes.len()
    }

    /// The body, unpacked; a sealed one has to be opened first.
    pub fn body(&self) -> Result<Bytes, BatchError> {
        if self.header.key_id != 0 {
            return Err(BatchError::Sealed(self.header.key_id));
        }
        self.packed.body()
    }

    /// The sealed body, which [`unpack`] reads once it is opened; nothing when it is not sealed.
    pub fn sealed(&self) -> Option<Result<Bytes, BatchError>> {
        (self.header.key_id != 0).then(|| self.packed.body())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(body: Vec<u8>) -> Batch {
        let header = BatchHeader {
            kind: BatchKind::Records,
            tenant: TenantId::from_bytes([7; 16]),
            subject: "crm/opportunity".into(),
            count: 3,
            logged_at: 1_700_000_000_000_000,
            key_id: 0,
            trace: None,
        };
        Batch { header, body: body.into() }
    }

    #[test]
    fn version_1_lies_on_disk_as_it_always_did() {
        let golden = include_str!("../golden/batch_v1.hex").trim();
        let hex: String = batch(b"{\"Id\":\"006\"}".to_vec()).encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
    }

    #[test]
    fn version_2_lies_on_disk_as_it_always_did_and_has_the_trace() {
        let golden = include_str!("../golden/batch_v2.hex").trim();
        let mut batch = batch(b"{\"Id\":\"006\"}".to_vec());
        batch.header.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
        let bytes = batch.encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(Batch::decode(&bytes.into()), Ok(batch));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut bytes = batch(vec![1; 10]).encode();
        bytes[0] = FORMAT_VERSION + 1;
        let sum = checksum(FORMAT_VERSION + 1, &bytes[9..]);
        bytes[1..9].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Batch::decode(&bytes.into()), Err(BatchError::NewerFormat(FORMAT_VERSION + 1)));
    }

    #[test]
    fn a_damaged_version_is_called_damage_and_no_newer_format() {
        let whole = batch(vec![1; 10]).encode();
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[0] ^= 1 << bit;
            assert_eq!(Batch::decode(&bytes.into()), Err(BatchError::Checksum));
        }
    }

    proptest! {
        #[test]
        fn a_body_that_was_sealed_lies_there_as_it_is(body in proptest::collection::vec(0u8..4, 0..2000)) {
            let mut sealed = batch(Vec::new());
            let mut packed = Vec::new();
            pack(&body, &mut packed);
            sealed.header.key_id = 3;
            sealed.body = packed.into();
            let read = PackedBatch::decode(&sealed.encode().into()).unwrap();
            prop_assert_eq!(read.body(), Err(BatchError::Sealed(3)));
            let found = read.sealed().unwrap().unwrap();
            prop_assert_eq!(unpack(&found).unwrap(), body);
            prop_assert!(batch(Vec::new()).encode() != sealed.encode());
        }

        #[test]
        fn a_batch_reads_back(body in proptest::collection::vec(0u8..4, 0..2000)) {
            let batch = batch(body);
            prop_assert_eq!(Batch::decode(&batch.encode().into()), Ok(batch));
        }

        #[test]
        fn one_changed_bit_is_always_noticed(
            body in proptest::collection::vec(any::<u8>(), 0..600), place: prop::sample::Index, bit in 0u8..8,
        ) {
            let mut bytes = batch(body).encode();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Batch::decode(&bytes.into()).is_err());
        }
    }
}
