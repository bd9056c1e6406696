//! What people decide by, on the line of a folder.

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use pipeline::notices;
use schemas::drift::Verdict;
use schemas::reason::Reason;
use schemas::settle::{Action, Settled, Which};
use schemas::{ConnectionName, Mapping, StreamId};
use url::Url;

use super::Folder;
use crate::cli::backend::{Deciding, Settling, StreamPath};
use crate::http::routes::advice::{self, AdviceUsage};
use crate::http::routes::cases::evidence::{self, DryRunInfo};
use crate::http::routes::drift::{self, DriftHistory, DriftInfo};
use crate::http::routes::mappings::suggestions::{self, SuggestionsInfo};
use crate::http::routes::mappings::{self, DifferenceInfo, MappingInfo, MappingSummary, VersionInfo};
use crate::http::routes::policy::{self, PolicyBody, PolicyInfo, ThresholdInfo};
use crate::http::routes::quarantine::settle::SettledInfo;
use crate::http::routes::webhooks::{self, WebhookBody, WebhookInfo, WebhookMade};
use crate::line::{COMMAND_LINE, InForce, Reasoned, advice_told, policy_told};

/// Streams, and what is new of a shape, are read so many at once.
const PAGE: usize = 500;

impl Folder<'_> {
    /// Every stream, by its name.
    async fn streams_by_name(&self) -> anyhow::Result<Vec<StreamId>> {
        let mut all: Vec<StreamId> = Vec::new();
        loop {
            let after = all.last().map(ToString::to_string);
            let page = self.line.stream_names(self.id, after.as_deref(), PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    async fn in_force(&self, stream: &StreamId) -> anyhow::Result<InForce> {
        let now = self.line.mapping_in_force(stream).await?;
        now.with_context(|| format!("there is no stream {stream}: see autonomos mappings list"))
    }

    async fn version(&self, stream: &StreamId, version: u32) -> anyhow::Result<mappings::Version> {
        let known = self.line.mapping_version(stream, version).await?;
        known.with_context(|| format!("{stream} has no version {version}: see autonomos mappings history"))
    }

    /// Settles every record that fits, of a stream or of all.
    async fn settle_all(&self, which: Settling, action: Action) -> anyhow::Result<Settled> {
        let Settling { stream, reason, field, why, .. } = which;
        let reason = reason.map(|code| {
            let known = Reason::ALL.iter().copied().find(|reason| reason.code() == code);
            known.with_context(|| format!("there is no reason {code:?}: see autonomos quarantine list"))
        });
        let which = Which { offsets: vec![], reason: reason.transpose()?, field };
        let why = Reasoned { action, by: COMMAND_LINE, why: &why };
        match stream {
            Some(stream) => Ok(self.line.settle_stream(&self.stream(&stream), which, why).await?),
            None => {
                let all = self.line.settle_all(self.id, &which, why).await?;
                Ok(all.into_values().reduce(Settled::plus).unwrap_or_default())
            }
        }
    }
}

#[async_trait]
impl Deciding for Folder<'_> {
    async fn dry_run(&self, case: &str, verdict: Verdict, records: u32) -> anyhow::Result<DryRunInfo> {
        self.line.wait_cases().await?;
        let case = self.known_case(case).await?;
        let run = self.line.dry_run(self.id, &case, verdict, records as usize).await?;
        let run = run.map_err(|reason| anyhow!("case {}: {reason}", case.position))?;
        Ok(evidence::dry_run(run, case.position))
    }

    async fn settle(&self, action: Action, which: Settling) -> anyhow::Result<SettledInfo> {
        let why = which.why.clone();
        let settled = match &which.positions[..] {
            [] => self.settle_all(which, action).await?,
            positions => {
                let mut all = Settled::default();
                for position in positions {
                    let why = Reasoned { action, by: COMMAND_LINE, why: &which.why };
                    all = all.plus(self.line.settle_one(self.id, position.parse()?, why).await?);
                }
                all
            }
        };
        self.line.journal(self.id, &format!("quarantine {}", action.name()), &why).await?;
        self.line.catch_up().await?;
        Ok(settled.into())
    }

    async fn mappings(&self) -> anyhow::Result<Vec<MappingSummary>> {
        self.line.wait_cases().await?;
        let mut all = Vec::new();
        for stream in self.streams_by_name().await? {
            all.extend(self.line.mapping_in_force(&stream).await?.map(mappings::summary));
        }
        Ok(all)
    }

    async fn mapping(&self, stream: &StreamPath, version: Option<u32>) -> anyhow::Result<MappingInfo> {
        self.line.wait_cases().await?;
        let stream = self.stream(stream);
        let now = self.in_force(&stream).await?;
        let Some(version) = version.filter(|version| *version != now.version) else { return Ok(mappings::info(now)) };
        let (mapping, made) = self.version(&stream, version).await?;
        Ok(mappings::info_of(&stream, version, now.version, &mapping, made))
    }

    async fn mapping_versions(&self, stream: &StreamPath) -> anyhow::Result<Vec<VersionInfo>> {
        self.line.wait_cases().await?;
        let stream = self.stream(stream);
        self.in_force(&stream).await?;
        Ok(self.line.mapping_history(&stream).await?.into_iter().map(mappings::version_info).collect())
    }

    async fn mapping_diff(
        &self,
        stream: &StreamPath,
        from: u32,
        to: Option<u32>,
    ) -> anyhow::Result<Vec<DifferenceInfo>> {
        self.line.wait_cases().await?;
        let stream = self.stream(stream);
        let to = to.unwrap_or(self.in_force(&stream).await?.version);
        let ((before, _), (after, _)) = (self.version(&stream, from).await?, self.version(&stream, to).await?);
        Ok(before.diff(&after).into_iter().map(mappings::difference).collect())
    }

    async fn mapping_suggestions(&self, stream: &StreamPath) -> anyhow::Result<SuggestionsInfo> {
        self.line.wait_cases().await?;
        let stream = self.stream(stream);
        let found = self.line.suggested_mapping(&stream).await?;
        let found = found.with_context(|| format!("there is no stream {stream}: see autonomos mappings list"))?;
        Ok(suggestions::of_stream(found))
    }

    async fn set_mapping(
        &self,
        stream: &StreamPath,
        mapping: &Mapping,
        made_on: u32,
        why: &str,
    ) -> anyhow::Result<MappingInfo> {
        let stream = self.stream(stream);
        let set = self.line.set_mapping(&stream, mapping, Some(made_on), (COMMAND_LINE, why)).await?;
        let detail = format!("mapping of {stream}: version {made_on} → {}: {why}", set.version);
        self.line.journal(self.id, "mappings set", &detail).await?;
        self.line.catch_up().await?;
        Ok(mappings::info(set))
    }

    async fn drift(&self) -> anyhow::Result<Vec<DriftInfo>> {
        self.line.wait_cases().await?;
        let mut all = Vec::new();
        for stream in self.streams_by_name().await? {
            all.extend(self.line.drift_of(&stream).await?.map(drift::info));
        }
        Ok(all)
    }

    async fn drift_of(&self, stream: &StreamPath) -> anyhow::Result<DriftHistory> {
        self.line.wait_cases().await?;
        let stream = self.stream(stream);
        let found = self.line.drift_of(&stream).await?;
        let found = found.with_context(|| format!("there is no stream {stream}: see autonomos drift list"))?;
        let (mut shapes, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.line.shapes_of(&stream, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            shapes.extend(page.into_iter().map(|(_, change)| drift::shape(change)));
        }
        let cases = self.line.cases_of(&stream).await?.into_iter().map(drift::case).collect();
        Ok(DriftHistory { drift: drift::info(found), shapes, cases, next: None })
    }

    async fn policy(&self, connection: Option<&ConnectionName>) -> anyhow::Result<PolicyInfo> {
        Ok(policy::info(self.line.policies(self.id).await?, connection))
    }

    async fn set_policy(
        &self,
        connection: Option<&ConnectionName>,
        policy: Option<PolicyBody>,
        number: u64,
    ) -> anyhow::Result<PolicyInfo> {
        let before = self.line.policies(self.id).await?;
        let wanted = policy.map(policy::policy).transpose()?;
        let set = self.line.set_policy(self.id, connection, wanted, COMMAND_LINE, Some(number)).await?;
        let detail = policy_told(connection, before.own(connection), set.own(connection));
        self.line.journal(self.id, "policy", &detail).await?;
        self.line.catch_up().await?;
        Ok(policy::info(set, connection))
    }

    async fn backtest(
        &self,
        connection: Option<&ConnectionName>,
        at_least: Option<f64>,
    ) -> anyhow::Result<Vec<ThresholdInfo>> {
        self.line.wait_cases().await?;
        Ok(policy::backtested(self.line, self.id, connection, at_least).await?)
    }

    async fn advice(&self) -> anyhow::Result<AdviceUsage> {
        Ok(advice::usage(self.line.advice(self.id).await?))
    }

    async fn reset_advice(&self) -> anyhow::Result<AdviceUsage> {
        let before = self.line.reset_advice(self.id).await?;
        self.line.journal(self.id, "advice reset", &advice_told(&before.usage)).await?;
        Ok(advice::usage(before))
    }

    async fn webhooks(&self) -> anyhow::Result<Vec<WebhookInfo>> {
        Ok(webhooks::all(&*self.line.store, self.id).await?)
    }

    async fn add_webhook(&self, wanted: WebhookBody) -> anyhow::Result<WebhookMade> {
        // Whether its host may be told, the server says that sends.
        let url: Url = wanted.url.parse().with_context(|| format!("{:?} is no address", &*wanted.url))?;
        if !matches!(url.scheme(), "http" | "https") {
            bail!("write https://host/path, or http where the server's configuration allows the host");
        }
        let wanted = webhooks::wanted(wanted, url.into())?;
        let (id, webhook) = self.line.add_webhook(self.id, wanted, COMMAND_LINE).await?;
        let made = webhooks::made(id, webhook);
        let detail = format!("webhook {} to {}", made.webhook.id, made.webhook.host);
        self.line.journal(self.id, "webhooks add", &detail).await?;
        Ok(made)
    }

    async fn test_webhook(&self, id: &str) -> anyhow::Result<()> {
        Ok(self.line.test_webhook(self.id, id).await?)
    }

    async fn pause_webhook(&self, id: &str, paused: bool) -> anyhow::Result<()> {
        self.line.pause_webhook(self.id, id, paused).await?;
        Ok(())
    }

    async fn remove_webhook(&self, id: &str) -> anyhow::Result<()> {
        if !notices::remove_webhook(&*self.line.store, self.id, id).await? {
            bail!("there is no webhook {id}: see autonomos webhooks list");
        }
        Ok(self.line.journal(self.id, "webhooks remove", id).await?)
    }
}
