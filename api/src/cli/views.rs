//! `views`: list, flush, rebuild.

use schemas::{EntityName, TenantId, TenantName};
use serde_json::json;

use super::{ViewArgs, ViewsCommand};
use crate::line::Line;
use crate::output::Output;

/// Carries out a `views` command.
pub async fn run(command: ViewsCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        ViewsCommand::List(args) => list(&args, line, out).await,
        ViewsCommand::Flush(args) => {
            for (name, tenant) in tenants(&args, line).await? {
                line.flush(tenant, entity(&args)?.as_ref()).await?;
                out.line(&format!("{name}: flushed"))?;
            }
            Ok(())
        }
        ViewsCommand::Rebuild(args) => {
            let wanted = entity(&args)?;
            for (name, tenant) in tenants(&args, line).await? {
                for view in line.views(tenant).await? {
                    if wanted.as_ref().is_none_or(|e| *e == view.entity) {
                        line.rebuild(tenant, &view.entity).await?;
                        out.line(&format!("{name}: {} rebuilt from the log", view.table))?;
                    }
                }
            }
            Ok(())
        }
    }
}

async fn tenants(args: &ViewArgs, line: &Line) -> anyhow::Result<Vec<(TenantName, TenantId)>> {
    match &args.tenant {
        Some(name) => {
            let name: TenantName = name.parse()?;
            let id = line.tenant(&name).await?;
            Ok(vec![(name, id)])
        }
        None => line.tenants().await,
    }
}

fn entity(args: &ViewArgs) -> anyhow::Result<Option<EntityName>> {
    Ok(args.entity.as_deref().map(str::parse).transpose()?)
}

async fn list(args: &ViewArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let columns = [
        "tenant",
        "entity",
        "table",
        "rows",
        "tail_rows",
        "files",
        "bytes",
        "memory_bytes",
        "position",
        "stopped",
        "folder",
    ];
    let wanted = entity(args)?;
    let mut rows = Vec::new();
    for (name, tenant) in tenants(args, line).await? {
        for view in line.views(tenant).await? {
            if wanted.as_ref().is_some_and(|e| *e != view.entity) {
                continue;
            }
            rows.push(vec![
                json!(name.as_str()),
                json!(view.entity.as_str()),
                json!(view.table),
                json!(view.rows),
                json!(view.tail_rows),
                json!(view.files),
                json!(view.bytes),
                json!(view.memory_bytes),
                json!(view.position.to_string()),
                json!(view.stopped),
                json!(line.view_folder(tenant, &view.table).display().to_string()),
            ]);
        }
    }
    Ok(out.table(&columns, &rows)?)
}
