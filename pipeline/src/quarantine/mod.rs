//! Quarantine: what was set aside, and why. The notes are rows of `Store`; the bytes stay where they are on `inputs`. `foreign`
//! is what stands on the log's topics and is none of the line's.

mod foreign;
mod settling;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use schemas::decision::Fact;
use schemas::reason::{QuarantineStage, Reason};
use schemas::{BatchKind, Decision, Lane, Position, StreamId, TenantId, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::ingest::Ingest;
use crate::log::{Log, LogError, Stored};
use crate::process::{Checkpoint, Mark, ProcessError, RETRY_AFTER, Stall, decode_decisions, stream_of};
use crate::records;
use crate::store::{Expect, Row, Store, StoreError, Table};

const READ_BYTES: usize = 1 << 20;
pub(crate) const READER: &str = "quarantine";
/// Notes written without waiting for one another.
const NOTES_AT_ONCE: usize = 256;
/// Streams looked at without reading more of them.
const STREAMS_AT_ONCE: usize = 64;

pub use foreign::{ForeignNote, list_foreign, note_foreign, see_foreign, watch_foreign};
pub use settling::{SettledNote, list_settled};

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
    ingest: Ingest,
    partition: u32,
    checkpoint: Checkpoint,
    kept: watch::Sender<u64>,
    stop: Option<watch::Receiver<bool>>,
    stall: Stall,
}

impl QuarantineKeeper {
    /// A keeper of `partition`, at its checkpoint, and a view on how far it is.
    pub async fn start(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        partition: u32,
    ) -> Result<(Self, watch::Receiver<u64>), ProcessError> {
        let checkpoint = Checkpoint::read(&*log, &*store, Topic::Decisions, partition, READER).await?;
        let (kept, watcher) = watch::channel(checkpoint.offset());
        let ingest = Ingest::new(log.clone(), store.clone());
        let (stop, stall) = (None, Stall::new(None));
        Ok((Self { log, store, ingest, partition, checkpoint, kept, stop, stall }, watcher))
    }

    /// Why it does not get on, as long as it does not.
    pub fn stall(&self) -> watch::Receiver<Option<String>> {
        self.stall.subscribe()
    }

