//! Runs queries: on threads of their own, within limits of time, memory, rows and bytes, to a stream of batches.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use schemas::TenantId;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep_until, timeout_at};

use super::bounded::Calls;
use super::deadline::{Deadline, watch};
use super::footer::FooterCache;
use super::places::{Place, Places};
use super::portions::{divide, growing_calls};
use super::session::Sessions;
use super::weight::batch_bytes;
use super::windows::count_windows;
use super::{QueryError, guard};
use crate::ViewSnapshot;

/// Threads that plan and run queries.
const THREADS: usize = 2;
/// Stack of such a thread. Planning recurses; only touched pages take memory.
const STACK_BYTES: usize = 64 << 20;
/// Batches that wait for a slow reader.
const BATCHES_WAITING: usize = 2;
/// Parquet footers kept.
const FOOTER_BYTES_MAX: usize = 64 << 20;

/// What queries may take.
///
/// An engine takes at most `common_memory_bytes` for what operators hold, and for each running query what is on its way
/// through it: a batch in each operator on each of two threads, up to 64 MB where expressions make long texts.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// From the call to the last batch taken.
    pub timeout: Duration,
    /// Memory that the operators of one query may hold: groups, sorted rows, the smaller side of a join.
    pub memory_bytes: usize,
    /// Memory that the operators of all queries may hold together. A query that meets this bound is told to try again.
    pub common_memory_bytes: usize,
    /// Rows of a result. Not bounded by default: a result is streamed, and its bytes are bounded.
    pub rows_max: Option<usize>,
    /// Bytes of a result: of its values, not of buffers that they share.
    pub result_bytes_max: usize,
    /// Queries that run at once, half of them one tenant's at most.
    pub concurrent: usize,
    /// How long a query waits for a place, half of its timeout at most.
    pub place_wait: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            memory_bytes: 256 << 20,
            common_memory_bytes: 512 << 20,
            rows_max: None,
            result_bytes_max: 256 << 20,
            concurrent: 8,
            place_wait: Duration::from_secs(5),
        }
    }
}

/// Answers SQL over pinned views.
pub struct QueryEngine {
    /// Taken when the engine goes.
    runtime: Option<Runtime>,
    sessions: Arc<Sessions>,
    places: Places,
    limits: QueryLimits,
}

/// A query's answer, still being computed.
#[derive(Debug)]
pub struct QueryResult {
    /// Columns of every batch.
    pub schema: SchemaRef,
    /// The views that it reads, by their tables' names.
    pub tables: Vec<String>,
    /// The rows. Dropping it stops the query.
    pub batches: BatchStream,
}

impl QueryEngine {
    /// Starts the threads that queries run on.
    pub fn new(limits: QueryLimits) -> Result<Self, QueryError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_stack_size(STACK_BYTES)
            .thread_name("query")
            .enable_all()
            .build()
            .map_err(|e| QueryError::Failed(format!("threads for queries cannot be started: {e}")))?;
        let footers = Arc::new(FooterCache::new(FOOTER_BYTES_MAX));
        let sessions = Arc::new(Sessions::new(&limits, footers));
        let places = Places::new(limits.concurrent);
        Ok(Self { runtime: Some(runtime), sessions, places, limits })
    }

    /// What each query may take.
    pub fn limits(&self) -> &QueryLimits {
        &self.limits
    }

    /// Runs a tenant's statement over the given views and no others. Returns once the statement is planned.
    ///
    /// To be called within a Tokio runtime with a timer.
    pub async fn query(
        &self,
        tenant: TenantId,
        tables: Vec<Arc<ViewSnapshot>>,
        sql: &str,
    ) -> Result<QueryResult, QueryError> {
        self.query_until(tenant, tables, sql, Box::pin(std::future::pending())).await
    }

    /// The same, until `stop` is ready: it ends with [`QueryError::Cancelled`] then, whatever it is doing.
    pub async fn query_until(
        &self,
        tenant: TenantId,
        tables: Vec<Arc<ViewSnapshot>>,
        sql: &str,
        mut stop: Stop,
    ) -> Result<QueryResult, QueryError> {
        tokio::select! {
            biased;
            () = &mut stop => Err(QueryError::Cancelled),
            result = self.begin(tenant, tables, sql) => {
                let mut result = result?;
                result.batches.stop = stop;
                Ok(result)
            }
        }
    }

    async fn begin(
        &self,
        tenant: TenantId,
        tables: Vec<Arc<ViewSnapshot>>,
        sql: &str,
    ) -> Result<QueryResult, QueryError> {
        guard::check_text(sql)?;
        let deadline = Arc::new(Deadline::after(self.limits.timeout));
        let wait = self.limits.place_wait.min(self.limits.timeout / 2);
        let place = self.places.take(tenant, wait).await?;
        let (opened, schema) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
        let run = Run {
            sessions: Arc::clone(&self.sessions),
            limits: self.limits.clone(),
            deadline: Arc::clone(&deadline),
            sender,
        };
        let Some(runtime) = &self.runtime else { return Err(QueryError::Busy) };
        let task = runtime.spawn(run.guarded(tables, sql.to_owned(), opened, place));
        let task = AbortOnDrop { task: task.abort_handle(), deadline: Arc::clone(&deadline) };
        match timeout_at(deadline.instant(), schema).await {
            Err(_) => Err(deadline.error()),
            Ok(Err(_)) => Err(broken_off()),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Ok(Ok(Opened { schema, tables }))) => {
                Ok(QueryResult { schema, tables, batches: BatchStream::new(receiver, deadline, task) })
            }
        }
    }
}

