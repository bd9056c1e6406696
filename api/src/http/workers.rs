//! What a process without doors answers: `/healthz`, `/readyz` and `/metrics`, and nothing else.

use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::web::Data;
use poem::{EndpointExt, Request, Response, Route, get, handler};

use super::ops::{self, Text};
use crate::auth::secret;
use crate::roles::Health;

/// What the handlers work with.
struct Worker {
    health: Arc<Health>,
    /// The SHA-256 of the operator's token for `/metrics`, in hex.
    metrics_token: Option<String>,
}

/// The three routes as one endpoint.
pub fn app(health: Arc<Health>, metrics_token: Option<&str>) -> BoxEndpoint<'static, Response> {
    let worker = Worker { health, metrics_token: metrics_token.map(secret::hash) };
    let routes = Route::new().at("/healthz", get(healthz)).at("/readyz", get(readyz)).at("/metrics", get(metrics));
    routes.data(Arc::new(worker)).boxed()
}

#[handler]
fn healthz() -> &'static str {
    "ok\n"
}

#[handler]
fn readyz(worker: Data<&Arc<Worker>>) -> (StatusCode, String) {
    match worker.health.trouble() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => {
            tracing::warn!(why, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: the process's log says why\n".to_owned())
        }
    }
}

/// On loopback or with the operator's token, as that of a server.
#[handler]
async fn metrics(request: &Request, worker: Data<&Arc<Worker>>) -> (StatusCode, String) {
    if !ops::may_see(request, worker.metrics_token.as_deref()) {
        return (StatusCode::UNAUTHORIZED, "say the operator's token: Authorization: Bearer TOKEN\n".to_owned());
    }
    match told(&worker.health).await {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the metrics cannot be told");
            let detail = "the metrics cannot be told now: the process's log says why\n";
            (StatusCode::SERVICE_UNAVAILABLE, detail.to_owned())
        }
    }
}

async fn told(health: &Health) -> anyhow::Result<String> {
    let mut text = Text::default();
    ops::lags(health.lags().await?, &mut text);
    ops::work(&health.at_work, &mut text);
    ops::oddities(&*health.log, &mut text);
    let is_ready = usize::from(health.trouble().is_none());
    text.gauge("autonomos_ready", "whether the process reaches its peers and everything in it gets on", is_ready);
    text.gauge("autonomos_roles_stopped", "roles that have stopped in a partition", health.stopped());
    Ok(text.into_string())
}
