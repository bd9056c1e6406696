//! Validated names and opaque ids. Parse once at the edge; inside, no bare strings.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name that does not follow its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {name:?} is not allowed: use {rule}")]
pub struct InvalidName {
    /// What was being named.
    pub kind: &'static str,
    /// The refused text, shortened to 80 characters.
    pub name: String,
    /// The rule in words.
    pub rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:literal, $first:expr, $rest:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `name` against the rule of this kind of name.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                let first: fn(u8) -> bool = $first;
                let rest: fn(u8) -> bool = $rest;
                let bytes = name.as_bytes();
                let fits = !bytes.is_empty() && bytes.len() <= $max && first(bytes[0])
                    && bytes[1..].iter().all(|b| rest(*b)) && !name.contains("..");
                if fits { Ok(Self(name.into())) } else {
                    Err(InvalidName { kind: $kind, name: name.chars().take(80).collect(), rule: $rule })
                }
            }
            /// The name as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:?}", &*self.0) }
        }
        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(s: &str) -> Result<Self, InvalidName> { Self::new(s) }
        }
        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(s: String) -> Result<Self, InvalidName> { Self::new(&s) }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String { name.0.as_ref().to_owned() }
        }
    };
}

name_type!(
    /// A tenant's unique name, as people write it.
    TenantName, "tenant", 63,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_',
    "1 to 63 lower-case letters, digits, - and _, a letter or digit first");
name_type!(
    /// A connection of a tenant: one source system with its settings.
    ConnectionName, "connection", 127,
    |b| b.is_ascii_alphanumeric(),
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    "1 to 127 letters, digits, -, _ and . (never two dots in a row), a letter or digit first");
name_type!(
    /// A stream of a connection: one object, table or file layout.
    StreamName, "stream", 127,
    |b| b.is_ascii_alphanumeric() || b == b'_',
    |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    "1 to 127 letters, digits, -, _ and . (never two dots in a row), a letter, digit or _ first");
name_type!(
    /// An entity of the ontology, a field of it, or the table that it fills.
    EntityName, "entity", 63,
    |b| b.is_ascii_lowercase(),
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_',
    "1 to 63 lower-case letters, digits and _, a letter first");

/// A tenant's opaque id: 128 bits, written as 32 hex digits. Stores, topics and paths use it, never the name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(u128);

impl TenantId {
    /// The owner of rows that belong to no tenant: checkpoints, the tenant register, format versions.
    pub const SYSTEM: Self = Self(0);

    /// A new id, unique and sortable by time (UUID version 7).
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().as_u128())
    }
    /// The id of these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
    /// The id as 16 bytes, big-endian.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
impl FromStr for TenantId {
    type Err = InvalidName;
    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let valid = s.len() == 32 && s.bytes().all(|b| b.is_ascii_hexdigit());
        u128::from_str_radix(s, 16).ok().filter(|_| valid).map(Self).ok_or_else(|| InvalidName {
            kind: "tenant id",
            name: s.chars().take(80).collect(),
            rule: "32 hex digits",
        })
    }
}
impl Serialize for TenantId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A stream: one tenant's reading of one object over one connection. Its records stand in one order on the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// The owner.
    pub tenant: TenantId,
    /// The connection that it is read over.
    pub connection: ConnectionName,
    /// Its name within the connection.
    pub stream: StreamName,
}

impl StreamId {
    /// A stable number of the stream, used to pick its partition when it is opened.
    pub fn hash(&self) -> u64 {
        stable_hash(self.tenant, &[self.connection.as_str(), self.stream.as_str()])
    }
}
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.connection, self.stream)
    }
}

/// A stable number of a view (tenant, entity), used to pick its partition of `events`.
pub fn view_hash(tenant: TenantId, entity: &EntityName) -> u64 {
    stable_hash(tenant, &[entity.as_str()])
}

fn stable_hash(tenant: TenantId, parts: &[&str]) -> u64 {
    let mut bytes = tenant.to_bytes().to_vec();
    for part in parts {
        bytes.push(0);
        bytes.extend_from_slice(part.as_bytes());
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in ["", "../x", "a..b", "A b", "a/b", "tenant%00", "a\0", "\u{430}", &"x".repeat(10_000)] {
            assert!(TenantName::new(bad).is_err(), "{bad:?}");
            assert!(StreamName::new(bad).is_err(), "{bad:?}");
        }
        assert!(TenantName::new("Acme").is_err(), "case is not significant, so only one case exists");
        assert!(TenantName::new("acme-2").is_ok());
        assert!(StreamName::new("public.Orders").is_ok());
    }

    #[test]
    fn a_tenant_id_reads_back_from_its_text() {
        let id = TenantId::generate();
        assert_eq!(id.to_string().parse::<TenantId>().unwrap(), id);
        assert!("+0000000000000000000000000000001".parse::<TenantId>().is_err());
    }
}
