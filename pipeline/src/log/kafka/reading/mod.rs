//! Reading one partition: where items are, what is new, and who stands where.

mod counting;
mod cursors;
mod looking;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use schemas::{PackedBatch, Topic};
use tokio::sync::watch;

use super::client::Clients;
use super::cursor::Cursor;
use super::message::Content;
use super::place::{Known, Place};
use crate::log::{LogError, Stored};

/// How long one look for new messages lasts.
const LOOK: Duration = Duration::from_millis(250);
/// After so long without a message a consumer is asked whether it stands still.
const SILENCE: Duration = Duration::from_secs(5);
/// A partition that is shorter than it was for longer than this has lost messages.
const LEADER_CHANGE: Duration = Duration::from_secs(10);
/// What was known so long ago is asked again before it is said in an anchor.
const STALE: Duration = Duration::from_secs(1);

/// What this process knows of a partition, and its readers. All methods block.
pub(super) struct Reading {
    clients: Arc<Clients>,
    topic: Topic,
    partition: u32,
    known: Mutex<Known>,
    /// Items up to the end that is known.
    pub(super) end: watch::Sender<u64>,
    /// Held while somebody looks for new messages.
    pub(super) looking: Arc<tokio::sync::Mutex<()>>,
    /// The cursor that looked last. It is kept however many others are.
    looker: Mutex<Option<Cursor>>,
    /// When a message came to who looks, or it was made sure that there was none.
    heard: Mutex<Instant>,
    /// The place where that one looks, in items.
    looking_at: Mutex<Option<u64>>,
    /// What is wrong with the partition, once that is known: it takes no more.
    damage: OnceLock<LogError>,
}

impl Reading {
    pub(super) fn new(clients: Arc<Clients>, topic: Topic, partition: u32) -> Self {
        Self {
            clients,
            topic,
            partition,
            known: Mutex::new(Known::new()),
            end: watch::Sender::new(0),
            looking: Arc::default(),
            looker: Mutex::default(),
            heard: Mutex::new(Instant::now()),
            looking_at: Mutex::default(),
            damage: OnceLock::new(),
        }
    }

    /// What is wrong with the partition, if something was found.
    pub(super) fn damage(&self) -> Option<LogError> {
        self.damage.get().cloned()
    }

    /// Notes that a message of the partition cannot be read. The first one stays; other errors are none of the partition's.
    pub(super) fn note_damage(&self, error: &LogError) {
        let is_damage = matches!(error, LogError::Unreadable { .. } | LogError::Missing { .. });
        if is_damage && self.damage.set(error.clone()).is_ok() {
            tracing::error!(%error, "a partition is damaged; other partitions go on");
        }
    }

    /// The end that is known.
    pub(super) fn known_end(&self) -> Place {
        self.known.lock().end
    }

    /// Whether the known end may be old.
    pub(super) fn is_stale(&self) -> bool {
        self.known.lock().confirmed.is_none_or(|at| at.elapsed() > STALE)
    }

    /// Whether somebody is looking for new messages at this place.
    pub(super) fn is_looked_at(&self, items: u64) -> bool {
        *self.looking_at.lock() == Some(items)
    }

