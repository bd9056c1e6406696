//! What an error looks like outside: RFC 9457 problem details with a stable code and what to do.

use pipeline::ingest::IngestError;
use pipeline::{LogError, StoreError};
use poem::Response;
use poem::error::ResponseError;
use poem::http::{HeaderValue, StatusCode, header};
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};
use projections::QueryError;
use projections::view::ViewError;

use super::manners::trace;
use crate::auth::AuthError;
use crate::connections::ConnectionError;
use crate::connections::schema::Fault;
use crate::line::{NoTurn, OverQuota};
use crate::rows::RowError;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not answered, after RFC 9457.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Problem")]
pub struct ProblemBody {
    /// A stable name of the kind of problem, as a URI.
    #[oai(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind as one word, for programs.
    pub code: String,
    /// What is wrong here, and what to do.
    pub detail: String,
    /// The id under which the server's log knows this request.
    pub trace_id: String,
    /// What is wrong at which place of the request, where there are places to name.
    #[oai(skip_serializing_if_is_none)]
    pub errors: Option<Vec<PlaceError>>,
}

/// What is wrong at one place of a request.
#[derive(Debug, Clone, Object)]
pub struct PlaceError {
    /// The place: a JSON pointer into the body.
    pub pointer: String,
    /// What is wrong there, and what to do.
    pub detail: String,
}

/// A request that is not answered.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
    errors: Option<Vec<PlaceError>>,
}

/// Every status that a problem can have, for the OpenAPI document.
const STATUSES: [(u16, &str); 18] = [
    (400, "The request is not right"),
    (401, "No valid credential"),
    (403, "The role is too low"),
    (404, "It is not there"),
    (405, "Not with this method"),
    (406, "Not in that format"),
    (408, "It took too long"),
    (409, "It is in conflict with what is there"),
    (412, "It was changed meanwhile"),
    (413, "Too large"),
    (414, "The address is too long"),
    (415, "Not in that media type"),
    (422, "It was understood, but cannot be done"),
    (428, "If-Match is missing"),
    (429, "Too many requests"),
    (431, "The headers are too long"),
    (503, "Not now"),
    (507, "No room"),
];

impl Problem {
    /// A problem of a kind; `detail` says what is wrong and what to do.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_s: None, errors: None }
    }
    /// 400 `invalid_request`.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }
    /// 404 `not_found`. The same for what belongs to another tenant and for what does not exist.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }
    /// 409 `conflict`.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }
    /// 413 `too_large`.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }
    /// 503 `unavailable`: the same request may work a little later.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(1)
    }
    /// 500 `internal`: the cause goes to the log, never to the client.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, trace_id = trace::id(), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something failed here; the server's log says what")
    }
    /// 503 where views cannot be read at the moment, or only after a rebuild, else 500; the cause goes to the log alone.
    pub fn of_views(cause: anyhow::Error) -> Self {
        let detail = match cause.downcast_ref::<ViewError>() {
            Some(error) if error.is_retryable() => "the views cannot be read at the moment: try again",
            Some(ViewError::FileGone { .. } | ViewError::FileCut { .. }) => {
                "a file of the view is damaged: the operator has to make the view again from the log"
            }
            _ => return Self::internal(cause),
        };
        tracing::error!(%cause, trace_id = trace::id(), "views cannot be read");
        Self::unavailable(detail).retry_after(5)
    }
    /// Says after how many seconds to try again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
    /// Names the places that are wrong.
    pub fn at(mut self, errors: Vec<PlaceError>) -> Self {
        self.errors = Some(errors);
        self
    }
    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:autonomos:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail.clone(),
            trace_id: trace::id(),
            errors: self.errors.clone(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn as_response(&self) -> Response {
        use poem_openapi::types::ToJSON;
        let mut response = Response::builder()
            .status(self.status)
            .content_type(MEDIA_TYPE)
            .header(header::CACHE_CONTROL, "no-store")
            .body(self.body().to_json_string());
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        let problem = || MetaMediaType { content_type: MEDIA_TYPE, schema: ProblemBody::schema_ref() };
        let response = |(status, description): (u16, &'static str)| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            // A head that is too long is refused before anything of it is read.
            content: if matches!(status, 414 | 431) { Vec::new() } else { vec![problem()] },
            headers: retry_after(status),
        };
        MetaResponses { responses: STATUSES.into_iter().map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}

fn retry_after(status: u16) -> Vec<MetaHeader> {
    if !matches!(status, 429 | 503) {
        return Vec::new();
    }
    vec![MetaHeader {
        name: "Retry-After".into(),
        description: Some("Seconds after which to try again".into()),
        required: false,
        deprecated: false,
        schema: u64::schema_ref(),
    }]
}

/// An error of poem's own (a path that is not there, a parameter that cannot be read) as a problem.
pub fn of_poem_error(error: &poem::Error) -> Problem {
    let detail = error.to_string();
    match error.status() {
        status @ StatusCode::NOT_FOUND => {
            Problem::new(status, "unknown_path", "there is no such path: see /openapi.json")
        }
        StatusCode::UNAUTHORIZED => AuthError::Unauthenticated.into(),
        status @ StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(status, "method_not_allowed", "the path does not take this method: see /openapi.json")
        }
        status @ StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(status, "unsupported_media_type", detail),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(detail),
        status if status.is_client_error() => Problem::new(status, "invalid_request", detail),
        _ => Problem::internal(error),
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let detail = error.to_string();
        match error {
            AuthError::Unauthenticated => Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail),
            AuthError::WrongPassword => Self::new(StatusCode::UNAUTHORIZED, "wrong_password", detail),
            AuthError::Guessed { after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_guesses", detail).retry_after(after)
            }
            AuthError::TenantNeeded => Self::new(StatusCode::CONFLICT, "tenant_needed", detail),
            AuthError::Forbidden { .. } | AuthError::NotForKeys | AuthError::OtherConnection(_) => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
            }
            AuthError::NotFound(what) => Self::not_found(what),
            AuthError::Conflict(_) => Self::conflict(detail),
            AuthError::Invalid(_) => Self::invalid(detail),
            AuthError::Busy => Self::unavailable(detail),
            AuthError::Store(error) => error.into(),
            AuthError::Row(error) => error.into(),
            AuthError::Definition(_) | AuthError::Internal(_) => Self::internal(detail),
        }
    }
}

