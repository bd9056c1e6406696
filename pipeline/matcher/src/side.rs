//! One side of a match: fields made ready to be compared, their words weighed by how much they tell apart.

use std::collections::BTreeMap;

use crate::embedding::{DIMENSIONS, Embeddings, Vector, dot, unit};
use crate::field::{Field, Kind};
use crate::lexicon::Lexicon;
use crate::profile::Profile;
use crate::{text, words};

/// What a word weighs that says little, that names the entity itself, or that stands before the last segment of a path.
const WEAK: f32 = 0.35;
const OWN: f32 = 0.25;
const PATH: f32 = 0.5;
/// What the commonest word of a side keeps of its weight.
const COMMON: f32 = 0.3;
/// Below this cosine two words have nothing to do with each other.
const COSINE_MIN: f32 = 0.25;

/// Different words of a side that are compared. No real schema has more; those of a hostile one mean nothing.
const WORDS_MAX: usize = 5_000;
/// The number of a word beyond that.
const UNKNOWN: usize = usize::MAX;

/// A word of a field's name.
#[derive(Debug, Clone, Copy)]
pub struct Weighed {
    /// Its number in the side's list of words.
    pub word: usize,
    /// How much it tells this field from others: 0 to 1.
    pub weight: f32,
    /// It names the entity itself: `deal` in `deal_id` of deals.
    pub is_own: bool,
    /// It says little by itself.
    pub is_weak: bool,
    /// It marks an alternative.
    pub is_side: bool,
    /// It names the form of the values, which the values show.
    pub is_form: bool,
    /// Left over, it may mean another field, however little it says where names are scored: `by`, `billing`.
    pub tells: bool,
}

/// A field made ready.
#[derive(Debug)]
pub struct Entry {
    /// Its words in order.
    pub words: Vec<Weighed>,
    /// The last segment and the whole path, letters and digits alone.
    pub leaf: String,
    /// The whole path, letters and digits alone.
    pub full: String,
    /// Segments of the path.
    pub depth: usize,
    /// Trigrams of the words written out.
    pub trigrams: Vec<[u8; 3]>,
    /// What the name means.
    pub meaning: Vector,
    /// What name and description mean.
    pub described: Vector,
    /// What its values look like.
    pub profile: Profile,
    /// Its type.
    pub kind: Kind,
    /// The type as its system calls it.
    pub native_type: String,
}

/// Fields that are matched with those of another side.
#[derive(Debug)]
pub struct Side {
    /// The fields, in the order in which they came.
    pub entries: Vec<Entry>,
    /// All words, each once.
    pub words: Vec<String>,
}

