//! Cases are decided here: by the rules when a suggestion is good enough, else by a person.

use schemas::decision::Fact;
use schemas::drift::{Decide, DriftKind, Lost, Move, Verdict};
use schemas::mapping::{Method, Path};
use schemas::shape::ShapeTree;

use super::cast::shorten;
use super::state::Opened;
use super::{DEFINITION_BYTES_MAX, StreamState, check_change};

/// From this confidence on, in thousandths, a repair that breaks nothing is applied by itself.
const AUTOMATIC: u16 = 900;
/// Moves that a suggestion or a decision may name.
const MOVES_MAX: usize = 2_000;
/// Characters of a name or reason that are kept.
const TEXT_CHARS_MAX: usize = 1_000;
/// Who decides when nobody need be asked.
const RULES: &str = "rules";

/// What is to be done with lost paths.
struct Repair<'a> {
    moves: Vec<(Lost, Move)>,
    removed: Vec<Lost>,
    by: &'a str,
    why: &'a str,
    method: Method,
}

impl StreamState {
    /// Takes a suggestion in: applied when it is sure and breaks nothing, else it waits for a person.
    pub(super) fn suggested(
        &mut self,
        case: u64,
        mapping_version: u32,
        moves: Vec<Move>,
        alternatives: Vec<Move>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), String> {
        self.check_case(case, mapping_version)?;
        if moves.len() + alternatives.len() > MOVES_MAX {
            return Err(format!("it names more than {MOVES_MAX} moves"));
        }
        let lost = self.drift.lost(case, &self.shape);
        let best = likeliest(&lost, &moves);
        let waits = waits(&lost, &best, &self.shape);
        facts.push(Fact::RepairProposed {
            case,
            mapping_version,
            moves: moves.clone(),
            alternatives,
            waits: waits.clone(),
        });
        if let Some(open) = self.drift.open_case(case) {
            open.moves = moves;
        }
        if waits.is_some() {
            return Ok(());
        }
        let why = "every lost path has one counterpart at 0.90 or more, and nothing breaks";
        self.repair(case, Repair { moves: best, removed: vec![], by: RULES, why, method: Method::Heuristic }, facts)
    }

    /// Carries out a person's decision.
    pub(super) fn decide(&mut self, decide: &Decide, now: i64, facts: &mut Vec<Fact>) -> Result<(), String> {
        let Decide { case, mapping_version, verdict, .. } = decide;
        let (by, why) = (cut(&decide.by), cut(&decide.why));
        self.check_case(*case, *mapping_version)?;
        let lost = self.drift.lost(*case, &self.shape);
        let (by, why, method) = (&*by, &*why, Method::Human);
        match verdict {
            Verdict::Approve { only } => {
                let lost = chosen(lost, only)?;
                let moves = self.drift.cases().get(case).map(|case| likeliest(&lost, &case.moves)).unwrap_or_default();
                if let Some(without) = lost.iter().find(|l| !moves.iter().any(|(known, _)| known == *l)) {
                    return Err(format!(
                        "nothing is proposed for {}: edit the case, accept it as removed, or approve the others only",
                        without.path
                    ));
                }
                self.repair(*case, Repair { moves, removed: vec![], by, why, method }, facts)
            }
            Verdict::Edit { moves } if moves.is_empty() || moves.len() > MOVES_MAX => {
                Err(format!("name from 1 to {MOVES_MAX} moves"))
            }
            Verdict::Edit { moves } => {
                let froms: Vec<String> = moves.iter().map(|m| m.from.clone()).collect();
                let lost = chosen(lost, &froms)?;
                let moves = likeliest(&lost, moves).into_iter().map(|(l, m)| (l, Move { confidence: 1000, ..m }));
                self.repair(*case, Repair { moves: moves.collect(), removed: vec![], by, why, method }, facts)
            }
            Verdict::AcceptAsRemoved { only } => {
                let removed = chosen(lost, only)?;
                self.repair(*case, Repair { moves: vec![], removed, by, why, method }, facts)
            }
            Verdict::Reject => {
                if let Some(open) = self.drift.open_case(*case) {
                    open.moves.clear();
                }
                facts.push(Fact::RepairRejected { case: *case, by: by.to_owned(), why: why.to_owned() });
                Ok(())
            }
            Verdict::Snooze { until } if *until <= now => Err("the time to ask again is over".to_owned()),
            Verdict::Snooze { until } => {
                facts.push(Fact::TimerSet { id: format!("snooze-{case}"), at: *until });
                Ok(())
            }
        }
    }

