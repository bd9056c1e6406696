//! Flushes and rebuilds of tables that processes share: a row asks whoever writes the partition, and says what became of it.

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use pipeline::lease::{self, Share};
use pipeline::{Expect, Log, Store, StoreError, Table};
use projections::view::{ProjectorHandle, ViewError};
use schemas::{EntityName, TenantId, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::RoleName;

/// Between two looks for requests.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks for the outcome, and at who works on the partition.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AT_LEASES: Duration = Duration::from_secs(3);
/// A partition that nobody works on for so long is told.
const NOBODY_AFTER: Duration = Duration::from_secs(20);
/// An outcome that nobody has taken for so long is removed, in microseconds.
const KEPT_MICROS: u64 = 3_600_000_000;
/// Requests looked at at once.
const PAGE: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Deed {
    /// The table gets what the view has.
    Flush,
    /// The table is made again from the log.
    Rebuild,
}

/// A request, and its outcome once there is one.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    tenant: TenantId,
    entity: EntityName,
    deed: Deed,
    /// Events below are in the table then.
    upto: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    outcome: Option<Outcome>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Done,
    Failed(String),
}

fn prefix(partition: u32) -> String {
    format!("asked/{partition:04}/")
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Has whoever writes a view's table do something to it, and waits until that is done. It begins once everything that stands
/// on the log now is in the view.
pub(crate) async fn ask(
    (log, store): (&dyn Log, &dyn Store),
    projector: &ProjectorHandle,
    deed: Deed,
    (tenant, entity): (TenantId, &EntityName),
) -> anyhow::Result<()> {
    let partition = projector.partition_of(tenant, entity);
    let upto = log.end(Topic::Events, partition).await?;
    let key = note(store, partition, &Request { tenant, entity: entity.clone(), deed, upto, outcome: None }).await?;
    let outcome = wait(store, partition, &key).await;
    if let Err(error) = store.delete(TenantId::SYSTEM, Table::Views, &key, Expect::Any).await {
        tracing::warn!(%error, key, "a request to who writes tables stays behind for an hour");
    }
    match outcome? {
        Outcome::Done => Ok(()),
        Outcome::Failed(why) => bail!("the process that writes the table says: {why}"),
    }
}

async fn note(store: &dyn Store, partition: u32, request: &Request) -> anyhow::Result<String> {
    let value = serde_json::to_vec(request)?;
    let mut at = now_micros();
    loop {
        let key = format!("{}{at:020}", prefix(partition));
        match store.put(TenantId::SYSTEM, Table::Views, &key, value.clone().into(), Expect::Absent).await {
            Ok(_) => return Ok(key),
            Err(StoreError::Conflict { .. }) => at += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn wait(store: &dyn Store, partition: u32, key: &str) -> anyhow::Result<Outcome> {
    let share = Share { role: RoleName::Project.name().to_owned(), partition };
    let (mut alone_since, mut looked) = (None::<Instant>, None::<Instant>);
    loop {
        let row = store.get(TenantId::SYSTEM, Table::Views, key).await?.context("the request is gone: ask again")?;
        if let Some(outcome) = read(key, &row.value)?.outcome {
            return Ok(outcome);
        }
        if looked.is_none_or(|at| at.elapsed() >= LOOK_AT_LEASES) {
            looked = Some(Instant::now());
            let is_alone = lease::list(store).await?.owner(&share).is_none();
            alone_since = is_alone.then(|| alone_since.unwrap_or_else(Instant::now));
        }
        if alone_since.is_some_and(|since| since.elapsed() >= NOBODY_AFTER) {
            bail!("nobody works on {share}, who alone could: start a process with `autonomos serve --roles project`");
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn read(key: &str, value: &[u8]) -> Result<Request, StoreError> {
    serde_json::from_slice(value).map_err(|e| StoreError::Unreadable(format!("the request {key}: {e}")))
}

/// Carries out what is asked of who writes a partition, as long as it is polled; nothing new once `stop` says true.
pub(super) async fn carry_out(
    store: &dyn Store,
    writer: &ProjectorHandle,
    partition: u32,
    stop: watch::Receiver<bool>,
) -> Infallible {
    loop {
        if let Err(error) = look(store, writer, partition, &stop).await {
            tracing::warn!(partition, %error, "what is asked of who writes tables cannot be seen; trying again");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn look(
    store: &dyn Store,
    writer: &ProjectorHandle,
    partition: u32,
    stop: &watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let rows = store.scan(TenantId::SYSTEM, Table::Views, &prefix(partition), None, PAGE).await?;
    for (key, row) in rows {
        if *stop.borrow() {
            return Ok(());
        }
        let mut request = match read(&key, &row.value) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "a request is left to another build");
                continue;
            }
        };
        if request.outcome.is_some() {
            remove_old(store, &key).await?;
            continue;
        }
        request.outcome = outcome(writer, partition, &request).await;
        if request.outcome.is_none() {
            continue;
        }
        let value = serde_json::to_vec(&request).expect("a request has only text keys").into();
        match store.put(TenantId::SYSTEM, Table::Views, &key, value, Expect::Version(row.version)).await {
            // Who asked does not wait any more, or another process was faster.
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Does what is asked for; nothing where another process writes the table by now, and does it.
async fn outcome(writer: &ProjectorHandle, partition: u32, request: &Request) -> Option<Outcome> {
    let Request { tenant, entity, deed, upto, .. } = request;
    let work = async {
        writer.wait_position(partition, *upto).await?;
        match deed {
            Deed::Flush => writer.flush(*tenant, Some(entity)).await,
            Deed::Rebuild => writer.rebuild(*tenant, entity).await.map(|_| ()),
        }
    };
    match work.await {
        Ok(()) => Some(Outcome::Done),
        Err(error) if error.is_overtaken() || matches!(error, ViewError::ShutDown) => None,
        Err(error) => Some(Outcome::Failed(error.to_string())),
    }
}

async fn remove_old(store: &dyn Store, key: &str) -> Result<(), StoreError> {
    let at = key.rsplit('/').next().and_then(|at| at.parse::<u64>().ok());
    match at {
        Some(at) if now_micros().saturating_sub(at) < KEPT_MICROS => Ok(()),
        _ => store.delete(TenantId::SYSTEM, Table::Views, key, Expect::Any).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_with_and_without_its_outcome() {
        for outcome in [None, Some(Outcome::Done), Some(Outcome::Failed("the disk is full".into()))] {
            let told = format!("{outcome:?}");
            let (tenant, entity) = (TenantId::from_bytes([1; 16]), "order".parse().unwrap());
            let request = Request { tenant, entity, deed: Deed::Rebuild, upto: 7, outcome };
            let found = read("a", &serde_json::to_vec(&request).unwrap()).unwrap();
            assert_eq!((found.deed, found.upto, format!("{:?}", found.outcome)), (Deed::Rebuild, 7, told));
        }
        assert!(read("a", b"{}").is_err());
    }
}
