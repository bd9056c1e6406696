//! Knowledge: which paths fill which fields, as mappings say that the tenant's people have approved, and the shipped ones;
//! and which lost paths have gone where, as its people decided. Only this tenant's, and what ships with the product.

use std::collections::{BTreeMap, BTreeSet};

use matcher::{Approved, likeness};
use schemas::advice::{Coverage, MISSING_MAX};
use schemas::drift::{DriftKind, Lost, Move};
use schemas::mapping::{Method, Paths, Rule};
use schemas::{EntityName, Mapping, TenantId, shipped_mapping, shipped_systems};

use super::{Case, Deed, MappingVersion, RULES};
use crate::store::{Row, Store, StoreError, Table};

/// Names at least so alike mean the same.
pub const LIKE_MIN: f32 = 0.8;
/// Rows that are read at once: of the longest mappings some megabytes.
const PAGE: usize = 32;
/// Bytes of a tenant's mappings that are looked at, and of its cases: what comes later in their order is not known.
const BYTES_MAX: usize = 8 << 20;

/// What is known to a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Knowledge {
    /// Entity, field, and a path that fills it.
    pub(super) fills: BTreeSet<(String, String, String)>,
    /// How a path fills a field of an entity, where that takes more than reading it.
    rules: BTreeMap<(String, String, String), Rule>,
    /// Entity, and what sources call it, in lower case.
    called: BTreeSet<(String, String)>,
    /// Entity, a lost path, and where it has gone as it was, as a person decided.
    moved: BTreeSet<(String, String, String)>,
}

/// The rows of a table of one tenant, page by page, until so many bytes were read.
struct Pages<'a> {
    store: &'a dyn Store,
    tenant: TenantId,
    table: Table,
    after: Option<String>,
    left: usize,
}

impl Pages<'_> {
    /// The next rows; none behind the last, and nothing when there may be more, which are too many.
    async fn next(&mut self) -> Result<Option<Vec<(String, Row)>>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        let page = self.store.scan(self.tenant, self.table, "", self.after.as_deref(), PAGE).await?;
        self.left = self.left.saturating_sub(page.iter().map(|(_, row)| row.value.len()).sum());
        self.after = page.last().map(|(key, _)| key.clone());
        Ok(Some(page))
    }
}

impl Knowledge {
    /// What the shipped mappings know, and the tenant's.
    pub async fn read(store: &dyn Store, tenant: TenantId) -> Result<Self, StoreError> {
        Self::read_within(store, tenant, BYTES_MAX).await
    }

