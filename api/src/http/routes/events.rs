//! `/api/v1/events`: the line, live, as server-sent events or over a WebSocket.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::web::sse::{Event, SSE};
use poem::web::websocket::{Message, WebSocket, WebSocketConfig};
use poem::{IntoResponse, Request, Response, handler};
use poem_openapi::param::{Header, Query};
use poem_openapi::payload::Json;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Signed, Tag};
use crate::auth::{AuthError, Caller};
use crate::http::manners::etag::Streamed;
use crate::http::problem::Problem;
use crate::http::time;
use crate::http::{Doors, now};
use crate::line::OpenStream;
use crate::live::{self, Feed, Filter, Sent, Vector};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Mode {
    /// Every event once; a reader that is too slow is let go with its id.
    All,
    /// A few, and how many they stand for.
    Sample,
}

/// A ticket.
#[derive(Debug, Object)]
struct Ticket {
    /// For `?ticket=…` of a stream, used once.
    ticket: String,
    /// Until when it counts.
    expires_at: String,
}

#[derive(ApiResponse)]
enum Given {
    /// Given; it is told once.
    #[oai(status = 201)]
    Created(Json<Ticket>),
}

/// A stream of server-sent events.
struct Events(Response);

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for Events {
    fn meta() -> MetaResponses {
        let schema = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        let response = MetaResponse {
            description: "Server-sent events, each with an id to go on from and a stage as its name",
            status: Some(200),
            status_range: None,
            content: vec![MetaMediaType { content_type: "text/event-stream", schema }],
            headers: Vec::new(),
        };
        MetaResponses { responses: vec![response] }
    }
    fn register(_: &mut Registry) {}
}

