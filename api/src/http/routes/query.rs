//! `/api/v1/query`: SQL over the caller's own views.

use std::sync::Arc;

use poem::Request;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use tokio::time::Instant;

use super::account::Done;
use super::{Signed, Tag};
use crate::auth::{AuthError, Caller, Role};
use crate::http::Doors;
use crate::http::answer::{Rows, accepted};
use crate::http::manners::trace;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::line::{Asking, RunningQuery};

/// A question.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub struct Question {
    /// One SELECT over the caller's views.
    #[oai(validator(min_length = 1, max_length = 262144))]
    pub sql: Text,
    /// A position that a write answered: wait until the views show it.
    #[oai(validator(max_length = 64))]
    pub min_position: Option<Text>,
    /// The caller's own name for the query, by which it can be stopped; no two that run have the same.
    #[oai(validator(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$"))]
    pub id: Option<Text>,
}

/// A query that runs, or waits for its turn.
#[derive(Debug, Object)]
struct QueryInfo {
    /// Its name.
    id: String,
    /// Who asked: `user:ID` or `key:ID`.
    by: String,
    /// Since when.
    since: String,
    /// The beginning of the statement.
    sql: String,
}

/// Queries that run.
#[derive(Debug, Object)]
struct QueryList {
    /// The queries, the oldest first.
    queries: Vec<QueryInfo>,
}

fn may_see(caller: &Caller, query: &RunningQuery) -> bool {
    caller.role == Role::Admin || query.by == caller.label()
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/query", tag = "Tag::Views")]
impl Routes {
    /// Ask with SQL, in JSON, CSV, Arrow or Parquet by Accept. The answer is streamed; hanging up stops the query, and so
    /// does `DELETE /api/v1/query/{id}`.
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
        let Json(Question { sql: Text(sql), min_position, id }) = body;
        let format = accepted(request.header("accept"))?;
        super::wait_for(&doors, min_position.as_deref()).await?;
        let asking = Asking { id: id.map(String::from), by: caller.label(), sql: sql.clone(), trace: trace::on_log() };
        let until = Instant::now() + doors.line.queries.limits().timeout;
        let turn = doors.line.turn_to_ask(caller.tenant, asking).await?;
        let tables = doors.line.snapshots(caller.tenant, &sql).await.map_err(Problem::of_views)?;
        let result = turn.ask(&doors.line.queries, tables, &sql).await?;
        Rows::stream(result, format, until).await
    }

    /// List the queries that run or wait for their turn: one's own, an admin sees all.
    #[oai(path = "/", method = "get", operation_id = "list_queries")]
    async fn list(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Json<QueryList>, Problem> {
        let running = doors.line.running_queries(caller.tenant).into_iter().filter(|query| may_see(&caller, query));
        let info = |query: RunningQuery| QueryInfo {
            id: query.id,
            by: query.by,
            since: time::of_micros(query.since),
            sql: query.sql,
        };
        Ok(Json(QueryList { queries: running.map(info).collect() }))
    }

    /// Stop a query by the id that it was given: one's own, an admin any. Whoever waits for it is told `query_cancelled`; an
    /// answer that is already on its way breaks off.
    #[oai(path = "/:id", method = "delete", operation_id = "cancel_query")]
    async fn cancel(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
    ) -> Result<Done, Problem> {
        match doors.line.stop_query(caller.tenant, &id, |query| may_see(&caller, query)) {
            true => Ok(Done::Done),
            false => Err(Problem::not_found("query that runs")),
        }
    }
}
