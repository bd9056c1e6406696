//! One consumer that stands at a place of one partition.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use schemas::Topic;
use schemas::batch::BatchError;

use super::client::{Clients, Context, partition_number};
use super::error::{is_passing, of_operation};
use super::message::Taken;
use super::place::Place;
use crate::log::LogError;

/// A consumer that has not moved by then is replaced.
const SEEK_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries to move it.
const PAUSE: Duration = Duration::from_millis(5);

/// A consumer at a place. It is dropped on a thread of its own, because that may take a while.
pub(super) struct Cursor {
    consumer: Option<BaseConsumer<Context>>,
    name: String,
    topic: Topic,
    partition: u32,
    /// In front of the next message.
    pub(super) at: Place,
    /// The next message, where it is here already.
    ahead: Option<Taken>,
    /// A message that came though others should have come before it. It is believed when it comes again.
    jumped_to: Option<i64>,
    /// Since when nothing came.
    pub(super) silent_since: Instant,
}

impl Cursor {
    pub(super) fn new(clients: &Clients, topic: Topic, partition: u32, at: Place) -> Result<Self, LogError> {
        let consumer = Some(clients.consumer()?);
        let name = clients.name(topic);
        let silent_since = Instant::now();
        let mut cursor = Self { consumer, name, topic, partition, at, ahead: None, jumped_to: None, silent_since };
        cursor.assign()?;
        Ok(cursor)
    }

    /// Whether it reads a partition.
    pub(super) fn is_of(&self, topic: Topic, partition: u32) -> bool {
        (self.topic, self.partition) == (topic, partition)
    }

    /// Goes to a place, wherever it stands.
    pub(super) fn go_to(&mut self, clients: &Clients, at: Place) -> Result<(), LogError> {
        let there = self.at.message == at.message;
        self.at = at;
        if there { Ok(()) } else { self.seek(clients) }
    }

    /// Begins anew with another consumer; the old one stands still.
    pub(super) fn replace(&mut self, clients: &Clients) -> Result<(), LogError> {
        self.drop_consumer();
        self.consumer = Some(clients.consumer()?);
        self.assign()
    }

    /// A consumer is assigned once: librdkafka aborts the process when one is assigned again while it is being stopped.
    fn assign(&mut self) -> Result<(), LogError> {
        self.ahead = None;
        self.silent_since = Instant::now();
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = Offset::Offset(self.at.message);
        let assigned = list
            .add_partition_offset(&self.name, partition_number(self.partition), offset)
            .and_then(|()| self.consumer()?.assign(&list));
        assigned.map_err(|e| of_operation(&e, "reading", self.topic, self.partition))
    }

    /// Moves the consumer to where the cursor stands. One that does not move within a moment, as one that has not quite begun,
    /// is replaced.
    fn seek(&mut self, clients: &Clients) -> Result<(), LogError> {
        self.ahead = None;
        self.silent_since = Instant::now();
        let until = Instant::now() + SEEK_WITHIN;
        let (partition, offset) = (partition_number(self.partition), Offset::Offset(self.at.message));
        while Instant::now() < until {
            let consumer = self.consumer().map_err(|e| self.failed(&e))?;
            if consumer.seek(&self.name, partition, offset, SEEK_WITHIN).is_ok() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        self.replace(clients)
    }

    fn consumer(&self) -> Result<&BaseConsumer<Context>, KafkaError> {
        self.consumer.as_ref().ok_or(KafkaError::Canceled)
    }

    /// The next message, waited for at most so long.
    pub(super) fn peek(&mut self, clients: &Clients, wait: Duration) -> Result<Option<&Taken>, LogError> {
        let until = Instant::now() + wait;
        while self.ahead.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            self.ahead = self.poll(left)?;
            self.doubt_jump(clients)?;
            if self.ahead.is_none() && left.is_zero() {
                return Ok(None);
            }
        }
        self.silent_since = Instant::now();
        Ok(self.ahead.as_ref())
    }

    /// Goes over what is there and never comes, where that is all that is in front of it: the end of a foreign transaction has a
    /// number and is given to nobody. librdkafka keeps the place behind it, and forgets it when it is moved. As with a jump, it has
    /// to say so twice. Whether the cursor went on.
    pub(super) fn pass(&mut self, clients: &Clients) -> Result<bool, LogError> {
        if self.ahead.is_some() {
            return Ok(false);
        }
        let consumer = self.consumer().map_err(|e| self.failed(&e))?;
        let places = consumer.position().map_err(|e| self.failed(&e))?;
        let place = places.find_partition(&self.name, partition_number(self.partition)).map(|place| place.offset());
        let Some(Offset::Offset(behind)) = place else { return Ok(false) };
        if behind <= self.at.message {
            return Ok(false);
        }
        match self.jumped_to.filter(|doubted| (self.at.message + 1..=behind).contains(doubted)) {
            Some(doubted) => {
                self.at.message = doubted;
                self.silent_since = Instant::now();
                Ok(true)
            }
            None => {
                self.jumped_to = Some(behind);
                self.seek(clients).map(|()| false)
            }
        }
    }

    /// Only a foreign transaction leaves holes between messages; whatever else it is, it does not come twice.
    fn doubt_jump(&mut self, clients: &Clients) -> Result<(), LogError> {
        let Some(message) = self.ahead.as_ref().map(|taken| taken.message) else { return Ok(()) };
        if message == self.at.message || self.jumped_to == Some(message) {
            return Ok(());
        }
        self.jumped_to = Some(message);
        self.seek(clients)
    }

    /// The next message and the place in front of it, if it is here; the cursor goes behind it.
    pub(super) fn take(&mut self) -> Option<(Place, Taken)> {
        let taken = self.ahead.take()?;
        let before = self.at;
        self.at = taken.behind(before);
        Some((before, taken))
    }

    /// Goes back in front of a message that was just taken.
    pub(super) fn give_back(&mut self, before: Place, taken: Taken) {
        self.at = before;
        self.ahead = Some(taken);
    }

    fn poll(&self, wait: Duration) -> Result<Option<Taken>, LogError> {
        let consumer = self.consumer().map_err(|e| self.failed(&e))?;
        match consumer.poll(wait) {
            None => Ok(None),
            // A message from before the last move.
            Some(Ok(message)) if message.offset() < self.at.message => Ok(None),
            Some(Ok(message)) => Ok(Some(Taken::read(&message))),
            Some(Err(error)) => self.passing(&error).map(|()| None),
        }
    }

    /// Errors of connections and of a group that is never joined are none of a reader's.
    fn passing(&self, error: &KafkaError) -> Result<(), LogError> {
        match error.rdkafka_error_code() {
            Some(Code::GroupAuthorizationFailed | Code::PartitionEOF) => Ok(()),
            Some(code) if is_passing(code) => Ok(()),
            Some(Code::BadMessage) => Err(LogError::Unreadable {
                topic: self.topic,
                partition: self.partition,
                offset: self.at.items,
                source: BatchError::Checksum,
            }),
            _ => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: &KafkaError) -> LogError {
        of_operation(error, "reading", self.topic, self.partition)
    }

    fn drop_consumer(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        let dropped = std::thread::Builder::new().name("kafka-reader-end".into()).spawn(move || drop(consumer));
        if let Err(error) = dropped {
            tracing::warn!(%error, "a consumer had to be ended in place");
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.drop_consumer();
    }
}
