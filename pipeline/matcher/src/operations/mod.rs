//! Operations: what happened to a stream, told from its fields before and after.

mod divided;
mod swapped;

use crate::field::{Field, Kind};
use crate::matching::{Approved, Candidate, Matcher, Problem, TooLarge};
use crate::model::Task;
use crate::words;

/// From these log-odds on a removed and an added field are told as one that moved: it is likelier than not.
const MOVED_FROM: f32 = 0.0;

/// What can happen to fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperationKind {
    /// A field has another name.
    Rename,
    /// A field has gone.
    Remove,
    /// A field has come.
    Add,
    /// A field has another type.
    TypeChange,
    /// A field stands deeper than before.
    Nest,
    /// A field stands less deep than before.
    Unnest,
    /// Several fields hold what one held.
    Split,
    /// One field holds what several held.
    Merge,
}

impl OperationKind {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Add => "add",
            Self::TypeChange => "type_change",
            Self::Nest => "nest",
            Self::Unnest => "unnest",
            Self::Split => "split",
            Self::Merge => "merge",
        }
    }

    /// It leads from a list of fields to a list of fields.
    pub fn is_between_lists(self) -> bool {
        matches!(self, Self::Split | Self::Merge)
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// What.
    pub kind: OperationKind,
    /// To which fields.
    pub from: Vec<String>,
    /// Into which fields.
    pub to: Vec<String>,
    /// The probability that it did.
    pub confidence: f32,
}

impl Problem {
    /// Where did the fields go that are there no longer? A field that was there before and after is no target: what lives
    /// at the same time cannot be the same.
    pub fn of_change(entity: &str, before: &[Field], after: &[Field]) -> Self {
        let lacks = |fields: &[Field], field: &Field| !fields.iter().any(|f| f.name == field.name);
        Self {
            source_entity: entity.to_owned(),
            target_entity: entity.to_owned(),
            sources: before.iter().filter(|f| lacks(after, f)).cloned().collect(),
            targets: after.iter().filter(|f| lacks(before, f)).cloned().collect(),
        }
    }
}

/// What happened between two states of a stream; `approved` is what the tenant has approved before.
pub fn operations(
    matcher: &Matcher<'_>,
    entity: &str,
    before: &[Field],
    after: &[Field],
    approved: &[Approved],
) -> Result<Vec<Operation>, TooLarge> {
    let problem = Problem::of_change(entity, before, after);
    let found = matcher.find(&problem, Task::Drift, approved)?;
    let mut out = Vec::new();
    let mut is_left = vec![true; problem.sources.len()];
    let mut is_free = vec![true; problem.targets.len()];
    divided::find(&problem, &mut is_left, &mut is_free, &mut out);
    moved(&problem, &found, &mut is_left, &mut is_free, &mut out);
    let sure = |candidates: &[Candidate]| 1.0 - candidates.iter().map(|c| c.confidence).fold(0.0, f32::max);
    for (row, field) in problem.sources.iter().enumerate().filter(|(row, _)| is_left[*row]) {
        out.push(one(OperationKind::Remove, Some(field), None, sure(&found[row])));
    }
    for (column, field) in problem.targets.iter().enumerate().filter(|(column, _)| is_free[*column]) {
        let rival = found.iter().flatten().filter(|c| c.target == column).map(|c| c.confidence).fold(0.0, f32::max);
        out.push(one(OperationKind::Add, None, Some(field), 1.0 - rival));
    }
    let swapped = swapped::find(before, after);
    for field in before.iter().filter(|f| !swapped.iter().any(|o| o.from.contains(&f.name))) {
        let same = after.iter().find(|f| f.name == field.name);
        out.extend(
            same.filter(|f| is_retyped(field, f)).map(|f| one(OperationKind::TypeChange, Some(field), Some(f), 0.99)),
        );
    }
    out.extend(swapped);
    Ok(out)
}

fn one(kind: OperationKind, from: Option<&Field>, to: Option<&Field>, confidence: f32) -> Operation {
    let name = |field: Option<&Field>| field.map(|f| f.name.clone()).into_iter().collect();
    Operation { kind, from: name(from), to: name(to), confidence }
}

