//! Fields that only some records have: whether one is gone is told by how long it stays away, and by a path that came
//! instead.

use super::look::{Due, Look};
use super::since::Since;
use super::usual::Usual;

/// Records that a field was in, and records looked at, before it is known how often it comes.
const PRESENT_MIN: u64 = 20;
const RECORDS_MIN: u64 = 200;
/// So many of it must have been expected before its absence is likely …
const LIKELY: u64 = 5;
/// … and so many before its absence sets one thinking.
const THINKABLE: u64 = 1;

impl Usual {
    /// Whether it is known how often it comes.
    pub(super) fn is_known(&self) -> bool {
        self.present >= PRESENT_MIN && self.records >= RECORDS_MIN
    }

    /// The same, though no single absence tells anything.
    pub(super) fn is_sparse(&self) -> bool {
        self.is_known() && !self.is_steady()
    }
}

/// What the records since a new path came say of a field that only some records have, `held` of them with a new path and
/// without the field. Something must have come about as often as the field stays away, and the less was to be expected
/// of it, the less may have been seen. On a slow stream the time is over before much was to be expected: where none came and
/// something else did, it is waited on.
pub(super) fn look(usual: &Usual, since: &Since, held: u64, due: Due) -> Look {
    let Since { lacking, having, .. } = *since;
    let expected = (lacking + having) * usual.present / usual.records.max(1);
    if having >= 5 && having * 2 >= expected {
        return Look::Back;
    }
    let is_surely_gone = expected >= 20 && having * 5 <= expected && held * 4 >= expected;
    let is_away = having == 0 && held * 2 >= expected;
    match due {
        _ if is_surely_gone => Look::Gone,
        Due::No => Look::Unclear,
        _ if is_away && expected >= LIKELY => Look::Gone,
        Due::Yes if is_away && expected >= THINKABLE => Look::Unclear,
        Due::Yes | Due::Last => Look::Back,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_after(lacking: u64, having: u64, held: u64, is_due: bool) -> Look {
        let usual = Usual { records: 1_000, present: 300, run: 1 };
        let since = Since { lacking, having, ..Since::default() };
        look(&usual, &since, held, if is_due { Due::Yes } else { Due::No })
    }

    #[test]
    fn what_three_in_ten_had_is_gone_once_twenty_should_have_had_it_and_something_else_came() {
        assert_eq!(look_after(60, 0, 20, false), Look::Unclear);
        assert_eq!(look_after(67, 0, 20, false), Look::Gone);
        assert_eq!(look_after(67, 0, 1, false), Look::Unclear, "one new path is no replacement");
        assert_eq!(look_after(20, 5, 3, false), Look::Back);
        assert_eq!(look_after(60, 7, 20, false), Look::Unclear, "fewer than usual, but not gone");
        assert_eq!(look_after(20, 0, 6, true), Look::Gone);
        assert_eq!(look_after(20, 0, 2, true), Look::Back, "too few new paths for it");
        assert_eq!(look_after(3, 0, 3, true), Look::Back, "three records tell nothing");
        assert_eq!(look_after(10, 0, 10, true), Look::Unclear, "of ten three should have had it");
        let since = Since { lacking: 10, ..Since::default() };
        let usual = Usual { records: 1_000, present: 300, run: 1 };
        assert_eq!(look(&usual, &since, 10, Due::Last), Look::Back, "not for ever");
        assert_eq!(look_after(900, 100, 20, true), Look::Back);
    }
}
