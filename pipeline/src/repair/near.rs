//! Nearness: mappings that people have approved for names like the ones in question. It decides among what is about as
//! likely, and nothing is likelier for it.

use std::collections::BTreeMap;

use matcher::{Approved, Field, Name, Near};
use schemas::EntityName;
use schemas::drift::Lost;
use schemas::mapping::Path;

use super::Knowledge;
use super::knowledge::LIKE_MIN;

/// Pairs of names that are compared for one question: a fraction of a second. What is beyond them is not near.
const PAIRS_MAX: usize = 1_000_000;

impl Knowledge {
    /// Which paths fill which fields of an entity, and which of these paths are like one that does.
    pub fn approved_for(&self, entity: &EntityName, paths: &[Field]) -> Vec<Approved> {
        let mut approved = self.approved_of(entity);
        let known: Vec<(Name, &Approved)> = approved.iter().map(|one| (Name::new(&one.source), one)).collect();
        let mut all_near = Vec::new();
        for path in paths.iter().take(PAIRS_MAX / known.len().max(1)) {
            let name = Name::new(&path.name);
            let mut nearest = Nearest::default();
            for (other, one) in known.iter().filter(|(_, one)| one.source != path.name) {
                nearest.take(&one.target, &one.source, name.nearness(other));
            }
            all_near.extend(nearest.of(&path.name));
        }
        approved.extend(all_near);
        approved
    }

    /// Where people say that lost paths have gone as they were, and which of the added ones are like a path that is
    /// approved for what a lost one feeds, or like where a path like it has gone.
    pub fn approved_moves(&self, entity: &EntityName, lost: &[Lost], added: &[Field]) -> Vec<Approved> {
        let mut approved = self.approved(entity);
        if lost.is_empty() || added.is_empty() {
            return approved;
        }
        // What another path is compared with: all of it for each lost one.
        let known_max = PAIRS_MAX / (lost.len() * added.len());
        let added: Vec<(&str, Name)> =
            added.iter().map(|field| (field.name.as_str(), Name::new(&field.name))).collect();
        let moved: Vec<(Name, &Approved)> =
            approved.iter().take(known_max).map(|one| (Name::new(&one.source), one)).collect();
        let mut all_near = Vec::new();
        for lost in lost {
            let own = Name::new(&lost.path);
            let fills = self.fills_of(entity, lost).map(|path| (path, 1.0));
            let gone = moved.iter().filter_map(|(name, one)| {
                let likeness = if one.source == lost.path { 1.0 } else { own.nearness(name) };
                (likeness > LIKE_MIN).then_some((one.target.as_str(), likeness))
            });
            let known = fills.chain(gone).take(known_max);
            let known: Vec<(&str, Name, f32)> = known.map(|(path, most)| (path, Name::new(path), most)).collect();
            let mut nearest = Nearest::default();
            for (path, name) in &added {
                for (approved, other, most) in &known {
                    nearest.take(path, approved, name.nearness(other).min(*most));
                }
            }
            all_near.extend(nearest.of(&lost.path));
        }
        approved.extend(all_near);
        approved
    }

    /// The other paths that fill what a lost one feeds: its own name says nothing of where it has gone.
    fn fills_of<'a>(&'a self, entity: &EntityName, lost: &'a Lost) -> impl Iterator<Item = &'a str> {
        let paths = lost.paths.iter().chain([&lost.path]).filter_map(|path| Path::new(path).ok());
        let own: Vec<String> = paths.flat_map(|path| path.texts().collect::<Vec<_>>()).collect();
        let of_entity =
            self.fills.iter().filter(move |(of, field, _)| of == entity.as_str() && lost.feeds.contains(field));
        of_entity.map(|(_, _, path)| path.as_str()).filter(move |path| !own.iter().any(|own| own.as_str() == *path))
    }
}

/// Of what is near, the nearest for each target.
#[derive(Default)]
struct Nearest<'a>(BTreeMap<&'a str, (&'a str, f32)>);

impl<'a> Nearest<'a> {
    /// Takes in how alike an approved path is; of equal ones the first stays.
    fn take(&mut self, target: &'a str, approved: &'a str, likeness: f32) {
        let is_nearer = self.0.get(target).is_none_or(|(_, nearest)| likeness > *nearest);
        if likeness > LIKE_MIN && is_nearer {
            self.0.insert(target, (approved, likeness));
        }
    }

    fn of(self, source: &'a str) -> impl Iterator<Item = Approved> + 'a {
        self.0.into_iter().map(move |(target, (name, likeness))| Approved {
            source: source.to_owned(),
            target: target.to_owned(),
            near: Some(Near { name: name.to_owned(), likeness }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Knowledge {
        let mut known = Knowledge::default();
        for (field, path) in [("buyer", "customer_name"), ("total", "kd_nr")] {
            known.fills.insert(("order".to_owned(), field.to_owned(), path.to_owned()));
        }
        known
    }

    fn order() -> EntityName {
        "order".parse().unwrap()
    }

    fn fields(names: &[&str]) -> Vec<Field> {
        names.iter().map(|name| Field { name: (*name).to_owned(), ..Field::default() }).collect()
    }

    /// Target and the name that is near, of what is approved for a source.
    fn near<'a>(approved: &'a [Approved], source: &str) -> Vec<(&'a str, Option<&'a str>)> {
        let of_source = approved.iter().filter(|one| one.source == source);
        of_source.map(|one| (one.target.as_str(), one.near.as_ref().map(|near| near.name.as_str()))).collect()
    }

    #[test]
    fn a_new_path_is_told_the_approved_one_that_it_is_like_and_the_very_same_name_is_not_called_near() {
        let approved = known().approved_for(&order(), &fields(&["CustomerName", "customer_name", "zzq"]));
        assert_eq!(near(&approved, "CustomerName"), [("buyer", Some("customer_name"))]);
        assert_eq!(near(&approved, "customer_name"), [("buyer", None)]);
        assert!(near(&approved, "zzq").is_empty());
        let people = "person".parse().unwrap();
        assert_eq!(known().approved_for(&people, &fields(&["CustomerName"])), [], "it fills another entity");
    }

    fn lost(path: &str, feed: &str) -> Lost {
        Lost { path: path.into(), paths: vec![path.into()], feeds: vec![feed.into()], retyped: false, change: None }
    }

    #[test]
    fn a_path_that_came_is_near_when_it_is_like_one_that_fills_the_same_field_and_not_by_the_lost_name_itself() {
        let lost = [lost("Who", "buyer"), lost("customer_name", "buyer"), lost("Odd", "note")];
        let approved = known().approved_moves(&order(), &lost, &fields(&["CustomerName", "KdNr"]));
        assert_eq!(near(&approved, "Who"), [("CustomerName", Some("customer_name"))]);
        assert_eq!(approved.len(), 1, "{approved:?}");
    }
}