    fn learn<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let (answer, items) = {
            let mut known = self.known.lock();
            let before = known.end;
            let answer = change(&mut known);
            if known.end != before {
                known.confirmed = Some(Instant::now());
            }
            (answer, known.end.items)
        };
        self.end.send_if_modified(|end| {
            let more = items > *end;
            *end = items.max(*end);
            more
        });
        answer
    }

    /// A message of ours was acknowledged.
    pub(super) fn delivered(&self, message: i64, items: u64, time: i64) {
        self.learn(|known| known.delivered(message, items, time));
    }

    /// Asks for the end and counts up to it.
    pub(super) fn refresh(&self) -> Result<Place, LogError> {
        let high = self.high()?;
        self.advance(high)?;
        self.known.lock().confirmed = Some(Instant::now());
        Ok(self.known_end())
    }

    /// Kafka's offset behind the last message. Just after a change of leaders it may be lower than it was for a moment.
    fn high(&self) -> Result<i64, LogError> {
        let until = Instant::now() + LEADER_CHANGE;
        loop {
            let known = self.known_end().message;
            let (low, high) = self.clients.watermarks(self.topic, self.partition)?;
            if low > 0 {
                return Err(self.lost(&format!("messages before {low} were removed")));
            }
            if high >= known {
                return Ok(high);
            }
            if Instant::now() >= until {
                return Err(self.lost(&format!("it ends at message {high}, and message {} was there", known - 1)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Batches from the one that holds `from` on.
    pub(super) fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Stored>, LogError> {
        let mut target = self.known_end();
        if from >= target.items {
            let high = self.high()?;
            if from > target.items {
                self.advance(high)?;
                target = self.known_end();
                if from >= target.items {
                    return Ok(Vec::new());
                }
            } else if high <= target.message {
                return Ok(Vec::new());
            }
            target.message = target.message.max(high);
        }
        let mut cursor = self.cursor_for(from)?;
        let stored = self.fill(&mut cursor, from, bytes_max, target.message)?;
        self.put_back(cursor);
        Ok(stored)
    }

    fn fill(&self, cursor: &mut Cursor, from: u64, bytes_max: usize, target: i64) -> Result<Vec<Stored>, LogError> {
        let (mut stored, mut bytes) = (Vec::new(), 0);
        let full = |bytes: usize| bytes >= bytes_max && bytes > 0;
        while !full(bytes) {
            let taken = match self.take_counted(cursor, target) {
                Ok(taken) => taken,
                // What is in front of it is given first; the next read begins at it and fails.
                Err(_) if !stored.is_empty() => break,
                Err(error) => return Err(error),
            };
            let Some((before, taken)) = taken else { break };
            let Content::Batches(batches) = &taken.content else { continue };
            let (mut first, mut time) = (before.items, before.time);
            for batch in batches {
                time = taken.time_of(batch, time);
                let end = first + u64::from(batch.header.count);
                if end > from {
                    if full(bytes) {
                        cursor.give_back(before, taken);
                        return Ok(stored);
                    }
                    bytes += batch.packed_bytes().max(1);
                    stored.push(at_time(first, batch.clone(), time));
                }
                first = end;
            }
        }
        Ok(stored)
    }

    /// Looks for a message behind the known end, for a moment.
    pub(super) fn look(&self) -> Result<(), LogError> {
        let from = self.known_end();
        *self.looking_at.lock() = Some(from.items);
        let looked = self.look_at(from);
        *self.looking_at.lock() = None;
        looked
    }

    /// Items before a message, if it was counted lately.
    pub(super) fn items_before_if_known(&self, message: i64) -> Option<u64> {
        self.known.lock().of_message(message).map(|place| place.items)
    }

    /// Items before a message of ours whose writer had counted up to `anchor`.
    pub(super) fn items_before(&self, message: i64, anchor: Place) -> Result<u64, LogError> {
        self.advance(message + 1)?;
        if let Some(place) = self.known.lock().of_message(message) {
            return Ok(place.items);
        }
        let mut cursor = self.any_cursor(anchor)?;
        while cursor.at.message < message {
            self.next(&mut cursor)?;
        }
        let items = cursor.at.items;
        self.put_back(cursor);
        Ok(items)
    }

    pub(super) fn lost(&self, what: &str) -> LogError {
        let (topic, partition) = (self.topic, self.partition);
        let why = format!(
            "topic {topic}, partition {partition} was made again or has lost messages: {what}; start again, which says more, \
             and restore the topic from a backup"
        );
        let error = LogError::Failed(why);
        self.clients.fail(&error);
        error
    }
}

fn at_time(first: u64, mut batch: PackedBatch, time: i64) -> Stored {
    batch.header.logged_at = time;
    Stored::new(first, batch)
}

#[cfg(test)]
mod tests {
    use schemas::batch::BatchError;

    use super::*;
    use crate::log::kafka::Settings;

    #[test]
    fn what_cannot_be_read_is_damage_of_the_partition_and_what_passes_is_not() {
        let clients = Arc::new(Clients::new(Settings::at("127.0.0.1:1")).unwrap());
        let reading = Reading::new(clients, Topic::Inputs, 3);
        reading.note_damage(&LogError::Unreachable("a broker is away".into()));
        assert!(reading.damage().is_none());
        for offset in [7, 9] {
            let source = BatchError::NewerFormat(9);
            reading.note_damage(&LogError::Unreadable { topic: Topic::Inputs, partition: 3, offset, source });
        }
        assert!(matches!(reading.damage(), Some(LogError::Unreadable { offset: 7, .. })), "the first one stays");
    }
}
