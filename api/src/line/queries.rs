//! Queries that run: each has its tenant's turn, and can be stopped from outside.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use parking_lot::Mutex;
use projections::sql::engine::Stop;
use projections::sql::{QueryEngine, QueryResult};
use projections::{QueryError, ViewSnapshot};
use schemas::{Position, TenantId, Trace};
use tokio::sync::{broadcast, oneshot};

use super::{Busy, Consumers, Line, Place};

/// Who asks, and under what name.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// The asker's own name for the query; made when it has none.
    pub id: Option<String>,
    /// Who asks.
    pub by: String,
    /// What is asked.
    pub sql: String,
    /// The trace of the request that asks.
    pub trace: Option<Trace>,
}

/// A query has begun to read views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewed {
    /// Whose query.
    pub tenant: TenantId,
    /// Its name.
    pub query: String,
    /// When, in microseconds since 1970 UTC.
    pub at: i64,
    /// The views that it reads, each with the event position at which it is read.
    pub views: Vec<(String, Position)>,
    /// The trace of the request that asked.
    pub trace: Option<Trace>,
}

/// Queries that were told of and that a slow watcher has not taken; older ones it misses.
pub(crate) const VIEWED_KEPT: usize = 256;

/// A query that runs, or waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningQuery {
    /// Its name among its tenant's.
    pub id: String,
    /// Who asked.
    pub by: String,
    /// Since when, in microseconds since 1970 UTC.
    pub since: i64,
    /// The beginning of the statement.
    pub sql: String,
}

/// A query has no turn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTurn {
    /// Too many wait.
    #[error("too many queries of this organisation run and wait: try again in a moment")]
    Busy,
    /// The name is that of another.
    #[error("a query with the id {0} runs already: name each anew")]
    Taken(String),
    /// It was stopped while it waited.
    #[error("the query was cancelled")]
    Cancelled,
    /// What the tenant may take cannot be read.
    #[error("{0}")]
    Failed(String),
}

/// Characters of a statement that are shown.
const SQL_CHARS_SHOWN: usize = 500;

/// All queries that run or wait.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<(TenantId, String), Entry>>);

struct Entry {
    query: RunningQuery,
    stop: oneshot::Sender<()>,
    whose: Arc<()>,
}

/// Strikes a query out of those that run.
struct Listed {
    running: Arc<Running>,
    key: (TenantId, String),
    whose: Arc<()>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut running = self.running.0.lock();
        // One that was stopped and is still ending is not listed any more; its name may be another's.
        if running.get(&self.key).is_some_and(|entry| Arc::ptr_eq(&entry.whose, &self.whose)) {
            running.remove(&self.key);
        }
    }
}

/// A query's turn.
pub struct Turn {
    stop: Stop,
    place: Place<TenantId>,
    listed: Listed,
    by: String,
    trace: Option<Trace>,
    viewed: broadcast::Sender<Arc<Viewed>>,
    consumers: Arc<Consumers>,
}

impl Line {
    /// Waits for a tenant's turn to ask.
    pub async fn turn_to_ask(&self, tenant: TenantId, asking: Asking) -> Result<Turn, NoTurn> {
        let (trace, by) = (asking.trace, asking.by.clone());
        let (listed, mut stop) = self.list_query(tenant, asking)?;
        let account = self.account(tenant).await.map_err(|error| NoTurn::Failed(format!("{error:#}")))?;
        // No more than the engine gives one tenant: here they wait in turn, there they would be refused.
        let most = account.quota.queries.min((self.queries.limits().concurrent / 2).max(1));
        let place = tokio::select! {
            biased;
            () = &mut stop => return Err(NoTurn::Cancelled),
            place = self.asks.place(tenant, 1, most) => place.map_err(|Busy| NoTurn::Busy)?,
        };
        let (viewed, consumers) = (self.viewed.clone(), self.consumers.clone());
        Ok(Turn { stop, place, listed, by, trace, viewed, consumers })
    }

