//! What people decide by, behind a server.

use anyhow::{Context, bail};
use async_trait::async_trait;
use poem_openapi::types::{Any, ParseFromJSON};
use schemas::drift::Verdict;
use schemas::settle::Action;
use schemas::{ConnectionName, Mapping};

use super::backend::{PAGE, wanted};
use super::{Ask, Client, ClientError};
use crate::cli::backend::{Deciding, Settling, StreamPath};
use crate::http::routes::advice::AdviceUsage;
use crate::http::routes::cases::evidence::DryRunInfo;
use crate::http::routes::cases::{Attempt, TriedDecision};
use crate::http::routes::drift::{DriftHistory, DriftInfo, DriftPage};
use crate::http::routes::mappings::suggestions::SuggestionsInfo;
use crate::http::routes::mappings::{
    DifferenceInfo, Differences, History, MappingInfo, MappingPage, MappingSummary, MappingWanted, VersionInfo,
};
use crate::http::routes::policy::{BacktestInfo, PolicyBody, PolicyInfo, ThresholdInfo};
use crate::http::routes::quarantine::settle::{SettledInfo, SettledLater, Several, Why};
use crate::http::routes::webhooks::{TestAsked, WebhookBody, WebhookChange, WebhookInfo, WebhookList, WebhookMade};
use crate::http::text::Text;

/// The largest page of a list of streams.
const STREAMS: usize = 200;

#[async_trait]
impl Deciding for Client {
    async fn dry_run(&self, case: &str, verdict: Verdict, records: u32) -> anyhow::Result<DryRunInfo> {
        let texts = |all: Vec<String>| all.into_iter().map(Text::from).collect();
        let (decision, only, moves) = match verdict {
            Verdict::Approve { only } => (TriedDecision::Approve, texts(only), vec![]),
            Verdict::AcceptAsRemoved { only } => (TriedDecision::AcceptRemoved, texts(only), vec![]),
            Verdict::Edit { moves } => (TriedDecision::Edit, vec![], moves.into_iter().map(wanted).collect()),
            Verdict::Reject | Verdict::Revert | Verdict::Snooze { .. } => bail!("this decision cannot be tried"),
        };
        let attempt = Attempt { decision, only, moves, records: Some(records) };
        let tried = self.json(Ask::post(&["aam", "cases", case, "dry_run"], &attempt)).await;
        tried.with_context(|| format!("case {case}"))
    }

    async fn settle(&self, action: Action, which: Settling) -> anyhow::Result<SettledInfo> {
        let Settling { stream, reason, field, positions, why } = which;
        if positions.is_empty() {
            let (connection, stream) = stream.map(|of| (of.connection, of.stream)).unzip();
            let several = Several {
                connection: connection.map(|name| name.to_string().into()),
                stream: stream.map(|name| name.to_string().into()),
                reason: reason.map(Text::from),
                field: field.map(Text::from),
                why: why.into(),
            };
            return Ok(self.settled(Ask::post(&["quarantine", action.name()], &several)).await?);
        }
        let mut all = SettledInfo::default();
        for position in &positions {
            let ask = Ask::post(&["quarantine", position, action.name()], &Why { why: why.clone().into() });
            let settled = self.settled(ask).await.with_context(|| format!("the record at {position}"))?;
            all = all.plus(settled);
        }
        Ok(all)
    }

    async fn mappings(&self) -> anyhow::Result<Vec<MappingSummary>> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let ask = Ask::get(&["aam", "mappings"]).with("limit", STREAMS).with_some("cursor", after.as_ref());
            let page: MappingPage = self.json(ask).await?;
            found.extend(page.mappings);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    async fn mapping(&self, stream: &StreamPath, version: Option<u32>) -> anyhow::Result<MappingInfo> {
        let ask = Ask::get(&["aam", "mappings", stream.connection.as_str(), stream.stream.as_str()]);
        let found = self.json(ask.with_some("version", version)).await;
        found.with_context(|| format!("the mapping of {stream}"))
    }

    async fn mapping_versions(&self, stream: &StreamPath) -> anyhow::Result<Vec<VersionInfo>> {
        let ask = Ask::get(&["aam", "mappings", stream.connection.as_str(), stream.stream.as_str(), "history"]);
        let found: Result<History, _> = self.json(ask).await;
        Ok(found.with_context(|| format!("the mapping of {stream}"))?.versions)
    }

    async fn mapping_diff(
        &self,
        stream: &StreamPath,
        from: u32,
        to: Option<u32>,
    ) -> anyhow::Result<Vec<DifferenceInfo>> {
        let ask = Ask::get(&["aam", "mappings", stream.connection.as_str(), stream.stream.as_str(), "diff"]);
        let found: Result<Differences, _> = self.json(ask.with("from", from).with_some("to", to)).await;
        Ok(found.with_context(|| format!("the mapping of {stream}"))?.differences)
    }

    async fn mapping_suggestions(&self, stream: &StreamPath) -> anyhow::Result<SuggestionsInfo> {
        let of = ["aam", "mappings", stream.connection.as_str(), stream.stream.as_str(), "suggestions"];
        let found = self.json(Ask::get(&of)).await;
        found.with_context(|| format!("the mapping of {stream}"))
    }

