//! Settling: what people have done with records that were set aside. The keeper alone knows them all, and it reads their
//! notes in the order in which everything was decided; so each record is sent once, whoever asks for it how often.

use schemas::record::RecordBatchWriter;
use schemas::settle::{Action, Settle};
use schemas::{Input, Lane, StreamId, TenantId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::{Note, QuarantineKeeper, list};
use crate::ingest::OpenStream;
use crate::log::LogError;
use crate::process::ProcessError;
use crate::records;
use crate::store::{Expect, Row, Store, StoreError, Table};

/// Notes that are looked at, and records that are sent, at once.
const PAGE: usize = 1_000;
/// A batch that goes back in is cut once it has so many bytes.
const BATCH_BYTES: usize = 512 << 10;
/// Bytes of records that are read at once.
const READ_BYTES: usize = 4 << 20;

/// The note of a record that was settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledNote {
    /// The note.
    #[serde(flatten)]
    pub note: Note,
    /// What was done.
    pub action: Action,
    /// Who did it.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, in microseconds since 1970 UTC.
    pub settled_at: i64,
}

impl QuarantineKeeper {
    /// Sends the records of a settlement, and notes that they are settled; false when it is to stop before the end. A run
    /// that was broken off is done again from its first record that has no such note; what comes twice, the step has.
    pub(super) async fn settle(
        &self,
        stream: &StreamId,
        settlement: u64,
        settle: &Settle,
        at: i64,
    ) -> Result<bool, ProcessError> {
        let open = OpenStream { id: stream.clone(), partition: self.partition };
        let mut after: Option<String> = None;
        loop {
            let page = list(&*self.store, stream.tenant, Some(stream), after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let is_meant = |note: &Note| {
                let Note { position, reason, field, .. } = note;
                position.offset < settlement && settle.which.includes(position.offset, *reason, field.as_deref())
            };
            let meant = page.into_iter().filter(|(_, note)| is_meant(note)).collect();
            let meant = self.unsettled(stream.tenant, meant).await?;
            let offsets: Vec<u64> = meant.iter().map(|(_, note)| note.position.offset).collect();
            let sent = match settle.action {
                Action::Retry => self.send_again(&open, settlement, &offsets).await,
                Action::Discard => self.give_up(&open, settlement, offsets).await,
            };
            match sent {
                // Nobody is left whose records these are.
                Err(LogError::Forgotten) => return Ok(true),
                sent => sent?,
            }
            self.note_settled(stream.tenant, meant, settle, at).await?;
            if self.is_stopping() {
                return Ok(false);
            }
        }
        match self.ingest.send(&open, &[Input::SettlementEnded { settlement }]).await {
            Ok(_) | Err(LogError::Forgotten) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn send_again(&self, open: &OpenStream, settlement: u64, offsets: &[u64]) -> Result<(), LogError> {
        let lane = Lane(xxh3_128(format!("settle\n{}\n{}\n{settlement}", open.id.tenant, open.id).as_bytes()));
        let new = |after| RecordBatchWriter::new(lane, after, BATCH_BYTES);
        let cursor = settlement.to_be_bytes();
        let mut writer = new(0);
        let mut left = offsets;
        while !left.is_empty() {
            for record in records::next(&*self.log, self.partition, &mut left, READ_BYTES).await? {
                writer.push_from(&record.record(record.offset + 1), Some(record.origin));
                if writer.bytes() >= BATCH_BYTES {
                    let full = std::mem::replace(&mut writer, new(record.offset + 1));
                    self.ingest.append_again(open, full.finish(&cursor)).await?;
                }
            }
        }
        match writer.count() {
            0 => Ok(()),
            _ => self.ingest.append_again(open, writer.finish(&cursor)).await.map(|_| ()),
        }
    }

    async fn give_up(&self, open: &OpenStream, settlement: u64, offsets: Vec<u64>) -> Result<(), LogError> {
        if offsets.is_empty() {
            return Ok(());
        }
        self.ingest.send(open, &[Input::Discarded { settlement, offsets }]).await.map(|_| ())
    }

    /// The notes without those that were settled before: by a run that was broken off, or because a stale keeper has written
    /// one of them again.
    async fn unsettled(&self, tenant: TenantId, notes: Vec<(String, Note)>) -> Result<Vec<(String, Note)>, StoreError> {
        let mut unsettled = Vec::with_capacity(notes.len());
        for (key, note) in notes {
            match self.store.get(tenant, Table::Settled, &key).await? {
                Some(_) => self.store.delete(tenant, Table::Quarantine, &key, Expect::Any).await?,
                None => unsettled.push((key, note)),
            }
        }
        Ok(unsettled)
    }

    async fn note_settled(
        &self,
        tenant: TenantId,
        meant: Vec<(String, Note)>,
        settle: &Settle,
        settled_at: i64,
    ) -> Result<(), StoreError> {
        for (key, note) in meant {
            let Settle { action, by, why, .. } = settle.clone();
            let settled = SettledNote { note, action, by, why, settled_at };
            let value = serde_json::to_vec(&settled).expect("a note has only text keys");
            self.store.put(tenant, Table::Settled, &key, value.into(), Expect::Any).await?;
            self.store.delete(tenant, Table::Quarantine, &key, Expect::Any).await?;
        }
        Ok(())
    }
}

/// A tenant's settled notes, of one stream or all, from the first after `after` on.
pub async fn list_settled(
    store: &dyn Store,
    tenant: TenantId,
    stream: Option<&StreamId>,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, SettledNote)>, StoreError> {
    let prefix = stream.map_or_else(String::new, |s| format!("{s}/"));
    let rows = store.scan(tenant, Table::Settled, &prefix, after, limit).await?;
    rows.into_iter().map(|(key, row)| read_settled(&key, &row).map(|note| (key, note))).collect()
}

pub(super) fn read_settled(key: &str, row: &Row) -> Result<SettledNote, StoreError> {
    serde_json::from_slice(&row.value).map_err(|e| StoreError::Unreadable(format!("the settled note {key}: {e}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::input::Command;
    use schemas::reason::Reason;
    use schemas::settle::Which;
    use schemas::{Batch, Topic};

    use super::*;
    use crate::log::{Durability, Log};
    use crate::process::read_state;
    use crate::step::Counters;
    use crate::testing::{ENTITY, Fuse, Fused, Line, MAPPING, TENANT, record, stream};

    /// Fields that say "lots" for a number are set aside until the mapping reads another one.
    fn lots(id: u64) -> String {
        format!(r#"{{"Id":"{id}","Updated":"2024-01-01","Total":"lots","Sum":{id}}}"#)
    }

    async fn broken() -> (Line, OpenStream) {
        let line = Line::new();
        let open = line.open("orders", MAPPING, ENTITY).await;
        let payloads: Vec<String> = (0..10).map(lots).chain(["[]".into(), "broken".into()]).collect();
        line.append(&open, 1, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
        line.append(&open, 2, 0, &[&record(50)]).await;
        (line, open)
    }

    async fn settle_with(line: &Line, open: &OpenStream, id: &str, action: Action, which: Which) {
        let settle = Settle { action, which, by: "ada".into(), why: "the vendor told us".into() };
        let input = Input::Command { id: id.into(), command: Command::Settle(settle) };
        line.ingest().send(open, &[input]).await.unwrap();
    }

    /// Processes and keeps until nothing moves any more.
    async fn rest(line: &Line) {
        loop {
            let end = line.log.end(Topic::Inputs, 0).await.unwrap();
            line.process().await;
            let keeper = QuarantineKeeper::start(line.log.clone(), line.store.clone(), 0).await;
            keeper.unwrap().0.drain().await.unwrap();
            if line.log.end(Topic::Inputs, 0).await.unwrap() == end {
                return;
            }
        }
    }

    async fn counters(line: &Line) -> Counters {
        let counters = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap().counters;
        assert_eq!(counters.taken, counters.fates(), "{counters:?}");
        counters
    }

    async fn waiting(line: &Line) -> Vec<Note> {
        let notes = list(&*line.store, TENANT, None, None, 100).await.unwrap();
        notes.into_iter().map(|(_, note)| note).collect()
    }

    fn by_reason(reason: Reason) -> Which {
        Which { reason: Some(reason), ..Which::default() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn records_that_were_set_aside_come_again_by_another_mapping_and_each_has_one_fate() {
        let (line, open) = broken().await;
        rest(&line).await;
        assert_eq!((counters(&line).await.quarantined, waiting(&line).await.len()), (12, 12));
        settle_with(&line, &open, "a", Action::Retry, by_reason(Reason::CastFailed)).await;
        rest(&line).await;
        assert_eq!(counters(&line).await.quarantined, 12, "the mapping is the same: they are set aside again");
        line.open("orders", &MAPPING.replace("\"Total\"", "\"Sum | Total\""), ENTITY).await;
        settle_with(&line, &open, "b", Action::Retry, by_reason(Reason::CastFailed)).await;
        settle_with(&line, &open, "c", Action::Retry, Which::default()).await;
        rest(&line).await;
        let found = counters(&line).await;
        assert_eq!((found.taken, found.accepted, found.quarantined), (13, 11, 2));
        assert_eq!(line.visible().await, 11);
        let left: Vec<Reason> = waiting(&line).await.into_iter().map(|note| note.reason).collect();
        assert_eq!(left, [Reason::NotAnObject, Reason::MalformedJson], "and again those that nothing helps");
        let settled = list_settled(&*line.store, TENANT, Some(&stream("orders")), None, 100).await.unwrap();
        assert_eq!(settled.len(), 10 + 10 + 2);
        let first = &settled[0].1;
        assert_eq!((first.action, &*first.by, &*first.why), (Action::Retry, "ada", "the vendor told us"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_given_up_is_counted_and_named_and_keeps_its_bytes() {
        let (line, open) = broken().await;
        rest(&line).await;
        let one = waiting(&line).await.remove(0);
        let which = Which { offsets: vec![one.position.offset, 9_999], ..Which::default() };
        settle_with(&line, &open, "a", Action::Discard, which).await;
        settle_with(&line, &open, "b", Action::Discard, by_reason(Reason::CastFailed)).await;
        settle_with(&line, &open, "c", Action::Discard, by_reason(Reason::CastFailed)).await;
        rest(&line).await;
        let found = counters(&line).await;
        assert_eq!((found.discarded, found.quarantined), (10, 2));
        let discarded = line.facts().await.into_iter().filter(|(_, fact)| *fact == "RecordDiscarded").count();
        assert_eq!(discarded, 10);
        let known = super::super::find(&*line.store, TENANT, one.position).await.unwrap().unwrap();
        assert!(super::super::payload(&*line.log, &known).await.unwrap().is_some());
        settle_with(&line, &open, "d", Action::Retry, by_reason(Reason::CastFailed)).await;
        rest(&line).await;
        assert_eq!(counters(&line).await.discarded, 10, "given up is given up");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn neither_a_run_that_stands_twice_nor_a_stale_keeper_brings_back_what_was_settled() {
        let (line, open) = broken().await;
        rest(&line).await;
        let (one, before) = (waiting(&line).await.remove(0), line.log.read(Topic::Decisions, 0, 0, usize::MAX).await);
        settle_with(&line, &open, "a", Action::Discard, by_reason(Reason::CastFailed)).await;
        rest(&line).await;
        assert_eq!(waiting(&line).await.len(), 2);
        // What a processor that was stopped in between puts on the log once it goes on.
        for stored in before.unwrap() {
            let body = stored.body(Topic::Decisions, 0).unwrap().unwrap();
            let batch = Batch { header: stored.header().clone(), body };
            line.log.append(Topic::Decisions, 0, vec![batch], Durability::Ordered).await.unwrap();
        }
        rest(&line).await;
        assert_eq!(waiting(&line).await.len(), 2);
        // What a keeper that was stopped writes at the worst moment.
        let (key, value) = (super::super::key_of(&one.stream, one.position.offset), serde_json::to_vec(&one).unwrap());
        line.store.put(TENANT, Table::Quarantine, &key, value.into(), Expect::Any).await.unwrap();
        settle_with(&line, &open, "b", Action::Retry, Which::default()).await;
        rest(&line).await;
        let found = counters(&line).await;
        assert_eq!((found.discarded, found.quarantined, found.accepted), (10, 2, 1));
        assert_eq!(waiting(&line).await.len(), 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn wherever_the_keeper_dies_each_record_is_settled_once() {
        for action in [Action::Retry, Action::Discard] {
            let mut writes = 0;
            loop {
                let (line, open) = broken().await;
                rest(&line).await;
                line.open("orders", &MAPPING.replace("\"Total\"", "\"Sum | Total\""), ENTITY).await;
                settle_with(&line, &open, "a", action, by_reason(Reason::CastFailed)).await;
                line.process().await;
                let fuse = Fuse::crash(writes);
                let log = Arc::new(Fused { fuse: fuse.clone(), inner: line.log.clone() });
                let store = Arc::new(Fused { fuse: fuse.clone(), inner: line.store.clone() });
                if let Ok((mut keeper, _)) = QuarantineKeeper::start(log, store, 0).await {
                    _ = keeper.drain().await;
                }
                rest(&line).await;
                let found = counters(&line).await;
                let fates = (found.accepted + found.discarded, found.quarantined);
                assert_eq!(fates, (11, 2), "{action:?}, it died at write {writes}: {found:?}");
                let ended = line.facts().await.into_iter().filter(|(_, fact)| *fact == "SettlementEnded").count();
                assert_eq!(ended, 1, "{action:?}, it died at write {writes}");
                if !fuse.has_blown() {
                    assert!(writes > 10, "{writes} writes");
                    break;
                }
                writes += 1;
            }
        }
    }
}
