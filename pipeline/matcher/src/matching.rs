//! Matching: two sides in, for each source field its likeliest targets out.

use std::collections::BTreeMap;

use crate::agreement::{agrees, waits};
use crate::field::Field;
use crate::gap::Gap;
use crate::model::{Model, Models, Task};
use crate::rivals::{RIVAL_SIGNALS, Table};
use crate::side::{Likeness, Side};
use crate::signals::{SIGNALS, Signals, at, signals};
use crate::words;

/// Targets that are looked at again once the rivals are known, and that an answer names at most.
pub const CANDIDATES_MAX: usize = 6;
/// Pairs that are compared in one go: some seconds and some hundred megabytes.
pub const PAIRS_MAX: usize = 4_000_000;
/// The confidence of what the tenant has approved for this very name, where a person reads what is suggested. Where it may
/// be applied unseen, an approved pair goes first and is no likelier for it.
const APPROVED: f32 = 0.98;
/// What agrees and yet is not applied unseen ends here: no less likely than what is doubtful, and below what is sure.
const WAITS: f32 = 0.88;
/// What a near name is worth where candidates are ranked: more than one step of doubt is wide, less than two lie apart.
const NEAR: f32 = 0.03;
/// By nearness nothing ranks higher, and so never before what is as good as certain.
const NEAR_MAX: f32 = 0.89;

/// What is to be matched.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// What the source calls the entity: `companies`.
    pub source_entity: String,
    /// What the target calls it: `account`.
    pub target_entity: String,
    /// Fields without a counterpart.
    pub sources: Vec<Field>,
    /// Fields that one of them may be. What was there at the same time as a source field is no target of it.
    pub targets: Vec<Field>,
}

impl Problem {
    /// Refuses more pairs than are compared in one go.
    pub fn check_size(&self) -> Result<(), TooLarge> {
        let (sources, targets) = (self.sources.len(), self.targets.len());
        if sources.saturating_mul(targets) > PAIRS_MAX { Err(TooLarge { sources, targets }) } else { Ok(()) }
    }
}

/// A mapping that the tenant has approved before, for a stream like this one.
#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    /// The source field's name.
    pub source: String,
    /// The target field's name.
    pub target: String,
    /// What was approved, where it is not this very pair but one like it.
    pub near: Option<Near>,
}

/// A mapping that was approved for a name like the one in question.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// The name.
    pub name: String,
    /// How alike the two are, from 0 to 1, as [`Name::nearness`](crate::Name::nearness) says.
    pub likeness: f32,
}

/// A problem of more pairs than are compared in one go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sources} fields against {targets} are more than {PAIRS_MAX} pairs: match fewer at a time")]
pub struct TooLarge {
    /// Source fields.
    pub sources: usize,
    /// Target fields.
    pub targets: usize,
}

/// A target with the probability that it is the right one.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its place among the problem's targets.
    pub target: usize,
    /// The probability.
    pub confidence: f32,
    /// The tenant has approved this very pair before.
    pub approved: bool,
    /// Of what is approved and like this pair, the nearest.
    pub near: Option<Near>,
    /// The log-odds behind the probability.
    pub log_odds: f32,
    /// Several independent signals say the same; without that nothing is called as good as certain.
    pub agreed: bool,
    /// The signals behind it, in the order of [`SIGNALS`].
    pub signals: Signals,
    /// What it looks like among its rivals, in the order of [`RIVAL_SIGNALS`].
    pub rivals: [f32; RIVAL_SIGNALS.len()],
}

impl Candidate {
    /// What it is ranked by: its probability, with a lead where something like it is approved. That lead decides among what
    /// is about as likely, and nothing is likelier for it.
    pub fn rank(&self) -> f32 {
        let lead = self.near.as_ref().map_or(0.0, |near| NEAR * near.likeness);
        self.confidence.max((self.confidence + lead).min(NEAR_MAX))
    }
}

/// Matches fields by fitted models; the same for a new source and for drift.
#[derive(Debug, Clone, Copy)]
pub struct Matcher<'a> {
    models: &'a Models,
}

impl Default for Matcher<'static> {
    fn default() -> Self {
        Self { models: Models::shipped() }
    }
}

impl<'a> Matcher<'a> {
    /// With other constants than the shipped ones.
    pub fn with_models(models: &'a Models) -> Self {
        Self { models }
    }

    /// For each source field its likeliest targets, best first; empty only where there is no target at all.
    ///
    /// The order of the fields makes no difference. `approved` are the tenant's nearest approved mappings: those of
    /// the very names go first, those of names like them before what is about as likely.
    pub fn find(&self, problem: &Problem, task: Task, approved: &[Approved]) -> Result<Vec<Vec<Candidate>>, TooLarge> {
        problem.check_size()?;
        let model = self.models.of(task);
        let sides = Sides::new(problem);
        let view = View { sides: &sides, model, task };
        let table = view.table();
        let order = by_name(&problem.targets);
        let mut all: Vec<Vec<Candidate>> =
            (0..problem.sources.len()).map(|row| view.candidates(row, &table, &order)).collect();
        let mut known: BTreeMap<&str, Vec<&Approved>> = BTreeMap::new();
        approved.iter().for_each(|mapping| known.entry(mapping.source.as_str()).or_default().push(mapping));
        for (source, candidates) in problem.sources.iter().zip(&mut all) {
            let known = known.get(source.name.as_str()).map_or(&[][..], Vec::as_slice);
            approve(known, &problem.targets, task, candidates);
            candidates.sort_by(|a, b| b.approved.cmp(&a.approved).then(b.rank().total_cmp(&a.rank())));
        }
        Ok(all)
    }

