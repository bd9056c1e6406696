//! What a tenant's questions to a language model have cost.

use pipeline::StoreError;
use pipeline::advice::{self, ModelUsage};
use schemas::TenantId;

use super::Line;

/// What questions have cost, and what they may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// The model that is asked; none is when this process knows of none.
    pub model: Option<String>,
    /// What the tenant's questions may cost until they are reset, in millionths of a dollar.
    pub budget_micros: Option<u64>,
    /// What they have cost.
    pub usage: ModelUsage,
}

impl Line {
    /// What a tenant's questions have cost, since they were reset last.
    pub async fn advice(&self, tenant: TenantId) -> Result<Advice, StoreError> {
        let now = jiff::Timestamp::now().as_microsecond();
        self.advice_of(tenant, advice::usage(&*self.store, tenant, now).await?).await
    }

    /// Counts from nothing again, and frees the budget; answers what there was.
    pub async fn reset_advice(&self, tenant: TenantId) -> Result<Advice, StoreError> {
        let now = jiff::Timestamp::now().as_microsecond();
        self.advice_of(tenant, advice::reset(&*self.store, tenant, now).await?).await
    }

    async fn advice_of(&self, tenant: TenantId, usage: ModelUsage) -> Result<Advice, StoreError> {
        let Some(asking) = &self.asking else { return Ok(Advice { usage, ..Advice::default() }) };
        let budget_micros = asking.budget_micros(&*self.store, tenant).await?;
        Ok(Advice { model: Some(asking.model().to_owned()), budget_micros, usage })
    }
}

/// A reset in words, for the journal.
pub fn told(before: &ModelUsage) -> String {
    let ModelUsage { calls, input_tokens, output_tokens, cost_micros, .. } = before;
    let (whole, part) = (cost_micros / 1_000_000, cost_micros % 1_000_000);
    format!(
        "advice counted anew: {calls} calls, {input_tokens} + {output_tokens} tokens, {whole}.{part:06} dollars before"
    )
}