    /// The same, of so many bytes of either.
    async fn read_within(store: &dyn Store, tenant: TenantId, bytes: usize) -> Result<Self, StoreError> {
        let pages = |table| Pages { store, tenant, table, after: None, left: bytes };
        let mut known = Self::shipped();
        let entities = known.read_mappings(pages(Table::Mappings)).await?;
        known.read_cases(pages(Table::Cases), &entities).await?;
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

    /// Takes in the mapping in force of each stream: its last version. Answers what the streams fill.
    async fn read_mappings(&mut self, mut pages: Pages<'_>) -> Result<BTreeMap<String, EntityName>, StoreError> {
        let mut entities = BTreeMap::new();
        let mut last: Option<(String, Row)> = None;
        loop {
            // Of a stream whose versions were not all looked at nobody knows which is in force.
            let Some(page) = pages.next().await? else { return Ok(entities) };
            let is_end = page.is_empty();
            for (key, row) in page {
                let Some((stream, _)) = key.rsplit_once('/') else { continue };
                match last.replace((stream.to_owned(), row)) {
                    Some((before, row)) if before != stream => self.take_in_force(before, &row, &mut entities),
                    _ => {}
                }
            }
            if is_end {
                if let Some((stream, row)) = last {
                    self.take_in_force(stream, &row, &mut entities);
                }
                return Ok(entities);
            }
        }
    }

    fn take_in_force(&mut self, stream: String, row: &Row, entities: &mut BTreeMap<String, EntityName>) {
        // A version that cannot be read teaches nothing.
        let Ok(version) = serde_json::from_slice::<MappingVersion>(&row.value) else { return };
        if let Some(mapping) = version.text.as_deref().and_then(|text| serde_json::from_str::<Mapping>(text).ok()) {
            self.take(&mapping);
        }
        entities.insert(stream, version.entity);
    }

    async fn read_cases(
        &mut self,
        mut pages: Pages<'_>,
        entities: &BTreeMap<String, EntityName>,
    ) -> Result<(), StoreError> {
        loop {
            let Some(page) = pages.next().await?.filter(|page| !page.is_empty()) else { return Ok(()) };
            for case in page.iter().filter_map(|(_, row)| serde_json::from_slice::<Case>(&row.value).ok()) {
                if let Some(entity) = entities.get(&case.stream) {
                    self.take_case(entity, &case);
                }
            }
        }
    }

    /// Takes in where people say that the lost paths of a case have gone.
    fn take_case(&mut self, entity: &EntityName, case: &Case) {
        // What was taken back was wrong.
        if case.decided.iter().any(|decided| decided.status == Deed::Reverted) {
            return;
        }
        let by_people = case.decided.iter().filter(|d| d.status == Deed::Repaired && d.by != RULES);
        for to in by_people.flat_map(|decided| &decided.moves).filter(|to| is_plain(to, &case.lost)) {
            if let [only] = &to.to[..] {
                self.moved.insert((entity.to_string(), to.from.clone(), only.clone()));
            }
        }
    }

    /// Takes in what a mapping says, but for rules that were made without a person.
    fn take(&mut self, mapping: &Mapping) {
        let entity = mapping.entity.to_string();
        self.called.extend(mapping.objects.iter().map(|name| (entity.clone(), name.to_ascii_lowercase())));
        for (field, rules) in &mapping.fields {
            for rule in rules.0.iter().filter(|rule| rule.method != Some(Method::Heuristic)) {
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
            [field] => Some(Approved { source: path.to_owned(), target: field.to_owned(), near: None }),
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

    /// Where people say that lost paths of an entity's streams have gone as they were.
    pub fn approved(&self, entity: &EntityName) -> Vec<Approved> {
        let of_entity = self.moved.iter().filter(|(of, ..)| of == entity.as_str());
        of_entity.map(|(_, from, to)| Approved { source: from.clone(), target: to.clone(), near: None }).collect()
    }

    /// Whether an approved mapping like it says that a lost path may be at one of the added ones.
    pub fn knows(&self, entity: &EntityName, lost: &Lost, added: &[String]) -> bool {
        let is_like = |one: &str, other: &str| likeness(one, other) > LIKE_MIN;
        let fills = self.fills.iter().filter(|(of, field, _)| *of == entity.as_str() && lost.feeds.contains(field));
        let moved = self.moved.iter().filter(|(of, from, _)| of == entity.as_str() && is_like(from, &lost.path));
        let mut places = fills.map(|(_, _, path)| path).chain(moved.map(|(_, _, to)| to));
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

/// Whether a lost path is elsewhere with the values that it had: what else was done to it was right for that stream alone.
fn is_plain(to: &Move, lost: &[Lost]) -> bool {
    let is_as_it_was = to.transform.is_none() && to.change.is_none() && to.part.is_none() && !to.is_in_place();
    // A swap, another unit and nulls are told by what was lost.
    let is_gone = lost.iter().any(|lost| lost.path == to.from && lost.change.is_none());
    is_as_it_was && is_gone && matches!(to.kind, DriftKind::Renamed | DriftKind::Nested | DriftKind::Unnested)
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
    use matcher::Field;
    use schemas::Position;
    use schemas::drift::Change;
    use schemas::input::DefinitionHash;

    use super::super::cases::key_of;
    use super::super::{Decided, Origin};
    use super::*;
    use crate::store::{Expect, MemoryStore};
    use crate::testing::TENANT;

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

    const POSITION: Position = Position { epoch: 1, partition: 0, offset: 7 };

    /// A version of a stream's mapping, with these fields.
    async fn keep_version(store: &MemoryStore, stream: &str, version: u32, entity: &str, fields: &str) {
        let text = format!(r#"{{"entity":"{entity}","key":"Id","fields":{fields}}}"#);
        let made = MappingVersion {
            version,
            entity: entity.parse().unwrap(),
            hash: DefinitionHash::of(&text),
            text: Some(text),
            origin: Origin::Set,
            by: "user:ada".into(),
            why: String::new(),
            case: None,
            position: POSITION,
            at: 0,
        };
        let (key, value) = (format!("{stream}/{version:010}"), serde_json::to_vec(&made).unwrap());
        store.put(TENANT, Table::Mappings, &key, value.into(), Expect::Any).await.unwrap();
    }

    fn to(from: &str, to: &str) -> Move {
        let (from, to, kind) = (from.to_owned(), vec![to.to_owned()], DriftKind::Renamed);
        Move { from, to, kind, confidence: 1000, part: None, change: None, transform: None, signals: vec![] }
    }

    /// A case that somebody has repaired so.
    async fn keep_case(store: &MemoryStore, stream: &str, offset: u64, by: &str, lost: Vec<Lost>, moves: Vec<Move>) {
        let mut case = Case::new(Position { offset, ..POSITION }, stream.to_owned(), 0, 0);
        let (removed, why) = (vec![], String::new());
        case.lost = lost;
        case.decided = vec![Decided { status: Deed::Repaired, moves, removed, by: by.to_owned(), why, at: 0 }];
        let value = serde_json::to_vec(&case).unwrap();
        store.put(TENANT, Table::Cases, &key_of(stream, offset), value.into(), Expect::Any).await.unwrap();
    }

    fn sources(approved: &[Approved]) -> Vec<&str> {
        approved.iter().map(|approved| approved.source.as_str()).collect()
    }

    #[tokio::test]
    async fn what_people_say_has_gone_elsewhere_as_it_was_is_known_for_its_entity_alone() {
        let store = MemoryStore::default();
        keep_version(&store, "crm/orders", 1, "order", "{}").await;
        let cents = Move { transform: Some(Box::default()), ..to("Total", "TotalCents") };
        let unit = Move { change: Some(Change::Unit { shift: 2 }), ..to("Net", "NetCents") };
        let part = Move { part: Some(0), ..to("First", "Name") };
        let mut swapped = lost("Bill", "bill");
        swapped.change = Some(Change::Swapped { with: "Ship".into() });
        let all =
            vec![lost("Total", "total"), lost("Net", "net"), lost("First", "first"), swapped, lost("Who", "buyer")];
        let moves = vec![cents, unit, part, to("Bill", "Ship"), to("Who", "Buyer")];
        keep_case(&store, "crm/orders", 1, "user:ada", all, moves).await;
        keep_case(&store, "crm/orders", 2, RULES, vec![lost("Note", "note")], vec![to("Note", "Remark")]).await;
        let known = Knowledge::read(&store, TENANT).await.unwrap();
        assert_eq!(sources(&known.approved(&"order".parse().unwrap())), ["Who"]);
        let people: EntityName = "person".parse().unwrap();
        assert_eq!(known.approved(&people), []);
        assert!(!known.knows(&people, &lost("Who", "buyer"), &["Buyer".to_owned()]));
    }

    #[tokio::test]
    async fn what_another_tenant_has_approved_counts_neither_by_its_name_nor_by_a_near_one() {
        let store = MemoryStore::default();
        keep_version(&store, "crm/orders", 1, "order", r#"{"buyer":"Kd_Nr"}"#).await;
        keep_case(&store, "crm/orders", 1, "user:ada", vec![lost("Who", "note")], vec![to("Who", "zzq")]).await;
        let order: EntityName = "order".parse().unwrap();
        let paths = ["KdNr", "Kd_Nr", "ZZQ"].map(|name| Field { name: name.to_owned(), ..Field::default() });
        let near = |known: &Knowledge| {
            let gone = [lost("WHO", "note"), lost("Sum", "buyer")];
            let all = [known.approved_for(&order, &paths), known.approved_moves(&order, &gone, &paths)].concat();
            let pair = |one: &Approved| (one.source.clone(), one.target.clone(), one.near.is_some());
            all.iter().map(pair).collect::<Vec<_>>()
        };
        let ours = [
            ("Kd_Nr", "buyer", false),
            ("KdNr", "buyer", true),
            ("Who", "zzq", false),
            ("WHO", "ZZQ", true),
            ("Sum", "KdNr", true),
            ("Sum", "Kd_Nr", true),
        ];
        let ours = ours.map(|(source, target, is_near)| (source.to_owned(), target.to_owned(), is_near));
        assert_eq!(near(&Knowledge::read(&store, TENANT).await.unwrap()), ours);
        assert!(near(&Knowledge::read(&store, TenantId::generate()).await.unwrap()).is_empty());
    }

    #[tokio::test]
    async fn only_what_people_put_into_the_mapping_in_force_is_approved() {
        let store = MemoryStore::default();
        keep_version(&store, "crm/orders", 1, "order", r#"{"total":"wrong_total","note":"Remark"}"#).await;
        let by_rules = r#"{"from":"zz_who","method":"heuristic","confidence":950}"#;
        let fields = format!(r#"{{"total":"right_total","buyer":{by_rules},"note":"Remark"}}"#);
        keep_version(&store, "crm/orders", 2, "order", &fields).await;
        keep_version(&store, "shop/orders", 1, "order", r#"{"total":"shop_total"}"#).await;
        let order: EntityName = "order".parse().unwrap();
        let known = Knowledge::read(&store, TENANT).await.unwrap();
        let approved = known.approved_of(&order);
        let has = |path: &str| sources(&approved).contains(&path);
        assert!(has("right_total") && has("Remark") && has("shop_total"), "{approved:?}");
        assert!(!has("wrong_total"), "it was replaced");
        assert!(!has("zz_who"), "nobody has approved it");
    }

    #[tokio::test]
    async fn what_is_too_much_to_be_looked_at_is_not_known_and_nothing_goes_by_half() {
        let store = MemoryStore::default();
        keep_version(&store, "a/orders", 1, "order", r#"{"total":"first_total"}"#).await;
        // A page is read to its end; the last version stands behind it.
        for version in 1..=PAGE as u32 {
            let fields = format!(r#"{{"total":"total_{version}"}}"#);
            keep_version(&store, "b/orders", version, "order", &fields).await;
        }
        let order: EntityName = "order".parse().unwrap();
        let known = Knowledge::read_within(&store, TENANT, 1).await.unwrap().approved_of(&order);
        let is_of_b = |path: &&str| path.strip_prefix("total_").is_some_and(|rest| rest.parse::<usize>().is_ok());
        assert!(sources(&known).contains(&"first_total") && !sources(&known).iter().any(is_of_b), "{known:?}");
        let known = Knowledge::read(&store, TENANT).await.unwrap().approved_of(&order);
        let last = format!("total_{PAGE}");
        assert_eq!(sources(&known).into_iter().filter(|path| is_of_b(path)).collect::<Vec<_>>(), [last]);
    }
}
