//! Connections made through the API: what they are told, what follows them, and how they fare.
//!
//! [`connector`] are the types of connectors with the [`schema`]s of their settings ([`mod@file`] is the one there is),
//! [`roots`] the folders that the operator declared, [`row`] what is stored, [`running`] what runs, [`watching`] follows the
//! files of a stream, also of those that a server is configured with, [`health`] whether a source can be read, `peers` takes
//! over what other processes change. A run is the same `ingest` that the command line does.

pub mod connector;
pub mod error;
pub mod file;
pub mod health;
mod peers;
pub mod roots;
pub mod row;
pub mod running;
pub mod schema;
pub mod watching;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pipeline::step::StreamState;
use pipeline::{Table, definitions};
use schemas::{StreamId, TenantId};
use serde_json::Value;
use tokio::sync::watch;

use crate::cli::plan::{Draft, settings};
use crate::cli::{Behalf, IngestArgs};
use crate::line::{Halt, Line, Turns};
use crate::rows::{Rows, Versioned};
pub use error::ConnectionError;
use file::FileConnection;
use health::Health;
use roots::{Roots, base, hidden};
use row::{Connection, Ledger, Sync};
use running::{Id, Runs};
use schema::Fault;

/// The connections of all tenants.
pub struct Connections {
    line: Arc<Line>,
    rows: Rows<Connection>,
    ledger: Ledger,
    roots: Roots,
    runs: Arc<Runs>,
    /// When the connections were changed last by which this process runs.
    known: Mutex<HashMap<Id, i64>>,
    stop: watch::Sender<bool>,
    /// One change of a connection at a time.
    turns: Turns<Id>,
}

/// How a stream of a connection fares.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The stream.
    pub stream: String,
    /// Its state on the line; nothing before its first run.
    pub state: Option<StreamState>,
    /// How its runs ended; nothing before the first has.
    pub sync: Option<Sync>,
}

impl Connections {
    /// The connections in the line's store; nothing runs before [`Connections::start`].
    pub fn new(line: Arc<Line>, roots: Roots) -> Self {
        let ledger = Ledger::new(line.store.clone());
        let runs = Arc::new(Runs::new(line.clone(), ledger.clone()));
        let halt: Arc<dyn Halt> = runs.clone();
        line.tell_of_deletions(&halt);
        let rows = Rows::new(line.store.clone(), Table::Connections);
        let (known, stop) = (Mutex::default(), watch::Sender::new(false));
        Self { line, rows, ledger, roots, runs, known, stop, turns: Turns::default() }
    }

    /// Follows every watched connection that is not paused, and what other processes change of them. One that cannot be
    /// followed is told in the log, and in its own progress; the others are followed.
    pub async fn start(self: &Arc<Self>) -> Result<(), ConnectionError> {
        // Before the connections themselves, so that no change is missed.
        let seen = if self.line.has_peers() { Some(self.changes().await?) } else { None };
        for (name, tenant) in self.line.tenants().await.map_err(ConnectionError::Failed)? {
            for (key, connection) in self.rows.all(tenant, "").await? {
                let followed = match key.parse() {
                    Ok(connection_name) => self.follow(&(tenant, connection_name), &connection).await,
                    Err(error) => Err(ConnectionError::Failed(anyhow::Error::new(error))),
                };
                if let Err(error) = followed {
                    tracing::warn!(tenant = %name, connection = key, %error, "a connection is not followed");
                }
            }
        }
        if let Some(seen) = seen {
            tokio::spawn(self.clone().follow_peers(seen));
        }
        Ok(())
    }

