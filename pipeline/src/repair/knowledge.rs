//! Knowledge: which paths fill which fields, as mappings say that the tenant's people have approved, and the shipped ones;
//! and which lost paths have gone where, as its people decided. Only this tenant's, and what ships with the product.

use std::collections::BTreeSet;

use matcher::{Approved, likeness};
use schemas::advice::{Coverage, MISSING_MAX};
use schemas::drift::Lost;
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
    /// Where a lost path has gone, as a person decided.
    moved: BTreeSet<(String, String)>,
}

impl Knowledge {
    /// What the shipped mappings know, and the tenant's.
    pub async fn read(store: &dyn Store, tenant: TenantId) -> Result<Self, StoreError> {
        let mut known = Self::default();
        shipped_systems()
            .filter_map(shipped_mapping)
            .for_each(|file| file.streams.values().for_each(|m| known.take(m)));
        known.read_mappings(store, tenant).await?;
        known.read_cases(store, tenant).await?;
        Ok(known)
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
        for (field, rules) in &mapping.fields {
            for path in rules.0.iter().flat_map(|rule| &rule.from.0).flat_map(|path| path.texts()) {
                self.fills.insert((mapping.entity.to_string(), field.to_string(), path));
            }
        }
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
