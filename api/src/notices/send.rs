//! Sending: one request a notice, signed, to a guarded address, with no redirect followed.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pipeline::notices::{Form, Webhook};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};

use super::guard::{Guard, NotAllowed};
use super::message::About;

/// A receiver has so long for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The prefix of a secret, after the Standard Webhooks specification.
const SECRET_PREFIX: &str = "whsec_";

/// A notice was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It may not go there.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// The receiver refused.
    #[error("the receiver answered {0}")]
    Refused(StatusCode),
    /// Nobody answered.
    #[error("{0}")]
    Failed(String),
    /// The secret cannot be read.
    #[error("the secret of the webhook cannot be read: make another webhook")]
    Secret,
}

/// Sends notices.
pub struct Sender {
    guard: Guard,
    far: Client,
    near: Client,
}

impl Sender {
    /// A sender to where the guard lets it.
    pub fn new(guard: Guard) -> anyhow::Result<Self> {
        let client = |guard: Guard| {
            Client::builder()
                .dns_resolver(std::sync::Arc::new(guard))
                .redirect(Policy::none())
                .no_proxy()
                .referer(false)
                .connect_timeout(CONNECT_MAX)
                .timeout(ANSWER_MAX)
                .user_agent(concat!("autonomos/", env!("CARGO_PKG_VERSION")))
                .build()
        };
        Ok(Self { far: client(guard.clone())?, near: client(guard.near())?, guard })
    }

    /// Where notices may go.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Sends a notice, at a time in seconds since 1970 UTC. Only that the receiver took it is looked at: what it answers
    /// is nobody's business.
    pub async fn send(&self, webhook: &Webhook, about: &About<'_>, now: i64) -> Result<(), SendError> {
        // A host that is an address never meets the resolver.
        let url = self.guard.check(&webhook.url)?;
        let client = if url.scheme() == "http" { &self.near } else { &self.far };
        let (body, media) = match webhook.form {
            Form::Event => (about.event().to_string(), "application/cloudevents+json"),
            Form::Slack => (about.slack().to_string(), "application/json"),
        };
        let mut request = client.post(url).header("content-type", media);
        if webhook.form == Form::Event {
            let signature = sign(&webhook.secret, about.id, now, &body).ok_or(SendError::Secret)?;
            request = request
                .header("webhook-id", about.id)
                .header("webhook-timestamp", now)
                .header("webhook-signature", signature);
        }
        let answer = request.body(body).send().await.map_err(failed)?;
        if answer.status().is_success() { Ok(()) } else { Err(SendError::Refused(answer.status())) }
    }
}

/// The signature of a message, after the Standard Webhooks specification.
pub fn sign(secret: &str, id: &str, at: i64, body: &str) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret)).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(tag.as_ref())))
}

/// A new secret: 32 random bytes.
pub fn new_secret() -> Result<String, crate::auth::AuthError> {
    Ok(format!("{SECRET_PREFIX}{}", STANDARD.encode(crate::auth::secret::random::<32>()?)))
}

/// What went wrong, without the address, which may hold a secret.
fn failed(error: reqwest::Error) -> SendError {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<NotAllowed>() {
            return SendError::NotAllowed(refused.clone());
        }
        source = cause.source();
    }
    let what = match () {
        () if error.is_timeout() => "the receiver did not answer in time",
        () if error.is_connect() => "the receiver could not be reached",
        () => "the receiver broke the connection off",
    };
    SendError::Failed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_signed_as_the_specification_has_it() {
        // The example of the Standard Webhooks specification's libraries.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = r#"{"test": 2432232314}"#;
        let signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert_eq!(sign("whsec_***", "a", 0, body), None);
    }

    #[test]
    fn every_secret_is_another_one() {
        let (one, other) = (new_secret().unwrap(), new_secret().unwrap());
        assert!(one.starts_with(SECRET_PREFIX) && one != other);
        assert!(sign(&one, "a", 0, "b").is_some());
    }
}
