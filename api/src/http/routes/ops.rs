//! Health and readiness.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::payload::PlainText;

use super::Tag;
use crate::http::problem::Problem;
use crate::http::{Doors, ops};

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
    async fn readyz(&self, doors: Data<&Arc<Doors>>) -> Result<PlainText<String>, Problem> {
        match ops::ready(&doors.line).await {
            (StatusCode::OK, text) => Ok(PlainText(text)),
            (_, text) => {
                tracing::warn!(why = text.trim(), "not ready");
                Err(Problem::unavailable("a role has stopped or the views are far behind: the server's log says why"))
            }
        }
    }
}
