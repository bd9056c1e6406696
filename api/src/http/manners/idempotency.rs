//! Repeats: a write with an `Idempotency-Key` is done once; the same request again gets the same answer.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pipeline::Table;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Body, Endpoint, IntoResponse, Middleware, Request, Response, Result};
use serde::{Deserialize, Serialize};

use crate::auth::{Caller, secret};
use crate::http::problem::Problem;
use crate::http::{Doors, now};
use crate::line::Line;
use crate::rows::Rows;

/// The header's name.
pub const HEADER: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 200;
/// How long an answer is kept, in seconds.
const KEPT_SECONDS: i64 = 24 * 3600;
/// How often those that are older are removed.
const SWEPT_EVERY: Duration = Duration::from_secs(3600);
/// A request that has not answered for so long, in seconds, has died with its server.
const UNDER_WAY_SECONDS: i64 = 120;
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// What is stored of a request and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Hash of method, path, query and body.
    request: String,
    /// When it began, in seconds since 1970 UTC.
    since: i64,
    /// The answer, once there is one.
    given: Option<Given>,
    /// Whether it may be removed once it is old. A push's may not: its lane stands in the stream's state for good, so
    /// that another body under its key would be taken for a repetition, be it years later.
    #[serde(default)]
    passes: bool,
}

impl Answer {
    /// Whether it counts no more. Of those that were stored without saying so, what has an answer is no push.
    fn is_over(&self, now: i64) -> bool {
        (self.passes || self.given.is_some()) && now - self.since > KEPT_SECONDS
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    status: u16,
    content_type: Option<String>,
    /// Base64.
    body: String,
}

/// The middleware.
pub struct AnswerOnce(pub Arc<Doors>);

/// The endpoint.
pub struct AnsweredOnce<E> {
    endpoint: E,
    doors: Arc<Doors>,
}

impl<E: Endpoint> Middleware<E> for AnswerOnce {
    type Output = AnsweredOnce<E>;
    fn transform(&self, endpoint: E) -> AnsweredOnce<E> {
        AnsweredOnce { endpoint, doors: self.0.clone() }
    }
}

impl<E: Endpoint> Endpoint for AnsweredOnce<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let writes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let (Some(key), Some(caller), true) = (key(&request)?, request.data::<Caller>().cloned(), writes) else {
            return Ok(self.endpoint.call(request).await?.into_response());
        };
        // What is told once must not lie in the store: such routes take no key. Pushed records have lanes of their own.
        if is_exempt(request.uri().path()) {
            return Ok(self.endpoint.call(request).await?.into_response());
        }
        let body = request.take_body().into_bytes().await?;
        let asked = hash(&[request.method().as_str(), &request.uri().to_string()], &body);
        request.set_body(Body::from_bytes(body));
        let row = hash(&[&caller.label(), &key], &[]);
        match self.begin(&caller, &row, &asked).await? {
            Some(given) => repeat(&given),
            None => self.answer(&caller, &row, asked, request).await,
        }
    }
}

impl<E: Endpoint> AnsweredOnce<E> {
    /// Takes the key for this request, or gives the answer that it got before.
    async fn begin(&self, caller: &Caller, row: &str, asked: &str) -> Result<Option<Given>, Problem> {
        let (answers, now) = (&self.doors.answers, now());
        let fresh = Answer { request: asked.to_owned(), since: now, given: None, passes: true };
        loop {
            if answers.insert(caller.tenant, row, &fresh).await? {
                return Ok(None);
            }
            let Some(found) = answers.get(caller.tenant, row).await? else { continue };
            let age = now - found.value.since;
            let has_died = found.value.given.is_none() && age > UNDER_WAY_SECONDS;
            if age > KEPT_SECONDS || has_died {
                if answers.replace(caller.tenant, row, &fresh, found.version).await? {
                    return Ok(None);
                }
                continue;
            }
            if found.value.request != asked {
                return Err(reused());
            }
            return match found.value.given {
                Some(given) => Ok(Some(given)),
                None => {
                    Err(Problem::conflict("the first request with this Idempotency-Key is still under way")
                        .retry_after(1))
                }
            };
        }
    }

