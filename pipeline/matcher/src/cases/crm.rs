//! Onboarding: source fields of several systems, and the canonical fields of each entity.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::Case;
use super::read::{At, CasesError, json};
use crate::field::Field;
use crate::matching::Problem;

/// Fields of one object of one system that map to one entity are matched together.
type Group<'a> = (&'a str, &'a str, &'a str);

/// Reads `canonical` and `cases`.
pub fn read(input: impl Read) -> Result<Vec<Case>, CasesError> {
    let file = json(input)?;
    let root = At::root(&file);
    let targets = canonical(&root.get("canonical"))?;
    let mut numbers: BTreeMap<Group<'_>, usize> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut out: Vec<Case> = Vec::new();
    for case in root.get("cases").list()? {
        let id = case.get("case_id").text()?;
        if !ids.insert(id) {
            return Err(CasesError::TakenId { place: case.place(), id: id.to_owned() });
        }
        let entity = case.get("canonical_entity").text()?;
        let source_entity = case.get("source_entity").text_or_empty()?;
        let group = (case.get("source_system").text_or_empty()?, source_entity, entity);
        let Some(targets) = targets.get(entity) else {
            return Err(CasesError::UnknownEntity { place: case.place(), entity: entity.to_owned() });
        };
        let number = *numbers.entry(group).or_insert_with(|| {
            let problem = Problem {
                source_entity: source_entity.to_owned(),
                target_entity: entity.to_owned(),
                targets: targets.clone(),
                ..Problem::default()
            };
            out.push(Case { problem, questions: Vec::new() });
            out.len() - 1
        });
        let problem = &mut out[number];
        problem.questions.push((id.to_owned(), problem.problem.sources.len()));
        problem.problem.sources.push(case.field("source_field", "source_type", "sample_values")?);
    }
    Ok(out)
}

fn canonical<'a>(root: &At<'a>) -> Result<BTreeMap<&'a str, Vec<Field>>, CasesError> {
    let mut out = BTreeMap::new();
    for entity in root.object()?.keys() {
        let fields = root.get(entity).list()?;
        let fields = fields.iter().map(|f| f.field("field", "type", "sample_values")).collect::<Result<_, _>>()?;
        out.insert(entity.as_str(), fields);
    }
    Ok(out)
}
