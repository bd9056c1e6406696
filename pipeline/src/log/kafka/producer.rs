//! Sending to Kafka: in order, nothing twice, and no further than what could be delivered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Timestamp;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use schemas::Topic;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::client::{Clients, Context, partition_number};
use super::error::of_operation;
use super::message::Outgoing;
use super::reading::Reading;
use crate::log::LogError;

/// While a client's own queue is full, sending is tried again so often.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// The one producer of a log. Once a message was not delivered, or nobody knows, it takes no more, and throws away what it has
/// not sent: nothing stands behind what is missing. How long is waited is told here and not to librdkafka, which gives a message
/// up that took too long and still sends the ones behind it.
pub(super) struct Producer {
    clients: Arc<Clients>,
    producer: Arc<ThreadedProducer<Deliveries>>,
    /// Bytes that may be under way.
    room: Arc<Semaphore>,
    /// Tells this process's messages from others'.
    instance: u64,
    sent: AtomicU64,
}

/// Where and when a message was taken: Kafka's offset, microseconds since 1970 UTC.
pub(super) type Delivered = Result<(i64, i64), LogError>;

/// What waits for the acknowledgement of a message.
pub(super) struct Sent {
    topic: Topic,
    partition: u32,
    items: u64,
    /// The time of its last batch, where another log has set it.
    adopted: Option<i64>,
    /// Who counts the partition's messages; none while a topic is being made.
    reading: Option<Arc<Reading>>,
    answer: oneshot::Sender<Delivered>,
    _room: OwnedSemaphorePermit,
}

type Record<'a> = BaseRecord<'a, String, Vec<u8>, Box<Sent>>;

struct Deliveries {
    clients: Arc<Clients>,
    context: Context,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.clients.fail(&LogError::Failed(format!("the producer on Kafka has failed: {reason}; start again")));
        }
        self.context.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let outcome = self.outcome(result, &sent);
        match &outcome {
            Ok((message, time)) => {
                if let Some(reading) = &sent.reading {
                    reading.delivered(*message, sent.items, sent.adopted.unwrap_or(*time));
                }
            }
            Err(error) => self.clients.fail(error),
        }
        // Who asked may have gone; the message stands all the same.
        let _ = sent.answer.send(outcome);
    }
}

impl Deliveries {
    /// What the last connection that failed said.
    fn last_said(&self) -> String {
        self.context.last_error().map_or_else(String::new, |(_, last)| format!(" ({last})"))
    }

    fn outcome(&self, result: &DeliveryResult<'_>, sent: &Sent) -> Delivered {
        let Sent { topic, partition, .. } = *sent;
        match result {
            Ok(message) => match message.timestamp() {
                Timestamp::LogAppendTime(time) => Ok((message.offset(), time.saturating_mul(1000))),
                _ => Err(LogError::Failed(format!(
                    "topic {topic} no longer takes the broker's time: set its message.timestamp.type to LogAppendTime"
                ))),
            },
            Err((error, _)) => {
                // What is thrown away when the log ends is told why it ended.
                if matches!(error.rdkafka_error_code(), Some(Code::PurgeQueue | Code::PurgeInflight)) {
                    self.clients.check()?;
                }
                let why = match of_operation(error, "appending to", topic, partition) {
                    LogError::Unreachable(why) | LogError::Failed(why) => why,
                    other => other.to_string(),
                };
                Err(LogError::Failed(format!("{why}{}", self.last_said())))
            }
        }
    }
}

