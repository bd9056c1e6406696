//! A run: records of one stream that are brought in together, and what became of them.

use pipeline::ingest::{IngestError, OpenStream};
use pipeline::source::LaneCursor;
use pipeline::step::drift::Declared;
use pipeline::step::{Counters, StreamState};
use schemas::{Entity, Mapping, StreamId, Topic};
use serde::{Deserialize, Serialize};

use super::{Line, Outcome, Superseded};

/// What became of the records of one run. `in` + released + others = visible + superseded + quarantined + held + duplicate
/// + pending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    /// Records acknowledged: durable in `inputs`.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Rows, or deletes, that count now.
    pub visible: u64,
    /// Rows that a greater order key beat, before or after them.
    pub superseded: u64,
    /// Set aside with a reason.
    pub quarantined: u64,
    /// Kept back, because they lack what was always there: they come once their case is decided.
    #[serde(default)]
    pub held: u64,
    /// Of earlier runs: kept back then, released now.
    #[serde(default)]
    pub released: u64,
    /// Rows of earlier runs that were taken back and are held now, at least: `held` is without them.
    #[serde(default)]
    pub recalled: u64,
    /// Taken before.
    pub duplicate: u64,
    /// Not waited for: any of the others, in a moment.
    pub pending: u64,
    /// Deletes among the visible and the superseded.
    pub deletes: u64,
    /// Records that others, such as pushes, brought into the stream meanwhile: they are counted with the fates, not in `in`.
    pub others: u64,
}

impl Fates {
    /// Of records that nobody waits for.
    pub fn pending(acknowledged: u64) -> Self {
        Self { taken: acknowledged, pending: acknowledged, ..Self::default() }
    }
    /// Of what came between two states of a stream's counters. Rows can become fewer, as drift takes back what was
    /// accepted before it was sure; such a row is held then, or was and has another fate by now.
    fn between(before: &Counters, after: &Counters, superseded: u64) -> Self {
        let (rows_before, rows_after) = (before.accepted + before.deleted, after.accepted + after.deleted);
        let rows = rows_after.saturating_sub(rows_before);
        let recalled = rows_before.saturating_sub(rows_after);
        let held = after.held.saturating_sub(before.held);
        let visible = rows.saturating_sub(superseded);
        Self {
            taken: after.taken.saturating_sub(before.taken),
            visible,
            superseded: rows - visible,
            quarantined: after.quarantined.saturating_sub(before.quarantined),
            held: held.saturating_sub(recalled),
            released: before.held.saturating_sub(after.held) + recalled.saturating_sub(held),
            recalled,
            duplicate: after.duplicate.saturating_sub(before.duplicate),
            pending: 0,
            deletes: after.deleted.saturating_sub(before.deleted),
            others: 0,
        }
    }
    /// Says how many of all that came in were the run's own.
    pub fn with_own(self, acknowledged: u64) -> Self {
        Self { taken: acknowledged, others: self.taken.saturating_sub(acknowledged), ..self }
    }
}

/// A run under way.
pub struct Run {
    /// The open stream.
    pub open: OpenStream,
    /// What its records become, and how.
    pub mapping: Mapping,
    /// The lanes that were read before, as the line holds them.
    pub lanes: Vec<LaneCursor>,
    /// The fields that the stream's source declared last.
    pub declared: Option<Declared>,
    /// Records of earlier runs, if this one put another mapping in force: they stay what the former one made of them.
    pub under_former: u64,
    before: Counters,
    counting: Option<Superseded>,
}

impl Line {
    /// Begins a run: opens the stream, unless the step refuses its mapping, and notes where it is. Rows that are beaten are
    /// counted from now on, if wanted, which keeps the view in memory until the run is settled or dropped.
    pub async fn begin_run(
        &self,
        stream: &StreamId,
        mapping: Mapping,
        entity: Option<&Entity>,
        by: &str,
        is_counted: bool,
    ) -> anyhow::Result<Run> {
        let former = self.stream_snapshot(stream).await?;
        let from = match self.ingest.find(stream).await? {
            Some(known) => self.log.end(Topic::Decisions, known.partition).await?,
            None => 0,
        };
        let (open, asked) = self.ingest.open_asking(stream, &mapping, entity, by).await?;
        // A run before this one that was left may have had an append under way: it stands before what is counted from here.
        self.log.sync().await?;
        self.wait_processed(open.partition).await?;
        if let Some(id) = asked
            && let Outcome::Refused(reason) = self.outcome(&open, from, &id).await?
        {
            // The repairer does the same, but in its own time: who tries again is not to be taken for somebody who has it.
            self.ingest.refused(&open, &id).await?;
            return Err(IngestError::Refused { stream: stream.clone(), reason }.into());
        }
        let before = self.stream_state(stream).await?;
        let counting = match is_counted {
            true => {
                let from = self.log.end(Topic::Inputs, open.partition).await?;
                Some(self.count_superseded(stream, &mapping.entity, from).await?)
            }
            false => None,
        };
        let under_former = under_former(former.as_ref(), before.as_ref());
        let lanes = before.iter().flat_map(lanes).collect();
        let declared = before.as_ref().and_then(|state| state.drift().declared().cloned());
        Ok(Run {
            open,
            mapping,
            lanes,
            declared,
            under_former,
            before: before.map_or_else(Counters::default, |s| s.counters),
            counting,
        })
    }

    /// Waits until everything that came into the run's stream has its fate and is in the view. `taken` is all that came in,
    /// whoever brought it.
    pub async fn settle(&self, run: &Run) -> anyhow::Result<Fates> {
        self.wait_settled(run.open.partition).await?;
        let after = self.stream_snapshot(&run.open.id).await?.map_or_else(Counters::default, |s| s.counters);
        let superseded = match &run.counting {
            Some(counting) => self.superseded(counting).await?,
            None => 0,
        };
        Ok(Fates::between(&run.before, &after, superseded))
    }
}

/// Records that were taken before another mapping came in force.
fn under_former(former: Option<&StreamState>, now: Option<&StreamState>) -> u64 {
    let (Some(former), Some(now)) = (former, now) else { return 0 };
    match (former.mapping(), now.mapping()) {
        (Some((before, _)), Some((after, _))) if before != after => now.counters.taken,
        _ => 0,
    }
}

fn lanes(state: &StreamState) -> impl Iterator<Item = LaneCursor> {
    state.lanes.iter().map(|(lane, l)| LaneCursor { lane: *lane, ordinal: l.ordinal, cursor: l.cursor.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(accepted: u64, held: u64, quarantined: u64) -> Counters {
        let taken = accepted + held + quarantined;
        Counters { taken, accepted, held, quarantined, ..Counters::default() }
    }

    #[test]
    fn rows_of_earlier_runs_that_are_taken_back_are_no_fates_of_this_one() {
        let fates = Fates::between(&counters(206, 0, 0), &counters(200, 100, 0), 0);
        assert_eq!((fates.taken, fates.visible, fates.held, fates.recalled, fates.released), (94, 0, 94, 6, 0));
        // Taken back, and set aside by the mapping that a person decided on.
        let fates = Fates::between(&counters(206, 0, 0), &counters(200, 4, 6), 0);
        assert_eq!((fates.taken, fates.held, fates.quarantined), (4, 0, 6));
        assert_eq!((fates.recalled, fates.released), (6, 2), "in and what was released have one fate each");
        let fates = Fates::between(&counters(200, 10, 0), &counters(215, 0, 0), 3);
        assert_eq!((fates.taken, fates.visible, fates.superseded, fates.released), (5, 12, 3, 10));
    }
}
