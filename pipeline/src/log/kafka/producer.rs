//! Sending to Kafka: in order, nothing twice, and no further than what could be delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Timestamp;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use schemas::Topic;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::client::{Clients, Context, partition_number};
use super::error::of_operation;
use super::message::Outgoing;
use super::reading::Reading;
use crate::log::LogError;

/// While a client's own queue is full, sending is tried again so often.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// The one producer of a log. Once a message was not delivered, or nobody knows, it takes no more.
pub(super) struct Producer {
    clients: Arc<Clients>,
    producer: ThreadedProducer<Deliveries>,
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
                let why = match of_operation(error, "appending to", topic, partition) {
                    LogError::Unreachable(why) | LogError::Failed(why) => why,
                    other => other.to_string(),
                };
                let last = self.context.last_error().map_or_else(String::new, |(_, last)| format!(" ({last})"));
                Err(LogError::Failed(format!("{why}{last}")))
            }
        }
    }
}

impl Producer {
    pub(super) fn new(clients: Arc<Clients>) -> Result<Self, KafkaError> {
        let context = Deliveries { clients: clients.clone(), context: Context::default() };
        let producer = clients.settings.producer().create_with_context(context)?;
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
        answered.await.map_err(|_| stopped())?
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
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), record)) => sent = record.delivery_opaque,
                Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    return Err(LogError::Refused("an append is larger than `message_bytes_max` allows".into()));
                }
                Err((error, _)) => {
                    let error = of_operation(&error, "appending to", topic, partition);
                    self.clients.fail(&error);
                    return Err(error);
                }
            }
            tokio::time::sleep(QUEUE_FULL_PAUSE).await;
        }
    }

    /// Waits until everything that was sent is answered.
    pub(super) fn flush(&self) -> Result<(), LogError> {
        let timeout = Duration::from_millis(u64::from(self.clients.settings.delivery_timeout_ms) + 1000);
        self.producer.flush(timeout).map_err(|e| LogError::Unreachable(format!("not everything was sent: {e}")))?;
        self.clients.check()
    }
}

impl Drop for Producer {
    /// What is dropped here unsent would be lost without a word.
    fn drop(&mut self) {
        if self.producer.in_flight_count() > 0
            && let Err(error) = self.flush()
        {
            tracing::error!(%error, "the producer on Kafka ends with messages under way");
        }
    }
}
