//! What a process has failed at: it leaves that alone for longer and longer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Share;

/// For how long a share is left alone that the work on has failed: each time twice as long, up to the last.
const PAUSE_FIRST: Duration = Duration::from_secs(60);
const PAUSE_LAST: Duration = Duration::from_secs(3_600);

/// What a process has failed at.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<Share, Failure>);

#[derive(Debug)]
struct Failure {
    at: Instant,
    pause: Duration,
}

impl Failures {
    /// Notes that the work on a share, which began at `begun`, has failed now. What went well for long before counts as
    /// if it had never failed.
    pub(super) fn note(&mut self, share: &Share, begun: Instant, now: Instant) {
        let went_well = now.saturating_duration_since(begun) >= PAUSE_LAST;
        let before = self.0.get(share).filter(|_| !went_well);
        let pause = before.map_or(PAUSE_FIRST, |before| (before.pause * 2).min(PAUSE_LAST));
        self.0.insert(share.clone(), Failure { at: now, pause });
    }

    /// The shares that are left alone for now.
    pub(super) fn left_alone(&self, now: Instant) -> BTreeSet<Share> {
        let is_left = |failure: &Failure| now.saturating_duration_since(failure.at) < failure.pause;
        self.0.iter().filter(|(_, failure)| is_left(failure)).map(|(share, _)| share.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_left_alone_for_longer_and_longer_and_what_went_well_for_long_begins_anew() {
        let share = Share { role: "process".into(), partition: 0 };
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            failures.note(&share, now, now);
            now += Duration::from_secs(60 * minutes - 1);
            assert!(failures.left_alone(now).contains(&share), "{minutes}");
            now += Duration::from_secs(1);
            assert!(failures.left_alone(now).is_empty(), "{minutes}");
        }
        failures.note(&share, now, now + PAUSE_LAST);
        assert!(failures.left_alone(now + PAUSE_LAST + PAUSE_FIRST).is_empty());
    }
}
