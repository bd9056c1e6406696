//! The product's own commands and queries, for benches that run inside one process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use api::cli::plan::plan;
use api::cli::{Cli, Command, IngestArgs, Top, ingest};
use api::line::Line;
use api::output::Silent;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use clap::Parser;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use pipeline::ingest::OpenStream;
use schemas::TenantId;

/// What `autonomos ingest` would read, for the workload's layout.
fn ingest_arguments(tenant: &str, more: &[&str], file: &Path) -> Result<IngestArgs> {
    let file = file.to_str().context("the path is not text")?;
    let words = ["autonomos", "ingest", "--tenant", tenant, "--connection", "crm", "--system", "salesforce"];
    let rest = ["--stream", "opportunity", "--key", "Id", "--version", "LastModifiedDate"];
    let deleted = ["--deleted", "IsDeleted=true"];
    let cli = Cli::try_parse_from(words.iter().chain(&rest).chain(&deleted).chain(more).chain(&[file]))?;
    match cli.command {
        Top::Folder(Command::Ingest(arguments)) => Ok(*arguments),
        _ => bail!("these are not the words of an ingest"),
    }
}

/// The product's roles over a data folder, driven as its commands drive them. Every call is boxed, so that the code behind
/// it is compiled once, here, and not again in each program.
#[derive(Clone)]
pub struct Product(Arc<Line>);

impl Product {
    /// Opens a data folder, made when it is not there.
    pub fn open(folder: &Path) -> BoxFuture<'_, Result<Self>> {
        Box::pin(async move { Ok(Self(Arc::new(Line::open(folder).await?))) })
    }

    /// Reads a file into a tenant's view. Answers how many records were acknowledged.
    pub fn ingest<'a>(&'a self, tenant: &'a str, more: &'a [&str], file: &'a Path) -> BoxFuture<'a, Result<u64>> {
        Box::pin(
            async move { Ok(ingest::run(&ingest_arguments(tenant, more, file)?, &self.0, &mut Silent).await?.taken) },
        )
    }

    /// Opens a tenant's stream for records of the kind that `sample` holds; its view is defined when this returns.
    pub fn open_stream<'a>(&'a self, tenant: &'a str, sample: &'a Path) -> BoxFuture<'a, Result<OpenStream>> {
        Box::pin(async move {
            let plan = plan(&ingest_arguments(tenant, &[], sample)?, &self.0).await?;
            let open = self.0.ingest.open(&plan.stream, &plan.mapping, plan.entity.as_ref(), "bench").await?;
            self.0.catch_up().await?;
            Ok(open)
        })
    }

    /// Appends records; they are on disk when this returns.
    pub fn append<'a>(&'a self, open: &'a OpenStream, records: schemas::RecordBatch) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move { Ok(self.0.ingest.append(open, records).await?) })
    }

    /// Waits until everything that was appended is in the views.
    pub fn catch_up(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.0.catch_up())
    }

    /// The id of a tenant that exists.
    pub fn tenant<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<TenantId>> {
        Box::pin(async move { self.0.tenant(&name.parse()?).await })
    }

    /// Asks a tenant's views, views pinned as the command does it.
    pub fn query<'a>(&'a self, tenant: TenantId, sql: &'a str) -> BoxFuture<'a, Result<Vec<RecordBatch>>> {
        Box::pin(async move {
            let tables = self.0.snapshots(tenant, sql).await?;
            Ok(self.0.queries.query(tenant, tables, sql).await?.batches.try_collect().await?)
        })
    }

    /// The single number that a query answers.
    pub fn query_number<'a>(&'a self, tenant: TenantId, sql: &'a str) -> BoxFuture<'a, Result<i64>> {
        Box::pin(async move {
            let batches = self.query(tenant, sql).await?;
            let batch = batches.iter().find(|b| b.num_rows() > 0).context("the query gave no row")?;
            Ok(batch.column(0).as_primitive_opt::<Int64Type>().context("the query gave no number")?.value(0))
        })
    }

    /// How many milliseconds a query takes.
    pub fn query_ms<'a>(&'a self, tenant: TenantId, sql: &'a str) -> BoxFuture<'a, Result<f64>> {
        Box::pin(async move {
            let started = Instant::now();
            self.query(tenant, sql).await?;
            Ok(started.elapsed().as_secs_f64() * 1000.0)
        })
    }

    /// Makes the tenant's view of the workload again from the log.
    pub fn rebuild(&self, tenant: TenantId) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.0.rebuild(tenant, &"opportunity".parse()?).await })
    }

    /// Rows of the tenant's first view that are in no file yet.
    pub fn tail_rows(&self, tenant: TenantId) -> BoxFuture<'_, Result<usize>> {
        Box::pin(async move {
            let views = self.0.views(tenant).await?;
            Ok(views.first().and_then(|view| view.info.as_ref().ok()).map_or(0, |info| info.tail_rows))
        })
    }

    /// The folder of the tenant's view of the workload.
    pub fn view_folder(&self, tenant: TenantId) -> PathBuf {
        self.0.view_folder(tenant, "opportunities")
    }

    /// Flushes every view and stops every role, once nobody else holds them.
    pub fn close(self) -> BoxFuture<'static, Result<()>> {
        Box::pin(
            async move { Arc::try_unwrap(self.0).ok().context("something still works on the folder")?.close().await },
        )
    }
}

/// The two queries that are measured: one that leaves most rows out, one that reads them all.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Question {
    /// Counts and sums large opportunities that were won.
    Filtered,
    /// Counts and sums by stage.
    Grouped,
}

impl Question {
    /// Its SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Filtered => {
                "select count(*), sum(amount) from opportunities where stage = 'Closed Won' and amount > 1000000"
            }
            Self::Grouped => "select stage, count(*), sum(amount) from opportunities group by stage order by stage",
        }
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Grouped => "grouped",
        }
    }
}
