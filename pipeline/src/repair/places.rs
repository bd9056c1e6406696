//! Places on `events` behind which the rows of later inputs stand: who looks for those rows need not read all that was there
//! before. No clock tells them: `events` ended there while those inputs did not stand on `inputs` yet. They are rows of `Store`,
//! written behind what they tell of, so that they outlive the process.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::{TenantId, Topic};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::log::Log;
use crate::store::{Expect, Store, StoreError, Table};

/// A place is noted so often.
pub(super) const NOTED_EVERY: Duration = Duration::from_secs(120);
/// Places that are known; of more every other one is forgotten, so that old ones lie farther apart.
const PLACES_MAX: usize = 256;
/// Rows that are read at once.
const PAGE: usize = 1_000;

/// The places that were noted for one partition of `inputs`.
#[derive(Default)]
pub(super) struct Places {
    partition: u32,
    /// The epochs of `inputs` and of `events`.
    epochs: (u32, u32),
    /// Where the partitions of `events` ended, by the first input that did not stand on the log then.
    ends: BTreeMap<u64, Vec<u64>>,
    noted: Option<Instant>,
}

/// A place as it is kept.
#[derive(Serialize, Deserialize)]
struct Noted {
    epochs: (u32, u32),
    ends: Vec<u64>,
}

impl Places {
    /// Those that were noted before. What is of other epochs, or cannot be read, is as if nobody had noted it: more is read
    /// later on.
    pub(super) async fn read(log: &dyn Log, store: &dyn Store, partition: u32) -> Result<Self, StoreError> {
        let epochs = (log.epoch(Topic::Inputs), log.epoch(Topic::Events));
        let mut places = Self { partition, epochs, ..Self::default() };
        let (prefix, mut after) = (format!("{partition:05}/"), None::<String>);
        loop {
            let rows = store.scan(TenantId::SYSTEM, Table::Places, &prefix, after.as_deref(), PAGE).await?;
            let Some((last, _)) = rows.last() else { return Ok(places) };
            after = Some(last.clone());
            for (key, row) in rows {
                let next = key.strip_prefix(&prefix).and_then(|next| next.parse::<u64>().ok());
                let noted = serde_json::from_slice::<Noted>(&row.value).ok();
                if let (Some(next), Some(noted)) = (next, noted.filter(|noted| noted.epochs == epochs)) {
                    places.ends.insert(next, noted.ends);
                }
            }
        }
    }

    /// Notes where `events` end, unless that was done a short while ago. Where it cannot be told, or kept, more is read later
    /// on.
    pub(super) async fn note(&mut self, log: &dyn Log, store: &dyn Store) {
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
        let Ok(next) = log.end(Topic::Inputs, self.partition).await else { return };
        if self.ends.get(&next) == Some(&ends) {
            return;
        }
        let forgotten = self.take(next, ends.clone());
        if let Err(error) = self.keep(store, next, ends, &forgotten).await {
            tracing::warn!(partition = self.partition, %error, "a place on events is not kept");
        }
    }

    async fn keep(&self, store: &dyn Store, next: u64, ends: Vec<u64>, forgotten: &[u64]) -> Result<(), StoreError> {
        let noted = Noted { epochs: self.epochs, ends };
        let value = serde_json::to_vec(&noted).expect("a place is made of numbers");
        store.put(TenantId::SYSTEM, Table::Places, &self.key(next), value.into(), Expect::Any).await?;
        for next in forgotten {
            store.delete(TenantId::SYSTEM, Table::Places, &self.key(*next), Expect::Any).await?;
        }
        Ok(())
    }

    fn key(&self, next: u64) -> String {
        format!("{:05}/{next:020}", self.partition)
    }

    /// Takes a place in; answers which ones are forgotten for it.
    fn take(&mut self, next: u64, ends: Vec<u64>) -> Vec<u64> {
        let mut forgotten = Vec::new();
        self.ends.insert(next, ends);
        if self.ends.len() > PLACES_MAX {
            let mut is_kept = false;
            self.ends.retain(|next, _| {
                is_kept = !is_kept;
                if !is_kept {
                    forgotten.push(*next);
                }
                is_kept
            });
        }
        forgotten
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
    use crate::engine::Partitions;
    use crate::log::MemoryLog;
    use crate::store::MemoryStore;

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

    #[tokio::test]
    async fn who_starts_again_knows_the_places_that_were_kept_and_no_others() {
        let log = MemoryLog::new(Partitions { inputs: 2, events: 2, decisions: 2 });
        let store = MemoryStore::new();
        let mut places = Places::read(&log, &store, 1).await.unwrap();
        for next in 1..1_000 {
            let ends = vec![next, next * 2];
            let forgotten = places.take(next, ends.clone());
            places.keep(&store, next, ends, &forgotten).await.unwrap();
        }
        let again = Places::read(&log, &store, 1).await.unwrap();
        assert_eq!(again.ends, places.ends);
        assert!((1..=PLACES_MAX).contains(&again.ends.len()) && again.behind(u64::MAX, 1) == 999 * 2);
        assert_eq!(Places::read(&log, &store, 0).await.unwrap().ends, BTreeMap::new(), "of another partition");

        let of_others = Places { partition: 1, epochs: (7, 7), ..Places::default() };
        of_others.keep(&store, 5_000, vec![5_000, 10_000], &[]).await.unwrap();
        let key = of_others.key(6_000);
        store.put(TenantId::SYSTEM, Table::Places, &key, "{".into(), Expect::Any).await.unwrap();
        let again = Places::read(&log, &store, 1).await.unwrap();
        assert_eq!(again.ends, places.ends, "neither those of other epochs nor what cannot be read");
    }
}
