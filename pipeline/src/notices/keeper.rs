//! The keeper of notices: reads one partition of `decisions`, and notes for every webhook what it is to be told.

use std::sync::Arc;

use schemas::{BatchKind, Position, StreamId};
use tokio::sync::watch;

use super::{Notice, Topic, Webhook, put_notice, webhooks};
use crate::log::{Log, Stored};
use crate::process::{Checkpoint, Mark, ProcessError, RETRY_AFTER, Stall, decode_decisions, stream_of};
use crate::store::Store;

const READ_BYTES: usize = 1 << 20;
pub(crate) const READER: &str = "notices";

/// Reads one partition of `decisions` and keeps the notices.
pub struct NoticeKeeper {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    partition: u32,
    checkpoint: Checkpoint,
    kept: watch::Sender<u64>,
    stall: Stall,
}

impl NoticeKeeper {
    /// A keeper of `partition`, at its checkpoint, and a view on how far it is.
    pub async fn start(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        partition: u32,
    ) -> Result<(Self, watch::Receiver<u64>), ProcessError> {
        let topic = schemas::Topic::Decisions;
        let checkpoint = Checkpoint::read(&*log, &*store, topic, partition, READER).await?;
        let (kept, watcher) = watch::channel(checkpoint.offset());
        Ok((Self { log, store, partition, checkpoint, kept, stall: Stall::new(None) }, watcher))
    }

    /// Why it does not get on, as long as it does not.
    pub fn stall(&self) -> watch::Receiver<Option<String>> {
        self.stall.subscribe()
    }

