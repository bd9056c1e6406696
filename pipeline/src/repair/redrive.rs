//! Re-drive: held records go back in by the front door, in bounded batches.

use schemas::decision::Fact;
use schemas::record::{RecordBatchReader, RecordBatchWriter};
use schemas::{BatchKind, Lane, Topic};
use xxhash_rust::xxh3::xxh3_128;

use super::{READ_BYTES, Repairer};
use crate::ingest::OpenStream;
use crate::log::Stored;
use crate::process::{ProcessError, decode_decisions, read_lane, read_snapshot, stream_of};
use crate::step::redriven_for;

/// A batch that goes back in is cut once it has so many bytes.
const BATCH_BYTES: usize = 512 << 10;

/// A record: where it stands on `inputs`, and where it first entered.
pub(super) type Held = (u64, u64);

/// What is to be re-driven.
pub(super) struct Redrive {
    pub(super) open: OpenStream,
    pub(super) case: u64,
    /// The places on `decisions` between which its records were held.
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Repairer {
    /// Sends back in what a case held. A lane's ordinals are the held records' offsets, so that a run that was broken off
    /// goes on behind the last record that the step has. False when it is to stop before the end.
    pub(super) async fn redrive(&self, redrive: &Redrive) -> Result<bool, ProcessError> {
        let Redrive { open, case, from, to } = redrive;
        let (lane, mut last) = self.lane("redrive", open, *case).await?;
        let mut next = *from;
        while next < *to {
            let batches = self.log.read(Topic::Decisions, self.partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else { break };
            let mut held = Vec::new();
            for stored in batches.iter().filter(|s| s.first < *to && s.header().kind == BatchKind::Decisions) {
                if stream_of(stored.header()).as_ref() == Some(&open.id) {
                    self.collect(stored, *case, &mut last, &mut held)?;
                }
            }
            next = end;
            if !self.send(open, &redriven_for(*case, false), lane, &held).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The lane of a run, and the last ordinal that the step has of it.
    pub(super) async fn lane(&self, run: &str, open: &OpenStream, case: u64) -> Result<(Lane, u64), ProcessError> {
        let lane = Lane(xxh3_128(format!("{run}\n{}\n{}\n{case}", open.id.tenant, open.id).as_bytes()));
        let snapshot = read_snapshot(&*self.store, &open.id).await?;
        let last = match snapshot.and_then(|state| state.lanes.get(&lane).map(|place| place.ordinal)) {
            Some(ordinal) => ordinal,
            None => read_lane(&*self.store, &open.id, lane).await?.map_or(0, |(_, place)| place.ordinal),
        };
        Ok((lane, last))
    }

    /// The records of a batch of decisions that the case held, each once though a run may stand twice.
    fn collect(&self, stored: &Stored, case: u64, last: &mut u64, held: &mut Vec<Held>) -> Result<(), ProcessError> {
        let Some(body) = stored.body(Topic::Decisions, self.partition)? else { return Ok(()) };
        for decision in decode_decisions(&body)
            .map_err(|e| ProcessError::State { stream: stored.header().subject.clone(), message: e.to_string() })?
        {
            match decision.fact {
                Fact::RecordHeld { case: of, origin } if of == case && decision.input_offset + 1 > *last => {
                    *last = decision.input_offset + 1;
                    held.push((decision.input_offset, origin));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends records back in, under the case that they are `sent_for`.
    pub(super) async fn send(
        &self,
        open: &OpenStream,
        sent_for: &[u8],
        lane: Lane,
        held: &[Held],
    ) -> Result<bool, ProcessError> {
        let mut left = held;
        let new = |after| RecordBatchWriter::new(lane, after, BATCH_BYTES);
        let mut writer = new(0);
        while let Some((first, _)) = left.first() {
            let batches = self.log.read(Topic::Inputs, self.partition, *first, READ_BYTES).await?;
            let before = left.len();
            for stored in &batches {
                if left.first().is_none_or(|(wanted, _)| *wanted >= stored.end()) {
                    continue;
                }
                let Some(body) = stored.body(Topic::Inputs, self.partition)? else {
                    // The tenant is forgotten, and its records with it.
                    left = &left[left.partition_point(|(wanted, _)| *wanted < stored.end())..];
                    continue;
                };
                let step = |source| ProcessError::Step {
                    partition: self.partition,
                    source: crate::step::StepError::Malformed { offset: stored.first, source },
                };
                let mut reader = RecordBatchReader::new(&body).map_err(step)?;
                let mut offset = stored.first;
                while let Some(mut record) = reader.next_record().map_err(step)? {
                    if let Some((_, origin)) = left.first().filter(|(wanted, _)| *wanted == offset) {
                        record.ordinal = offset + 1;
                        writer.push_from(&record, Some(*origin));
                        left = &left[1..];
                    }
                    offset += 1;
                    if writer.bytes() >= BATCH_BYTES {
                        let full = std::mem::replace(&mut writer, new(offset));
                        self.ingest.append_again(open, full.finish(sent_for)).await?;
                    }
                }
                if self.is_stopping() {
                    return Ok(false);
                }
            }
            if left.len() == before {
                let (what, end) =
                    (format!("a held record of {}", open.id), self.log.end(Topic::Inputs, self.partition).await?);
                return Err(ProcessError::WentBack {
                    what,
                    offset: *first,
                    topic: Topic::Inputs,
                    partition: self.partition,
                    end,
                });
            }
        }
        if writer.count() > 0 {
            self.ingest.append_again(open, writer.finish(sent_for)).await?;
        }
        Ok(true)
    }
}
