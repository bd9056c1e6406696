//! What a tenant's questions have cost: one row a tenant, so that no two calls can both spend the last of a budget.

use schemas::TenantId;
use serde::{Deserialize, Serialize};

use crate::store::{Expect, Row, Store, StoreError, Table};

/// The tenant's one row.
const KEY: &str = "";

/// Since it was reset last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelUsage {
    /// Questions that were sent.
    pub calls: u64,
    /// Those without an answer that was of use.
    pub useless: u64,
    /// Questions that were not sent, since enough was known.
    pub saved_calls: u64,
    /// Questions that were not sent, since the budget was spent.
    pub refused_calls: u64,
    /// Tokens that were read.
    pub input_tokens: u64,
    /// Tokens that were written.
    pub output_tokens: u64,
    /// What the calls have cost, in millionths of a dollar; at most, where a model did not say how much it read and wrote.
    pub cost_micros: u64,
    /// What calls that are under way may cost at most.
    pub reserved_micros: u64,
    /// What the saved calls would have cost at most.
    pub saved_micros: u64,
    /// When it was reset, in microseconds since 1970 UTC; 0 for never.
    pub since: i64,
}

/// A tenant's usage.
pub async fn usage(store: &dyn Store, tenant: TenantId) -> Result<ModelUsage, StoreError> {
    Ok(row(store, tenant).await?.0)
}

/// Sets aside what a call may cost at most; false, and counted, when that is more than is left of the budget.
pub async fn reserve(store: &dyn Store, tenant: TenantId, most: u64, budget: Option<u64>) -> Result<bool, StoreError> {
    change(store, tenant, |usage| {
        let spent = usage.cost_micros.saturating_add(usage.reserved_micros).saturating_add(most);
        let fits = budget.is_none_or(|budget| spent <= budget);
        match fits {
            true => usage.reserved_micros = usage.reserved_micros.saturating_add(most),
            false => usage.refused_calls += 1,
        }
        fits
    })
    .await
}

/// Notes how a call that was set aside for has ended: tokens read and written, what they cost, whether it was of use.
pub async fn settle(
    store: &dyn Store,
    tenant: TenantId,
    reserved: u64,
    call: &schemas::advice::ModelCall,
) -> Result<(), StoreError> {
    change(store, tenant, |usage| {
        usage.reserved_micros = usage.reserved_micros.saturating_sub(reserved);
        usage.calls += 1;
        usage.useless += u64::from(call.outcome != schemas::advice::CallOutcome::Answered);
        usage.input_tokens = usage.input_tokens.saturating_add(call.input_tokens);
        usage.output_tokens = usage.output_tokens.saturating_add(call.output_tokens);
        usage.cost_micros = usage.cost_micros.saturating_add(call.cost_micros);
    })
    .await
}

/// Notes that a call was not needed.
pub async fn saved(store: &dyn Store, tenant: TenantId, micros: u64) -> Result<(), StoreError> {
    change(store, tenant, |usage| {
        usage.saved_calls += 1;
        usage.saved_micros = usage.saved_micros.saturating_add(micros);
    })
    .await
}

/// Counts from nothing again, at a time in microseconds since 1970 UTC; also what was set aside, since whoever did that may
/// have died. Answers what there was.
pub async fn reset(store: &dyn Store, tenant: TenantId, at: i64) -> Result<ModelUsage, StoreError> {
    change(store, tenant, |usage| std::mem::replace(usage, ModelUsage { since: at, ..ModelUsage::default() })).await
}

async fn change<T>(
    store: &dyn Store,
    tenant: TenantId,
    mut change: impl FnMut(&mut ModelUsage) -> T,
) -> Result<T, StoreError> {
    loop {
        let (mut usage, expect) = row(store, tenant).await?;
        let answer = change(&mut usage);
        let value = serde_json::to_vec(&usage).expect("numbers are JSON");
        match store.put(tenant, Table::ModelUsage, KEY, value.into(), expect).await {
            Ok(_) => return Ok(answer),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn row(store: &dyn Store, tenant: TenantId) -> Result<(ModelUsage, Expect), StoreError> {
    let Some(Row { value, version }) = store.get(tenant, Table::ModelUsage, KEY).await? else {
        return Ok((ModelUsage::default(), Expect::Absent));
    };
    let usage = serde_json::from_slice(&value);
    let usage = usage.map_err(|e| StoreError::Unreadable(format!("the usage of models: {e}")))?;
    Ok((usage, Expect::Version(version)))
}
