//! Cases are decided here: by the rules when a suggestion is good enough, else by a person.

use schemas::decision::Fact;
use schemas::drift::{Change, Decide, DriftKind, Lost, Move, Tried, Verdict};
use schemas::mapping::{Method, Path, Repairs};
use schemas::policy::DecisionClass;
use schemas::shape::ShapeTree;
use schemas::{Entity, Mapping, Policy, Position};

use super::cast::shorten;
use super::drift::{Applied, Drift, PATHS_MAX, Phase};
use super::state::Opened;
use super::waiting::{Approved, RULES};
use super::{DEFINITION_BYTES_MAX, StreamState, check_change};

/// Moves that a suggestion or a decision may name.
const MOVES_MAX: usize = 2_000;
/// Characters of a name or reason that are kept.
const TEXT_CHARS_MAX: usize = 1_000;

/// Where lost paths may have gone, as somebody says who matched the fields.
pub(super) struct Suggested {
    /// The input that says so.
    pub(super) at: u64,
    pub(super) case: u64,
    pub(super) mapping_version: u32,
    pub(super) moves: Vec<Move>,
    pub(super) alternatives: Vec<Move>,
    pub(super) tried: Option<Tried>,
    /// A language model had a part in it: a person decides.
    pub(super) by_model: bool,
    /// The version of the case that it was made on, if it matters.
    pub(super) version: Option<u32>,
}

/// What is to be done with lost paths.
struct Repair<'a> {
    /// The input that says so.
    at: u64,
    moves: Vec<(Lost, Move)>,
    removed: Vec<Lost>,
    by: &'a str,
    why: &'a str,
    method: Method,
}

impl StreamState {
    /// Takes a suggestion in: applied when the policy lets it and it breaks nothing, else it waits for a person.
    pub(super) fn suggested(&mut self, suggested: Suggested, facts: &mut Vec<Fact>) -> Result<(), String> {
        let Suggested { at, case, mapping_version, moves, alternatives, tried, by_model, version } = suggested;
        self.check_case(case, mapping_version)?;
        self.waiting.check(case, version)?;
        if moves.len() + alternatives.len() > MOVES_MAX {
            return Err(format!("it names more than {MOVES_MAX} moves"));
        }
        let lost = self.drift.lost(case, &self.shape);
        let best = likeliest(&lost, &moves);
        if lost.is_empty() {
            return Err("the case lacks nothing: there is nothing to repair".to_owned());
        }
        let breaks = waits(&lost, &best, &self.drift, &self.shape, 0);
        let by_model = by_model.then(|| "a language model had a part in the proposal".to_owned());
        let waits = self.waits(case, &lost, &best, tried.as_ref()).or(by_model);
        facts.push(Fact::RepairProposed {
            case,
            mapping_version,
            moves: moves.clone(),
            alternatives,
            waits: waits.clone(),
            breaks,
            tried,
        });
        self.drift.propose(case, moves);
        if waits.is_some() {
            return Ok(());
        }
        let why = match self.repairs() {
            Repairs::Propagate => "the policy propagates what breaks nothing".to_owned(),
            _ => {
                let least = in_hundredths(self.policy.at_least(Repairs::Automatic));
                format!("every lost path has one counterpart at {least} or more, and nothing breaks")
            }
        };
        let repair = Repair { at, moves: best, removed: vec![], by: RULES, why: &why, method: Method::Heuristic };
        self.repair(case, repair, facts)
    }

    /// Why a suggestion waits for a person; nothing when it may be applied by itself.
    fn waits(&self, case: u64, lost: &[Lost], best: &[(Lost, Move)], tried: Option<&Tried>) -> Option<String> {
        if self.drift.is_reverting(case) {
            return Some("a repair of it was taken back".to_owned());
        }
        if self.waiting.is_rejected(case) {
            return Some("a proposal of it was rejected".to_owned());
        }
        let repairs = self.repairs();
        match repairs {
            Repairs::Approve => return Some("a person approves every repair of the stream".to_owned()),
            Repairs::Stop => return Some("the stream is stopped until a person decides".to_owned()),
            Repairs::Automatic | Repairs::Propagate => {}
        }
        if let Some(class) = self.for_two(best, &[]) {
            return Some(format!("two people decide what is {}", class.name()));
        }
        let blank = tried.filter(|tried| tried.blank() > 0).map(|tried| {
            let (blank, records) = (tried.blank(), tried.records);
            format!("of the last {records} held records {blank} would be blank where a value was before")
        });
        let unclean = || match tried {
            _ if repairs != Repairs::Automatic => None,
            Some(tried) if tried.is_clean() => None,
            Some(Tried { records, quarantined, held, .. }) => {
                Some(format!("of the last {records} held records {quarantined} would be set aside and {held} held on"))
            }
            None if self.drift.holds_any(case) => Some("it was not tried on the records that are held".to_owned()),
            None => None,
        };
        waits(lost, best, &self.drift, &self.shape, self.policy.at_least(repairs)).or(blank).or_else(unclean)
    }

