//! Suggestions: the matcher is asked where the lost paths of a case may have gone. What it says is an input, so that
//! replay does not ask again.

use matcher::{Candidate, Field, Kind, Matcher, OperationKind, Problem, SIGNALS, Task, TooLarge, operations};
use schemas::drift::{Change, DriftKind, Lost, Move, Signal};
use schemas::mapping::Path;
use schemas::shape::{ELEMENTS, NodeId, ShapeTree, TypeClass};
use serde_json::Value;

use super::Knowledge;
use crate::step::StreamState;
use crate::step::drift::{Format, Profile};

/// Alternatives that are named of a lost path.
const ALTERNATIVES_MAX: usize = 5;
/// What is less likely is not named, in thousandths.
const LIKELY_MIN: u16 = 20;
/// That a field has another type is seen, not guessed, in thousandths.
const RETYPED: u16 = 990;
/// Signals that are named of a move.
const SIGNALS_MAX: usize = 6;
/// The signal that people have decided so before, and the beginning of the one that names a path which they have approved
/// and which is near. Either ranks, and weighs nothing.
const APPROVED: &str = "approved";
const NEAR_APPROVED: &str = "near_approved:";
/// The signal that a path was written beside what was lost for a while, and how sure it is at most that it is the one, in
/// thousandths.
const BESIDE: &str = "written_beside";
const BESIDE_MOST: u16 = 890;

/// Where the lost paths of a case have gone, and where else they may have gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Suggested {
    pub(super) moves: Vec<Move>,
    pub(super) alternatives: Vec<Move>,
}

/// What a case lacks and what came with its records, as the matcher sees them.
pub(super) fn fields(state: &StreamState, case: u64) -> (Vec<Field>, Vec<Field>) {
    let (tree, drift) = (state.shape(), state.drift());
    let lost: Vec<Lost> = drift.lost(case, tree).into_iter().filter(|lost| !stays(lost)).collect();
    let before: Vec<Field> = lost.iter().map(|lost| before(state, lost)).collect();
    let mut after: Vec<Field> = drift.added_nodes(case, tree).filter_map(|node| after(state, node, &before)).collect();
    for flat in lost.iter().filter_map(|lost| flattened(state, lost)) {
        if !after.iter().any(|known| known.name == flat.name) {
            after.push(flat);
        }
    }
    (before, after)
}

/// Asks the matcher; `known` is what the tenant's people have decided before, and what ships with the product.
pub(super) fn suggest(state: &StreamState, case: u64, known: &Knowledge) -> Result<Suggested, TooLarge> {
    let (changed, lost) = state.drift().lost(case, state.shape()).into_iter().partition::<Vec<_>, _>(stays);
    let (before, after) = fields(state, case);
    let Suggested { mut moves, alternatives: others } = matched(state, &lost, &before, &after, known)?;
    let is_moved = |lost: &&Lost| moves.iter().any(|m: &Move| m.from == lost.path);
    let retyped: Vec<&Lost> = lost.iter().filter(|lost| lost.retyped && !is_moved(lost)).collect();
    moves.extend(retyped.into_iter().map(|lost| {
        let (from, to, kind) = (lost.path.clone(), vec![lost.path.clone()], DriftKind::Retyped);
        let (confidence, change) = (RETYPED, lost.change.clone());
        Move { from, to, kind, confidence, part: None, change, transform: None, signals: vec![] }
    }));
    let mut alternatives = Vec::new();
    for lost in &changed {
        moves.extend(move_of(lost));
        alternatives.extend(month_first(lost));
    }
    alternatives.extend(others);
    let mut suggested = Suggested { moves, alternatives };
    add_beside(state, case, &lost, known, &mut suggested)?;
    Ok(suggested)
}

/// Where else something may have gone for which nothing sure came: to a path that stood beside it for a while. What came with
/// the loss goes before, and a person decides of the others.
fn add_beside(
    state: &StreamState,
    case: u64,
    lost: &[Lost],
    known: &Knowledge,
    suggested: &mut Suggested,
) -> Result<(), TooLarge> {
    let is_found = |lost: &Lost| suggested.moves.iter().any(|m| m.from == lost.path && m.confidence > BESIDE_MOST);
    let open: Vec<Lost> = lost.iter().filter(|lost| !lost.retyped && !is_found(lost)).cloned().collect();
    let before: Vec<Field> = open.iter().map(|lost| before(state, lost)).collect();
    let nodes = state.drift().beside(case, state.shape());
    let after: Vec<Field> = nodes.into_iter().filter_map(|node| after(state, node, &before)).collect();
    if before.is_empty() || after.is_empty() {
        return Ok(());
    }
    let Suggested { moves, alternatives } = matched(state, &open, &before, &after, known)?;
    let is_second = |to: &Move| suggested.moves.iter().any(|m| m.from == to.from);
    let (second, first): (Vec<Move>, Vec<Move>) = moves.into_iter().partition(is_second);
    suggested.moves.extend(first.into_iter().map(doubted));
    for to in second.into_iter().chain(alternatives) {
        if suggested.alternatives.iter().filter(|m| m.from == to.from).count() < ALTERNATIVES_MAX {
            suggested.alternatives.push(doubted(to));
        }
    }
    Ok(())
}

