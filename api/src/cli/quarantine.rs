//! `quarantine`: what was set aside, why, and what people do with it.

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use poem_openapi::types::ToJSON;
use schemas::settle::Action;
use serde_json::{Value, json};

use super::backend::{Backend, Settling, StreamPath};
use super::{QuarantineArgs, QuarantineCommand, SettleArgs, ShowArgs};
use crate::http::routes::quarantine::settle::SettledInfo;
use crate::http::routes::quarantine::{QuarantinePage, QuarantinedPayload, QuarantinedRecord};
use crate::output::Output;

/// Carries out a `quarantine` command.
pub async fn run(command: &QuarantineCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        QuarantineCommand::List(args) => list(args, of, out).await,
        QuarantineCommand::Show(args) => show(args, of, out).await,
        QuarantineCommand::Retry(args) => settle(args, Action::Retry, of, out).await,
        QuarantineCommand::Discard(args) => settle(args, Action::Discard, of, out).await,
        QuarantineCommand::Foreign(_) => bail!("foreign messages are no tenant's: ask where the server's folder is"),
    }
}

async fn list(args: &QuarantineArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream: Option<StreamPath> = args.stream.as_deref().map(str::parse).transpose()?;
    let page = of.quarantine(stream.as_ref(), args.settled, args.after.as_deref(), args.limit).await?;
    let QuarantinePage { records, next } = page;
    let mut columns = vec!["position", "stream", "row", "stage", "reason", "field", "detail", "logged_at"];
    if args.settled {
        columns.extend(["action", "by", "why", "settled_at"]);
    }
    let rows: Vec<_> = records.into_iter().map(row).collect();
    out.table(&columns, &rows)?;
    match next {
        Some(next) if out.json() => out.value(&json!({ "more": true, "after": next }))?,
        Some(next) => out.line(&format!("there are more: go on with --after {next}"))?,
        None => {}
    }
    Ok(())
}

fn row(record: QuarantinedRecord) -> Vec<Value> {
    let mut row = vec![
        json!(record.position),
        json!(record.stream),
        json!(record.lane_ordinal),
        json!(record.stage),
        json!(record.reason),
        json!(record.field),
        json!(record.detail),
        json!(record.logged_at),
    ];
    if let Some(settled) = record.settled {
        row.extend([json!(settled.action), json!(settled.by), json!(settled.why), json!(settled.at)]);
    }
    row
}

async fn settle(args: &SettleArgs, action: Action, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let SettleArgs { stream, reason, field, why, positions, .. } = args.clone();
    let stream: Option<StreamPath> = stream.as_deref().map(str::parse).transpose()?;
    if positions.is_empty() && stream.is_none() && reason.is_none() && field.is_none() {
        bail!("name what is meant: positions, --stream, --reason or --field");
    }
    if why.trim().is_empty() {
        bail!("say why with --why: the reason is kept with the records");
    }
    let settled = of.settle(action, Settling { stream, reason, field, positions, why }).await?;
    if out.json() {
        return Ok(out.value(&settled.to_json().unwrap_or_default())?);
    }
    let SettledInfo { records, accepted, deleted, quarantined, held, discarded } = settled;
    Ok(out.line(&format!(
        "{records} records = {accepted} rows + {deleted} deletes + {quarantined} set aside again + {held} held + {discarded} discarded"
    ))?)
}

async fn show(args: &ShowArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let QuarantinedPayload { record, payload, payload_base64 } = of.quarantined(&args.position).await?;
    let bytes = match (&payload, &payload_base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(text)) => BASE64.decode(text).context("the record's bytes")?,
        (None, None) => Vec::new(),
    };
    if args.raw {
        return Ok(out.write(&bytes)?);
    }
    if out.json() {
        let mut value = record.to_json().unwrap_or_default();
        if let Some(text) = payload {
            value["payload"] = json!(text);
        }
        if let Some(text) = payload_base64 {
            value["payload_base64"] = json!(text);
        }
        return Ok(out.value(&value)?);
    }
    out.line(&format!("{} of {}, {} at {}", record.position, record.stream, record.reason, record.stage))?;
    out.tell(&format!("{}{}", record.field.map(|f| format!("{f}: ")).unwrap_or_default(), record.detail))?;
    match payload {
        Some(text) => tell_lines(&text, out)?,
        None => {
            tell_lines(&String::from_utf8_lossy(&bytes), out)?;
            out.line("these bytes are no UTF-8 and shown as near to it as can be; --raw writes them as they are")?;
        }
    }
    Ok(())
}

/// Line by line, since a record of several is read by people, too; `--raw` writes it as it is.
fn tell_lines(text: &str, out: &mut dyn Output) -> std::io::Result<()> {
    text.split('\n').try_for_each(|line| out.tell(line))
}
