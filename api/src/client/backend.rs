//! A tenant's things behind a server.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use poem_openapi::types::{Any, ParseFromJSON};
use projections::sql::Format;
use schemas::Topic;
use schemas::drift::{DriftKind, Move, Severity, Verdict};
use schemas::time::format_timestamp;

use super::{Ask, Client, ClientError, rows};
use crate::auth::Role;
use crate::cli::backend::{Answer, Backend, Decision, StreamPath};
use crate::http::routes::cases::listing::{CasesWanted, StatusWanted};
use crate::http::routes::cases::shape::{CaseInfo, CasePage, MoveWanted};
use crate::http::routes::cases::{self, Edit, Later, Snooze};
use crate::http::routes::log::LogPage;
use crate::http::routes::quarantine::{QuarantinePage, QuarantinedPayload};
use crate::http::routes::query::Question;
use crate::http::routes::streams::{StreamInfo, StreamPage};
use crate::http::routes::tenant::Confirmation;
use crate::http::routes::users::{Invite, OneUse};
use crate::http::routes::views::{ViewColumns, ViewInfo, ViewList};
use crate::http::text::Text;
use crate::line::MadeOn;
use crate::output::Output;

/// The largest page of a list.
pub(super) const PAGE: usize = 1_000;
/// How often the outcome of a decision is asked for that the server did not have at once, and after how long.
const OUTCOME_ASKED_MAX: usize = 60;
const OUTCOME_AFTER: Duration = Duration::from_secs(1);

#[async_trait]
impl Backend for Client {
    fn tenant(&self) -> &str {
        self.tenant()
    }

    fn address(&self) -> &str {
        self.address().as_str()
    }

    async fn views(&self) -> anyhow::Result<Vec<ViewInfo>> {
        Ok(self.json::<ViewList>(Ask::get(&["dcl", "views"])).await?.views)
    }

    async fn view(&self, table: &str) -> anyhow::Result<ViewColumns> {
        let found = self.json(Ask::get(&["dcl", "views", table])).await;
        found.with_context(|| format!("the view {table} of {}", self.tenant()))
    }

    fn view_folder(&self, _: &str) -> Option<PathBuf> {
        None
    }

    async fn query(&self, sql: &str) -> anyhow::Result<Answer> {
        self.query_at(sql, None).await
    }

