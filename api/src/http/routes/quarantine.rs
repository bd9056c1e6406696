//! `/api/v1/quarantine`: what was set aside, its bytes, and what people do with it.

mod settle;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pipeline::quarantine::{self, Note, SettledNote};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use schemas::Position;
use schemas::settle::Action;

use super::{Signed, Tag};
use crate::http::Doors;
use crate::http::manners::journal::Noted;
use crate::http::problem::Problem;
use crate::http::time;
use settle::{Done, Several, Why};

const LIMIT: u32 = 100;

/// A record that was set aside.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct QuarantinedRecord {
    /// Where its bytes are on `inputs`: its id.
    position: String,
    /// Its stream: `connection/stream`.
    stream: String,
    /// Why, as a stable code.
    reason: String,
    /// Where on the line.
    stage: String,
    /// The field or path concerned.
    field: Option<String>,
    /// What exactly was wrong.
    detail: String,
    /// Its place in its lane; for a file the row's number.
    lane_ordinal: u64,
    /// When the log took it.
    logged_at: String,
    /// What was done with it, if it was settled.
    settled: Option<SettledAs>,
}

/// How a record was settled.
#[derive(Debug, Object)]
struct SettledAs {
    /// retry or discard.
    action: String,
    /// Who: `user:ID`, `key:ID` or `command line`.
    by: String,
    /// Why.
    why: String,
    /// When.
    at: String,
}

/// A page of records that were set aside.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct QuarantinePage {
    /// The records.
    records: Vec<QuarantinedRecord>,
    /// For the next page; null at the end.
    next: Option<String>,
}

/// A record that was set aside, with its bytes.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct QuarantinedPayload {
    /// The record.
    record: QuarantinedRecord,
    /// Its bytes, when they are UTF-8.
    payload: Option<String>,
    /// Its bytes in base64, when they are not.
    payload_base64: Option<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/quarantine", tag = "Tag::Quarantine")]
impl Routes {
    /// List what was set aside.
    #[oai(path = "/", method = "get", operation_id = "list_quarantine")]
    async fn list(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// Only of this connection; with `stream`.
        #[oai(validator(max_length = 127))]
        connection: Query<Option<String>>,
        /// Only of this stream of the connection.
        #[oai(validator(max_length = 127))]
        stream: Query<Option<String>>,
        /// Records at most.
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
        /// Those that were retried or discarded, instead of those that wait.
        settled: Query<Option<bool>>,
    ) -> Result<Json<QuarantinePage>, Problem> {
        let of = super::stream_wanted(&caller, connection.0, stream.0)?;
        let settled = settled.0.unwrap_or_default();
        let purpose = format!("{}/quarantine{}", caller.tenant, if settled { "/settled" } else { "" });
        let after = super::open_key(&doors, &purpose, cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        doors.line.wait_quarantined().await.map_err(Problem::internal)?;
        let (store, tenant, after) = (&*doors.line.store, caller.tenant, after.as_deref());
        let found: Vec<(String, QuarantinedRecord)> = match settled {
            false => {
                let notes = quarantine::list(store, tenant, of.as_ref(), after, limit).await?;
                notes.into_iter().map(|(key, note)| (key, shape(&note, None))).collect()
            }
            true => {
                let notes = quarantine::list_settled(store, tenant, of.as_ref(), after, limit).await?;
                notes.into_iter().map(|(key, settled)| (key, shape(&settled.note.clone(), Some(settled)))).collect()
            }
        };
        let next =
            found.last().filter(|_| found.len() == limit).map(|(key, _)| doors.seal.close(&purpose, key.as_bytes()));
        Ok(Json(QuarantinePage { records: found.into_iter().map(|(_, record)| record).collect(), next }))
    }

    /// Show one with its bytes.
    #[oai(path = "/:position", method = "get", operation_id = "show_quarantined")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        position: Path<String>,
    ) -> Result<Json<QuarantinedPayload>, Problem> {
        let missing = || Problem::not_found("quarantined record");
        let position: Position = position.parse().map_err(|_| missing())?;
        let note = quarantine::find(&*doors.line.store, caller.tenant, position).await?.ok_or_else(missing)?;
        let connection = note.stream.split('/').next().unwrap_or_default();
        caller.require_connection(connection).map_err(|_| missing())?;
        let bytes = quarantine::payload(&*doors.line.log, &note).await?.ok_or_else(missing)?;
        let (payload, payload_base64) = match std::str::from_utf8(&bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&bytes))),
        };
        let settled = quarantine::settled_as(&*doors.line.store, caller.tenant, &note).await?;
        Ok(Json(QuarantinedPayload { record: shape(&note, settled), payload, payload_base64 }))
    }

    /// Have a record come again, by the mapping in force: it becomes a row, or is set aside again.
    #[oai(path = "/:position/retry", method = "post", operation_id = "retry_quarantined")]
    async fn retry(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
        position: Path<String>,
        body: Json<Why>,
    ) -> Result<Done, Problem> {
        settle::one(&doors, &noted, &caller, &position, Action::Retry, body.0).await
    }

    /// Give a record up. Its bytes stay on the log.
    #[oai(path = "/:position/discard", method = "post", operation_id = "discard_quarantined")]
    async fn discard(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
        position: Path<String>,
        body: Json<Why>,
    ) -> Result<Done, Problem> {
        settle::one(&doors, &noted, &caller, &position, Action::Discard, body.0).await
    }

    /// Have every record that was set aside by now, of a stream or for a reason, come again by the mapping in force.
    #[oai(path = "/retry", method = "post", operation_id = "retry_several")]
    async fn retry_several(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
        body: Json<Several>,
    ) -> Result<Done, Problem> {
        settle::several(&doors, &noted, &caller, Action::Retry, body.0).await
    }

    /// Give up every record that was set aside by now, of a stream or for a reason. Their bytes stay on the log.
    #[oai(path = "/discard", method = "post", operation_id = "discard_several")]
    async fn discard_several(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
        body: Json<Several>,
    ) -> Result<Done, Problem> {
        settle::several(&doors, &noted, &caller, Action::Discard, body.0).await
    }
}

fn shape(note: &Note, settled: Option<SettledNote>) -> QuarantinedRecord {
    let code = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    };
    QuarantinedRecord {
        position: note.position.to_string(),
        stream: note.stream.clone(),
        reason: code(serde_json::to_value(note.reason)),
        stage: code(serde_json::to_value(note.stage)),
        field: note.field.clone(),
        detail: note.detail.clone(),
        lane_ordinal: note.lane_ordinal,
        logged_at: time::of_micros(note.logged_at),
        settled: settled.map(|settled| SettledAs {
            action: settled.action.name().to_owned(),
            by: settled.by,
            why: settled.why,
            at: time::of_micros(settled.settled_at),
        }),
    }
}