impl Side {
    /// Makes fields ready; `own` are the words that name the entity on either side.
    pub fn new(fields: &[Field], own: &[String]) -> Self {
        let paths: Vec<Vec<Vec<String>>> = fields.iter().map(|f| words::segments(&f.name)).collect();
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        for path in &paths {
            let mut seen: Vec<&str> = path.iter().flatten().map(|w| words::stem(w)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.iter().for_each(|word| *uses.entry(word).or_default() += 1);
        }
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        // In the order of the words, so that it makes no difference which field comes first.
        let mut all: Vec<String> = paths.iter().flatten().flatten().cloned().collect();
        all.sort_unstable();
        all.dedup();
        all.truncate(WORDS_MAX);
        numbers.extend(all.iter().enumerate().map(|(number, word)| (word.as_str(), number)));
        let rarity = |word: &str| {
            let count = fields.len() as f32;
            let used = uses.get(words::stem(word)).copied().unwrap_or(1) as f32;
            COMMON + (1.0 - COMMON) * (1.0 + count / used).ln() / (1.0 + count).ln()
        };
        let entries =
            fields.iter().zip(&paths).map(|(field, path)| entry(field, path, own, &numbers, &rarity)).collect();
        drop(numbers);
        Self { entries, words: all }
    }
}

fn entry(
    field: &Field,
    path: &[Vec<String>],
    own: &[String],
    numbers: &BTreeMap<&str, usize>,
    rarity: &dyn Fn(&str) -> f32,
) -> Entry {
    let lexicon = Lexicon::shipped();
    let is_bare = path.last().is_some_and(|leaf| leaf.iter().all(|w| lexicon.is_weak(w)));
    let mut weighed = Vec::new();
    for (at, segment) in path.iter().enumerate() {
        let is_leaf = at + 1 == path.len() || (is_bare && at + 2 == path.len());
        let mut before: Option<&str> = None;
        for word in segment {
            let is_own = own.iter().any(|o| o == word || words::is_form_of(o, word));
            let (is_weak, is_side) = (lexicon.is_weak(word), lexicon.is_side(word));
            let is_form = lexicon.is_form(word) || before.is_some_and(|b| lexicon.is_form(&format!("{b}_{word}")));
            let names_entity = is_own || own.iter().any(|o| lexicon.are_same(o, words::stem(word)));
            let tells = !names_entity && (!is_weak || is_form || lexicon.is_main(word));
            let mut weight = rarity(word);
            weight *=
                if is_weak { WEAK } else { 1.0 } * if is_own { OWN } else { 1.0 } * if is_leaf { 1.0 } else { PATH };
            before = Some(word);
            let word = numbers.get(word.as_str()).copied().unwrap_or(UNKNOWN);
            weighed.push(Weighed { word, weight, is_own, is_weak, is_side, is_form, tells });
        }
    }
    let spoken: Vec<&str> = path.iter().flatten().map(String::as_str).collect();
    let description: Vec<String> =
        words::words(&field.description.chars().take(words::NAME_CHARS_MAX).collect::<String>());
    let mut described = spoken.clone();
    described.extend(description.iter().map(String::as_str));
    let leaf = path.last().map(|segment| segment.concat()).unwrap_or_default();
    Entry {
        words: weighed,
        full: spoken.concat(),
        leaf,
        depth: path.len(),
        trigrams: text::trigrams(&spoken.join(" ")),
        meaning: meaning(&spoken),
        described: meaning(&described),
        profile: Profile::new(&field.samples, field.null_rate),
        kind: field.kind,
        native_type: if field.native_type == "?" { String::new() } else { field.native_type.clone() },
    }
}

/// How alike two names are, from 0 to 1: as good as the same word for word, else by what they mean.
pub fn likeness(one: &str, other: &str) -> f32 {
    let spoken = |name: &str| Spoken::new(&words::segments(name).pop().unwrap_or_default());
    spoken(one).likeness(&spoken(other))
}

/// A name made ready to be compared with many others.
#[derive(Debug, Clone)]
pub struct Name {
    last: Spoken,
    whole: Spoken,
}

impl Name {
    /// Makes a name ready.
    pub fn new(name: &str) -> Self {
        let (segments, lexicon) = (words::segments(name), Lexicon::shipped());
        let last = segments.last().cloned().unwrap_or_default();
        // What says little goes unsaid: `properties.email` is `email`.
        let before =
            segments.iter().rev().skip(1).rev().filter(|words| !words.iter().all(|word| lexicon.is_weak(word)));
        let whole: Vec<String> = before.flatten().chain(&last).cloned().collect();
        Self { last: Spoken::new(&last), whole: Spoken::new(&whole) }
    }

    /// How near two names are, from 0 to 1: as alike as their last segments are, and no more than the whole paths, so that
    /// the id of one thing is not near the id of another.
    pub fn nearness(&self, other: &Self) -> f32 {
        self.last.likeness(&other.last).min(self.whole.likeness(&other.whole))
    }
}

/// The words of a name: its letters, and what it means.
#[derive(Debug, Clone)]
struct Spoken {
    letters: String,
    meaning: Vector,
}

impl Spoken {
    fn new(words: &[String]) -> Self {
        let meaning = meaning(&words.iter().map(String::as_str).collect::<Vec<_>>());
        Self { letters: words.concat(), meaning }
    }

