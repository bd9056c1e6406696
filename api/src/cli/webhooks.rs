//! `webhooks`: who is told of cases. A server sends what is to be told.

use anyhow::Context;
use serde_json::json;

use super::backend::Backend;
use super::{AddWebhookArgs, FormWanted, WebhooksCommand};
use crate::http::routes::webhooks::{self, TopicWanted, WebhookBody, WebhookInfo, WebhookMade};
use crate::http::text::Text;
use crate::output::Output;

/// Carries out a `webhooks` command.
pub async fn run(command: &WebhooksCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        WebhooksCommand::List(_) => list(of, out).await,
        WebhooksCommand::Add(args) => add(args, of, out).await,
        WebhooksCommand::Test(args) => {
            of.test_webhook(&args.id).await?;
            Ok(out.line("noted: a server sends it; see with autonomos webhooks list")?)
        }
        WebhooksCommand::Pause(args) => {
            of.pause_webhook(&args.id, true).await?;
            Ok(out.line("paused")?)
        }
        WebhooksCommand::Resume(args) => {
            of.pause_webhook(&args.id, false).await?;
            Ok(out.line("it goes on")?)
        }
        WebhooksCommand::Remove(args) => {
            of.remove_webhook(&args.id).await?;
            Ok(out.line("removed")?)
        }
    }
}

async fn list(of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let row = |webhook: WebhookInfo| {
        vec![
            json!(webhook.id),
            json!(webhook.form),
            json!(webhook.host),
            json!(webhook.topics.join(", ")),
            json!(webhook.connections.join(", ")),
            json!(webhook.paused),
            json!(webhook.delivered),
            json!(webhook.waiting),
            json!(webhook.failed),
            json!(webhook.given_up),
            json!(webhook.delivered_at),
            json!(webhook.error),
        ]
    };
    let rows: Vec<_> = of.webhooks().await?.into_iter().map(row).collect();
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

async fn add(args: &AddWebhookArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let topic = |name: &String| {
        let known = TopicWanted::ALL.into_iter().find(|topic| topic.name() == name);
        known.with_context(|| {
            format!("there is no topic {name:?}: use {}", TopicWanted::ALL.map(TopicWanted::name).join(", "))
        })
    };
    let form = match args.form {
        FormWanted::Event => webhooks::FormWanted::Event,
        FormWanted::Slack => webhooks::FormWanted::Slack,
    };
    let wanted = WebhookBody {
        form,
        url: args.url.as_str().into(),
        topics: args.topics.iter().map(topic).collect::<Result<_, _>>()?,
        connections: args.connection.iter().map(|name| Text::from(name.as_str())).collect(),
    };
    let WebhookMade { webhook, secret } = of.add_webhook(wanted).await?;
    if out.json() {
        return Ok(out.value(&json!({ "id": webhook.id, "secret": secret }))?);
    }
    out.line(&format!("webhook {} is told of what happens from now on, while a server runs", webhook.id))?;
    match secret {
        Some(secret) => Ok(out.line(&format!("its events are signed with {secret}, which is not shown again"))?),
        None => Ok(()),
    }
}
