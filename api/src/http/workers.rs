//! What a process without doors answers: `/healthz`, `/readyz` and `/metrics`, and nothing else.

use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::web::Data;
use poem::{EndpointExt, Request, Response, Route, get, handler};

use super::asked::Asked;
use super::ops::{self, Text};
use crate::auth::secret;
use crate::line::Lag;
use crate::roles::Health;

/// What the handlers work with.
struct Worker {
    health: Arc<Health>,
    lags: Asked<Vec<Lag>>,
    /// The SHA-256 of the operator's token for `/metrics`, in hex.
    metrics_token: Option<String>,
}

/// The three routes as one endpoint.
pub fn app(health: Arc<Health>, metrics_token: Option<&str>) -> BoxEndpoint<'static, Response> {
    let worker = Worker { health, lags: Asked::default(), metrics_token: metrics_token.map(secret::hash) };
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
    (StatusCode::OK, told(&worker).await)
}

async fn told(worker: &Worker) -> String {
    let (health, asked) = (&worker.health, worker.health.clone());
    let (lags, is_up) = worker.lags.ask_or_last(move || async move { asked.lags().await }).await;
    let mut text = Text::default();
    ops::up(is_up, &mut text);
    if let Some(lags) = lags {
        ops::lags(lags, &mut text);
    }
    ops::work(&health.at_work, &mut text);
    ops::oddities(&*health.log, &mut text);
    let is_ready = usize::from(health.trouble().is_none());
    text.gauge("autonomos_ready", "whether the process reaches its peers and everything in it gets on", is_ready);
    text.gauge("autonomos_roles_stopped", "roles that have stopped in a partition", health.stopped());
    text.into_string()
}