/// Whether a move is to a path that stood beside what was lost.
pub(super) fn is_written_beside(to: &Move) -> bool {
    to.signals.iter().any(|signal| signal.name == BESIDE)
}

/// What is said of a path that stood beside what was lost: how sure the matcher is was measured on paths that came as others
/// went.
fn doubted(to: Move) -> Move {
    let mut signals = to.signals;
    signals.push(Signal { name: BESIDE.to_owned(), strength: 1000, weight: 0 });
    Move { confidence: to.confidence.min(BESIDE_MOST), signals, ..to }
}

/// What the matcher says of what was lost, and of the fields that it may have gone to.
fn matched(
    state: &StreamState,
    lost: &[Lost],
    before: &[Field],
    after: &[Field],
    known: &Knowledge,
) -> Result<Suggested, TooLarge> {
    let (tree, drift) = (state.shape(), state.drift());
    let entity = state.entity().map_or_else(String::new, |entity| entity.entity.to_string());
    let approved = state.entity().map_or_else(Vec::new, |of| known.approved_moves(&of.entity, lost, after));
    let matcher = Matcher::default();
    let found = matcher.find(&Problem::of_change(&entity, before, after), Task::Drift, &approved)?;
    let mut moves = Vec::new();
    for operation in operations(&matcher, &entity, before, after, &approved)? {
        let Some(kind) = kind_of(operation.kind) else { continue };
        let parts = operation.from.len();
        for (part, from) in operation.from.into_iter().enumerate() {
            let row = before.iter().position(|field| field.name == from);
            let candidates = row.and_then(|row| found.get(row)).map_or(&[][..], Vec::as_slice);
            let candidate =
                candidates.iter().find(|c| after.get(c.target).is_some_and(|f| operation.to.contains(&f.name)));
            let to: Vec<String> = operation.to.iter().map(|name| text_of(tree, name)).collect();
            let part = (parts > 1).then_some(part);
            let change = match (row.and_then(|row| lost.get(row)), &to[..], part) {
                (Some(lost), [new], None) => drift.change_between(lost, new, tree),
                _ => None,
            };
            let signals = candidate.map_or_else(Vec::new, |candidate| signals(&matcher, candidate));
            let confidence = thousandths(operation.confidence);
            moves.push(Move { to, kind, confidence, part, change, transform: None, signals, from });
        }
    }
    let mut alternatives = Vec::new();
    for (field, candidates) in before.iter().zip(&found) {
        let others = candidates.iter().filter_map(|c| Some((c, after.get(c.target)?)));
        let others = others.map(|(candidate, target)| Move {
            from: field.name.clone(),
            to: vec![text_of(tree, &target.name)],
            kind: DriftKind::Renamed,
            confidence: thousandths(candidate.confidence),
            part: None,
            change: None,
            transform: None,
            signals: signals(&matcher, candidate),
        });
        let is_new = |other: &Move| !moves.iter().any(|m| m.from == other.from && m.to == other.to);
        alternatives.extend(others.filter(|m| m.confidence >= LIKELY_MIN && is_new(m)).take(ALTERNATIVES_MAX));
    }
    Ok(Suggested { moves, alternatives })
}

/// Whether its values changed where they stand: it has gone nowhere, so nothing is matched.
fn stays(lost: &Lost) -> bool {
    !matches!(lost.change, None | Some(Change::Nulls { .. }))
}

/// What is to be done with values that changed where they stand.
fn move_of(lost: &Lost) -> Option<Move> {
    let change = lost.change.clone()?;
    let (from, kind) = (lost.path.clone(), change.kind());
    let (to, change) = match change {
        Change::Swapped { with } => (with, None),
        other => (lost.path.clone(), Some(other)),
    };
    Some(Move { from, to: vec![to], kind, confidence: RETYPED, part: None, change, transform: None, signals: vec![] })
}

/// Days that could be months may be written the other way round.
fn month_first(lost: &Lost) -> Option<Move> {
    let Some(Change::Format { from, to }) = &lost.change else { return None };
    let between = to.strip_prefix("%d")?.chars().next()?;
    let rest = to.strip_prefix(&format!("%d{between}%m"))?;
    let change = Change::Format { from: from.clone(), to: format!("%m{between}%d{rest}") };
    let (from, kind) = (lost.path.clone(), DriftKind::Retyped);
    let (to, change) = (vec![lost.path.clone()], Some(change));
    Some(Move { from, to, kind, confidence: LIKELY_MIN, part: None, change, transform: None, signals: vec![] })
}

/// A repair moves what was lost; what has only come, gone or another type is none.
fn kind_of(kind: OperationKind) -> Option<DriftKind> {
    Some(match kind {
        OperationKind::Rename => DriftKind::Renamed,
        OperationKind::Nest => DriftKind::Nested,
        OperationKind::Unnest => DriftKind::Unnested,
        OperationKind::Split => DriftKind::Split,
        OperationKind::Merge => DriftKind::Merged,
        OperationKind::Remove | OperationKind::Add | OperationKind::TypeChange => return None,
    })
}