impl From<ConnectionError> for Problem {
    fn from(error: ConnectionError) -> Self {
        let detail = error.to_string();
        match error {
            ConnectionError::Settings(faults) => {
                let place = |fault: Fault| PlaceError { pointer: fault.pointer, detail: fault.detail };
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "settings_invalid", detail)
                    .at(faults.into_iter().map(place).collect())
            }
            ConnectionError::NoRoot(_) => Self::new(StatusCode::FORBIDDEN, "no_files_root", detail),
            ConnectionError::Unknown => Self::not_found("connection"),
            ConnectionError::Taken(_) => Self::conflict(detail),
            ConnectionError::TooMany(_) => Self::new(StatusCode::CONFLICT, "quota_connections", detail),
            ConnectionError::Paused => Self::new(StatusCode::CONFLICT, "paused", detail),
            ConnectionError::Changed => Self::new(StatusCode::PRECONDITION_FAILED, "changed_meanwhile", detail),
            ConnectionError::Stopping => Self::unavailable(detail),
            ConnectionError::Rows(error) => error.into(),
            ConnectionError::Failed(_) => Self::internal(detail),
        }
    }
}

impl From<RowError> for Problem {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Store(error) => error.into(),
            RowError::Unusable { .. } => Self::internal(error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::conflict("somebody changed it meanwhile: read it again"),
            StoreError::DiskFull => disk_full(),
            StoreError::Unreachable(_) => {
                tracing::error!(%error, trace_id = trace::id(), "the store does not answer");
                Self::unavailable("the store does not answer: try again").retry_after(5)
            }
            StoreError::Refused(_) => Self::invalid(error.to_string()),
            StoreError::Failed(_) | StoreError::Unreadable(_) | StoreError::Fenced(_) => Self::internal(error),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::DiskFull => disk_full(),
            LogError::Failed(_) => {
                tracing::error!(%error, trace_id = trace::id(), "the log failed");
                Self::unavailable("the log has failed and must be opened again: tell the operator").retry_after(30)
            }
            LogError::Unreachable(_) => {
                tracing::error!(%error, trace_id = trace::id(), "the log does not answer");
                Self::unavailable("the log does not answer: try again").retry_after(5)
            }
            LogError::Refused(_) => Self::invalid(error.to_string()),
            LogError::Forgotten => Self::not_found("tenant"),
            LogError::NoPartition { .. } | LogError::Unreadable { .. } | LogError::Missing { .. } => {
                Self::internal(error)
            }
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Log(error) => error.into(),
            IngestError::Store(error) => error.into(),
            IngestError::Change { ref source, .. } => Self::conflict(format!("{error}: {source}")),
            error @ (IngestError::OtherEntity { .. } | IngestError::Contended { .. } | IngestError::Refused { .. }) => {
                Self::conflict(error.to_string())
            }
            error @ IngestError::MappingTooLong => Self::too_large(error.to_string()),
            error @ IngestError::Unreadable { .. } => Self::internal(error),
            error @ (IngestError::Definition(_) | IngestError::Mapping(_)) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "mapping_unusable", error.to_string())
            }
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        match error {
            QueryError::Forbidden(_) | QueryError::Invalid(_) | QueryError::Limit(_) => {
                Self::new(StatusCode::BAD_REQUEST, code, detail)
            }
            QueryError::Timeout(_) => Self::new(StatusCode::REQUEST_TIMEOUT, code, detail),
            QueryError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(1),
            QueryError::Cancelled => Self::new(StatusCode::CONFLICT, code, detail),
            QueryError::Expired => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(1),
            QueryError::Failed(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail),
        }
    }
}

impl From<NoTurn> for Problem {
    fn from(error: NoTurn) -> Self {
        let detail = error.to_string();
        match error {
            NoTurn::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, "quota_queries", detail).retry_after(1),
            NoTurn::Taken(_) => Self::conflict(detail),
            NoTurn::Cancelled => QueryError::Cancelled.into(),
            NoTurn::Failed(cause) => Self::internal(cause),
        }
    }
}

/// After how many seconds somebody may look whether the operator gave more room.
const ROOM_AFTER_S: u64 = 3_600;
/// After how many seconds one of one's own streams may have ended.
const STREAM_AFTER_S: u64 = 10;

impl From<OverQuota> for Problem {
    fn from(error: OverQuota) -> Self {
        let detail = error.to_string();
        match error {
            OverQuota::Rate { after, .. } => {
                let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                Self::new(StatusCode::TOO_MANY_REQUESTS, "quota_rate", detail).retry_after(seconds)
            }
            OverQuota::Stored { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "quota_storage", detail).retry_after(ROOM_AFTER_S)
            }
            OverQuota::Streams { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "quota_streams", detail).retry_after(STREAM_AFTER_S)
            }
        }
    }
}

fn disk_full() -> Problem {
    Problem::unavailable("the server's disk is full: nothing acknowledged is lost; try again once there is room")
        .retry_after(30)
}
