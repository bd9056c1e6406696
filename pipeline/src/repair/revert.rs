//! Revert and recall: what was accepted since a decision that is taken back, or since values began to mean something else,
//! goes back in, so that the step looks at it again.

use bytes::Bytes;
use schemas::event::{EventBatchReader, EventRow};
use schemas::wire::WireError;
use schemas::{BatchKind, EntityName, Input, Topic};

use super::portion::Portion;
use super::redrive::Held;
use super::{READ_BYTES, Repairer, now};
use crate::ingest::OpenStream;
use crate::log::Stored;
use crate::process::{ProcessError, events_partition};
use crate::step::{Again, StepError, redriven_for};

/// Records that are sent before one looks whether a time has come.
const SENT_AT_ONCE: usize = 10_000;

/// Records that were accepted and are looked at again.
pub(super) struct Revert {
    /// The case that they are looked at for.
    pub(super) into: u64,
    /// The input behind which they stand, and the last of them.
    pub(super) since: u64,
    pub(super) until: u64,
    /// Whether they were accepted before that case was sure; else by a decision that was taken back.
    pub(super) is_recall: bool,
}

impl Repairer {
    /// Sends the records back in whose rows were made behind `since` and up to `until`, as the input `at` said. The rows
    /// are read from `events`, from the last known place before them on, so many at a time: each tells its input. Behind the last
    /// of them it says so: until then nobody decides the case. False when it is to stop before the end.
    pub(super) async fn revert(&mut self, open: &OpenStream, at: u64, revert: &Revert) -> Result<bool, ProcessError> {
        // What an earlier run sent back has its fate by then: it is on `events`.
        let behind = self.looked_at_again.get(&open.id).map_or(at, |end| at.max(end.saturating_sub(1)));
        let Some(state) = self.state_behind(&open.id, behind).await? else { return Ok(false) };
        let Some(entity) = state.entity().map(|entity| entity.entity.clone()) else { return Ok(true) };
        let partition = events_partition(open.id.tenant, &entity, self.log.partitions(Topic::Events));
        // A case that grows recalls more than once, of each record once.
        let run = if revert.is_recall { format!("recall-{at}-{}", revert.since) } else { "revert".to_owned() };
        let (lane, mut last) = self.lane(&run, open, revert.into).await?;
        last = last.max(revert.since + 1);
        let sent_for = redriven_for(revert.into, if revert.is_recall { Again::Recalled } else { Again::Reverted });
        let mut from = Some(self.places.behind(revert.since, partition));
        while let Some(mut next) = from {
            let mut portion = Portion::new(self.rows_max, last, revert.until);
            while let Some((end, batches)) = self.row_batches(open, &entity, partition, next).await? {
                next = end;
                for (first, batch_end, body) in &batches {
                    self.each_row(open, *first, body, |row| {
                        portion.see(row.kind, Held { offset: row.input_offset, origin: row.origin });
                    })?;
                    portion.batch_ends(*batch_end);
                }
                // Times that have come are told however much is looked at.
                self.tell_due(now()).await?;
                if self.is_stopping() {
                    return Ok(false);
                }
            }
            let (held, end, more) = portion.finish();
            (last, from) = (end, more);
            for held in held.chunks(SENT_AT_ONCE) {
                let Some(sent) = self.send(open, &sent_for, lane, held).await? else { return Ok(false) };
                if sent > 0 {
                    self.looked_at_again.insert(open.id.clone(), sent);
                }
                self.tell_due(now()).await?;
            }
        }
        let (case, since) = (revert.into, revert.since);
        if state.drift().awaited().any(|awaited| awaited == (case, at, since)) {
            self.ingest.send(open, &[Input::RecallEnded { case, at, since }]).await?;
        }
        Ok(true)
    }

    /// Says the end of what was sent long ago for a case, or for every one of the stream, should nobody have said it: whatever
    /// inputs before `offset` asked for was sent before. Else nobody could decide the case. False when it is to stop before.
    pub(super) async fn end_recalls(
        &self,
        open: &OpenStream,
        offset: u64,
        only: Option<u64>,
    ) -> Result<bool, ProcessError> {
        let Some(state) = self.state_behind(&open.id, offset).await? else { return Ok(false) };
        let is_meant = |(case, at, _): &(u64, u64, u64)| *at < offset && only.is_none_or(|only| only == *case);
        let sent: Vec<_> = state.drift().awaited().filter(is_meant).collect();
        for (case, at, since) in sent {
            self.ingest.send(open, &[Input::RecallEnded { case, at, since }]).await?;
        }
        Ok(true)
    }

    /// The next batches of rows of a view, each with its place and its end; where they end, and nothing behind the last.
    async fn row_batches(
        &self,
        open: &OpenStream,
        entity: &EntityName,
        partition: u32,
        from: u64,
    ) -> Result<Option<(u64, Vec<(u64, u64, Bytes)>)>, ProcessError> {
        let batches = self.log.read(Topic::Events, partition, from, READ_BYTES).await?;
        let Some(end) = batches.last().map(Stored::end) else { return Ok(None) };
        let mut bodies = Vec::new();
        for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Rows) {
            let header = stored.header();
            if header.tenant == open.id.tenant
                && header.subject == entity.as_str()
                && let Some(body) = stored.body(Topic::Events, partition)?
            {
                bodies.push((stored.first, stored.end(), body));
            }
        }
        Ok(Some((end, bodies)))
    }

    /// The rows of a batch that the stream made.
    fn each_row(
        &self,
        open: &OpenStream,
        first: u64,
        body: &[u8],
        mut with: impl FnMut(&EventRow<'_>),
    ) -> Result<(), ProcessError> {
        let malformed = |source: WireError| ProcessError::Step {
            partition: self.partition,
            source: StepError::Malformed { offset: first, source },
        };
        let mut reader = EventBatchReader::new(body).map_err(malformed)?;
        if (&reader.shared.connection, &reader.shared.stream) != (&open.id.connection, &open.id.stream) {
            return Ok(());
        }
        while let Some(row) = reader.next_row().map_err(malformed)? {
            with(&row);
        }
        Ok(())
    }
}
