//! Calls: what a decision calls for, and doing it.

use schemas::decision::Fact;
use schemas::{Decision, StreamId};

use super::Repairer;
use super::cases::{self, key_of};
use super::redrive::Redrive;
use super::revert::Revert;
use super::timers::Timer;
use crate::process::ProcessError;
use crate::step::is_still_read;
use crate::store::Table;

/// What a decision calls for.
pub(super) enum Call {
    Suggest(u64),
    Redrive(u64),
    Revert(Revert),
    Time(Timer),
    /// A case still waits: it should not wait for records that were sent.
    EndRecalls(u64),
    /// A command was refused, which the register is to know if it was to put a mapping in force.
    Refused {
        id: String,
        /// Because records are looked at again: no case should wait for those that were sent.
        is_still_read: bool,
    },
    /// Another mapping is in force: what was suggested for the open cases was made on a former one.
    Again,
}

impl Repairer {
    pub(super) async fn answer(
        &mut self,
        stream: &StreamId,
        offset: u64,
        call: Call,
        end: u64,
    ) -> Result<bool, ProcessError> {
        match call {
            Call::Time(timer) => self.timers.set(&*self.store, timer).await?,
            Call::Suggest(case) => return self.suggest(stream, offset, Some(case)).await,
            Call::Revert(revert) => {
                let open = self.open(stream);
                return self.revert(&open, offset, &revert).await;
            }
            Call::EndRecalls(only) => return self.end_recalls(&self.open(stream), offset, Some(only)).await,
            Call::Refused { id, is_still_read } => {
                let open = self.open(stream);
                self.ingest.refused(&open, &id).await?;
                if is_still_read {
                    return self.end_recalls(&open, offset, None).await;
                }
            }
            Call::Again => return self.suggest(stream, offset, None).await,
            Call::Redrive(case) => {
                let key = key_of(&stream.to_string(), case);
                let row = self.store.get(stream.tenant, Table::Cases, &key).await?;
                // What is forgotten was re-driven to its end.
                let Some(row) = row else { return Ok(true) };
                let from = cases::read(&key, &row)?.first;
                return self.redrive(&Redrive { open: self.open(stream), case, from, to: end, until: offset }).await;
            }
        }
        Ok(true)
    }
}

/// What a decision calls for.
pub(super) fn call(stream: &StreamId, decision: &Decision) -> Option<Call> {
    match &decision.fact {
        Fact::TimerSet { id, at } => Some(Call::Time(Timer { stream: stream.clone(), id: id.clone(), at: *at })),
        Fact::DriftDetected { case, .. } => Some(Call::Suggest(*case)),
        // Of one that was rejected, or has expired, nobody is reminded any more.
        Fact::CaseReminded { case } | Fact::RepairRejected { case, .. } => Some(Call::EndRecalls(*case)),
        Fact::CommandRefused { id, reason } => {
            Some(Call::Refused { id: id.clone(), is_still_read: is_still_read(reason) })
        }
        Fact::MappingActivated { version, .. } if *version > 1 => Some(Call::Again),
        Fact::RecordsReleased { case, count, .. } if *count > 0 => Some(Call::Redrive(*case)),
        Fact::RepairReverted { into, since, .. } => {
            let until = decision.input_offset;
            Some(Call::Revert(Revert { into: *into, since: *since, until, is_recall: false }))
        }
        Fact::RecordsRecalled { case, since, until } => {
            Some(Call::Revert(Revert { into: *case, since: *since, until: *until, is_recall: true }))
        }
        _ => None,
    }
}
