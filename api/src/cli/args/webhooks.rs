//! Options of `webhooks`.

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// What to do with webhooks.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum WebhooksCommand {
    /// List the webhooks, with how they fare.
    List(WebhooksArgs),
    /// Make a webhook; prints the secret that its events are signed with, once.
    Add(AddWebhookArgs),
    /// Send a webhook a notice that says nothing but that it works.
    Test(WebhookArgs),
    /// Send nothing to a webhook; what is noted meanwhile is sent afterwards.
    Pause(WebhookArgs),
    /// Go on sending.
    Resume(WebhookArgs),
    /// Remove a webhook, and what it was still to be told.
    Remove(WebhookArgs),
}

impl WebhooksCommand {
    /// Whose webhooks.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::List(args) => args.tenant.as_deref(),
            Self::Add(args) => args.tenant.as_deref(),
            Self::Test(args) | Self::Pause(args) | Self::Resume(args) | Self::Remove(args) => args.tenant.as_deref(),
        }
    }
}

/// Whose webhooks.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct WebhooksArgs {
    /// Whose webhooks.
    #[arg(long)]
    pub tenant: Option<String>,
}

/// Which webhook.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct WebhookArgs {
    /// Whose webhook.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Its id, as `webhooks list` prints it.
    pub id: String,
}

/// Options of `webhooks add`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct AddWebhookArgs {
    /// Whose cases.
    #[arg(long)]
    pub tenant: Option<String>,
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
