//! A server for one test, and people who ask it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::auth::Role;
use api::http::manners::rate::{Rate, Rates};
use api::http::{Doors, Operator, app, listen};
use api::line::Line;
use api::serve::llm::Llm;
use projections::sql::QueryLimits;
use serde_json::{Value, json};
use tokio::sync::watch;

/// A running server over a folder of its own.
pub struct House {
    pub address: SocketAddr,
    folder: Option<tempfile::TempDir>,
    operator: Operator,
    llm: Option<Llm>,
    doors: Option<Arc<Doors>>,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Rates that no test meets by accident.
pub fn wide() -> Rates {
    let rate = Rate::new(1_000_000, 1_000_000);
    Rates { sign_in: rate, query: rate, push: rate, read: rate, write: rate }
}

impl House {
    pub fn open() -> Self {
        Self::with_rates(wide())
    }

    pub fn with_rates(rates: Rates) -> Self {
        Self::with(Operator { rates, ..Operator::default() })
    }

    pub fn with(operator: Operator) -> Self {
        Self::over(tempfile::tempdir().unwrap(), operator, None)
    }

    /// One that asks a language model.
    pub fn asking(llm: Llm) -> Self {
        let operator = Operator { rates: wide(), ..Operator::default() };
        Self::over(tempfile::tempdir().unwrap(), operator, Some(llm))
    }

    fn over(folder: tempfile::TempDir, operator: Operator, llm: Option<Llm>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = listen::bind("127.0.0.1:0".parse().unwrap(), None, false).unwrap();
        let address = TcpListener::local_addr(&listener).unwrap();
        let (stop, stopped) = watch::channel(false);
        let doors = runtime.block_on(async {
            let asking = llm.as_ref().map(|llm| llm.asking().unwrap());
            // No query ends by itself before somebody stops it.
            let limits = QueryLimits { timeout: Duration::from_secs(600), ..QueryLimits::default() };
            let line = Line::open_with(folder.path(), limits, false, asking).await.unwrap();
            let line = Arc::new(line);
            let doors = Arc::new(Doors::open(line, &operator).await.unwrap());
            tokio::spawn(listen::serve(app(&doors), listener, None, stopped));
            doors
        });
        Self { address, folder: Some(folder), operator, llm, doors: Some(doors), stop, runtime: Some(runtime) }
    }

    /// The same folder, served anew.
    pub fn restarted(mut self) -> Self {
        let folder = self.stop();
        Self::over(folder, self.operator.clone(), self.llm.clone())
    }

    /// The folder, which nobody serves any more.
    pub fn closed(mut self) -> tempfile::TempDir {
        self.stop()
    }

    fn stop(&mut self) -> tempfile::TempDir {
        let (runtime, doors) = (self.runtime.take().unwrap(), self.doors.take().unwrap());
        self.stop.send_replace(true);
        runtime.block_on(async {
            doors.connections.stop().await;
            doors.notices.stop().await;
            doors.line.close().await.unwrap();
        });
        drop(doors);
        // What still answers lets go of the folder first.
        runtime.shutdown_timeout(Duration::from_secs(300));
        self.folder.take().unwrap()
    }

    /// An admin of a tenant that the operator made.
    pub fn invited(&self, tenant: &str) -> Person {
        let doors = self.doors.as_ref().unwrap();
        let (token, _) = self.runtime.as_ref().unwrap().block_on(async {
            let id = doors.line.ensure_tenant(&tenant.parse().unwrap()).await.unwrap();
            let email = format!("admin@{tenant}.example");
            doors.accounts.invite(id, &email, Role::Admin, "operator", api::http::now()).await.unwrap()
        });
        let accepted = self.anybody().post("/api/v1/auth/accept", &json!({"token": token, "password": PASSWORD}));
        assert_eq!(accepted.status, 200, "{}", accepted.text);
        self.bearer(accepted.json()["access_token"].as_str().unwrap())
    }

    /// The data folder.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Somebody without a credential.
    pub fn anybody(&self) -> Person {
        Person { base: format!("http://{}", self.address), token: None, agent: agent() }
    }

    /// The first admin of a new tenant.
    pub fn admin(&self, tenant: &str) -> Person {
        let email = format!("admin@{tenant}.example");
        let body = json!({"name": tenant, "email": email, "password": PASSWORD});
        let answer = self.anybody().post("/api/v1/auth/register", &body);
        assert_eq!(answer.status, 201, "{}", answer.text);
        self.bearer(answer.json()["access_token"].as_str().unwrap())
    }

    /// A further user of an admin's tenant.
    pub fn user(&self, admin: &Person, email: &str, role: &str) -> Person {
        let invited = admin.post("/api/v1/auth/users/invitations", &json!({"email": email, "role": role}));
        assert_eq!(invited.status, 201, "{}", invited.text);
        let body = json!({"token": invited.json()["token"], "password": PASSWORD});
        let accepted = self.anybody().post("/api/v1/auth/accept", &body);
        assert_eq!(accepted.status, 200, "{}", accepted.text);
        self.bearer(accepted.json()["access_token"].as_str().unwrap())
    }

    /// Whoever bears that token.
    pub fn bearer(&self, token: &str) -> Person {
        Person { token: Some(token.to_owned()), ..self.anybody() }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub const PASSWORD: &str = "correct horse battery staple";

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

/// A client.
#[derive(Clone)]
pub struct Person {
    pub base: String,
    pub token: Option<String>,
    agent: ureq::Agent,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub bytes: Vec<u8>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    /// The code of a problem, checked to be shaped as one.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let body = self.json();
        assert_eq!(body["status"], self.status);
        for member in ["type", "title", "code", "detail", "trace_id"] {
            assert!(body[member].as_str().is_some_and(|t| !t.is_empty()), "{member} in {body}");
        }
        body["code"].as_str().unwrap().to_owned()
    }
}

impl Person {
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }
    pub fn put(&self, path: &str, tag: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("if-match", tag)];
        self.send("PUT", path, &headers, body.to_string().as_bytes())
    }
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }
    /// Asks; again where the views had not come to a position in the time that a request waits for them.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let started = Instant::now();
        loop {
            let answer = self.send_once(method, path, headers, body);
            let is_early = answer.status == 503 && answer.text.contains("position_not_reached");
            if !is_early || started.elapsed().as_secs() >= 300 {
                return answer;
            }
        }
    }
    fn send_once(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body).unwrap()).unwrap();
        let bytes = response.body_mut().read_to_vec().unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: response.status().as_u16(), headers: response.headers().clone(), bytes, text }
    }
}