    /// Keeps notes until `shutdown` says true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), ProcessError> {
        self.stop = Some(shutdown.clone());
        loop {
            match self.drain().await {
                Ok(()) => {}
                // What was not noted is kept again: a note replaces itself.
                Err(error) if error.is_retryable() => {
                    self.stall.send_replace(Some(error.to_string()));
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                waited = self.log.wait_beyond(Topic::Decisions, self.partition, self.checkpoint.offset()) => waited?,
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// Keeps every note that is there.
    pub async fn drain(&mut self) -> Result<(), ProcessError> {
        loop {
            let next = self.checkpoint.offset();
            let batches = self.log.read(Topic::Decisions, self.partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else { return Ok(()) };
            let mut mark = self.checkpoint.mark();
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Decisions) {
                if !self.keep(stored, &mut mark).await? {
                    return Ok(());
                }
            }
            note_foreign(&*self.log, &*self.store, Topic::Decisions, self.partition).await?;
            self.checkpoint.write_with(&*self.store, end, mark).await?;
            self.kept.send_replace(end);
            self.stall.send_if_modified(|stall| stall.take().is_some());
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| *stop.borrow())
    }

    /// Keeps the notes of a batch, and does what it says of them; false when it is to stop before the end.
    async fn keep(&self, stored: &Stored, mark: &mut Mark) -> Result<bool, ProcessError> {
        let header = stored.header();
        let subject = || ProcessError::Subject { offset: stored.first, subject: header.subject.clone() };
        let stream = stream_of(header).ok_or_else(subject)?;
        let Some(body) = stored.body(Topic::Decisions, self.partition)? else { return Ok(true) };
        let mut decisions = decode_decisions(&body)
            .map_err(|e| ProcessError::State { stream: stream.to_string(), message: e.to_string() })?;
        // A note of a run that stands twice must not come back once its record is settled.
        decisions.retain(|decision| mark.take(decision));
        // What is settled stands alone in its batch, and behind the notes of what it is about.
        for decision in &decisions {
            if let Fact::SettlementBegun { settlement, settle } = &decision.fact
                && !self.settle(&stream, *settlement, settle, header.logged_at).await?
            {
                return Ok(false);
            }
        }
        let notes = decisions.into_iter().filter_map(|decision| self.note(&stream, header.logged_at, decision));
        let notes: Vec<Note> = notes.collect();
        for some in notes.chunks(NOTES_AT_ONCE) {
            let puts = some.iter().map(|note| {
                let value = serde_json::to_vec(note).expect("a note has only text keys");
                let key = key_of(&note.stream, note.position.offset);
                async move { self.store.put(stream.tenant, Table::Quarantine, &key, value.into(), Expect::Any).await }
            });
            try_join_all(puts).await?;
        }
        Ok(true)
    }

    fn note(&self, stream: &StreamId, logged_at: i64, decision: Decision) -> Option<Note> {
        let Fact::RecordQuarantined { reason, stage, field, detail, lane, lane_ordinal } = decision.fact else {
            return None;
        };
        let epoch = self.log.epoch(Topic::Inputs);
        let position = Position { epoch, partition: self.partition, offset: decision.input_offset };
        Some(Note { position, stream: stream.to_string(), reason, stage, field, detail, lane, lane_ordinal, logged_at })
    }
}

fn key_of(stream: &str, offset: u64) -> String {
    format!("{stream}/{offset:020}")
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
    rows.into_iter().map(|(key, row)| read(&key, &row).map(|note| (key, note))).collect()
}

fn read(key: &str, row: &Row) -> Result<Note, StoreError> {
    serde_json::from_slice(&row.value).map_err(|e| StoreError::Unreadable(format!("the quarantine note {key}: {e}")))
}

/// One note of a tenant, settled or not, by its position on `inputs`: it is looked for in each of the tenant's streams.
pub async fn find(store: &dyn Store, tenant: TenantId, position: Position) -> Result<Option<Note>, StoreError> {
    let mut after: Option<String> = None;
    loop {
        let streams = store.scan(tenant, Table::StreamStates, "", after.as_deref(), STREAMS_AT_ONCE).await?;
        let Some((last, _)) = streams.last() else { return Ok(None) };
        after = Some(last.clone());
        for (stream, _) in &streams {
            let key = key_of(stream, position.offset);
            let note = match store.get(tenant, Table::Quarantine, &key).await? {
                Some(row) => Some(read(&key, &row)?),
                None => settled(store, tenant, &key).await?.map(|settled| settled.note),
            };
            if let Some(note) = note.filter(|note| note.position == position) {
                return Ok(Some(note));
            }
        }
    }
}

/// How the record of a note was settled, if it was.
pub async fn settled_as(store: &dyn Store, tenant: TenantId, note: &Note) -> Result<Option<SettledNote>, StoreError> {
    settled(store, tenant, &key_of(&note.stream, note.position.offset)).await
}

async fn settled(store: &dyn Store, tenant: TenantId, key: &str) -> Result<Option<SettledNote>, StoreError> {
    let row = store.get(tenant, Table::Settled, key).await?;
    row.map(|row| settling::read_settled(key, &row)).transpose()
}

/// The bytes of a quarantined record, as the connector gave them.
pub async fn payload(log: &dyn Log, note: &Note) -> Result<Option<Bytes>, LogError> {
    let Position { partition, offset, .. } = note.position;
    Ok(records::at(log, partition, &[offset]).await?.pop().map(|record| record.payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ENTITY, Fuse, Fused, Line, MAPPING, TENANT, record, stream};

    async fn keep(line: &Line) {
        let (mut keeper, _) = QuarantineKeeper::start(line.log.clone(), line.store.clone(), 0).await.unwrap();
        keeper.drain().await.unwrap();
    }

    async fn broken_line() -> Line {
        let line = Line::new();
        for name in ["orders", "bills"] {
            let open = line.open(name, MAPPING, ENTITY).await;
            line.append(&open, 1, 0, &["broken", &record(1), "[]"]).await;
        }
        line.process().await;
        line
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_set_aside_is_listed_and_found_with_its_bytes() {
        let line = broken_line().await;
        keep(&line).await;
        let all = list(&*line.store, TENANT, None, None, 100).await.unwrap();
        assert_eq!(all.len(), 4);
        let of_one = list(&*line.store, TENANT, Some(&stream("orders")), None, 100).await.unwrap();
        let reasons: Vec<_> = of_one.iter().map(|(_, note)| (note.reason, note.lane_ordinal)).collect();
        assert_eq!(reasons, [(Reason::MalformedJson, 1), (Reason::NotAnObject, 3)]);
        for (_, note) in &all {
            let found = find(&*line.store, TENANT, note.position).await.unwrap();
            assert_eq!(found.as_ref(), Some(note));
        }
        let bytes = payload(&*line.log, &of_one[0].1).await.unwrap();
        assert_eq!(bytes.as_deref(), Some(&b"broken"[..]));
        let elsewhere = Position { epoch: 1, partition: 0, offset: 9999 };
        assert_eq!(find(&*line.store, TENANT, elsewhere).await.unwrap(), None);
        let stranger = TenantId::from_bytes([9; 16]);
        assert_eq!(find(&*line.store, stranger, all[0].1.position).await.unwrap(), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_keeper_that_died_keeps_each_note_once() {
        for writes in 0..6 {
            let line = broken_line().await;
            let store = Arc::new(Fused { fuse: Fuse::crash(writes), inner: line.store.clone() });
            let (mut keeper, _) = QuarantineKeeper::start(line.log.clone(), store, 0).await.unwrap();
            let _ = keeper.drain().await;
            keep(&line).await;
            assert_eq!(list(&*line.store, TENANT, None, None, 100).await.unwrap().len(), 4);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_note_that_cannot_be_read_is_named() {
        let line = broken_line().await;
        keep(&line).await;
        let (key, _) = list(&*line.store, TENANT, None, None, 1).await.unwrap().remove(0);
        line.store.put(TENANT, Table::Quarantine, &key, Bytes::from_static(b"{"), Expect::Any).await.unwrap();
        let refused = list(&*line.store, TENANT, None, None, 100).await.unwrap_err().to_string();
        assert!(refused.contains(&key), "{refused}");
    }
}
