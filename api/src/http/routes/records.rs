//! `/api/v1/records`: records that a program pushes. Durable when answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use connectors::push::{self, PushError, PushFormat};
use connectors::relay::Relay;
use poem::http::StatusCode;
use poem::web::Data;
use poem::{Body, Request, RequestBody};
use poem_openapi::param::{Header, Query};
use poem_openapi::payload::{Binary, Json, ParsePayload, Payload};
use poem_openapi::registry::MetaSchemaRef;
use poem_openapi::types::{Any, Type};
use poem_openapi::{ApiRequest, Object, OpenApi};
use schemas::{Lane, Position, RecordBatch, StreamId, Topic};

use super::{Signed, Tag};
use crate::auth::{Role, secret};
use crate::http::Doors;
use crate::http::manners::{idempotency, trace};
use crate::http::problem::Problem;
use crate::line::{Busy, OpenError};

/// Records to push.
#[derive(ApiRequest)]
enum Records {
    /// One JSON array of objects.
    Json(JsonRecords),
    /// One JSON object a line.
    #[oai(content_type = "application/x-ndjson")]
    Ndjson(Binary<Body>),
    /// A batch as `autonomos ingest --server` relays it, with its places in a file; with `relay`. The same batch again adds
    /// nothing.
    #[oai(content_type = "application/vnd.autonomos.records.v1")]
    Relayed(Binary<Body>),
}

/// A JSON array of objects that is not read yet.
struct JsonRecords(Body);

impl Payload for JsonRecords {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        Vec::<BTreeMap<String, Any<serde_json::Value>>>::schema_ref()
    }
}

impl ParsePayload for JsonRecords {
    const IS_REQUIRED: bool = true;

    async fn from_request(_: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(body.take()?))
    }
}

