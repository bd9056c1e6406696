//! Everything that a tenant has, as lines of JSON.
//!
//! Each line is an object with `kind`: `tenant`, `user`, `connection`, `policy`, `webhook` (without its address), `entity`,
//! `stream` (its mapping), `mapping` (its versions), `case`, `input` (records and commands in the order of the log, payloads
//! as they came), `quarantined`, `settled` (retried or discarded), `row` (of a view, as it is now), `audit`, and
//! `end` with the number of lines of each kind: without it an export is not whole. No secret is in it: no password, no
//! key, no session.

use std::collections::BTreeMap;

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use pipeline::{Stored, Table, quarantine};
use projections::sql::{Format, QueryEngine, QueryLimits, ResultWriter};
use schemas::{TenantId, Topic};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::connections::connector;

use super::views::SCAN_MAX;
use super::{Busy, EntityFields, Line};

/// The form of the lines; raised when an older reader would misunderstand them.
const FORM: u32 = 1;
const READ_BYTES: usize = 1 << 20;
/// Lines are handed over in parts of about this size.
const PART_BYTES: usize = 64 << 10;
const PAGE: usize = 500;
/// Parts that wait for a slow reader.
const PARTS_WAITING: usize = 4;

impl Line {
    /// A tenant's export, part by part, once it has its place: one at a time. Its task ends when nobody takes the parts any
    /// more. An error is the last item.
    pub async fn export(
        self: std::sync::Arc<Self>,
        tenant: TenantId,
    ) -> Result<mpsc::Receiver<anyhow::Result<Bytes>>, Busy> {
        let place = self.exports.place(tenant, 1, 1).await?;
        let (parts, receiver) = mpsc::channel(PARTS_WAITING);
        tokio::spawn(async move {
            let _place = place;
            let last = parts.clone();
            if let Err(error) = self.export_to(tenant, parts).await {
                _ = last.send(Err(error)).await;
            }
        });
        Ok(receiver)
    }

    /// The same, into a channel.
    pub async fn export_to(&self, tenant: TenantId, parts: mpsc::Sender<anyhow::Result<Bytes>>) -> anyhow::Result<()> {
        let mut lines = Lines { parts, part: Vec::new(), counts: BTreeMap::new() };
        let name = pipeline::definitions::tenant_name(&*self.store, tenant).await?.context("the tenant is gone")?;
        let now = jiff::Timestamp::now().to_string();
        lines.put("tenant", json!({ "form": FORM, "id": tenant, "name": name, "exported_at": now })).await?;
        self.rows_of(tenant, Table::Users, "user", &["password"], &mut lines).await?;
        self.rows_of(tenant, Table::Connections, "connection", &[], &mut lines).await?;
        self.rows_of(tenant, Table::Policies, "policy", &[], &mut lines).await?;
        self.rows_of(tenant, Table::Webhooks, "webhook", &["url", "secret"], &mut lines).await?;
        self.rows_of(tenant, Table::Entities, "entity", &[], &mut lines).await?;
        self.rows_of(tenant, Table::Streams, "stream", &["announced", "entity_definition"], &mut lines).await?;
        self.wait_cases().await?;
        self.rows_of(tenant, Table::Mappings, "mapping", &[], &mut lines).await?;
        self.rows_of(tenant, Table::Cases, "case", &["mark"], &mut lines).await?;
        self.inputs_of(tenant, &mut lines).await?;
        self.quarantine_of(tenant, &mut lines).await?;
        self.rows_of(tenant, Table::Settled, "settled", &[], &mut lines).await?;
        self.views_of(tenant, &mut lines).await?;
        self.rows_of(tenant, Table::Journal, "audit", &[], &mut lines).await?;
        let counts = json!(lines.counts);
        lines.put("end", json!({ "lines": counts })).await?;
        lines.flush().await
    }