    async fn set_mapping(
        &self,
        stream: &StreamPath,
        mapping: &Mapping,
        made_on: u32,
        why: &str,
    ) -> anyhow::Result<MappingInfo> {
        let wanted = MappingWanted { mapping: Any(serde_json::to_value(mapping)?), why: why.into() };
        let of = ["aam", "mappings", stream.connection.as_str(), stream.stream.as_str()];
        let set = self.json(Ask::put(&of, format!("\"mapping-{made_on}\""), &wanted)).await;
        set.with_context(|| format!("the mapping of {stream}"))
    }

    async fn drift(&self) -> anyhow::Result<Vec<DriftInfo>> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let ask = Ask::get(&["aam", "drift"]).with("limit", STREAMS).with_some("cursor", after.as_ref());
            let page: DriftPage = self.json(ask).await?;
            found.extend(page.streams);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    async fn drift_of(&self, stream: &StreamPath) -> anyhow::Result<DriftHistory> {
        let (mut shapes, mut after) = (Vec::new(), None::<String>);
        loop {
            let ask = Ask::get(&["aam", "drift", stream.connection.as_str(), stream.stream.as_str()]);
            let found = self.json(ask.with("limit", PAGE).with_some("cursor", after.as_ref())).await;
            let page: DriftHistory = found.with_context(|| format!("the stream {stream}"))?;
            shapes.extend(page.shapes);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(DriftHistory { shapes, ..page }),
            }
        }
    }

    async fn policy(&self, connection: Option<&ConnectionName>) -> anyhow::Result<PolicyInfo> {
        Ok(self.json(Ask::get(&["aam", "policy"]).with_some("connection", connection)).await?)
    }

    async fn set_policy(
        &self,
        connection: Option<&ConnectionName>,
        policy: Option<PolicyBody>,
        number: u64,
    ) -> anyhow::Result<PolicyInfo> {
        let tag = format!("\"policy-{number}\"");
        let ask = match policy {
            Some(policy) => Ask::put(&["aam", "policy"], tag, &policy),
            None => Ask::delete(&["aam", "policy"]).if_match(tag),
        };
        Ok(self.json(ask.with_some("connection", connection)).await?)
    }

    async fn backtest(
        &self,
        connection: Option<&ConnectionName>,
        at_least: Option<f64>,
    ) -> anyhow::Result<Vec<ThresholdInfo>> {
        let ask = Ask::get(&["aam", "policy", "backtest"]).with_some("connection", connection);
        Ok(self.json::<BacktestInfo>(ask.with_some("at_least", at_least)).await?.thresholds)
    }

    async fn advice(&self) -> anyhow::Result<AdviceUsage> {
        Ok(self.json(Ask::get(&["aam", "advice", "usage"])).await?)
    }

    async fn reset_advice(&self) -> anyhow::Result<AdviceUsage> {
        Ok(self.json(Ask::post(&["aam", "advice", "usage", "reset"], &Any(serde_json::json!({}))).once()).await?)
    }

    async fn webhooks(&self) -> anyhow::Result<Vec<WebhookInfo>> {
        Ok(self.json::<WebhookList>(Ask::get(&["webhooks"])).await?.webhooks)
    }

    async fn add_webhook(&self, wanted: WebhookBody) -> anyhow::Result<WebhookMade> {
        // The secret is told once, so no repetition would hear it.
        Ok(self.json(Ask::post(&["webhooks"], &wanted).once()).await?)
    }

    async fn test_webhook(&self, id: &str) -> anyhow::Result<()> {
        let tested: Result<TestAsked, _> =
            self.json(Ask::post(&["webhooks", id, "test"], &Any(serde_json::json!({})))).await;
        tested.with_context(|| format!("the webhook {id}"))?;
        Ok(())
    }

    async fn pause_webhook(&self, id: &str, paused: bool) -> anyhow::Result<()> {
        let changed: Result<WebhookInfo, _> = self.json(Ask::patch(&["webhooks", id], &WebhookChange { paused })).await;
        changed.with_context(|| format!("the webhook {id}"))?;
        Ok(())
    }

    async fn remove_webhook(&self, id: &str) -> anyhow::Result<()> {
        let removed = self.send(&Ask::delete(&["webhooks", id]).once()).await;
        removed.with_context(|| format!("the webhook {id}"))?;
        Ok(())
    }
}

impl Client {
    /// What became of records, unless that takes longer than the server waits.
    async fn settled(&self, ask: Ask<'_>) -> Result<SettledInfo, ClientError> {
        let response = self.send(&ask).await?;
        let text = response.text().await.map_err(|error| self.broken_off(error))?;
        match SettledInfo::parse_from_json_string(&text) {
            Ok(settled) => Ok(settled),
            Err(_) if SettledLater::parse_from_json_string(&text).is_ok() => {
                let what = "it is on the log and goes on: see it with autonomos quarantine list --settled";
                Err(ClientError::Setup(what.into()))
            }
            Err(error) => {
                Err(ClientError::Unreadable { server: self.address().clone(), why: error.into_message(), theirs: None })
            }
        }
    }
}
