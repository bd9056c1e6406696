//! `quarantine`: what was set aside, why, and what people do with it.

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use clap::Args;
use pipeline::quarantine::{self, Note, SettledNote};
use schemas::reason::Reason;
use schemas::settle::{Action, Settled, Which};
use schemas::time::format_timestamp;
use schemas::{StreamId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{QuarantineArgs, QuarantineCommand, ShowArgs};
use crate::line::{COMMAND_LINE, Line, Reasoned};
use crate::output::Output;

/// Which records are retried or discarded, and why.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SettleArgs {
    /// Whose records.
    #[arg(long)]
    pub tenant: String,
    /// Only what was set aside of this stream: CONNECTION/STREAM.
    #[arg(long, conflicts_with = "positions")]
    pub stream: Option<String>,
    /// Only what was set aside for this reason.
    #[arg(long, conflicts_with = "positions")]
    pub reason: Option<String>,
    /// Only what was set aside for this field or path.
    #[arg(long, conflicts_with = "positions")]
    pub field: Option<String>,
    /// Why, for the record.
    #[arg(long)]
    pub why: String,
    /// These records, as `quarantine list` prints them.
    pub positions: Vec<String>,
}

/// Carries out a `quarantine` command.
pub async fn run(command: QuarantineCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        QuarantineCommand::List(args) => list(&args, line, out).await,
        QuarantineCommand::Show(args) => show(&args, line, out).await,
        QuarantineCommand::Retry(args) => settle(&args, Action::Retry, line, out).await,
        QuarantineCommand::Discard(args) => settle(&args, Action::Discard, line, out).await,
    }
}

async fn list(args: &QuarantineArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let stream = args.stream.as_deref().map(|text| stream_of(tenant, text)).transpose()?;
    line.wait_quarantined().await?;
    // One more than asked for tells whether there are more.
    let (after, limit) = (args.after.as_deref(), args.limit + 1);
    let mut found: Vec<(String, Vec<Value>)> = match args.settled {
        false => {
            let notes = quarantine::list(&*line.store, tenant, stream.as_ref(), after, limit).await?;
            notes.into_iter().map(|(key, note)| (key, row(&note))).collect()
        }
        true => {
            let notes = quarantine::list_settled(&*line.store, tenant, stream.as_ref(), after, limit).await?;
            notes.into_iter().map(|(key, settled)| (key, settled_row(&settled))).collect()
        }
    };
    let more = found.len() > args.limit;
    found.truncate(args.limit);
    let last = found.last().map(|(key, _)| key.clone()).filter(|_| more);
    let mut columns = vec!["position", "stream", "row", "stage", "reason", "field", "detail", "logged_at"];
    if args.settled {
        columns.extend(["action", "by", "why", "settled_at"]);
    }
    let rows: Vec<_> = found.into_iter().map(|(_, row)| row).collect();
    out.table(&columns, &rows)?;
    match last {
        Some(last) if out.json() => out.value(&json!({ "more": true, "after": last }))?,
        Some(last) => out.line(&format!("there are more: go on with --after {last}"))?,
        None => {}
    }
    Ok(())
}

fn row(note: &Note) -> Vec<Value> {
    vec![
        json!(note.position.to_string()),
        json!(note.stream),
        json!(note.lane_ordinal),
        json!(note.stage),
        json!(note.reason.code()),
        json!(note.field),
        json!(note.detail),
        json!(format_timestamp(note.logged_at)),
    ]
}

fn settled_row(settled: &SettledNote) -> Vec<Value> {
    let SettledNote { note, action, by, why, settled_at } = settled;
    let more = [json!(action.name()), json!(by), json!(why), json!(format_timestamp(*settled_at))];
    row(note).into_iter().chain(more).collect()
}

async fn settle(args: &SettleArgs, action: Action, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let why = Reasoned { action, by: COMMAND_LINE, why: &args.why };
    let settled = match &args.positions[..] {
        [] => several(args, tenant, why, line).await?,
        positions => {
            let mut all = Settled::default();
            for position in positions {
                all = all.plus(line.settle_one(tenant, position.parse()?, why).await?);
            }
            all
        }
    };
    line.journal(tenant, &format!("quarantine {}", action.name()), &args.why).await?;
    line.catch_up().await?;
    if out.json() {
        return Ok(out.value(&settled)?);
    }
    let Settled { records, accepted, deleted, quarantined, held, discarded } = settled;
    Ok(out.line(&format!(
        "{records} records = {accepted} rows + {deleted} deletes + {quarantined} set aside again + {held} held + {discarded} discarded"
    ))?)
}

async fn several(args: &SettleArgs, tenant: TenantId, why: Reasoned<'_>, line: &Line) -> anyhow::Result<Settled> {
    let reason = args.reason.as_deref().map(|code| {
        let known = Reason::ALL.iter().copied().find(|reason| reason.code() == code);
        known.with_context(|| format!("there is no reason {code:?}: see autonomos quarantine list"))
    });
    let which = Which { offsets: vec![], reason: reason.transpose()?, field: args.field.clone() };
    if let Some(text) = &args.stream {
        return Ok(line.settle(&stream_of(tenant, text)?, which, why).await?);
    }
    if which == Which::default() {
        bail!("name what is meant: positions, --stream, --reason or --field");
    }
    Ok(line.settle_all(tenant, &which, why).await?.into_values().reduce(Settled::plus).unwrap_or_default())
}

fn stream_of(tenant: TenantId, text: &str) -> anyhow::Result<StreamId> {
    let Some((connection, stream)) = text.split_once('/') else {
        bail!("{text:?} names no stream: write CONNECTION/STREAM")
    };
    Ok(StreamId { tenant, connection: connection.parse()?, stream: stream.parse()? })
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
