//! `/api/v1/webhooks`: who is told of cases.

use std::sync::Arc;

use pipeline::notices::{self, Form, Topic, Webhook};
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};

use super::account::Done;
use super::{Signed, Tag};
use crate::auth::{Caller, Role};
use crate::http::Doors;
use crate::http::manners::journal::Noted;
use crate::http::problem::Problem;
use crate::http::time;
use crate::line::{WebhookError, WebhookWanted};

/// In which form a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum FormWanted {
    /// A CloudEvent in JSON, signed after the Standard Webhooks specification.
    Event,
    /// A message to an incoming webhook of Slack, or of what takes the same.
    Slack,
}

/// What a webhook may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum TopicWanted {
    /// A case has opened.
    #[oai(rename = "case.opened")]
    Opened,
    /// A case still waits, or the time that it was put off to has come.
    #[oai(rename = "case.reminded")]
    Reminded,
    /// Nobody decided a case in time; it holds on.
    #[oai(rename = "case.expired")]
    Expired,
    /// One of two people has approved a decision.
    #[oai(rename = "case.approved")]
    Approved,
    /// A case is repaired, or accepted as removed.
    #[oai(rename = "case.decided")]
    Decided,
    /// A proposal was rejected.
    #[oai(rename = "case.rejected")]
    Rejected,
    /// A decision was taken back.
    #[oai(rename = "case.reverted")]
    Reverted,
}

/// A webhook to make.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct WebhookBody {
    /// In which form it is told.
    form: FormWanted,
    /// Where: https, or http where the operator allows the host. It is never shown again as a whole.
    #[oai(validator(min_length = 1, max_length = 2000))]
    url: String,
    /// Of what; opened, reminded, expired and approved when empty.
    #[oai(default, validator(max_items = 10))]
    topics: Vec<TopicWanted>,
    /// Of these connections only; of all when empty.
    #[oai(default, validator(max_items = 100))]
    connections: Vec<String>,
}

/// What to change of a webhook.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct WebhookChange {
    /// Nothing is sent while it is; what is noted meanwhile is sent afterwards.
    paused: bool,
}

/// A webhook.
#[derive(Debug, Object)]
struct WebhookInfo {
    /// Its id.
    id: String,
    /// event or slack.
    form: String,
    /// Its scheme and host; the rest may be secret.
    host: String,
    /// Of what it is told.
    topics: Vec<String>,
    /// Of these connections only; of all when empty.
    connections: Vec<String>,
    /// Whether nothing is sent.
    paused: bool,
    /// Who made it.
    by: String,
    /// When.
    created_at: String,
    /// Notices that were taken.
    delivered: u64,
    /// Tries that failed.
    failed: u64,
    /// Notices that were given up after three days.
    given_up: u64,
    /// When the last one was taken.
    delivered_at: Option<String>,
    /// Why the last try failed; null when it did not.
    error: Option<String>,
}

/// A webhook that was made.
#[derive(Debug, Object)]
struct WebhookMade {
    /// The webhook.
    webhook: WebhookInfo,
    /// What its events are signed with, told once.
    secret: Option<String>,
}

/// A tenant's webhooks.
#[derive(Debug, Object)]
struct WebhookList {
    /// The webhooks.
    webhooks: Vec<WebhookInfo>,
}

#[derive(ApiResponse)]
#[expect(clippy::large_enum_variant, reason = "it lives for one answer")]
enum Made {
    /// Made.
    #[oai(status = 201)]
    Created(Json<WebhookMade>),
}

/// A test that was asked for.
#[derive(Debug, Object)]
struct TestAsked {
    /// Where to see whether it was taken.
    link: String,
}