    /// Takes a policy in, unless a later one is in force.
    pub(super) fn set_policy(
        &mut self,
        number: u64,
        policy: Policy,
        by: String,
        facts: &mut Vec<Fact>,
    ) -> Result<(), String> {
        if number == self.policy_number {
            return Ok(());
        }
        if number < self.policy_number {
            return Err(format!("the policy {} is in force, which is later", self.policy_number));
        }
        policy.validate().map_err(|e| e.to_string())?;
        (self.policy, self.policy_number) = (policy.clone(), number);
        self.drift.set_stops(self.repairs() == Repairs::Stop);
        facts.push(Fact::PolicySet { number, policy, by: cut(&by) });
        Ok(())
    }

    /// Carries out a person's decision.
    pub(super) fn decide(&mut self, decide: &Decide, at: u64, now: i64, facts: &mut Vec<Fact>) -> Result<(), String> {
        let decide = &Decide { by: cut(&decide.by), why: cut(&decide.why), ..decide.clone() };
        let Decide { case, mapping_version, verdict, by, why, .. } = decide;
        // What is taken back was decided, so its case may be open no more.
        if *verdict != Verdict::Revert {
            self.check_case(*case, *mapping_version)?;
        }
        self.waiting.check(*case, decide.version)?;
        let lets_go =
            matches!(verdict, Verdict::Approve { .. } | Verdict::Edit { .. } | Verdict::AcceptAsRemoved { .. });
        if decide.once_read && lets_go && self.drift.is_reading(*case) {
            return Err(
                "what was accepted before is still being looked at again for it: try again a little later".to_owned()
            );
        }
        let lost = self.drift.lost(*case, &self.shape);
        let is_seen = matches!(verdict, Verdict::Approve { .. } | Verdict::AcceptAsRemoved { .. });
        if is_seen && self.drift.notice(*case).is_some_and(|notice| notice.lost.is_empty()) {
            let (case, by, why) = (*case, by.clone(), why.clone());
            facts.push(Fact::RepairApplied { case, moves: vec![], removed: vec![], by, why });
            self.drift.settle_notice(case, &[], "seen", facts);
            return Ok(());
        }
        match verdict {
            Verdict::Approve { only } => {
                let lost = self.chosen(*case, lost, only)?;
                let moves = likeliest(&lost, self.drift.proposed(*case));
                if let Some(without) = lost.iter().find(|l| !moves.iter().any(|(known, _)| known == *l)) {
                    return Err(format!(
                        "nothing is proposed for {}: edit the case, accept it as removed, or approve the others only",
                        without.path
                    ));
                }
                self.by_people(decide, at, moves, vec![], facts)
            }
            Verdict::Edit { moves } if moves.is_empty() || moves.len() > MOVES_MAX => {
                Err(format!("name from 1 to {MOVES_MAX} moves"))
            }
            Verdict::Edit { moves } => {
                let froms: Vec<String> = moves.iter().map(|m| m.from.clone()).collect();
                once_each(moves)?;
                let lost = self.chosen(*case, lost, &froms)?;
                let moves = likeliest(&lost, moves).into_iter().map(|(l, m)| (l, Move { confidence: 1000, ..m }));
                self.by_people(decide, at, moves.collect(), vec![], facts)
            }
            Verdict::AcceptAsRemoved { only } => {
                let removed = self.chosen(*case, lost, only)?;
                self.by_people(decide, at, vec![], removed, facts)
            }
            Verdict::Revert => self.revert(decide, at, facts),
            Verdict::Reject => {
                self.drift.propose(*case, vec![]);
                facts.push(Fact::RepairRejected { case: *case, by: by.clone(), why: why.clone() });
                Ok(())
            }
            Verdict::Snooze { until } if *until <= now => Err("the time to ask again is over".to_owned()),
            Verdict::Snooze { until } => {
                self.waiting.snooze(decide, *until, facts);
                Ok(())
            }
        }
    }

