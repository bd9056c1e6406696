//! The HTTP API. A handler knows its caller, checks a role, calls one function of a room behind it, and shapes the answer.
//!
//! [`app`] puts it together: [`routes`] are the handlers by resource, [`manners`] is what every request goes through,
//! [`problem`] is what an error looks like outside, [`document`] is the OpenAPI file, [`ops`] is what operators' tools ask;
//! [`workers`] is what a process without doors answers them, [`starting`] what any does that waits for its servers.

pub mod answer;
mod asked;
pub mod document;
pub mod listen;
pub mod manners;
pub mod ops;
pub mod problem;
pub mod public;
pub mod routes;
pub mod starting;
pub mod text;
pub mod time;
pub mod workers;

use std::sync::Arc;

use ipnet::IpNet;
use pipeline::Table;
use poem::endpoint::{BoxEndpoint, make_sync};
use poem::{EndpointExt, Response, Route, get};
use tokio::sync::Semaphore;

use crate::auth::master_key::MasterKey;
use crate::auth::secret::{self, Seal};
use crate::auth::{Accounts, Gate};
use crate::connections::Connections;
use crate::connections::roots::{DeclaredRoot, Roots};
use crate::line::{Line, QuotaSettings, Runs};
use crate::live::Tickets;
use crate::notices::Notices;
use crate::notices::guard::Guard;
use crate::rows::Rows;
use manners::idempotency::{self, Answer};
use manners::journal::Journal;
use manners::rate::{Budgets, Rates};
use manners::room::Room;

/// Where records are pushed; it has bounds of its own.
pub const RECORDS_PATH: &str = "/api/v1/records";

/// What every handler works with.
pub struct Doors {
    /// The line behind the doors.
    pub line: Arc<Line>,
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Credentials to callers.
    pub gate: Gate,
    /// Seals cursors and stream positions.
    pub seal: Seal,
    /// The audit journal.
    pub journal: Journal,
    /// Rationing.
    pub budgets: Budgets,
    /// Room for bodies.
    pub room: Arc<Room>,
    /// Answers that were given under an idempotency key.
    pub answers: Rows<Answer>,
    /// One-use tickets for streams.
    pub tickets: Tickets,
    /// Places for open streams.
    pub streams: Arc<Semaphore>,
    /// Connections.
    pub connections: Arc<Connections>,
    /// Runs of programs elsewhere.
    pub runs: Arc<Runs>,
    /// What webhooks are told.
    pub notices: Arc<Notices>,
    /// The SHA-256 of the operator's token for `/metrics`, in hex.
    pub metrics_token: Option<String>,
}

/// What the operator decides.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    /// Rationing.
    pub rates: Rates,
    /// What each tenant may take.
    pub quotas: QuotaSettings,
    /// The folders in which files of connections may lie.
    pub files_roots: Vec<DeclaredRoot>,
    /// The token that `/metrics` takes from elsewhere than loopback.
    pub metrics_token: Option<String>,
    /// Networks that notices may go to, besides public addresses.
    pub webhook_networks: Vec<IpNet>,
    /// Where people reach the server, without a slash at its end: what notices link to.
    pub public_url: Option<String>,
}

/// Event streams that may be open at once.
const STREAMS_MAX: usize = 4_000;

impl Doors {
    /// Opens the doors of a line, and has watched connections followed.
    pub async fn open(line: Arc<Line>, operator: &Operator) -> anyhow::Result<Self> {
        line.ration(operator.quotas.clone());
        let roots = Roots::resolve(&line, &operator.files_roots).await?;
        let connections = Arc::new(Connections::new(line.clone(), roots));
        connections.start().await?;
        let guard = Guard::new(&operator.webhook_networks);
        let notices = Notices::start(line.clone(), guard, operator.public_url.clone())?;
        let master = MasterKey::open(&line.folder)?;
        let accounts = Arc::new(Accounts::new(line.store.clone(), &master.derive("session tokens"))?);
        idempotency::keep_swept(&line);
        Ok(Self {
            gate: Gate::new(accounts.clone()),
            accounts,
            seal: Seal::new(&master.derive("cursors")),
            journal: Journal::start(line.store.clone()),
            budgets: Budgets::new(operator.rates),
            room: Arc::default(),
            answers: Rows::new(line.store.clone(), Table::Answers),
            tickets: Tickets::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            connections,
            runs: Arc::default(),
            notices,
            metrics_token: operator.metrics_token.as_deref().map(secret::hash),
            line,
        })
    }
}

/// The whole API as one endpoint.
pub fn app(doors: &Arc<Doors>) -> BoxEndpoint<'static, Response> {
    let service = routes::service();
    let document = Arc::new(document::closed(&service.spec()));
    let docs = service.swagger_ui_html();
    let routes = Route::new()
        .at("/openapi.json", get(make_sync(move |_| document::response(&document))))
        .at("/docs", get(make_sync(move |_| poem::web::Html(docs.clone()))))
        .at("/api/v1/events/ws", get(routes::events::socket))
        .at("/metrics", get(ops::metrics))
        .nest("/", service)
        .data(doors.clone())
        .data(Arc::new(ops::Signals::default()));
    manners::all(doors, routes)
}

/// The time, in seconds since 1970 UTC.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