    async fn quarantine(
        &self,
        stream: Option<&StreamPath>,
        is_settled: bool,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<QuarantinePage> {
        let mut all = QuarantinePage { records: Vec::new(), next: after.map(str::to_owned) };
        loop {
            let left = limit.saturating_sub(all.records.len()).min(PAGE);
            let ask = of_stream(Ask::get(&["quarantine"]), stream).with("limit", left);
            let ask = ask.with_some("settled", is_settled.then_some(true));
            let page: QuarantinePage = self.json(ask.with_some("cursor", all.next.as_ref())).await?;
            all.records.extend(page.records);
            all.next = page.next;
            if all.next.is_none() || all.records.len() >= limit {
                return Ok(all);
            }
        }
    }

    async fn quarantined(&self, position: &str) -> anyhow::Result<QuarantinedPayload> {
        let found = self.json(Ask::get(&["quarantine", position])).await;
        found.with_context(|| format!("the record at {position} of {}", self.tenant()))
    }

    async fn cases(&self, wanted: &CasesWanted, limit: usize) -> anyhow::Result<Vec<CaseInfo>> {
        let CasesWanted { of, status, severity, kind } = wanted;
        let (mut found, mut after) = (Vec::new(), None::<String>);
        while found.len() < limit {
            let ask = Ask::get(&["aam", "cases"]).with("limit", PAGE);
            let ask = ask.with_some("connection", of.as_ref().map(|(connection, _)| connection));
            let ask = ask.with_some("stream", of.as_ref().and_then(|(_, stream)| stream.as_ref()));
            let ask = ask.with_some("status", status.map(StatusWanted::name));
            let ask = ask.with_some("severity", severity.map(Severity::name));
            let ask = ask.with_some("kind", kind.map(DriftKind::name));
            let page: CasePage = self.json(ask.with_some("cursor", after.as_ref())).await?;
            found.extend(page.cases);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn case(&self, case: &str) -> anyhow::Result<CaseInfo> {
        let found = self.json(Ask::get(&["aam", "cases", case])).await;
        found.with_context(|| format!("case {case}"))
    }

    async fn decide(&self, case: &str, decision: Decision) -> anyhow::Result<CaseInfo> {
        let decided = self.decided(case, decision).await;
        decided.with_context(|| format!("case {case}"))
    }

    async fn streams(&self) -> anyhow::Result<Vec<StreamInfo>> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let ask = Ask::get(&["streams"]).with("limit", PAGE).with_some("cursor", after.as_ref());
            let page: StreamPage = self.json(ask).await?;
            found.extend(page.streams);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    async fn log(&self, topic: Topic, from: u64, after: Option<&str>, limit: usize) -> anyhow::Result<LogPage> {
        let ask = Ask::get(&["log"]).with("topic", topic.name()).with("limit", limit.min(PAGE));
        let ask = match after {
            Some(cursor) => ask.with("cursor", cursor),
            None => ask.with("from", from),
        };
        Ok(self.json(ask).await?)
    }

    async fn invite(&self, email: &str) -> anyhow::Result<OneUse> {
        let invite = Invite { email: email.into(), role: Role::Admin };
        // The answer is told once, so no repetition would hear it.
        Ok(self.json(Ask::post(&["auth", "users", "invitations"], &invite).once()).await?)
    }

    async fn export(&self, out: &mut dyn Output) -> anyhow::Result<()> {
        let mut response = self.send(&Ask::get(&["tenant", "export"]).accept("application/x-ndjson")).await?;
        let mut last = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.broken_off(error))? {
            out.write(&part)?;
            keep_last_line(&mut last, &part);
        }
        let is_whole = serde_json::from_slice::<serde_json::Value>(&last).is_ok_and(|line| line["kind"] == "end");
        if !is_whole {
            bail!("the export is not whole: it does not end with its line of kind end; run it again");
        }
        Ok(())
    }

    async fn delete(&self) -> anyhow::Result<()> {
        let confirmation = Confirmation { name: self.tenant().into() };
        self.send(&Ask::delete(&["tenant"]).json(&confirmation).once()).await?;
        self.kept().forget(self.address())?;
        Ok(())
    }
}

impl Client {
    /// Asks with SQL, of views that show everything up to a position.
    pub(super) async fn query_at(&self, sql: &str, min_position: Option<String>) -> anyhow::Result<Answer> {
        let question = Question { sql: sql.into(), min_position: min_position.map(Text::from), id: None };
        let ask = Ask::post(&["query"], &question).accept(Format::Arrow.media_type());
        let response = self.send(&ask).await?;
        Ok(rows::arriving(self.address().clone(), response).await?)
    }

    async fn decided(&self, case: &str, decision: Decision) -> Result<CaseInfo, ClientError> {
        let Decision { verdict, why, made_on: MadeOn { mapping_version, version } } = decision;
        let why = Text::from(why);
        let texts = |all: Vec<String>| all.into_iter().map(Text::from).collect();
        let plain =
            |only: Vec<String>| cases::Decision { why: why.clone(), only: texts(only), mapping_version, version };
        let of = |what| ["aam", "cases", case, what];
        let ask = match verdict {
            Verdict::Approve { only } => Ask::post(&of("approve"), &plain(only)),
            Verdict::Edit { moves } => {
                let moves = moves.into_iter().map(wanted).collect();
                Ask::post(&of("edit"), &Edit { moves, why: why.clone(), mapping_version, version })
            }
            Verdict::Reject => Ask::post(&of("reject"), &plain(Vec::new())),
            Verdict::AcceptAsRemoved { only } => Ask::post(&of("accept-removed"), &plain(only)),
            Verdict::Revert => Ask::post(&of("revert"), &plain(Vec::new())),
            Verdict::Snooze { until } => {
                let until = format_timestamp(until).into();
                Ask::post(&of("snooze"), &Snooze { until, why: why.clone(), mapping_version, version })
            }
        };
        let before = self.json::<CaseInfo>(Ask::get(&["aam", "cases", case])).await?;
        let response = self.send(&ask).await?;
        let text = response.text().await.map_err(|error| self.broken_off(error))?;
        match CaseInfo::parse_from_json_string(&text) {
            Ok(case) => Ok(case),
            // It is on the log and will have its outcome.
            Err(_) if Later::parse_from_json_string(&text).is_ok() => self.outcome(case, &before).await,
            Err(error) => {
                Err(ClientError::Unreadable { server: self.address().clone(), why: error.into_message(), theirs: None })
            }
        }
    }

    /// Asks for a case until something is decided of it.
    async fn outcome(&self, case: &str, before: &CaseInfo) -> Result<CaseInfo, ClientError> {
        for _ in 0..OUTCOME_ASKED_MAX {
            let now: CaseInfo = self.json(Ask::get(&["aam", "cases", case])).await?;
            if now.decided.len() > before.decided.len() || now.snoozed_until != before.snoozed_until {
                return Ok(now);
            }
            tokio::time::sleep(OUTCOME_AFTER).await;
        }
        let what = "the decision is on the log, and its outcome is not there yet: see it with autonomos cases show";
        Err(ClientError::Setup(what.into()))
    }
}

pub(super) fn of_stream<'a>(ask: Ask<'a>, stream: Option<&StreamPath>) -> Ask<'a> {
    match stream {
        Some(StreamPath { connection, stream }) => ask.with("connection", connection).with("stream", stream),
        None => ask,
    }
}

pub(super) fn wanted(to: Move) -> MoveWanted {
    let texts = to.to.into_iter().map(Text::from).collect();
    let part = to.part.and_then(|part| u32::try_from(part).ok());
    let transform = to.transform.and_then(|rule| serde_json::to_value(rule).ok()).map(Any);
    MoveWanted { from: to.from.into(), to: texts, part, transform }
}

/// Keeps the last line of what arrives in parts.
fn keep_last_line(last: &mut Vec<u8>, part: &[u8]) {
    if part.is_empty() {
        return;
    }
    let ended = part.strip_suffix(b"\n").unwrap_or(part);
    match ended.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => *last = ended[at + 1..].to_vec(),
        None => {
            if last.ends_with(b"\n") {
                last.clear();
            }
            last.extend_from_slice(ended);
        }
    }
    if ended.len() < part.len() {
        last.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_kept_however_an_export_is_cut_into_parts() {
        let whole = b"{\"kind\":\"row\"}\n{\"kind\":\"end\"}\n";
        for first in 0..whole.len() {
            for second in first..whole.len() {
                let mut last = Vec::new();
                for part in [&whole[..first], &whole[first..second], &whole[second..]] {
                    keep_last_line(&mut last, part);
                }
                assert_eq!(last, b"{\"kind\":\"end\"}\n", "cut at {first} and {second}");
            }
        }
    }
}
