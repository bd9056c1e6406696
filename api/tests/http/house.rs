//! A server for one test, and people who ask it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use api::http::manners::rate::{Rate, Rates};
use api::http::{Doors, listen};
use api::line::Line;
use serde_json::{Value, json};
use tokio::sync::watch;

/// A running server over a folder of its own.
pub struct House {
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Rates that no test meets by accident.
pub fn wide() -> Rates {
    let rate = Rate { per_minute: 1_000_000, burst: 1_000_000 };
    Rates { sign_in: rate, query: rate, push: rate, read: rate, write: rate }
}

impl House {
    pub fn open() -> Self {
        Self::with_rates(wide())
    }

    pub fn with_rates(rates: Rates) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = listen::bind("127.0.0.1:0".parse().unwrap(), None, false).unwrap();
        let address = TcpListener::local_addr(&listener).unwrap();
        let (stop, stopped) = watch::channel(false);
        runtime.block_on(async {
            let line = Arc::new(Line::open(folder.path()).await.unwrap());
            let doors = Arc::new(Doors::open(line, rates).unwrap());
            tokio::spawn(listen::serve(doors, listener, None, stopped));
        });
        Self { address, _folder: folder, stop, runtime: Some(runtime) }
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
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
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