impl Drop for QueryEngine {
    fn drop(&mut self) {
        // Waiting for threads is not allowed where an engine may be dropped, in an async task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Rows on their way; the end is told apart from a task that broke off.
type Item = Result<Option<RecordBatch>, QueryError>;

/// What is known of a query once it is planned.
struct Opened {
    schema: SchemaRef,
    tables: Vec<String>,
}

/// One query on its own threads.
struct Run {
    sessions: Arc<Sessions>,
    limits: QueryLimits,
    deadline: Arc<Deadline>,
    sender: mpsc::Sender<Item>,
}

impl Run {
    /// Keeps the place until the query has really ended, however it ends.
    async fn guarded(
        self,
        tables: Vec<Arc<ViewSnapshot>>,
        sql: String,
        opened: oneshot::Sender<Result<Opened, QueryError>>,
        _place: Place,
    ) {
        let deadline = Arc::clone(&self.deadline);
        let sender = self.sender.clone();
        let run = AssertUnwindSafe(self.run(tables, sql, opened)).catch_unwind();
        let end = match timeout_at(deadline.instant(), run).await {
            Err(_) => Err(deadline.error()),
            Ok(Err(_)) => Err(broken_off()),
            Ok(Ok(end)) => end.map(|()| None),
        };
        let _ = timeout_at(deadline.instant(), sender.send(end)).await;
    }

    async fn run(
        self,
        tables: Vec<Arc<ViewSnapshot>>,
        sql: String,
        opened: oneshot::Sender<Result<Opened, QueryError>>,
    ) -> Result<(), QueryError> {
        let (context, plan, tables) = match self.plan(&tables, &sql).await {
            Ok(planned) => planned,
            Err(error) => {
                let _ = opened.send(Err(error));
                return Ok(());
            }
        };
        if opened.send(Ok(Opened { schema: plan.schema(), tables })).is_err() {
            return Ok(());
        }
        let mut batches = execute_stream(plan, context.task_ctx()).map_err(QueryError::running)?;
        let (mut rows, mut bytes) = (0usize, 0usize);
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(QueryError::running)?;
            self.deadline.check()?;
            rows += batch.num_rows();
            bytes += batch_bytes(&batch);
            self.check_result(rows, bytes)?;
            if batch.num_rows() > 0 && self.sender.send(Ok(Some(batch))).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn plan(
        &self,
        tables: &[Arc<ViewSnapshot>],
        sql: &str,
    ) -> Result<(SessionContext, Arc<dyn ExecutionPlan>, Vec<String>), QueryError> {
        let statement: Statement = guard::parse(sql, tables)?;
        self.deadline.check()?;
        let session = self.sessions.open(tables, &self.deadline).map_err(QueryError::planning)?;
        let state = session.context.state();
        let logical = state.statement_to_plan(statement).await.map_err(QueryError::planning)?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&logical)
            .map_err(|_| QueryError::Forbidden("only SELECT, SHOW TABLES and DESCRIBE are allowed".into()))?;
        guard::check_plan(&logical, &session.tables)?;
        let read = tables_read(&logical, tables)?;
        self.deadline.check()?;
        let physical = state.create_physical_plan(&logical).await.map_err(QueryError::planning)?;
        guard::check_joins(&physical)?;
        let limited = self.limited(physical, &session.calls).map_err(QueryError::planning)?;
        Ok((session.context, limited, read))
    }

    /// The plan with what keeps it within its limits.
    fn limited(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        calls: &Calls,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let call_bytes_max = calls.share(growing_calls(&plan)?);
        watch(count_windows(divide(plan, call_bytes_max)?)?, &self.deadline)
    }

    fn check_result(&self, rows: usize, bytes: usize) -> Result<(), QueryError> {
        if let Some(max) = self.limits.rows_max
            && rows > max
        {
            return Err(QueryError::Limit(format!("the result has more than {max} rows: add a filter or a limit")));
        }
        let max = self.limits.result_bytes_max;
        match bytes > max {
            true => Err(QueryError::Limit(format!("the result has more than {max} bytes: add a filter or a limit"))),
            false => Ok(()),
        }
    }
}

/// Which of the views a plan reads.
fn tables_read(plan: &LogicalPlan, views: &[Arc<ViewSnapshot>]) -> Result<Vec<String>, QueryError> {
    let mut read = BTreeSet::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            read.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(QueryError::planning)?;
    Ok(read.into_iter().filter(|name| views.iter().any(|view| view.table == *name)).collect())
}

fn broken_off() -> QueryError {
    QueryError::Failed("the query broke off: write it in a simpler way".into())
}

/// Stops a query when nobody waits for it any more.
#[derive(Debug)]
struct AbortOnDrop {
    task: AbortHandle,
    deadline: Arc<Deadline>,
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.deadline.cancel();
        self.task.abort();
    }
}

/// The batches of a query, the first error the last item. Dropping it stops the query.
pub struct BatchStream {
    receiver: mpsc::Receiver<Item>,
    deadline: Arc<Deadline>,
    sleep: Pin<Box<Sleep>>,
    stop: Stop,
    /// None once the end or an error was given.
    task: Option<AbortOnDrop>,
    held: Option<Box<dyn Any + Send>>,
}

/// Ready when a query is to be stopped.
pub type Stop = BoxFuture<'static, ()>;

impl BatchStream {
    fn new(receiver: mpsc::Receiver<Item>, deadline: Arc<Deadline>, task: AbortOnDrop) -> Self {
        let sleep = Box::pin(sleep_until(deadline.instant()));
        let stop = Box::pin(std::future::pending());
        Self { receiver, deadline, sleep, stop, task: Some(task), held: None }
    }

    fn end(&mut self) {
        (self.task, self.held) = (None, None);
    }

    /// Keeps something until the last batch was taken, or nobody wants more.
    pub fn hold(&mut self, what: impl Any + Send) {
        self.held = Some(Box::new(what));
    }
}

impl fmt::Debug for BatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchStream").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Stream for BatchStream {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.task.is_none() {
            return Poll::Ready(None);
        }
        if self.stop.poll_unpin(cx).is_ready() {
            self.end();
            return Poll::Ready(Some(Err(QueryError::Cancelled)));
        }
        let item = match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(Ok(Some(batch)))) => return Poll::Ready(Some(Ok(batch))),
            Poll::Ready(Some(Ok(None))) => None,
            Poll::Ready(Some(Err(error))) => Some(Err(error)),
            Poll::Ready(None) if self.deadline.check().is_err() => Some(Err(self.deadline.error())),
            Poll::Ready(None) => Some(Err(broken_off())),
            // A plan that does not yield cannot be stopped, but nobody has to wait for it.
            Poll::Pending => match self.sleep.as_mut().poll_unpin(cx) {
                Poll::Ready(()) => Some(Err(self.deadline.error())),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.end();
        Poll::Ready(item)
    }
}
