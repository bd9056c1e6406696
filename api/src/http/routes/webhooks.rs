//! `/api/v1/webhooks`: who is told of cases.

use std::sync::Arc;

use pipeline::notices::{self, Form, Topic, Webhook};
use pipeline::{Store, StoreError};
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use schemas::TenantId;

use super::account::Done;
use super::{Signed, Tag};
use crate::auth::{Caller, Role};
use crate::http::Doors;
use crate::http::manners::journal::Noted;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::line::{WebhookError, WebhookWanted};

/// Notices that wait are counted up to here.
const WAITING_MAX: usize = 1_000;

/// In which form a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum FormWanted {
    /// A CloudEvent in JSON, signed after the Standard Webhooks specification. It names every field that is lost, with views,
    /// severity and kinds; its `link` is absolute where the operator has said how people reach the server.
    Event,
    /// A message to an incoming webhook of Slack, or of what takes the same: as many fields as 3,000 characters bear, with
    /// views, severity and kinds, and a link where the operator has said how people reach the server.
    Slack,
}

/// What a webhook may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum TopicWanted {
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

impl TopicWanted {
    /// Everything that may be chosen.
    pub const ALL: [Self; 7] =
        [Self::Opened, Self::Reminded, Self::Expired, Self::Approved, Self::Decided, Self::Rejected, Self::Reverted];

    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        topic(self).name()
    }
}

/// A webhook to make.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct WebhookBody {
    /// In which form it is told.
    pub form: FormWanted,
    /// Where: https, or http where the operator allows the host. It is never shown again as a whole.
    #[oai(validator(min_length = 1, max_length = 2000))]
    pub url: Text,
    /// Of what; opened, reminded, expired and approved when empty.
    #[oai(default, validator(max_items = 10))]
    pub topics: Vec<TopicWanted>,
    /// Of these connections only; of all when empty.
    #[oai(default, validator(max_items = 100))]
    pub connections: Vec<Text>,
}

/// What to change of a webhook.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct WebhookChange {
    /// Nothing is sent while it is; what is noted meanwhile is sent afterwards.
    pub paused: bool,
}

/// A webhook.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct WebhookInfo {
    /// Its id.
    pub id: String,
    /// event or slack.
    pub form: String,
    /// Its scheme and host; the rest may be secret.
    pub host: String,
    /// Of what it is told.
    pub topics: Vec<String>,
    /// Of these connections only; of all when empty.
    pub connections: Vec<String>,
    /// Whether nothing is sent.
    pub paused: bool,
    /// Who made it.
    pub by: String,
    /// When.
    pub created_at: String,
    /// Notices that were taken.
    pub delivered: u64,
    /// Notices that wait to be sent; counted up to 1,000.
    pub waiting: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Notices that were given up after three days.
    pub given_up: u64,
    /// When the last one was taken.
    pub delivered_at: Option<String>,
    /// Why the last try failed; null when it did not.
    pub error: Option<String>,
}

/// A webhook that was made.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct WebhookMade {
    /// The webhook.
    pub webhook: WebhookInfo,
    /// What its events are signed with, told once.
    pub secret: Option<String>,
}

/// A tenant's webhooks.
#[derive(Debug, Object)]
pub struct WebhookList {
    /// The webhooks.
    pub webhooks: Vec<WebhookInfo>,
}

#[derive(ApiResponse)]
enum Made {
    /// Made.
    #[oai(status = 201)]
    Created(Json<WebhookMade>),
}

/// A test that was asked for.
#[derive(Debug, Object)]
pub struct TestAsked {
    /// Where to see whether it was taken.
    pub link: String,
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
        Ok(Json(WebhookList { webhooks: all(&*doors.line.store, caller.tenant).await? }))
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
        let refused = |e: crate::notices::guard::NotAllowed| {
            Problem::new(StatusCode::BAD_REQUEST, "host_not_allowed", e.to_string())
        };
        let checked = doors.notices.guard().check(&body.url).map_err(refused)?;
        doors.notices.guard().look_up(&checked).await.map_err(refused)?;
        let wanted = wanted(body.0, checked.into()).map_err(|e| Problem::invalid(e.to_string()))?;
        let (id, webhook) = doors.line.add_webhook(caller.tenant, wanted, &caller.label()).await?;
        let made = made(id, webhook);
        noted.say(format!("webhook {} to {}", made.webhook.id, made.webhook.host));
        Ok(Made::Created(Json(made)))
    }

    /// Show a webhook, with how it fares.
    #[oai(path = "/:id", method = "get", operation_id = "show_webhook")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
    ) -> Result<Json<WebhookInfo>, Problem> {
        let webhook = find(&doors, &caller, &id).await?;
        let waiting = waiting(&*doors.line.store, caller.tenant, &id).await?;
        Ok(Json(info(id.0, webhook, waiting)))
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
        let waiting = waiting(&*doors.line.store, caller.tenant, &id).await?;
        Ok(Json(info(id.0, changed, waiting)))
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

const fn topic(wanted: TopicWanted) -> Topic {
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

/// Every webhook of a tenant, with how it fares.
pub async fn all(store: &dyn Store, tenant: TenantId) -> Result<Vec<WebhookInfo>, StoreError> {
    let mut all = Vec::new();
    for (id, webhook) in notices::webhooks(store, tenant).await? {
        let waiting = waiting(store, tenant, &id).await?;
        all.push(info(id, webhook, waiting));
    }
    Ok(all)
}

async fn waiting(store: &dyn Store, tenant: TenantId, id: &str) -> Result<u64, StoreError> {
    Ok(notices::notices(store, tenant, id, None, WAITING_MAX).await?.len() as u64)
}

/// A webhook as somebody wants it, at an address that was checked.
pub fn wanted(body: WebhookBody, url: String) -> Result<WebhookWanted, schemas::ids::InvalidName> {
    let form = match body.form {
        FormWanted::Event => Form::Event,
        FormWanted::Slack => Form::Slack,
    };
    let connections = body.connections.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    Ok(WebhookWanted { form, url, topics: body.topics.into_iter().map(topic).collect(), connections })
}

/// A webhook that was made, with its secret.
pub fn made(id: String, webhook: Webhook) -> WebhookMade {
    let secret = (webhook.form == Form::Event).then(|| webhook.secret.clone());
    WebhookMade { webhook: info(id, webhook, 0), secret }
}

fn info(id: String, webhook: Webhook, waiting: u64) -> WebhookInfo {
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
        waiting,
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
