//! `/api/v1/query`: SQL over the caller's own views.

use std::sync::Arc;

use poem::Request;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Signed, Tag};
use crate::auth::AuthError;
use crate::http::Doors;
use crate::http::answer::{Rows, accepted};
use crate::http::problem::Problem;

/// A question.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct Question {
    /// One SELECT over the caller's views.
    #[oai(validator(min_length = 1, max_length = 262144))]
    sql: String,
    /// A position that a write answered: wait until the views show it.
    #[oai(validator(max_length = 64))]
    min_position: Option<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/query", tag = "Tag::Views")]
impl Routes {
    /// Ask with SQL, in JSON, CSV, Arrow or Parquet by Accept. The answer is streamed; hanging up stops the query.
    #[oai(path = "/", method = "post", operation_id = "query")]
    async fn query(
        &self,
        doors: Data<&Arc<Doors>>,
        request: &Request,
        Signed(caller): Signed,
        body: Json<Question>,
    ) -> Result<Rows, Problem> {
        if caller.is_bound() {
            // A statement spans connections; the rows of the bound ones are read by /dcl/views.
            return Err(AuthError::OtherConnection("all of them: read /api/v1/dcl/views/{view}/rows".into()).into());
        }
        let format = accepted(request.header("accept"))?;
        super::wait_for(&doors, body.min_position.as_deref()).await?;
        let tables = doors.line.snapshots(caller.tenant, &body.sql).await.map_err(Problem::internal)?;
        let result = doors.line.queries.query(caller.tenant, tables, &body.sql).await?;
        Rows::stream(result, format).await
    }
}