    async fn answer(&self, caller: &Caller, row: &str, asked: String, request: Request) -> Result<Response> {
        let answered = self.endpoint.call(request).await.map(IntoResponse::into_response);
        let failed = match &answered {
            Ok(response) => response.status().is_server_error(),
            Err(error) => error.status().is_server_error() || error.status() == StatusCode::TOO_MANY_REQUESTS,
        };
        let mut response = match answered {
            // It may work the next time: the key is free again.
            Err(_) | Ok(_) if failed => {
                self.doors.answers.remove(caller.tenant, row).await.map_err(Problem::from)?;
                return answered;
            }
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        let body = response.take_body().into_bytes().await?;
        if body.len() <= ANSWER_BYTES_MAX {
            let content_type =
                response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let given = Given { status: response.status().as_u16(), content_type, body: STANDARD.encode(&body) };
            let keep = |answer: &mut Answer| {
                answer.given = Some(given.clone());
                answer.request.clone_from(&asked);
            };
            self.doors.answers.update(caller.tenant, row, keep).await.map_err(Problem::from)?;
        }
        response.set_body(Body::from_bytes(body));
        Ok(response)
    }
}

/// Holds a push's key to its body: another body under the same key would be taken for a repetition and dropped.
pub async fn remember_body(doors: &Doors, caller: &Caller, key: &str, body: &[u8]) -> Result<(), Problem> {
    let row = hash(&["push", &caller.tenant.to_string(), key], &[]);
    let request = hash(&["push"], body);
    let fresh = Answer { request: request.clone(), since: now(), given: None, passes: false };
    loop {
        if doors.answers.insert(caller.tenant, &row, &fresh).await? {
            return Ok(());
        }
        match doors.answers.get(caller.tenant, &row).await? {
            None => {}
            Some(found) if found.value.request == request => return Ok(()),
            Some(_) => return Err(reused()),
        }
    }
}

/// Removes the answers that count no more, now and every hour, as long as there is the line.
pub fn keep_swept(line: &Arc<Line>) {
    let line = Arc::downgrade(line);
    tokio::spawn(async move {
        while let Some(line) = line.upgrade() {
            if let Err(error) = sweep(&line).await {
                tracing::warn!(error = format!("{error:#}"), "answers that count no more cannot be removed");
            }
            // Between two sweeps nothing here holds the folder.
            drop(line);
            tokio::time::sleep(SWEPT_EVERY).await;
        }
    });
}

async fn sweep(line: &Line) -> anyhow::Result<()> {
    let answers = Rows::<Answer>::new(line.store.clone(), Table::Answers);
    for (_, tenant) in line.tenants().await? {
        let now = now();
        if let Err(error) = answers.sweep(tenant, |answer| answer.is_over(now)).await {
            tracing::warn!(%error, %tenant, "a tenant's answers that count no more cannot be removed");
        }
    }
    Ok(())
}

fn reused() -> Problem {
    let detail = "this Idempotency-Key was used for another request: use a new one";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
}

fn repeat(given: &Given) -> Result<Response> {
    let body = STANDARD.decode(&given.body).map_err(Problem::internal)?;
    let status = StatusCode::from_u16(given.status).map_err(Problem::internal)?;
    let mut response = Response::builder().status(status).body(body);
    if let Some(value) = given.content_type.as_deref().and_then(|t| HeaderValue::from_str(t).ok()) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// The request's key, checked.
pub fn key(request: &Request) -> Result<Option<String>, Problem> {
    let Some(value) = request.headers().get(HEADER) else { return Ok(None) };
    let text = value.to_str().ok().filter(|t| (1..=KEY_BYTES_MAX).contains(&t.len()));
    match text {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Problem::invalid(format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} printable characters"))),
    }
}

fn is_exempt(path: &str) -> bool {
    path == super::super::RECORDS_PATH || path == "/api/v1/query" || path.starts_with("/api/v1/auth/")
}

fn hash(parts: &[&str], body: &[u8]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(part);
        text.push('\n');
    }
    // As bytes: texts that are no UTF-8 differ too.
    text.push_str(&secret::hash_bytes(body));
    secret::hash(&text)
}

#[cfg(test)]
mod tests {
    use pipeline::MemoryStore;
    use schemas::TenantId;

    use super::*;

    #[tokio::test]
    async fn an_answer_goes_after_a_day_and_what_holds_a_push_to_its_body_stays() {
        let answers = Rows::<Answer>::new(Arc::new(MemoryStore::default()), Table::Answers);
        let (tenant, now) = (TenantId::from_bytes([1; 16]), 10 * KEPT_SECONDS);
        let given = Some(Given { status: 201, content_type: None, body: String::new() });
        let old = now - KEPT_SECONDS - 1;
        for (key, since, given, passes) in [
            ("answered", old, given.clone(), true),
            ("answered by an earlier version", old, given.clone(), false),
            ("died", old, None, true),
            ("fresh", now - KEPT_SECONDS, given, true),
            ("push", old, None, false),
        ] {
            let answer = Answer { request: String::new(), since, given, passes };
            assert!(answers.insert(tenant, key, &answer).await.unwrap());
        }
        assert_eq!(answers.sweep(tenant, |answer| answer.is_over(now)).await.unwrap(), 3);
        let left = answers.all(tenant, "").await.unwrap();
        let left: Vec<&str> = left.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(left, ["fresh", "push"]);
    }

    #[test]
    fn a_row_of_an_earlier_version_reads_back_as_one_that_may_be_a_pushs() {
        let answer: Answer = serde_json::from_str(r#"{"request":"ab","since":1,"given":null}"#).unwrap();
        assert!(!answer.passes && !answer.is_over(i64::MAX));
    }
}
