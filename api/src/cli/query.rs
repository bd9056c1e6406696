//! `query`: SQL over one tenant's views.

use anyhow::Context;
use futures::StreamExt;
use projections::sql::{Format, ResultWriter};

use super::QueryArgs;
use crate::line::Line;
use crate::output::{Output, Writer};

/// Asks and prints the answer batch by batch.
pub async fn run(args: QueryArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let format = if out.json() { Format::Json } else { args.format.parse()? };
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let tables = line.snapshots(tenant, &args.sql).await?;
    let result = line.queries.query(tables, &args.sql).await?;
    let mut batches = result.batches;
    let mut writer = ResultWriter::new(format, result.schema, Writer(out)).context("writing the answer")?;
    while let Some(batch) = batches.next().await {
        writer.write(&batch?)?;
    }
    writer.finish()?;
    Ok(())
}