fn is_retyped(before: &Field, after: &Field) -> bool {
    before.kind != after.kind && before.kind != Kind::Unknown && after.kind != Kind::Unknown
}

/// Pairs that are likely, what is approved first, then by rank, each field once.
fn moved(
    problem: &Problem,
    found: &[Vec<Candidate>],
    is_left: &mut [bool],
    is_free: &mut [bool],
    out: &mut Vec<Operation>,
) {
    let mut pairs: Vec<(usize, &Candidate)> = Vec::new();
    for (row, candidates) in found.iter().enumerate() {
        let likely = candidates.iter().filter(|c| c.log_odds >= MOVED_FROM);
        pairs.extend(likely.map(|candidate| (row, candidate)));
    }
    let names = |row: usize, column: usize| (&problem.sources[row].name, &problem.targets[column].name);
    pairs.sort_by(|(row, a), (other, b)| {
        let by_rank = b.approved.cmp(&a.approved).then(b.rank().total_cmp(&a.rank()));
        by_rank.then_with(|| names(*row, a.target).cmp(&names(*other, b.target)))
    });
    for (row, candidate) in pairs {
        let (column, confidence) = (candidate.target, candidate.confidence);
        if !is_left[row] || !is_free[column] {
            continue;
        }
        (is_left[row], is_free[column]) = (false, false);
        let (from, to) = (&problem.sources[row], &problem.targets[column]);
        out.push(one(direction(&from.name, &to.name), Some(from), Some(to), confidence));
        if is_retyped(from, to) {
            out.push(one(OperationKind::TypeChange, Some(from), Some(to), confidence));
        }
    }
}

/// A path that only grew or shrank was nested or unnested; any other change of it is a new name.
fn direction(from: &str, to: &str) -> OperationKind {
    let (a, b) = (words::segments(from), words::segments(to));
    let is_leaf_kept = a.last().is_some_and(|leaf| b.last() == Some(leaf)) || a.concat() == b.concat();
    let is_inner = |short: &[Vec<String>], long: &[Vec<String>]| long.len() > short.len() && long.starts_with(short);
    if b.len() > a.len() && (is_leaf_kept || is_inner(&a, &b)) {
        OperationKind::Nest
    } else if a.len() > b.len() && (is_leaf_kept || is_inner(&b, &a)) {
        OperationKind::Unnest
    } else {
        OperationKind::Rename
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Near;
    use crate::rivals::RIVAL_SIGNALS;
    use crate::signals::SIGNALS;

    fn candidate(confidence: f32, near: Option<Near>) -> Candidate {
        let (signals, rivals) = ([0.0; SIGNALS.len()], [0.0; RIVAL_SIGNALS.len()]);
        Candidate { target: 0, confidence, approved: false, near, log_odds: 1.0, agreed: false, signals, rivals }
    }

    /// Where the one field that came is told to come from, and how likely that is.
    fn told(found: &[Vec<Candidate>]) -> (String, f32) {
        let field = |name: &str| Field { name: name.to_owned(), ..Field::default() };
        let problem = Problem::of_change("order", &[field("bnm"), field("plk")], &[field("qxv")]);
        let mut out = Vec::new();
        moved(&problem, found, &mut [true, true], &mut [true], &mut out);
        assert_eq!(out.len(), 1);
        (out[0].from.concat(), out[0].confidence)
    }

    #[test]
    fn of_two_fields_that_may_have_become_one_the_near_one_is_told_where_none_is_likelier() {
        let near = || Some(Near { name: "PLK".to_owned(), likeness: 1.0 });
        let told_of = |first, second| told(&[vec![candidate(first, None)], vec![candidate(second, near())]]);
        assert_eq!(told_of(0.503, 0.5), ("plk".to_owned(), 0.5));
        assert_eq!(told_of(0.87, 0.5), ("bnm".to_owned(), 0.87));
        assert_eq!(told_of(0.9, 0.874), ("bnm".to_owned(), 0.9), "what is as good as certain");
    }
}
