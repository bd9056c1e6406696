//! Shapes: the set of (path, type) of a stream's records, and its order-free fingerprint, found in one pass over the bytes.

mod leaves;
mod scan;
mod tree;
mod walk;

use serde::{Deserialize, Serialize};

pub use leaves::leaves;
pub use tree::{ELEMENTS, Fingerprint, NodeId, ObservedType, ShapeTree, join, join_formerly};
pub use walk::{Slot, SlotKind, WalkError, Walker, unescape};

/// Deeper payloads are refused.
pub const DEPTH_MAX: u32 = 128;
/// More new paths than this in one record are refused.
pub const NEW_PATHS_MAX: usize = 10_000;
/// More paths than this in one stream are refused.
pub const PATHS_MAX: usize = 100_000;
/// A longer field name is refused, in bytes.
pub const FIELD_NAME_BYTES_MAX: usize = 1024;
/// A longer path is refused, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;
/// More bytes of newly observed paths in one record are refused: what a record says of shapes stays small.
pub const OBSERVED_BYTES_MAX: usize = 1 << 20;
/// More bytes of names in one stream are refused, counted as a snapshot writes them: so a snapshot stays below 16 MiB.
pub const NAMES_BYTES_MAX: usize = 8 << 20;

/// The type of a value as far as shapes care: integers and decimals are one type, null is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum TypeClass {
    /// True or false.
    Boolean = 1,
    /// Any number.
    Number = 2,
    /// A text.
    Text = 4,
    /// An object.
    Object = 8,
    /// An array.
    Array = 16,
}

impl TypeClass {
    /// Every class.
    pub const ALL: [Self; 5] = [Self::Boolean, Self::Number, Self::Text, Self::Object, Self::Array];
}
