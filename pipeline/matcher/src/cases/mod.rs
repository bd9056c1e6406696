//! Gold sets and anybody's own cases: files in, predictions out, through the matcher.

mod crm;
mod drift;
mod read;
mod write;

use std::io::{Read, Write};

pub use read::{CasesError, Where};

use crate::matching::{Matcher, Problem};
use crate::model::Task;
use crate::operations::operations;

/// What a file of cases holds and what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Source fields of CRM systems and the canonical fields that they may map to.
    Crm,
    /// Streams before and after a change: where did the removed fields go?
    Drift,
    /// The same streams: what happened?
    DriftOperations,
}

/// A problem and which of its source fields are asked for.
#[derive(Debug)]
pub struct Case {
    /// What is to be matched.
    pub problem: Problem,
    /// (the question's id, the source field's place)
    pub questions: Vec<(String, usize)>,
}

/// Reads a file of cases.
pub fn read(kind: Kind, input: impl Read) -> Result<Vec<Case>, CasesError> {
    match kind {
        Kind::Crm => crm::read(input),
        Kind::Drift | Kind::DriftOperations => {
            Ok(drift::read(input)?.into_iter().map(drift::Change::into_case).collect())
        }
    }
}

/// Reads cases, answers them one after the other, and writes the answers as JSON in the order of the file.
pub fn answer(kind: Kind, matcher: &Matcher<'_>, input: impl Read, output: impl Write) -> Result<(), CasesError> {
    // Everything is read and checked before anything is written: a file with a mistake gets no answer, not half of one.
    if kind == Kind::DriftOperations {
        let changes = drift::read(input)?;
        changes.iter().try_for_each(drift::Change::check_size)?;
        let mut out = write::Entries::begin(output)?;
        for change in changes {
            let found = operations(matcher, &change.entity, &change.before, &change.after, &[])?;
            out.operations(&change.id, &found)?;
        }
        return out.end();
    }
    let task = if kind == Kind::Crm { Task::Onboard } else { Task::Drift };
    let cases = read(kind, input)?;
    cases.iter().try_for_each(|case| case.problem.check_size())?;
    let mut out = write::Entries::begin(output)?;
    for case in cases {
        let found = matcher.find(&case.problem, task, &[])?;
        for (id, source) in &case.questions {
            let candidates = found.get(*source).map(Vec::as_slice).unwrap_or_default();
            out.candidates(id, candidates, &case.problem.targets)?;
        }
    }
    out.end()
}
