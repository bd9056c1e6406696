//! Fields that went into one, and one that went into several. The parts are told by their words: they belong to one
//! thing whose whole is known by another name.

use super::{Operation, OperationKind};
use crate::field::Field;
use crate::matching::Problem;
use crate::words;

/// Words alone are no proof: a person decides.
const CONFIDENCE: f32 = 0.8;

/// Finds them, and takes their fields out of what is left to explain.
pub fn find(problem: &Problem, is_left: &mut [bool], is_free: &mut [bool], out: &mut Vec<Operation>) {
    for (row, whole) in problem.sources.iter().enumerate() {
        let parts = parts(&whole.name, &problem.targets, is_free);
        if parts.len() > 1 && !is_kept(whole, &problem.targets) {
            is_left[row] = false;
            parts.iter().for_each(|p| is_free[*p] = false);
            let to = parts.iter().map(|p| problem.targets[*p].name.clone()).collect();
            out.push(Operation {
                kind: OperationKind::Split,
                from: vec![whole.name.clone()],
                to,
                confidence: CONFIDENCE,
            });
        }
    }
    for (column, whole) in problem.targets.iter().enumerate().filter(|(c, _)| is_free[*c]).collect::<Vec<_>>() {
        let parts = parts(&whole.name, &problem.sources, is_left);
        if parts.len() > 1 && !is_kept(whole, &problem.sources) {
            is_free[column] = false;
            parts.iter().for_each(|p| is_left[*p] = false);
            let from = parts.iter().map(|p| problem.sources[*p].name.clone()).collect();
            out.push(Operation {
                kind: OperationKind::Merge,
                from,
                to: vec![whole.name.clone()],
                confidence: CONFIDENCE,
            });
        }
    }
}

/// The whole and its parts, in the words of field names.
const PARTS: [(&[&str], &[&[&str]]); 4] = [
    (&["name"], &[&["first"], &["last"], &["middle"]]),
    (
        &["address"],
        &[&["street", "line"], &["city", "town"], &["state", "province", "region"], &["postal"], &["country"]],
    ),
    (&["location"], &[&["latitude"], &["longitude"]]),
    (&["date", "time"], &[&["year"], &["month"], &["day"], &["hour"]]),
];

/// The same whole stands on the other side, with parts or without.
fn is_kept(whole: &Field, others: &[Field]) -> bool {
    others.iter().any(|o| words::segments(&o.name).concat() == words::segments(&whole.name).concat())
}

fn parts(whole: &str, fields: &[Field], is_open: &[bool]) -> Vec<usize> {
    let own = words::segments(whole).concat();
    for (names, kinds) in PARTS {
        if !own.iter().any(|w| names.contains(&w.as_str()))
            || kinds.iter().flat_map(|k| k.iter()).any(|p| own.iter().any(|w| w == p))
        {
            continue;
        }
        let is_part = |field: &Field| {
            let words = words::segments(&field.name).concat();
            kinds.iter().any(|kind| words.iter().any(|w| kind.contains(&w.as_str())))
        };
        let open =
            fields.iter().enumerate().filter(|(i, f)| is_open[*i] && is_part(f)).map(|(i, _)| i).collect::<Vec<_>>();
        if open.len() > 1 {
            return open;
        }
    }
    Vec::new()
}
