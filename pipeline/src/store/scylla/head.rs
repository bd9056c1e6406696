//! What a row has beside its value: its version, and the marks of its last writes.

/// Bytes of a mark, and how many of them a row keeps: a writer that was not answered knows how its write ended while no more
/// than so many came after it.
pub(super) const MARK_BYTES: usize = 16;
const MARKS_MAX: usize = 8;

/// A row without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: i64,
    /// Of the last writes, the newest first.
    pub(super) marks: Vec<u8>,
    pub(super) parts: i32,
}

impl Head {
    /// The mark of the write that made it.
    pub(super) fn mark(&self) -> &[u8] {
        self.marks.get(..MARK_BYTES).unwrap_or(&self.marks)
    }

    /// The version that the write with a mark made, if it is one of the last.
    pub(super) fn version_of(&self, mark: &[u8]) -> Option<u64> {
        let back = self.marks.chunks(MARK_BYTES).position(|one| one == mark)?;
        self.version.checked_sub(i64::try_from(back).ok()?).map(i64::unsigned_abs)
    }

    /// The row that a write makes of this one, or of none.
    pub(super) fn next(found: Option<&Self>, version: u64, mark: [u8; MARK_BYTES], parts: i32) -> Self {
        let mut marks = mark.to_vec();
        let before: &[u8] = found.map_or(&[], |head| head.marks.as_slice());
        marks.extend_from_slice(&before[..before.len().min(MARK_BYTES * (MARKS_MAX - 1))]);
        Self { version: i64::try_from(version).unwrap_or(i64::MAX), marks, parts }
    }

    /// How the write with a mark ended, whose writer had found `before`; nothing when too much came after it.
    pub(super) fn outcome(now: Option<&Self>, before: Option<&Self>, mark: &[u8]) -> Option<Ended> {
        if now == before {
            return Some(Ended::NotDone);
        }
        let now = now?;
        if let Some(version) = now.version_of(mark) {
            return Some(Ended::Done(version));
        }
        let since = now.version - before.map_or(0, |head| head.version);
        (1..=MARKS_MAX as i64).contains(&since).then_some(Ended::NotDone)
    }
}

/// How a write ended that nobody told about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It made this version.
    Done(u64),
    NotDone,
}

pub(super) fn version_of(head: Option<&Head>) -> Option<u64> {
    head.map(|head| head.version.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Expect;

    const OURS: [u8; MARK_BYTES] = [1; MARK_BYTES];

    fn after(found: Option<&Head>, writes: u8) -> Head {
        let mut head = next(found, [100; MARK_BYTES]);
        for n in 1..writes {
            head = next(Some(&head), [100 + n; MARK_BYTES]);
        }
        head
    }

    fn next(found: Option<&Head>, mark: [u8; MARK_BYTES]) -> Head {
        Head::next(found, Expect::Any.next(version_of(found)), mark, 0)
    }

    #[test]
    fn a_writer_that_was_not_answered_finds_its_write_among_the_last_few() {
        let before = after(None, 3);
        let ours = next(Some(&before), OURS);
        for later in 1..MARKS_MAX as u8 {
            let now = after(Some(&ours), later);
            assert_eq!(Head::outcome(Some(&now), Some(&before), &OURS), Some(Ended::Done(4)), "{later} later");
        }
        assert_eq!(Head::outcome(Some(&ours), Some(&before), &OURS), Some(Ended::Done(4)));
    }

    #[test]
    fn a_write_that_was_not_done_is_known_while_few_came_after_and_unknown_then() {
        let before = after(None, 3);
        assert_eq!(Head::outcome(Some(&before), Some(&before), &OURS), Some(Ended::NotDone));
        assert_eq!(Head::outcome(None, None, &OURS), Some(Ended::NotDone));
        for (others, known) in [(1, true), (8, true), (9, false)] {
            let now = after(Some(&before), others);
            assert_eq!(Head::outcome(Some(&now), Some(&before), &OURS), known.then_some(Ended::NotDone), "{others}");
        }
        assert_eq!(Head::outcome(None, Some(&before), &OURS), None, "removed, before or after");
        assert_eq!(Head::outcome(Some(&after(None, 1)), Some(&before), &OURS), None, "removed and made again");
    }

    #[test]
    fn a_row_keeps_few_marks() {
        assert_eq!(after(None, 50).marks.len(), MARK_BYTES * MARKS_MAX);
    }
}
