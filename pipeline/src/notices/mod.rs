//! Notices: what people are told of cases. Webhooks say who is told of what; the keeper reads `decisions` and notes for each
//! of them what it is to be told. Who sends the notices takes them from there, so a slow receiver holds nobody up, and
//! what was not sent outlives the process.

mod keeper;

use bytes::Bytes;
use schemas::decision::Fact;
use schemas::{Position, TenantId};
use serde::{Deserialize, Serialize};

pub use keeper::NoticeKeeper;
pub(crate) use keeper::READER;

use crate::store::{Expect, Row, Store, StoreError, Table};

const PAGE: usize = 500;

/// What people may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Topic {
    /// A case has opened.
    #[serde(rename = "case.opened")]
    Opened,
    /// A case still waits, or the time that it was put off to has come.
    #[serde(rename = "case.reminded")]
    Reminded,
    /// Nobody decided a case in time; it holds on.
    #[serde(rename = "case.expired")]
    Expired,
    /// One of two people has approved a decision.
    #[serde(rename = "case.approved")]
    Approved,
    /// A case is repaired, or accepted as removed.
    #[serde(rename = "case.decided")]
    Decided,
    /// A proposal was rejected.
    #[serde(rename = "case.rejected")]
    Rejected,
    /// A decision was taken back.
    #[serde(rename = "case.reverted")]
    Reverted,
    /// Somebody wants to see whether a webhook works.
    #[serde(rename = "webhook.tested")]
    Tested,
}

impl Topic {
    /// Everything that a webhook may choose.
    pub const CHOICE: [Self; 7] =
        [Self::Opened, Self::Reminded, Self::Expired, Self::Approved, Self::Decided, Self::Rejected, Self::Reverted];
    /// What a webhook is told that chose nothing.
    pub const USUAL: [Self; 4] = [Self::Opened, Self::Reminded, Self::Expired, Self::Approved];

    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "case.opened",
            Self::Reminded => "case.reminded",
            Self::Expired => "case.expired",
            Self::Approved => "case.approved",
            Self::Decided => "case.decided",
            Self::Rejected => "case.rejected",
            Self::Reverted => "case.reverted",
            Self::Tested => "webhook.tested",
        }
    }

    /// What a fact is to be told as, and of which case; nothing when nobody is told of it.
    fn of(fact: &Fact) -> Option<(Self, u64)> {
        Some(match fact {
            Fact::DriftDetected { case, again: false, .. } => (Self::Opened, *case),
            Fact::CaseReminded { case } => (Self::Reminded, *case),
            Fact::ApprovalGiven { case, .. } => (Self::Approved, *case),
            Fact::RepairApplied { case, .. } => (Self::Decided, *case),
            Fact::RepairRejected { case, by, .. } if by == crate::repair::RULES => (Self::Expired, *case),
            Fact::RepairRejected { case, .. } => (Self::Rejected, *case),
            Fact::RepairReverted { case, .. } => (Self::Reverted, *case),
            _ => return None,
        })
    }
}

/// In which form a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A CloudEvent in JSON, signed.
    Event,
    /// A message to an incoming webhook of Slack, or of what takes the same.
    Slack,
}

/// Who is told of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// In which form.
    pub form: Form,
    /// Where. It may hold a secret, and is never shown as a whole.
    pub url: String,
    /// What notices are signed with: 32 bytes in Base64.
    pub secret: String,
    /// Of what.
    pub topics: Vec<Topic>,
    /// Of these connections only; empty for all.
    #[serde(default)]
    pub connections: Vec<String>,
    /// Nothing is sent while it is; what is noted meanwhile is sent afterwards.
    #[serde(default)]
    pub paused: bool,
    /// Who made it.
    pub by: String,
    /// When, in microseconds since 1970 UTC: what happened before is not told.
    pub since: i64,
    /// How it fares.
    #[serde(default)]
    pub fared: Fared,
}

/// How the notices of a webhook fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fared {
    /// Notices that were taken.
    pub delivered: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Notices that were given up.
    pub given_up: u64,
    /// When the last one was taken, in microseconds since 1970 UTC.
    pub delivered_at: Option<i64>,
    /// Why the last try failed; nothing when it did not.
    pub error: Option<String>,
}

/// Something that a webhook is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What.
    pub topic: Topic,
    /// The stream that it is about: `connection/stream`; empty in a test.
    pub stream: String,
    /// The case that it is about.
    pub case: Option<Position>,
    /// When it happened, in microseconds since 1970 UTC.
    pub at: i64,
    /// Tries so far.
    #[serde(default)]
    pub tries: u32,
    /// When to try next, in microseconds since 1970 UTC.
    #[serde(default)]
    pub due: i64,
}

/// Keeps a new webhook, or changes one that is at a version.
pub async fn put_webhook(
    store: &dyn Store,
    tenant: TenantId,
    id: &str,
    webhook: &Webhook,
    expect: Expect,
) -> Result<u64, StoreError> {
    store.put(tenant, Table::Webhooks, id, bytes_of(webhook), expect).await
}

/// A webhook of a tenant, and the version of its row.
pub async fn webhook(store: &dyn Store, tenant: TenantId, id: &str) -> Result<Option<(Webhook, u64)>, StoreError> {
    let row = store.get(tenant, Table::Webhooks, id).await?;
    row.map(|row| Ok((read(id, &row)?, row.version))).transpose()
}