    /// Carries a repair out once as many people have approved it as it takes.
    fn by_people(
        &mut self,
        decide: &Decide,
        at: u64,
        moves: Vec<(Lost, Move)>,
        removed: Vec<Lost>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), String> {
        // What cannot be done is refused before anybody is asked to approve it, too.
        self.repaired(&moves, Method::Human)?;
        self.check_targets(&moves)?;
        let class = self.for_two(&moves, &removed);
        match self.waiting.approve(decide, class, facts)? {
            Approved::Once => Ok(()),
            Approved::By(by) => {
                let (by, why, method) = (&*by, &*decide.why, Method::Human);
                self.repair(decide.case, Repair { at, moves, removed, by, why, method }, facts)
            }
        }
    }

    /// The lost paths of these names; all when none is named.
    fn chosen(&self, case: u64, lost: Vec<Lost>, only: &[String]) -> Result<Vec<Lost>, String> {
        if let Some(unknown) = only.iter().find(|name| !lost.iter().any(|l| l.path == **name)) {
            let decided = self.drift.applied(case).is_some_and(|known| known.lost.iter().any(|l| l.path == *unknown));
            let unknown = shorten(unknown);
            return Err(match decided {
                true => format!("{unknown} of the case is decided already: revert takes that back"),
                false => format!("the case has lost no path {unknown:?}"),
            });
        }
        Ok(lost.into_iter().filter(|l| only.is_empty() || only.contains(&l.path)).collect())
    }

    /// The case must wait for a decision, and the mapping be the one that the decision was made on.
    fn check_case(&self, case: u64, mapping_version: u32) -> Result<(), String> {
        if !self.drift.is_open(case) {
            return Err("the case is not open: it was decided, or there is none".to_owned());
        }
        match &self.opened {
            Some(opened) if opened.version == mapping_version => Ok(()),
            Some(opened) => Err(format!(
                "it was made on mapping version {mapping_version}, in force is {}: look again",
                opened.version
            )),
            None => Err("the stream is not open".to_owned()),
        }
    }

    /// The mapping with the new paths before the old ones.
    fn repaired(&self, moves: &[(Lost, Move)], method: Method) -> Result<Mapping, String> {
        let Some(opened) = &self.opened else { return Err("the stream is not open".to_owned()) };
        let mut mapping = opened.mapping.clone();
        // What is taken as it is now leaves the rules as they are.
        let is_change = |to: &Move| to.transform.is_some() || to.change.is_some() || !to.is_in_place();
        for (lost, to) in moves.iter().filter(|(_, to)| is_change(to)) {
            mapping = match to.transform {
                Some(_) => mapping.moved(lost, to, method),
                None => mapping.reread(&opened.entity, lost, to, method),
            }
            .map_err(|e| e.to_string())?;
        }
        mapping.validate(&opened.entity).map_err(|e| e.to_string())?;
        check_change(&opened.mapping, &mapping, false).map_err(|e| e.to_string())?;
        if mapping.text().len() > DEFINITION_BYTES_MAX {
            return Err(format!("the mapping would be longer than {DEFINITION_BYTES_MAX} bytes"));
        }
        Ok(mapping)
    }

