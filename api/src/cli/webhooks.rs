//! `webhooks`: who is told of cases. A server sends what is to be told.

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use pipeline::notices::{self, Form, Topic};
use schemas::time::format_timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::line::{COMMAND_LINE, Line, WebhookWanted};
use crate::notices::host_of;
use crate::output::Output;

/// What to do with webhooks.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum WebhooksCommand {
    /// List the webhooks, with how they fare.
    List(TenantArgs),
    /// Make a webhook; prints the secret that its events are signed with, once.
    Add(AddArgs),
    /// Send a webhook a notice that says nothing but that it works.
    Test(WebhookArgs),
    /// Send nothing to a webhook; what is noted meanwhile is sent afterwards.
    Pause(WebhookArgs),
    /// Go on sending.
    Resume(WebhookArgs),
    /// Remove a webhook, and what it was still to be told.
    Remove(WebhookArgs),
}

/// Whose webhooks.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct TenantArgs {
    /// Whose webhooks.
    #[arg(long)]
    pub tenant: String,
}

/// Which webhook.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct WebhookArgs {
    /// Whose webhook.
    #[arg(long)]
    pub tenant: String,
    /// Its id, as `webhooks list` prints it.
    pub id: String,
}

/// Options of `webhooks add`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct AddArgs {
    /// Whose cases.
    #[arg(long)]
    pub tenant: String,
    /// In which form it is told.
    #[arg(long, value_enum, default_value_t = FormWanted::Event)]
    pub form: FormWanted,
    /// Of what: case.opened, case.reminded, case.expired, case.approved, case.decided, case.rejected, case.reverted;
    /// several joined by commas; the first four when left out.
    #[arg(long, value_delimiter = ',')]
    pub topics: Vec<String>,
    /// Only of this connection; to be repeated.
    #[arg(long)]
    pub connection: Vec<String>,
    /// Where: https, or http where the server's configuration allows the host.
    pub url: String,
}

/// In which form a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormWanted {
    /// A CloudEvent in JSON, signed after the Standard Webhooks specification.
    Event,
    /// A message to an incoming webhook of Slack, or of what takes the same.
    Slack,
}

/// Carries out a `webhooks` command.
pub async fn run(command: WebhooksCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        WebhooksCommand::List(args) => list(&args, line, out).await,
        WebhooksCommand::Add(args) => add(&args, line, out).await,
        WebhooksCommand::Test(args) => {
            let tenant = line.tenant(&args.tenant.parse()?).await?;
            line.test_webhook(tenant, &args.id).await?;
            Ok(out.line("noted: a server sends it; see with autonomos webhooks list")?)
        }
        WebhooksCommand::Pause(args) => pause(&args, true, line, out).await,
        WebhooksCommand::Resume(args) => pause(&args, false, line, out).await,
        WebhooksCommand::Remove(args) => {
            let tenant = line.tenant(&args.tenant.parse()?).await?;
            if !notices::remove_webhook(&*line.store, tenant, &args.id).await? {
                bail!("there is no webhook {}: see autonomos webhooks list", args.id);
            }
            line.journal(tenant, "webhooks remove", &args.id).await?;
            Ok(out.line("removed")?)
        }
    }
}

async fn list(args: &TenantArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let mut rows = Vec::new();
    for (id, webhook) in notices::webhooks(&*line.store, tenant).await? {
        let waiting = notices::notices(&*line.store, tenant, &id, None, 1_000).await?.len();
        let topics: Vec<&str> = webhook.topics.iter().map(|topic| topic.name()).collect();
        rows.push(vec![
            json!(id),
            json!(webhook.form),
            json!(host_of(&webhook.url)),
            json!(topics.join(", ")),
            json!(webhook.connections.join(", ")),
            json!(webhook.paused),
            json!(webhook.fared.delivered),
            json!(waiting),
            json!(webhook.fared.failed),
            json!(webhook.fared.given_up),
            json!(webhook.fared.delivered_at.map(format_timestamp)),
            json!(webhook.fared.error),
        ]);
    }
    let columns = [
        "id",
        "form",
        "host",
        "topics",
        "connections",
        "paused",
        "delivered",
        "waiting",
        "failed",
        "given_up",
        "delivered_at",
        "error",
    ];
    Ok(out.table(&columns, &rows)?)
}

async fn add(args: &AddArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let topic = |name: &String| {
        let known = Topic::CHOICE.into_iter().find(|topic| topic.name() == name);
        known.with_context(|| format!("there is no topic {name:?}: use {}", Topic::CHOICE.map(|t| t.name()).join(", ")))
    };
    let form = match args.form {
        FormWanted::Event => Form::Event,
        FormWanted::Slack => Form::Slack,
    };
    let url: reqwest::Url = args.url.parse().with_context(|| format!("{:?} is no address", args.url))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("write https://host/path, or http where the server's configuration allows the host");
    }
    let wanted = WebhookWanted {
        form,
        url: url.into(),
        topics: args.topics.iter().map(topic).collect::<Result<_, _>>()?,
        connections: args.connection.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
    };
    let (id, webhook) = line.add_webhook(tenant, wanted, COMMAND_LINE).await?;
    line.journal(tenant, "webhooks add", &format!("webhook {id} to {}", host_of(&webhook.url))).await?;
    let secret = (webhook.form == Form::Event).then_some(webhook.secret);
    if out.json() {
        return Ok(out.value(&json!({ "id": id, "secret": secret }))?);
    }
    out.line(&format!("webhook {id} is told of what happens from now on, while a server runs"))?;
    match secret {
        Some(secret) => Ok(out.line(&format!("its events are signed with {secret}, which is not shown again"))?),
        None => Ok(()),
    }
}

async fn pause(args: &WebhookArgs, paused: bool, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    line.pause_webhook(tenant, &args.id, paused).await?;
    Ok(out.line(if paused { "paused" } else { "it goes on" })?)
}
