//! Places on `events` behind which the rows of later inputs stand: who looks for those rows need not read all that was there
//! before. No clock tells them: `events` ended there while those inputs did not stand on `inputs` yet.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::Topic;
use tokio::time::Instant;

use crate::log::Log;

/// A place is noted so often.
pub(super) const NOTED_EVERY: Duration = Duration::from_secs(120);
/// Places that are known; of more every other one is forgotten, so that old ones lie farther apart.
const PLACES_MAX: usize = 256;

/// The places that were noted.
#[derive(Default)]
pub(super) struct Places {
    /// Where the partitions of `events` ended, by the first input that did not stand on the log then.
    ends: BTreeMap<u64, Vec<u64>>,
    noted: Option<Instant>,
}

impl Places {
    /// Notes where `events` end, unless that was done a short while ago. Where it cannot be told, more is read later on.
    pub(super) async fn note(&mut self, log: &dyn Log, partition: u32) {
        if self.noted.is_some_and(|noted| noted.elapsed() < NOTED_EVERY) {
            return;
        }
        self.noted = Some(Instant::now());
        let mut ends = Vec::new();
        for events in 0..log.partitions(Topic::Events) {
            let Ok(end) = log.end(Topic::Events, events).await else { return };
            ends.push(end);
        }
        // Asked for last: the rows of whatever is sent from here on stand behind those ends.
        if let Ok(next) = log.end(Topic::Inputs, partition).await {
            self.take(next, ends);
        }
    }

    fn take(&mut self, next: u64, ends: Vec<u64>) {
        self.ends.insert(next, ends);
        if self.ends.len() > PLACES_MAX {
            let mut is_kept = false;
            self.ends.retain(|_, _| {
                is_kept = !is_kept;
                is_kept
            });
        }
    }

    /// Where, on a partition of `events`, to begin to look for the rows of the inputs behind `since`.
    pub(super) fn behind(&self, since: u64, events: u32) -> u64 {
        let noted = self.ends.range(..=since.saturating_add(1)).next_back();
        noted.and_then(|(_, ends)| ends.get(events as usize)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_looked_for_from_the_last_place_that_was_noted_before_their_inputs_came() {
        let mut places = Places::default();
        assert_eq!(places.behind(50, 0), 0, "nothing is known");
        places.take(10, vec![7, 3]);
        places.take(20, vec![16, 5]);
        assert_eq!((places.behind(8, 0), places.behind(9, 0), places.behind(9, 1)), (0, 7, 3));
        assert_eq!((places.behind(18, 0), places.behind(19, 0), places.behind(u64::MAX, 1)), (7, 16, 5));
        assert_eq!(places.behind(19, 2), 0, "a partition that was not there");
        places.take(20, vec![18, 5]);
        assert_eq!(places.behind(19, 0), 18, "no input came meanwhile");
    }

    #[test]
    fn of_many_places_the_old_ones_lie_farther_apart_and_none_is_behind_what_is_looked_for() {
        let mut places = Places::default();
        for next in 1..5_000 {
            places.take(next, vec![next * 2]);
            assert!(places.ends.len() <= PLACES_MAX);
        }
        assert!(places.behind(4_998, 0) > 9_900);
        for since in 0..5_000 {
            assert!(places.behind(since, 0) <= (since + 1) * 2, "{since}");
        }
        assert!(places.behind(100, 0) > 0, "the oldest one stays");
    }
}
