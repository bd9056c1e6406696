//! Reads the log for one reader, as fast as the reader takes it.

use std::sync::Arc;
use std::time::Duration;

use pipeline::Stored;
use schemas::stage::Stage;
use schemas::{TenantId, Topic};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use super::{Filter, Reading, Vector};
use crate::auth::secret::Seal;
use crate::auth::{Caller, Gate};
use crate::http::now;
use crate::line::{EntityFields, Item, Line, Viewed};

/// Bytes of packed batches read at once.
const READ_BYTES: usize = 256 << 10;
/// Events that wait for a reader.
const WAITING_MAX: usize = 256;
/// A reader that takes nothing for so long is let go, with its id.
const SLOW: Duration = Duration::from_secs(30);
/// Silence is broken after so long, so that both ends know of each other.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is asked whether the caller still may.
const RECHECK: Duration = Duration::from_secs(3);
/// A sample shows so many events in a tick at most.
const SAMPLE_MAX: usize = 20;
/// How often a sample is shown.
const SAMPLE_TICK: Duration = Duration::from_millis(500);

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every event, once, in the order of its partition.
    All,
    /// A few, and how many they stand for.
    Sample,
}

/// What goes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// From here on a reader goes on after this event.
    pub id: String,
    /// The event's name: a stage, `heartbeat`, `sample` or `close`.
    pub event: &'static str,
    /// What it says.
    pub data: Value,
}

/// One reader's feed.
pub struct Feed {
    line: Arc<Line>,
    gate: Gate,
    seal: Seal,
    caller: Caller,
    filter: Filter,
    mode: Mode,
    at: Vector,
    fields: EntityFields,
    to: mpsc::Sender<Sent>,
    checked: Instant,
    sample: Sample,
    viewed: broadcast::Receiver<Arc<Viewed>>,
    /// The id of the last event that waits for the reader or was taken.
    queued: String,
    slow: Duration,
}

/// What a feed waited for.
enum Woken {
    Log(Result<(), pipeline::LogError>),
    Query(Option<Arc<Viewed>>),
    Time,
}

/// Why a feed ends.
enum End {
    /// The reader went away.
    Gone,
    /// It is told why.
    Told(&'static str),
}

#[derive(Default)]
struct Sample {
    seen: u64,
    kept: Vec<Sent>,
    since: Option<Instant>,
}

impl Feed {
    /// Starts a feed from `at`; it ends when the receiver is dropped.
    #[allow(clippy::too_many_arguments)]
    pub fn start(
        line: Arc<Line>,
        gate: Gate,
        seal: Seal,
        caller: Caller,
        filter: Filter,
        mode: Mode,
        at: Vector,
    ) -> mpsc::Receiver<Sent> {
        let (feed, from) = Self::new(line, gate, seal, caller, filter, mode, at);
        tokio::spawn(feed.run());
        from
    }

    #[allow(clippy::too_many_arguments)]
    fn new(
        line: Arc<Line>,
        gate: Gate,
        seal: Seal,
        caller: Caller,
        filter: Filter,
        mode: Mode,
        at: Vector,
    ) -> (Self, mpsc::Receiver<Sent>) {
        let (to, from) = mpsc::channel(WAITING_MAX);
        let (fields, sample) = (EntityFields::default(), Sample::default());
        let (checked, viewed) = (Instant::now(), line.hear_of_views());
        let (queued, slow) = (at.to_id(&seal, caller.tenant), SLOW);
        let feed =
            Self { line, gate, seal, caller, filter, mode, at, fields, to, checked, sample, viewed, queued, slow };
        (feed, from)
    }

    async fn run(mut self) {
        let end = loop {
            match self.round().await {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(end) = self.wait().await {
                        break end;
                    }
                }
                Err(end) => break end,
            }
        };
        if let End::Told(reason) = end {
            let last = self.close(reason);
            // The queue of a slow reader is full: it gets the last word once it takes what waits, or never.
            _ = tokio::time::timeout(SLOW, self.to.send(last)).await;
        }
    }

    /// Reads each partition once; false when there was nothing anywhere.
    async fn round(&mut self) -> Result<bool, End> {
        let mut found = false;
        for (reading, partition) in self.at.partitions() {
            self.recheck().await?;
            let (topic, from) = (reading.topic(), self.at.get(reading, partition));
            let batches = self.line.log.read(topic, partition, from, READ_BYTES).await.map_err(told_log)?;
            found |= !batches.is_empty();
            for stored in batches {
                let end = stored.end();
                if stored.header().tenant == self.tenant() {
                    self.batch(reading, partition, &stored).await?;
                }
                self.at.set(reading, partition, end);
            }
        }
        while let Ok(viewed) = self.viewed.try_recv() {
            self.show_viewed(&viewed).await?;
        }
        self.show_sample().await?;
        Ok(found)
    }

