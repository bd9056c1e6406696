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

#[cfg(test)]
mod tests {
    use schemas::advice::{CallOutcome, ModelCall};

    use super::*;
    use crate::store::MemoryStore;
    use crate::testing::TENANT;

    fn call(outcome: CallOutcome, cost_micros: u64) -> ModelCall {
        ModelCall { model: "m".into(), outcome, input_tokens: 7, output_tokens: 3, cost_micros }
    }

    #[tokio::test]
    async fn what_is_under_way_counts_against_the_budget_until_it_is_settled() {
        let store = MemoryStore::default();
        assert!(reserve(&store, TENANT, 60, Some(100)).await.unwrap());
        assert!(!reserve(&store, TENANT, 60, Some(100)).await.unwrap(), "another may not fit");
        settle(&store, TENANT, 60, &call(CallOutcome::Answered, 40)).await.unwrap();
        assert!(reserve(&store, TENANT, 60, Some(100)).await.unwrap());
        settle(&store, TENANT, 60, &call(CallOutcome::Failed, 0)).await.unwrap();
        saved(&store, TENANT, 9).await.unwrap();
        let now = usage(&store, TENANT).await.unwrap();
        let expected = ModelUsage {
            calls: 2,
            useless: 1,
            saved_calls: 1,
            refused_calls: 1,
            input_tokens: 14,
            output_tokens: 6,
            cost_micros: 40,
            reserved_micros: 0,
            saved_micros: 9,
            since: 0,
        };
        assert_eq!(now, expected);
        assert_eq!(reset(&store, TENANT, 5).await.unwrap(), expected);
        assert_eq!(usage(&store, TENANT).await.unwrap(), ModelUsage { since: 5, ..ModelUsage::default() });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_two_calls_spend_the_last_of_a_budget() {
        let store = std::sync::Arc::new(MemoryStore::default());
        let ask = |_| {
            let store = store.clone();
            tokio::spawn(async move { reserve(&*store, TENANT, 10, Some(95)).await.unwrap() })
        };
        let asked: Vec<_> = (0..50).map(ask).collect();
        let mut may = 0;
        for one in asked {
            may += u64::from(one.await.unwrap());
        }
        let now = usage(&*store, TENANT).await.unwrap();
        assert_eq!((may, now.reserved_micros, now.refused_calls), (9, 90, 41));
    }
}
