//! Where a reader of a partition starts, as `Store` holds it.

use schemas::{Decision, TenantId, Topic};

use super::ProcessError;
use crate::log::Log;
use crate::store::{Expect, Store, StoreError, Table};

/// The last decision that a reader took. A processor that starts again, and a stale one beside its successor, put runs on
/// the log that stand there already, whole or in part, one among the other. Each of them is without holes and begins no later
/// than behind what stood there, so before any decision stand all that come before it in the order of inputs: what is at or
/// below the greatest that was taken was taken, and nothing else need be remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark(Option<(u64, u32)>);

impl Mark {
    /// Takes a decision; false when it was taken before.
    pub(crate) fn take(&mut self, decision: &Decision) -> bool {
        let place = Some((decision.input_offset, decision.ordinal));
        let is_new = place > self.0;
        self.0 = self.0.max(place);
        is_new
    }
}

/// The checkpoint of one reader of one partition. One writer has it: a stale one is told so.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    key: String,
    epoch: u32,
    offset: u64,
    mark: Mark,
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
            return Ok(Self { key, epoch, offset: 0, mark: Mark::default(), version: 0 });
        };
        let Some((found, offset, mark)) = decode(&row.value) else {
            return Err(ProcessError::Checkpoint(key));
        };
        check_place(log, topic, partition, (found, offset), || format!("the checkpoint {key}")).await?;
        Ok(Self { key, epoch, offset, mark, version: row.version })
    }

    /// The first item that is not covered.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The last decision that is covered. What is read again after a failure is taken from here on again.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Moves it forward.
    pub(crate) async fn write(&mut self, store: &dyn Store, offset: u64) -> Result<(), ProcessError> {
        self.write_with(store, offset, self.mark).await
    }

    /// Moves it forward, with the last decision that was taken.
    pub(crate) async fn write_with(&mut self, store: &dyn Store, offset: u64, mark: Mark) -> Result<(), ProcessError> {
        if offset <= self.offset {
            return Ok(());
        }
        let value = encode(self.epoch, offset, mark).into();
        let expect = Expect::Ordered(self.version);
        let written = store.put(TenantId::SYSTEM, Table::Checkpoints, &self.key, value, expect).await;
        self.version = written.map_err(|e| overtaken(e, &self.key))?;
        (self.offset, self.mark) = (offset, mark);
        Ok(())
    }
}

/// Where the checkpoint of a reader stands, for who is not that reader; 0 without one.
pub(crate) async fn peek(store: &dyn Store, topic: Topic, partition: u32, reader: &str) -> Result<u64, ProcessError> {
    let key = format!("{topic}/{partition}/{reader}");
    let Some(row) = store.get(TenantId::SYSTEM, Table::Checkpoints, &key).await? else { return Ok(0) };
    decode(&row.value).map(|(_, offset, _)| offset).ok_or(ProcessError::Checkpoint(key))
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

/// The offset stands last, whatever stands before it.
fn encode(epoch: u32, offset: u64, mark: Mark) -> Vec<u8> {
    let mut value = epoch.to_be_bytes().to_vec();
    if let Some((input, ordinal)) = mark.0 {
        value.extend_from_slice(&input.to_be_bytes());
        value.extend_from_slice(&ordinal.to_be_bytes());
    }
    value.extend_from_slice(&offset.to_be_bytes());
    value
}

fn decode(value: &[u8]) -> Option<(u32, u64, Mark)> {
    let (epoch, rest) = value.split_first_chunk::<4>()?;
    let (rest, offset) = rest.split_last_chunk::<8>()?;
    let mark = match rest.split_first_chunk::<8>() {
        None if rest.is_empty() => Mark(None),
        Some((input, ordinal)) => {
            Mark(Some((u64::from_be_bytes(*input), u32::from_be_bytes(ordinal.try_into().ok()?))))
        }
        None => return None,
    };
    Some((u32::from_be_bytes(*epoch), u64::from_be_bytes(*offset), mark))
}

#[cfg(test)]
mod tests {
    use schemas::decision::Fact;

    use super::*;

    #[test]
    fn a_checkpoint_reads_back() {
        for mark in [Mark(None), Mark(Some((0, 0))), Mark(Some((u64::MAX, u32::MAX)))] {
            assert_eq!(decode(&encode(3, u64::MAX - 1, mark)), Some((3, u64::MAX - 1, mark)));
        }
        assert_eq!(decode(&[&3u32.to_be_bytes()[..], &7u64.to_be_bytes()].concat()), Some((3, 7, Mark(None))));
        for length in [0, 8, 11, 13, 20, 23, 25] {
            assert_eq!(decode(&vec![1u8; length]), None, "{length}");
        }
    }

    #[test]
    fn of_runs_that_stand_one_among_the_other_each_decision_is_taken_once_and_in_order() {
        let decision = |input_offset: u64| {
            let fact = Fact::RecordHeld { case: 0, origin: input_offset };
            [0, 1].map(|ordinal| Decision { input_offset, ordinal, fact: fact.clone() })
        };
        // One writes 0 to 5; another begins behind what stands at 2, the first goes on meanwhile, a third begins again at 1.
        let runs: [&[u64]; 6] = [&[0, 1, 2], &[2, 3], &[3, 4], &[4, 5], &[1, 2, 3, 4, 5, 6], &[5]];
        let mut mark = Mark::default();
        let all = runs.iter().flat_map(|run| run.iter().flat_map(|input| decision(*input)));
        let taken: Vec<_> = all.filter(|d| mark.take(d)).map(|d| (d.input_offset, d.ordinal)).collect();
        assert_eq!(taken, (0..7).flat_map(|input| [(input, 0), (input, 1)]).collect::<Vec<_>>());
    }
}
