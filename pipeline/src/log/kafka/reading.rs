//! Reading one partition: where items are, what is new, and who stands where.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use schemas::{PackedBatch, Topic};
use tokio::sync::watch;

use super::client::Clients;
use super::cursor::Cursor;
use super::message::{Content, Taken};
use super::place::{Known, Place};
use crate::log::{Foreign, LogError, Stored};

/// How long one look for new messages lasts.
const LOOK: Duration = Duration::from_millis(250);
/// After so long without a message a consumer is asked whether it stands still.
const SILENCE: Duration = Duration::from_secs(5);
/// A partition that is shorter than it was for longer than this has lost messages.
const LEADER_CHANGE: Duration = Duration::from_secs(10);
/// So many messages are counted one by one; of more, the way to the last is shortened by anchors.
const COUNTED_MAX: i64 = 64;
/// Between two places that are no farther apart, reading on is faster than searching.
const SEARCH_DOWN_TO: i64 = 32;
/// Idle cursors of a partition that are not taken to go elsewhere.
const IDLE_LEFT: usize = 2;
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

    /// Counts up to a message of Kafka's that is there, or in front of one.
    pub(super) fn advance(&self, target: i64) -> Result<(), LogError> {
        let (from, _) = self.next_gap(target);
        if from.message >= target {
            return Ok(());
        }
        let mut cursor = self.cursor_at(from)?;
        loop {
            let (from, stop) = self.next_gap(target);
            if from.message >= target {
                break;
            }
            if stop - from.message > COUNTED_MAX && self.leap(&mut cursor, from, stop)? {
                continue;
            }
            cursor.go_to(&self.clients, from)?;
            while cursor.at.message < stop {
                self.next(&mut cursor)?;
            }
        }
        self.put_back(cursor);
        Ok(())
    }

    /// The known end, and up to where the messages behind it are not known.
    fn next_gap(&self, target: i64) -> (Place, i64) {
        let known = self.known.lock();
        (known.end, known.gap_end().min(target))
    }

    /// Learns a later place from the anchor of one of the last messages before `stop`.
    fn leap(&self, cursor: &mut Cursor, from: Place, stop: i64) -> Result<bool, LogError> {
        let mut back = 1;
        while stop - back > from.message {
            match self.anchor_of(cursor, stop - back)? {
                Some(anchor) if anchor.message > from.message => {
                    self.learn(|known| known.anchored(anchor));
                    return Ok(true);
                }
                // Its writer knew less than we do.
                Some(_) => return Ok(false),
                None => back *= 2,
            }
        }
        Ok(false)
    }

    /// What the writer of a message had counted. The cursor's count of items is void after that.
    fn anchor_of(&self, cursor: &mut Cursor, message: i64) -> Result<Option<Place>, LogError> {
        cursor.go_to(&self.clients, Place { message, ..Place::START })?;
        self.wait(cursor)?;
        Ok(cursor.take().and_then(|(_, taken)| taken.anchor))
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

    /// The next message, counted; the cursor stays in front of one that cannot be. What stands before `target` is waited for.
    fn take_counted(&self, cursor: &mut Cursor, target: i64) -> Result<Option<(Place, Taken)>, LogError> {
        while cursor.at.message < target && !self.wait(cursor)? {
            self.passed(cursor.at);
        }
        if cursor.peek(&self.clients, Duration::ZERO)?.is_none() {
            return Ok(None);
        }
        let Some((before, taken)) = cursor.take() else { return Ok(None) };
        if let Err(error) = self.count(before, &taken) {
            cursor.give_back(before, taken);
            return Err(error);
        }
        Ok(Some((before, taken)))
    }

    /// Counts the next message, or goes over what is none.
    fn next(&self, cursor: &mut Cursor) -> Result<(), LogError> {
        if !self.wait(cursor)? {
            self.passed(cursor.at);
            return Ok(());
        }
        let taken = cursor.take().ok_or_else(|| LogError::Failed("a message that was there is gone".into()));
        taken.and_then(|(before, taken)| self.count(before, &taken))
    }

    /// A counted cursor went over what is no message.
    fn passed(&self, at: Place) {
        self.learn(|known| {
            if at.message > known.end.message {
                known.anchored(at);
            }
        });
    }

    fn count(&self, before: Place, taken: &Taken) -> Result<(), LogError> {
        match &taken.content {
            Content::Foreign(why) => self.clients.oddities.met(Foreign {
                topic: self.topic,
                partition: self.partition,
                message: taken.message,
                next: before.items,
                logged_at: taken.time,
                why: why.clone(),
            }),
            Content::Newer(source) => {
                let (topic, partition, offset) = (self.topic, self.partition, before.items);
                return Err(LogError::Unreadable { topic, partition, offset, source: source.clone() });
            }
            Content::Batches(_) | Content::Opened(_) => {}
        }
        // Where the anchor names the very place, both have counted the same or messages were lost.
        if let Some(anchor) = taken.anchor.filter(|anchor| anchor.message == before.message)
            && anchor.items != before.items
        {
            let (counted, said) = (before.items, anchor.items);
            return Err(
                self.lost(&format!("message {} should have {said} items before it, not {counted}", taken.message))
            );
        }
        self.learn(|known| known.counted(before, taken.behind(before)));
        Ok(())
    }

    /// Waits for a message that is there. A consumer that does not give it is replaced, for a while. Whether it came: where it is
    /// none for readers, the cursor stands behind it instead.
    fn wait(&self, cursor: &mut Cursor) -> Result<bool, LogError> {
        let until = Instant::now() + self.clients.settings.request_timeout();
        loop {
            if cursor.peek(&self.clients, LOOK)?.is_some() {
                return Ok(true);
            }
            if cursor.pass(&self.clients)? {
                return Ok(false);
            }
            self.clients.check()?;
            if Instant::now() >= until {
                let (topic, partition, message) = (self.topic, self.partition, cursor.at.message);
                let what = format!("topic {topic}, partition {partition}, message {message} does not come");
                return Err(LogError::Unreachable(what));
            }
            if cursor.silent_since.elapsed() > SILENCE {
                self.replace(cursor)?;
            }
        }
    }

    fn replace(&self, cursor: &mut Cursor) -> Result<(), LogError> {
        let (topic, partition, message) = (self.topic, self.partition, cursor.at.message);
        tracing::warn!(%topic, partition, message, "a consumer stands still and is replaced");
        self.clients.oddities.stalled();
        cursor.replace(&self.clients)
    }

    /// Looks for a message behind the known end, for a moment.
    pub(super) fn look(&self) -> Result<(), LogError> {
        let from = self.known_end();
        *self.looking_at.lock() = Some(from.items);
        let looked = self.look_at(from);
        *self.looking_at.lock() = None;
        looked
    }

    fn look_at(&self, from: Place) -> Result<(), LogError> {
        let mut cursor = self.cursor_to_look(from)?;
        if cursor.peek(&self.clients, LOOK)?.is_some() || self.is_overdue(&mut cursor, from)? {
            *self.heard.lock() = Instant::now();
            // It is counted here and stays in front of the cursor, for the reader who waits for it.
            if let Some((before, taken)) = self.take_counted(&mut cursor, 0)? {
                cursor.give_back(before, taken);
            }
        }
        let before = self.looker.lock().replace(cursor);
        if let Some(before) = before {
            self.put_back(before);
        }
        Ok(())
    }

    /// Makes sure, where nothing came for long, that there is nothing; what is there is waited for. Whether it came.
    fn is_overdue(&self, cursor: &mut Cursor, from: Place) -> Result<bool, LogError> {
        if self.heard.lock().elapsed() <= SILENCE {
            return Ok(false);
        }
        match self.clients.watermarks(self.topic, self.partition) {
            Ok((_, high)) if high > cursor.at.message => {
                if self.wait(cursor)? {
                    return Ok(true);
                }
                self.passed(cursor.at);
            }
            Ok((_, high)) if high < from.message => drop(self.high()?),
            Ok(_) => cursor.silent_since = Instant::now(),
            Err(error) if error.is_retryable() => tracing::warn!(%error, "waiting for Kafka"),
            Err(error) => return Err(error),
        }
        *self.heard.lock() = Instant::now();
        Ok(false)
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

    /// A cursor in front of the message that holds an item, or somewhat before it.
    fn cursor_for(&self, item: u64) -> Result<Cursor, LogError> {
        let (low, high) = {
            let known = self.known.lock();
            (known.floor(item), known.ceiling(item))
        };
        let near = |at: Place| at.message >= low.message && high.message - at.message <= SEARCH_DOWN_TO;
        if let Some(cursor) = self.take_idle(|at| at.items == item || (at.items <= item && near(at))) {
            return Ok(cursor);
        }
        let mut cursor = self.any_cursor(low)?;
        let at = self.search(&mut cursor, item, low, high)?;
        cursor.go_to(&self.clients, at)?;
        Ok(cursor)
    }

    /// Comes nearer to an item by the anchors between two places.
    fn search(&self, cursor: &mut Cursor, item: u64, mut low: Place, mut high: Place) -> Result<Place, LogError> {
        while high.message - low.message > SEARCH_DOWN_TO {
            let middle = low.message + (high.message - low.message) / 2;
            match self.anchor_of(cursor, middle)? {
                Some(anchor) if anchor.items > item => high = anchor,
                Some(anchor) if anchor.message > low.message => low = anchor,
                _ => break,
            }
        }
        self.learn(|known| known.anchored(low));
        Ok(low)
    }

    /// A cursor at a place.
    fn cursor_at(&self, at: Place) -> Result<Cursor, LogError> {
        match self.take_idle(|idle| idle.message == at.message) {
            Some(cursor) => Ok(cursor),
            None => self.any_cursor(at),
        }
    }

    /// A cursor at a place, for who looks there: rather the one that looked last than another.
    fn cursor_to_look(&self, at: Place) -> Result<Cursor, LogError> {
        let there = self.take_idle(|idle| idle.message == at.message);
        match there.or_else(|| self.looker.lock().take()) {
            Some(mut cursor) => cursor.go_to(&self.clients, at).map(|()| cursor),
            None => self.any_cursor(at),
        }
    }

    /// A cursor that goes to a place. The first two of a partition are left to who reads on there.
    fn any_cursor(&self, at: Place) -> Result<Cursor, LogError> {
        let many = self.clients.idle_of(self.topic, self.partition) > IDLE_LEFT;
        match self.clients.take_idle(self.topic, self.partition, |_| many) {
            Some(mut cursor) => cursor.go_to(&self.clients, at).map(|()| cursor),
            None => Cursor::new(&self.clients, self.topic, self.partition, at),
        }
    }

    /// The idle cursor that is farthest of those that can be used, the one that looked last among them.
    fn take_idle(&self, usable: impl Fn(Place) -> bool) -> Option<Cursor> {
        let mut looker = self.looker.lock();
        let at = looker.as_ref().map(|cursor| cursor.at).filter(|at| usable(*at));
        let farther = |place: Place| usable(place) && at.is_none_or(|at| place.message > at.message);
        let idle = self.clients.take_idle(self.topic, self.partition, farther);
        idle.or_else(|| at.and_then(|_| looker.take()))
    }

    fn put_back(&self, cursor: Cursor) {
        self.clients.keep_idle(cursor);
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
