//! `quarantine`: what was set aside, and why.

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use poem_openapi::types::ToJSON;
use serde_json::json;

use super::backend::{Backend, StreamPath};
use super::{QuarantineArgs, QuarantineCommand, ShowArgs};
use crate::http::routes::quarantine::{QuarantinePage, QuarantinedPayload};
use crate::output::Output;

/// Carries out a `quarantine` command.
pub async fn run(command: &QuarantineCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        QuarantineCommand::List(args) => list(args, of, out).await,
        QuarantineCommand::Show(args) => show(args, of, out).await,
    }
}

async fn list(args: &QuarantineArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let stream: Option<StreamPath> = args.stream.as_deref().map(str::parse).transpose()?;
    let page = of.quarantine(stream.as_ref(), args.after.as_deref(), args.limit).await?;
    let QuarantinePage { records, next } = page;
    let columns = ["position", "stream", "row", "stage", "reason", "field", "detail", "logged_at"];
    let rows: Vec<_> = records
        .into_iter()
        .map(|record| {
            vec![
                json!(record.position),
                json!(record.stream),
                json!(record.lane_ordinal),
                json!(record.stage),
                json!(record.reason),
                json!(record.field),
                json!(record.detail),
                json!(record.logged_at),
            ]
        })
        .collect();
    out.table(&columns, &rows)?;
    match next {
        Some(next) if out.json() => out.value(&json!({ "more": true, "after": next }))?,
        Some(next) => out.line(&format!("there are more: go on with --after {next}"))?,
        None => {}
    }
    Ok(())
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
    out.line(&format!("{}{}", record.field.map(|f| format!("{f}: ")).unwrap_or_default(), record.detail))?;
    match payload {
        Some(text) => out.line(&text)?,
        None => {
            out.line(&String::from_utf8_lossy(&bytes))?;
            out.line("these bytes are no UTF-8 and shown as near to it as can be; --raw writes them as they are")?;
        }
    }
    Ok(())
}
