//! How far a reader of the log is: an offset for each partition of each reading, and a mark of the last fact that it was told
//! of each partition of `inputs`. Outside it is an opaque, authenticated text.
//!
//! A processor that was killed appends again what it cannot know to be on the log, so that a partition holds runs without
//! holes, perhaps repeated. Whatever stands at or below the mark was told before.

use pipeline::{Log, LogError};
use schemas::wire::{Reader, WireError, put_u64};
use schemas::{TenantId, Topic};

use crate::auth::secret::Seal;
use crate::line::Cause;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// Generations of the topics.
    epochs: [u32; 4],
    /// Offsets by reading and partition.
    offsets: [Vec<u64>; 4],
    /// The last facts told, each of one reading of one partition, and of one partition of `inputs`.
    marks: Vec<Mark>,
}

/// The last fact that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    reading: u8,
    partition: u32,
    cause: Cause,
}

/// The form of an id; another is none of ours.
const FORM: u64 = 1;

fn purpose(tenant: TenantId) -> String {
    format!("{tenant}/events")
}

impl Vector {
    /// The beginning of the log.
    pub fn start(log: &dyn Log) -> Self {
        let epochs = Reading::ALL.map(|reading| log.epoch(reading.topic()));
        let offsets = Reading::ALL.map(|reading| vec![0; log.partitions(reading.topic()) as usize]);
        Self { epochs, offsets, marks: Vec::new() }
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

    /// Notes that a fact is told; false when it was told before.
    pub fn tell(&mut self, reading: Reading, partition: u32, cause: Cause) -> bool {
        let reading = reading as u8;
        let is_it = |mark: &&mut Mark| {
            (mark.reading, mark.partition, mark.cause.partition) == (reading, partition, cause.partition)
        };
        match self.marks.iter_mut().find(is_it) {
            Some(mark) if (cause.offset, cause.ordinal) <= (mark.cause.offset, mark.cause.ordinal) => return false,
            Some(mark) => mark.cause = cause,
            None => self.marks.push(Mark { reading, partition, cause }),
        }
        true
    }

    /// As the text that a client keeps.
    pub fn to_id(&self, seal: &Seal, tenant: TenantId) -> String {
        let mut bytes = Vec::new();
        put_u64(&mut bytes, FORM);
        for (epoch, offsets) in self.epochs.iter().zip(&self.offsets) {
            put_u64(&mut bytes, u64::from(*epoch));
            put_u64(&mut bytes, offsets.len() as u64);
            offsets.iter().for_each(|offset| put_u64(&mut bytes, *offset));
        }
        for Mark { reading, partition, cause } in &self.marks {
            bytes.push(*reading);
            for part in [u64::from(*partition), u64::from(cause.partition), cause.offset, u64::from(cause.ordinal)] {
                put_u64(&mut bytes, part);
            }
        }
        seal.close(&purpose(tenant), &bytes)
    }

    /// Reads a client's text; nothing when it was made by hand, for another tenant, or for a log that is no more.
    pub fn from_id(id: &str, seal: &Seal, tenant: TenantId, log: &dyn Log) -> Option<Self> {
        let vector = Self::read(&seal.open(&purpose(tenant), id)?).ok()?;
        let start = Self::start(log);
        let is_of_this_log =
            vector.epochs == start.epochs && vector.offsets.iter().zip(&start.offsets).all(|(a, b)| a.len() == b.len());
        is_of_this_log.then_some(vector)
    }

    fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let small = |value: u64| u32::try_from(value).map_err(|_| WireError::Invalid("a partition"));
        if reader.u64()? != FORM {
            return Err(WireError::Invalid("the form"));
        }
        let (mut epochs, mut offsets, mut marks) = ([0; 4], [const { Vec::new() }; 4], Vec::new());
        for (epoch, offsets) in epochs.iter_mut().zip(&mut offsets) {
            *epoch = small(reader.u64()?)?;
            for _ in 0..reader.u64()? {
                offsets.push(reader.u64()?);
            }
        }
        while !reader.is_empty() {
            let (reading, partition, from) = (reader.u8()?, small(reader.u64()?)?, small(reader.u64()?)?);
            let cause = Cause { partition: from, offset: reader.u64()?, ordinal: small(reader.u64()?)? };
            marks.push(Mark { reading, partition, cause });
        }
        Ok(Self { epochs, offsets, marks })
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
        vector.tell(Reading::Views, 1, Cause { partition: 3, offset: u64::MAX, ordinal: 9 });
        let id = vector.to_id(&seal, tenant);
        assert_eq!(Vector::from_id(&id, &seal, tenant, &log), Some(vector));
        assert_eq!(Vector::from_id(&id, &seal, TenantId::from_bytes([2; 16]), &log), None);
        let other = MemoryLog::new(Partitions { inputs: 1, events: 1, decisions: 1 });
        assert_eq!(Vector::from_id(&id, &seal, tenant, &other), None);
        assert_eq!(Vector::from_id("AAAA", &seal, tenant, &log), None);
    }

    #[test]
    fn a_fact_is_told_once_for_each_reading_and_partition() {
        let mut vector = Vector::start(&MemoryLog::new(Partitions::default()));
        let cause = |partition, offset, ordinal| Cause { partition, offset, ordinal };
        assert!(vector.tell(Reading::Events, 0, cause(1, 5, 0)) && vector.tell(Reading::Events, 0, cause(1, 5, 1)));
        for again in [cause(1, 4, 7), cause(1, 5, 0), cause(1, 5, 1)] {
            assert!(!vector.tell(Reading::Events, 0, again), "{again:?}");
        }
        assert!(vector.tell(Reading::Events, 0, cause(1, 6, 0)));
        for (reading, partition, other) in [
            (Reading::Views, 0, cause(1, 5, 0)),
            (Reading::Events, 1, cause(1, 5, 0)),
            (Reading::Events, 0, cause(2, 5, 0)),
        ] {
            assert!(vector.tell(reading, partition, other), "{other:?}");
        }
    }
}
