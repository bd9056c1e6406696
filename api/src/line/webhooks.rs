//! Webhooks of a tenant: who is told of its cases.

use pipeline::Expect;
use pipeline::notices::{self, Fared, Form, Notice, Topic, Webhook};
use schemas::{ConnectionName, TenantId};
use tokio::sync::watch;

use super::Line;
use crate::auth::secret;
use crate::notices::send::new_secret;

/// Webhooks that a tenant may have.
pub const WEBHOOKS_MAX: usize = 20;

/// A webhook to make.
#[derive(Debug, Clone)]
pub struct WebhookWanted {
    /// In which form it is told.
    pub form: Form,
    /// Where; checked already.
    pub url: String,
    /// Of what; the usual when empty.
    pub topics: Vec<Topic>,
    /// Of these connections only; empty for all.
    pub connections: Vec<ConnectionName>,
}

/// A webhook is not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is no such webhook.
    #[error("there is no such webhook")]
    Unknown,
    /// There are too many.
    #[error("at most {WEBHOOKS_MAX} webhooks: remove one first")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] pipeline::StoreError),
    /// Something else failed.
    #[error("{0}")]
    Failed(String),
}

impl Line {
    /// Makes a webhook; answers its id and the webhook with its secret.
    pub async fn add_webhook(
        &self,
        tenant: TenantId,
        wanted: WebhookWanted,
        by: &str,
    ) -> Result<(String, Webhook), WebhookError> {
        if notices::webhooks(&*self.store, tenant).await?.len() >= WEBHOOKS_MAX {
            return Err(WebhookError::TooMany);
        }
        let failed = |error: crate::auth::AuthError| WebhookError::Failed(error.to_string());
        let WebhookWanted { form, url, topics, connections } = wanted;
        let webhook = Webhook {
            form,
            url,
            secret: new_secret().map_err(failed)?,
            topics: if topics.is_empty() { Topic::USUAL.to_vec() } else { topics },
            connections: connections.iter().map(ToString::to_string).collect(),
            paused: false,
            by: by.to_owned(),
            since: jiff::Timestamp::now().as_microsecond(),
            fared: Fared::default(),
        };
        let id = secret::id().map_err(failed)?;
        notices::put_webhook(&*self.store, tenant, &id, &webhook, Expect::Absent).await?;
        Ok((id, webhook))
    }

    /// Has a webhook told that it works.
    pub async fn test_webhook(&self, tenant: TenantId, id: &str) -> Result<(), WebhookError> {
        notices::webhook(&*self.store, tenant, id).await?.ok_or(WebhookError::Unknown)?;
        let at = jiff::Timestamp::now().as_microsecond();
        let notice = Notice { topic: Topic::Tested, stream: String::new(), case: None, at, tries: 0, due: at };
        Ok(notices::put_notice(&*self.store, tenant, id, &format!("test:{at:020}"), &notice).await?)
    }

    /// Pauses a webhook, or has it go on.
    pub async fn pause_webhook(&self, tenant: TenantId, id: &str, paused: bool) -> Result<Webhook, WebhookError> {
        loop {
            let known = notices::webhook(&*self.store, tenant, id).await?;
            let (mut webhook, version) = known.ok_or(WebhookError::Unknown)?;
            webhook.paused = paused;
            match notices::put_webhook(&*self.store, tenant, id, &webhook, Expect::Version(version)).await {
                Err(pipeline::StoreError::Conflict { .. }) => {}
                done => return Ok(done.map(|_| webhook)?),
            }
        }
    }

    /// How far the keepers of notices are, one for each partition: what they note may be sent.
    pub(crate) fn noticed(&self) -> Vec<watch::Receiver<u64>> {
        self.roles.noticed.clone()
    }
}
