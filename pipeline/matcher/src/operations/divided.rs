//! Fields that went into one, and one that went into several. The parts are told by their words: they belong to one
//! thing whose whole is known by another name, and say nothing besides that the whole does not.

use super::{Operation, OperationKind};
use crate::field::Field;
use crate::lexicon::Lexicon;
use crate::matching::Problem;
use crate::words;

/// Words alone are no proof: a person decides.
const CONFIDENCE: f32 = 0.8;

/// Finds them, and takes their fields out of what is left to explain.
pub fn find(problem: &Problem, is_left: &mut [bool], is_free: &mut [bool], out: &mut Vec<Operation>) {
    let entity = words::words(&problem.source_entity);
    for (row, whole) in problem.sources.iter().enumerate() {
        let parts = parts(&whole.name, &entity, &problem.targets, is_free);
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
        let parts = parts(&whole.name, &entity, &problem.sources, is_left);
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

/// Parts of one kind: two lines of an address, a name and its short form.
const OF_A_KIND_MAX: usize = 2;

fn parts(whole: &str, entity: &[String], fields: &[Field], is_open: &[bool]) -> Vec<usize> {
    let own = words::segments(whole).concat();
    for (names, kinds) in PARTS {
        if !own.iter().any(|w| names.contains(&w.as_str()))
            || kinds.iter().flat_map(|k| k.iter()).any(|p| own.iter().any(|w| w == p))
        {
            continue;
        }
        let is_part = |field: &Field| {
            let words = words::segments(&field.name).concat();
            let is_named = |word: &String| kinds.iter().any(|kind| kind.contains(&word.as_str()));
            let besides = |word: &&String| !is_named(word) && !names.contains(&word.as_str()) && tells(word, entity);
            words.iter().any(is_named) && words.iter().filter(besides).all(|word| own.contains(word))
        };
        let open =
            fields.iter().enumerate().filter(|(i, f)| is_open[*i] && is_part(f)).map(|(i, _)| i).collect::<Vec<_>>();
        if (2..=OF_A_KIND_MAX * kinds.len()).contains(&open.len()) {
            return open;
        }
    }
    Vec::new()
}

/// A word that makes a part one of another thing: `shipping_city` is no part of `billing_address`.
fn tells(word: &str, entity: &[String]) -> bool {
    let lexicon = Lexicon::shipped();
    let is_number = word.bytes().all(|b| b.is_ascii_digit());
    let says_little = (lexicon.is_weak(word) && !lexicon.is_main(word)) || lexicon.is_form(word);
    !is_number && !says_little && !entity.iter().any(|own| own == word || words::is_form_of(own, word))
}