    /// The case must wait for a decision, and the mapping be the one that the decision was made on.
    fn check_case(&mut self, case: u64, mapping_version: u32) -> Result<(), String> {
        if self.drift.open_case(case).is_none() {
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

    /// Puts the new paths before the old ones, and lets go what the case held for want of them.
    fn repair(&mut self, case: u64, repair: Repair<'_>, facts: &mut Vec<Fact>) -> Result<(), String> {
        let Repair { moves, removed, by, why, method } = repair;
        let Some(opened) = &self.opened else { return Err("the stream is not open".to_owned()) };
        let mut mapping = opened.mapping.clone();
        for (lost, to) in &moves {
            mapping = mapping.moved(lost, to, method).map_err(|e| e.to_string())?;
        }
        mapping.validate(&opened.entity).map_err(|e| e.to_string())?;
        check_change(&opened.mapping, &mapping, false).map_err(|e| e.to_string())?;
        let text = mapping.text();
        if text.len() > DEFINITION_BYTES_MAX {
            return Err(format!("the mapping would be longer than {DEFINITION_BYTES_MAX} bytes"));
        }
        let (version, entity, by) = (opened.version + 1, opened.entity.clone(), by.to_owned());
        facts.push(Fact::RepairApplied {
            case,
            moves: moves.iter().map(|(_, m)| m.clone()).collect(),
            removed: removed.iter().map(|lost| lost.path.clone()).collect(),
            by: by.clone(),
            why: why.to_owned(),
        });
        if mapping != opened.mapping {
            facts.push(Fact::MappingActivated {
                version,
                entity: entity.entity.clone(),
                mapping: mapping.hash(),
                entity_definition: entity.hash(),
                by: by.clone(),
                text: Some(text),
            });
            self.opened = Some(Opened { entity, mapping, version });
        }
        let moved: Vec<Lost> = moves.into_iter().map(|(lost, _)| lost).collect();
        let why = if removed.is_empty() { "repaired" } else { "accepted as removed" };
        // In this order: the case ends when nothing is left of it, under the watches that it began with.
        if !removed.is_empty() {
            self.drift.decide(case, &removed, true, why, facts);
        }
        if !moved.is_empty() {
            self.drift.decide(case, &moved, false, why, facts);
        }
        self.bind();
        Ok(())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// The lost paths of these names; all when none is named.
fn chosen(lost: Vec<Lost>, only: &[String]) -> Result<Vec<Lost>, String> {
    if let Some(unknown) = only.iter().find(|name| !lost.iter().any(|l| l.path == **name)) {
        return Err(format!("the case has lost no path {:?}", shorten(unknown)));
    }
    Ok(lost.into_iter().filter(|l| only.is_empty() || only.contains(&l.path)).collect())
}

/// For each lost path the first move of it.
fn likeliest(lost: &[Lost], moves: &[Move]) -> Vec<(Lost, Move)> {
    let first = |lost: &Lost| moves.iter().find(|m| m.from == lost.path).map(|m| (lost.clone(), m.clone()));
    lost.iter().filter_map(first).collect()
}

/// Why a repair waits for a person; nothing when it may be applied by itself.
fn waits(lost: &[Lost], best: &[(Lost, Move)], tree: &ShapeTree) -> Option<String> {
    if let Some(without) = lost.iter().find(|l| !best.iter().any(|(known, _)| known == *l)) {
        return Some(format!("{} has no counterpart", without.path));
    }
    for (at, (lost, to)) in best.iter().enumerate() {
        let (from, [new]) = (&lost.path, &to.to[..]) else {
            return Some(format!("{} was split", lost.path));
        };
        if let Some(feed) = lost.feeds.iter().find(|feed| feed.starts_with('$')) {
            let what = feed.trim_start_matches('$');
            return Some(format!("{from} feeds the {what} of the rows"));
        }
        if to.part.is_some() || !matches!(to.kind, DriftKind::Renamed | DriftKind::Nested | DriftKind::Unnested) {
            return Some(format!("{from} is no plain rename"));
        }
        if best[..at].iter().any(|(_, other)| other.to == to.to) {
            return Some(format!("{from} and another path would both be {new}"));
        }
        if to.confidence < AUTOMATIC {
            return Some(format!("{from} → {new} has a confidence below 0.90"));
        }
        match (types(tree, from), types(tree, new)) {
            (_, None) => return Some(format!("no record had {new}")),
            (Some(before), Some(after)) if after & !before != 0 => {
                return Some(format!("{new} has another type than {from}"));
            }
            _ => {}
        }
        let parts = Path::new(new).ok().and_then(|path| path.choices().first().cloned());
        if parts.and_then(|parts| tree.find(&parts)).is_some_and(|node| tree.is_requested(node)) {
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
