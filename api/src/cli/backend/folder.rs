//! A tenant's things on the line of a folder.

mod deciding;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use async_trait::async_trait;
use futures::StreamExt;
use pipeline::quarantine;
use pipeline::repair::Case;
use pipeline::source::LaneCursor;
use pipeline::step::drift::Declared;
use schemas::input::DeclaredField;
use schemas::record::RecordBatch as Records;
use schemas::{Mapping, Position, StreamId, TenantId, TenantName, Topic};
use tokio::sync::mpsc;

use super::{Answer, Backend, Decision, Keys, Rows, Run, StreamPath};
use crate::auth::master_key::MasterKey;
use crate::auth::{Accounts, Role};
use crate::http::routes::cases::evidence;
use crate::http::routes::cases::listing::CasesWanted;
use crate::http::routes::cases::shape::{self, CaseInfo};
use crate::http::routes::log::{self, LogPage};
use crate::http::routes::quarantine::{QuarantinePage, QuarantinedPayload, QuarantinedRecord};
use crate::http::routes::streams::{self, StreamInfo};
use crate::http::routes::users::OneUse;
use crate::http::routes::views::{self, ViewColumns, ViewInfo};
use crate::http::{now, time};
use crate::line::{self, Account, COMMAND_LINE, Fates, Line, LogPlace, Outcome, StreamRows};
use crate::output::Output;

const PAGE: usize = 1_000;
/// Parts of an export that wait to be written.
const PARTS_WAITING: usize = 4;
/// A tenant of a folder.
pub struct Folder<'a> {
    line: &'a Line,
    name: TenantName,
    id: TenantId,
}

impl<'a> Folder<'a> {
    /// The tenant of that name.
    pub async fn tenant(line: &'a Line, name: &str) -> anyhow::Result<Self> {
        let name: TenantName = name.parse()?;
        let id = line.tenant(&name).await?;
        Ok(Self { line, name, id })
    }

    /// The tenant of that name, or all of them.
    pub async fn tenants(line: &'a Line, name: Option<&str>) -> anyhow::Result<Vec<Self>> {
        match name {
            Some(name) => Ok(vec![Self::tenant(line, name).await?]),
            None => Ok(line.tenants().await?.into_iter().map(|(name, id)| Self { line, name, id }).collect()),
        }
    }

    fn stream(&self, path: &StreamPath) -> StreamId {
        StreamId { tenant: self.id, connection: path.connection.clone(), stream: path.stream.clone() }
    }

    /// Behind everything that stands on the log now.
    async fn known_case(&self, case: &str) -> anyhow::Result<Case> {
        let found = self.line.case(self.id, case.parse()?).await?;
        found.with_context(|| format!("tenant {} has no case {case}", self.name))
    }
}

