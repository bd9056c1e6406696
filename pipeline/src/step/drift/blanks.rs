//! Blanks: how often something is null, empty or not there, and whether that is more often than it was.

use schemas::drift::Lost;
use schemas::mapping::Path;
use schemas::shape::{ELEMENTS, NodeId, ShapeTree, TypeClass};

use super::{Drift, Format, Profile};

/// A share of blanks that is so much above the usual, in thousandths, is not yet more than usual.
const SLACK: u64 = 75;

/// So many of some values are blank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blanks {
    /// Null, empty or absent.
    pub blank: u64,
    /// All of them.
    pub values: u64,
}

impl Blanks {
    /// The share of blank ones, in thousandths.
    pub fn share(self) -> u64 {
        self.blank.saturating_mul(1_000) / self.values.max(1)
    }

    /// Whether more of these are blank than of the usual ones: by more than the slack, and than chance makes of so few.
    pub fn is_more_than(self, usual: Self) -> bool {
        let least = u128::from((usual.share() + SLACK).min(1_000));
        let (blank, values) = (u128::from(self.blank) * 1_000, u128::from(self.values));
        let excess = blank.saturating_sub(values * least);
        // Twice the deviation of a binomial share.
        excess > 0 && excess * excess > 4 * values * least * (1_000 - least)
    }
}

impl std::fmt::Display for Blanks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = self.share();
        write!(f, "{}.{} %", share / 10, share % 10)
    }
}

impl Drift {
    /// Of the values that were looked at at a node.
    pub fn blanks_at(&self, node: NodeId, tree: &ShapeTree) -> Blanks {
        let Some(profile) = self.profiles.of(node) else { return Blanks::default() };
        let (texts, arrays) = (texts(profile), self.arrays(node, profile, tree));
        Blanks { blank: profile.nulls + texts.blank + arrays.blank, values: profile.values }
    }

    /// The same, of the path that a move leads to.
    pub(in crate::step) fn blanks_of(&self, path: &str, tree: &ShapeTree) -> Blanks {
        node_of(tree, path).map_or_else(Blanks::default, |node| self.blanks_at(node, tree))
    }

    /// Of the records that flowed before something was lost.
    pub fn blanks_before(&self, lost: &Lost, tree: &ShapeTree) -> Blanks {
        let (all, other) = (self.blanks_of(&lost.path, tree), self.blanks_of_other_types(lost, tree));
        let (blank, values) = (all.blank.saturating_sub(other.blank), all.values.saturating_sub(other.values));
        let usual = self.watches.iter().find(|watch| watch.paths == lost.paths).map(|watch| watch.usual);
        let Some(usual) = usual.filter(|usual| usual.records > 0) else { return Blanks { blank, values } };
        let blank = u128::from(usual.present) * u128::from(blank) / u128::from(values.max(1));
        let absent = usual.records.saturating_sub(usual.present);
        Blanks { blank: absent.saturating_add(u64::try_from(blank).unwrap_or(u64::MAX)), values: usual.records }
    }

    /// Of the texts and arrays that stand where values of other types stood: empty ones are no values.
    pub(in crate::step) fn blanks_of_other_types(&self, lost: &Lost, tree: &ShapeTree) -> Blanks {
        let Some(node) = node_of(tree, &lost.path).filter(|_| lost.retyped) else { return Blanks::default() };
        let known = self.watches.iter().find(|watch| watch.paths == lost.paths).map_or(0, |watch| watch.types);
        let Some(profile) = self.profiles.of(node).filter(|_| known != 0) else { return Blanks::default() };
        let found = [(TypeClass::Text, texts(profile)), (TypeClass::Array, self.arrays(node, profile, tree))];
        let other = found.into_iter().filter(|(class, _)| known & *class as u8 == 0);
        other.fold(Blanks::default(), |sum, (_, more)| Blanks {
            blank: sum.blank + more.blank,
            values: sum.values + more.values,
        })
    }

    /// Of the arrays at a node those that are empty.
    fn arrays(&self, node: NodeId, profile: &Profile, tree: &ShapeTree) -> Blanks {
        let parts: Vec<&str> = tree.parts(node).into_iter().chain([ELEMENTS]).collect();
        // Of each array that has elements the first was looked at.
        let filled = tree.find(&parts).and_then(|inner| self.profiles.of(inner)).map_or(0, |inner| inner.values);
        let values = of_class(profile, TypeClass::Array);
        Blanks { blank: values.saturating_sub(filled), values }
    }
}

fn texts(profile: &Profile) -> Blanks {
    Blanks { blank: profile.formats[Format::Blank as usize], values: of_class(profile, TypeClass::Text) }
}

fn of_class(profile: &Profile, class: TypeClass) -> u64 {
    let of = TypeClass::ALL.into_iter().zip(profile.classes).find(|(known, _)| *known == class);
    of.map_or(0, |(_, count)| count)
}

pub(super) fn node_of(tree: &ShapeTree, path: &str) -> Option<NodeId> {
    let path = Path::new(path).ok()?;
    tree.find(path.choices().first()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_blanks_is_larger_when_chance_and_slack_do_not_make_it() {
        let of = |blank, values| Blanks { blank, values };
        let (never, third) = (of(0, 300), of(100, 300));
        assert!(of(20, 20).is_more_than(never) && of(10, 20).is_more_than(never) && of(4, 20).is_more_than(never));
        assert!(!of(2, 20).is_more_than(never) && !of(0, 20).is_more_than(never) && !of(0, 0).is_more_than(never));
        assert!(!of(8, 20).is_more_than(third) && of(300, 600).is_more_than(third) && of(20, 20).is_more_than(third));
        assert!(!of(600, 600).is_more_than(of(280, 300)), "almost none had a value");
        assert_eq!(of(1, 3).to_string(), "33.3 %");
    }
}
