//! Drift: what the records of a stream usually have, what they lack now, and the cases that this makes. A part of the
//! stream's state: a fold of its inputs, in whole numbers.

mod beside;
mod blanks;
mod cases;
mod counts;
mod declared;
mod format;
mod former;
mod habit;
mod look;
mod maps;
mod meaning;
mod narrowing;
mod newcomers;
mod notice;
mod profile;
mod quantiles;
mod rare;
mod refill;
mod revert;
mod room;
mod seen;
mod since;
mod sparse;
mod spelling;
mod style;
#[cfg(test)]
mod tests;
mod traits;
mod usual;
mod waning;
mod watch;
mod widen;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use schemas::decision::Fact;
use schemas::drift::Lost;
use schemas::shape::{NodeId, ShapeTree, Slot, SlotKind, leaves};
use serde::{Deserialize, Serialize};

pub use blanks::Blanks;
pub use cases::{Case, Phase};
pub use declared::Declared;
pub use format::{FORMATS, Format};
pub(super) use maps::anchor;
pub use notice::Notice;
pub use profile::{PATHS_MAX, Profile, Profiles, SAMPLES_MAX, Sample};
pub use quantiles::Quantiles;
pub(crate) use revert::APPLIED_MAX;
pub(super) use revert::Applied;

use super::rules::Rules;
use cases::{TOLD_AGAIN, once_more};
use habit::Habit;
use look::Due;
use newcomers::Newcomers;
use notice::unread;
use rare::Stray;
use refill::Refill;
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
    /// Cases that hold nothing, by the offset of the input at which they began.
    #[serde(default)]
    notices: BTreeMap<u64, Notice>,
    /// What the values of each watch usually are.
    #[serde(default)]
    habits: Vec<Habit>,
    /// Records that are looked at although their turn has not come, because something is suspect.
    #[serde(default)]
    looks_left: u8,
    #[serde(default)]
    newcomers: Newcomers,
    #[serde(default)]
    declared: Option<Declared>,
    /// Paths that came and were hardly there since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    strays: Vec<Stray>,
    /// What was accepted as null and is looked at again, since another path has it, by the cases that were decided so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    refills: BTreeMap<u64, Vec<Refill>>,
    /// Fields that went and were told, as an earlier release noted them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    told_gone: BTreeSet<String>,
    /// Hashes of the fields that no rule reads and that were told as they came or went, the oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    told_fields: VecDeque<u64>,
    /// The last decisions, which can be taken back, by their cases.
    #[serde(default)]
    applied: BTreeMap<u64, Applied>,
    /// What the values were before them, by the same cases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    former: BTreeMap<u64, Vec<Habit>>,
    /// The stream's mapping version.
    #[serde(skip)]
    mapping_version: u32,
    /// Fields that no row can do without.
    #[serde(skip)]
    required: Vec<String>,
    /// Watches that the record at hand lacks.
    #[serde(skip)]
    lacking: Vec<usize>,
    /// Records in a row that brought nothing new, some of which a watch may have to count yet.
    #[serde(skip)]
    as_ever: u64,
    /// While a case is open, everything that comes is held for it.
    #[serde(skip)]
    stops: bool,
    /// A mapping was bound since a record was looked at.
    #[serde(skip)]
    is_bound: bool,
    /// As many cases are over as may wait for their records, and none of them has them all: known from when it was counted.
    #[serde(skip)]
    is_crowded: bool,
    /// What [`Drift::has_orphan`] said when a mapping was bound, or a record was looked at closely since.
    #[serde(skip)]
    has_orphan: bool,
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
    /// It was accepted before that case was sure.
    pub(super) is_recalled: bool,
    /// The first of its paths that was never seen before and is no key of a map.
    pub(super) new_from: Option<NodeId>,
    /// Whether a path came back that hardly ever was there.
    pub(super) has_stray: bool,
    /// Stands between it and what was walked before.
    pub(super) mark: u64,
}

impl Passing<'_> {
    /// Whether it comes for the first time, with a path that was never, or hardly ever, there.
    #[inline]
    fn has_fresh(&self) -> bool {
        (self.new_from.is_some() || self.has_stray) && self.freed_by.is_none()
    }
}

