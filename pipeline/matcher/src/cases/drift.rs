//! Drift: a stream's fields before and after a change.

use std::collections::BTreeSet;
use std::io::Read;

use super::Case;
use super::read::{At, CasesError, json};
use crate::field::Field;
use crate::matching::{Problem, TooLarge};

/// One change of one stream.
#[derive(Debug)]
pub struct Change {
    /// Its id.
    pub id: String,
    /// What the system calls the things in the stream.
    pub entity: String,
    /// The fields before.
    pub before: Vec<Field>,
    /// The fields after.
    pub after: Vec<Field>,
    questions: Vec<(String, String)>,
}

/// Reads `cases`.
pub fn read(input: impl Read) -> Result<Vec<Change>, CasesError> {
    let file = json(input)?;
    let mut ids = BTreeSet::new();
    let mut out = Vec::new();
    for case in At::root(&file).get("cases").list()? {
        let change = change(&case)?;
        let questions = change.questions.iter().map(|(id, _)| id);
        for id in questions.chain([&change.id]) {
            if !ids.insert(id.clone()) {
                return Err(CasesError::TakenId { place: case.place(), id: id.clone() });
            }
        }
        out.push(change);
    }
    Ok(out)
}

fn change(case: &At<'_>) -> Result<Change, CasesError> {
    let fields = |key: &str| -> Result<Vec<Field>, CasesError> {
        case.get(key).list()?.iter().map(|f| f.field("name", "type", "samples")).collect()
    };
    let (before, after) = (fields("before")?, fields("after")?);
    let mut questions = Vec::new();
    let asked = case.get("queries");
    for question in if asked.is_absent() { Vec::new() } else { asked.list()? } {
        let field = question.get("removed").text()?;
        if !before.iter().any(|f| f.name == field) || after.iter().any(|f| f.name == field) {
            return Err(CasesError::NotRemoved { place: question.place(), field: field.to_owned() });
        }
        questions.push((question.get("query_id").text()?.to_owned(), field.to_owned()));
    }
    let entity = case.get("entity").text_or_empty()?.to_owned();
    Ok(Change { id: case.get("case_id").text()?.to_owned(), entity, before, after, questions })
}

impl Change {
    /// Refuses more pairs than are compared in one go.
    pub fn check_size(&self) -> Result<(), TooLarge> {
        Problem::of_change(&self.entity, &self.before, &self.after).check_size()
    }

    /// What went is matched with what came.
    pub fn into_case(self) -> Case {
        let problem = Problem::of_change(&self.entity, &self.before, &self.after);
        let place = |field: &str| problem.sources.iter().position(|f| f.name == field);
        let questions = self.questions.into_iter().filter_map(|(id, field)| Some((id, place(&field)?))).collect();
        Case { problem, questions }
    }
}