#[derive(ApiResponse)]
enum Tested {
    /// It is sent soon.
    #[oai(status = 202)]
    Accepted(Json<TestAsked>),
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/webhooks", tag = "Tag::Cases")]
impl Routes {
    /// List the webhooks, with how they fare.
    #[oai(path = "/", method = "get", operation_id = "list_webhooks")]
    async fn list(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Json<WebhookList>, Problem> {
        caller.require(Role::Admin)?;
        let all = notices::webhooks(&*doors.line.store, caller.tenant).await?;
        Ok(Json(WebhookList { webhooks: all.into_iter().map(|(id, webhook)| info(id, webhook)).collect() }))
    }

    /// Make a webhook. It is told of what happens from now on.
    #[oai(path = "/", method = "post", operation_id = "make_webhook")]
    async fn make(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
        body: Json<WebhookBody>,
    ) -> Result<Made, Problem> {
        caller.require(Role::Admin)?;
        let Json(WebhookBody { form, url, topics, connections }) = body;
        let refused = |e: crate::notices::guard::NotAllowed| {
            Problem::new(StatusCode::BAD_REQUEST, "host_not_allowed", e.to_string())
        };
        let checked = doors.notices.guard().check(&url).map_err(refused)?;
        doors.notices.guard().look_up(&checked).await.map_err(refused)?;
        let name = |e: schemas::ids::InvalidName| Problem::invalid(e.to_string());
        let connections = connections.iter().map(|c| c.parse().map_err(name)).collect::<Result<_, _>>()?;
        let form = match form {
            FormWanted::Event => Form::Event,
            FormWanted::Slack => Form::Slack,
        };
        let topics = topics.into_iter().map(topic).collect();
        let wanted = WebhookWanted { form, url: checked.into(), topics, connections };
        let (id, webhook) = doors.line.add_webhook(caller.tenant, wanted, &caller.label()).await?;
        let secret = (webhook.form == Form::Event).then(|| webhook.secret.clone());
        let webhook = info(id, webhook);
        noted.say(format!("webhook {} to {}", webhook.id, webhook.host));
        Ok(Made::Created(Json(WebhookMade { webhook, secret })))
    }

    /// Show a webhook, with how it fares.
    #[oai(path = "/:id", method = "get", operation_id = "show_webhook")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
    ) -> Result<Json<WebhookInfo>, Problem> {
        Ok(Json(info(id.0.clone(), find(&doors, &caller, &id).await?)))
    }

    /// Pause a webhook, or have it go on. For another address or form make another one.
    #[oai(path = "/:id", method = "patch", operation_id = "change_webhook")]
    async fn change(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
        body: Json<WebhookChange>,
    ) -> Result<Json<WebhookInfo>, Problem> {
        find(&doors, &caller, &id).await?;
        let changed = doors.line.pause_webhook(caller.tenant, &id, body.paused).await?;
        doors.notices.look();
        Ok(Json(info(id.0, changed)))
    }

    /// Send a webhook a notice that says nothing but that it works.
    #[oai(path = "/:id/test", method = "post", operation_id = "test_webhook")]
    async fn test(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
    ) -> Result<Tested, Problem> {
        find(&doors, &caller, &id).await?;
        doors.line.test_webhook(caller.tenant, &id).await?;
        doors.notices.look();
        Ok(Tested::Accepted(Json(TestAsked { link: format!("/api/v1/webhooks/{}", id.0) })))
    }

    /// Remove a webhook, and what it was still to be told.
    #[oai(path = "/:id", method = "delete", operation_id = "remove_webhook")]
    async fn remove(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
    ) -> Result<Done, Problem> {
        caller.require(Role::Admin)?;
        match notices::remove_webhook(&*doors.line.store, caller.tenant, &id).await? {
            true => Ok(Done::Done),
            false => Err(Problem::not_found("webhook")),
        }
    }
}

async fn find(doors: &Doors, caller: &Caller, id: &str) -> Result<Webhook, Problem> {
    caller.require(Role::Admin)?;
    let known = notices::webhook(&*doors.line.store, caller.tenant, id).await?;
    known.map(|(webhook, _)| webhook).ok_or_else(|| Problem::not_found("webhook"))
}

fn topic(wanted: TopicWanted) -> Topic {
    match wanted {
        TopicWanted::Opened => Topic::Opened,
        TopicWanted::Reminded => Topic::Reminded,
        TopicWanted::Expired => Topic::Expired,
        TopicWanted::Approved => Topic::Approved,
        TopicWanted::Decided => Topic::Decided,
        TopicWanted::Rejected => Topic::Rejected,
        TopicWanted::Reverted => Topic::Reverted,
    }
}

fn info(id: String, webhook: Webhook) -> WebhookInfo {
    let form = match webhook.form {
        Form::Event => "event",
        Form::Slack => "slack",
    };
    WebhookInfo {
        id,
        form: form.to_owned(),
        host: crate::notices::host_of(&webhook.url),
        topics: webhook.topics.iter().map(|topic| topic.name().to_owned()).collect(),
        connections: webhook.connections,
        paused: webhook.paused,
        by: webhook.by,
        created_at: time::of_micros(webhook.since),
        delivered: webhook.fared.delivered,
        failed: webhook.fared.failed,
        given_up: webhook.fared.given_up,
        delivered_at: webhook.fared.delivered_at.map(time::of_micros),
        error: webhook.fared.error,
    }
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        let detail = error.to_string();
        match error {
            WebhookError::Unknown => Self::not_found("webhook"),
            WebhookError::TooMany => Self::new(StatusCode::CONFLICT, "quota_webhooks", detail),
            WebhookError::Store(error) => error.into(),
            WebhookError::Failed(_) => Self::internal(detail),
        }
    }
}
