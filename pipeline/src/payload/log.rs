//! A log whose batches are sealed, over any other.

use std::sync::Arc;

use async_trait::async_trait;
use schemas::batch::{BODY_BYTES_MAX, pack};
use schemas::{Batch, BatchHeader, TenantId, Topic};

use super::keyring::{KEY_ID, Known};
use super::{Keyring, SealingKey};
use crate::log::{BodyKey, Durability, Log, LogError, Oddities, Stored};

/// A log that seals the bodies of tenants' batches above another log. The system's own batches stay in clear.
pub struct SealedLog {
    inner: Arc<dyn Log>,
    keys: Arc<Keyring>,
}

impl SealedLog {
    /// Over `inner`, with the keys of `keys`.
    pub fn new(inner: Arc<dyn Log>, keys: Arc<Keyring>) -> Self {
        Self { inner, keys }
    }

    async fn seal(&self, mut batch: Batch, durability: Durability) -> Result<Batch, LogError> {
        if batch.header.tenant == TenantId::SYSTEM {
            return Ok(batch);
        }
        if batch.body.len() > BODY_BYTES_MAX - SealingKey::ADDED_BYTES * 2 {
            return Err(LogError::Refused(format!(
                "a batch of {} bytes, {BODY_BYTES_MAX} are allowed",
                batch.body.len()
            )));
        }
        batch.header.key_id = KEY_ID;
        batch.body = match self.keys.to_seal(batch.header.tenant).await? {
            Known::Key(key) => key.seal(&bound(&batch.header), &[], |out| pack(&batch.body, out)).into(),
            // Nothing may be acknowledged that is gone.
            Known::Forgotten if durability == Durability::Durable => {
                return Err(LogError::Forgotten);
            }
            // Whoever was at work for the tenant goes on: the offsets are kept, what they say is not.
            Known::Forgotten => bytes::Bytes::new(),
        };
        Ok(batch)
    }
}

/// What a body is bound to: everything in its header but the time, which the log sets later.
fn bound(header: &BatchHeader) -> Vec<u8> {
    let mut bound = Vec::with_capacity(32 + header.subject.len());
    bound.push(header.kind as u8);
    bound.extend_from_slice(&header.tenant.to_bytes());
    bound.extend_from_slice(&header.count.to_be_bytes());
    bound.extend_from_slice(&header.key_id.to_be_bytes());
    bound.extend_from_slice(header.subject.as_bytes());
    if let Some(trace) = &header.trace {
        // No subject holds this byte.
        bound.push(0xff);
        bound.extend_from_slice(&trace.trace_id);
        bound.extend_from_slice(&trace.span_id);
        bound.push(trace.flags);
    }
    bound
}

/// How a sealed batch is opened, once somebody wants its body.
pub(crate) fn open(key: &SealingKey, header: &BatchHeader, sealed: &[u8]) -> Option<Vec<u8>> {
    key.open(&bound(header), sealed)
}

#[async_trait]
impl Log for SealedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn epoch(&self, topic: Topic) -> u32 {
        self.inner.epoch(topic)
    }

    async fn append(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<Batch>,
        durability: Durability,
    ) -> Result<Vec<u64>, LogError> {
        let mut sealed = Vec::with_capacity(batches.len());
        for batch in batches {
            sealed.push(self.seal(batch, durability).await?);
        }
        self.inner.append(topic, partition, sealed, durability).await
    }

    async fn adopt(&self, topic: Topic, partition: u32, batches: Vec<Batch>) -> Result<Vec<u64>, LogError> {
        self.inner.adopt(topic, partition, batches).await
    }

    async fn read(&self, topic: Topic, partition: u32, from: u64, max_bytes: usize) -> Result<Vec<Stored>, LogError> {
        let mut read = self.inner.read(topic, partition, from, max_bytes).await?;
        for stored in read.iter_mut().filter(|stored| stored.header().key_id == KEY_ID) {
            stored.key = match self.keys.find(stored.header().tenant).await? {
                Some(Known::Key(key)) => BodyKey::Key(key),
                Some(Known::Forgotten) => {
                    self.keys.count_forgotten(stored.header().count);
                    BodyKey::Forgotten
                }
                None => BodyKey::None,
            };
        }
        Ok(read)
    }

    async fn end(&self, topic: Topic, partition: u32) -> Result<u64, LogError> {
        self.inner.end(topic, partition).await
    }

    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> Result<(), LogError> {
        self.inner.wait_beyond(topic, partition, offset).await
    }

    fn damage(&self, topic: Topic, partition: u32) -> Option<LogError> {
        self.inner.damage(topic, partition)
    }

    fn oddities(&self) -> Option<&Oddities> {
        self.inner.oddities()
    }

    async fn sync(&self) -> Result<(), LogError> {
        self.inner.sync().await
    }
}
