//! The store on ScyllaDB, or on Apache Cassandra, which speaks the same protocol.
//!
//! Every write of a row is a conditional one (a lightweight transaction), so that of several writers one wins and a stale
//! one loses. Every write leaves its *mark*, 16 random bytes, in front of the last few before it in the row: a writer that
//! was not told how its write ended finds out by them. A value that is too large for a row lies in parts under the mark of
//! its write, put there before the row names it and removed once no row does.

mod error;
mod head;
mod parts;
mod pauses;
mod place;
mod range;
mod reading;
mod schema;
mod session;
mod settings;
mod statements;
mod tls;
mod writing;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use schemas::TenantId;
use scylla::client::session::Session;

pub use error::OpenError;
pub use settings::{Login, Settings, Tls};

pub use crate::secret::Secret;

use super::{Expect, Row, Store, StoreError, Table, check_key, check_value};
use error::Failed;
use head::{Head, MARK_BYTES, version_of};
use pauses::{Pauses, again};
use place::{Place, buckets};
use range::Range;
use session::connect;
use statements::{Rows, Statements};
use writing::Outcome;

/// Writers of one process to one partition wait for each other here, and not in the cluster, which would have them try again.
const QUEUES: usize = 256;
/// How often a value whose parts are gone is read again: its row was written anew meanwhile.
const READS_MAX: usize = 20;

/// The store on ScyllaDB or Cassandra.
pub struct ScyllaStore {
    session: Session,
    statements: Statements,
    retry_for: Duration,
    queues: Vec<tokio::sync::Mutex<()>>,
}

impl ScyllaStore {
    /// Connects, and makes or checks the tables.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        if !settings.has_keyspace() {
            let why = format!("{:?} is no name of a keyspace", settings.keyspace);
            return Err(OpenError::Settings(why));
        }
        let session = connect(&settings).await?;
        schema::prepare(&session, &settings).await?;
        let statements = Statements::prepare(&session, &settings).await?;
        let retry_for = settings.retry_for();
        let queues = (0..QUEUES).map(|_| tokio::sync::Mutex::new(())).collect();
        Ok(Self { session, statements, retry_for, queues })
    }

    /// Tries again what fails in passing, for what may be done twice without harm.
    async fn again<T, F: Future<Output = Result<T, Failed>>>(&self, work: impl Fn() -> F) -> Result<T, StoreError> {
        again(self.retry_for, work).await.map_err(StoreError::from)
    }

    fn rows(&self, place: &Place<'_>) -> &Rows {
        self.statements.of(place.table)
    }
}

#[async_trait]
impl Store for ScyllaStore {
    async fn get(&self, tenant: TenantId, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let place = Place::of(tenant, table, key);
        for _ in 0..READS_MAX {
            let Some((head, value)) = self.again(|| self.row(&place)).await? else { return Ok(None) };
            if let Some(value) = self.whole(&head, value).await? {
                return Ok(Some(Row { value, version: head.version.unsigned_abs() }));
            }
        }
        Err(StoreError::Unreadable(format!("{table:?} {key:?} lacks parts of its value: restore it from a backup")))
    }

    async fn put(
        &self,
        tenant: TenantId,
        table: Table,
        key: &str,
        value: Bytes,
        expect: Expect,
    ) -> Result<u64, StoreError> {
        check_key(key)?;
        check_value(&value)?;
        let place = Place::of(tenant, table, key);
        let mark: [u8; MARK_BYTES] = fastrand::u128(..).to_be_bytes();
        let parts = self.put_parts(&mark, &value).await?;
        let written = self.put_row(&place, mark, parts, &value, expect).await;
        // After any other error a try may have been done that nobody told about: its row names the parts.
        if matches!(written, Err(StoreError::Conflict { .. })) {
            self.drop_parts(&mark, parts).await;
        }
        written
    }

    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        check_key(key)?;
        let place = Place::of(tenant, table, key);
        let _turn = self.turn(&place).await;
        let mut pauses = Pauses::new(self.retry_for);
        loop {
            let found = self.again(|| self.head(&place, &self.rows(&place).head)).await?;
            expect.check(version_of(found.as_ref()))?;
            let Some(old) = found else { return Ok(()) };
            let gone = match self.removed(&place, &old).await {
                Ok(outcome) => matches!(outcome, Outcome::Applied),
                Err(failed @ Failed::ForGood(_)) => return Err(failed.into()),
                Err(failed) => {
                    pauses.before_trying_again(failed).await?;
                    self.again(|| self.head(&place, &self.rows(&place).head_settled)).await?.is_none()
                }
            };
            if gone {
                self.drop_parts(old.mark(), old.parts).await;
                return Ok(());
            }
        }
    }

    async fn scan(
        &self,
        tenant: TenantId,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Row)>, StoreError> {
        let range = Range::new(prefix, after);
        let limit_of_bucket = i32::try_from(limit).unwrap_or(i32::MAX);
        if limit == 0 || range.is_empty() {
            return Ok(Vec::new());
        }
        let range = &range;
        let of_bucket = |bucket| self.again(move || self.scan_bucket((tenant, table, bucket), range, limit_of_bucket));
        let found = try_join_all((0..buckets(table)).map(of_bucket)).await?;
        let mut rows: Vec<(String, Head, Vec<u8>)> = found.into_iter().flatten().collect();
        rows.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        rows.truncate(limit);
        let mut whole = Vec::with_capacity(rows.len());
        for (key, head, value) in rows {
            match self.whole(&head, value).await? {
                Some(value) => whole.push((key, Row { value, version: head.version.unsigned_abs() })),
                // It was written anew meanwhile, or removed.
                None => {
                    if let Some(row) = self.get(tenant, table, &key).await? {
                        whole.push((key, row));
                    }
                }
            }
        }
        Ok(whole)
    }
}
