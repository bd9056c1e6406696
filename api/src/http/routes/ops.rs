//! Health and readiness.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::PlainText;
use poem_openapi::OpenApi;

use super::Tag;
use crate::http::Doors;
use crate::http::problem::Problem;

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
    async fn readyz(&self, doors: Data<&Arc<Doors>>) -> Result<PlainText<&'static str>, Problem> {
        match doors.line.failure() {
            None => Ok(PlainText("ready\n")),
            Some(_) => Err(Problem::unavailable("a role has stopped: the server's log says why")),
        }
    }
}
