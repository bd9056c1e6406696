//! Quarantine: what was set aside, and why. The notes are rows of `Store`; the bytes stay where they are on `inputs`.

use std::sync::Arc;

use bytes::Bytes;
use schemas::decision::Fact;
use schemas::reason::{QuarantineStage, Reason};
use schemas::record::RecordBatchReader;
use schemas::{BatchKind, Lane, Position, StreamId, TenantId, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::log::{Log, LogError, Stored};
use crate::process::{ProcessError, RETRY_AFTER, decode_decisions, read_checkpoint, stream_of, write_checkpoint};
use crate::store::{Expect, Store, StoreError, Table};

const READ_BYTES: usize = 1 << 20;
const READER: &str = "quarantine";

/// A quarantined record's note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Where its bytes are on `inputs`.
    pub position: Position,
    /// Its stream: `connection/stream`.
    pub stream: String,
    /// Why, as a stable code.
    pub reason: Reason,
    /// Where on the line.
    pub stage: QuarantineStage,
    /// The field or path concerned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// What exactly was wrong.
    pub detail: String,
    /// The lane that it came in.
    pub lane: Lane,
    /// Its place in that lane, for a file the row's number.
    pub lane_ordinal: u64,
    /// When the log took it, in microseconds since 1970 UTC.
    pub logged_at: i64,
}

/// Reads one partition of `decisions` and keeps the notes.
pub struct QuarantineKeeper {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    partition: u32,
    next: u64,
    kept: watch::Sender<u64>,
}

impl QuarantineKeeper {
    /// A keeper of `partition`, at its checkpoint, and a view on how far it is.
    pub async fn start(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        partition: u32,
    ) -> Result<(Self, watch::Receiver<u64>), StoreError> {
        let next = read_checkpoint(&*store, Topic::Decisions, partition, READER).await?;
        let (kept, watcher) = watch::channel(next);
        Ok((Self { log, store, partition, next, kept }, watcher))
    }

    /// Keeps notes until `shutdown` says true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), ProcessError> {
        loop {
            match self.drain().await {
                Ok(()) => {}
                // What was not noted is kept again: a note replaces itself.
                Err(error) if error.is_retryable() => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error),
            }
            tokio::select! {
                waited = self.log.wait_beyond(Topic::Decisions, self.partition, self.next) => waited?,
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// Keeps every note that is there.
    pub async fn drain(&mut self) -> Result<(), ProcessError> {
        loop {
            let batches = self.log.read(Topic::Decisions, self.partition, self.next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else { return Ok(()) };
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Decisions) {
                self.keep(stored).await?;
            }
            self.next = end;
            write_checkpoint(&*self.store, Topic::Decisions, self.partition, READER, end).await?;
            self.kept.send_replace(end);
        }
    }

    async fn keep(&self, stored: &Stored) -> Result<(), ProcessError> {
        let header = stored.header();
        let subject = || ProcessError::Subject { offset: stored.first, subject: header.subject.clone() };
        let stream = stream_of(header).ok_or_else(subject)?;
        let body = stored.body(Topic::Decisions, self.partition)?;
        let decisions = decode_decisions(&body)
            .map_err(|e| ProcessError::State { stream: stream.to_string(), message: e.to_string() })?;
        for decision in decisions {
            let Fact::RecordQuarantined { reason, stage, field, detail, lane, lane_ordinal } = decision.fact else {
                continue;
            };
            let epoch = self.log.epoch(Topic::Inputs);
            let position = Position { epoch, partition: self.partition, offset: decision.input_offset };
            let (name, logged_at) = (stream.to_string(), header.logged_at);
            let note = Note { position, stream: name, reason, stage, field, detail, lane, lane_ordinal, logged_at };
            let value = serde_json::to_vec(&note).expect("a note has only text keys");
            let key = format!("{}/{:020}", note.stream, decision.input_offset);
            self.store.put(stream.tenant, Table::Quarantine, &key, value.into(), Expect::Any).await?;
        }
        Ok(())
    }
}

/// A tenant's notes, of one stream or all, from the first after `after` on.
pub async fn list(
    store: &dyn Store,
    tenant: TenantId,
    stream: Option<&StreamId>,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Note)>, StoreError> {
    let prefix = stream.map_or_else(String::new, |s| format!("{s}/"));
    let rows = store.scan(tenant, Table::Quarantine, &prefix, after, limit).await?;
    Ok(rows.into_iter().filter_map(|(key, row)| Some((key, serde_json::from_slice(&row.value).ok()?))).collect())
}

/// One note of a tenant, by its position on `inputs`.
pub async fn find(store: &dyn Store, tenant: TenantId, position: Position) -> Result<Option<Note>, StoreError> {
    let suffix = format!("/{:020}", position.offset);
    let mut after: Option<String> = None;
    loop {
        let rows = list(store, tenant, None, after.as_deref(), 1000).await?;
        let Some((last, _)) = rows.last() else { return Ok(None) };
        after = Some(last.clone());
        if let Some((_, note)) = rows.into_iter().find(|(k, n)| k.ends_with(&suffix) && n.position == position) {
            return Ok(Some(note));
        }
    }
}

/// The bytes of a quarantined record, as the connector gave them.
pub async fn payload(log: &dyn Log, note: &Note) -> Result<Option<Bytes>, LogError> {
    let Position { partition, offset, .. } = note.position;
    for stored in log.read(Topic::Inputs, partition, offset, 1).await? {
        let body = stored.body(Topic::Inputs, partition)?;
        let Ok(mut reader) = RecordBatchReader::new(&body) else { continue };
        for at in stored.first..stored.end() {
            match reader.next_record() {
                Ok(Some(record)) if at == offset => return Ok(Some(Bytes::copy_from_slice(record.payload))),
                Ok(Some(_)) => {}
                _ => break,
            }
        }
    }
    Ok(None)
}
