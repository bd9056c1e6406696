//! Knowledge: which paths fill which fields, as mappings say that the tenant's people have approved, and the shipped ones;
//! and which lost paths have gone where, as its people decided. Only this tenant's, and what ships with the product.

use std::collections::{BTreeMap, BTreeSet};

use matcher::{Approved, likeness};
use schemas::advice::{Coverage, MISSING_MAX};
use schemas::drift::Lost;
use schemas::mapping::{Paths, Rule};
use schemas::{EntityName, Mapping, TenantId, shipped_mapping, shipped_systems};

use super::{Deed, MappingVersion, Origin, RULES, list};
use crate::store::{Store, StoreError, Table};

/// Names at least so alike mean the same.
pub const LIKE_MIN: f32 = 0.8;
/// Rows that are read at once, and versions of mappings and cases that are looked at.
const PAGE: usize = 1_000;
const PAGES_MAX: usize = 10;

/// What is known to a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Knowledge {
    /// Entity, field, and a path that fills it.
    fills: BTreeSet<(String, String, String)>,
    /// How a path fills a field of an entity, where that takes more than reading it.
    rules: BTreeMap<(String, String, String), Rule>,
    /// Entity, and what sources call it, in lower case.
    called: BTreeSet<(String, String)>,
    /// Where a lost path has gone, as a person decided.
    moved: BTreeSet<(String, String)>,
}

impl Knowledge {
    /// What the shipped mappings know, and the tenant's.
    pub async fn read(store: &dyn Store, tenant: TenantId) -> Result<Self, StoreError> {
        let mut known = Self::shipped();
        known.read_mappings(store, tenant).await?;
        known.read_cases(store, tenant).await?;
        Ok(known)
    }

    /// What the shipped mappings know, and nobody else.
    pub fn shipped() -> Self {
        let mut known = Self::default();
        for file in shipped_systems().filter_map(shipped_mapping) {
            for (stream, mapping) in &file.streams {
                known.take(mapping);
                known.called.insert((mapping.entity.to_string(), stream.as_str().to_ascii_lowercase()));
            }
        }
        known
    }

