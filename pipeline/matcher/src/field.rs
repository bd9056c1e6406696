//! Fields: what is known of a column or path before it is matched.

use serde_json::Value;

/// A field of a source, or a target that source fields may map to.
#[derive(Debug, Clone, Default)]
pub struct Field {
    /// Its name or path: `BillingCity`, `emails[].value`.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// The type as its system calls it; empty when it does not say.
    pub native_type: String,
    /// What it is for, in words; empty when nobody says.
    pub description: String,
    /// Some of its values, nulls among them.
    pub samples: Vec<Value>,
    /// The share of records without a value, when it is known.
    pub null_rate: Option<f32>,
}

/// A type, as far as types of different systems can be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// Whole numbers.
    Integer,
    /// Any numbers.
    Number,
    /// True or false.
    Boolean,
    /// Days.
    Date,
    /// Moments.
    DateTime,
    /// Things with fields of their own.
    Object,
    /// Lists.
    Array,
    /// Nobody says.
    #[default]
    Unknown,
}

impl Kind {
    /// The type of this name.
    pub fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "string" | "text" | "varchar" | "char" | "uuid" | "enum" => Self::String,
            "integer" | "int" | "bigint" | "smallint" | "long" => Self::Integer,
            "number" | "float" | "double" | "decimal" | "numeric" | "money" => Self::Number,
            "boolean" | "bool" => Self::Boolean,
            "date" => Self::Date,
            "datetime" | "timestamp" | "timestamptz" | "time" => Self::DateTime,
            "object" | "json" | "jsonb" | "struct" | "map" => Self::Object,
            "array" | "list" => Self::Array,
            _ => Self::Unknown,
        }
    }

    /// How well values of one type stand in for those of the other: 0 to 1.
    pub fn compatibility(self, other: Self) -> f32 {
        use Kind::{Array, Boolean, Date, DateTime, Integer, Number, Object, String, Unknown};
        if self == other && self != Unknown {
            return 1.0;
        }
        let pair = |a, b| (self == a && other == b) || (self == b && other == a);
        if self == Unknown || other == Unknown {
            0.6
        } else if pair(Integer, Number) || pair(Date, DateTime) {
            0.9
        } else if pair(Integer, DateTime) || pair(String, Integer) || pair(String, Number) || pair(String, DateTime) {
            0.5
        } else if pair(String, Date) || pair(String, Array) || pair(Boolean, Integer) || pair(String, Boolean) {
            0.4
        } else if pair(Object, Array) || pair(String, Object) {
            0.3
        } else {
            0.1
        }
    }
}