impl Drift {
    /// Watches what a mapping reads. What was watched before under the same paths, or some of them, goes on.
    pub(super) fn bind(&mut self, rules: &Rules, mapping_version: u32) {
        (self.mapping_version, self.is_bound) = (mapping_version, true);
        let before = std::mem::take(&mut self.watches);
        self.watches = watches(rules);
        for watch in &mut self.watches {
            let same = before.iter().find(|old| old.paths == watch.paths);
            let is_part = |one: &Watch, other: &Watch| one.paths.iter().all(|path| other.paths.contains(path));
            let part = |old: &&Watch| is_part(old, watch) || is_part(watch, old);
            if let Some(old) = same.or_else(|| before.iter().find(part)) {
                (watch.usual, watch.case, watch.since, watch.beside) = (old.usual, old.case, old.since, old.beside);
                (watch.is_sparse, watch.is_due, watch.may_lack) = (old.is_sparse, old.is_due, old.may_lack);
                (watch.is_typed, watch.waning) = (old.is_typed, old.waning);
                watch.away = old.away;
                watch.of_type.clone_from(&old.of_type);
                // Another path may be of another type: what it has is learnt anew.
                if old.paths == watch.paths {
                    (watch.types, watch.learnt) = (old.types, old.learnt);
                }
            }
        }
        self.required = rules.fields.iter().filter(|field| field.required).map(|field| field.name.clone()).collect();
        self.bind_habits(rules);
        self.has_orphan = self.has_orphan();
    }

    /// Whether it is not told yet of a case that what it misses is back, though nothing it misses is read any more: a decision
    /// of another case bound a mapping without it. The next record that is looked at closely ends it.
    fn has_orphan(&self) -> bool {
        let is_orphan = |id: &u64| self.watches.iter().all(|watch| watch.case != Some(*id));
        self.cases.iter().any(|(id, case)| case.phase == Phase::Watching && is_orphan(id))
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

    /// Whether a case holds records.
    pub(super) fn holds_any(&self, case: u64) -> bool {
        self.cases.get(&case).is_some_and(|case| case.held > 0)
    }

    /// The cases that wait for a suggestion: those that lack something.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        let open = self.cases.iter().filter(|(_, case)| case.phase == Phase::Open).map(|(id, _)| *id);
        open.chain(self.notices.iter().filter(|(_, notice)| !notice.lost.is_empty()).map(|(id, _)| *id))
    }

    /// The profiles of the stream's paths.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// What is told of a case as lost: what its records lack, or what a declared schema has no more, though no rule reads it.
    fn told_lost(&self, case: u64, tree: &ShapeTree) -> Vec<Lost> {
        match self.notices.get(&case) {
            Some(notice) if notice.lost.is_empty() => notice.gone.iter().map(|path| unread(path)).collect(),
            _ => self.lost(case, tree),
        }
    }

    /// What a case's records lack.
    pub fn lost(&self, case: u64, tree: &ShapeTree) -> Vec<Lost> {
        if let Some(notice) = self.notices.get(&case) {
            return notice.lost.clone();
        }
        self.watches.iter().filter(|watch| watch.case == Some(case)).map(|watch| self.lost_of(watch, tree)).collect()
    }

    fn lost_of(&self, watch: &Watch, tree: &ShapeTree) -> Lost {
        let lost = watch.lost(self.seen_path(watch, tree));
        Lost { change: self.change_of(watch, lost.retyped), ..lost }
    }

    /// Of the paths of a watch the one that records have had.
    fn seen_path(&self, watch: &Watch, tree: &ShapeTree) -> Option<String> {
        let seen = |path: &&String| {
            let parts = schemas::mapping::Path::new(path).ok().and_then(|p| p.choices().first().cloned());
            let node = parts.and_then(|parts| tree.find(&parts));
            node.and_then(|node| self.profiles.of(node)).map_or(0, |profile| profile.values)
        };
        watch.paths.iter().rev().max_by_key(seen).cloned()
    }