/// Throws away what is not sent once the log takes no more. Its answers come as for every message.
async fn purge_at_the_end(
    mut failure: watch::Receiver<Option<LogError>>,
    producer: Weak<ThreadedProducer<Deliveries>>,
) {
    if failure.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let purge = move || {
        if let Some(producer) = producer.upgrade() {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(purge).await {
        tracing::error!(%error, "what was not sent to Kafka could not be thrown away");
    }
}

impl Producer {
    /// A producer, inside a tokio runtime.
    pub(super) fn new(clients: Arc<Clients>) -> Result<Self, KafkaError> {
        let context = Deliveries { clients: clients.clone(), context: Context::default() };
        let producer: ThreadedProducer<Deliveries> = clients.settings.producer().create_with_context(context)?;
        let producer = Arc::new(producer);
        tokio::spawn(purge_at_the_end(clients.failure.subscribe(), Arc::downgrade(&producer)));
        let room = clients.settings.in_flight_bytes_max.min(u32::MAX >> 4) as usize;
        let room = Arc::new(Semaphore::new(room));
        Ok(Self { clients, producer, room, instance: fastrand::u64(..), sent: AtomicU64::new(0) })
    }

    /// An id that no other message has.
    pub(super) fn next_id(&self) -> String {
        format!("{:016x}-{}", self.instance, self.sent.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a message and waits for its acknowledgement. Who stops waiting leaves it to be sent, or not to be.
    pub(super) async fn send(
        &self,
        topic: Topic,
        partition: u32,
        out: Outgoing,
        reading: Option<Arc<Reading>>,
    ) -> Delivered {
        let bytes = out.value.len() + out.key.len() + 1024;
        let max = self.clients.settings.message_bytes_max;
        if bytes > max as usize {
            let why = format!(
                "an append of {bytes} bytes, {max} are allowed: raise `message_bytes_max` and the topic's max.message.bytes"
            );
            return Err(LogError::Refused(why));
        }
        let all = self.clients.settings.in_flight_bytes_max.min(u32::MAX >> 4);
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(all);
        let stopped = || LogError::Failed("the producer on Kafka has ended".into());
        let room = self.room.clone().acquire_many_owned(wanted).await.map_err(|_| stopped())?;
        self.clients.check()?;
        let (answer, answered) = oneshot::channel();
        let (items, adopted) = (out.counts.iter().map(|count| u64::from(*count)).sum(), out.adopted);
        self.queue(out, Box::new(Sent { topic, partition, items, adopted, reading, answer, _room: room })).await?;
        match tokio::time::timeout(self.clients.settings.delivery_timeout(), answered).await {
            Ok(answer) => answer.map_err(|_| stopped())?,
            Err(_) => Err(self.give_up(&format!("appending to topic {topic}, partition {partition}: nobody answers"))),
        }
    }

    /// Ends the log, for it was waited long enough.
    fn give_up(&self, what: &str) -> LogError {
        let error = LogError::Failed(format!("{what}{}", self.producer.context().last_said()));
        self.clients.fail(&error);
        error
    }

    async fn queue(&self, out: Outgoing, sent: Box<Sent>) -> Result<(), LogError> {
        let (topic, partition) = (sent.topic, sent.partition);
        let name = self.clients.name(topic);
        let mut sent = sent;
        loop {
            let record = BaseRecord::with_opaque_to(&name, sent)
                .partition(partition_number(partition))
                .key(&out.key)
                .payload(&out.value)
                .headers(out.headers.clone());
            sent = match self.try_to_queue(record)? {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), record)) => record.delivery_opaque,
                Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    return Err(LogError::Refused("an append is larger than `message_bytes_max` allows".into()));
                }
                Err((error, _)) => {
                    let error = of_operation(&error, "appending to", topic, partition);
                    self.clients.fail(&error);
                    return Err(error);
                }
            };
            tokio::time::sleep(QUEUE_FULL_PAUSE).await;
        }
    }

    /// Queues a message, unless the log takes no more. Who ends the log waits for this: what is queued by then is thrown away,
    /// and nothing is queued behind it.
    fn try_to_queue<'a>(&self, record: Record<'a>) -> Result<Result<(), (KafkaError, Record<'a>)>, LogError> {
        let failure = self.clients.failure.borrow();
        match &*failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(self.producer.send(record)),
        }
    }

    /// Waits until everything that was sent is answered.
    pub(super) fn flush(&self) -> Result<(), LogError> {
        let within = self.clients.settings.delivery_timeout() + Duration::from_secs(1);
        self.producer.flush(within).map_err(|e| self.give_up(&format!("not everything was sent: {e}")))?;
        self.clients.check()
    }
}

impl Drop for Producer {
    /// What is dropped here unsent would be lost without a word; after a failure it has to be.
    fn drop(&mut self) {
        if self.clients.check().is_ok()
            && self.producer.in_flight_count() > 0
            && let Err(error) = self.flush()
        {
            tracing::error!(%error, "the producer on Kafka ends with messages under way");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::kafka::Settings;
    use crate::log::kafka::message::{FORMAT, Opened};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_stands_behind_an_append_that_nobody_acknowledges_is_thrown_away_with_it() {
        let settings = Settings { delivery_timeout_ms: 3000, ..Settings::at("127.0.0.1:1") };
        let clients = Arc::new(Clients::new(settings).unwrap());
        let producer = Arc::new(Producer::new(clients).unwrap());
        let send = || {
            let opened = Opened { format: FORMAT, topic: Topic::Inputs, epoch: 1, partitions: 1 };
            let (producer, out) = (producer.clone(), Outgoing::opened(&opened, &producer.next_id()));
            tokio::spawn(async move { producer.send(Topic::Inputs, 0, out, None).await })
        };
        let first = send();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = send();
        let first = first.await.unwrap().unwrap_err();
        assert!(matches!(&first, LogError::Failed(why) if why.contains("nobody answers")), "{first}");
        let second = second.await.unwrap().unwrap_err();
        assert_eq!(second.to_string(), first.to_string(), "by itself it would be waited for longer");
        assert_eq!(send().await.unwrap().unwrap_err().to_string(), first.to_string());
    }
}