    fn likeness(&self, other: &Self) -> f32 {
        if self.letters == other.letters {
            return if self.letters.is_empty() { 0.0 } else { 1.0 };
        }
        dot(&self.meaning, &other.meaning).clamp(0.0, 1.0)
    }
}

/// The mean of the words' vectors, rare words first.
fn meaning(spoken: &[&str]) -> Vector {
    let table = Embeddings::shipped();
    let mut sum = [0.0; DIMENSIONS];
    for word in spoken {
        let Some(vector) = table.vector(word).or_else(|| table.vector(words::stem(word))) else { continue };
        let weight = table.weight(word);
        sum.iter_mut().zip(vector).for_each(|(s, v)| *s += v * weight);
    }
    unit(sum)
}

/// How alike the words of two sides are, each pair looked at once.
#[derive(Debug)]
pub struct Likeness {
    width: usize,
    cells: Vec<Cell>,
}

/// Two words beside each other.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    like: f32,
    is_against: bool,
    is_apart: bool,
}

impl Likeness {
    /// Compares all words of one side with all of the other.
    pub fn new(one: &Side, other: &Side) -> Self {
        let ready = |side: &Side| -> Vec<Option<Vector>> {
            let table = Embeddings::shipped();
            side.words.iter().map(|w| table.vector(w).or_else(|| table.vector(words::stem(w)))).collect()
        };
        let (left, right) = (ready(one), ready(other));
        let mut cells = Vec::with_capacity(left.len() * right.len());
        for (a, x) in one.words.iter().zip(&left) {
            for (b, y) in other.words.iter().zip(&right) {
                let (like, is_against) = pair(a, b, x.as_ref().zip(y.as_ref()));
                cells.push(Cell { like, is_against, is_apart: Lexicon::shipped().are_apart(a, b) });
            }
        }
        Self { width: right.len(), cells }
    }

    /// How alike two words are, 0 to 1.
    pub fn of(&self, one: Weighed, other: Weighed) -> f32 {
        self.cell(one, other).like
    }

    /// Two words stand against each other.
    pub fn are_against(&self, one: Weighed, other: Weighed) -> bool {
        self.cell(one, other).is_against
    }

    /// Two words are exchanged for each other in one place and name two things in another.
    pub fn are_apart(&self, one: Weighed, other: Weighed) -> bool {
        self.cell(one, other).is_apart
    }

    fn cell(&self, one: Weighed, other: Weighed) -> Cell {
        if one.word == UNKNOWN || other.word == UNKNOWN {
            return Cell::default();
        }
        self.cells.get(one.word * self.width + other.word).copied().unwrap_or_default()
    }
}

fn pair(a: &str, b: &str, vectors: Option<(&Vector, &Vector)>) -> (f32, bool) {
    if a == b {
        return (1.0, false);
    }
    if words::is_form_of(a, b) {
        return (0.97, false);
    }
    let lexicon = Lexicon::shipped();
    let is_against = lexicon.are_against(a, b);
    if lexicon.are_same(a, b) {
        return (0.9, is_against);
    }
    let mut like: f32 = if lexicon.are_near(a, b) { 0.6 } else { 0.0 };
    if let Some((x, y)) = vectors {
        like = like.max(0.85 * ((dot(x, y) - COSINE_MIN) / (1.0 - COSINE_MIN)).max(0.0));
    }
    if a.len().min(b.len()) >= 4 {
        let looks = text::jaro_winkler(a.as_bytes(), b.as_bytes());
        if looks > 0.88 {
            like = like.max(0.75 * looks);
        }
    }
    if a.len().min(b.len()) >= 3 && (a.starts_with(b) || b.starts_with(a)) {
        like = like.max(0.6);
    }
    (if is_against { like.min(0.2) } else { like }, is_against)
}