    /// Looks at a record that tells no delete; true when it is held.
    #[inline]
    pub(super) fn examine(&mut self, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) -> bool {
        let (slots, payload, so_far) = (record.slots, record.payload.as_bytes(), self.as_ever);
        let is_first = record.freed_by.is_none() && !record.has_fresh();
        let is_plain = is_first && !self.has_orphan && self.stopped_by().is_none();
        if is_plain && self.watches.iter_mut().all(|watch| watch.is_as_ever(slots, payload, so_far)) {
            self.as_ever += 1;
            self.sample(record, tree, facts);
            return false;
        }
        self.count_as_ever();
        if record.has_fresh() {
            self.note_strays(record, tree);
        }
        self.lacking.clear();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            if watch.is_lacking(record.slots, record.payload.as_bytes()) {
                self.lacking.push(at);
            }
        }
        if self.cases.is_empty() && self.lacking.is_empty() {
            self.watches.iter_mut().for_each(Watch::have);
            self.sample(record, tree, facts);
            return false;
        }
        self.closely(record, tree, facts)
    }

    /// Counts the records that brought nothing new. Behind it the state may be read.
    pub(super) fn count_as_ever(&mut self) {
        let records = std::mem::take(&mut self.as_ever);
        for watch in &mut self.watches {
            watch.count_as_ever(records);
            watch.start_over();
        }
    }

    /// Looks at what a record has: at all of it when its turn has come, at what is mapped also while something is suspect.
    #[inline]
    fn sample(&mut self, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let is_due = self.profiles.is_due();
        if is_due || self.looks_left > 0 {
            self.look(is_due, record, tree, facts);
        }
    }

    fn look(&mut self, is_due: bool, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        if is_due {
            self.make_room(tree);
            self.profiles.look(tree, record.payload, record.offset, &mut |_, _, _| {});
            self.look_for_new(record, tree, facts);
            self.look_for_waning(record.offset, tree, facts);
        }
        self.see(record, tree, facts);
    }

    fn closely(&mut self, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) -> bool {
        let watches = &self.watches;
        self.lacking.retain(|at| !watches[*at].is_needless(record.has_key, record.has_version));
        if let Some(case) = record.freed_by.and_then(|case| self.cases.get(&case)) {
            self.lacking.retain(|at| !case.freed.contains(&watches[*at].paths));
        }
        self.widen(record, tree);
        self.lack_changed(record);
        self.begin(record, tree, facts);
        self.count();
        self.see_typed(record, tree, facts);
        let first_time = || if record.freed_by.is_none() { self.stopped_by() } else { None };
        let holder = self.holder(record, tree).or_else(first_time);
        match holder {
            Some(case) => self.hold(case, record, tree, facts),
            None if record.freed_by.is_none() => self.flow(record, tree, facts),
            None => self.teach(record),
        }
        self.look_widened(tree, facts);
        let mut last = None;
        while let Some(case) = self.watching_behind(last) {
            self.settle(case, Due::No, tree, facts);
            last = Some(case);
        }
        if self.has_orphan {
            self.has_orphan = self.has_orphan();
        }
        holder.is_some()
    }

    /// Of the cases of which it is not told yet whether what they miss is back, the first one behind another.
    fn watching_behind(&self, last: Option<u64>) -> Option<u64> {
        if self.has_orphan {
            let mut behind = self.cases.range(last.map_or(0, |last| last + 1)..);
            return behind.find(|(_, case)| case.phase == Phase::Watching).map(|(id, _)| *id);
        }
        let behind = self.watches.iter().filter_map(|watch| watch.case).filter(|case| last.is_none_or(|l| *case > l));
        behind.filter(|case| self.cases.get(case).is_some_and(|case| case.phase == Phase::Watching)).min()
    }

    /// A case for what the record lacks and no case is about, if it is missed: also of what only some records have, if
    /// another path came with this one, or its value is of a type that it never had.
    fn begin(&mut self, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let watches = &mut self.watches;
        let has_new = record.has_fresh();
        let is_new = |watch: &Watch| watch.is_missed() || watch.is_strange() || (has_new && watch.is_sometimes());
        let is_free = |at: &usize| watches[*at].case.is_none() && is_new(&watches[*at]);
        let missed: Vec<usize> = self.lacking.iter().copied().filter(is_free).collect();
        if missed.is_empty() {
            return;
        }
        for at in missed {
            watches[at].begin(record.offset);
        }
        watches.iter_mut().for_each(|watch| watch.beside = 0);
        let (new_from, strays) = self.new_with(record, tree);
        self.cases.insert(record.offset, Case { new_from, strays, ..Case::default() });
        facts.push(cases::timer(record.offset, record.logged_at));
    }

    /// The paths that are new with a record: from which one on, and those that are as good as new.
    fn new_with(&self, record: &Passing<'_>, tree: &ShapeTree) -> (Option<NodeId>, Vec<NodeId>) {
        let strays = self.strays.iter().map(|stray| stray.node).collect();
        (record.new_from.or_else(|| NodeId::try_from(tree.paths() + 1).ok()), strays)
    }

    /// The case that holds a record for what it lacks.
    fn holder(&self, record: &Passing<'_>, tree: &ShapeTree) -> Option<u64> {
        let lacking = || self.lacking.iter().map(|at| &self.watches[*at]);
        let is_always = |watch: &&Watch| !watch.is_sparse || watch.is_strange();
        let first = lacking().filter(is_always).filter_map(|watch| watch.case).min();
        first.or_else(|| {
            let sparse = || lacking().filter(|watch| watch.is_sparse).filter_map(|watch| watch.case);
            let next = |last: &u64| sparse().filter(|case| case > last).min();
            std::iter::successors(sparse().min(), next).find(|case| self.brings_new(*case, record, tree))
        })
    }

    /// Whether a record has a path that is new to a case.
    fn brings_new(&self, case: u64, record: &Passing<'_>, tree: &ShapeTree) -> bool {
        let Some(case) = self.cases.get(&case).filter(|case| case.may_be_in(record, tree)) else { return false };
        // The members of one object follow each other: it is asked once whether it is a map.
        let mut last = None;
        let mut is_key = |node, known| {
            let object = anchor(tree, node, known);
            let (_, is_map) =
                last.filter(|(of, _)| *of == object).unwrap_or_else(|| (object, self.is_in_map(tree, object, known)));
            last = Some((object, is_map));
            is_map
        };
        let mut is_new = |node: NodeId| match case.new_from {
            Some(from) if node >= from => !is_key(node, from.saturating_sub(1)),
            _ => case.strays.contains(&node),
        };
        let mut brings = false;
        leaves(tree, record.payload, &mut |node, kind, _| {
            brings = brings || (kind != SlotKind::Null && !tree.is_requested(node) && is_new(node));
        });
        brings
    }

    /// Counts the record for every watch that is in a case, one that comes again as well: it tells as much by what it has as
    /// by what it lacks.
    fn count(&mut self) {
        let mut lacking = self.lacking.iter().peekable();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            let is_lacking = lacking.next_if(|next| **next == at).is_some();
            if watch.case.is_some() {
                watch.count(is_lacking);
            }
        }
    }

    fn hold(&mut self, holder: u64, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let Some(case) = self.cases.get_mut(&holder) else { return };
        case.held += 1;
        let is_told_again = case.is_early && case.held == TOLD_AGAIN;
        let is_first = record.freed_by.is_none() && case.held <= HELD_WHOLE;
        if case.held <= HELD_WHOLE || case.held.is_multiple_of(HELD_EVERY) {
            self.look_at_held(holder, record, tree);
        }
        for at in &self.lacking {
            self.watches[*at].beside += 1;
        }
        self.note_held(record);
        facts.push(Fact::RecordHeld { case: holder, origin: record.origin });
        if is_told_again {
            self.told(holder, tree, facts);
            once_more(facts);
        }
        // Whatever else changed with it is told before it comes again.
        if is_first {
            self.see(record, tree, facts);
        }
    }

    /// A record that is not held tells what is usual, of what no case is about.
    fn flow(&mut self, record: &Passing<'_>, tree: &ShapeTree, facts: &mut Vec<Fact>) {
        let mut lacking = self.lacking.iter().peekable();
        for (at, watch) in self.watches.iter_mut().enumerate() {
            let is_lacking = lacking.next_if(|next| **next == at).is_some();
            match (watch.case, is_lacking) {
                (Some(_), _) => {}
                (None, true) if watch.now == 0 => watch.lack(1),
                (None, _) => watch.have(),
            }
        }
        self.sample(record, tree, facts);
    }
}