/// What a stream shows.
#[derive(Debug, Clone, Default)]
struct Asked {
    stages: Option<String>,
    connections: Option<String>,
    streams: Option<String>,
    entities: Option<String>,
    is_sample: bool,
    after: Option<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/events", tag = "Tag::Events")]
impl Routes {
    /// Get a one-use ticket with which a browser opens a stream.
    #[oai(path = "/tickets", method = "post", operation_id = "make_ticket")]
    async fn ticket(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Given, Problem> {
        let ticket = doors.tickets.give(&caller)?;
        let expires_at = time::of_seconds(now() + live::tickets::COUNTS_FOR.as_secs() as i64);
        Ok(Given::Created(Json(Ticket { ticket, expires_at })))
    }

    /// Watch the line. Without Last-Event-ID it begins now.
    #[oai(path = "/stream", method = "get", operation_id = "watch_events")]
    #[allow(clippy::too_many_arguments)]
    async fn stream(
        &self,
        doors: Data<&Arc<Doors>>,
        request: &Request,
        /// Only these stages, divided by commas.
        #[oai(validator(max_length = 256))]
        stages: Query<Option<String>>,
        /// Only these connections.
        #[oai(validator(max_length = 4096))]
        connections: Query<Option<String>>,
        /// Only these streams: `connection/stream`.
        #[oai(validator(max_length = 4096))]
        streams: Query<Option<String>>,
        /// Only these entities.
        #[oai(validator(max_length = 4096))]
        entities: Query<Option<String>>,
        /// How much is shown: all by default.
        mode: Query<Option<Mode>>,
        /// End after so many seconds instead of staying open.
        #[oai(validator(minimum(value = "0"), maximum(value = "86400")))]
        seconds: Query<Option<u32>>,
        /// Go on behind this event.
        #[oai(name = "Last-Event-ID", validator(max_length = 4096))]
        after: Header<Option<String>>,
        /// The same, for clients that cannot send the header.
        #[oai(validator(max_length = 4096))]
        last_event_id: Query<Option<String>>,
        /// Instead of a credential.
        #[oai(validator(max_length = 128))]
        ticket: Query<Option<String>>,
    ) -> Result<Events, Problem> {
        let caller = caller_of(request, &doors, ticket.0.as_deref())?;
        let asked = Asked {
            stages: stages.0,
            connections: connections.0,
            streams: streams.0,
            entities: entities.0,
            is_sample: mode.0 == Some(Mode::Sample),
            after: after.0.or(last_event_id.0),
        };
        let (feed, place) = open(&doors, caller, &asked).await?;
        let feed = futures::stream::unfold((feed, place), |(mut feed, place)| async move {
            let sent = feed.recv().await?;
            Some((event(&sent), (feed, place)))
        });
        let end = seconds.0.map(|s| std::time::Duration::from_secs(s.into()));
        let until = async move {
            match end {
                Some(end) => tokio::time::sleep(end).await,
                None => std::future::pending().await,
            }
        };
        let mut response = SSE::new(feed.take_until(until)).into_response();
        response.set_data(Streamed);
        response.headers_mut().insert("x-accel-buffering", poem::http::HeaderValue::from_static("no"));
        Ok(Events(response))
    }
}

/// The caller from the credential, or from a ticket that is used up here.
fn caller_of(request: &Request, doors: &Doors, ticket: Option<&str>) -> Result<Caller, Problem> {
    match (request.data::<Caller>(), ticket) {
        (Some(caller), _) => Ok(caller.clone()),
        (None, Some(ticket)) => doors.tickets.take(ticket).ok_or_else(|| AuthError::Unauthenticated.into()),
        (None, None) => Err(AuthError::Unauthenticated.into()),
    }
}

/// Room for one open stream, among all and among its tenant's own.
struct StreamPlace {
    _of_all: OwnedSemaphorePermit,
    _own: OpenStream,
}

async fn open(
    doors: &Arc<Doors>,
    caller: Caller,
    asked: &Asked,
) -> Result<(mpsc::Receiver<Sent>, StreamPlace), Problem> {
    let many = || Problem::unavailable("too many streams are open: close some");
    let place = doors.streams.clone().try_acquire_owned().map_err(|_| many())?;
    let account = doors.line.account(caller.tenant).await.map_err(|e| Problem::internal(format!("{e:#}")))?;
    let place = StreamPlace { _of_all: place, _own: account.open_stream()? };
    let list = |text: &Option<String>| text.clone();
    let (stages, connections) = (list(&asked.stages), list(&asked.connections));
    let filter = Filter::new(
        &caller,
        stages.as_deref(),
        connections.as_deref(),
        asked.streams.as_deref(),
        asked.entities.as_deref(),
    );
    let filter = filter.map_err(|e| Problem::invalid(e.to_string()))?;
    let log = &*doors.line.log;
    let at = match &asked.after {
        None => Vector::end(log).await?,
        Some(id) => Vector::from_id(id, &doors.seal, caller.tenant, log)
            .ok_or_else(|| Problem::invalid("this event id is none of ours: begin without one"))?,
    };
    let mode = if asked.is_sample { live::Mode::Sample } else { live::Mode::All };
    let (line, gate, seal) = (doors.line.clone(), doors.gate.clone(), doors.seal.clone());
    Ok((Feed::start(line, gate, seal, caller, filter, mode, at), place))
}

fn event(sent: &Sent) -> Event {
    Event::message(sent.data.to_string()).id(&sent.id).event_type(sent.event)
}

/// Largest message from a client, in bytes: clients say nothing here but pings.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// The same over a WebSocket: each message is `{"id", "event", "data"}`. The OpenAPI file has it from
/// [`crate::http::document`], whose generator knows no sockets.
#[handler]
pub async fn socket(request: &Request, doors: Data<&Arc<Doors>>, socket: WebSocket) -> poem::Result<Response> {
    check_origin(request)?;
    let query: std::collections::HashMap<String, String> = request.params().unwrap_or_default();
    let get = |name: &str| query.get(name).cloned();
    let caller = caller_of(request, &doors, query.get("ticket").map(String::as_str))?;
    let asked = Asked {
        stages: get("stages"),
        connections: get("connections"),
        streams: get("streams"),
        entities: get("entities"),
        is_sample: is_sample(query.get("mode").map(String::as_str))?,
        after: get("last_event_id"),
    };
    let (mut feed, place) = open(&doors, caller, &asked).await?;
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    let upgraded = socket.config(config).on_upgrade(move |stream| async move {
        let _place = place;
        let (mut to, mut from) = stream.split();
        loop {
            tokio::select! {
                sent = feed.recv() => {
                    let Some(sent) = sent else { break };
                    let text = serde_json::json!({ "id": sent.id, "event": sent.event, "data": sent.data }).to_string();
                    if to.send(Message::Text(text)).await.is_err() {
                        break;
                    }
                }
                heard = from.next() => match heard {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
            }
        }
        _ = to.close().await;
    });
    Ok(upgraded.into_response())
}

/// What a socket is told of how much to show, all by default.
fn is_sample(mode: Option<&str>) -> Result<bool, Problem> {
    match mode {
        None | Some("all") => Ok(false),
        Some("sample") => Ok(true),
        Some(_) => Err(Problem::invalid("there is no such mode: use all or sample")),
    }
}

/// A page of another site must not open a socket with what the browser knows of us.
fn check_origin(request: &Request) -> Result<(), Problem> {
    let Some(origin) = request.header(header::ORIGIN) else { return Ok(()) };
    let host = request.header(header::HOST).unwrap_or_default();
    let is_ours = origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host));
    let foreign = || {
        Problem::new(StatusCode::FORBIDDEN, "foreign_origin", "a socket is opened from this server's own pages only")
    };
    if is_ours { Ok(()) } else { Err(foreign()) }
}
