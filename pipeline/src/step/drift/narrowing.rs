//! Narrowing: what the values at another path cannot say any more, told from the profiles of both.

use schemas::mapping::Path;
use schemas::shape::ShapeTree;

use super::{Drift, Format, Profile};

/// So many finer values would have to be there, going by how many there were, for their absence to tell something.
const EXPECTED_MIN: u128 = 4;
/// Of those that would have to be there, one in so many may be left.
const LEFT: u128 = 20;
/// A type is had by a path of whose values one in so many is of it …
const HAD: u64 = 100;
/// … and was never had, but for strays, by one of whose values not even one in so many is.
const STRAY: u64 = 1_000;

impl Drift {
    /// Whether the values at one path are of a type that those at another hardly ever were: what came once does not make it a
    /// type of theirs.
    pub fn is_other_type(&self, from: &str, to: &str, tree: &ShapeTree) -> bool {
        match (self.profile_at(from, tree), self.profile_at(to, tree)) {
            (Some(before), Some(after)) => after.is_other_type(before),
            _ => false,
        }
    }

    /// What the values at one path lack that those at another had, in words: the fractions of numbers, the times of days.
    pub fn narrowing(&self, from: &str, to: &str, tree: &ShapeTree) -> Option<&'static str> {
        self.profile_at(to, tree)?.narrows(self.profile_at(from, tree)?)
    }

    fn profile_at(&self, path: &str, tree: &ShapeTree) -> Option<&Profile> {
        let parts = Path::new(path).ok().and_then(|path| path.choices().first().cloned())?;
        self.profiles.of(tree.find(&parts)?)
    }
}

impl Profile {
    fn is_other_type(&self, before: &Self) -> bool {
        let of = |profile: &Self| profile.values.saturating_sub(profile.nulls);
        let (all_before, all) = (of(before), of(self));
        let is_new = |(now, then): (u64, u64)| now > 0 && now * HAD >= all && then * STRAY < all_before;
        self.classes.into_iter().zip(before.classes).any(is_new)
    }

    fn narrows(&self, before: &Self) -> Option<&'static str> {
        // Some write whole numbers with a point, too.
        if before.has_fraction() && self.lacks(before, Format::Decimal, Format::Integer) {
            return Some("its numbers are whole, and there were fractions");
        }
        self.lacks(before, Format::Moment, Format::Date).then_some("it has days alone, and there were times of day")
    }

    fn has_fraction(&self) -> bool {
        let is_fraction = |digits: &str| digits.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
        self.samples.iter().any(|sample| sample.value().split_once('.').is_some_and(|(_, rest)| is_fraction(rest)))
    }

    /// Whether values of the coarse format alone stand where there were ones of the fine format, too.
    fn lacks(&self, before: &Self, fine: Format, coarse: Format) -> bool {
        let counts = |profile: &Self| {
            let [fine, coarse] = [fine, coarse].map(|format| u128::from(profile.formats[format as usize]));
            (fine, fine + coarse)
        };
        let ((fine_before, all_before), (fine, all)) = (counts(before), counts(self));
        // As many as there would be at the former rate, times all that there were.
        let expected = all * fine_before;
        all_before > 0 && expected >= EXPECTED_MIN * all_before && fine * LEFT * all_before <= expected
    }
}
