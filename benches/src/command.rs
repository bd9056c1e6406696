//! The product's own commands and queries, for benches that run inside one process.

use std::path::Path;

use anyhow::{Context, bail};
use api::cli::{Cli, Command, IngestArgs, Top};
use api::line::Line;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use clap::Parser;
use futures::TryStreamExt;
use schemas::TenantId;

/// What `autonomos ingest` would read, for the workload's layout.
pub fn ingest_arguments(tenant: &str, more: &[&str], file: &Path) -> anyhow::Result<IngestArgs> {
    let file = file.to_str().context("the path is not text")?;
    let words =
        ["autonomos", "ingest", "--tenant", tenant, "--connection", "crm", "--system", "salesforce", "--stream"];
    let rest = ["opportunity", "--key", "Id", "--version", "LastModifiedDate"];
    let cli = Cli::try_parse_from(words.iter().chain(&rest).chain(more).chain(&[file]))?;
    match cli.command {
        Top::Folder(Command::Ingest(arguments)) => Ok(*arguments),
        _ => bail!("these are not the words of an ingest"),
    }
}

/// Asks a tenant's views, views pinned as the command does it.
pub async fn query(line: &Line, tenant: TenantId, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    let tables = line.snapshots(tenant, sql).await?;
    Ok(line.queries.query(tables, sql).await?.batches.try_collect().await?)
}

/// The single number that a query answers.
pub async fn query_number(line: &Line, tenant: TenantId, sql: &str) -> anyhow::Result<i64> {
    let batches = query(line, tenant, sql).await?;
    let batch = batches.iter().find(|b| b.num_rows() > 0).context("the query gave no row")?;
    Ok(batch.column(0).as_primitive_opt::<Int64Type>().context("the query gave no number")?.value(0))
}