/// Rounded down: confidence is rather too low than too high.
pub(crate) fn thousandths(confidence: f32) -> u16 {
    (confidence.clamp(0.0, 1.0) * 1000.0) as u16
}

/// The signals that weigh most, for the candidate or against it; then what is known of it.
fn signals(matcher: &Matcher<'_>, candidate: &Candidate) -> Vec<Signal> {
    let in_thousandths = |number: f32| (number * 1000.0) as i32;
    let weights = matcher.weights(Task::Drift, candidate);
    let all = SIGNALS.iter().zip(candidate.signals).zip(weights);
    let mut all: Vec<Signal> = all
        .map(|(((name, _, _), strength), weight)| Signal {
            name: (*name).to_owned(),
            strength: in_thousandths(strength),
            weight: in_thousandths(weight),
        })
        .collect();
    all.sort_by_key(|signal| std::cmp::Reverse((signal.weight.abs(), signal.strength)));
    all.truncate(SIGNALS_MAX);
    let known = match &candidate.near {
        _ if candidate.approved => Some((APPROVED.to_owned(), 1.0)),
        Some(near) => Some((format!("{NEAR_APPROVED}{}", near.name), near.likeness)),
        None => None,
    };
    all.extend(known.map(|(name, strength)| Signal { name, strength: in_thousandths(strength), weight: 0 }));
    all
}

/// The path that leads to a field of this name, as mappings write it.
pub(super) fn text_of(tree: &ShapeTree, name: &str) -> String {
    let node = node_of(tree, name);
    let path = node.and_then(|node| Path::of_parts(&tree.parts(node)).ok());
    path.map_or_else(|| name.to_owned(), |path| path.as_str().to_owned())
}

fn node_of(tree: &ShapeTree, name: &str) -> Option<NodeId> {
    let path = Path::new(name).ok()?;
    tree.find(path.choices().first()?)
}

fn before(state: &StreamState, lost: &Lost) -> Field {
    let profile = node_of(state.shape(), &lost.path).and_then(|node| state.drift().profiles().of(node));
    field(lost.path.clone(), profile)
}

/// A new path as a target; none when it is of a class that nothing lost has.
fn after(state: &StreamState, node: NodeId, before: &[Field]) -> Option<Field> {
    let tree = state.shape();
    let field = field(tree.path(node), state.drift().profiles().of(node));
    let is_nested = matches!(field.kind, Kind::Object | Kind::Array) || tree.parts(node).contains(&ELEMENTS);
    (!is_nested || before.iter().any(|lost| lost.kind == field.kind || lost.name.contains("[]"))).then_some(field)
}

/// What a path lay in, where that is a value by now: it came as an object, so no path is new.
fn flattened(state: &StreamState, lost: &Lost) -> Option<Field> {
    let tree = state.shape();
    let around = tree.parent(node_of(tree, &lost.path)?);
    let mut profile = state.drift().profiles().of(around)?.clone();
    for (class, count) in TypeClass::ALL.into_iter().zip(&mut profile.classes) {
        if matches!(class, TypeClass::Object | TypeClass::Array) {
            *count = 0;
        }
    }
    (profile.types() != 0).then(|| field(tree.path(around), Some(&profile)))
}

/// What the matcher is told of a field: its name, and what its values look like.
pub(crate) fn field(name: String, profile: Option<&Profile>) -> Field {
    let Some(profile) = profile else { return Field { name, ..Field::default() } };
    let value = |sample: &crate::step::drift::Sample| match sample.is_text() {
        true => Value::from(sample.value()),
        false => serde_json::from_str(sample.value()).unwrap_or_else(|_| sample.value().into()),
    };
    let null_rate = (profile.values > 0).then(|| profile.nulls as f32 / profile.values as f32);
    Field {
        name,
        kind: kind(profile),
        samples: profile.samples.iter().map(value).collect(),
        null_rate,
        ..Field::default()
    }
}

/// The type that most values have.
fn kind(profile: &Profile) -> Kind {
    let most = TypeClass::ALL.iter().zip(profile.classes).max_by_key(|(_, count)| *count);
    let is_mostly = |format: Format| profile.formats[format as usize] * 10 > profile.formats.iter().sum::<u64>() * 9;
    match most {
        None | Some((_, 0)) => Kind::Unknown,
        Some((TypeClass::Boolean, _)) => Kind::Boolean,
        Some((TypeClass::Number, _)) if is_mostly(Format::Integer) => Kind::Integer,
        Some((TypeClass::Number, _)) => Kind::Number,
        Some((TypeClass::Text, _)) if is_mostly(Format::Date) => Kind::Date,
        Some((TypeClass::Text, _)) if is_mostly(Format::Moment) => Kind::DateTime,
        Some((TypeClass::Text, _)) => Kind::String,
        Some((TypeClass::Object, _)) => Kind::Object,
        Some((TypeClass::Array, _)) => Kind::Array,
    }
}
