//! Counting: which items stand before a message, and what is passed over.

use std::time::{Duration, Instant};

use super::{LOOK, Reading, SILENCE};
use crate::log::kafka::cursor::Cursor;
use crate::log::kafka::message::{Content, Taken};
use crate::log::kafka::place::Place;
use crate::log::{Foreign, LogError};

/// So many messages are counted one by one; of more, the way to the last is shortened by anchors.
const COUNTED_MAX: i64 = 64;

impl Reading {
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
    pub(super) fn anchor_of(&self, cursor: &mut Cursor, message: i64) -> Result<Option<Place>, LogError> {
        cursor.go_to(&self.clients, Place { message, ..Place::START })?;
        self.wait(cursor)?;
        Ok(cursor.take().and_then(|(_, taken)| taken.anchor))
    }

    /// The next message, counted; the cursor stays in front of one that cannot be. What stands before `target` is waited for.
    pub(super) fn take_counted(&self, cursor: &mut Cursor, target: i64) -> Result<Option<(Place, Taken)>, LogError> {
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
    pub(super) fn next(&self, cursor: &mut Cursor) -> Result<(), LogError> {
        if !self.wait(cursor)? {
            self.passed(cursor.at);
            return Ok(());
        }
        let taken = cursor.take().ok_or_else(|| LogError::Failed("a message that was there is gone".into()));
        taken.and_then(|(before, taken)| self.count(before, &taken))
    }

    /// A counted cursor went over what is no message.
    pub(super) fn passed(&self, at: Place) {
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
    pub(super) fn wait(&self, cursor: &mut Cursor) -> Result<bool, LogError> {
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
}
