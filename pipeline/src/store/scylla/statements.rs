//! The statements of the store, prepared once.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency, Statement};

use super::super::Table;
use super::error::{Failed, OpenError};
use super::pauses::again;
use super::place::is_queue;
use super::settings::Settings;

/// Rows of a page: with the largest value that a row has in itself some 32 MiB.
const PAGE_ROWS: i32 = 64;

/// All statements. What is tried again is decided in one place, so the driver tries nothing again.
pub(super) struct Statements {
    rows: Rows,
    queues: Rows,
    pub(super) put_chunk: PreparedStatement,
    pub(super) get_chunk: PreparedStatement,
    pub(super) delete_chunks: PreparedStatement,
}

/// The statements of a table of rows.
pub(super) struct Rows {
    /// Version, marks and parts of a row.
    pub(super) head: PreparedStatement,
    /// The same, agreed upon: it ends conditional writes under way.
    pub(super) head_settled: PreparedStatement,
    pub(super) get: PreparedStatement,
    pub(super) insert: PreparedStatement,
    pub(super) update: PreparedStatement,
    pub(super) delete: PreparedStatement,
    /// From a key on, or behind it; up to another, or to the end.
    pub(super) scan: [[PreparedStatement; 2]; 2],
}

const HERE: &str = "tenant = ? AND kind = ? AND bucket = ?";

impl Statements {
    pub(super) async fn prepare(session: &Session, settings: &Settings) -> Result<Self, OpenError> {
        let k = &settings.keyspace;
        let one = |text: String| prepare(session, settings, text);
        Ok(Self {
            rows: Rows::prepare(session, settings, "rows").await?,
            queues: Rows::prepare(session, settings, "queues").await?,
            put_chunk: one(format!("INSERT INTO {k}.chunks (mark, part, value) VALUES (?, ?, ?)")).await?,
            get_chunk: one(format!("SELECT value FROM {k}.chunks WHERE mark = ? AND part = ?")).await?,
            delete_chunks: one(format!("DELETE FROM {k}.chunks WHERE mark = ?")).await?,
        })
    }

    /// Those of the table that the rows of a kind lie in.
    pub(super) fn of(&self, kind: Table) -> &Rows {
        if is_queue(kind) { &self.queues } else { &self.rows }
    }
}

impl Rows {
    async fn prepare(session: &Session, settings: &Settings, table: &str) -> Result<Self, OpenError> {
        let table = format!("{}.{table}", settings.keyspace);
        let rows = "key, version, marks, parts, value";
        let one = |text: String| prepare(session, settings, text);
        let scan = |from: &str, to: &str| {
            one(format!("SELECT {rows} FROM {table} WHERE {HERE} AND key {from} ?{to} ORDER BY key LIMIT ?"))
        };
        let head = format!("SELECT version, marks, parts FROM {table} WHERE {HERE} AND key = ?");
        let mut head_settled = one(head.clone()).await?;
        head_settled.set_consistency(Consistency::LocalSerial);
        let put = "(tenant, kind, bucket, key, version, marks, parts, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        Ok(Self {
            head: one(head).await?,
            head_settled,
            get: one(format!("SELECT version, marks, parts, value FROM {table} WHERE {HERE} AND key = ?")).await?,
            insert: one(format!("INSERT INTO {table} {put} IF NOT EXISTS")).await?,
            update: one(format!(
                "UPDATE {table} SET version = ?, marks = ?, parts = ?, value = ? WHERE {HERE} AND key = ? \
                 IF version = ? AND marks = ?"
            ))
            .await?,
            delete: one(format!("DELETE FROM {table} WHERE {HERE} AND key = ? IF version = ? AND marks = ?")).await?,
            scan: [
                [scan(">=", "").await?, scan(">=", " AND key < ?").await?],
                [scan(">", "").await?, scan(">", " AND key < ?").await?],
            ],
        })
    }
}

async fn prepare(session: &Session, settings: &Settings, text: String) -> Result<PreparedStatement, OpenError> {
    let once = || async { session.prepare(Statement::new(text.as_str())).await.map_err(Failed::from) };
    let prepared = again(settings.retry_for(), once).await;
    let mut statement = prepared.map_err(|failed| failed.of_opening("preparing a statement"))?;
    statement.set_consistency(Consistency::LocalQuorum);
    statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    statement.set_is_idempotent(false);
    statement.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
    statement.set_request_timeout(Some(Duration::from_millis(settings.request_timeout_ms.into())));
    statement.set_page_size(PAGE_ROWS);
    Ok(statement)
}