    /// Keeps notices until `shutdown` says true.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), ProcessError> {
        let topic = schemas::Topic::Decisions;
        loop {
            match self.drain().await {
                Ok(()) => {}
                // What was not noted is noted again: a notice has one key.
                Err(error) if error.is_retryable() => {
                    self.stall.send_replace(Some(error.to_string()));
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                waited = self.log.wait_beyond(topic, self.partition, self.checkpoint.offset()) => waited?,
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// Keeps every notice that is there.
    pub async fn drain(&mut self) -> Result<(), ProcessError> {
        loop {
            let next = self.checkpoint.offset();
            let batches = self.log.read(schemas::Topic::Decisions, self.partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else { return Ok(()) };
            let mut mark = self.checkpoint.mark();
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Decisions) {
                self.keep(stored, &mut mark).await?;
            }
            self.checkpoint.write_with(&*self.store, end, mark).await?;
            self.kept.send_replace(end);
            self.stall.send_if_modified(|stall| stall.take().is_some());
        }
    }

    async fn keep(&self, stored: &Stored, mark: &mut Mark) -> Result<(), ProcessError> {
        let header = stored.header();
        let subject = || ProcessError::Subject { offset: stored.first, subject: header.subject.clone() };
        let stream = stream_of(header).ok_or_else(subject)?;
        let Some(body) = stored.body(schemas::Topic::Decisions, self.partition)? else { return Ok(()) };
        let mut decisions = decode_decisions(&body)
            .map_err(|e| ProcessError::State { stream: stream.to_string(), message: e.to_string() })?;
        decisions.retain(|decision| mark.take(decision));
        let told: Vec<_> = decisions.iter().filter_map(|d| Some((d, Topic::of(&d.fact)?))).collect();
        if told.is_empty() {
            return Ok(());
        }
        let hooks = webhooks(&*self.store, stream.tenant).await?;
        let epoch = self.log.epoch(schemas::Topic::Inputs);
        for (decision, (topic, case)) in told {
            let case = Position { epoch, partition: self.partition, offset: case };
            for (id, _) in hooks.iter().filter(|(_, hook)| is_told(hook, topic, &stream, header.logged_at)) {
                // A run that stands twice has the same places.
                let key = format!("{:05}:{:020}.{:05}", self.partition, decision.input_offset, decision.ordinal);
                let (stream_name, case, at) = (stream.to_string(), Some(case), header.logged_at);
                let notice = Notice { topic, stream: stream_name, case, at, tries: 0, due: at };
                put_notice(&*self.store, stream.tenant, id, &key, &notice).await?;
            }
        }
        Ok(())
    }
}

fn is_told(hook: &Webhook, topic: Topic, stream: &StreamId, at: i64) -> bool {
    let is_meant = hook.connections.is_empty() || hook.connections.iter().any(|c| c == stream.connection.as_str());
    is_meant && hook.topics.contains(&topic) && at >= hook.since
}

#[cfg(test)]
mod tests {
    use super::super::{Fared, Form, notices, waiting};
    use super::*;
    use crate::store::Expect;
    use crate::testing::{ENTITY, Fuse, Fused, Line, MAPPING, TENANT, stream};

    fn hook(topics: &[Topic], connections: &[&str], since: i64) -> Webhook {
        Webhook {
            form: Form::Event,
            url: "https://example.com".into(),
            secret: String::new(),
            topics: topics.to_vec(),
            connections: connections.iter().map(|c| (*c).to_owned()).collect(),
            paused: false,
            by: "ada".into(),
            since,
            fared: Fared::default(),
        }
    }

    /// A line with one case, and webhooks that were there before it.
    async fn drifted(hooks: &[(&str, Webhook)]) -> Line {
        let line = Line::new();
        for (id, hook) in hooks {
            super::super::put_webhook(&*line.store, TENANT, id, hook, Expect::Absent).await.unwrap();
        }
        let open = line.open("orders", MAPPING, ENTITY).await;
        let record = |id: usize, name: &str| format!(r#"{{"Id":"{id}","Updated":"2024-01-01","{name}":1}}"#);
        let payloads: Vec<String> =
            (0..50).map(|id| record(id, "Total")).chain((50..90).map(|id| record(id, "Zz"))).collect();
        line.append(&open, 1, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
        line.process().await;
        line
    }

    async fn keep(line: &Line) {
        let keeper = NoticeKeeper::start(line.log.clone(), line.store.clone(), 0).await;
        keeper.unwrap().0.drain().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_webhook_is_told_what_it_chose_of_its_connections_and_of_its_time() {
        let line = drifted(&[
            ("all", hook(&Topic::CHOICE, &[], 0)),
            ("mine", hook(&Topic::USUAL, &["crm"], 0)),
            ("other", hook(&Topic::USUAL, &["erp"], 0)),
            ("late", hook(&Topic::USUAL, &[], i64::MAX)),
            ("quiet", hook(&[Topic::Expired], &[], 0)),
        ])
        .await;
        keep(&line).await;
        for (id, expected) in [("all", 1), ("mine", 1), ("other", 0), ("late", 0), ("quiet", 0)] {
            let found = notices(&*line.store, TENANT, id, None, 9).await.unwrap();
            assert_eq!(found.len(), expected, "{id}");
            if let Some((_, notice)) = found.first() {
                assert_eq!((notice.topic, &*notice.stream), (Topic::Opened, "crm/orders"));
                assert_eq!(notice.case.map(|case| case.partition), Some(0));
            }
        }
        assert_eq!(waiting(&*line.store).await.unwrap(), [(TENANT, "all".into()), (TENANT, "mine".into())]);
        assert_eq!(stream("orders").to_string(), "crm/orders");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn wherever_the_keeper_dies_each_notice_is_noted_once() {
        let mut writes = 0;
        loop {
            let line = drifted(&[("a", hook(&Topic::USUAL, &[], 0)), ("b", hook(&Topic::USUAL, &[], 0))]).await;
            let fuse = Fuse::crash(writes);
            let store = Arc::new(Fused { fuse: fuse.clone(), inner: line.store.clone() });
            let (mut keeper, _) = NoticeKeeper::start(line.log.clone(), store, 0).await.unwrap();
            _ = keeper.drain().await;
            keep(&line).await;
            for id in ["a", "b"] {
                assert_eq!(notices(&*line.store, TENANT, id, None, 9).await.unwrap().len(), 1, "{writes}");
            }
            if !fuse.has_blown() {
                assert!(writes >= 5, "{writes} writes");
                return;
            }
            writes += 1;
        }
    }
}
