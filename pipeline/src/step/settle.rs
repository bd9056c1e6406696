//! Settlements: records that were set aside come again, or are given up. The quarantine's keeper, which alone knows them
//! all, sends each once; here they are counted.

use schemas::decision::Fact;
use schemas::settle::{Action, OFFSETS_MAX, Settle, Settled};
use serde::{Deserialize, Serialize};

use super::cast::shorten;
use super::{Counters, StreamState};

/// Settlements of a stream that may be under way.
const UNDER_WAY_MAX: usize = 64;

/// A settlement that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settlement {
    action: Action,
    settled: Settled,
    /// The last record that was given up: they come in order, and one that comes again is not counted again.
    last: Option<u64>,
}

impl Settlement {
    /// Counts a record that has come again.
    pub(super) fn count(&mut self, before: &Counters, after: &Counters) {
        self.settled.records += 1;
        self.settled.accepted += after.accepted - before.accepted;
        self.settled.deleted += after.deleted - before.deleted;
        self.settled.quarantined += after.quarantined - before.quarantined;
        self.settled.held += after.held - before.held;
    }
}

impl StreamState {
    /// Begins to settle records that were set aside before.
    pub(super) fn settle(&mut self, at: u64, settle: Settle, facts: &mut Vec<Fact>) -> Result<(), String> {
        if self.settlements.len() >= UNDER_WAY_MAX {
            return Err(format!("{UNDER_WAY_MAX} settlements of the stream are under way: try again a little later"));
        }
        if settle.which.offsets.len() > OFFSETS_MAX {
            return Err(format!("it names more than {OFFSETS_MAX} records"));
        }
        let Settle { action, which, by, why } = settle;
        self.settlements.insert(at, Settlement { action, settled: Settled::default(), last: None });
        let settle = Settle { action, which, by: shorten(&by), why: why.chars().take(1_000).collect() };
        facts.push(Fact::SettlementBegun { settlement: at, settle });
        Ok(())
    }

    /// Records are given up.
    pub(super) fn discard(&mut self, id: u64, offsets: &[u64], facts: &mut Vec<Fact>) {
        let Some(settlement) = self.settlements.get_mut(&id).filter(|s| s.action == Action::Discard) else { return };
        for offset in offsets {
            if settlement.last.is_some_and(|last| *offset <= last) {
                continue;
            }
            settlement.last = Some(*offset);
            settlement.settled.records += 1;
            settlement.settled.discarded += 1;
            self.counters.quarantined = self.counters.quarantined.saturating_sub(1);
            self.counters.discarded += 1;
            facts.push(Fact::RecordDiscarded { settlement: id, offset: *offset });
        }
    }

    /// Everything that a settlement is about has come.
    pub(super) fn settlement_ended(&mut self, id: u64, facts: &mut Vec<Fact>) {
        let Some(Settlement { action, settled, .. }) = self.settlements.remove(&id) else { return };
        facts.push(Fact::SettlementEnded { settlement: id, action, settled });
    }
}