/// Records that are durable.
#[derive(Debug, Object)]
pub struct Pushed {
    /// How many.
    pub records: u64,
    /// The position behind the last: a read with `min_position` waits for it.
    pub position: String,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/records", tag = "Tag::Records")]
impl Routes {
    /// Push records of one stream. With an Idempotency-Key the same body again adds nothing, however often it is sent.
    #[oai(path = "/", method = "post", operation_id = "push_records")]
    #[allow(clippy::too_many_arguments)]
    async fn push(
        &self,
        doors: Data<&Arc<Doors>>,
        request: &Request,
        Signed(caller): Signed,
        /// The connection that the records came over.
        #[oai(validator(min_length = 1, max_length = 127))]
        connection: Query<String>,
        /// The stream within the connection.
        #[oai(validator(min_length = 1, max_length = 127))]
        stream: Query<String>,
        /// The system whose mapping the stream follows; left out for a stream that is open.
        #[oai(validator(max_length = 80))]
        system: Query<Option<String>>,
        /// The run that they belong to: it is not forgotten as long as there are pushes.
        #[oai(validator(max_length = 64))]
        run: Query<Option<String>>,
        /// Who relays: 32 hex digits; see the media type of relayed batches.
        #[oai(validator(pattern = "^[0-9a-f]{32}$"))]
        relay: Query<Option<String>>,
        /// Any text of the client's own, new for each push.
        #[oai(name = "Idempotency-Key", validator(min_length = 1, max_length = 200))]
        _key: Header<Option<String>>,
        body: Records,
    ) -> Result<Json<Pushed>, Problem> {
        caller.require(Role::Editor)?;
        caller.require_connection(&connection)?;
        let name = |e: schemas::ids::InvalidName| Problem::invalid(e.to_string());
        let (connection, stream) = (connection.parse().map_err(name)?, stream.parse().map_err(name)?);
        let id = StreamId { tenant: caller.tenant, connection, stream };
        if let Some(run) = &run.0 {
            doors.runs.find(caller.tenant, run);
        }
        let (format, body) = match body {
            Records::Json(JsonRecords(body)) => (Format::Push(PushFormat::Json), body),
            Records::Ndjson(Binary(body)) => (Format::Push(PushFormat::Ndjson), body),
            Records::Relayed(Binary(body)) => (Format::Relayed, body),
        };
        let bytes = body.into_bytes().await.map_err(|_| Problem::invalid("the body broke off: send it again"))?;
        let key = idempotency::key(request)?;
        let account = doors.line.account(caller.tenant).await.map_err(|e| Problem::internal(format!("{e:#}")))?;
        let _place = doors.line.place_to_push(caller.tenant, bytes.len()).await.map_err(|Busy| busy())?;
        let apart = || take_apart(&id, format, key.as_deref(), relay.0.as_deref(), &bytes);
        let batches = tokio::task::block_in_place(apart)?;
        let count = batches.iter().map(|batch| u64::from(batch.count)).sum();
        account.bring_in(count, bytes.len() as u64, Instant::now())?;
        let open = doors.line.open_stream(&id, system.0.as_deref(), &caller.label()).await.map_err(of_open)?;
        // A push that was refused has not used its key: it comes again, put right, under the same.
        if let Some(key) = &key {
            idempotency::remember_body(&doors, &caller, &format!("{id}\n{key}"), &bytes).await?;
        }
        let trace = trace::on_log();
        let (mut records, mut offset) = (0, 0);
        for batch in batches {
            records += u64::from(batch.count);
            offset = doors.line.ingest.append_traced(&open, batch, trace).await?;
        }
        doors.line.note_brought_in(caller.tenant, &account, bytes.len() as u64).await?;
        let epoch = doors.line.log.epoch(Topic::Inputs);
        let position = Position { epoch, partition: open.partition, offset }.to_string();
        Ok(Json(Pushed { records, position }))
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy)]
enum Format {
    Push(PushFormat),
    Relayed,
}

/// The batches of a body.
fn take_apart(
    id: &StreamId,
    format: Format,
    key: Option<&str>,
    relay: Option<&str>,
    bytes: &[u8],
) -> Result<Vec<RecordBatch>, Problem> {
    match format {
        Format::Push(format) => push::batches(lane(id, key)?, format, bytes).map_err(of_push),
        Format::Relayed => {
            let missing = || Problem::invalid("who relays a batch says so in the parameter relay");
            let relay = self::relay(relay.ok_or_else(missing)?)?;
            Ok(vec![relay.take(id, bytes).map_err(|e| unusable(&e))?])
        }
    }
}

/// Who relays, by the text of its id.
pub fn relay(text: &str) -> Result<Relay, Problem> {
    u128::from_str_radix(text, 16).map(Relay).map_err(|_| Problem::invalid("a relay has 32 hex digits"))
}

fn of_push(error: PushError) -> Problem {
    match error {
        PushError::TooMany => Problem::too_large(error.to_string()),
        PushError::NoArray(_) | PushError::Empty => unusable(&error),
    }
}

fn unusable(error: &dyn std::error::Error) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_records", error.to_string())
}

fn busy() -> Problem {
    let detail = "too many pushes of this organisation wait: send fewer at once, and this one again in a moment";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota_pushes", detail).retry_after(1)
}

/// The lane of a push: the same for the same stream and key, else one of its own.
fn lane(stream: &StreamId, key: Option<&str>) -> Result<Lane, Problem> {
    let Some(key) = key else { return Ok(Lane(u128::from_be_bytes(secret::random()?))) };
    let hash = secret::hash(&format!("push\n{}\n{stream}\n{key}", stream.tenant));
    u128::from_str_radix(&hash[..32], 16).map(Lane).map_err(Problem::internal)
}

fn of_open(error: OpenError) -> Problem {
    let detail = error.to_string();
    match error {
        OpenError::Unknown(_) => Problem::new(StatusCode::NOT_FOUND, "not_found", detail),
        OpenError::System { .. } | OpenError::Stream { .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "mapping_unknown", detail)
        }
        OpenError::Ingest(error) => error.into(),
        OpenError::Failed(_) => Problem::internal(detail),
    }
}
