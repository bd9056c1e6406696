//! What the matcher does, seen from outside.

mod cases;
mod matching;
mod operations;
mod other_systems;

use matcher::{Field, Kind};
use serde_json::Value;

/// A field of this name and type with these values.
fn field(name: &str, kind: &str, samples: &[Value]) -> Field {
    Field { name: name.to_owned(), kind: Kind::named(kind), samples: samples.to_vec(), ..Field::default() }
}