    /// The rows of a table, without the members that are secret or say nothing outside.
    async fn rows_of(
        &self,
        tenant: TenantId,
        table: Table,
        kind: &'static str,
        without: &[&str],
        lines: &mut Lines,
    ) -> anyhow::Result<()> {
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.scan(tenant, table, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, row) in &rows {
                let mut value: Value =
                    serde_json::from_slice(&row.value).with_context(|| format!("the {kind} {key}"))?;
                if let (Value::Object(members), Table::Connections) = (&mut value, table) {
                    let connector = members.get("connector").and_then(Value::as_str).unwrap_or_default();
                    let shown = connector::shown(connector, members.get("settings").unwrap_or(&Value::Null));
                    members.insert("settings".into(), shown);
                }
                if let Value::Object(members) = &mut value {
                    without.iter().for_each(|member| _ = members.remove(*member));
                }
                lines.put(kind, json!({ "key": key, "value": value })).await?;
            }
        }
    }

    /// What came in, up to where the log ends now.
    async fn inputs_of(&self, tenant: TenantId, lines: &mut Lines) -> anyhow::Result<()> {
        let topic = Topic::Inputs;
        let mut fields = EntityFields::default();
        for partition in 0..self.log.partitions(topic) {
            let end = self.log.end(topic, partition).await?;
            let mut next = 0;
            while next < end {
                let batches = self.log.read(topic, partition, next, READ_BYTES).await?;
                let Some(behind) = batches.last().map(Stored::end) else { break };
                for stored in batches.iter().filter(|s| s.header().tenant == tenant && s.first < end) {
                    for item in self.items(topic, partition, stored, 0, &mut fields).await? {
                        let at = schemas::time::format_timestamp(item.logged_at);
                        let (position, stream) = (item.position.to_string(), item.stream);
                        let line =
                            json!({ "position": position, "logged_at": at, "stream": stream, "value": item.body });
                        lines.put("input", line).await?;
                    }
                }
                next = behind;
            }
        }
        Ok(())
    }

    async fn quarantine_of(&self, tenant: TenantId, lines: &mut Lines) -> anyhow::Result<()> {
        self.wait_quarantined().await?;
        let mut after: Option<String> = None;
        loop {
            let notes = quarantine::list(&*self.store, tenant, None, after.as_deref(), PAGE).await?;
            let Some((last, _)) = notes.last() else { return Ok(()) };
            after = Some(last.clone());
            for (_, note) in &notes {
                lines.put("quarantined", json!({ "position": note.position.to_string(), "value": note })).await?;
            }
        }
    }

    /// Every view, each pinned when its turn comes.
    async fn views_of(&self, tenant: TenantId, lines: &mut Lines) -> anyhow::Result<()> {
        self.catch_up().await?;
        // Nobody typed these scans: they hold a batch at a time, and are as long as the tables.
        let limits =
            QueryLimits { timeout: SCAN_MAX, result_bytes_max: usize::MAX, concurrent: 1, ..Default::default() };
        let engine = QueryEngine::new(limits)?;
        for entity in self.roles.projector.entities(tenant).await? {
            let Some(view) = self.roles.projector.snapshot(tenant, &entity.entity, None).await? else { continue };
            let mut result = engine.query(tenant, vec![view], &format!("select * from {}", entity.table)).await?;
            while let Some(batch) = result.batches.next().await {
                let mut writer = ResultWriter::new(Format::Json, result.schema.clone(), Vec::new())?;
                writer.write(&batch?)?;
                let rows: Vec<Value> = serde_json::from_slice(&writer.finish()?)?;
                for row in rows {
                    lines.put("row", json!({ "view": entity.table, "value": row })).await?;
                }
            }
        }
        Ok(())
    }
}

/// Lines on their way.
struct Lines {
    parts: mpsc::Sender<anyhow::Result<Bytes>>,
    part: Vec<u8>,
    counts: BTreeMap<&'static str, u64>,
}

impl Lines {
    async fn put(&mut self, kind: &'static str, members: Value) -> anyhow::Result<()> {
        *self.counts.entry(kind).or_default() += 1;
        let mut line = Map::from_iter([("kind".to_owned(), Value::from(kind))]);
        if let Value::Object(members) = members {
            line.extend(members);
        }
        serde_json::to_writer(&mut self.part, &line)?;
        self.part.push(b'\n');
        if self.part.len() >= PART_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let part = std::mem::take(&mut self.part);
        self.parts.send(Ok(part.into())).await.context("nobody takes the export any more")
    }
}
