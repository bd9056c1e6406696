//! Dry run: what a decision would do to the last records that a case holds, told by the step itself.

use schemas::drift::{Decide, Lost, Move, Tried, Verdict};
use schemas::reason::Reason;
use serde::Serialize;
use serde_json::{Map, Value};

use super::evidence::{EvidenceError, Mapped, SHOWN, held, mapped};
use super::{Case, Mask};
use crate::log::Log;
use crate::step::drift::Blanks;
use crate::step::{Fate, StreamState};

/// What a decision would do to the last records that a case holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DryRun {
    /// Records that were tried.
    pub records: usize,
    /// Those that would be rows.
    pub accepted: usize,
    /// Those that would be deletes.
    pub deleted: usize,
    /// Those that would stay held, or be held again for want of what the decision reads.
    pub held: usize,
    /// Of those that would be rows, the ones that would be blank where there was a value before.
    pub blank: usize,
    /// Those that would be set aside, by reason and field.
    pub quarantined: Vec<SetAside>,
    /// Some of each kind.
    pub samples: Vec<Sample>,
}

impl DryRun {
    /// Whether every record would become a row or a delete, with its values.
    pub fn is_clean(&self) -> bool {
        self.tried().is_clean()
    }

    /// What is kept of it beside a proposal.
    pub(super) fn tried(&self) -> Tried {
        let quarantined: usize = self.quarantined.iter().map(|aside| aside.count).sum();
        Tried {
            records: self.records as u64,
            accepted: (self.accepted + self.deleted).saturating_sub(self.blank) as u64,
            quarantined: quarantined as u64,
            held: self.held as u64,
        }
    }
}

/// Records that would be set aside for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Why.
    pub reason: Reason,
    /// The field or path concerned.
    pub field: Option<String>,
    /// How many.
    pub count: usize,
}

/// A record that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Where it stands on `inputs`.
    pub offset: u64,
    /// What would become of it.
    #[serde(flatten)]
    pub mapped: Mapped,
}

/// Tries a decision on the last records that a case holds, at most `count`.
pub async fn dry_run(
    log: &dyn Log,
    state: &StreamState,
    case: &Case,
    mask: &Mask,
    verdict: Verdict,
    count: usize,
) -> Result<DryRun, EvidenceError> {
    let held = held(log, state, case).await?;
    let held = &held[held.len().saturating_sub(count)..];
    let moves: &[Move] = match &verdict {
        Verdict::Edit { moves } => moves,
        _ => &case.moves,
    };
    let mask = mask.moved(&case.lost, moves);
    let mapping_version = state.mapping().map_or(0, |(_, version)| version);
    let (by, why) = (String::new(), String::new());
    let decide =
        Decide { case: case.position.offset, mapping_version, version: None, once_read: false, verdict, by, why };
    let now = held.last().map_or(0, |record| record.logged_at);
    let mut trial = state.behind(&decide, now).map_err(EvidenceError::Refused)?;
    let mut run = DryRun { records: held.len(), ..DryRun::default() };
    let fields: Vec<String> = case.lost.iter().flat_map(|lost| lost.feeds.clone()).collect();
    let fates = trial.fates(held)?;
    run.blank = match &decide.verdict {
        // That is what is accepted.
        Verdict::AcceptAsRemoved { .. } => 0,
        _ => blank(state, &case.lost, &fates),
    };
    for (record, fate) in held.iter().zip(fates) {
        let shown = run.count(&fate);
        if shown <= SHOWN {
            run.samples.push(Sample { offset: record.offset, mapped: mapped(fate, &fields, &mask) });
        }
    }
    Ok(run)
}

impl DryRun {
    /// Counts a fate; answers how many of its kind there are by now.
    fn count(&mut self, fate: &Fate) -> usize {
        let count = match fate {
            Fate::Accepted { .. } => &mut self.accepted,
            Fate::Deleted => &mut self.deleted,
            Fate::Held => &mut self.held,
            Fate::Quarantined { reason, field, .. } => {
                let is_same = |other: &SetAside| other.reason == *reason && other.field == *field;
                let place = self.quarantined.iter().position(is_same).unwrap_or_else(|| {
                    self.quarantined.push(SetAside { reason: *reason, field: field.clone(), count: 0 });
                    self.quarantined.len() - 1
                });
                &mut self.quarantined[place].count
            }
        };
        *count += 1;
        *count
    }
}

/// Rows that would be blank in a field of which more would be blank than before it was lost.
fn blank(state: &StreamState, lost: &[Lost], fates: &[Fate]) -> usize {
    let rows: Vec<&Map<String, Value>> = fates
        .iter()
        .filter_map(|fate| match fate {
            Fate::Accepted { row, .. } => Some(row),
            Fate::Deleted | Fate::Held | Fate::Quarantined { .. } => None,
        })
        .collect();
    let mut blanked: Vec<&str> = Vec::new();
    for lost in lost {
        let before = state.drift().blanks_before(lost, state.shape());
        for feed in &lost.feeds {
            let blank = rows.iter().filter(|row| is_blank(row, feed)).count() as u64;
            if (Blanks { blank, values: rows.len() as u64 }).is_more_than(before) {
                blanked.push(feed);
            }
        }
    }
    rows.iter().filter(|row| blanked.iter().any(|feed| is_blank(row, feed))).count()
}

fn is_blank(row: &Map<String, Value>, feed: &str) -> bool {
    match row.get(feed) {
        Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim_ascii().is_empty(),
        _ => false,
    }
}
