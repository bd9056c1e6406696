//! Drift: what the records of a stream usually have, what they lack now, and the cases that this makes. A part of the
//! stream's state: a fold of its inputs, in whole numbers.

mod cases;
mod format;
mod profile;
mod revert;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;

use schemas::decision::Fact;
use schemas::drift::Lost;
use schemas::shape::{ShapeTree, Slot};
use serde::{Deserialize, Serialize};

pub use cases::{Case, Phase};
pub use format::{FORMATS, Format};
pub use profile::{Profile, Profiles, SAMPLES_MAX, Sample};
pub(super) use revert::Applied;

use super::rules::Rules;
use watch::{Watch, watches};

/// Of the records that a case holds, so many are looked at wholly, and behind them one of sixteen.
const HELD_WHOLE: u64 = 1_000;
const HELD_EVERY: u64 = 16;
/// Cases that wait for their records to come again; while there are as many, none more is closed.
const RELEASED_MAX: usize = 64;

/// What a stream knows of its drift.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Drift {
    watches: Vec<Watch>,
    /// By the offset of the input at which they began.
    cases: BTreeMap<u64, Case>,
    profiles: Profiles,
    /// The last decisions, which can be taken back, by their cases.
    #[serde(default)]
    applied: BTreeMap<u64, Applied>,
    /// The stream's mapping version.
    #[serde(skip)]
    mapping_version: u32,
    /// Watches that the record at hand lacks.
    #[serde(skip)]
    lacking: Vec<usize>,
    /// While a case is open, everything that comes is held for it.
    #[serde(skip)]
    stops: bool,
}

/// A record on its way, walked and not yet mapped.
pub(super) struct Passing<'a> {
    pub(super) payload: &'a str,
    pub(super) slots: &'a [Slot],
    /// Where it stands on `inputs`, and where it first entered.
    pub(super) offset: u64,
    pub(super) origin: u64,
    /// When the log took it.
    pub(super) logged_at: i64,
    /// Whether it brings its key and its version itself.
    pub(super) has_key: bool,
    pub(super) has_version: bool,
    /// The case that held it before.
    pub(super) freed_by: Option<u64>,
}

impl Drift {
    /// Watches what a mapping reads. What was watched before under the same paths, or some of them, goes on.
    pub(super) fn bind(&mut self, rules: &Rules, mapping_version: u32) {
        self.mapping_version = mapping_version;
        let before = std::mem::take(&mut self.watches);
        self.watches = watches(rules);
        for watch in &mut self.watches {
            let same = before.iter().find(|old| old.paths == watch.paths);
            let is_part = |one: &Watch, other: &Watch| one.paths.iter().all(|path| other.paths.contains(path));
            let part = |old: &&Watch| is_part(old, watch) || is_part(watch, old);
            if let Some(old) = same.or_else(|| before.iter().find(part)) {
                (watch.usual, watch.case, watch.since, watch.beside) = (old.usual, old.case, old.since, old.beside);
                // Another path may be of another type: what it has is learnt anew.
                if old.paths == watch.paths {
                    (watch.types, watch.learnt) = (old.types, old.learnt);
                }
            }
        }
    }

    /// Whether everything that comes is held while a case is open.
    pub(super) fn set_stops(&mut self, stops: bool) {
        self.stops = stops;
    }

    /// The case for which everything is held that comes for the first time.
    fn stopped_by(&self) -> Option<u64> {
        let open = || self.cases.iter().find(|(_, case)| case.phase == Phase::Open).map(|(id, _)| *id);
        if self.stops { open() } else { None }
    }

    /// The cases that are not over, by the offset of the input at which they began.
    pub fn cases(&self) -> &BTreeMap<u64, Case> {
        &self.cases
    }

    /// The profiles of the stream's paths.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// What a case's records lack.
    pub fn lost(&self, case: u64, tree: &ShapeTree) -> Vec<Lost> {
        self.watches.iter().filter(|watch| watch.case == Some(case)).map(|watch| self.lost_of(watch, tree)).collect()
    }

    fn lost_of(&self, watch: &Watch, tree: &ShapeTree) -> Lost {
        let seen = |path: &&String| {
            let parts = schemas::mapping::Path::new(path).ok().and_then(|p| p.choices().first().cloned());
            let node = parts.and_then(|parts| tree.find(&parts));
            node.and_then(|node| self.profiles.of(node)).map_or(0, |profile| profile.values)
        };
        watch.lost(watch.paths.iter().rev().max_by_key(seen).cloned())
    }

