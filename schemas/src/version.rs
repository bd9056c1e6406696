//! Source versions: what orders the records of one key.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::{self, Reader, WireError};

/// The type of a stream's versions, fixed when the stream is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionType {
    /// A point in time, in microseconds since 1970 UTC.
    Time,
    /// A signed 64-bit number.
    Integer,
    /// A text, ordered by its bytes.
    Text,
}

/// A record's source version. `None` (the source has no versions) is below every other; types are never mixed in a stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Version {
    /// The source gives no version: origin orders.
    #[default]
    None,
    /// Microseconds since 1970 UTC.
    Time(i64),
    /// A number.
    Integer(i64),
    /// A text.
    Text(Box<str>),
}

impl Version {
    /// Reads a version of `version_type` from its text in the payload.
    pub fn parse(text: &str, version_type: VersionType) -> Option<Self> {
        let text = text.trim();
        match version_type {
            VersionType::Time => crate::time::parse_timestamp(text).map(Self::Time),
            VersionType::Integer => text.parse().ok().map(Self::Integer),
            VersionType::Text => (!text.is_empty() && text.len() <= 4096).then(|| Self::Text(text.into())),
        }
    }
    /// Appends the version to `out`.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(0),
            Self::Time(at) => {
                out.push(1);
                wire::put_i64(out, *at);
            }
            Self::Integer(number) => {
                out.push(2);
                wire::put_i64(out, *number);
            }
            Self::Text(text) => {
                out.push(3);
                wire::put_bytes(out, text.as_bytes());
            }
        }
    }
    /// Reads a version that [`Version::put`] wrote.
    #[inline]
    pub fn get(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match reader.u8()? {
            0 => Self::None,
            1 => Self::Time(reader.i64()?),
            2 => Self::Integer(reader.i64()?),
            3 => Self::Text(reader.text()?.into()),
            _ => return Err(WireError::Invalid("a version")),
        })
    }
    /// The version as a column value: a tag (`t`, `i` or `x`) and the value; `None` for a source without versions.
    pub fn to_column(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Time(_) => Some(format!("t{self}")),
            Self::Integer(_) => Some(format!("i{self}")),
            Self::Text(_) => Some(format!("x{self}")),
        }
    }
    /// Reads back what [`Version::to_column`] wrote.
    pub fn from_column(column: Option<&str>) -> Option<Self> {
        let Some(column) = column else { return Some(Self::None) };
        let (tag, value) = column.split_at_checked(1)?;
        match tag {
            "t" => Self::parse(value, VersionType::Time),
            "i" => Self::parse(value, VersionType::Integer),
            "x" => Some(Self::Text(value.into())),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Time(at) => f.write_str(&crate::time::format_timestamp(*at)),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_version() -> impl Strategy<Value = Version> {
        prop_oneof![
            Just(Version::None),
            (crate::time::MIN_TIMESTAMP..=crate::time::MAX_TIMESTAMP).prop_map(Version::Time),
            any::<i64>().prop_map(Version::Integer),
            "[a-z0-9]{1,20}".prop_map(|t| Version::Text(t.into())),
        ]
    }

    proptest! {
        #[test]
        fn a_version_reads_back_from_the_wire_and_from_its_column(version in any_version()) {
            let mut out = Vec::new();
            version.put(&mut out);
            prop_assert_eq!(&Version::get(&mut Reader::new(&out)).unwrap(), &version);
            prop_assert_eq!(Version::from_column(version.to_column().as_deref()), Some(version));
        }
    }
}