#[async_trait]
impl Backend for Folder<'_> {
    fn tenant(&self) -> &str {
        self.name.as_str()
    }

    fn address(&self) -> &str {
        "http://127.0.0.1:7400"
    }

    async fn views(&self) -> anyhow::Result<Vec<ViewInfo>> {
        Ok(self.line.views(self.id).await?.into_iter().map(views::info).collect())
    }

    async fn view(&self, table: &str) -> anyhow::Result<ViewColumns> {
        let snapshots = self.line.snapshots(self.id, table).await?;
        let found = snapshots.iter().find(|s| s.table == table);
        found.map(|s| views::columns(s)).with_context(|| format!("tenant {} has no view {table}", self.name))
    }

    fn view_folder(&self, table: &str) -> Option<PathBuf> {
        Some(self.line.view_folder(self.id, table))
    }

    async fn query(&self, sql: &str) -> anyhow::Result<Answer> {
        let tables = self.line.snapshots(self.id, sql).await?;
        let result = self.line.queries.query(self.id, tables, sql).await?;
        self.line.consumers.note(self.id, result.tables.iter(), COMMAND_LINE, sql);
        Ok(Answer { schema: result.schema, batches: result.batches.map(|batch| Ok(batch?)).boxed() })
    }

    async fn quarantine(
        &self,
        stream: Option<&StreamPath>,
        is_settled: bool,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<QuarantinePage> {
        self.line.wait_quarantined().await?;
        let stream = stream.map(|path| self.stream(path));
        let (found, next) = self.line.quarantined(self.id, stream.as_ref(), is_settled, after, limit).await?;
        let records = found.iter().map(|(note, settled)| QuarantinedRecord::new(note, settled.as_ref())).collect();
        Ok(QuarantinePage { records, next })
    }

    async fn quarantined(&self, position: &str) -> anyhow::Result<QuarantinedPayload> {
        self.line.wait_quarantined().await?;
        let Some(note) = quarantine::find(&*self.line.store, self.id, position.parse()?).await? else {
            bail!("tenant {} has nothing in quarantine at {position}", self.name);
        };
        let bytes = quarantine::payload(&*self.line.log, &note).await?.unwrap_or_default();
        let settled = quarantine::settled_as(&*self.line.store, self.id, &note).await?;
        Ok(QuarantinedPayload::new(&note, settled.as_ref(), &bytes))
    }

    async fn cases(&self, wanted: &CasesWanted, limit: usize) -> anyhow::Result<Vec<CaseInfo>> {
        self.line.wait_cases().await?;
        let (mut found, mut after) = (Vec::new(), None::<String>);
        while found.len() < limit {
            let (page, next) = wanted.page(&*self.line.store, self.id, after.as_deref(), PAGE).await?;
            found.extend(page.into_iter().map(shape::case));
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn case(&self, case: &str) -> anyhow::Result<CaseInfo> {
        self.line.wait_cases().await?;
        let case = self.known_case(case).await?;
        let (seen, impact) = (self.line.evidence(self.id, &case).await?, self.line.impact(self.id, &case).await?);
        let seen = evidence::evidence(seen, impact, case.position, None);
        Ok(shape::case(case).with(seen, &BTreeMap::new()))
    }

    async fn decide(&self, case: &str, decision: Decision) -> anyhow::Result<CaseInfo> {
        let position: Position = case.parse()?;
        self.line.wait_cases().await?;
        let Decision { verdict, why, made_on } = decision;
        let outcome = self.line.decide(self.id, position, made_on, verdict, (COMMAND_LINE, &why)).await?;
        if let Outcome::Refused(reason) = outcome {
            bail!("case {position}: {reason}");
        }
        self.line.catch_up().await?;
        Ok(shape::case(self.known_case(case).await?))
    }

    async fn streams(&self) -> anyhow::Result<Vec<StreamInfo>> {
        let all = self.line.streams(self.id).await?;
        Ok(all.iter().map(|(_, state)| streams::info(state)).collect())
    }

    async fn log(&self, topic: Topic, from: u64, after: Option<&str>, limit: usize) -> anyhow::Result<LogPage> {
        let mut place: LogPlace = match after {
            Some(text) => serde_json::from_str(text).context("the place in the log")?,
            None => self.line.begin_reading(topic, from),
        };
        let read = self.line.read_items(self.id, topic, &mut place, limit, usize::MAX).await?;
        let (items, at_end) = read.context("the place is of another topic")?;
        let items = items.into_iter().map(log::shape).collect();
        Ok(LogPage { items, next: serde_json::to_string(&place)?, at_end })
    }

    async fn invite(&self, email: &str) -> anyhow::Result<OneUse> {
        let key = MasterKey::open(&self.line.folder)?.derive("session tokens");
        let accounts = Accounts::new(self.line.store.clone(), &key)?;
        let (token, until) = accounts.invite(self.id, email, Role::Admin, "operator", now()).await?;
        self.line.journal(self.id, "tenant invite", email).await?;
        Ok(OneUse { token, expires_at: time::of_seconds(until) })
    }

    async fn export(&self, out: &mut dyn Output) -> anyhow::Result<()> {
        // Before the first line goes out: one that breaks off has shown something too.
        self.line.journal(self.id, "tenant export", "everything").await?;
        let (parts, mut receiver) = mpsc::channel(PARTS_WAITING);
        // Moved in, so that an export to somebody who cannot be written to ends.
        let write = async move {
            while let Some(part) = receiver.recv().await {
                let part: bytes::Bytes = part?;
                out.write(&part)?;
            }
            anyhow::Ok(())
        };
        let (exported, written) = tokio::join!(self.line.export_to(self.id, parts), write);
        written?;
        exported
    }

    async fn delete(&self) -> anyhow::Result<()> {
        self.line.delete_tenant(self.id, &self.name).await
    }
}

/// A run on the line of a folder.
pub(in crate::cli) struct FolderRun<'a> {
    pub(in crate::cli) line: &'a Line,
    pub(in crate::cli) run: line::Run,
    /// Whose quota the records count against, if anybody's.
    pub(in crate::cli) account: Option<Arc<Account>>,
}

#[async_trait]
impl Run for FolderRun<'_> {
    fn lanes(&self) -> Vec<LaneCursor> {
        self.run.lanes.clone()
    }

    fn mapping(&self) -> &Mapping {
        &self.run.mapping
    }

    fn under_former(&self) -> u64 {
        self.run.under_former
    }

    async fn append(&mut self, records: Records, declared: Option<&[DeclaredField]>) -> anyhow::Result<()> {
        let (count, bytes) = (u64::from(records.count), records.body.len() as u64);
        if let Some(account) = &self.account {
            self.line.wait_to_bring_in(account, count, bytes).await?;
        }
        // What the stream knows already is not said again.
        let now = declared.map(Declared::of).filter(|now| self.run.declared.as_ref() != Some(now));
        match (now, declared) {
            (Some(now), Some(fields)) => {
                self.line.ingest.append_declared(&self.run.open, fields, records).await?;
                self.run.declared = Some(now);
            }
            _ => _ = self.line.ingest.append(&self.run.open, records).await?,
        }
        if let Some(account) = &self.account {
            self.line.note_brought_in(self.run.open.id.tenant, account, bytes).await?;
        }
        Ok(())
    }

    async fn rows(&self) -> anyhow::Result<Option<Box<dyn Rows + '_>>> {
        self.line.wait_processed(self.run.open.partition).await?;
        let rows = self.line.stream_rows(&self.run.open.id, &self.run.mapping.entity).await?;
        Ok(rows.map(|rows| Box::new(rows) as Box<dyn Rows + '_>))
    }

    async fn settle(&mut self, acknowledged: u64) -> anyhow::Result<Fates> {
        let fates = self.line.settle(&self.run).await?;
        self.line.flush_folded(self.run.open.id.tenant, &self.run.mapping.entity).await?;
        Ok(fates.with_own(acknowledged))
    }

    async fn leave(&mut self) -> anyhow::Result<()> {
        Ok(self.line.log.sync().await?)
    }
}

#[async_trait]
impl Rows for StreamRows {
    async fn keys(&self) -> anyhow::Result<Keys> {
        Ok(Keys(self.read_keys().await?.map(|batch| Ok(batch?)).boxed()))
    }
}
