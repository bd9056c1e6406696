//! What a reader of field names knows: abbreviations, synonyms, contrasts, how often a word is used.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Words and what they have to do with each other, read from `data/lexicon.txt`.
#[derive(Debug, Default)]
pub struct Lexicon {
    abbreviations: BTreeMap<&'static str, Vec<&'static str>>,
    same: BTreeMap<&'static str, Vec<u16>>,
    near: BTreeMap<&'static str, Vec<u16>>,
    against: BTreeMap<&'static str, Vec<(u16, u8)>>,
    apart: BTreeMap<&'static str, Vec<(u16, u8)>>,
    side: BTreeMap<&'static str, ()>,
    weak: BTreeMap<&'static str, ()>,
    main: BTreeMap<&'static str, ()>,
    form: BTreeMap<&'static str, ()>,
    known: BTreeMap<&'static str, ()>,
}

impl Lexicon {
    /// The shipped one.
    pub fn shipped() -> &'static Self {
        static SHIPPED: OnceLock<Lexicon> = OnceLock::new();
        SHIPPED.get_or_init(|| Self::read(include_str!("../data/lexicon.txt")))
    }

    fn read(text: &'static str) -> Self {
        let mut all = Self::default();
        for (number, line) in (0u16..).zip(text.lines()) {
            let Some((kind, rest)) = line.split_once(' ') else { continue };
            all.line(kind, rest, number);
        }
        all
    }

    fn line(&mut self, kind: &str, rest: &'static str, number: u16) {
        let mut words = rest.split(' ').filter(|w| !w.is_empty());
        match kind {
            "abbr" => {
                if let Some(short) = words.next() {
                    self.abbreviations.insert(short, words.collect());
                }
            }
            "same" => words.for_each(|w| self.same.entry(w).or_default().push(number)),
            "near" => words.for_each(|w| self.near.entry(w).or_default().push(number)),
            "side" => self.side.extend(words.map(|w| (w, ()))),
            "weak" => self.weak.extend(words.map(|w| (w, ()))),
            "main" => {
                self.main.extend(words.clone().map(|w| (w, ())));
                self.weak.extend(words.map(|w| (w, ())));
            }
            "form" => self.form.extend(words.map(|w| (w, ()))),
            "against" => stand(&mut self.against, rest, number),
            "apart" => stand(&mut self.apart, rest, number),
            _ => return,
        }
        self.known.extend(rest.split([' ', '|']).filter(|w| w.len() > 1).map(|w| (w, ())));
    }

    /// What a short form stands for.
    pub fn expand(&self, word: &str) -> Option<&[&'static str]> {
        self.abbreviations.get(word).map(Vec::as_slice)
    }

    /// The word stands in the lexicon.
    pub fn knows(&self, word: &str) -> bool {
        self.known.contains_key(word)
    }

    /// Both name one thing.
    pub fn are_same(&self, one: &str, other: &str) -> bool {
        share(self.same.get(one), self.same.get(other))
    }

    /// Both are often exchanged for each other.
    pub fn are_near(&self, one: &str, other: &str) -> bool {
        share(self.near.get(one), self.near.get(other))
    }

    /// Both stand on two sides that never mean the same.
    pub fn are_against(&self, one: &str, other: &str) -> bool {
        divides(self.against.get(one), self.against.get(other))
    }

    /// Both are exchanged for each other in one place and name two things in another: `number` and `count`.
    pub fn are_apart(&self, one: &str, other: &str) -> bool {
        divides(self.apart.get(one), self.apart.get(other))
    }

    /// Marks an alternative beside the main one.
    pub fn is_side(&self, word: &str) -> bool {
        self.side.contains_key(word)
    }

    /// Marks the main one, which may go unsaid.
    pub fn is_main(&self, word: &str) -> bool {
        self.main.contains_key(word)
    }

    /// Names the form of values, which they show themselves.
    pub fn is_form(&self, word: &str) -> bool {
        self.form.contains_key(word)
    }

    /// Says little by itself, or says what goes without saying.
    pub fn is_weak(&self, word: &str) -> bool {
        self.weak.contains_key(word)
    }
}

/// Words on the sides of a line that are kept apart.
fn stand(words: &mut BTreeMap<&'static str, Vec<(u16, u8)>>, rest: &'static str, line: u16) {
    for (side, part) in (0u8..).zip(rest.split('|')) {
        for word in part.split(' ').filter(|w| !w.is_empty()) {
            words.entry(word).or_default().push((line, side));
        }
    }
}

fn divides(one: Option<&Vec<(u16, u8)>>, other: Option<&Vec<(u16, u8)>>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    one.iter().any(|(line, side)| other.iter().any(|(l, s)| l == line && s != side))
}

fn share(one: Option<&Vec<u16>>, other: Option<&Vec<u16>>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    one.iter().any(|line| other.contains(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synonyms_contrasts_and_abbreviations_are_known() {
        let lexicon = Lexicon::shipped();
        assert!(lexicon.are_same("company", "account") && !lexicon.are_same("company", "email"));
        assert!(
            lexicon.are_against("billing", "shipping")
                && lexicon.are_against("max", "min") == lexicon.are_against("min", "max")
        );
        assert_eq!(lexicon.expand("amt"), Some(&["amount"][..]));
        assert!(lexicon.is_side("secondary") && lexicon.is_weak("value"));
    }
}
