//! Re-drive: held records go back in by the front door, in bounded batches.

use std::time::Duration;

use bytes::Bytes;
use schemas::decision::Fact;
use schemas::record::{Record, RecordBatch, RecordBatchReader, RecordBatchWriter};
use schemas::{BatchKind, Lane, Topic};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

use super::{LOOK_AGAIN, LOOK_AGAIN_MAX, READ_BYTES, Repairer, now};
use crate::ingest::OpenStream;
use crate::log::Stored;
use crate::process::{self, ProcessError, decisions, peek, read_place, stream_of};
use crate::step::{Again, StepError, redriven_for};

/// A batch that goes back in is cut once it has so many bytes.
const BATCH_BYTES: usize = 256 << 10;
/// So long one waits for the step at most.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// And rests at most behind it: as long as the batch took, so that other streams have half of the line.
const REST_MAX: Duration = Duration::from_millis(50);

/// A record that is sent back in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// Where it stands on `inputs`.
    pub(super) offset: u64,
    /// Where it first entered.
    pub(super) origin: u64,
}

/// What is to be re-driven.
pub(super) struct Redrive {
    pub(super) open: OpenStream,
    pub(super) case: u64,
    /// The places on `decisions` between which its records were held.
    pub(super) from: u64,
    pub(super) to: u64,
    /// The input that let them go: none was held behind it.
    pub(super) until: u64,
}

