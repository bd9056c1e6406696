//! How anything lies on the log: a header in clear, a compressed body, a checksum over both.

use bytes::Bytes;

use crate::ids::TenantId;
use crate::wire::{self, Reader, WireError};

/// The version of the batch format that this build writes. Every version ever written stays readable.
pub const FORMAT_VERSION: u8 = 1;

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
    #[error("the batch is sealed with key {0}, which is not available")]
    Sealed(u32),
    /// The bytes do not follow the format.
    #[error(transparent)]
    Wire(#[from] WireError),
}

const CODEC_NONE: u8 = 0;
const CODEC_LZ4: u8 = 1;
/// Below this, compression costs more than it saves.
const COMPRESS_FROM_BYTES: usize = 256;

impl Batch {
    /// The batch as it lies on disk: version, checksum, header, body.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() / 2 + 128);
        out.push(FORMAT_VERSION);
        out.extend_from_slice(&[0; 8]);
        let header = &self.header;
        out.push(header.kind as u8);
        out.extend_from_slice(&header.tenant.to_bytes());
        wire::put_bytes(&mut out, header.subject.as_bytes());
        wire::put_u64(&mut out, u64::from(header.count));
        wire::put_i64(&mut out, header.logged_at);
        wire::put_u64(&mut out, u64::from(header.key_id));
        wire::put_u64(&mut out, self.body.len() as u64);
        if self.body.len() < COMPRESS_FROM_BYTES {
            out.push(CODEC_NONE);
            out.extend_from_slice(&self.body);
        } else {
            out.push(CODEC_LZ4);
            let start = out.len();
            out.resize(start + lz4_flex::block::get_maximum_output_size(self.body.len()), 0);
            let written = lz4_flex::block::compress_into(&self.body, &mut out[start..])
                .expect("the room is the largest output size");
            out.truncate(start + written);
        }
        let checksum = checksum(FORMAT_VERSION, &out[9..]);
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

/// The checksum of what stands behind it. It covers the version as well, as its seed (version 1 has seed 0), so that
/// damage is not taken for a newer format; every later version keeps these nine bytes.
fn checksum(version: u8, rest: &[u8]) -> u64 {
    match version.wrapping_sub(1) {
        0 => xxhash_rust::xxh3::xxh3_64(rest),
        seed => xxhash_rust::xxh3::xxh3_64_with_seed(rest, seed.into()),
    }
}

/// A batch as it was read: the header in clear and checked, the body still packed.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    /// What stands in clear.
    pub header: BatchHeader,
    codec: u8,
    body_len: usize,
    packed: Bytes,
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
        };
        let body_len = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
        if body_len > BODY_BYTES_MAX {
            return Err(WireError::Invalid("a body length").into());
        }
        let codec = reader.u8()?;
        let packed = bytes.slice(bytes.len() - reader.rest().len()..);
        Ok(Self { header, codec, body_len, packed })
    }

    /// Bytes of the packed body.
    pub fn packed_bytes(&self) -> usize {
        self.packed.len()
    }

    /// The body, unpacked.
    pub fn body(&self) -> Result<Bytes, BatchError> {
        if self.header.key_id != 0 {
            return Err(BatchError::Sealed(self.header.key_id));
        }
        let body = match self.codec {
            CODEC_NONE => self.packed.clone(),
            CODEC_LZ4 => {
                let mut body = vec![0; self.body_len];
                let written =
                    lz4_flex::block::decompress_into(&self.packed, &mut body).map_err(|_| BatchError::Unpack)?;
                body.truncate(written);
                body.into()
            }
            _ => return Err(WireError::Invalid("a codec").into()),
        };
        if body.len() == self.body_len { Ok(body) } else { Err(BatchError::Unpack) }
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
