//! Connections as they stand in answers.

use poem_openapi::types::Any;
use poem_openapi::{Enum, Object};
use serde_json::Value;

use crate::connections::connector::{self, Connector};
use crate::connections::health::Health;
use crate::connections::row::Connection;
use crate::connections::{Progress, row};
use crate::http::problem::{PlaceError, Problem};
use crate::http::routes::runs::RunCounts;
use crate::http::routes::streams::StreamCounts;
use crate::http::time;
use crate::rows::Versioned;

/// A type of connector.
#[derive(Debug, Object)]
struct ConnectorInfo {
    /// Its name, for `connector` of a new connection.
    name: String,
    /// What it reads.
    title: String,
    /// The JSON Schema of `settings`.
    settings_schema: Any<Value>,
}

/// The types of connectors.
#[derive(Debug, Object)]
pub struct ConnectorList {
    connectors: Vec<ConnectorInfo>,
}

/// A connection.
#[derive(Debug, Object)]
pub struct ConnectionInfo {
    /// Its name.
    name: String,
    /// The connector's type.
    connector: String,
    /// Its settings.
    settings: Any<Value>,
    /// Whether it is paused.
    paused: bool,
    /// Whether its files are followed, while it is not paused.
    watched: bool,
    /// Who made it.
    created_by: String,
    /// When.
    created_at: String,
    /// When it was changed last.
    changed_at: String,
}

/// A page of connections.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ConnectionPage {
    /// The connections, by name.
    pub connections: Vec<ConnectionInfo>,
    /// For the next page; left out at the end.
    pub next: Option<String>,
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum ConnectionState {
    /// A sync that was asked for runs or waits.
    Syncing,
    /// Its files are followed.
    Watching,
    /// Nothing until it is told.
    Idle,
    /// Nothing until it is resumed.
    Paused,
}

/// A connection's streams.
#[derive(Debug, Object)]
pub struct StreamList {
    /// What the connection does now.
    state: ConnectionState,
    /// Its streams.
    streams: Vec<StreamProgress>,
}

/// How a stream fares.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct StreamProgress {
    /// The stream.
    stream: String,
    /// Records that it took from the start; in = accepted + deleted + quarantined + held + duplicate.
    counts: Option<StreamCounts>,
    /// The position on `inputs` up to which it is processed; left out before its first record.
    position: Option<String>,
    /// Files, or other reading orders, whose place is held lately.
    lanes: u32,
    /// Runs that have ended.
    runs: u64,
    /// When the last one ended.
    last_run_at: Option<String>,
    /// When one ended well for the last time.
    last_success_at: Option<String>,
    /// What the last run that took records made of them.
    last_run: Option<RunCounts>,
    /// Why the last run failed, if it did.
    last_error: Option<String>,
}

/// Whether a connection can be read.
#[derive(Debug, Object)]
pub struct HealthInfo {
    /// Whether every stream can.
    healthy: bool,
    /// Each stream.
    streams: Vec<StreamHealth>,
}

/// Whether a stream can be read.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct StreamHealth {
    /// The stream.
    stream: String,
    /// Whether its source could be opened and its head read.
    healthy: bool,
    /// Bytes of its files.
    source_bytes: u64,
    /// Records in the head that was read.
    records_seen: u64,
    /// Records among them that will be set aside as they are.
    defective: u64,
    /// What is wrong.
    trouble: Option<TroubleInfo>,
}

/// What is wrong with a source.
#[derive(Debug, Object)]
struct TroubleInfo {
    /// As one word, for programs.
    code: String,
    /// What is wrong.
    problem: String,
    /// What to do.
    remedy: String,
}

/// The types of connectors.
pub fn connectors(all: Vec<Connector>) -> ConnectorList {
    let each =
        |c: Connector| ConnectorInfo { name: c.name.into(), title: c.title.into(), settings_schema: Any(c.schema) };
    ConnectorList { connectors: all.into_iter().map(each).collect() }
}

/// A connection.
pub fn connection(name: &str, connection: Connection) -> ConnectionInfo {
    let settings = Any(connector::shown(&connection.connector, &connection.settings));
    ConnectionInfo {
        name: name.to_owned(),
        watched: connection.is_watched(),
        connector: connection.connector,
        settings,
        paused: connection.paused,
        created_by: connection.by,
        created_at: time::of_micros(connection.created_at),
        changed_at: time::of_micros(connection.changed_at),
    }
}

/// The tag of a connection's version. One that is made again under the same name has others.
pub fn tag(row: &Versioned<Connection>) -> String {
    format!("\"{:x}-{}\"", row.value.created_at, row.version)
}

/// A connection's streams.
pub fn streams(connection: &Connection, progress: Vec<Progress>, is_syncing: bool) -> StreamList {
    let state = match (connection.paused, is_syncing, connection.is_watched()) {
        (true, ..) => ConnectionState::Paused,
        (_, true, _) => ConnectionState::Syncing,
        (_, _, true) => ConnectionState::Watching,
        _ => ConnectionState::Idle,
    };
    StreamList { state, streams: progress.into_iter().map(stream).collect() }
}

fn stream(progress: Progress) -> StreamProgress {
    let row::Sync { runs, ended_at, succeeded_at, fates, error } = progress.sync.unwrap_or_default();
    let counts = progress.state.as_ref().map(|state| state.counters.into());
    StreamProgress {
        stream: progress.stream,
        counts,
        position: progress.state.as_ref().map(|state| state.next.to_string()),
        lanes: progress.state.as_ref().map_or(0, |state| state.lanes.len() as u32),
        runs,
        last_run_at: (runs > 0).then(|| time::of_micros(ended_at)),
        last_success_at: succeeded_at.map(time::of_micros),
        last_run: fates.map(Into::into),
        last_error: error,
    }
}

/// Whether a connection can be read.
pub fn health(looked: Vec<Health>) -> HealthInfo {
    let each = |health: Health| StreamHealth {
        stream: health.stream,
        healthy: health.trouble.is_none(),
        source_bytes: health.source_bytes,
        records_seen: health.records_seen,
        defective: health.defective,
        trouble: health.trouble.map(|trouble| TroubleInfo {
            code: trouble.code.into(),
            problem: trouble.problem,
            remedy: trouble.remedy.into(),
        }),
    };
    let streams: Vec<_> = looked.into_iter().map(each).collect();
    HealthInfo { healthy: streams.iter().all(|stream| stream.healthy), streams }
}

/// A name that is none.
pub fn wrong_name(error: schemas::ids::InvalidName) -> Problem {
    let detail = error.to_string();
    Problem::invalid(detail.clone()).at(vec![PlaceError { pointer: "/name".into(), detail }])
}