    /// Puts the new paths before the old ones, and lets go what the case held for want of them.
    fn repair(&mut self, case: u64, repair: Repair<'_>, facts: &mut Vec<Fact>) -> Result<(), String> {
        let Repair { at, moves, removed, by, why, method } = repair;
        let mapping = self.repaired(&moves, method)?;
        let Some(opened) = &self.opened else { return Err("the stream is not open".to_owned()) };
        let (stays, moves): (Vec<_>, Vec<_>) = moves.into_iter().partition(|(_, to)| to.is_in_place());
        let (version, entity, by) = (opened.version + 1, opened.entity.clone(), by.to_owned());
        facts.push(Fact::RepairApplied {
            case,
            moves: moves.iter().chain(&stays).map(|(_, m)| m.clone()).collect(),
            removed: removed.iter().map(|lost| lost.path.clone()).collect(),
            by: by.clone(),
            why: why.to_owned(),
        });
        let lost = moves.iter().chain(&stays).map(|(lost, _)| lost.clone()).chain(removed.iter().cloned());
        let lost: Vec<Lost> = lost.collect();
        let is_fed = |name: &str| lost.iter().any(|lost| lost.feeds.iter().any(|feed| feed == name));
        let former = opened.mapping.fields.iter().filter(|(name, _)| is_fed(name.as_str()));
        let former = former.map(|(name, rules)| (name.clone(), rules.clone())).collect();
        let (since, fresh) = (self.drift.since(case), self.drift.fresh(case));
        let is_of_nulls = self.drift.notice(case).is_some();
        // That nulls were accepted changed nothing that could be put back.
        if !is_of_nulls || !moves.is_empty() {
            let version = if mapping == opened.mapping { opened.version } else { version };
            let new = self.drift.new_paths(case, moves.iter().map(|(_, to)| to), &self.shape);
            let types = self.drift.former_types(&lost);
            self.drift.remember(case, Applied { at, since, lost, former, fresh, new, types, version });
        }
        if mapping != opened.mapping {
            facts.push(activated(version, &entity, &mapping, mapping.text(), &by));
            self.opened = Some(Opened { entity, mapping, version });
        }
        if is_of_nulls && !moves.is_empty() {
            self.drift.refill(case, at, &moves, facts);
        }
        self.drift.hand_over(&moves, &self.shape);
        let moved: Vec<Lost> = moves.into_iter().map(|(lost, _)| lost).collect();
        let why = if removed.is_empty() { "repaired" } else { "accepted as removed" };
        let stays: Vec<Lost> = stays.into_iter().map(|(lost, _)| lost).chain(removed).collect();
        // Before the mapping is bound: under the watches that the case began with.
        if !stays.is_empty() {
            self.drift.decide(case, &stays, true, why, facts);
        }
        if !moved.is_empty() {
            self.drift.decide(case, &moved, false, why, facts);
        }
        self.bind();
        self.drift.end_mapped(&self.shape, facts);
        Ok(())
    }

    /// Puts the former rules of what a decision concerned back in force, and holds for the want of it again.
    fn revert(&mut self, decide: &Decide, at: u64, facts: &mut Vec<Fact>) -> Result<(), String> {
        let case = decide.case;
        let (Some(applied), Some(opened)) = (self.drift.applied(case).cloned(), &self.opened) else {
            return Err("nothing was decided of it that can be taken back".to_owned());
        };
        // A case of which only a part was decided holds on, and takes that part back.
        let is_part = self.drift.cases().get(&case).is_some_and(|case| case.phase == Phase::Open);
        if !is_part && self.drift.cases().contains_key(&case) {
            return Err("what it held is still on its way: try again a little later".to_owned());
        }
        let (named, version) = (decide.mapping_version, applied.version);
        // What an earlier release decided tells no version.
        if named != 0 && version != 0 && ![version, opened.version].contains(&named) {
            return Err(format!(
                "it was made on mapping version {named}, the decision left {version} in force: look again"
            ));
        }
        if let Some(later) = self.drift.stands_on(case) {
            let position = Position { offset: later, ..self.next };
            return Err(format!("the decision of case {position} stands on it: take that one back first"));
        }
        if applied.lost.iter().any(|lost| lost.feeds.iter().any(|feed| feed.starts_with('$'))) {
            return Err("it concerned a key, a version or a sign of deletion: rows are found by them".to_owned());
        }
        let mut mapping = opened.mapping.clone();
        mapping.fields.extend(applied.former);
        mapping.validate(&opened.entity).map_err(|e| e.to_string())?;
        let (version, entity) = (opened.version + 1, opened.entity.clone());
        let is_for_two = self.policy.wants_two(DecisionClass::Reverted);
        let class = is_for_two.then_some(DecisionClass::Reverted);
        let Approved::By(by) = self.waiting.approve(decide, class, facts)? else { return Ok(()) };
        let why = decide.why.clone();
        let into = if is_part { case } else { at };
        facts.push(Fact::RepairReverted { case, into, since: applied.at, by: by.clone(), why });
        if mapping != opened.mapping {
            facts.push(activated(version, &entity, &mapping, mapping.text(), &by));
            self.opened = Some(Opened { entity, mapping, version });
        }
        self.bind();
        self.drift.reopen(case, into, at, &self.shape, facts);
        Ok(())
    }
}

