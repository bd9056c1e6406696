//! `query`: SQL over one tenant's views.

use anyhow::Context;
use futures::StreamExt;
use projections::sql::{Format, ResultWriter};

use super::QueryArgs;
use crate::line::{COMMAND_LINE, Line};
use crate::output::{Output, Writer};

/// Asks and prints the answer batch by batch.
pub async fn run(args: QueryArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let format = if out.json() { Format::Json } else { args.format.parse()? };
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let tables = line.snapshots(tenant, &args.sql).await?;
    let result = line.queries.query(tenant, tables, &args.sql).await?;
    line.consumers.note(tenant, result.tables.iter(), COMMAND_LINE, &args.sql);
    let mut batches = result.batches;
    let mut writer = ResultWriter::new(format, result.schema, Writer(out)).context("writing the answer")?;
    let mut left = args.max_rows;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if let Some(left) = &mut left {
            let rest = left.checked_sub(batch.num_rows()).with_context(|| {
                format!("the result has more than {} rows: add a filter or a limit", args.max_rows.unwrap_or_default())
            })?;
            *left = rest;
        }
        writer.write(&batch)?;
    }
    writer.finish()?;
    Ok(())
}
