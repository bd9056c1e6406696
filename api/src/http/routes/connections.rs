//! `/api/v1/aam`: types of connectors, and the connections that the server reads.

mod shape;

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde_json::Value;

use super::{Signed, Tag};
use crate::auth::{Caller, Role};
use crate::connections::running::Id;
use crate::connections::{ConnectionError, connector};
use crate::http::manners::etag;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::http::{Doors, now};
use shape::{ConnectionInfo, ConnectionPage, ConnectorList, HealthInfo, StreamList, tag};

const LIMIT: u32 = 100;

/// A connection to make.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct ConnectionWanted {
    /// Its name; views name it with each row.
    #[oai(validator(min_length = 1, max_length = 127))]
    name: Text,
    /// The connector's type: see /api/v1/aam/connectors.
    #[oai(validator(min_length = 1, max_length = 40))]
    connector: Text,
    /// After the connector's schema.
    settings: Any<Value>,
}

/// What to change of a connection.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct ConnectionChange {
    /// The whole settings, after the connector's schema.
    settings: Any<Value>,
}

#[derive(ApiResponse)]
enum Made {
    /// Made; a watched one is followed from now on.
    #[oai(status = 201)]
    Created(Json<ConnectionInfo>, #[oai(header = "ETag")] String, #[oai(header = "Location")] String),
}

#[derive(ApiResponse)]
enum Found {
    /// The connection; its ETag goes back as If-Match.
    #[oai(status = 200)]
    Found(Json<ConnectionInfo>, #[oai(header = "ETag")] String),
}

/// A sync that was asked for.
#[derive(Debug, Object)]
struct SyncAsked {
    /// Whether one was under way already: it is the one.
    was_under_way: bool,
    /// When it was asked for; it has ended once the connection's state is no longer `syncing`.
    asked_at: String,
    /// Where to see how it goes.
    link: String,
}

#[derive(ApiResponse)]
enum Begun {
    /// It will be read soon.
    #[oai(status = 202)]
    Accepted(Json<SyncAsked>, #[oai(header = "Location")] String),
}

/// What is left of a connection.
#[derive(Debug, Object)]
struct Deleted {
    /// What happened to its data.
    detail: String,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/aam", tag = "Tag::Connections")]
impl Routes {
    /// List the types of connectors, with the JSON Schema of their settings.
    #[oai(path = "/connectors", method = "get", operation_id = "list_connectors")]
    async fn connectors(&self, Signed(_caller): Signed) -> Result<Json<ConnectorList>, Problem> {
        Ok(Json(shape::connectors(connector::all())))
    }

