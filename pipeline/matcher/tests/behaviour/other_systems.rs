use std::collections::BTreeMap;

use matcher::{Field, Kind, Matcher, Problem, Task};

type Gold<'a> = Vec<(&'a str, &'a str)>;

/// Targets of each entity, and each object's fields with where they belong.
fn read(text: &str) -> (BTreeMap<&str, Vec<Field>>, BTreeMap<&str, Gold<'_>>) {
    let (mut targets, mut sources) = (BTreeMap::<_, Vec<Field>>::new(), BTreeMap::<_, Gold<'_>>::new());
    for line in text.lines() {
        let Some((head, rest)) = line.split_once(": ") else { continue };
        if let Some(entity) = head.strip_prefix("target ") {
            let [name, kind, description] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let description = description.to_owned();
            let field = Field { name: name.to_owned(), kind: Kind::named(kind), description, ..Field::default() };
            targets.entry(entity).or_default().push(field);
        } else if let Some(object) = head.strip_prefix("source ") {
            let pairs = rest.split(' ').filter_map(|pair| pair.split_once('='));
            sources.entry(object).or_default().extend(pairs);
        }
    }
    (targets, sources)
}

#[test]
fn systems_that_nobody_fitted_are_matched_by_their_names_alone() {
    let (targets, sources) = read(include_str!("other_systems.txt"));
    let (mut asked, mut right, mut sure, mut wrong) = (0, 0, 0, Vec::new());
    for (object, gold) in &sources {
        let [_, source_entity, entity] = object.split(' ').collect::<Vec<_>>()[..] else { panic!("{object}") };
        let problem = Problem {
            source_entity: source_entity.to_owned(),
            target_entity: entity.to_owned(),
            sources: gold.iter().map(|(name, _)| Field { name: (*name).to_owned(), ..Field::default() }).collect(),
            targets: targets[entity].clone(),
        };
        let found = Matcher::default().find(&problem, Task::Onboard, &[]).expect("a small problem");
        for ((name, gold), candidates) in gold.iter().zip(&found) {
            let best = &problem.targets[candidates[0].target].name;
            if !gold.is_empty() && !gold.ends_with('?') {
                asked += 1;
                right += usize::from(best == gold);
            }
            if candidates[0].confidence >= 0.9 {
                sure += 1;
                if best != gold.trim_end_matches('?') {
                    wrong.push(format!("{object} {name}: {best}"));
                }
            }
        }
    }
    assert!(asked > 100 && right * 100 >= asked * 93, "{right} of {asked}");
    assert!(sure > 50 && wrong.len() * 50 <= sure + 49, "{sure} sure, wrong: {wrong:?}");
}