    async fn read_mappings(&mut self, store: &dyn Store, tenant: TenantId) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = store.scan(tenant, Table::Mappings, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (_, row) in &page {
                // A version that cannot be read teaches nothing.
                let Ok(version) = serde_json::from_slice::<MappingVersion>(&row.value) else { continue };
                let by_person = version.origin != Origin::Repaired || version.by != RULES;
                let mapping = version.text.as_deref().and_then(|text| serde_json::from_str::<Mapping>(text).ok());
                if let Some(mapping) = mapping.filter(|_| by_person) {
                    self.take(&mapping);
                }
            }
        }
        Ok(())
    }

    async fn read_cases(&mut self, store: &dyn Store, tenant: TenantId) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = list(store, tenant, None, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (_, case) in &page {
                // What was taken back was wrong.
                let is_in_force = !case.decided.iter().any(|decided| decided.status == Deed::Reverted);
                let by_people = case.decided.iter().filter(|d| d.status == Deed::Repaired && d.by != RULES);
                for to in by_people.filter(|_| is_in_force).flat_map(|decided| &decided.moves) {
                    if let [only] = &to.to[..] {
                        self.moved.insert((to.from.clone(), only.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, mapping: &Mapping) {
        let entity = mapping.entity.to_string();
        self.called.extend(mapping.objects.iter().map(|name| (entity.clone(), name.to_ascii_lowercase())));
        for (field, rules) in &mapping.fields {
            for rule in &rules.0 {
                for path in rule.from.0.iter().flat_map(|path| path.texts()) {
                    let fill = (entity.clone(), field.to_string(), path);
                    if let Some(how) = how(rule) {
                        self.rules.insert(fill.clone(), how);
                    }
                    self.fills.insert(fill);
                }
            }
        }
    }

    /// Which paths fill which fields of an entity, as the mappings say with one voice.
    pub fn approved_of(&self, entity: &EntityName) -> Vec<Approved> {
        let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (_, field, path) in self.fills.iter().filter(|(of, ..)| of == entity.as_str()) {
            targets.entry(path).or_default().push(field);
        }
        let only = targets.into_iter().filter_map(|(path, fields)| match fields[..] {
            [field] => Some(Approved { source: path.to_owned(), target: field.to_owned() }),
            _ => None,
        });
        only.collect()
    }

    /// How a path fills a field where a mapping knows more of it than that; `from` is left out.
    pub fn rule(&self, entity: &EntityName, field: &str, path: &str) -> Option<&Rule> {
        self.rules.get(&(entity.to_string(), field.to_owned(), path.to_owned()))
    }

    /// Whether sources call an entity by this name.
    pub fn calls(&self, entity: &EntityName, name: &str) -> bool {
        self.called.contains(&(entity.to_string(), name.to_ascii_lowercase()))
    }

    /// What people have decided of these very names.
    pub fn approved(&self) -> Vec<Approved> {
        self.moved.iter().map(|(from, to)| Approved { source: from.clone(), target: to.clone() }).collect()
    }

    /// Whether an approved mapping like it says that a lost path may be at one of the added ones.
    pub fn knows(&self, entity: &EntityName, lost: &Lost, added: &[String]) -> bool {
        let is_like = |one: &str, other: &str| likeness(one, other) > LIKE_MIN;
        let fills = self.fills.iter().filter(|(of, field, _)| *of == entity.as_str() && lost.feeds.contains(field));
        let moved = self.moved.iter().filter(|(from, _)| is_like(from, &lost.path));
        let mut places = fills.map(|(_, _, path)| path).chain(moved.map(|(_, to)| to));
        places.any(|place| added.iter().any(|added| is_like(place, added)))
    }

    /// How much of what is uncertain is known.
    pub fn coverage<'a>(
        &self,
        entity: &EntityName,
        uncertain: impl Iterator<Item = &'a Lost>,
        added: &[String],
    ) -> Coverage {
        let (mut fields, mut matched, mut missing) = (0, 0, Vec::new());
        for lost in uncertain {
            fields += 1;
            match self.knows(entity, lost, added) {
                true => matched += 1,
                false if missing.len() < MISSING_MAX => missing.push(lost.path.clone()),
                false => {}
            }
        }
        Coverage { fields, matched, missing, skipped: false, saved_micros: 0 }
    }
}

/// What a rule does with the value of one path, if it does anything.
fn how(rule: &Rule) -> Option<Rule> {
    let alone = rule.from.0.len() == 1;
    let how =
        Rule { from: Paths::default(), join: None, constant: None, confidence: None, method: None, ..rule.clone() };
    (alone && how != Rule::default()).then_some(how)
}

#[cfg(test)]
mod tests {
    use schemas::mapping::Mapping;

    use super::*;

    fn known() -> Knowledge {
        let mapping: Mapping = serde_json::from_str(
            r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","total":"total_amount","buyer":"customer_name"}}"#,
        )
        .unwrap();
        let mut known = Knowledge::default();
        known.take(&mapping);
        known
    }

    #[test]
    fn a_path_is_approved_for_the_one_field_that_it_fills_with_what_is_done_to_it() {
        let mut known = known();
        let text = r#"{"entity":"order","objects":["Sale"],"key":"k","fields":{"buyer":"Id",
            "total":{"from":"cents | total_cents","unit":"cents"}}}"#;
        known.take(&serde_json::from_str(text).unwrap());
        let order: EntityName = "order".parse().unwrap();
        let approved = known.approved_of(&order);
        let sources: Vec<_> = approved.iter().map(|a| (a.source.as_str(), a.target.as_str())).collect();
        let all = [("cents", "total"), ("customer_name", "buyer"), ("total_amount", "total"), ("total_cents", "total")];
        assert_eq!(sources, all, "Id fills two fields");
        assert_eq!(known.rule(&order, "total", "cents").unwrap().unit, Some(schemas::entity::Unit::Cents));
        assert_eq!(known.rule(&order, "total", "total_amount"), None);
        assert!(known.calls(&order, "SALE") && !known.calls(&order, "deal"));
        assert!(Knowledge::shipped().calls(&"opportunity".parse().unwrap(), "deals"));
    }

    fn lost(path: &str, feed: &str) -> Lost {
        Lost { path: path.into(), paths: vec![path.into()], feeds: vec![feed.into()], retyped: false, change: None }
    }

    #[test]
    fn a_field_is_covered_when_a_path_like_the_new_one_is_known_to_fill_it() {
        let entity: EntityName = "order".parse().unwrap();
        let all = [lost("Sum", "total"), lost("Who", "buyer"), lost("Odd", "note")];
        let added = ["TotalAmount".to_owned(), "zzq".to_owned()];
        let coverage = known().coverage(&entity, all.iter(), &added);
        assert_eq!((coverage.fields, coverage.matched), (3, 1));
        assert_eq!(coverage.missing, ["Who", "Odd"]);
        assert!(!known().knows(&"account".parse().unwrap(), &all[0], &added), "it fills another entity");
    }
}
