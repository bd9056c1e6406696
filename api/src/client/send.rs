//! Requests to a server, and trying again what may be.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use poem::http::{Method, StatusCode, header};
use poem_openapi::types::{ParseFromJSON, ToJSON};
use reqwest::Certificate;
use reqwest::redirect::Policy;
use tokio::time::Instant;
use url::Url;

use super::credential::{API_KEY, Credential, Kept};
use super::error::{Problem, version_of};
use super::{Address, ClientError};
use crate::cli::ServerArgs;
use crate::http::routes::account::Me;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Somebody who sends nothing for so long has gone: longer than any query may take.
const SILENCE_MAX: Duration = Duration::from_secs(600);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What broke off is tried again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Waits that are told.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// A request. It may hold a secret, so it is never shown.
#[derive(Clone)]
pub struct Ask<'a> {
    method: Method,
    segments: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    body: Option<(&'static str, Bytes)>,
    accept: &'static str,
    /// Under which the server does it once, however often it is sent.
    key: Option<String>,
    is_repeatable: bool,
    /// What it replaces.
    if_match: Option<String>,
    /// Another credential than the client's.
    token: Option<&'a str>,
}

impl<'a> Ask<'a> {
    fn new(method: Method, segments: &[&'a str]) -> Self {
        Self {
            method,
            segments: segments.to_vec(),
            query: Vec::new(),
            body: None,
            accept: "application/json",
            key: None,
            is_repeatable: true,
            if_match: None,
            token: None,
        }
    }

    /// Reads something, by the segments of its path behind `/api/v1`.
    pub fn get(segments: &[&'a str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// Does something. It is done once, however often it has to be sent.
    pub fn post(segments: &[&'a str], body: &impl ToJSON) -> Self {
        let key = Some(uuid::Uuid::new_v4().to_string());
        Self { key, ..Self::new(Method::POST, segments) }.json(body)
    }

    /// Sends bytes that may come twice.
    pub fn put_in(segments: &[&'a str], media_type: &'static str, bytes: Bytes) -> Self {
        Self { body: Some((media_type, bytes)), ..Self::new(Method::POST, segments) }
    }

    /// Sets something in the place of what has this ETag. Once that has another, it is not set again.
    pub fn put(segments: &[&'a str], etag: String, body: &impl ToJSON) -> Self {
        Self { if_match: Some(etag), is_repeatable: false, ..Self::new(Method::PUT, segments) }.json(body)
    }

    /// Changes something.
    pub fn patch(segments: &[&'a str], body: &impl ToJSON) -> Self {
        Self::new(Method::PATCH, segments).json(body)
    }

    /// If what it changes still has this ETag.
    pub fn if_match(self, etag: String) -> Self {
        Self { if_match: Some(etag), is_repeatable: false, ..self }
    }

    /// Deletes something.
    pub fn delete(segments: &[&'a str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    /// Ends the session that asks.
    pub fn delete_session() -> Self {
        Self::new(Method::POST, &["auth", "logout"])
    }

    /// With a body in JSON.
    pub fn json(self, body: &impl ToJSON) -> Self {
        Self { body: Some(("application/json", body.to_json_string().into())), ..self }
    }

    /// With a parameter.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// With a parameter, if there is one.
    pub fn with_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Answered in another format than JSON.
    pub fn accept(self, media_type: &'static str) -> Self {
        Self { accept: media_type, ..self }
    }

    /// Sent once: what it does cannot be done twice, or somebody waits who can say so again.
    pub fn once(self) -> Self {
        Self { is_repeatable: false, key: None, ..self }
    }
}

/// A server, and who asks it.
pub struct Client {
    http: reqwest::Client,
    address: Address,
    credential: Option<Credential>,
    kept: Kept,
    retry_for: Duration,
    /// Whether it has answered before: who never did is not waited for.
    has_answered: AtomicBool,
    /// Requests whose answer was lost: what they asked for may have been done.
    lost: AtomicU64,
}

impl Client {
    /// A client of a server, for who is signed in there.
    pub async fn signed_in(args: &ServerArgs, address: &Address) -> Result<Self, ClientError> {
        let mut client = Self::anybody(args, address)?;
        client.credential = match std::env::var(API_KEY) {
            Ok(key) if !key.trim().is_empty() => Some(client.introduced(key.trim()).await?.0),
            _ => client.kept.credential(address)?,
        };
        match client.credential {
            Some(_) => Ok(client),
            None => Err(ClientError::NotSignedIn(address.clone())),
        }
    }

    /// A client of a server, for somebody who is not signed in yet.
    pub fn anybody(args: &ServerArgs, address: &Address) -> Result<Self, ClientError> {
        if !address.is_encrypted() && !address.is_loopback() && !args.insecure_http {
            return Err(ClientError::InTheOpen(address.clone()));
        }
        Ok(Self {
            http: http(args, address)?,
            address: address.clone(),
            credential: None,
            kept: Kept::of_user()?,
            retry_for: Duration::from_secs(args.retry_for),
            has_answered: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        })
    }

    /// The credential of a program with this API key, and who it is.
    pub async fn introduced(&self, key: &str) -> Result<(Credential, Me), ClientError> {
        let ask = Ask { token: Some(key), ..Ask::get(&["auth", "me"]) };
        let me: Me = self.json(ask).await?;
        let (server, token) = (self.address.to_string(), key.to_owned());
        let (tenant, name) = (me.tenant.clone(), me.email.clone());
        Ok((Credential { server, token, tenant, name, expires_at: None }, me))
    }

    /// Where the server answers.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The tenant of who is signed in.
    pub fn tenant(&self) -> &str {
        self.credential.as_ref().map_or("", |credential| &credential.tenant)
    }

    /// Who asks.
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// How many answers were lost on their way.
    pub fn answers_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Where credentials are kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The same server, asked by somebody else.
    pub fn with(self, credential: Credential) -> Self {
        Self { credential: Some(credential), ..self }
    }

    /// Asks, and reads the answer.
    pub async fn json<T: ParseFromJSON>(&self, ask: Ask<'_>) -> Result<T, ClientError> {
        let response = self.send(&ask).await?;
        let theirs = version_of(response.headers());
        let text = response.text().await.map_err(|error| self.broken_off(error))?;
        T::parse_from_json_string(&text).map_err(|error| ClientError::Unreadable {
            server: self.address.clone(),
            why: error.into_message(),
            theirs,
        })
    }

    /// Asks; the answer is on its way when this returns. What the server cannot do just now is tried again for a while, and
    /// so is what breaks off, if it may come twice.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<reqwest::Response, ClientError> {
        let mut until = None;
        loop {
            let error = match self.send_once(ask).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if let ClientError::BrokenOff { .. } = error {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            let Some(wait) = self.again_after(ask, &error) else { return Err(error) };
            let until = *until.get_or_insert_with(|| Instant::now() + self.retry_for);
            if Instant::now() + wait > until {
                return Err(error);
            }
            match wait >= LONG_WAIT || error.code().is_none() {
                true => tracing::warn!("{error}: trying again in {} s", wait.as_secs()),
                false => tracing::debug!("{error}: trying again in {} s", wait.as_secs()),
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// After how long to try again; nothing when that would not help.
    fn again_after(&self, ask: &Ask<'_>, error: &ClientError) -> Option<Duration> {
        if !ask.is_repeatable {
            return None;
        }
        match error {
            ClientError::Refused { status, retry_after, .. } => match *status {
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    Some(retry_after.map_or(AGAIN_AFTER, Duration::from_secs))
                }
                StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Some(AGAIN_AFTER),
                _ => None,
            },
            ClientError::Unreachable { .. } | ClientError::BrokenOff { .. } => {
                self.has_answered.load(Ordering::Relaxed).then_some(AGAIN_AFTER)
            }
            _ => None,
        }
    }

    async fn send_once(&self, ask: &Ask<'_>) -> Result<reqwest::Response, ClientError> {
        let url = self.url(ask)?;
        let path = url.path().to_owned();
        let mut request = self.http.request(ask.method.clone(), url).header(header::ACCEPT, ask.accept);
        if let Some(token) = ask.token.or(self.credential.as_ref().map(|credential| credential.token.as_str())) {
            request = request.bearer_auth(token);
        }
        if let Some(key) = &ask.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(etag) = &ask.if_match {
            request = request.header(header::IF_MATCH, etag);
        }
        if let Some((media_type, bytes)) = &ask.body {
            request = request.header(header::CONTENT_TYPE, *media_type).body(bytes.clone());
        }
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        self.has_answered.store(true, Ordering::Relaxed);
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(self.refused(status, path, response).await),
        }
    }

    fn url(&self, ask: &Ask<'_>) -> Result<Url, ClientError> {
        // A path that leads elsewhere would be another question.
        if let Some(wrong) = ask.segments.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(ClientError::Setup(format!("{wrong:?} is no name")));
        }
        let mut url = self.address.url().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(&ask.segments);
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        Ok(url)
    }

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        let (server, source) = (self.address.clone(), error.without_url());
        if is_of_certificate(&source) {
            return ClientError::Untrusted { server, source };
        }
        match source.is_connect() {
            true => ClientError::Unreachable { server, source },
            false => ClientError::BrokenOff { server, source },
        }
    }

    /// An answer that breaks off.
    pub fn broken_off(&self, error: reqwest::Error) -> ClientError {
        ClientError::BrokenOff { server: self.address.clone(), source: error.without_url() }
    }

    async fn refused(&self, status: StatusCode, path: String, response: reqwest::Response) -> ClientError {
        let server = self.address.clone();
        let text = |name: header::HeaderName| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let (to, retry_after, theirs) =
            (text(header::LOCATION), text(header::RETRY_AFTER), version_of(response.headers()));
        if let (true, Some(to)) = (status.is_redirection(), to) {
            return ClientError::Elsewhere { server, to };
        }
        let retry_after = retry_after.and_then(|text| text.parse().ok());
        let bytes = response.bytes().await.unwrap_or_default();
        let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
        match (status, problem.code.as_str()) {
            (StatusCode::UNAUTHORIZED, "unauthenticated") => ClientError::Unknown { server, remedy: self.remedy() },
            (StatusCode::NOT_FOUND, "unknown_path" | "") => ClientError::NoRoute { server, path, theirs },
            (StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE, _) => {
                ClientError::NoRoute { server, path, theirs }
            }
            _ => ClientError::Refused { status, problem, retry_after },
        }
    }

    /// What to do about a credential that does not count.
    fn remedy(&self) -> String {
        let is_key = std::env::var(API_KEY).is_ok_and(|key| !key.trim().is_empty());
        let expired = self.credential.as_ref().and_then(|credential| credential.expires_at.as_ref());
        match (is_key, expired) {
            (true, _) => format!("set {API_KEY} to an API key that counts"),
            (false, Some(at)) => {
                format!("the session counts until {at} at most; autonomos login --server {}", self.address)
            }
            (false, None) => format!("autonomos login --server {}", self.address),
        }
    }
}

/// Whether a connection failed for the certificate that it was shown.
fn is_of_certificate(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.to_string().contains("certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

fn http(args: &ServerArgs, address: &Address) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("autonomos/", env!("CARGO_PKG_VERSION")))
        // A credential goes to the server that it was given for.
        .redirect(Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(SILENCE_MAX)
        .tcp_keepalive(KEEPALIVE);
    if address.is_loopback() {
        builder = builder.no_proxy();
    }
    if !address.is_encrypted() {
        // Nothing is to be trusted, so a system without certificates is as good as any.
        builder = builder.tls_certs_only(std::iter::empty());
    } else if let Some(path) = &args.ca {
        let wrong = |error: String| ClientError::Setup(format!("the certificates in {}: {error}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&bytes).map_err(|error| wrong(error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("there is none in it; they are PEM".into()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        ClientError::Setup(format!("no certificate can be checked here ({why}): name what to trust with --ca FILE"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        let args = ServerArgs { server: None, ca: None, insecure_http: false, retry_for: 0 };
        Client::anybody(&args, &address.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_a_user_names_stays_within_its_place_in_the_path() {
        let client = client("http://127.0.0.1:7400/behind/a/proxy/");
        let url = |name: &str| client.url(&Ask::get(&["aam", "cases", name]).with("a", "b&c"));
        assert_eq!(
            url("1:2:41").unwrap().as_str(),
            "http://127.0.0.1:7400/behind/a/proxy/api/v1/aam/cases/1:2:41?a=b%26c"
        );
        assert!(url("../../auth?x=/").unwrap().as_str().contains("/cases/..%2F..%2Fauth%3Fx=%2F?"));
        for wrong in ["", ".", ".."] {
            assert!(url(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_credential_does_not_travel_in_the_open() {
        let open: Address = "http://192.0.2.1:7400".parse().unwrap();
        let mut args = ServerArgs { server: None, ca: None, insecure_http: false, retry_for: 0 };
        assert!(matches!(Client::anybody(&args, &open), Err(ClientError::InTheOpen(_))));
        args.insecure_http = true;
        assert!(Client::anybody(&args, &open).is_ok());
    }
}
