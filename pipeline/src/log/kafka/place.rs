//! Where a message of a partition stands among its items.
//!
//! Kafka numbers messages and the line numbers items, so whoever reads a partition counts. Every message says in its
//! *anchor* what its writer had counted up to some message before it; so a reader may begin anywhere, and two readers
//! always count alike.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::time::Instant;

/// What stands before a message of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Kafka's offset of the message.
    pub(super) message: i64,
    /// Items before it.
    pub(super) items: u64,
    /// The greatest time of those, in microseconds since 1970 UTC.
    pub(super) time: i64,
}

impl Place {
    /// Before everything.
    pub(super) const START: Self = Self { message: 0, items: 0, time: 0 };

    /// The place behind a message that stands at or behind this one, with nothing of ours between.
    pub(super) fn behind(self, message: i64, items: u64, time: i64) -> Self {
        let time = if items > 0 { self.time.max(time) } else { self.time };
        Self { message: message + 1, items: self.items + items, time }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.message, self.items, self.time)
    }
}

impl FromStr for Place {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(());
        let place = Self {
            message: next()?.parse().map_err(drop)?,
            items: next()?.parse().map_err(drop)?,
            time: next()?.parse().map_err(drop)?,
        };
        if parts.next().is_none() && place.message >= 0 { Ok(place) } else { Err(()) }
    }
}

/// The last messages whose places are kept one by one.
const RECENT_MAX: usize = 4096;
/// The places that are kept of a whole partition; beyond it every second is forgotten.
const MARKS_MAX: usize = 2048;
/// Messages between two of them at first.
const MARK_EVERY: i64 = 32;

/// What is known of a partition.
pub(super) struct Known {
    /// Behind the last message that was counted.
    pub(super) end: Place,
    /// When that was last seen to be the partition's end or moved.
    pub(super) confirmed: Option<Instant>,
    /// Our own messages behind it, by Kafka's offset: items and time. Others' may stand between.
    delivered: BTreeMap<i64, (u64, i64)>,
    /// The places of the last messages that were counted.
    recent: BTreeMap<i64, Place>,
    /// Some places, by items.
    marks: BTreeMap<u64, Place>,
}

impl Known {
    pub(super) fn new() -> Self {
        let marks = BTreeMap::from([(0, Place::START)]);
        Self { end: Place::START, confirmed: None, delivered: BTreeMap::new(), recent: BTreeMap::new(), marks }
    }

    /// A message was read: it stands at `before`, and what follows stands at `after`.
    pub(super) fn counted(&mut self, before: Place, after: Place) {
        self.recent.insert(after.message - 1, Place { message: after.message - 1, ..before });
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_first();
        }
        let near = self.marks.range(..=after.items).next_back().map_or(0, |(_, place)| place.message);
        if after.message - near >= MARK_EVERY {
            self.mark(after);
        }
        if after.message > self.end.message {
            self.end = after;
            self.take_delivered();
        }
    }

    /// A place that somebody else counted.
    pub(super) fn anchored(&mut self, place: Place) {
        self.mark(place);
        if place.message > self.end.message {
            self.end = place;
            self.take_delivered();
        }
    }

    /// A message of ours was acknowledged.
    pub(super) fn delivered(&mut self, message: i64, items: u64, time: i64) {
        if message >= self.end.message {
            self.delivered.insert(message, (items, time));
            self.take_delivered();
        }
    }

    fn take_delivered(&mut self) {
        while let Some(first) = self.delivered.first_entry() {
            let message = *first.key();
            if message > self.end.message {
                return;
            }
            let (items, time) = first.remove();
            if message == self.end.message {
                let before = self.end;
                self.counted(before, before.behind(message, items, time));
            }
        }
    }

    /// The first message of ours behind the end that is known; what stands between is others'.
    pub(super) fn gap_end(&self) -> i64 {
        self.delivered.first_key_value().map_or(i64::MAX, |(message, _)| *message)
    }

    /// The place of a message, if it was counted lately.
    pub(super) fn of_message(&self, message: i64) -> Option<Place> {
        self.recent.get(&message).copied()
    }

    /// The last place known with at most so many items before it.
    pub(super) fn floor(&self, items: u64) -> Place {
        if items >= self.end.items {
            return self.end;
        }
        self.marks.range(..=items).next_back().map_or(Place::START, |(_, place)| *place)
    }

    /// The first place known with more items before it.
    pub(super) fn ceiling(&self, items: u64) -> Place {
        let above = (Bound::Excluded(items), Bound::Unbounded);
        self.marks.range(above).next().map_or(self.end, |(_, place)| *place)
    }

    fn mark(&mut self, place: Place) {
        self.marks.entry(place.items).or_insert(place);
        if self.marks.len() > MARKS_MAX {
            let mut nth = 0;
            self.marks.retain(|_, _| {
                nth += 1;
                nth % 2 == 1
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_from_its_text() {
        let place = Place { message: 7, items: 21, time: 1_700_000_000_000_000 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["", "1:2", "1:2:3:4", "-1:0:0", "a:b:c"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn own_messages_are_counted_without_being_read_and_others_between_them_hold_the_count_up() {
        let mut known = Known::new();
        known.delivered(0, 3, 10);
        assert_eq!(known.end, Place { message: 1, items: 3, time: 10 });
        known.delivered(2, 5, 30);
        assert_eq!((known.end.message, known.gap_end()), (1, 2));
        let before = known.end;
        known.counted(before, before.behind(1, 2, 20));
        assert_eq!(known.end, Place { message: 3, items: 10, time: 30 });
        assert_eq!(known.of_message(2).unwrap().items, 5);
        assert_eq!(known.gap_end(), i64::MAX);
    }

    #[test]
    fn a_message_without_items_moves_neither_count_nor_time() {
        assert_eq!(Place::START.behind(0, 0, 99), Place { message: 1, items: 0, time: 0 });
    }

    #[test]
    fn times_do_not_go_back_when_the_brokers_clock_does() {
        let place = Place::START.behind(0, 1, 50).behind(1, 1, 40);
        assert_eq!(place.time, 50);
    }

    #[test]
    fn marks_stay_few_and_still_enclose_every_item() {
        let mut known = Known::new();
        for message in 0..200_000 {
            let before = known.end;
            known.counted(before, before.behind(message, 2, message));
        }
        assert!(known.marks.len() <= MARKS_MAX && known.recent.len() <= RECENT_MAX);
        for items in [0, 1, 5_000, 399_999] {
            assert!(known.floor(items).items <= items && known.ceiling(items).items > items);
        }
    }
}