    /// Ends everything that runs.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        self.runs.stop().await;
    }

    /// A connection, and the version of its row.
    pub async fn get(&self, id: &Id) -> Result<Versioned<Connection>, ConnectionError> {
        self.rows.get(id.0, id.1.as_str()).await?.ok_or(ConnectionError::Unknown)
    }

    /// At most `limit` connections of a tenant behind `after`, by name.
    pub async fn list(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Connection)>, ConnectionError> {
        Ok(self.rows.page(tenant, "", after, limit).await?)
    }

    /// Makes a connection, and follows it when it is watched.
    pub async fn create(
        &self,
        id: &Id,
        connector: &str,
        settings: Value,
        by: &str,
    ) -> Result<Versioned<Connection>, ConnectionError> {
        let _turn = self.turns.take(id).await;
        self.check(id, connector, &settings).await?;
        let allowed = self.line.account(id.0).await.map_err(ConnectionError::Failed)?.quota.connections;
        if self.rows.page(id.0, "", None, allowed.saturating_add(1)).await?.len() >= allowed {
            return Err(ConnectionError::TooMany(allowed));
        }
        let (now, by, connector) = (now(), by.to_owned(), connector.to_owned());
        let value = Connection { connector, settings, paused: false, by, created_at: now, changed_at: now };
        if !self.rows.insert(id.0, id.1.as_str(), &value).await? {
            return Err(ConnectionError::Taken(id.1.clone()));
        }
        self.follow(id, &value).await?;
        self.tell_peers(id.0).await?;
        Ok(Versioned { value, version: 1 })
    }

    /// Gives a connection other settings, if its row has the version that `expected` wants; what runs begins anew.
    pub async fn update(
        &self,
        id: &Id,
        settings: Value,
        expected: impl Fn(&Versioned<Connection>) -> bool,
    ) -> Result<Versioned<Connection>, ConnectionError> {
        let _turn = self.turns.take(id).await;
        let found = self.get(id).await?;
        if !expected(&found) {
            return Err(ConnectionError::Changed);
        }
        let settings = connector::replacing(&found.value.connector, &found.value.settings, settings);
        self.check(id, &found.value.connector, &settings).await?;
        let value = Connection { settings, changed_at: now(), ..found.value };
        self.replace(id, value, found.version).await
    }

    /// Pauses a connection, or resumes it. Nothing is read any more when a pause is answered.
    pub async fn set_paused(&self, id: &Id, paused: bool) -> Result<Versioned<Connection>, ConnectionError> {
        let _turn = self.turns.take(id).await;
        let found = self.get(id).await?;
        if found.value.paused == paused {
            return Ok(found);
        }
        self.replace(id, Connection { paused, changed_at: now(), ..found.value }, found.version).await
    }

    async fn replace(
        &self,
        id: &Id,
        value: Connection,
        version: u64,
    ) -> Result<Versioned<Connection>, ConnectionError> {
        let followed = self.followed(id, &value).await?;
        if !self.rows.replace(id.0, id.1.as_str(), &value, version).await? {
            return Err(ConnectionError::Changed);
        }
        self.known.lock().insert(id.clone(), value.changed_at);
        self.runs.halt(id).await;
        self.runs.follow(id, followed)?;
        self.tell_peers(id.0).await?;
        Ok(Versioned { value, version: version + 1 })
    }

    /// Deletes a connection: it reads no more when this returns. What it read stays.
    pub async fn delete(&self, id: &Id) -> Result<(), ConnectionError> {
        let _turn = self.turns.take(id).await;
        if !self.rows.remove(id.0, id.1.as_str()).await? {
            return Err(ConnectionError::Unknown);
        }
        self.known.lock().remove(id);
        self.runs.halt(id).await;
        self.ledger.forget(id.0, &id.1).await?;
        self.tell_peers(id.0).await
    }

    /// Reads every stream once, soon; false when that is under way already.
    pub async fn sync(&self, id: &Id) -> Result<bool, ConnectionError> {
        let _turn = self.turns.take(id).await;
        let connection = self.get(id).await?.value;
        if connection.paused {
            return Err(ConnectionError::Paused);
        }
        let (_, streams) = self.arguments(id, &connection.connector, &connection.settings).await?;
        self.runs.sync(id, streams)
    }

    /// Looks at the source of every stream.
    pub async fn health(&self, id: &Id) -> Result<Vec<Health>, ConnectionError> {
        let connection = self.get(id).await?.value;
        let (_, streams) = self.arguments(id, &connection.connector, &connection.settings).await?;
        let mut healths = Vec::new();
        for args in &streams {
            healths.push(health::look(args, self.line.definitions()).await);
        }
        Ok(healths)
    }

    /// How every stream fares, and whether a sync that was asked for is under way.
    pub async fn progress(&self, id: &Id) -> Result<(Vec<Progress>, bool), ConnectionError> {
        let connection = self.get(id).await?.value;
        let known = connector::read(&connection.connector, &connection.settings).map_err(ConnectionError::Settings)?;
        // Asked first: what it calls ended has its outcome noted.
        let is_syncing = self.runs.is_syncing(id);
        let mut all = Vec::new();
        for stream in known.streams {
            let name = stream.stream.parse().map_err(|e| ConnectionError::Failed(anyhow::Error::new(e)))?;
            let full = StreamId { tenant: id.0, connection: id.1.clone(), stream: name };
            let state = self.line.stream_state(&full).await.map_err(ConnectionError::Failed)?;
            let sync = self.ledger.of(id.0, &full.to_string()).await?;
            all.push(Progress { stream: stream.stream, state, sync });
        }
        Ok((all, is_syncing))
    }

    async fn follow(&self, id: &Id, connection: &Connection) -> Result<(), ConnectionError> {
        self.known.lock().insert(id.clone(), connection.changed_at);
        let followed = self.followed(id, connection).await?;
        self.runs.follow(id, followed)
    }

    /// The streams that are to be followed.
    async fn followed(&self, id: &Id, connection: &Connection) -> Result<Vec<IngestArgs>, ConnectionError> {
        if connection.paused || !connection.is_watched() {
            return Ok(Vec::new());
        }
        Ok(self.arguments(id, &connection.connector, &connection.settings).await?.1)
    }

    /// Refuses settings that cannot work; files need not be there yet.
    async fn check(&self, id: &Id, connector: &str, settings: &Value) -> Result<(), ConnectionError> {
        let (known, streams) = self.arguments(id, connector, settings).await?;
        let mut faults = Vec::new();
        if let Some(behalf) = streams.first().and_then(|args| args.behalf.as_ref())
            && base(&behalf.bounds).is_none()
        {
            let detail = "several folders are declared: give the whole path";
            faults.extend(known.relative().into_iter().map(|pointer| Fault::new(pointer, detail)));
        }
        for (number, args) in streams.iter().enumerate() {
            faults.extend(self.fault(&format!("/settings/streams/{number}"), args).await);
        }
        if faults.is_empty() { Ok(()) } else { Err(ConnectionError::Settings(faults)) }
    }

    async fn fault(&self, at: &str, args: &IngestArgs) -> Option<Fault> {
        let told = |error: &dyn std::fmt::Display, behalf: &Option<Behalf>| {
            let message = format!("{error:#}");
            behalf.as_ref().map_or(message.clone(), |behalf| hidden(&message, &behalf.bounds))
        };
        if let Err(error) = Draft::new(args, self.line.definitions()).await {
            return Some(Fault::new(at, told(&error, &args.behalf)));
        }
        let named = settings(args, false).ok()?;
        let outside = tokio::task::spawn_blocking(move || named.outside()).await.ok()?;
        outside.map(|(file, error)| Fault::new(format!("{at}/files/{file}"), told(&error, &args.behalf)))
    }

    /// What `ingest` is told for each stream, held to the tenant's folders.
    async fn arguments(
        &self,
        id: &Id,
        connector: &str,
        settings: &Value,
    ) -> Result<(FileConnection, Vec<IngestArgs>), ConnectionError> {
        let known = connector::read(connector, settings).map_err(ConnectionError::Settings)?;
        let name = definitions::tenant_name(&*self.line.store, id.0).await;
        let name = name.map_err(|e| ConnectionError::Failed(e.into()))?.ok_or(ConnectionError::Unknown)?;
        let bounds = self.roots.bounds(id.0).ok_or_else(|| ConnectionError::NoRoot(name.clone()))?;
        let behalf = Behalf { tenant: id.0, bounds };
        let streams = known.arguments(&name, &id.1, &behalf, base(&behalf.bounds));
        Ok((known, streams))
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
