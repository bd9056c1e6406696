//! What a log on servers has met and gone on behind: messages that are none of the line's, and readers that stood still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use schemas::Topic;

/// Foreign messages that wait to be noted; what comes while there are so many is counted alone.
const WAITING_MAX: usize = 10_000;
/// Places by which a message is known when it is read again.
const KNOWN_MAX: usize = 100_000;
/// So many are told in the process's log, one by one.
const TOLD_MAX: u64 = 1_000;
/// Characters of what is wrong with a message: it may quote it.
const WHY_CHARS_MAX: usize = 200;

/// A message on a topic that is not ours, or not whole. It has no items, and readers go on behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The server's own number of the message, for Kafka its offset.
    pub message: i64,
    /// The offset of the item that comes next.
    pub next: u64,
    /// When the server took it, in microseconds since 1970 UTC.
    pub logged_at: i64,
    /// What is wrong with it.
    pub why: String,
}

/// What was odd so far, in this process.
#[derive(Debug, Default)]
pub struct Oddities {
    found: Mutex<Found>,
    stalls: AtomicU64,
}

#[derive(Debug, Default)]
struct Found {
    /// By topic and partition, then by message.
    waiting: BTreeMap<(Topic, u32, i64), Foreign>,
    known: BTreeSet<(Topic, u32, i64)>,
    count: u64,
}

impl Oddities {
    /// Takes in a foreign message, each once however often it is read.
    pub fn met(&self, mut foreign: Foreign) {
        let place = place(&foreign);
        let mut found = self.found.lock();
        if !found.known.insert(place) {
            return;
        }
        if found.known.len() > KNOWN_MAX {
            found.known.pop_first();
        }
        found.count += 1;
        foreign.why = foreign.why.chars().take(WHY_CHARS_MAX).collect();
        if found.count <= TOLD_MAX {
            let Foreign { topic, partition, message, why, .. } = &foreign;
            tracing::warn!(%topic, partition, message, why, "a message that is not ours was passed over");
        }
        if found.waiting.len() < WAITING_MAX {
            found.waiting.insert(place, foreign);
        }
    }

    /// The foreign messages of a partition that are not noted yet.
    pub fn waiting(&self, topic: Topic, partition: u32) -> Vec<Foreign> {
        let found = self.found.lock();
        let of_partition = (topic, partition, i64::MIN)..=(topic, partition, i64::MAX);
        found.waiting.range(of_partition).map(|(_, foreign)| foreign.clone()).collect()
    }

    /// A foreign message is noted.
    pub fn noted(&self, foreign: &Foreign) {
        self.found.lock().waiting.remove(&place(foreign));
    }

    /// Foreign messages that were met.
    pub fn foreign(&self) -> u64 {
        self.found.lock().count
    }

    /// A reader stood still and was replaced.
    pub fn stalled(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a reader stood still and was replaced.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }
}

fn place(foreign: &Foreign) -> (Topic, u32, i64) {
    (foreign.topic, foreign.partition, foreign.message)
}

#[cfg(test)]
pub(crate) fn foreign(topic: Topic, partition: u32, message: i64) -> Foreign {
    Foreign { topic, partition, message, next: 7, logged_at: 1, why: "it has no header".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_met_again_counts_once_and_waits_until_it_is_noted() {
        let oddities = Oddities::default();
        for message in [5, 3, 5] {
            oddities.met(foreign(Topic::Inputs, 1, message));
        }
        oddities.met(foreign(Topic::Inputs, 2, 5));
        let waiting = || oddities.waiting(Topic::Inputs, 1).iter().map(|one| one.message).collect::<Vec<_>>();
        assert_eq!((waiting(), oddities.foreign()), (vec![3, 5], 3));
        oddities.noted(&foreign(Topic::Inputs, 1, 3));
        oddities.met(foreign(Topic::Inputs, 1, 3));
        assert_eq!((waiting(), oddities.foreign()), (vec![5], 3));
        assert!(oddities.waiting(Topic::Events, 1).is_empty());
    }

    #[test]
    fn more_messages_than_can_wait_are_counted_alone() {
        let oddities = Oddities::default();
        let all = WAITING_MAX as i64 + 5;
        (0..all).for_each(|message| oddities.met(foreign(Topic::Events, 0, message)));
        assert_eq!(oddities.waiting(Topic::Events, 0).len(), WAITING_MAX);
        assert_eq!(oddities.foreign(), all as u64);
    }
}
