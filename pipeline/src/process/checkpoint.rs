//! Where a reader of a partition starts, as `Store` holds it.

use schemas::{TenantId, Topic};

use super::ProcessError;
use crate::log::Log;
use crate::store::{Expect, Store, StoreError, Table};

const VALUE_BYTES: usize = 12;

/// The checkpoint of one reader of one partition. One writer has it: a stale one is told so.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    key: String,
    epoch: u32,
    offset: u64,
    version: u64,
}

impl Checkpoint {
    /// Reads it and compares it with the log: an epoch that is not the topic's, or a place behind the partition's end,
    /// stops the reader.
    pub(crate) async fn read(
        log: &dyn Log,
        store: &dyn Store,
        topic: Topic,
        partition: u32,
        reader: &str,
    ) -> Result<Self, ProcessError> {
        let key = format!("{topic}/{partition}/{reader}");
        let epoch = log.epoch(topic);
        let Some(row) = store.get(TenantId::SYSTEM, Table::Checkpoints, &key).await? else {
            return Ok(Self { key, epoch, offset: 0, version: 0 });
        };
        let Some((found, offset)) = decode(&row.value) else {
            return Err(ProcessError::Checkpoint(key));
        };
        check_place(log, topic, partition, (found, offset), || format!("the checkpoint {key}")).await?;
        Ok(Self { key, epoch, offset, version: row.version })
    }

    /// The first item that is not covered.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves it forward.
    pub(crate) async fn write(&mut self, store: &dyn Store, offset: u64) -> Result<(), ProcessError> {
        if offset <= self.offset {
            return Ok(());
        }
        let value = encode(self.epoch, offset).into();
        let expect = Expect::Ordered(self.version);
        let written = store.put(TenantId::SYSTEM, Table::Checkpoints, &self.key, value, expect).await;
        self.version = written.map_err(|e| overtaken(e, &self.key))?;
        self.offset = offset;
        Ok(())
    }
}

/// Refuses a place that the log does not have.
pub(super) async fn check_place(
    log: &dyn Log,
    topic: Topic,
    partition: u32,
    (epoch, offset): (u32, u64),
    what: impl Fn() -> String,
) -> Result<(), ProcessError> {
    let expected = log.epoch(topic);
    if epoch != expected {
        return Err(ProcessError::Epoch { what: what(), found: epoch, expected });
    }
    let end = log.end(topic, partition).await?;
    if offset > end {
        return Err(ProcessError::WentBack { what: what(), offset, topic, partition, end });
    }
    Ok(())
}

/// A conflict means that somebody else writes what only we should.
pub(super) fn overtaken(error: StoreError, what: &str) -> ProcessError {
    match error {
        StoreError::Conflict { .. } => ProcessError::Overtaken(what.to_owned()),
        error => error.into(),
    }
}

fn encode(epoch: u32, offset: u64) -> Vec<u8> {
    [&epoch.to_be_bytes()[..], &offset.to_be_bytes()].concat()
}

fn decode(value: &[u8]) -> Option<(u32, u64)> {
    let value: &[u8; VALUE_BYTES] = value.try_into().ok()?;
    let (epoch, offset) = value.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*epoch), u64::from_be_bytes(offset.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back() {
        assert_eq!(decode(&encode(3, u64::MAX - 1)), Some((3, u64::MAX - 1)));
        assert_eq!(decode(&7u64.to_be_bytes()), None);
    }
}
