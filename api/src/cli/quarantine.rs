//! `quarantine`: what was set aside, and why.

use anyhow::bail;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use pipeline::quarantine;
use schemas::StreamId;
use serde_json::json;

use super::{QuarantineArgs, QuarantineCommand, ShowArgs};
use crate::line::Line;
use crate::output::Output;

/// Carries out a `quarantine` command.
pub async fn run(command: QuarantineCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        QuarantineCommand::List(args) => list(&args, line, out).await,
        QuarantineCommand::Show(args) => show(&args, line, out).await,
    }
}

async fn list(args: &QuarantineArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let stream = match args.stream.as_deref().map(|s| (s, s.split_once('/'))) {
        None => None,
        Some((_, Some((connection, stream)))) => {
            Some(StreamId { tenant, connection: connection.parse()?, stream: stream.parse()? })
        }
        Some((text, None)) => bail!("{text:?} names no stream: write CONNECTION/STREAM"),
    };
    line.wait_quarantined().await?;
    // One more than asked for tells whether there are more.
    let after = args.after.as_deref();
    let mut notes = quarantine::list(&*line.store, tenant, stream.as_ref(), after, args.limit + 1).await?;
    let more = notes.len() > args.limit;
    notes.truncate(args.limit);
    let last = notes.last().map(|(key, _)| key.clone()).filter(|_| more);
    let columns = ["position", "stream", "row", "stage", "reason", "field", "detail", "logged_at"];
    let rows: Vec<_> = notes
        .into_iter()
        .map(|(_, note)| {
            vec![
                json!(note.position.to_string()),
                json!(note.stream),
                json!(note.lane_ordinal),
                json!(note.stage),
                json!(note.reason.code()),
                json!(note.field),
                json!(note.detail),
                json!(schemas::time::format_timestamp(note.logged_at)),
            ]
        })
        .collect();
    out.table(&columns, &rows)?;
    match last {
        Some(last) if out.json() => out.value(&json!({ "more": true, "after": last }))?,
        Some(last) => out.line(&format!("there are more: go on with --after {last}"))?,
        None => {}
    }
    Ok(())
}

async fn show(args: &ShowArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    line.wait_quarantined().await?;
    let Some(note) = quarantine::find(&*line.store, tenant, args.position.parse()?).await? else {
        bail!("tenant {} has nothing in quarantine at {}", args.tenant, args.position);
    };
    let payload = quarantine::payload(&*line.log, &note).await?.unwrap_or_default();
    if args.raw {
        return Ok(out.write(&payload)?);
    }
    let text = std::str::from_utf8(&payload);
    if out.json() {
        let mut value = serde_json::to_value(&note)?;
        match text {
            Ok(text) => value["payload"] = json!(text),
            Err(_) => value["payload_base64"] = json!(BASE64.encode(&payload)),
        }
        return Ok(out.value(&value)?);
    }
    out.line(&format!("{} of {}, {} at {:?}", note.position, note.stream, note.reason, note.stage))?;
    out.line(&format!("{}{}", note.field.map(|f| format!("{f}: ")).unwrap_or_default(), note.detail))?;
    match text {
        Ok(text) => out.line(text)?,
        Err(_) => {
            out.line(&String::from_utf8_lossy(&payload))?;
            out.line("these bytes are no UTF-8 and shown as near to it as can be; --raw writes them as they are")?;
        }
    }
    Ok(())
}
