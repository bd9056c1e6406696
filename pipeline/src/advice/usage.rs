//! What a tenant's questions have cost: one row a tenant, so that no two calls can both spend the last of a budget.

use schemas::TenantId;
use serde::{Deserialize, Serialize};

use crate::store::{Expect, Row, Store, StoreError, Table};

/// The tenant's one row.
const KEY: &str = "";
/// A call that has not ended so many microseconds after it began never will: whoever made it was killed. No model is waited
/// for nearly so long.
const CALL_MAX: i64 = 3_600_000_000;

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

/// What is kept of a tenant: what is told, and the calls that are under way.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    #[serde(flatten)]
    usage: ModelUsage,
    under_way: Vec<Reservation>,
}

/// What is set aside for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// When the call began, in microseconds since 1970 UTC.
    pub began: i64,
    /// What it may cost at most, in millionths of a dollar.
    pub most: u64,
}

impl Kept {
    /// Calls that never ended, by a time, count as some that may have been paid for, and were of no use; so does what an
    /// earlier release had set aside without saying when.
    fn give_up(&mut self, now: i64) {
        let Self { usage, under_way } = self;
        let untold = usage.reserved_micros.saturating_sub(sum(under_way));
        usage.cost_micros = usage.cost_micros.saturating_add(untold);
        let is_lost = |call: &Reservation| now.saturating_sub(call.began) >= CALL_MAX;
        for call in under_way.iter().filter(|call| is_lost(call)) {
            usage.calls += 1;
            usage.useless += 1;
            usage.cost_micros = usage.cost_micros.saturating_add(call.most);
        }
        under_way.retain(|call| !is_lost(call));
        usage.reserved_micros = sum(under_way);
    }
}

fn sum(under_way: &[Reservation]) -> u64 {
    under_way.iter().fold(0, |sum: u64, call| sum.saturating_add(call.most))
}

/// A tenant's usage at a time, in microseconds since 1970 UTC.
pub async fn usage(store: &dyn Store, tenant: TenantId, now: i64) -> Result<ModelUsage, StoreError> {
    let (mut kept, _) = row(store, tenant).await?;
    kept.give_up(now);
    Ok(kept.usage)
}