impl Repairer {
    /// Sends back in what a case held. A lane's ordinals are the held records' offsets, so that a run that was broken off
    /// goes on behind the last record that the step has. False when it is to stop before the end.
    pub(super) async fn redrive(&mut self, redrive: &Redrive) -> Result<bool, ProcessError> {
        let Redrive { open, case, from, to, until } = redrive;
        let (lane, mut last) = self.lane("redrive", open, *case).await?;
        let (mut next, mut is_past) = (*from, false);
        while next < *to && !is_past {
            let batches = self.log.read(Topic::Decisions, self.partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else { break };
            let mut held = Vec::new();
            for stored in batches.iter().filter(|s| s.first < *to && s.header().kind == BatchKind::Decisions) {
                if stream_of(stored.header()).as_ref() == Some(&open.id) && !is_past {
                    is_past = self.collect(stored, (*case, *until), &mut last, &mut held)?;
                }
            }
            next = end;
            if self.send(open, &redriven_for(*case, Again::Held), lane, &held).await?.is_none() {
                return Ok(false);
            }
            // Times that have come are told however much comes again.
            self.tell_due(now()).await?;
        }
        Ok(true)
    }

    /// The lane of a run, and the last ordinal that the step has of it.
    pub(super) async fn lane(&self, run: &str, open: &OpenStream, case: u64) -> Result<(Lane, u64), ProcessError> {
        let lane = Lane(xxh3_128(format!("{run}\n{}\n{}\n{case}", open.id.tenant, open.id).as_bytes()));
        let last = read_place(&*self.store, &open.id, lane).await?.map_or(0, |place| place.ordinal);
        Ok((lane, last))
    }

    /// The records of a batch of decisions that the case held until an input, each once though a run may stand twice. True
    /// when there are decisions behind that one.
    fn collect(
        &self,
        stored: &Stored,
        (case, until): (u64, u64),
        last: &mut u64,
        held: &mut Vec<Held>,
    ) -> Result<bool, ProcessError> {
        let Some(body) = stored.body(Topic::Decisions, self.partition)? else { return Ok(false) };
        for decision in decisions(&body) {
            let decision = decision
                .map_err(|e| ProcessError::State { stream: stored.header().subject.clone(), message: e.to_string() })?;
            match decision.fact {
                _ if decision.input_offset > until => return Ok(true),
                Fact::RecordHeld { case: of, origin } if of == case && decision.input_offset + 1 > *last => {
                    *last = decision.input_offset + 1;
                    held.push(Held { offset: decision.input_offset, origin });
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Sends records back in, under the case that they are `sent_for`. The offset behind the last of them, 0 when there are
    /// none; nothing when it is to stop before the end.
    pub(super) async fn send(
        &mut self,
        open: &OpenStream,
        sent_for: &[u8],
        lane: Lane,
        held: &[Held],
    ) -> Result<Option<u64>, ProcessError> {
        let mut sending = Sending::new(open, sent_for, lane, held);
        while let Some(first) = sending.left.first() {
            let offset = first.offset;
            let batches = self.log.read(Topic::Inputs, self.partition, offset, READ_BYTES).await?;
            let before = sending.left.len();
            for stored in &batches {
                self.send_from(stored, &mut sending).await?;
                if self.is_stopping() {
                    return Ok(None);
                }
            }
            if sending.left.len() == before {
                return Err(self.not_there(open, offset).await?);
            }
        }
        if sending.writer.count() > 0 {
            sending.end = self.ingest.append_again(open, sending.cut()).await?;
        }
        Ok(Some(sending.end))
    }

    /// Sends back in what is wanted of one batch of inputs.
    async fn send_from(&mut self, stored: &Stored, sending: &mut Sending<'_>) -> Result<(), ProcessError> {
        if sending.left.first().is_none_or(|wanted| wanted.offset >= stored.end()) {
            return Ok(());
        }
        let Some(body) = self.body_of_inputs(stored)? else {
            // The tenant is forgotten, and its records with it.
            sending.pass_over(stored.end());
            return Ok(());
        };
        let malformed = |source| ProcessError::Step {
            partition: self.partition,
            source: StepError::Malformed { offset: stored.first, source },
        };
        let mut reader = RecordBatchReader::new(&body).map_err(malformed)?;
        let mut offset = stored.first;
        while let Some(record) = reader.next_record().map_err(malformed)? {
            sending.take(record, offset);
            offset += 1;
            if sending.writer.bytes() >= BATCH_BYTES {
                let started = Instant::now();
                sending.end = self.ingest.append_again(sending.open, sending.cut()).await?;
                self.wait_for_step(sending.end).await?;
                tokio::time::sleep(started.elapsed().min(REST_MAX)).await;
            }
        }
        Ok(())
    }

    /// The body of a batch of inputs. It is kept until there is nothing to do: what several cases held stands in the same.
    fn body_of_inputs(&mut self, stored: &Stored) -> Result<Option<Bytes>, ProcessError> {
        if let Some((first, body)) = &self.inputs_at_hand
            && *first == stored.first
            && !stored.is_forgotten()
        {
            return Ok(Some(body.clone()));
        }
        let body = stored.body(Topic::Inputs, self.partition)?;
        self.inputs_at_hand = body.clone().map(|body| (stored.first, body));
        Ok(body)
    }

    /// Returns once the step has everything below `offset`, or soon after where it has much else to do, or it is to stop. Who
    /// sends faster than the step takes has every other stream of the partition wait behind all of it.
    async fn wait_for_step(&self, offset: u64) -> Result<(), ProcessError> {
        let until = Instant::now() + WAIT_MAX;
        let mut pause = LOOK_AGAIN;
        let step = || peek(&*self.store, Topic::Inputs, self.partition, process::READER);
        while !self.is_stopping() && Instant::now() < until && step().await? < offset {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
        Ok(())
    }

    /// The log gave nothing of what stands at `offset`.
    async fn not_there(&self, open: &OpenStream, offset: u64) -> Result<ProcessError, ProcessError> {
        let end = self.log.end(Topic::Inputs, self.partition).await?;
        let what = format!("a held record of {}", open.id);
        Ok(ProcessError::WentBack { what, offset, topic: Topic::Inputs, partition: self.partition, end })
    }
}

/// Records on their way back in.
struct Sending<'a> {
    open: &'a OpenStream,
    sent_for: &'a [u8],
    lane: Lane,
    /// What is still wanted, in the order of `inputs`.
    left: &'a [Held],
    writer: RecordBatchWriter,
    /// The offset behind the last that went in.
    end: u64,
}

impl<'a> Sending<'a> {
    fn new(open: &'a OpenStream, sent_for: &'a [u8], lane: Lane, held: &'a [Held]) -> Self {
        Self { open, sent_for, lane, left: held, writer: RecordBatchWriter::new(lane, 0, BATCH_BYTES), end: 0 }
    }

    /// Takes the record that stands at `offset`, if it is the next that is wanted.
    fn take(&mut self, mut record: Record<'_>, offset: u64) {
        if let Some((wanted, rest)) = self.left.split_first()
            && wanted.offset == offset
        {
            record.ordinal = offset + 1;
            self.writer.push_from(&record, Some(wanted.origin));
            self.left = rest;
        }
    }

    /// Gives up what stands before `end`.
    fn pass_over(&mut self, end: u64) {
        self.left = &self.left[self.left.partition_point(|wanted| wanted.offset < end)..];
    }

    /// What was taken so far, as a batch of its own; the next begins behind it.
    fn cut(&mut self) -> RecordBatch {
        let next = RecordBatchWriter::new(self.lane, self.writer.last_ordinal(), BATCH_BYTES);
        std::mem::replace(&mut self.writer, next).finish(self.sent_for)
    }
}