fn activated(version: u32, entity: &Entity, mapping: &Mapping, text: String, by: &str) -> Fact {
    Fact::MappingActivated {
        version,
        entity: entity.entity.clone(),
        mapping: mapping.hash(),
        entity_definition: entity.hash(),
        by: by.to_owned(),
        text: Some(text),
        why: None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// Refuses two moves of one path that differ: only one of them could count.
fn once_each(moves: &[Move]) -> Result<(), String> {
    let others = |at: usize| moves.iter().skip(at + 1);
    let is_double = |at: usize, to: &Move| others(at).any(|other| other.from == to.from && other != to);
    match moves.iter().enumerate().find(|&(at, to)| is_double(at, to)) {
        Some((_, to)) => Err(format!("several moves of {} are named: name the one that is right", shorten(&to.from))),
        None => Ok(()),
    }
}

/// For each lost path the first move of it.
fn likeliest(lost: &[Lost], moves: &[Move]) -> Vec<(Lost, Move)> {
    let first = |lost: &Lost| moves.iter().find(|m| m.from == lost.path).map(|m| (lost.clone(), m.clone()));
    lost.iter().filter_map(first).collect()
}

fn in_hundredths(thousandths: u16) -> String {
    format!("{}.{:02}", thousandths / 1000, thousandths % 1000 / 10)
}

/// Why a repair is not applied by itself whoever decides: what it breaks, or that it is less sure than `at_least`.
fn waits(lost: &[Lost], best: &[(Lost, Move)], drift: &Drift, tree: &ShapeTree, at_least: u16) -> Option<String> {
    if let Some((path, change)) = lost.iter().find_map(|lost| Some((&lost.path, lost.change.as_ref()?))) {
        return Some(match change {
            Change::Nulls { .. } => format!("{path}: {change}; nothing of it is held"),
            _ => format!("{path}: {change}"),
        });
    }
    if let Some(without) = lost.iter().find(|l| !best.iter().any(|(known, _)| known == *l)) {
        let unknown = if drift.profiles().is_full() {
            format!("; the stream has more than {PATHS_MAX} paths, and of those that came later nothing is known")
        } else {
            String::new()
        };
        return Some(format!("{} has no counterpart{unknown}", without.path));
    }
    for (at, (lost, to)) in best.iter().enumerate() {
        let (from, [new]) = (&lost.path, &to.to[..]) else {
            return Some(format!("{} was split", lost.path));
        };
        if let Some(feed) = lost.feeds.iter().find(|feed| feed.starts_with('$')) {
            let what = feed.trim_start_matches('$');
            return Some(format!("{from} feeds the {what} of the rows"));
        }
        if to.kind == DriftKind::Retyped {
            return Some(format!("{from} has another type than before"));
        }
        if to.part.is_some() || !matches!(to.kind, DriftKind::Renamed | DriftKind::Nested | DriftKind::Unnested) {
            return Some(format!("{from} is no plain rename"));
        }
        if best[..at].iter().any(|(_, other)| other.to == to.to) {
            return Some(format!("{from} and another path would both be {new}"));
        }
        if to.is_into_array() {
            return Some(format!(
                "{new} is inside an array, of which the first element alone counts: {from} was one value"
            ));
        }
        if to.confidence < at_least {
            let least = in_hundredths(at_least);
            return Some(format!("{from} → {new} has a confidence below {least}"));
        }
        let (before, now) = (drift.blanks_before(lost, tree), drift.blanks_of(new, tree));
        if now.is_more_than(before) {
            return Some(format!(
                "{now} of the values of {new} are null or empty, and {before} of those of {from} were"
            ));
        }
        match (types(tree, from), types(tree, new)) {
            (_, None) => return Some(format!("no record had {new}")),
            (Some(before), Some(after)) if after & !before != 0 || drift.is_other_type(from, new, tree) => {
                return Some(format!("{new} has another type than {from}"));
            }
            _ => {}
        }
        if drift.was_there(lost, new, tree) {
            return Some(format!("{new} was there already when {from} went"));
        }
        if let Some(change) = drift.change_between(lost, new, tree) {
            return Some(format!("{new} is not what {from} was: {change}"));
        }
        if let Some(narrower) = drift.narrowing(from, new, tree) {
            return Some(format!("{new} has a narrower type than {from}: {narrower}"));
        }
        let parts = Path::new(new).ok().and_then(|path| path.choices().first().cloned());
        let node = |path: &str| Path::new(path).ok().and_then(|path| tree.find(path.choices().first()?));
        let is_inside = |node_| node(from).is_some_and(|from| lost.retyped && tree.is_below(node_, from));
        if parts.and_then(|parts| tree.find(&parts)).is_some_and(|node| tree.is_requested(node) && !is_inside(node)) {
            return Some(format!("{new} is mapped already"));
        }
    }
    None
}

/// The types seen at a path, as bits; nothing when none was.
fn types(tree: &ShapeTree, path: &str) -> Option<u8> {
    let path = Path::new(path).ok()?;
    let node = tree.find(path.choices().first()?)?;
    Some(tree.types(node)).filter(|types| *types != 0)
}