    /// List the connections.
    #[oai(path = "/connections", method = "get", operation_id = "list_connections")]
    async fn list(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// Connections at most.
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<ConnectionPage>, Problem> {
        let purpose = format!("{}/connections", caller.tenant);
        let after = super::open_key(&doors, &purpose, cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        let found = doors.connections.list(caller.tenant, after.as_deref(), limit).await?;
        let next = found.last().filter(|_| found.len() == limit);
        let next = next.map(|(name, _)| doors.seal.close(&purpose, name.as_bytes()));
        let mine = found.into_iter().filter(|(name, _)| caller.require_connection(name).is_ok());
        Ok(Json(ConnectionPage { connections: mine.map(|(name, c)| shape::connection(&name, c)).collect(), next }))
    }

    /// Make a connection. Its files must lie under a folder that the operator declared for the tenant.
    #[oai(path = "/connections", method = "post", operation_id = "make_connection")]
    async fn make(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        body: Json<ConnectionWanted>,
    ) -> Result<Made, Problem> {
        caller.require(Role::Admin)?;
        let Json(ConnectionWanted { name, connector, settings }) = body;
        let id = (caller.tenant, name.parse().map_err(shape::wrong_name)?);
        let made = doors.connections.create(&id, &connector, settings.0, &caller.label()).await?;
        let (tag, location) = (tag(&made), link(&id, ""));
        Ok(Made::Created(Json(shape::connection(&name, made.value)), tag, location))
    }

    /// Show a connection.
    #[oai(path = "/connections/:connection", method = "get", operation_id = "show_connection")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
    ) -> Result<Found, Problem> {
        let id = id(&caller, &connection)?;
        let found = doors.connections.get(&id).await?;
        let tag = tag(&found);
        Ok(Found::Found(Json(shape::connection(&connection, found.value)), tag))
    }

    /// Give a connection other settings, as a whole. If-Match says which version they replace.
    #[oai(path = "/connections/:connection", method = "put", operation_id = "change_connection")]
    async fn change(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
        /// The ETag of the connection as it was read, or * for any.
        #[oai(name = "If-Match", validator(max_length = 200))]
        if_match: Header<Option<String>>,
        body: Json<ConnectionChange>,
    ) -> Result<Found, Problem> {
        caller.require(Role::Admin)?;
        let id = id(&caller, &connection)?;
        doors.connections.get(&id).await?;
        let missing = "send the connection's ETag as If-Match, or * to replace whatever is there";
        let missing = || Problem::new(StatusCode::PRECONDITION_REQUIRED, "if_match_missing", missing);
        let known = if_match.0.ok_or_else(missing)?;
        let changed = doors.connections.update(&id, body.0.settings.0, |row| etag::matches(&known, &tag(row))).await?;
        let tag = tag(&changed);
        Ok(Found::Found(Json(shape::connection(&connection, changed.value)), tag))
    }

    /// Delete a connection: it reads no more. Rows and records that it brought stay.
    #[oai(path = "/connections/:connection", method = "delete", operation_id = "delete_connection")]
    async fn delete(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
    ) -> Result<Json<Deleted>, Problem> {
        caller.require(Role::Admin)?;
        doors.connections.delete(&id(&caller, &connection)?).await?;
        let detail = "it reads no more; the rows that it brought stay in the views, and its records in the log";
        Ok(Json(Deleted { detail: detail.into() }))
    }

    /// Read every stream now.
    #[oai(path = "/connections/:connection/sync", method = "post", operation_id = "sync_connection")]
    async fn sync(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
    ) -> Result<Begun, Problem> {
        caller.require(Role::Editor)?;
        let id = id(&caller, &connection)?;
        let has_begun = doors.connections.sync(&id).await?;
        let link = link(&id, "/streams");
        let asked = SyncAsked { was_under_way: !has_begun, asked_at: time::of_seconds(now()), link: link.clone() };
        Ok(Begun::Accepted(Json(asked), link))
    }

    /// Pause a connection: nothing of it is read when this is answered.
    #[oai(path = "/connections/:connection/pause", method = "post", operation_id = "pause_connection")]
    async fn pause(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
    ) -> Result<Found, Problem> {
        set_paused(&doors, &caller, &connection, true).await
    }

    /// Resume a connection that was paused.
    #[oai(path = "/connections/:connection/resume", method = "post", operation_id = "resume_connection")]
    async fn resume(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
    ) -> Result<Found, Problem> {
        set_paused(&doors, &caller, &connection, false).await
    }

    /// Look whether every stream's source can be read: it is opened and its head is read.
    #[oai(path = "/connections/:connection/health", method = "get", operation_id = "check_connection")]
    async fn health(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
    ) -> Result<Json<HealthInfo>, Problem> {
        let looked = doors.connections.health(&id(&caller, &connection)?).await?;
        Ok(Json(shape::health(looked)))
    }

    /// Show how every stream fares: counts, place, last sync, last error.
    #[oai(path = "/connections/:connection/streams", method = "get", operation_id = "list_connection_streams")]
    async fn streams(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
    ) -> Result<Json<StreamList>, Problem> {
        let id = id(&caller, &connection)?;
        let connection = doors.connections.get(&id).await?.value;
        let (progress, is_syncing) = doors.connections.progress(&id).await?;
        Ok(Json(shape::streams(&connection, progress, is_syncing)))
    }
}

async fn set_paused(doors: &Doors, caller: &Caller, connection: &str, paused: bool) -> Result<Found, Problem> {
    caller.require(Role::Editor)?;
    let found = doors.connections.set_paused(&id(caller, connection)?, paused).await?;
    let tag = tag(&found);
    Ok(Found::Found(Json(shape::connection(connection, found.value)), tag))
}

/// The connection of that name of the caller's tenant. What is no name is not there.
fn id(caller: &Caller, name: &str) -> Result<Id, Problem> {
    let parsed = name.parse().map_err(|_| ConnectionError::Unknown)?;
    caller.require_connection(name)?;
    Ok((caller.tenant, parsed))
}

fn link(id: &Id, more: &str) -> String {
    format!("/api/v1/aam/connections/{}{more}", id.1)
}
