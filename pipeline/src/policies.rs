//! Policies of tenants and their connections, as `Store` holds them: one row a tenant, so that one number orders all its
//! changes. Every stream concerned is told on the log; whoever is cut off between the two is finished at the next start.

use std::collections::BTreeMap;

use schemas::input::Command;
use schemas::policy::InvalidPolicy;
use schemas::{ConnectionName, Input, Policy, StreamId, TenantId};
use serde::{Deserialize, Serialize};

use crate::ingest::{Ingest, IngestError, opened};
use crate::store::{Expect, Row, Store, StoreError, Table};

/// A tenant's one row of policies.
const KEY: &str = "";
const PAGE: usize = 1_000;

/// The policies of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Raised at every change.
    pub number: u64,
    /// The tenant's.
    #[serde(default)]
    pub tenant: Policy,
    /// Where a connection says otherwise.
    #[serde(default)]
    pub connections: BTreeMap<ConnectionName, Policy>,
    /// Who changed something last.
    #[serde(default)]
    pub by: String,
    /// When, in microseconds since 1970 UTC.
    #[serde(default)]
    pub at: i64,
}

impl Policies {
    /// What is in force for a connection.
    pub fn of(&self, connection: &ConnectionName) -> Policy {
        match self.connections.get(connection) {
            Some(own) => own.over(&self.tenant),
            None => self.tenant.clone(),
        }
    }

    /// What the tenant or a connection says itself.
    pub fn own(&self, connection: Option<&ConnectionName>) -> Option<&Policy> {
        match connection {
            None => Some(&self.tenant),
            Some(connection) => self.connections.get(connection),
        }
    }
}

/// A policy is not set.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It makes no sense.
    #[error(transparent)]
    Invalid(#[from] InvalidPolicy),
    /// It is not the one that the change was made on.
    #[error("the policies were changed meanwhile: look again")]
    Changed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The front door failed.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// The policies of a tenant.
pub async fn read(store: &dyn Store, tenant: TenantId) -> Result<Policies, StoreError> {
    Ok(row(store, tenant).await?.0)
}

async fn row(store: &dyn Store, tenant: TenantId) -> Result<(Policies, Expect), StoreError> {
    let Some(Row { value, version }) = store.get(tenant, Table::Policies, KEY).await? else {
        return Ok((Policies::default(), Expect::Absent));
    };
    let policies = serde_json::from_slice(&value);
    let policies = policies.map_err(|e| StoreError::Unreadable(format!("the policies of a tenant: {e}")))?;
    Ok((policies, Expect::Version(version)))
}

/// What a change of a policy is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// Whose: a connection's, or the tenant's.
    pub connection: Option<&'a ConnectionName>,
    /// The whole policy; nothing takes a connection's away, and makes the tenant's as usual.
    pub policy: Option<Policy>,
    /// Who wants it.
    pub by: &'a str,
    /// When, in microseconds since 1970 UTC.
    pub at: i64,
    /// The number of the policies that it was made on, if it matters.
    pub made_on: Option<u64>,
}

