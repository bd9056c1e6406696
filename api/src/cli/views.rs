//! `views`: list, describe, flush, rebuild.

use anyhow::bail;
use schemas::{EntityName, TenantId, TenantName};
use serde_json::json;

use super::backend::Backend;
use super::{DescribeArgs, ViewArgs};
use crate::http::routes::views::ViewInfo;
use crate::line::{Line, ViewStatus};
use crate::output::Output;

/// Shows the wanted views of each.
pub async fn list<B: Backend>(args: &ViewArgs, of: &[B], out: &mut dyn Output) -> anyhow::Result<()> {
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
    let name = name(args)?;
    let mut rows = Vec::new();
    for backend in of {
        let mut views = backend.views().await?;
        views.retain(|view| name.is_none_or(|name| name == view.entity || name == view.name));
        if let (true, Some(name), [_]) = (views.is_empty(), name, of) {
            bail!("tenant {} has no view of {name}", backend.tenant());
        }
        rows.extend(views.iter().map(|view| row(backend, view)));
    }
    Ok(out.table(&columns, &rows)?)
}

/// The entity or the table that is asked for, if its name can be one: names of tables are of the same kind.
fn name(args: &ViewArgs) -> anyhow::Result<Option<&str>> {
    let name = args.entity.as_deref();
    name.map(str::parse::<EntityName>).transpose()?;
    Ok(name)
}

fn row(of: &impl Backend, view: &ViewInfo) -> Vec<serde_json::Value> {
    vec![
        json!(of.tenant()),
        json!(view.entity),
        json!(view.name),
        json!(view.rows),
        json!(view.tail_rows),
        json!(view.files),
        json!(view.bytes),
        json!(view.memory_bytes),
        json!(view.position),
        json!(view.stopped),
        json!(of.view_folder(&view.name).map(|folder| folder.display().to_string())),
    ]
}

/// Shows the columns of a view.
pub async fn describe(args: &DescribeArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let views = of.views().await?;
    // A table's name goes before an entity's.
    let is_table = views.iter().any(|view| view.name == args.view);
    let of_entity = views.iter().find(|view| !is_table && view.entity == args.view);
    let view = of.view(of_entity.map_or(&args.view, |view| &view.name)).await?;
    let rows: Vec<_> = view.columns.iter().map(|column| vec![json!(column.name), json!(column.data_type)]).collect();
    Ok(out.table(&["column", "type"], &rows)?)
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
    let name = name(args)?;
    let mut views = line.views(tenant).await?;
    views.retain(|view| name.is_none_or(|name| name == view.entity.as_str() || name == view.table));
    match (name, &args.tenant) {
        (Some(name), Some(tenant)) if views.is_empty() => bail!("tenant {tenant} has no view of {name}"),
        _ => Ok(views),
    }
}

/// Flushes every wanted view, those behind one that fails too.
pub async fn flush(args: &ViewArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
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
pub async fn rebuild(args: &ViewArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
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
