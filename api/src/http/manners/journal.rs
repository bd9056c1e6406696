//! The audit journal: who did what, and how it ended. Written behind the request, from a bounded queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pipeline::Store;
use poem::http::Method;
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};
use schemas::TenantId;
use tokio::sync::{mpsc, watch};

use super::trace;
use crate::auth::Caller;
use crate::http::{Doors, public};
use crate::line::journal::{Entry, put};

/// Entries that wait to be written; a request waits when there are more.
const WAITING_MAX: usize = 4_096;

/// What a handler says of what it changed, where the path does not say it.
#[derive(Debug, Clone, Default)]
pub struct Noted(Arc<Mutex<Option<String>>>);

impl Noted {
    /// Says what was changed.
    pub fn say(&self, detail: String) {
        *self.0.lock() = Some(detail);
    }
}

/// The journal's front end. Entries are in the store in the order in which they were handed over.
pub struct Journal {
    sender: mpsc::Sender<(TenantId, Entry)>,
    written: watch::Receiver<u64>,
    handed: Arc<AtomicU64>,
}

impl Journal {
    /// Starts the writer.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(TenantId, Entry)>(WAITING_MAX);
        let (done, written) = watch::channel(0u64);
        tokio::spawn(async move {
            let mut number = 0u64;
            while let Some((tenant, entry)) = receiver.recv().await {
                number += 1;
                if let Err(error) = put(&*store, tenant, &entry, number).await {
                    tracing::error!(%error, who = entry.who, path = entry.path, "an entry of the journal is lost");
                }
                done.send_replace(number);
            }
        });
        Self { sender, written, handed: Arc::default() }
    }

    /// Hands an entry over. Waits only when thousands are waiting.
    pub async fn keep(&self, tenant: TenantId, entry: Entry) {
        self.handed.fetch_add(1, Ordering::Relaxed);
        if self.sender.send((tenant, entry)).await.is_err() {
            tracing::error!("the journal's writer has stopped");
        }
    }

    /// Waits until everything handed over so far is in the store.
    pub async fn settle(&self) {
        let handed = self.handed.load(Ordering::Relaxed);
        _ = self.written.clone().wait_for(|written| *written >= handed).await;
    }
}

/// The middleware.
pub struct Keep(pub Arc<Doors>);

/// The endpoint.
pub struct Kept<E> {
    endpoint: E,
    doors: Arc<Doors>,
}

impl<E: Endpoint> Middleware<E> for Keep {
    type Output = Kept<E>;
    fn transform(&self, endpoint: E) -> Kept<E> {
        Kept { endpoint, doors: self.0.clone() }
    }
}

impl<E: Endpoint> Endpoint for Kept<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let noted = Noted::default();
        request.set_data(noted.clone());
        let Some(caller) = request.data::<Caller>().cloned().filter(|_| is_journaled(&request)) else {
            return Ok(self.endpoint.call(request).await?.into_response());
        };
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let started = std::time::Instant::now();
        let answered = self.endpoint.call(request).await.map(IntoResponse::into_response);
        let status = match &answered {
            Ok(response) => response.status(),
            Err(error) => error.status(),
        };
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let detail = noted.0.lock().take();
        let entry = Entry { detail, ..entry(&caller, method, path, status.as_u16(), took_us) };
        self.doors.journal.keep(caller.tenant, entry).await;
        answered
    }
}

/// An entry as of now.
pub fn entry(caller: &Caller, method: String, path: String, status: u16, took_us: u64) -> Entry {
    let name = match &caller.who {
        crate::auth::Who::User { email, .. } => email.clone(),
        crate::auth::Who::Key { name, .. } => name.clone(),
    };
    let at = jiff::Timestamp::now().as_microsecond();
    Entry { at, who: caller.label(), name, method, path, status, took_us, trace_id: trace::id(), detail: None }
}

/// Everything that changes something, and every question that may show rows. A stream that is opened with a ticket is told
/// by the ticket's own entry.
fn is_journaled(request: &Request) -> bool {
    let path = request.uri().path();
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let shows_rows = path.ends_with("/rows")
        || path.starts_with("/api/v1/aam/cases/")
        || path.starts_with("/api/v1/quarantine/")
        || matches!(path, "/api/v1/log" | "/api/v1/tenant/export")
        || public::takes_ticket(path);
    writes || shows_rows
}
