//! What a person sees of a case before deciding it: evidence from the log, what a decision would do, whom it concerns.

use anyhow::Context;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use futures::StreamExt;
use pipeline::process::read_snapshot;
use pipeline::repair::{self, Case, DryRun, Evidence, EvidenceError, Mask};
use pipeline::step::StreamState;
use schemas::drift::Verdict;
use schemas::{Entity, StreamId, TenantId};
use serde::Serialize;

use super::Line;
use super::cases::stream_of;
use super::consumers::Consumer;

/// Whom a case concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Impact {
    /// The views that its stream feeds.
    pub views: Vec<ViewImpact>,
    /// Records that it holds now.
    pub rows_held: u64,
}

/// What a case concerns of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ViewImpact {
    /// The table that SQL asks.
    pub view: String,
    /// What its rows are.
    pub entity: String,
    /// The columns that are filled from what is lost; `$key`, `$version` and `$deleted` concern the rows themselves.
    pub columns: Vec<String>,
    /// Rows of the case's stream in it; nothing when they could not be counted now.
    pub rows: Option<u64>,
    /// The statements that asked for one of the columns last, since the server started.
    pub consumers: Vec<Consumer>,
}

impl Line {
    /// Everything that a person needs to see to decide a case.
    pub async fn evidence(&self, tenant: TenantId, case: &Case) -> anyhow::Result<Evidence> {
        let Some((state, mask)) = self.looked_at(tenant, case).await? else { return Ok(Evidence::default()) };
        Ok(repair::evidence(&*self.log, &state, case, &mask).await?)
    }

    /// What a decision would do to the last records that a case holds, at most `count`; why it would be refused, if it
    /// would.
    pub async fn dry_run(
        &self,
        tenant: TenantId,
        case: &Case,
        verdict: Verdict,
        count: usize,
    ) -> anyhow::Result<Result<DryRun, String>> {
        let looked = self.looked_at(tenant, case).await?;
        let (state, mask) = looked.context("the stream of the case has no state")?;
        match repair::dry_run(&*self.log, &state, case, &mask, verdict, count).await {
            Ok(run) => Ok(Ok(run)),
            Err(EvidenceError::Refused(reason)) => Ok(Err(reason)),
            Err(error) => Err(error.into()),
        }
    }

    /// The state of a case's stream, and what is masked of its values.
    async fn looked_at(&self, tenant: TenantId, case: &Case) -> anyhow::Result<Option<(StreamState, Mask)>> {
        let stream = stream_of(tenant, case)?;
        let Some(state) = read_snapshot(&*self.store, &stream).await? else { return Ok(None) };
        let names = self.policies(tenant).await?.of(&stream.connection).mask.unwrap_or_default();
        let mask = Mask::of_case(&state, case, &names);
        Ok(mask.map(|mask| (state, mask)))
    }

    /// A case as webhooks tell it: without names that may be values.
    pub async fn told_outside(&self, tenant: TenantId, case: &Case) -> anyhow::Result<Case> {
        let stream = stream_of(tenant, case)?;
        let state = read_snapshot(&*self.store, &stream).await?;
        let names = self.policies(tenant).await?.of(&stream.connection).mask.unwrap_or_default();
        Ok(case.told_outside(state.as_ref(), &names))
    }

    /// Whom a case concerns.
    pub async fn impact(&self, tenant: TenantId, case: &Case) -> anyhow::Result<Impact> {
        let stream = stream_of(tenant, case)?;
        let rows_held = case.held.saturating_sub(case.redriven);
        let state = read_snapshot(&*self.store, &stream).await?;
        let Some(entity) = state.as_ref().and_then(StreamState::entity) else {
            return Ok(Impact { views: vec![], rows_held });
        };
        let mut columns: Vec<String> = case.lost.iter().flat_map(|lost| lost.feeds.clone()).collect();
        columns.sort();
        columns.dedup();
        let rows = match self.count_rows(&stream, entity).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "the rows that a case concerns were not counted");
                None
            }
        };
        let view = entity.table.to_string();
        let consumers = self.consumers.of(tenant, &view, &columns);
        let entity = entity.entity.to_string();
        Ok(Impact { views: vec![ViewImpact { view, entity, columns, rows, consumers }], rows_held })
    }

    async fn count_rows(&self, stream: &StreamId, entity: &Entity) -> anyhow::Result<Option<u64>> {
        let snapshot = self.roles.projector.snapshot(stream.tenant, &entity.entity, None).await?;
        let Some(snapshot) = snapshot else { return Ok(None) };
        // Names of connections and streams hold no quotes: their types see to that.
        let sql = format!(
            "select count(*) from {} where _connection = '{}' and _stream = '{}'",
            snapshot.table, stream.connection, stream.stream
        );
        let mut result = self.queries.query(stream.tenant, vec![snapshot], &sql).await?;
        let batch = result.batches.next().await.context("a count has a row")??;
        let counted = arrow::compute::cast(batch.column(0), &DataType::Int64)?;
        let counted = counted.as_primitive::<Int64Type>().iter().next().flatten();
        Ok(counted.and_then(|rows| u64::try_from(rows).ok()))
    }
}