    /// Looks at a record; true when it is held. `is_deleted` says whether it tells a delete: that is never suspect.
    #[inline]
    pub(super) fn examine(
        &mut self,
        record: &Passing<'_>,
        tree: &ShapeTree,
        facts: &mut Vec<Fact>,
        is_deleted: impl FnOnce() -> bool,
    ) -> bool {
        self.lacking.clear();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            if watch.is_lacking(record.slots, record.payload.as_bytes()) {
                self.lacking.push(at);
            }
        }
        if self.cases.is_empty() && self.lacking.is_empty() {
            self.watches.iter_mut().for_each(Watch::have);
            if self.profiles.is_due() {
                self.profiles.look(tree, record.payload, record.offset, u64::MAX);
            }
            return false;
        }
        self.closely(record, tree, facts, is_deleted)
    }

    fn closely(
        &mut self,
        record: &Passing<'_>,
        tree: &ShapeTree,
        facts: &mut Vec<Fact>,
        is_deleted: impl FnOnce() -> bool,
    ) -> bool {
        let watches = &self.watches;
        self.lacking.retain(|at| !watches[*at].is_needless(record.has_key, record.has_version));
        if let Some(case) = record.freed_by.and_then(|case| self.cases.get(&case)) {
            self.lacking.retain(|at| !case.freed.contains(&watches[*at].paths));
        }
        if !self.lacking.is_empty() && is_deleted() {
            return false;
        }
        self.begin(record, facts);
        self.count(record.freed_by.is_some());
        let holder = self.lacking.iter().filter_map(|at| self.watches[*at].case).min();
        let holder = holder.or_else(|| if record.freed_by.is_none() { self.stopped_by() } else { None });
        match holder {
            Some(case) => self.hold(case, record, tree, facts),
            None if record.freed_by.is_none() => self.flow(record, tree),
            None => {}
        }
        let watching: Vec<u64> =
            self.cases.iter().filter(|(_, c)| c.phase == Phase::Watching).map(|(id, _)| *id).collect();
        for case in watching {
            self.settle(case, false, tree, facts);
        }
        holder.is_some()
    }

    /// A case for what the record lacks and no case is about, if it is missed.
    fn begin(&mut self, record: &Passing<'_>, facts: &mut Vec<Fact>) {
        let watches = &mut self.watches;
        let is_new = |watch: &Watch| watch.case.is_none() && watch.usual.is_steady();
        let missed: Vec<usize> = self.lacking.iter().copied().filter(|at| is_new(&watches[*at])).collect();
        if missed.is_empty() {
            return;
        }
        for at in missed {
            watches[at].case = Some(record.offset);
        }
        watches.iter_mut().for_each(|watch| watch.beside = 0);
        self.cases.insert(record.offset, Case::default());
        facts.push(cases::timer(record.offset, record.logged_at));
    }

    /// Counts the record for every watch that is in a case. One that comes again counts for what it lacks alone.
    fn count(&mut self, is_again: bool) {
        let mut lacking = self.lacking.iter().peekable();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            let is_lacking = lacking.next_if(|next| **next == at).is_some();
            match watch.case {
                Some(_) if is_lacking || !is_again => watch.count(is_lacking),
                _ => {}
            }
        }
    }

    fn hold(&mut self, holder: u64, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let Some(case) = self.cases.get_mut(&holder) else { return };
        case.held += 1;
        if case.held <= HELD_WHOLE || case.held.is_multiple_of(HELD_EVERY) {
            let has_new = self.profiles.look(tree, record.payload, record.offset, holder);
            case.with_new += u64::from(has_new);
        }
        for at in &self.lacking {
            self.watches[*at].beside += 1;
        }
        facts.push(Fact::RecordHeld { case: holder, origin: record.origin });
    }

    /// A record that is not held tells what is usual, of what no case is about.
    fn flow(&mut self, record: &Passing<'_>, tree: &ShapeTree) {
        let mut lacking = self.lacking.iter().peekable();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            let is_lacking = lacking.next_if(|next| **next == at).is_some();
            match (watch.case, is_lacking) {
                (Some(_), _) => {}
                (None, true) if watch.now == 0 => watch.usual.lack(),
                (None, _) => watch.have(),
            }
        }
        if self.profiles.is_due() {
            self.profiles.look(tree, record.payload, record.offset, u64::MAX);
        }
    }
}
