//! How far a reader of the log is: an offset for each partition of each reading. Outside it is an opaque, authenticated
//! text.

use pipeline::{Log, LogError};
use schemas::{TenantId, Topic};
use serde::{Deserialize, Serialize};

use crate::auth::secret::Seal;

/// One way through a topic. `events` is gone through twice: as what was mapped, and as what a query would show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// `inputs`: records and commands.
    Inputs,
    /// `events`, as soon as they stand there.
    Events,
    /// `events` again, once their views hold them.
    Views,
    /// `decisions`.
    Decisions,
}

impl Reading {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Inputs, Self::Events, Self::Views, Self::Decisions];

    /// The topic that is read.
    pub fn topic(self) -> Topic {
        match self {
            Self::Inputs => Topic::Inputs,
            Self::Events | Self::Views => Topic::Events,
            Self::Decisions => Topic::Decisions,
        }
    }
}

/// The next item of each partition of each reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vector {
    /// Generations of the topics.
    epochs: [u32; 4],
    /// Offsets by reading and partition.
    offsets: [Vec<u64>; 4],
}

fn purpose(tenant: TenantId) -> String {
    format!("{tenant}/events")
}

impl Vector {
    /// The beginning of the log.
    pub fn start(log: &dyn Log) -> Self {
        let epochs = Reading::ALL.map(|reading| log.epoch(reading.topic()));
        let offsets = Reading::ALL.map(|reading| vec![0; log.partitions(reading.topic()) as usize]);
        Self { epochs, offsets }
    }

    /// The end of the log as of now.
    pub async fn end(log: &dyn Log) -> Result<Self, LogError> {
        let mut vector = Self::start(log);
        for (reading, partition) in vector.partitions() {
            let end = log.end(reading.topic(), partition).await?;
            vector.set(reading, partition, end);
        }
        Ok(vector)
    }

    /// Every partition of every reading.
    pub fn partitions(&self) -> Vec<(Reading, u32)> {
        let of = |reading: Reading| {
            (0..self.offsets[reading as usize].len() as u32).map(move |partition| (reading, partition))
        };
        Reading::ALL.into_iter().flat_map(of).collect()
    }

    /// The next item of a partition.
    pub fn get(&self, reading: Reading, partition: u32) -> u64 {
        self.offsets[reading as usize].get(partition as usize).copied().unwrap_or_default()
    }

    /// Moves on in a partition.
    pub fn set(&mut self, reading: Reading, partition: u32, offset: u64) {
        if let Some(place) = self.offsets[reading as usize].get_mut(partition as usize) {
            *place = offset;
        }
    }

    /// As the text that a client keeps.
    pub fn to_id(&self, seal: &Seal, tenant: TenantId) -> String {
        seal.close(&purpose(tenant), &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a client's text; nothing when it was made by hand, for another tenant, or for a log that is no more.
    pub fn from_id(id: &str, seal: &Seal, tenant: TenantId, log: &dyn Log) -> Option<Self> {
        let vector: Self = serde_json::from_slice(&seal.open(&purpose(tenant), id)?).ok()?;
        let start = Self::start(log);
        let is_of_this_log =
            vector.epochs == start.epochs && vector.offsets.iter().zip(&start.offsets).all(|(a, b)| a.len() == b.len());
        is_of_this_log.then_some(vector)
    }
}

#[cfg(test)]
mod tests {
    use pipeline::{MemoryLog, Partitions};

    use super::*;

    #[test]
    fn an_id_reads_back_for_its_tenant_and_log_only() {
        let log = MemoryLog::new(Partitions::default());
        let (seal, tenant) = (Seal::new(&[7; 32]), TenantId::from_bytes([1; 16]));
        let mut vector = Vector::start(&log);
        vector.set(Reading::Events, 2, 77);
        let id = vector.to_id(&seal, tenant);
        assert_eq!(Vector::from_id(&id, &seal, tenant, &log), Some(vector));
        assert_eq!(Vector::from_id(&id, &seal, TenantId::from_bytes([2; 16]), &log), None);
        let other = MemoryLog::new(Partitions { inputs: 1, events: 1, decisions: 1 });
        assert_eq!(Vector::from_id(&id, &seal, tenant, &other), None);
        assert_eq!(Vector::from_id("AAAA", &seal, tenant, &log), None);
    }
}
