//! `views`: list, flush, rebuild.

use anyhow::bail;
use schemas::{EntityName, TenantId, TenantName};
use serde_json::{Value, json};

use super::{ViewArgs, ViewsCommand};
use crate::line::{Line, ViewStatus};
use crate::output::Output;

/// Carries out a `views` command.
pub async fn run(command: ViewsCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        ViewsCommand::List(args) => list(&args, line, out).await,
        ViewsCommand::Flush(args) => flush(&args, line, out).await,
        ViewsCommand::Rebuild(args) => rebuild(&args, line, out).await,
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

/// The wanted views of a tenant.
async fn wanted(args: &ViewArgs, line: &Line, tenant: TenantId) -> anyhow::Result<Vec<ViewStatus>> {
    let entity: Option<EntityName> = args.entity.as_deref().map(str::parse).transpose()?;
    let mut views = line.views(tenant).await?;
    views.retain(|view| entity.as_ref().is_none_or(|e| *e == view.entity));
    match (&args.entity, &args.tenant) {
        (Some(entity), Some(tenant)) if views.is_empty() => bail!("tenant {tenant} has no view of {entity}"),
        _ => Ok(views),
    }
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
    let mut rows = Vec::new();
    for (name, tenant) in tenants(args, line).await? {
        for view in wanted(args, line, tenant).await? {
            let known = view.info.as_ref().ok();
            let figure = |figure: fn(&projections::view::TableInfo) -> Value| known.map_or(Value::Null, figure);
            rows.push(vec![
                json!(name.as_str()),
                json!(view.entity.as_str()),
                json!(view.table),
                figure(|info| json!(info.rows)),
                figure(|info| json!(info.tail_rows)),
                figure(|info| json!(info.files)),
                figure(|info| json!(info.bytes)),
                figure(|info| json!(info.memory_bytes)),
                figure(|info| json!(info.position.to_string())),
                json!(view.stopped()),
                json!(line.view_folder(tenant, &view.table).display().to_string()),
            ]);
        }
    }
    Ok(out.table(&columns, &rows)?)
}

/// Flushes every wanted view, those behind one that fails too.
async fn flush(args: &ViewArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    for (name, tenant) in tenants(args, line).await? {
        for view in wanted(args, line, tenant).await? {
            let flushed = line.flush(tenant, Some(&view.entity)).await;
            let flushed = flushed.and_then(|()| view.stopped().map_or(Ok(()), |why| bail!("{why}")));
            outcome = outcome.and(tell(&name, &view, "flushed", flushed, out)?);
        }
    }
    outcome
}

/// Makes every wanted view again, those behind one that fails too.
async fn rebuild(args: &ViewArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    for (name, tenant) in tenants(args, line).await? {
        for view in wanted(args, line, tenant).await? {
            let rebuilt = line.rebuild(tenant, &view.entity).await;
            outcome = outcome.and(tell(&name, &view, "rebuilt", rebuilt, out)?);
        }
    }
    outcome
}

/// Prints what was done to a view, and passes on whether it was.
fn tell(
    tenant: &TenantName,
    view: &ViewStatus,
    done: &str,
    outcome: anyhow::Result<()>,
    out: &mut dyn Output,
) -> std::io::Result<anyhow::Result<()>> {
    if out.json() {
        let error = outcome.as_ref().err().map(|error| format!("{error:#}"));
        let mut value = json!({ "tenant": tenant.as_str(), "entity": view.entity.as_str(), "table": view.table });
        value[done] = json!(error.is_none());
        value["error"] = json!(error);
        out.value(&value)?;
    } else {
        match &outcome {
            Ok(()) => out.line(&format!("{tenant}: {} {done}", view.table))?,
            Err(error) => out.line(&format!("{tenant}: {} not {done}: {error:#}", view.table))?,
        }
    }
    Ok(outcome.map_err(|error| error.context(format!("the view {} of {tenant} was not {done}", view.table))))
}
