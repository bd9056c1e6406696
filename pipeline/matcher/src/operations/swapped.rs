//! Fields that took each other's names. Names cannot tell that, so only values do.

use std::collections::BTreeMap;

use super::{Operation, OperationKind};
use crate::field::Field;
use crate::profile::Profile;

/// Formats that are less alike than this belong to different things, and to one thing from this likeness on.
const STRANGE: f32 = 0.3;
const ALIKE: f32 = 0.85;
/// A swap always needs a person.
const CONFIDENCE: f32 = 0.7;

/// Pairs of fields that were there before and after, each looking afterwards as the other did before.
pub fn find(before: &[Field], after: &[Field]) -> Vec<Operation> {
    let afterwards: BTreeMap<&str, &Field> = after.iter().map(|f| (f.name.as_str(), f)).collect();
    let look = |field: &Field| Profile::new(&field.samples, field.null_rate);
    let mut strange: Vec<(&str, Profile, Profile)> = Vec::new();
    for field in before {
        let Some(same) = afterwards.get(field.name.as_str()) else { continue };
        let (was, is) = (look(field), look(same));
        if was.count > 2 && is.count > 2 && was.format_likeness(&is) < STRANGE {
            strange.push((&field.name, was, is));
        }
    }
    let mut out = Vec::new();
    for (at, (one, was, is)) in strange.iter().enumerate() {
        for (other, other_was, other_is) in &strange[at + 1..] {
            if was.format_likeness(other_is) >= ALIKE && other_was.format_likeness(is) >= ALIKE {
                out.extend([renamed(one, other), renamed(other, one)]);
            }
        }
    }
    out
}

fn renamed(from: &str, to: &str) -> Operation {
    let (from, to) = (vec![from.to_owned()], vec![to.to_owned()]);
    Operation { kind: OperationKind::Rename, from, to, confidence: CONFIDENCE }
}
