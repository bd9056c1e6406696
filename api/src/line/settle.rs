//! Records that were set aside, retried or discarded by people.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use pipeline::ingest::OpenStream;
use pipeline::process::decode_decisions;
use pipeline::quarantine;
use pipeline::{Stored, Table};
use schemas::decision::Fact;
use schemas::input::Command;
use schemas::settle::{Action, Settle, Settled, Which};
use schemas::{BatchKind, Input, Position, StreamId, TenantId, Topic};

use super::{Line, Outcome};
use crate::roles::Role;

const READ_BYTES: usize = 1 << 20;
const PAGE: usize = 1_000;

/// Why somebody settles records that were set aside.
#[derive(Debug, Clone, Copy)]
pub struct Reasoned<'a> {
    /// What is done.
    pub action: Action,
    /// Who.
    pub by: &'a str,
    /// Why.
    pub why: &'a str,
}

/// Records cannot be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// There is no such record.
    #[error("nothing is in quarantine at {0}: autonomos quarantine list shows what is")]
    Unknown(Position),
    /// There is no such stream.
    #[error("there is no stream {0}: autonomos log stat shows those that there are")]
    NoStream(StreamId),
    /// It was settled before.
    #[error("the record at {position} was settled before, by {by}: {action}")]
    Settled {
        /// The record.
        position: Position,
        /// What was done.
        action: &'static str,
        /// Who did it.
        by: String,
    },
    /// The step refused.
    #[error("{0}")]
    Refused(String),
    /// The line failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl Line {
    /// Settles one record that was set aside, and waits for what becomes of it.
    pub async fn settle_one(
        &self,
        tenant: TenantId,
        position: Position,
        why: Reasoned<'_>,
    ) -> Result<Settled, SettleError> {
        self.wait_quarantined().await?;
        let note = quarantine::find(&*self.store, tenant, position).await.map_err(anyhow::Error::from)?;
        let note = note.ok_or(SettleError::Unknown(position))?;
        let settled = quarantine::settled_as(&*self.store, tenant, &note).await.map_err(anyhow::Error::from)?;
        if let Some(settled) = settled {
            let (action, by) = (settled.action.name(), settled.by);
            return Err(SettleError::Settled { position, action, by });
        }
        let (connection, stream) = note.stream.split_once('/').context("the stream of a note")?;
        let name = |e: schemas::ids::InvalidName| SettleError::Failed(e.into());
        let (connection, stream) = (connection.parse().map_err(name)?, stream.parse().map_err(name)?);
        let which = Which { offsets: vec![position.offset], ..Which::default() };
        self.settle_stream(&StreamId { tenant, connection, stream }, which, why).await
    }

    /// Settles records of a stream that were set aside by now, and waits for what becomes of them.
    pub async fn settle_stream(
        &self,
        stream: &StreamId,
        which: Which,
        why: Reasoned<'_>,
    ) -> Result<Settled, SettleError> {
        let open = self.known(stream).await?;
        let from = self.log.end(Topic::Decisions, open.partition).await.map_err(anyhow::Error::from)?;
        let id = uuid::Uuid::new_v4().to_string();
        let Reasoned { action, by, why } = why;
        let settle = Settle { action, which, by: by.to_owned(), why: why.to_owned() };
        let input = Input::Command { id: id.clone(), command: Command::Settle(settle) };
        let end = self.ingest.send(&open, &[input]).await.map_err(anyhow::Error::from)?;
        self.wait_processed(open.partition).await?;
        if let Outcome::Refused(reason) = self.outcome(&open, from, &id).await? {
            return Err(SettleError::Refused(reason));
        }
        self.wait_settling(open.partition).await?;
        self.wait_processed(open.partition).await?;
        Ok(self.settled(open.partition, from, end - 1).await?)
    }

    /// A stream that somebody opened or of which something was set aside; a note about any other would make it.
    async fn known(&self, stream: &StreamId) -> Result<OpenStream, SettleError> {
        if let Some(open) = self.ingest.find(stream).await.map_err(anyhow::Error::from)? {
            return Ok(open);
        }
        self.wait_quarantined().await?;
        let some = quarantine::list(&*self.store, stream.tenant, Some(stream), None, 1).await;
        if some.map_err(anyhow::Error::from)?.is_empty() {
            return Err(SettleError::NoStream(stream.clone()));
        }
        // What came before anybody opened the stream lies where the stream will.
        let partitions = u64::from(self.log.partitions(Topic::Inputs));
        let partition = (stream.hash() % partitions) as u32;
        Ok(OpenStream { id: stream.clone(), partition })
    }

    /// Settles records of all streams of a tenant that were set aside by now; answers what became of them by stream.
    pub async fn settle_all(
        &self,
        tenant: TenantId,
        which: &Which,
        why: Reasoned<'_>,
    ) -> Result<BTreeMap<String, Settled>, SettleError> {
        self.wait_quarantined().await?;
        let mut all = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.scan(tenant, Table::StreamStates, "", after.as_deref(), PAGE).await;
            let rows = rows.map_err(anyhow::Error::from)?;
            let Some((last, _)) = rows.last() else { return Ok(all) };
            after = Some(last.clone());
            for (name, _) in rows {
                let Some((connection, stream)) = name.split_once('/') else { continue };
                let (Ok(connection), Ok(stream)) = (connection.parse(), stream.parse()) else { continue };
                let stream = StreamId { tenant, connection, stream };
                let some = quarantine::list(&*self.store, tenant, Some(&stream), None, 1).await;
                if !some.map_err(anyhow::Error::from)?.is_empty() {
                    let settled = self.settle_stream(&stream, which.clone(), why).await?;
                    if settled.records > 0 {
                        all.insert(name, settled);
                    }
                }
            }
        }
    }

    /// Waits until what the decisions say by now of records that were set aside is done.
    async fn wait_settling(&self, partition: u32) -> anyhow::Result<()> {
        let end = self.log.end(Topic::Decisions, partition).await?;
        let mut kept = self.roles.kept[partition as usize].clone();
        let is_kept = async move { kept.wait_for(|next| *next >= end).await.map(|_| ()) };
        self.or_failure(Role::QuarantineKeeper(partition), is_kept).await
    }

    /// What became of a settlement whose end stands at or behind `from`.
    async fn settled(&self, partition: u32, from: u64, settlement: u64) -> anyhow::Result<Settled> {
        let mut next = from;
        loop {
            let batches = self.log.read(Topic::Decisions, partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else {
                bail!("the end of settlement {settlement} is not on the log")
            };
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Decisions) {
                let Some(body) = stored.body(Topic::Decisions, partition)? else { continue };
                for decision in decode_decisions(&body)? {
                    match decision.fact {
                        Fact::SettlementEnded { settlement: of, settled, .. } if of == settlement => {
                            return Ok(settled);
                        }
                        _ => {}
                    }
                }
            }
            next = end;
        }
    }
}
