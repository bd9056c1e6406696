//! The connections to a cluster.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use schemas::Topic;
use tokio::sync::watch;

use super::cursor::Cursor;
use super::error::{OpenError, of_operation};
use super::place::Place;
use super::settings::Settings;
use crate::log::{LogError, Oddities};

/// Hears what a client has to say besides answers.
#[derive(Default)]
pub(super) struct Context {
    /// The last error of a connection.
    last: Mutex<Option<(Code, String)>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info => tracing::debug!(facility, "kafka: {message}"),
            _ => tracing::warn!(facility, "kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let mut last = self.last.lock();
        // That no broker is left says less than why.
        if code != Code::AllBrokersDown || last.is_none() {
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

impl Context {
    pub(super) fn last_error(&self) -> Option<(Code, String)> {
        self.last.lock().clone()
    }
}

/// Between two of the same question.
const PAUSE: Duration = Duration::from_millis(50);

/// What all partitions of a log share.
pub(super) struct Clients {
    pub(super) settings: Settings,
    /// Asks for metadata and ends.
    pub(super) control: BaseConsumer<Context>,
    /// Why the log takes no more.
    pub(super) failure: watch::Sender<Option<LogError>>,
    /// Messages that are not ours, and consumers that stood still.
    pub(super) oddities: Oddities,
    /// Readers that nobody uses, of all partitions: the one that was used last at the end.
    idle: Mutex<Vec<Cursor>>,
}

impl Clients {
    pub(super) fn new(settings: Settings) -> Result<Self, OpenError> {
        let mut config = settings.client();
        // Otherwise a foreign transaction that is open hides everything behind its beginning, and that looks lost.
        config.set("isolation.level", "read_uncommitted");
        let control = config.create_with_context(Context::default());
        let control = control.map_err(|e| OpenError::Settings(e.to_string()))?;
        Ok(Self {
            settings,
            control,
            failure: watch::Sender::new(None),
            oddities: Oddities::default(),
            idle: Mutex::default(),
        })
    }

    /// Kafka's name of a topic.
    pub(super) fn name(&self, topic: Topic) -> String {
        format!("{}{topic}", self.settings.topic_prefix)
    }

    pub(super) fn consumer(&self) -> Result<BaseConsumer<Context>, LogError> {
        let config: ClientConfig = self.settings.consumer();
        let made = config.create_with_context(Context::default());
        made.map_err(|e| LogError::Failed(format!("a consumer cannot be made: {e}")))
    }

    /// Kafka's offsets of the first message of a partition and behind the last. Asks again while the cluster is busy with
    /// itself: a topic that was just made, or whose leader just changed, has none for a moment.
    pub(super) fn watermarks(&self, topic: Topic, partition: u32) -> Result<(i64, i64), LogError> {
        let timeout = self.settings.request_timeout();
        let (name, until) = (self.name(topic), Instant::now() + timeout);
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(PAUSE);
            let error = match self.control.fetch_watermarks(&name, partition_number(partition), left) {
                Ok(found) => return Ok(found),
                Err(error) => of_operation(&error, "asking for the end of", topic, partition),
            };
            if !error.is_retryable() || Instant::now() >= until {
                return Err(error);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends the log: who reads and appends is told why.
    pub(super) fn fail(&self, error: &LogError) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::error!(%error, "the log on Kafka takes no more");
                *failure = Some(error.clone());
            }
            first
        });
    }

    pub(super) fn check(&self) -> Result<(), LogError> {
        match &*self.failure.borrow() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Keeps a reader open while nobody reads. Of too many, the one goes that has been idle longest, whatever partition it has.
    pub(super) fn keep_idle(&self, cursor: Cursor) {
        let longest = {
            let mut idle = self.idle.lock();
            idle.push(cursor);
            (idle.len() > self.settings.idle_readers_max).then(|| idle.remove(0))
        };
        drop(longest);
    }

    /// How many idle readers a partition has.
    pub(super) fn idle_of(&self, topic: Topic, partition: u32) -> usize {
        self.idle.lock().iter().filter(|cursor| cursor.is_of(topic, partition)).count()
    }

    /// The idle reader of a partition that is farthest of those that can be used.
    pub(super) fn take_idle(&self, topic: Topic, partition: u32, usable: impl Fn(Place) -> bool) -> Option<Cursor> {
        let mut idle = self.idle.lock();
        let fitting = idle.iter().enumerate().filter(|(_, cursor)| cursor.is_of(topic, partition) && usable(cursor.at));
        let (n, _) = fitting.max_by_key(|(_, cursor)| cursor.at.message)?;
        Some(idle.remove(n))
    }
}

/// Partition counts end at 4,096.
pub(super) fn partition_number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_idle_readers_the_one_goes_that_was_idle_longest_whatever_partition_it_has() {
        let settings = Settings { idle_readers_max: 3, ..Settings::at("127.0.0.1:1") };
        let clients = Clients::new(settings).unwrap();
        let keep = |partition, message| {
            let at = Place { message, ..Place::START };
            clients.keep_idle(Cursor::new(&clients, Topic::Inputs, partition, at).unwrap());
        };
        keep(0, 7);
        keep(1, 7);
        keep(1, 9);
        let used = clients.take_idle(Topic::Inputs, 0, |_| true).unwrap();
        clients.keep_idle(used);
        keep(2, 7);
        let idle = [0, 1, 2].map(|partition| clients.idle_of(Topic::Inputs, partition));
        assert_eq!(idle, [1, 1, 1], "the first of partition 1 had been idle longest");
        assert!(clients.take_idle(Topic::Events, 1, |_| true).is_none(), "readers of another topic are none of it");
        assert!(clients.take_idle(Topic::Inputs, 1, |at| at.message == 9).is_some(), "the one used later stays");
    }
}
