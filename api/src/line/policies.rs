//! Policies: by what a tenant's cases are decided, set by people, and what they would have done in the past.

use std::collections::BTreeMap;

use pipeline::policies::{self, Change, Policies, PolicyError};
use pipeline::repair::{self, Backtest, Case};
use schemas::mapping::Repairs;
use schemas::{ConnectionName, Mapping, Policy, TenantId};

use super::Line;
use super::cases::stream_of;

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

    /// What each of some policies would have done to the past cases of a tenant, or of a connection, that are kept by now.
    pub async fn backtest(
        &self,
        tenant: TenantId,
        connection: Option<&ConnectionName>,
        policies: Vec<Policy>,
    ) -> anyhow::Result<Vec<Backtest>> {
        let mut tests: Vec<Backtest> = policies.into_iter().map(Backtest::new).collect();
        let mut after: Option<String> = None;
        // Many cases were decided under few mappings.
        let mut known: BTreeMap<(String, u32), Option<Repairs>> = BTreeMap::new();
        loop {
            let page = repair::list(&*self.store, tenant, None, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(tests) };
            after = Some(last.clone());
            let is_meant =
                |case: &Case| connection.is_none_or(|wanted| case.stream.split('/').next() == Some(wanted.as_str()));
            for (_, case) in &page {
                // Where nothing was proposed there is nothing to judge.
                if case.is_proposed && is_meant(case) {
                    let of = (case.stream.clone(), case.mapping_version);
                    let mapping = match known.get(&of) {
                        Some(mapping) => *mapping,
                        None => *known.entry(of).or_insert(self.repairs_by_mapping(tenant, case).await?),
                    };
                    tests.iter_mut().for_each(|test| test.take(case, mapping));
                }
            }
        }
    }

    /// Who decides repairs by the mapping that a case waits, or was decided, under; nothing where that says nothing, or is
    /// not known any more.
    async fn repairs_by_mapping(&self, tenant: TenantId, case: &Case) -> anyhow::Result<Option<Repairs>> {
        let version = repair::version(&*self.store, &stream_of(tenant, case)?, case.mapping_version).await?;
        let text = version.and_then(|version| version.text);
        Ok(text.and_then(|text| serde_json::from_str::<Mapping>(&text).ok()).and_then(|mapping| mapping.repairs))
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
