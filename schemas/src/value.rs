//! Canonical values and their types.

use serde::{Deserialize, Serialize};

/// The type of a canonical field. There is no float on purpose: sums must not depend on the machine or the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// UTF-8 text; ids are text, so `007` survives.
    Text,
    /// A signed 64-bit number.
    Integer,
    /// An exact decimal of so many digits, so many of them behind the point.
    Decimal {
        /// All digits, at most 38.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// True or false.
    Boolean,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since 1970 UTC.
    Timestamp,
    /// Any JSON, kept as its text.
    Json,
}

impl FieldType {
    /// The type's name in definitions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Decimal { .. } => "decimal",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
        }
    }
}

impl std::fmt::Display for FieldType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            other => f.write_str(other.name()),
        }
    }
}

/// The plain type names of definition files; a decimal's digits stand beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TypeName {
    /// See [`FieldType::Text`].
    Text,
    /// See [`FieldType::Integer`].
    Integer,
    /// See [`FieldType::Decimal`].
    Decimal,
    /// See [`FieldType::Boolean`].
    Boolean,
    /// See [`FieldType::Date`].
    Date,
    /// See [`FieldType::Timestamp`].
    Timestamp,
    /// See [`FieldType::Json`].
    Json,
}

/// One canonical value, borrowed from an encoded row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Absent, null, or a field that is newer than the row.
    Null,
    /// Text, or the text of a JSON value.
    Text(&'a str),
    /// A number.
    Integer(i64),
    /// Units of 10^-scale.
    Decimal(i128),
    /// True or false.
    Boolean(bool),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970 UTC.
    Timestamp(i64),
}