    /// A query stands on no log: it is told as it happens, and not again to who resumes.
    async fn show_viewed(&mut self, viewed: &Viewed) -> Result<(), End> {
        if viewed.tenant != self.tenant() {
            return Ok(());
        }
        for (table, position) in &viewed.views {
            let entity = self.line.entity_of(viewed.tenant, table).await.map_err(|error| told(&error))?;
            if !self.filter.wants_of(Stage::Viewed, None, entity.as_deref()) {
                continue;
            }
            let mut data = json!({
                "stage": Stage::Viewed,
                "time": schemas::time::format_timestamp(viewed.at),
                "position": format!("{}/{position}", Topic::Events),
                "stream": null,
                "entity": entity,
                "item": { "query": viewed.query, "view": table },
            });
            if let Some(trace) = viewed.trace {
                data["traceparent"] = trace.to_string().into();
            }
            self.give(self.sent(name(Stage::Viewed), data)).await?;
        }
        Ok(())
    }

    async fn batch(&mut self, reading: Reading, partition: u32, stored: &Stored) -> Result<(), End> {
        if reading == Reading::Views {
            // Shown once a query would show it.
            self.line.wait_folded(partition, stored.end()).await.map_err(|error| told(&error))?;
        }
        let from = self.at.get(reading, partition).max(stored.first);
        let items = self.line.items(reading.topic(), partition, stored, from, &mut self.fields).await;
        for item in items.map_err(|error| told(&error))? {
            self.at.set(reading, partition, item.position.offset + 1);
            if item.cause.is_some_and(|cause| !self.at.tell(reading, partition, cause)) {
                continue;
            }
            let stage = match (reading, item.stage) {
                (Reading::Views, Some(Stage::Canonicalized)) => Some(Stage::Materialized),
                (Reading::Views, _) => None,
                (_, stage) => stage,
            };
            if let Some(stage) = stage.filter(|stage| self.filter.wants(*stage, &item)) {
                self.show(stage, &item).await?;
            }
        }
        Ok(())
    }

    async fn show(&mut self, stage: Stage, item: &Item) -> Result<(), End> {
        let body = match stage {
            Stage::Materialized => json!({ "key": item.body["subject"] }),
            _ => item.body.clone(),
        };
        let mut data = json!({
            "stage": stage,
            "time": schemas::time::format_timestamp(item.logged_at),
            "position": format!("{}/{}", item.topic, item.position),
            "stream": item.stream,
            "entity": item.entity,
            "item": body,
        });
        if let Some(trace) = item.trace {
            data["traceparent"] = trace.to_string().into();
        }
        self.give(self.sent(name(stage), data)).await
    }

    async fn give(&mut self, sent: Sent) -> Result<(), End> {
        match self.mode {
            Mode::All => self.send(sent).await,
            Mode::Sample => {
                self.sample.take(sent);
                Ok(())
            }
        }
    }

    async fn show_sample(&mut self) -> Result<(), End> {
        let is_due = self.sample.since.is_some_and(|since| since.elapsed() >= SAMPLE_TICK);
        if self.mode == Mode::All || !is_due {
            return Ok(());
        }
        let Sample { seen, kept, .. } = std::mem::take(&mut self.sample);
        let shown = kept.len();
        for sent in kept {
            self.send(sent).await?;
        }
        let ratio = self.sent("sample", json!({ "shown": shown, "of": seen }));
        self.send(ratio).await
    }

    async fn send(&mut self, sent: Sent) -> Result<(), End> {
        let id = sent.id.clone();
        match tokio::time::timeout(self.slow, self.to.send(sent)).await {
            Ok(Ok(())) => {
                self.queued = id;
                Ok(())
            }
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Told("slow")),
        }
    }

    /// Waits until the log grows; says so from time to time.
    async fn wait(&mut self) -> Result<(), End> {
        let until = Instant::now() + HEARTBEAT;
        loop {
            self.recheck().await?;
            let tick = match self.sample.since {
                Some(since) => since + SAMPLE_TICK,
                None => Instant::now() + RECHECK,
            };
            let woken = {
                let log = &*self.line.log;
                let waits = self.at.partitions().into_iter().map(|(reading, partition)| {
                    Box::pin(log.wait_beyond(reading.topic(), partition, self.at.get(reading, partition)))
                });
                let to = self.to.clone();
                tokio::select! {
                    (grown, ..) = futures::future::select_all(waits) => Woken::Log(grown),
                    // Who missed some hears of the next.
                    viewed = self.viewed.recv() => Woken::Query(viewed.ok()),
                    () = tokio::time::sleep_until(tick.min(until)) => Woken::Time,
                    () = to.closed() => return Err(End::Gone),
                }
            };
            match woken {
                Woken::Log(grown) => return grown.map_err(told_log),
                Woken::Query(Some(viewed)) => self.show_viewed(&viewed).await?,
                Woken::Query(None) | Woken::Time => {}
            }
            self.show_sample().await?;
            if Instant::now() >= until {
                return self.send(self.sent("heartbeat", json!({ "time": jiff::Timestamp::now().to_string() }))).await;
            }
        }
    }

    /// A session that was ended, a key that was revoked, a role that was lowered: the stream ends too.
    async fn recheck(&mut self) -> Result<(), End> {
        if self.checked.elapsed() < RECHECK {
            return Ok(());
        }
        self.checked = Instant::now();
        match self.gate.still(&self.caller, now()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::Told("unauthenticated")),
            Err(_) => Err(End::Told("failed")),
        }
    }

    fn sent(&self, event: &'static str, data: Value) -> Sent {
        Sent { id: self.at.to_id(&self.seal, self.tenant()), event, data }
    }

    /// The last word. The reading has gone past an event that a slow reader did not take: the id is that of the last
    /// that was queued, so that who goes on from it is told the other.
    fn close(&self, reason: &'static str) -> Sent {
        Sent { id: self.queued.clone(), event: "close", data: json!({ "reason": reason }) }
    }

    fn tenant(&self) -> TenantId {
        self.caller.tenant
    }
}

