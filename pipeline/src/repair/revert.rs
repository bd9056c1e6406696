//! Revert and recall: what was accepted since a decision that is taken back, or since values began to mean something else,
//! goes back in, so that the step looks at it again.

use schemas::event::{EventBatchReader, RowKind};
use schemas::{BatchKind, Topic};

use super::redrive::Held;
use super::{READ_BYTES, Repairer};
use crate::ingest::OpenStream;
use crate::log::Stored;
use crate::process::{ProcessError, events_partition};
use crate::step::{Again, StepError, redriven_for};

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
    /// are read from `events`: each tells its input. False when it is to stop before the end.
    pub(super) async fn revert(&self, open: &OpenStream, at: u64, revert: &Revert) -> Result<bool, ProcessError> {
        let Some(state) = self.state_behind(&open.id, at).await? else { return Ok(false) };
        let Some(entity) = state.entity().map(|entity| entity.entity.clone()) else { return Ok(true) };
        let partition = events_partition(open.id.tenant, &entity, self.log.partitions(Topic::Events));
        // A case that grows recalls more than once, of each record once.
        let run = if revert.is_recall { format!("recall-{at}-{}", revert.since) } else { "revert".to_owned() };
        let (lane, mut last) = self.lane(&run, open, revert.into).await?;
        last = last.max(revert.since + 1);
        let sent_for = redriven_for(revert.into, if revert.is_recall { Again::Recalled } else { Again::Reverted });
        let mut next = 0;
        loop {
            let batches = self.log.read(Topic::Events, partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else { return Ok(true) };
            next = end;
            let mut held = Vec::new();
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Rows) {
                let header = stored.header();
                if header.tenant == open.id.tenant
                    && header.subject == entity.as_str()
                    && let Some(body) = stored.body(Topic::Events, partition)?
                {
                    self.rows(open, &body, revert.until, &mut last, &mut held).map_err(|source| {
                        ProcessError::Step {
                            partition: self.partition,
                            source: StepError::Malformed { offset: stored.first, source },
                        }
                    })?;
                }
            }
            if !self.send(open, &sent_for, lane, &held).await? {
                return Ok(false);
            }
        }
    }

    /// The stream's accepted rows of a batch, each once though a run may stand twice.
    fn rows(
        &self,
        open: &OpenStream,
        body: &[u8],
        until: u64,
        last: &mut u64,
        held: &mut Vec<Held>,
    ) -> Result<(), schemas::wire::WireError> {
        let mut reader = EventBatchReader::new(body)?;
        let (shared, id) = (&reader.shared, &open.id);
        if (&shared.connection, &shared.stream) != (&id.connection, &id.stream) {
            return Ok(());
        }
        while let Some(row) = reader.next_row()? {
            if row.kind == RowKind::Accepted && row.input_offset + 1 > *last && row.input_offset <= until {
                *last = row.input_offset + 1;
                held.push(Held { offset: row.input_offset, origin: row.origin });
            }
        }
        Ok(())
    }
}
