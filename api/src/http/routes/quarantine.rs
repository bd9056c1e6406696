//! `/api/v1/quarantine`: what was set aside, its bytes, and what people do with it.

pub mod settle;

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
pub struct QuarantinedRecord {
    /// Where its bytes are on `inputs`: its id.
    pub position: String,
    /// Its stream: `connection/stream`.
    pub stream: String,
    /// Why, as a stable code.
    pub reason: String,
    /// Where on the line.
    pub stage: String,
    /// The field or path concerned.
    pub field: Option<String>,
    /// What exactly was wrong.
    pub detail: String,
    /// The lane that it came in: a file's content, a push.
    pub lane: String,
    /// Its place in its lane; for a file the row's number.
    pub lane_ordinal: u64,
    /// When the log took it.
    pub logged_at: String,
    /// What was done with it, if it was settled.
    pub settled: Option<SettledAs>,
}

/// How a record was settled.
#[derive(Debug, Object)]
pub struct SettledAs {
    /// retry or discard.
    pub action: String,
    /// Who: `user:ID`, `key:ID` or `command line`.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: String,
}

/// A page of records that were set aside.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct QuarantinePage {
    /// The records.
    pub records: Vec<QuarantinedRecord>,
    /// For the next page; left out at the end.
    pub next: Option<String>,
}

/// A record that was set aside, with its bytes.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct QuarantinedPayload {
    /// The record.
    pub record: QuarantinedRecord,
    /// Its bytes, when they are UTF-8.
    pub payload: Option<String>,
    /// Its bytes in base64, when they are not.
    pub payload_base64: Option<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/quarantine", tag = "Tag::Quarantine")]
impl Routes {
    /// List what was set aside.
    #[oai(path = "/", method = "get", operation_id = "list_quarantine")]
    #[allow(clippy::too_many_arguments)]
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
        let of = of.as_ref();
        let (found, next) = doors.line.quarantined(caller.tenant, of, settled, after.as_deref(), limit).await?;
        let next = next.map(|key| doors.seal.close(&purpose, key.as_bytes()));
        let records = found.iter().map(|(note, settled)| QuarantinedRecord::new(note, settled.as_ref())).collect();
        Ok(Json(QuarantinePage { records, next }))
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
        let settled = quarantine::settled_as(&*doors.line.store, caller.tenant, &note).await?;
        Ok(Json(QuarantinedPayload::new(&note, settled.as_ref(), &bytes)))
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

impl QuarantinedPayload {
    /// A record that was set aside, with its bytes.
    pub fn new(note: &Note, settled: Option<&SettledNote>, bytes: &[u8]) -> Self {
        let (payload, payload_base64) = match std::str::from_utf8(bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(bytes))),
        };
        Self { record: QuarantinedRecord::new(note, settled), payload, payload_base64 }
    }
}

impl QuarantinedRecord {
    /// A record that was set aside, and how it was settled, if it was.
    pub fn new(note: &Note, settled: Option<&SettledNote>) -> Self {
        let code = |value: serde_json::Result<serde_json::Value>| {
            value.ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
        };
        Self {
            position: note.position.to_string(),
            stream: note.stream.clone(),
            reason: note.reason.code().to_owned(),
            stage: code(serde_json::to_value(note.stage)),
            field: note.field.clone(),
            detail: note.detail.clone(),
            lane: note.lane.to_string(),
            lane_ordinal: note.lane_ordinal,
            logged_at: time::of_micros(note.logged_at),
            settled: settled.map(|settled| SettledAs {
                action: settled.action.name().to_owned(),
                by: settled.by.clone(),
                why: settled.why.clone(),
                at: time::of_micros(settled.settled_at),
            }),
        }
    }
}
