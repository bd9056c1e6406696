//! What people decide by, and what they change: evidence, mappings, policies, webhooks, advice.

use async_trait::async_trait;
use schemas::drift::Verdict;
use schemas::settle::Action;
use schemas::{ConnectionName, Mapping};

use super::StreamPath;
use crate::http::routes::advice::AdviceUsage;
use crate::http::routes::cases::evidence::DryRunInfo;
use crate::http::routes::drift::{DriftHistory, DriftInfo};
use crate::http::routes::mappings::suggestions::SuggestionsInfo;
use crate::http::routes::mappings::{DifferenceInfo, MappingInfo, MappingSummary, VersionInfo};
use crate::http::routes::policy::{PolicyBody, PolicyInfo, ThresholdInfo};
use crate::http::routes::quarantine::settle::SettledInfo;
use crate::http::routes::webhooks::{WebhookBody, WebhookInfo, WebhookMade};

/// What the command line asks of a tenant's decisions.
#[async_trait]
pub trait Deciding: Send + Sync {
    /// What a decision would do to the last records that a case holds.
    async fn dry_run(&self, case: &str, verdict: Verdict, records: u32) -> anyhow::Result<DryRunInfo>;
    /// Retries or discards what was set aside, and answers what became of it.
    async fn settle(&self, action: Action, which: Settling) -> anyhow::Result<SettledInfo>;
    /// The mappings in force.
    async fn mappings(&self) -> anyhow::Result<Vec<MappingSummary>>;
    /// A stream's mapping: the one in force, or a version.
    async fn mapping(&self, stream: &StreamPath, version: Option<u32>) -> anyhow::Result<MappingInfo>;
    /// The versions of a stream's mapping that are known, the earliest first.
    async fn mapping_versions(&self, stream: &StreamPath) -> anyhow::Result<Vec<VersionInfo>>;
    /// What differs between two versions; the second is the one in force when nothing is said.
    async fn mapping_diff(
        &self,
        stream: &StreamPath,
        from: u32,
        to: Option<u32>,
    ) -> anyhow::Result<Vec<DifferenceInfo>>;
    /// What the paths of a stream could fill that no rule reads.
    async fn mapping_suggestions(&self, stream: &StreamPath) -> anyhow::Result<SuggestionsInfo>;
    /// Puts another mapping in force in the place of a version, and answers what is in force then.
    async fn set_mapping(
        &self,
        stream: &StreamPath,
        mapping: &Mapping,
        made_on: u32,
        why: &str,
    ) -> anyhow::Result<MappingInfo>;
    /// How the shapes of the streams and their cases fared.
    async fn drift(&self) -> anyhow::Result<Vec<DriftInfo>>;
    /// The same of one stream, with everything that was new of its shape and every case.
    async fn drift_of(&self, stream: &StreamPath) -> anyhow::Result<DriftHistory>;
    /// The policy of the tenant or of a connection.
    async fn policy(&self, connection: Option<&ConnectionName>) -> anyhow::Result<PolicyInfo>;
    /// Sets it as a whole or takes it away, in the place of what had that number.
    async fn set_policy(
        &self,
        connection: Option<&ConnectionName>,
        policy: Option<PolicyBody>,
        number: u64,
    ) -> anyhow::Result<PolicyInfo>;
    /// What a threshold, or some usual ones, would have done to the past cases.
    async fn backtest(
        &self,
        connection: Option<&ConnectionName>,
        at_least: Option<f64>,
    ) -> anyhow::Result<Vec<ThresholdInfo>>;
    /// What questions to a language model have cost.
    async fn advice(&self) -> anyhow::Result<AdviceUsage>;
    /// Counts from nothing again; answers what there was.
    async fn reset_advice(&self) -> anyhow::Result<AdviceUsage>;
    /// The webhooks.
    async fn webhooks(&self) -> anyhow::Result<Vec<WebhookInfo>>;
    /// Makes one.
    async fn add_webhook(&self, wanted: WebhookBody) -> anyhow::Result<WebhookMade>;
    /// Has one told that it works.
    async fn test_webhook(&self, id: &str) -> anyhow::Result<()>;
    /// Pauses one, or has it go on.
    async fn pause_webhook(&self, id: &str, paused: bool) -> anyhow::Result<()>;
    /// Removes one.
    async fn remove_webhook(&self, id: &str) -> anyhow::Result<()>;
}

/// Which records are settled, and why. These at their positions, or all that fit.
#[derive(Debug, Clone)]
pub struct Settling {
    /// Only of this stream.
    pub stream: Option<StreamPath>,
    /// Only what was set aside for this reason.
    pub reason: Option<String>,
    /// Only what was set aside for this field or path.
    pub field: Option<String>,
    /// These records.
    pub positions: Vec<String>,
    /// Why.
    pub why: String,
}