    /// What each signal of a candidate weighs, in the order of [`SIGNALS`]: what the log-odds of the pair, seen alone,
    /// would lose were the signal nil.
    pub fn weights(&self, task: Task, candidate: &Candidate) -> Signals {
        let scorer = &self.models.of(task).pair;
        let whole = scorer.log_odds(&candidate.signals);
        let mut weights = candidate.signals;
        for (at, weight) in weights.iter_mut().enumerate() {
            let mut without = candidate.signals;
            without[at] = 0.0;
            *weight = whole - scorer.log_odds(&without);
        }
        weights
    }

    /// The signals of every pair, row by row; what the fit learns from.
    pub fn signals(problem: &Problem) -> Vec<Vec<Signals>> {
        let sides = Sides::new(problem);
        let row = |i| (0..problem.targets.len()).map(|j| sides.signals(i, j)).collect();
        (0..problem.sources.len()).map(row).collect()
    }
}

/// Each field's place when the fields are ordered by name, so that ties do not depend on the order of the input.
fn by_name(fields: &[Field]) -> Vec<usize> {
    let mut sorted: Vec<usize> = (0..fields.len()).collect();
    sorted.sort_by(|a, b| fields[*a].name.cmp(&fields[*b].name));
    let mut places = vec![0; fields.len()];
    sorted.into_iter().enumerate().for_each(|(place, field)| places[field] = place);
    places
}

/// Marks what is approved, and what is like it. What was right elsewhere may be wrong here, so at drift, where what is
/// likely enough is applied by itself, the probability stays the model's own; of what is merely like it, everywhere.
fn approve(known: &[&Approved], targets: &[Field], task: Task, candidates: &mut [Candidate]) {
    for mapping in known {
        let is_target = |c: &&mut Candidate| targets.get(c.target).is_some_and(|t| t.name == mapping.target);
        let Some(candidate) = candidates.iter_mut().find(is_target) else { continue };
        match &mapping.near {
            Some(near) if candidate.near.as_ref().is_some_and(|nearer| nearer.likeness >= near.likeness) => {}
            Some(near) => candidate.near = Some(near.clone()),
            None => {
                candidate.approved = true;
                if task == Task::Onboard {
                    candidate.confidence = candidate.confidence.max(APPROVED);
                }
            }
        }
    }
}

struct Sides {
    sources: Side,
    targets: Side,
    likeness: Likeness,
}

impl Sides {
    fn new(problem: &Problem) -> Self {
        let mut own: Vec<String> = words::words(&problem.source_entity);
        own.extend(words::words(&problem.target_entity));
        own.retain(|word| word.len() > 2);
        let (sources, targets) = (Side::new(&problem.sources, &own), Side::new(&problem.targets, &own));
        let likeness = Likeness::new(&sources, &targets);
        Self { sources, targets, likeness }
    }

    fn signals(&self, row: usize, column: usize) -> Signals {
        signals(&self.sources.entries[row], &self.targets.entries[column], &self.likeness)
    }
}

/// Two sides as a model sees them.
struct View<'a> {
    sides: &'a Sides,
    model: &'a Model,
    task: Task,
}

impl View<'_> {
    fn signals(&self, row: usize, column: usize) -> Signals {
        let mut signals = self.sides.signals(row, column);
        for ignored in &self.model.ignored {
            if let (Some(signal), Some((_, _, way))) = (signals.get_mut(*ignored), SIGNALS.get(*ignored)) {
                *signal = if *way > 0 { 1.0 } else { 0.0 };
            }
        }
        signals
    }

    /// What the names leave open; nothing where words count for nothing.
    fn gap(&self, row: usize, column: usize) -> Gap {
        if self.model.ignored.contains(&at::LEFT_SOURCE) {
            return Gap::None;
        }
        Gap::between(&self.sides.sources.entries[row], &self.sides.targets.entries[column], &self.sides.likeness)
    }

    fn table(&self) -> Table {
        let (rows, columns) = (self.sides.sources.entries.len(), self.sides.targets.entries.len());
        let mut cells = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            cells.extend((0..columns).map(|column| self.model.pair.log_odds(&self.signals(row, column))));
        }
        Table::new(rows, columns, cells)
    }

    /// The likeliest targets of a source; the surer first, and what agrees before what only scores.
    fn candidates(&self, row: usize, table: &Table, order: &[usize]) -> Vec<Candidate> {
        let mut scored: Vec<(f32, Candidate)> = Vec::new();
        for target in table.likeliest(row, CANDIDATES_MAX, order) {
            let signals = self.signals(row, target);
            let rivals = table.signals(row, target, &signals);
            let log_odds = self.model.rivals.log_odds(&rivals);
            let agreed = agrees(self.task, &signals, &rivals);
            let curve = if agreed { &self.model.agreed } else { &self.model.doubtful };
            let waits = agreed && waits(self.task, &signals, self.gap(row, target));
            let confidence = curve.confidence(log_odds).min(if waits { WAITS } else { 1.0 });
            let (approved, near) = (false, None);
            let candidate = Candidate { target, confidence, approved, near, log_odds, agreed, signals, rivals };
            scored.push((log_odds, candidate));
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(order[a.1.target].cmp(&order[b.1.target])));
        scored.into_iter().map(|(_, candidate)| candidate).collect()
    }
}

/// The names of a pair's signals, in the order in which [`Candidate`] holds them.
pub fn signal_names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(name, _, _)| *name)
}
