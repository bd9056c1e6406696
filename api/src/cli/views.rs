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
    let entity: Option<EntityName> = args.entity.as_deref().map(str::parse).transpose()?;
    let mut rows = Vec::new();
    for backend in of {
        let mut views = backend.views().await?;
        views.retain(|view| entity.as_ref().is_none_or(|e| e.as_str() == view.entity));
        if let (true, Some(entity), [_]) = (views.is_empty(), &entity, of) {
            bail!("tenant {} has no view of {entity}", backend.tenant());
        }
        rows.extend(views.iter().map(|view| row(backend, view)));
    }
    Ok(out.table(&columns, &rows)?)
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
    let view = of.view(&args.view).await?;
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
    let entity: Option<EntityName> = args.entity.as_deref().map(str::parse).transpose()?;
    let mut views = line.views(tenant).await?;
    views.retain(|view| entity.as_ref().is_none_or(|e| *e == view.entity));
    match (&args.entity, &args.tenant) {
        (Some(entity), Some(tenant)) if views.is_empty() => bail!("tenant {tenant} has no view of {entity}"),
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
