//! Schemas that sources declare: what is gone from one is missed from the first record on, what came is told at once.

use std::collections::BTreeMap;

use schemas::decision::Fact;
use schemas::input::DeclaredField;
use schemas::mapping::Path;
use schemas::shape::{ELEMENTS, ShapeTree};
use serde::{Deserialize, Serialize};

use super::Drift;
use super::watch::Watch;

/// The fields that a source declared last, each with its type as a bit, 0 where it tells none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared(BTreeMap<String, u8>);

/// Whether a path lies within another.
fn is_inside(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.') || rest.starts_with(ELEMENTS))
}

impl Declared {
    /// The schema of these fields, named as shapes name them.
    pub fn of(fields: &[DeclaredField]) -> Self {
        let named = |field: &DeclaredField| {
            let path = Path::new(&field.path).ok().and_then(|path| path.texts().next())?;
            Some((path, field.class.map_or(0, |class| class as u8)))
        };
        Self(fields.iter().filter_map(named).collect())
    }

    /// Whether records may have a path: it is declared, or lies within something that does not tell what is in it.
    fn has(&self, path: &str) -> bool {
        let is_opaque = |outer: &str| !self.0.keys().any(|inner| is_inside(inner, outer));
        self.0.contains_key(path) || self.0.keys().any(|outer| is_inside(path, outer) && is_opaque(outer))
    }

    fn has_any(&self, watch: &Watch) -> bool {
        watch.paths.iter().any(|path| self.has(path))
    }

    /// Paths that the schema has and another one has not, nor anything in them.
    fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a String> {
        let is_split = move |path: &str| other.0.keys().any(|inner| is_inside(inner, path));
        self.0.keys().filter(move |path| !other.has(path) && !is_split(path))
    }

    /// Whether two say that a path has another type.
    fn is_retyped(&self, other: &Self, watch: &Watch) -> bool {
        let class = |declared: &Self, path: &String| declared.0.get(path).copied().filter(|class| *class != 0);
        watch.paths.iter().any(|path| match (class(self, path), class(other, path)) {
            (Some(before), Some(now)) => before != now,
            _ => false,
        })
    }
}

impl Drift {
    /// The schema that the source declared last.
    pub fn declared(&self) -> Option<&Declared> {
        self.declared.as_ref()
    }

    /// The records that follow have these fields.
    pub(in crate::step) fn declare(
        &mut self,
        fields: &[DeclaredField],
        offset: u64,
        tree: &ShapeTree,
        facts: &mut Vec<Fact>,
    ) {
        let now = Declared::of(fields);
        let before = self.declared.take();
        if before.as_ref() != Some(&now) {
            let is_missed = self.expect(before.as_ref(), &now);
            if let Some(before) = before {
                let is_read = |path: &Path| {
                    let node = path.choices().first().and_then(|parts| tree.find(parts));
                    node.is_some_and(|node| tree.is_requested(node))
                };
                let is_new = |field: &&DeclaredField| {
                    let Ok(path) = Path::new(&field.path) else { return false };
                    !path.texts().any(|text| before.has(&text)) && !is_read(&path)
                };
                // What came with something that went may be that.
                let came = fields.iter().filter(|field| !is_missed && is_new(field)).map(|field| field.path.clone());
                let is_unread = |path: &&String| !Path::new(path).is_ok_and(|path| is_read(&path));
                let gone = before.without(&now).filter(is_unread).cloned().collect();
                self.changed_at(came.collect(), gone, offset, tree, facts);
            }
        }
        self.declared = Some(now);
    }

    /// Notes which watches the records that follow will lack; true when there are some.
    fn expect(&mut self, before: Option<&Declared>, now: &Declared) -> bool {
        let mut is_missed = false;
        for watch in &mut self.watches {
            let was = before.map_or(watch.usual.present > 0, |before| before.has_any(watch));
            let is_gone = was && !now.has_any(watch) && !watch.may_lack;
            let is_retyped = before.is_some_and(|before| before.is_retyped(now, watch));
            watch.is_due = is_gone || is_retyped;
            watch.is_typed &= !watch.is_due;
            if is_retyped && watch.types != 0 {
                watch.know_types();
            }
            is_missed |= watch.is_due;
        }
        is_missed
    }
}
