//! Gaps: what is left of two names once the words that both have are taken away. A word left over may say that the field
//! means something else, and values of the same look are no proof that it does not.

use crate::side::{Entry, Likeness, Weighed};

/// From this likeness on two words are taken for synonyms, and from this one on for forms of one word.
const SURE: f32 = 0.9;
const EQUAL: f32 = 0.95;

/// What two names leave open, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// Nothing: the words are the same, but for those that say little or name the entity.
    None,
    /// A synonym, another order, or a word on one side that names the form of its values (`price`, `price_amount`): the
    /// values can tell.
    Form,
    /// A word that nothing on the other side stands for: another unit, number, role or state.
    Meaning,
}

impl Gap {
    /// Compares two names.
    pub fn between(source: &Entry, target: &Entry, likeness: &Likeness) -> Self {
        let (a, b) = (&source.words, &target.words);
        let like = |x: Weighed, y: Weighed| if likeness.are_apart(x, y) { 0.0 } else { likeness.of(x, y) };
        let one = Left::of(a, |x| b.iter().map(|y| like(x, *y)).fold(0.0, f32::max));
        let other = Left::of(b, |y| a.iter().map(|x| like(*x, y)).fold(0.0, f32::max));
        let (is_other, is_form) = (one.is_other || other.is_other, one.is_form || other.is_form);
        // `owner_id` and `owner_name` are two things, though either word alone names a form.
        if is_other || (one.is_form && other.is_form) || is_turned(a, b, likeness, |word| !word.is_form) {
            Self::Meaning
        } else if is_form || one.is_synonym || other.is_synonym || is_turned(a, b, likeness, |_| true) {
            Self::Form
        } else {
            Self::None
        }
    }
}

/// What is left of one name.
#[derive(Debug, Default)]
struct Left {
    is_synonym: bool,
    is_form: bool,
    is_other: bool,
}

impl Left {
    fn of(words: &[Weighed], best: impl Fn(Weighed) -> f32) -> Self {
        let mut left = Self::default();
        for word in words.iter().filter(|word| word.tells) {
            match best(*word) {
                like if like >= EQUAL => {}
                like if like >= SURE => left.is_synonym = true,
                _ if word.is_form => left.is_form = true,
                _ => left.is_other = true,
            }
        }
        left
    }
}

/// The words of one name that count follow each other in another order: `list_price`, `price_list`.
fn is_turned(a: &[Weighed], b: &[Weighed], likeness: &Likeness, counts: impl Fn(&Weighed) -> bool) -> bool {
    let mut last = 0;
    a.iter().filter(|x| x.tells && counts(x)).any(|x| {
        let same = |y: &Weighed| likeness.of(*x, *y) >= SURE;
        let Some(next) = b.iter().skip(last).position(same) else { return b.iter().take(last).any(same) };
        last += next;
        false
    })
}