impl Sample {
    /// Keeps the first few of a tick and counts the rest.
    fn take(&mut self, sent: Sent) {
        self.since.get_or_insert_with(Instant::now);
        self.seen += 1;
        if self.kept.len() < SAMPLE_MAX {
            self.kept.push(sent);
        }
    }
}

fn told(error: &anyhow::Error) -> End {
    tracing::error!(error = format!("{error:#}"), "an event stream ends because the log cannot be read");
    End::Told("failed")
}

fn told_log(error: pipeline::LogError) -> End {
    told(&error.into())
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Ingested => "ingested",
        Stage::Canonicalized => "canonicalized",
        Stage::Materialized => "materialized",
        Stage::Viewed => "viewed",
        Stage::Quarantined => "quarantined",
        Stage::Drift => "drift",
        Stage::Intent => "intent",
        Stage::Journaled => "journaled",
    }
}

#[cfg(test)]
mod tests {
    use connectors::push::{self, PushFormat};
    use schemas::{Lane, StreamId};

    use super::*;
    use crate::auth::{Accounts, Role, Who};

    /// One more than fit into a reader's queue, and some.
    const RECORDS: usize = WAITING_MAX + 44;

    /// A line on which one tenant has pushed [`RECORDS`] records.
    async fn pushed(folder: &std::path::Path) -> (Arc<Line>, TenantId) {
        let line = Arc::new(Line::open(folder).await.unwrap());
        let tenant = line.ensure_tenant(&"acme".parse().unwrap()).await.unwrap();
        let id = StreamId { tenant, connection: "crm".parse().unwrap(), stream: "opportunity".parse().unwrap() };
        let open = line.open_stream(&id, Some("salesforce"), "key:1").await.unwrap();
        let body: String = (0..RECORDS).map(|n| format!("{{\"Id\":\"{n}\"}}\n")).collect();
        for batch in push::batches(Lane(1), PushFormat::Ndjson, body.as_bytes()).unwrap() {
            line.ingest.append(&open, batch).await.unwrap();
        }
        (line, tenant)
    }

    /// A feed of what was ingested, that is asked by hand.
    fn feed(line: &Arc<Line>, tenant: TenantId, at: Vector) -> (Feed, mpsc::Receiver<Sent>) {
        let accounts = Accounts::new(line.store.clone(), &[1; 32]).unwrap();
        let who = Who::Key { key: "1".into(), name: "reader".into(), connections: Vec::new() };
        let caller = Caller { tenant, who, role: Role::Viewer };
        let filter = Filter::new(&caller, Some("ingested"), None, None, None).unwrap();
        let gate = Gate::new(Arc::new(accounts));
        let (mut feed, from) = Feed::new(line.clone(), gate, Seal::new(&[2; 32]), caller, filter, Mode::All, at);
        feed.slow = Duration::from_millis(10);
        (feed, from)
    }

    fn take(from: &mut mpsc::Receiver<Sent>) -> Vec<String> {
        std::iter::from_fn(|| from.try_recv().ok()).map(|sent| sent.data["position"].to_string()).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slow_reader_that_goes_on_from_its_last_word_is_told_every_event_once() {
        let folder = tempfile::tempdir().unwrap();
        let (line, tenant) = pushed(folder.path()).await;
        let (mut slow, mut from) = feed(&line, tenant, Vector::start(&*line.log));
        assert!(matches!(slow.round().await, Err(End::Told("slow"))));
        let mut seen = take(&mut from);
        assert_eq!(seen.len(), WAITING_MAX);
        let last = slow.close("slow");
        let at = Vector::from_id(&last.id, &slow.seal, tenant, &*line.log).unwrap();
        let (mut next, mut from) = feed(&line, tenant, at);
        // The inputs are read first; how it ends behind them is of no interest here.
        _ = next.round().await;
        seen.extend(take(&mut from));
        assert_eq!(seen.len(), RECORDS);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), RECORDS, "nothing comes twice");
        drop((slow, next));
        line.close().await.unwrap();
    }
}