/// Sets aside what a call may cost at most; false, and counted, when that is more than is left of the budget.
pub async fn reserve(
    store: &dyn Store,
    tenant: TenantId,
    call: Reservation,
    budget: Option<u64>,
) -> Result<bool, StoreError> {
    change(store, tenant, |kept| {
        kept.give_up(call.began);
        let Kept { usage, under_way } = kept;
        let spent = usage.cost_micros.saturating_add(usage.reserved_micros).saturating_add(call.most);
        let fits = budget.is_none_or(|budget| spent <= budget);
        match fits {
            true => {
                under_way.push(call);
                usage.reserved_micros = sum(under_way);
            }
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
    reserved: Reservation,
    call: &schemas::advice::ModelCall,
) -> Result<(), StoreError> {
    change(store, tenant, |kept| {
        let Kept { usage, under_way } = kept;
        if let Some(at) = under_way.iter().position(|known| *known == reserved) {
            under_way.remove(at);
            usage.reserved_micros = usage.reserved_micros.saturating_sub(reserved.most);
        }
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
    change(store, tenant, |kept| {
        kept.usage.saved_calls += 1;
        kept.usage.saved_micros = kept.usage.saved_micros.saturating_add(micros);
    })
    .await
}

/// Counts from nothing again, at a time in microseconds since 1970 UTC; also what was set aside, since whoever did that may
/// have died. Answers what there was.
pub async fn reset(store: &dyn Store, tenant: TenantId, at: i64) -> Result<ModelUsage, StoreError> {
    change(store, tenant, |kept| {
        let usage = ModelUsage { since: at, ..ModelUsage::default() };
        std::mem::replace(kept, Kept { usage, under_way: vec![] }).usage
    })
    .await
}

async fn change<T>(
    store: &dyn Store,
    tenant: TenantId,
    mut change: impl FnMut(&mut Kept) -> T,
) -> Result<T, StoreError> {
    loop {
        let (mut kept, expect) = row(store, tenant).await?;
        let answer = change(&mut kept);
        let value = serde_json::to_vec(&kept).expect("numbers are JSON");
        match store.put(tenant, Table::ModelUsage, KEY, value.into(), expect).await {
            Ok(_) => return Ok(answer),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn row(store: &dyn Store, tenant: TenantId) -> Result<(Kept, Expect), StoreError> {
    let Some(Row { value, version }) = store.get(tenant, Table::ModelUsage, KEY).await? else {
        return Ok((Kept::default(), Expect::Absent));
    };
    let kept = serde_json::from_slice(&value);
    let kept = kept.map_err(|e| StoreError::Unreadable(format!("the usage of models: {e}")))?;
    Ok((kept, Expect::Version(version)))
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

    fn at(began: i64, most: u64) -> Reservation {
        Reservation { began, most }
    }

    #[tokio::test]
    async fn what_is_under_way_counts_against_the_budget_until_it_is_settled() {
        let (store, asked) = (MemoryStore::default(), at(1, 60));
        assert!(reserve(&store, TENANT, asked, Some(100)).await.unwrap());
        assert!(!reserve(&store, TENANT, at(2, 60), Some(100)).await.unwrap(), "another may not fit");
        settle(&store, TENANT, asked, &call(CallOutcome::Answered, 40)).await.unwrap();
        assert!(reserve(&store, TENANT, at(3, 60), Some(100)).await.unwrap());
        settle(&store, TENANT, at(3, 60), &call(CallOutcome::Failed, 0)).await.unwrap();
        saved(&store, TENANT, 9).await.unwrap();
        let now = usage(&store, TENANT, 4).await.unwrap();
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
        assert_eq!(usage(&store, TENANT, 6).await.unwrap(), ModelUsage { since: 5, ..ModelUsage::default() });
    }

    #[tokio::test]
    async fn a_call_whose_process_was_killed_is_under_way_for_an_hour_and_counts_as_paid_then() {
        let store = MemoryStore::default();
        assert!(reserve(&store, TENANT, at(0, 60), Some(100)).await.unwrap());
        let during = usage(&store, TENANT, CALL_MAX - 1).await.unwrap();
        assert_eq!((during.calls, during.cost_micros, during.reserved_micros), (0, 0, 60));
        let told = usage(&store, TENANT, CALL_MAX).await.unwrap();
        assert_eq!((told.calls, told.useless, told.cost_micros, told.reserved_micros), (1, 1, 60, 0));
        assert!(!reserve(&store, TENANT, at(CALL_MAX, 60), Some(100)).await.unwrap());
        assert!(reserve(&store, TENANT, at(CALL_MAX, 40), Some(100)).await.unwrap());
        let now = usage(&store, TENANT, CALL_MAX).await.unwrap();
        assert_eq!((now.calls, now.refused_calls, now.cost_micros, now.reserved_micros), (1, 1, 60, 40));
    }

    #[tokio::test]
    async fn what_an_earlier_release_left_set_aside_counts_as_paid() {
        let store = MemoryStore::default();
        let earlier = br#"{"calls":3,"cost_micros":5,"reserved_micros":60,"since":7}"#;
        store.put(TENANT, Table::ModelUsage, KEY, earlier.to_vec().into(), Expect::Absent).await.unwrap();
        let now = usage(&store, TENANT, 8).await.unwrap();
        assert_eq!((now.calls, now.cost_micros, now.reserved_micros, now.since), (3, 65, 0, 7));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_two_calls_spend_the_last_of_a_budget() {
        let store = std::sync::Arc::new(MemoryStore::default());
        let ask = |n| {
            let store = store.clone();
            tokio::spawn(async move { reserve(&*store, TENANT, at(n, 10), Some(95)).await.unwrap() })
        };
        let asked: Vec<_> = (0..50).map(ask).collect();
        let mut may = 0;
        for one in asked {
            may += u64::from(one.await.unwrap());
        }
        let now = usage(&*store, TENANT, 50).await.unwrap();
        assert_eq!((may, now.reserved_micros, now.refused_calls), (9, 90, 41));
    }
}
