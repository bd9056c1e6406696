//! Health and readiness, and how far the roles are behind.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::payload::{Json, PlainText};
use poem_openapi::{Object, OpenApi};

use super::{Signed, Tag};
use crate::auth::Role;
use crate::http::Doors;
use crate::http::ops::{self, Signals};
use crate::http::problem::Problem;
use crate::line::Lag;

/// How far the roles are behind the log.
#[derive(Debug, Object)]
pub struct Lags {
    /// The age of the oldest record that is in no view yet, in milliseconds.
    pub behind_ms: u64,
    /// Each role and partition.
    pub roles: Vec<RoleLag>,
}

/// How far a role is behind in one partition of the log.
#[derive(Debug, Object)]
pub struct RoleLag {
    /// `processor`, `quarantine`, `repairer` or `notices`; `projector`, who keeps the views that this server answers by, or
    /// `tables`, what of them is in files.
    pub role: String,
    /// What it reads.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Items of all tenants that it has not done yet.
    pub items: u64,
}

/// The routes.
pub struct Routes;

#[OpenApi(tag = "Tag::Operations")]
impl Routes {
    /// Does the process answer?
    #[oai(path = "/healthz", method = "get", operation_id = "healthz")]
    async fn healthz(&self) -> PlainText<&'static str> {
        PlainText("ok\n")
    }

    /// Does every role run?
    #[oai(path = "/readyz", method = "get", operation_id = "readyz")]
    async fn readyz(
        &self,
        doors: Data<&Arc<Doors>>,
        signals: Data<&Arc<Signals>>,
    ) -> Result<PlainText<String>, Problem> {
        match ops::ready(&doors.line, &signals).await {
            (StatusCode::OK, text) => Ok(PlainText(text)),
            (_, text) => {
                tracing::warn!(why = text.trim(), "not ready");
                Err(Problem::unavailable(
                    "a role has stopped, the views are far behind, or log and store are away: the server's log says",
                ))
            }
        }
    }

    /// How far is each role behind the log?
    #[oai(path = "/api/v1/lag", method = "get", operation_id = "show_lag")]
    async fn lag(
        &self,
        doors: Data<&Arc<Doors>>,
        signals: Data<&Arc<Signals>>,
        Signed(caller): Signed,
    ) -> Result<Json<Lags>, Problem> {
        caller.require(Role::Admin)?;
        let (behind, lags) = signals.lags(&doors.line).await.map_err(|why| {
            tracing::warn!(why, "how far the roles are behind cannot be told");
            Problem::unavailable("log and store do not answer now, so it is not known: try again")
        })?;
        let behind_ms = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX);
        Ok(Json(Lags { behind_ms, roles: lags.into_iter().map(told).collect() }))
    }
}

fn told(lag: Lag) -> RoleLag {
    let Lag { role, topic, partition, items } = lag;
    RoleLag { role: role.into(), topic: topic.name().into(), partition, items }
}
