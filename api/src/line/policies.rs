//! Policies: by what a tenant's cases are decided, set by people, and what they would have done in the past.

use pipeline::policies::{self, Change, Policies, PolicyError};
use pipeline::repair::{self, Backtest, Case};
use schemas::{ConnectionName, Policy, TenantId};

use super::Line;

const PAGE: usize = 1_000;

impl Line {
    /// The policies of a tenant.
    pub async fn policies(&self, tenant: TenantId) -> Result<Policies, PolicyError> {
        Ok(policies::read(&*self.store, tenant).await?)
    }

    /// Sets the policy of a tenant or of a connection as a whole, or takes it away; every stream concerned has it for what
    /// comes from now on.
    pub async fn set_policy(
        &self,
        tenant: TenantId,
        connection: Option<&ConnectionName>,
        policy: Option<Policy>,
        by: &str,
        made_on: Option<u64>,
    ) -> Result<Policies, PolicyError> {
        let at = jiff::Timestamp::now().as_microsecond();
        let change = Change { connection, policy, by, at, made_on };
        policies::set(&*self.store, &self.ingest, tenant, &change).await
    }

    /// What a policy would have done to the past cases of a tenant, or of a connection.
    pub async fn backtest(
        &self,
        tenant: TenantId,
        connection: Option<&ConnectionName>,
        policy: &Policy,
    ) -> anyhow::Result<Backtest> {
        self.wait_cases().await?;
        let mut test = Backtest::new(policy.clone());
        let mut after: Option<String> = None;
        loop {
            let page = repair::list(&*self.store, tenant, None, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(test) };
            after = Some(last.clone());
            let is_meant =
                |case: &Case| connection.is_none_or(|wanted| case.stream.split('/').next() == Some(wanted.as_str()));
            page.iter().filter(|(_, case)| is_meant(case)).for_each(|(_, case)| test.take(case));
        }
    }
}

/// What a change of a policy was, in words for the journal.
pub fn told(connection: Option<&ConnectionName>, before: Option<&Policy>, after: Option<&Policy>) -> String {
    let whose = connection.map_or_else(|| "the tenant".to_owned(), |name| format!("the connection {name}"));
    let text = |policy: Option<&Policy>| {
        policy.map_or_else(|| "none".to_owned(), |policy| serde_json::to_string(policy).unwrap_or_default())
    };
    format!("policy of {whose}: {} → {}", text(before), text(after))
}
