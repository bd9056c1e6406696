//! Handlers, one file a resource. Each is thin: caller, role, one call, the answer's shape.

pub mod account;
pub mod advice;
pub mod api_keys;
pub mod audit;
pub mod cases;
pub mod connections;
pub mod drift;
pub mod events;
pub mod log;
pub mod mappings;
pub mod ops;
pub mod policy;
pub mod quarantine;
pub mod query;
pub mod records;
pub mod runs;
pub mod streams;
pub mod tenant;
pub mod users;
pub mod views;
pub mod webhooks;

use poem_openapi::auth::Bearer;
use poem_openapi::{OpenApi, OpenApiService, SecurityScheme, Tags};

use poem::http::StatusCode;
use schemas::{Position, StreamId};

use super::Doors;
use super::problem::Problem;
use crate::auth::{AuthError, Caller};

/// Groups of the document.
#[derive(Debug, Clone, Copy, Tags)]
pub enum Tag {
    /// Registering, signing in and out, sessions.
    Account,
    /// A tenant's people and API keys.
    Tenant,
    /// Connections that the server reads.
    Connections,
    /// Records that are pushed, and the streams that they come in.
    Records,
    /// Views, their rows, SQL.
    Views,
    /// What was set aside.
    Quarantine,
    /// Drift, and what is decided of it.
    Cases,
    /// The line, live.
    Events,
    /// One's own log.
    Log,
    /// Who did what.
    Audit,
    /// Health and readiness.
    Operations,
}

/// The caller: a session's token or an API key, in `Authorization: Bearer …`.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", checker = "known", bearer_format = "session token or API key")]
pub struct Signed(pub Caller);

/// The credential was checked outside, in `manners::credential`; here its result is handed over.
async fn known(request: &poem::Request, _: Bearer) -> poem::Result<Caller> {
    request.data::<Caller>().cloned().ok_or_else(|| Problem::from(AuthError::Unauthenticated).into())
}

/// Everything that the document describes.
pub fn service() -> OpenApiService<impl OpenApi, ()> {
    let apis = (
        (account::Routes, users::Routes, api_keys::Routes, tenant::Routes),
        (connections::Routes, streams::Routes, records::Routes, runs::Routes),
        (views::Routes, query::Routes, quarantine::Routes),
        (cases::Routes, policy::Routes, mappings::Routes, drift::Routes, webhooks::Routes, advice::Routes),
        (events::Routes, log::Routes, audit::Routes, ops::Routes),
    );
    OpenApiService::new(apis, "AutonomOS", env!("CARGO_PKG_VERSION"))
        .description("The system of record for data that keeps changing shape.")
        .server("/")
}

/// How long a read waits for the position that it names.
const POSITION_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
/// How long what is about cases waits for those that are on their way.
const CASES_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Waits until everything up to a position that a write answered can be read.
async fn wait_for(doors: &Doors, position: Option<&str>) -> Result<(), Problem> {
    let Some(text) = position else { return Ok(()) };
    let position: Position =
        text.parse().map_err(|e: schemas::position::InvalidPosition| Problem::invalid(e.to_string()))?;
    let waited = tokio::time::timeout(POSITION_WAIT, doors.line.wait_input(position)).await;
    let late = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "position_not_reached", "the views are not so far yet");
    match waited {
        Err(_) => Err(late().retry_after(1)),
        Ok(Err(error)) => Err(Problem::internal(format!("{error:#}"))),
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Problem::invalid(format!("{position} is no position that was answered here"))),
    }
}

/// Waits until the cases of everything that stands on `inputs` now are kept. Where others' records keep the line busy, what is
/// kept so far must do.
async fn wait_cases(doors: &Doors) -> Result<(), Problem> {
    match tokio::time::timeout(CASES_WAIT, doors.line.wait_cases()).await {
        Ok(waited) => waited.map_err(Problem::internal),
        Err(_) => Ok(()),
    }
}

/// Refuses a key that is bound to connections what spans them all; `instead` says what it may ask.
fn require_all(caller: &Caller, instead: &str) -> Result<(), Problem> {
    match caller.is_bound() {
        true => Err(AuthError::OtherConnection(format!("all of them: {instead}")).into()),
        false => Ok(()),
    }
}

/// The key in a sealed cursor.
fn open_key(doors: &Doors, purpose: &str, cursor: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(text) = cursor else { return Ok(None) };
    let opened = doors.seal.open(purpose, text).and_then(|bytes| String::from_utf8(bytes).ok());
    opened.map(Some).ok_or_else(|| Problem::invalid("this cursor is none of ours: begin without one"))
}

/// A stream that the caller may see. What is no name is not there.
fn one_stream(caller: &Caller, connection: &str, stream: &str) -> Result<StreamId, Problem> {
    let missing = || Problem::not_found("stream");
    caller.require_connection(connection).map_err(|_| missing())?;
    let (connection, stream) = (connection.parse().map_err(|_| missing())?, stream.parse().map_err(|_| missing())?);
    Ok(StreamId { tenant: caller.tenant, connection, stream })
}

/// The stream that a list is confined to, if it is; who is bound to connections must name one of them.
fn stream_wanted(
    caller: &Caller,
    connection: Option<String>,
    stream: Option<String>,
) -> Result<Option<StreamId>, Problem> {
    match (connection, stream) {
        (None, None) if caller.is_bound() => Err(Problem::invalid("name connection and stream")),
        (None, None) => Ok(None),
        (Some(connection), Some(stream)) => {
            caller.require_connection(&connection)?;
            let name = |e: schemas::ids::InvalidName| Problem::invalid(e.to_string());
            let (connection, stream) = (connection.parse().map_err(name)?, stream.parse().map_err(name)?);
            Ok(Some(StreamId { tenant: caller.tenant, connection, stream }))
        }
        _ => Err(Problem::invalid("name connection and stream, or neither")),
    }
}