/// Changes a policy, and tells every stream concerned. It is on the log when this returns.
pub async fn set(
    store: &dyn Store,
    ingest: &Ingest,
    tenant: TenantId,
    change: &Change<'_>,
) -> Result<Policies, PolicyError> {
    change.policy.as_ref().map(Policy::validate).transpose()?;
    let noted = tenant.to_string();
    let policies = loop {
        let (mut policies, expect) = row(store, tenant).await?;
        if change.made_on.is_some_and(|number| number != policies.number) {
            return Err(PolicyError::Changed);
        }
        let wanted = change.policy.clone();
        match change.connection {
            None => policies.tenant = wanted.unwrap_or_default(),
            Some(name) => match wanted {
                Some(wanted) => _ = policies.connections.insert(name.clone(), wanted),
                None => _ = policies.connections.remove(name),
            },
        }
        policies.number += 1;
        (policies.by, policies.at) = (change.by.to_owned(), change.at);
        // First the note that somebody is to be told: it does no harm when nothing comes of it.
        store.put(TenantId::SYSTEM, Table::Policies, &noted, "{}".into(), Expect::Any).await?;
        let value = serde_json::to_vec(&policies).expect("policies have only text keys");
        match store.put(tenant, Table::Policies, KEY, value.into(), expect).await {
            Ok(_) => break policies,
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    };
    tell(store, ingest, tenant, &policies).await?;
    Ok(policies)
}

/// Tells the streams of tenants whose policies were changed by somebody who was cut off.
pub async fn finish(store: &dyn Store, ingest: &Ingest) -> Result<(), PolicyError> {
    loop {
        let notes = store.scan(TenantId::SYSTEM, Table::Policies, "", None, PAGE).await?;
        if notes.is_empty() {
            return Ok(());
        }
        for (key, _) in notes {
            match key.parse() {
                Ok(tenant) => {
                    let policies = read(store, tenant).await?;
                    tell(store, ingest, tenant, &policies).await?;
                }
                Err(_) => store.delete(TenantId::SYSTEM, Table::Policies, &key, Expect::Any).await?,
            }
        }
    }
}

/// A stream that is opened meanwhile is in the register before its opener reads the policies: one of the two sees the
/// other. A stream takes no policy that is earlier than the one that it has.
async fn tell(store: &dyn Store, ingest: &Ingest, tenant: TenantId, policies: &Policies) -> Result<(), PolicyError> {
    let mut after: Option<String> = None;
    loop {
        let rows = store.scan(tenant, Table::Streams, "", after.as_deref(), PAGE).await?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        let mut told = Vec::new();
        for (key, row) in &rows {
            let Some((connection, stream)) = key.split_once('/') else { continue };
            let (Ok(connection), Ok(stream)) = (connection.parse(), stream.parse()) else { continue };
            let open = opened(&StreamId { tenant, connection, stream }, row)?;
            let input = input(policies, &open.id.connection);
            told.push((open, input));
        }
        ingest.send_each(&told).await.map_err(IngestError::from)?;
    }
    store.delete(TenantId::SYSTEM, Table::Policies, &tenant.to_string(), Expect::Any).await?;
    Ok(())
}

/// What a stream is told of its tenant's policies.
pub(crate) fn input(policies: &Policies, connection: &ConnectionName) -> Input {
    let (number, policy, by) = (policies.number, policies.of(connection), policies.by.clone());
    Input::Command { id: format!("policy-{number}"), command: Command::SetPolicy { number, policy, by } }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::mapping::Repairs;

    use super::*;
    use crate::process::read_state;
    use crate::testing::{ENTITY, Fuse, Fused, Line, MAPPING, TENANT, stream};

    fn wanting(repairs: Repairs) -> Policy {
        Policy { repairs: Some(repairs), ..Policy::default() }
    }

    fn change(connection: Option<&ConnectionName>, policy: Policy) -> Change<'_> {
        Change { connection, policy: Some(policy), by: "ada", at: 7, made_on: None }
    }

    async fn in_force(line: &Line, name: &str) -> Repairs {
        line.process().await;
        read_state(&*line.store, &stream(name)).await.unwrap().unwrap().repairs()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_policy_reaches_streams_that_are_open_and_those_that_are_opened_later() {
        let line = Line::new();
        line.open("orders", MAPPING, ENTITY).await;
        let ingest = line.ingest();
        let first = set(&*line.store, &ingest, TENANT, &change(None, wanting(Repairs::Approve))).await.unwrap();
        assert_eq!((first.number, in_force(&line, "orders").await), (1, Repairs::Approve));
        line.open("bills", MAPPING, ENTITY).await;
        assert_eq!(in_force(&line, "bills").await, Repairs::Approve);
        let crm = "crm".parse().unwrap();
        set(&*line.store, &ingest, TENANT, &change(Some(&crm), wanting(Repairs::Stop))).await.unwrap();
        assert_eq!(in_force(&line, "bills").await, Repairs::Stop, "the connection says otherwise");
        let gone = Change { policy: None, ..change(Some(&crm), Policy::default()) };
        set(&*line.store, &ingest, TENANT, &gone).await.unwrap();
        assert_eq!(in_force(&line, "orders").await, Repairs::Approve);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_that_was_made_on_other_policies_or_makes_no_sense_changes_nothing() {
        let line = Line::new();
        let ingest = line.ingest();
        let made_on = |number| Change { made_on: Some(number), ..change(None, wanting(Repairs::Stop)) };
        set(&*line.store, &ingest, TENANT, &made_on(0)).await.unwrap();
        let stale = set(&*line.store, &ingest, TENANT, &made_on(0)).await;
        assert!(matches!(stale, Err(PolicyError::Changed)));
        let odd = change(None, Policy { at_least: Some(5_000), ..Policy::default() });
        assert!(matches!(set(&*line.store, &ingest, TENANT, &odd).await, Err(PolicyError::Invalid(_))));
        assert_eq!(read(&*line.store, TENANT).await.unwrap().number, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn wherever_somebody_dies_who_sets_a_policy_it_is_set_wholly_or_not_at_all() {
        for writes in 0..6 {
            let line = Line::new();
            line.open("orders", MAPPING, ENTITY).await;
            let fuse = Fuse::crash(writes);
            let log = Arc::new(Fused { fuse: fuse.clone(), inner: line.log.clone() });
            let store = Arc::new(Fused { fuse: fuse.clone(), inner: line.store.clone() });
            let ingest = Ingest::new(log, store.clone());
            _ = set(&*store, &ingest, TENANT, &change(None, wanting(Repairs::Stop))).await;
            finish(&*line.store, &line.ingest()).await.unwrap();
            let expected = read(&*line.store, TENANT).await.unwrap().tenant.repairs(None);
            assert_eq!(in_force(&line, "orders").await, expected, "it died at write {writes}");
            assert_eq!(line.store.scan(TenantId::SYSTEM, Table::Policies, "", None, 9).await.unwrap(), []);
        }
    }
}