    fn list_query(&self, tenant: TenantId, asking: Asking) -> Result<(Listed, Stop), NoTurn> {
        let id = asking.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let since = jiff::Timestamp::now().as_microsecond();
        let sql = asking.sql.chars().take(SQL_CHARS_SHOWN).collect();
        let query = RunningQuery { id: id.clone(), by: asking.by, since, sql };
        let (stop, stopped) = oneshot::channel();
        let (key, whose) = ((tenant, id), Arc::new(()));
        match self.running.0.lock().entry(key.clone()) {
            std::collections::hash_map::Entry::Occupied(_) => return Err(NoTurn::Taken(key.1)),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Entry { query, stop, whose: whose.clone() })
            }
        };
        let stop = async move {
            // One that has ended by itself is not stopped.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Ok((Listed { running: self.running.clone(), key, whose }, stop.boxed()))
    }

    /// Hears of every query that begins to read views, from now on.
    pub fn hear_of_views(&self) -> broadcast::Receiver<Arc<Viewed>> {
        self.viewed.subscribe()
    }

    /// The queries of a tenant that run or wait, the oldest first.
    pub fn running_queries(&self, tenant: TenantId) -> Vec<RunningQuery> {
        let running = self.running.0.lock();
        let own = running.iter().filter(|((owner, _), _)| *owner == tenant);
        let mut own: Vec<_> = own.map(|(_, entry)| entry.query.clone()).collect();
        own.sort_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
        own
    }

    /// Stops a query of a tenant, if `may` allows it; false when there is none.
    pub fn stop_query(&self, tenant: TenantId, id: &str, may: impl Fn(&RunningQuery) -> bool) -> bool {
        let mut running = self.running.0.lock();
        let key = (tenant, id.to_owned());
        if !running.get(&key).is_some_and(|entry| may(&entry.query)) {
            return false;
        }
        running.remove(&key).is_some_and(|entry| entry.stop.send(()).is_ok())
    }
}

impl Turn {
    /// Asks. The turn ends with the answer's last row, or when nobody wants more.
    pub async fn ask(
        self,
        engine: &QueryEngine,
        tables: Vec<Arc<ViewSnapshot>>,
        sql: &str,
    ) -> Result<QueryResult, QueryError> {
        let Self { stop, place, listed, by, trace, viewed, consumers } = self;
        let positions: Vec<_> = tables.iter().map(|view| (view.table.clone(), view.position)).collect();
        let (tenant, query) = listed.key.clone();
        let mut result = engine.query_until(tenant, tables, sql, stop).await?;
        consumers.note(tenant, result.tables.iter(), &by, sql);
        let views = positions.into_iter().filter(|(table, _)| result.tables.contains(table)).collect();
        let at = jiff::Timestamp::now().as_microsecond();
        // Nobody may be watching.
        _ = viewed.send(Arc::new(Viewed { tenant, query, at, views, trace }));
        result.batches.hold((place, listed));
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_is_listed_until_it_has_ended_and_stopped_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let line = Line::open(folder.path()).await.unwrap();
        let tenant = line.ensure_tenant(&"acme".parse().unwrap()).await.unwrap();
        let asking =
            |id: &str| Asking { id: Some(id.into()), by: "user:ada".into(), sql: "select 1".into(), trace: None };
        let turn = line.turn_to_ask(tenant, asking("a")).await.unwrap();
        assert_eq!(line.turn_to_ask(tenant, asking("a")).await.err(), Some(NoTurn::Taken("a".into())));
        let stranger = TenantId::from_bytes([9; 16]);
        assert!(!line.stop_query(stranger, "a", |_| true) && !line.stop_query(tenant, "a", |_| false));
        let result = turn.ask(&line.queries, Vec::new(), "select 1").await.unwrap();
        assert_eq!(line.running_queries(tenant).len(), 1, "its rows are still on their way");
        drop(result);
        assert!(line.running_queries(tenant).is_empty());
        let turn = line.turn_to_ask(tenant, asking("a")).await.unwrap();
        assert!(line.stop_query(tenant, "a", |query| query.by == "user:ada"));
        let next = line.turn_to_ask(tenant, asking("a")).await.unwrap();
        let stopped = turn.ask(&line.queries, Vec::new(), "select 1").await;
        assert!(matches!(stopped, Err(QueryError::Cancelled)));
        assert_eq!(line.running_queries(tenant).len(), 1, "the next one of its name goes on");
        drop(next);
        assert!(!line.stop_query(tenant, "a", |_| true), "once");
        line.close().await.unwrap();
    }
}