/// The webhooks of a tenant, by their ids.
pub async fn webhooks(store: &dyn Store, tenant: TenantId) -> Result<Vec<(String, Webhook)>, StoreError> {
    let mut all: Vec<(String, Webhook)> = Vec::new();
    loop {
        let after = all.last().map(|(id, _)| id.clone());
        let rows = store.scan(tenant, Table::Webhooks, "", after.as_deref(), PAGE).await?;
        if rows.is_empty() {
            return Ok(all);
        }
        for (id, row) in rows {
            let webhook = read(&id, &row)?;
            all.push((id, webhook));
        }
    }
}

/// Removes a webhook with everything that it is to be told; false when there is none.
pub async fn remove_webhook(store: &dyn Store, tenant: TenantId, id: &str) -> Result<bool, StoreError> {
    if store.get(tenant, Table::Webhooks, id).await?.is_none() {
        return Ok(false);
    }
    store.delete(tenant, Table::Webhooks, id, Expect::Any).await?;
    loop {
        let rows = notices(store, tenant, id, None, PAGE).await?;
        if rows.is_empty() {
            break;
        }
        for (key, _) in rows {
            store.delete(tenant, Table::Notices, &key, Expect::Any).await?;
        }
    }
    store.delete(TenantId::SYSTEM, Table::Notices, &mark(tenant, id), Expect::Any).await?;
    Ok(true)
}

/// Changes what is known of how a webhook fares, if it is still there.
pub async fn note_fared(
    store: &dyn Store,
    tenant: TenantId,
    id: &str,
    change: impl Fn(&mut Fared),
) -> Result<(), StoreError> {
    loop {
        let Some((mut known, version)) = webhook(store, tenant, id).await? else { return Ok(()) };
        change(&mut known.fared);
        match put_webhook(store, tenant, id, &known, Expect::Version(version)).await {
            Err(StoreError::Conflict { .. }) => {}
            done => return done.map(|_| ()),
        }
    }
}

/// Notes that a webhook is to be told something. `key` tells its notices apart and orders them: the same again changes
/// nothing.
pub async fn put_notice(
    store: &dyn Store,
    tenant: TenantId,
    id: &str,
    key: &str,
    notice: &Notice,
) -> Result<(), StoreError> {
    let key = format!("{id}/{key}");
    // First the notice, then the mark that there is one: who finds the mark finds the notice.
    match store.put(tenant, Table::Notices, &key, bytes_of(notice), Expect::Absent).await {
        Ok(_) | Err(StoreError::Conflict { .. }) => {}
        Err(error) => return Err(error),
    }
    store.put(TenantId::SYSTEM, Table::Notices, &mark(tenant, id), Bytes::from_static(b"{}"), Expect::Any).await?;
    Ok(())
}

/// The notices of a webhook, in their order, by their keys.
pub async fn notices(
    store: &dyn Store,
    tenant: TenantId,
    id: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Notice)>, StoreError> {
    let rows = store.scan(tenant, Table::Notices, &format!("{id}/"), after, limit).await?;
    rows.into_iter().map(|(key, row)| Ok((key.clone(), read(&key, &row)?))).collect()
}

/// Changes a notice that is to be tried again.
pub async fn postpone(store: &dyn Store, tenant: TenantId, key: &str, notice: &Notice) -> Result<(), StoreError> {
    store.put(tenant, Table::Notices, key, bytes_of(notice), Expect::Any).await.map(|_| ())
}

/// Forgets a notice that was taken or given up.
pub async fn forget(store: &dyn Store, tenant: TenantId, key: &str) -> Result<(), StoreError> {
    store.delete(tenant, Table::Notices, key, Expect::Any).await
}

/// The webhooks that have notices.
pub async fn waiting(store: &dyn Store) -> Result<Vec<(TenantId, String)>, StoreError> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let rows = store.scan(TenantId::SYSTEM, Table::Notices, "", after.as_deref(), PAGE).await?;
        let Some((last, _)) = rows.last() else { return Ok(all) };
        after = Some(last.clone());
        let read = |(key, _): (String, Row)| {
            let (tenant, id) = key.split_once('/')?;
            Some((tenant.parse().ok()?, id.to_owned()))
        };
        all.extend(rows.into_iter().filter_map(read));
    }
}

/// Strikes out that a webhook has notices, unless it has some by now.
pub async fn unmark(store: &dyn Store, tenant: TenantId, id: &str) -> Result<bool, StoreError> {
    store.delete(TenantId::SYSTEM, Table::Notices, &mark(tenant, id), Expect::Any).await?;
    if notices(store, tenant, id, None, 1).await?.is_empty() {
        return Ok(true);
    }
    store.put(TenantId::SYSTEM, Table::Notices, &mark(tenant, id), Bytes::from_static(b"{}"), Expect::Any).await?;
    Ok(false)
}

fn mark(tenant: TenantId, id: &str) -> String {
    format!("{tenant}/{id}")
}

fn bytes_of(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("webhooks and notices have only text keys").into()
}

fn read<T: serde::de::DeserializeOwned>(key: &str, row: &Row) -> Result<T, StoreError> {
    serde_json::from_slice(&row.value).map_err(|e| StoreError::Unreadable(format!("the webhook or notice {key}: {e}")))
}
