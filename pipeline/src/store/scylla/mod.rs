//! The store on ScyllaDB, or on Apache Cassandra, which speaks the same protocol.
//!
//! Every write of a row is a conditional one (a lightweight transaction), so that of several writers one wins and a stale
//! one loses. Every write leaves its *mark*, 16 random bytes, in the row: a writer that was not told how its write ended
//! finds out by it. A value that is too large for a row lies in parts under the mark of its write, put there before the
//! row names it and removed once no row does.

mod error;
mod range;
mod schema;
mod settings;
mod statements;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::try_join_all;
use schemas::TenantId;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::response::query_result::QueryResult;
use scylla::statement::prepared::PreparedStatement;
use xxhash_rust::xxh3::xxh3_64;

pub use error::OpenError;
pub use settings::{Login, Settings};

use super::{Expect, Row, Store, StoreError, Table, check_key, check_value};
use error::{Failed, of_page, of_session};
use range::Range;
use statements::Statements;

/// A larger value is put down in parts of this size. Cassandra refuses a write of 16 MiB, and ScyllaDB warns of 1 MiB.
const PART_BYTES: usize = 512 << 10;
/// The first pause before something is tried again; each is twice the one before, up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_secs(2);
/// How often a value whose parts are gone is read again: its row was written anew meanwhile.
const READS_MAX: usize = 20;

/// The store on ScyllaDB or Cassandra.
pub struct ScyllaStore {
    session: Session,
    statements: Statements,
    retry_for: Duration,
}

/// Where a row lies.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    tenant: [u8; 16],
    kind: i8,
    bucket: i16,
    key: &'a str,
}

/// A row without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    version: i64,
    mark: Vec<u8>,
    parts: i32,
}

/// How a conditional write ended.
enum Outcome {
    /// It was done.
    Applied,
    /// The row was another by then.
    Lost,
}

/// How many partitions the rows of a tenant and a kind have. Part of the schema: it never changes for a kind.
const fn buckets(table: Table) -> i16 {
    match table {
        Table::StreamStates
        | Table::Quarantine
        | Table::Lanes
        | Table::Cases
        | Table::Timers
        | Table::Checkpoints
        | Table::Answers
        | Table::Sessions
        | Table::Syncs => 16,
        Table::Tenants
        | Table::Streams
        | Table::Entities
        | Table::Views
        | Table::TableNames
        | Table::Users
        | Table::Addresses
        | Table::ApiKeys
        | Table::Invitations
        | Table::Journal
        | Table::Connections
        | Table::PayloadKeys
        | Table::Deletions
        | Table::Usage => 1,
    }
}

impl<'a> Place<'a> {
    fn of(tenant: TenantId, table: Table, key: &'a str) -> Self {
        let bucket = xxh3_64(key.as_bytes()) % u64::from(buckets(table).unsigned_abs());
        let bucket = i16::try_from(bucket).unwrap_or(0);
        Self { tenant: tenant.to_bytes(), kind: kind(table), bucket, key }
    }

    fn values(&self) -> (&[u8], i8, i16, &str) {
        (&self.tenant, self.kind, self.bucket, self.key)
    }
}

/// The number of a table, which stays below 128.
fn kind(table: Table) -> i8 {
    i8::try_from(table as u8).unwrap_or(i8::MAX)
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
        let retry_for = Duration::from_millis(settings.retry_for_ms.into());
        Ok(Self { session, statements, retry_for })
    }

    /// Tries again what fails in passing, for what may be done twice without harm.
    async fn again<T, F: Future<Output = Result<T, Failed>>>(&self, work: impl Fn() -> F) -> Result<T, StoreError> {
        let mut pauses = Pauses::new(self.retry_for);
        loop {
            match work().await {
                Ok(done) => return Ok(done),
                Err(failed) => pauses.before_trying_again(failed).await?,
            }
        }
    }

    async fn head(&self, place: &Place<'_>, statement: &PreparedStatement) -> Result<Option<Head>, Failed> {
        let found = self.session.execute_unpaged(statement, place.values()).await?;
        let row = first_row::<(i64, Vec<u8>, i32)>(found)?;
        Ok(row.map(|(version, mark, parts)| Head { version, mark, parts }))
    }

    async fn row(&self, place: &Place<'_>) -> Result<Option<(Head, Vec<u8>)>, Failed> {
        let found = self.session.execute_unpaged(&self.statements.get, place.values()).await?;
        let row = first_row::<(i64, Vec<u8>, i32, Vec<u8>)>(found)?;
        Ok(row.map(|(version, mark, parts, value)| (Head { version, mark, parts }, value)))
    }

    /// The value of a row, put together from its parts; nothing when they are gone.
    async fn whole(&self, head: &Head, value: Vec<u8>) -> Result<Option<Bytes>, StoreError> {
        if head.parts == 0 {
            return Ok(Some(value.into()));
        }
        let mut whole = Vec::new();
        for part in 0..head.parts {
            let chunk = self.again(|| async {
                let found = self.session.execute_unpaged(&self.statements.get_chunk, (&head.mark, part)).await?;
                Ok(first_row::<(Vec<u8>,)>(found)?.map(|(chunk,)| chunk))
            });
            match chunk.await? {
                Some(chunk) => whole.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
        Ok(Some(whole.into()))
    }

    /// Puts a value down in parts, where it is too large for a row. Answers how many there are.
    async fn put_parts(&self, mark: &[u8], value: &[u8]) -> Result<i32, StoreError> {
        if value.len() <= PART_BYTES {
            return Ok(0);
        }
        let mut parts = 0;
        for chunk in value.chunks(PART_BYTES) {
            let put = self.again(|| async {
                self.session.execute_unpaged(&self.statements.put_chunk, (mark, parts, chunk)).await?;
                Ok(())
            });
            put.await?;
            parts += 1;
        }
        Ok(parts)
    }

    /// Removes parts that no row names any more. What is left behind when this fails does no harm.
    async fn drop_parts(&self, mark: &[u8], parts: i32) {
        if parts == 0 {
            return;
        }
        if let Err(error) = self.session.execute_unpaged(&self.statements.delete_chunks, (mark,)).await {
            tracing::warn!(%error, "the parts of a value that was replaced stay behind");
        }
    }

    async fn write(
        &self,
        place: &Place<'_>,
        found: Option<&Head>,
        new: &Head,
        value: &[u8],
    ) -> Result<Outcome, Failed> {
        let Head { version, mark, parts } = new;
        let (tenant, kind, bucket, key) = place.values();
        let value = if *parts == 0 { value } else { &[] };
        let answer = match found {
            None => {
                let values = (tenant, kind, bucket, key, version, mark, parts, value);
                self.session.execute_unpaged(&self.statements.insert, values).await?
            }
            Some(old) => {
                let values = (version, mark, parts, value, tenant, kind, bucket, key, old.version, &old.mark);
                self.session.execute_unpaged(&self.statements.update, values).await?
            }
        };
        applied(answer)
    }

    /// Finds out how a write ended that nobody told about: `found` was there before, `mark` is the one it left.
    async fn settle(&self, place: &Place<'_>, found: Option<&Head>, mark: &[u8]) -> Result<Outcome, StoreError> {
        let settled = self.again(|| self.head(place, &self.statements.head_settled)).await?;
        let one_on = found.map_or(1, |head| head.version + 1);
        match settled {
            Some(head) if head.mark == mark => Ok(Outcome::Applied),
            head if head.as_ref() == found => Ok(Outcome::Lost),
            // The next version is another's, so ours was not it.
            Some(head) if head.version == one_on => Ok(Outcome::Lost),
            _ => Err(StoreError::Unreachable(
                "a write was not answered and others wrote since: read the row again to see what became of it".into(),
            )),
        }
    }

    async fn removed(&self, place: &Place<'_>, old: &Head) -> Result<Outcome, Failed> {
        let (tenant, kind, bucket, key) = place.values();
        let values = (tenant, kind, bucket, key, old.version, &old.mark);
        applied(self.session.execute_unpaged(&self.statements.delete, values).await?)
    }

    /// The rows of one bucket that a scan wants.
    async fn scan_bucket(
        &self,
        (tenant, table, bucket): (TenantId, Table, i16),
        range: &Range,
        limit: i32,
    ) -> Result<Vec<(String, Head, Vec<u8>)>, Failed> {
        let statement = &self.statements.scan[usize::from(!range.inclusive)][usize::from(range.to.is_some())];
        let tenant = tenant.to_bytes();
        let (tenant, kind, from) = (tenant.as_slice(), kind(table), range.from.as_str());
        let pages = match &range.to {
            Some(to) => {
                let values = (tenant, kind, bucket, from, to.as_str(), limit);
                self.session.execute_iter(statement.clone(), values).await?
            }
            None => self.session.execute_iter(statement.clone(), (tenant, kind, bucket, from, limit)).await?,
        };
        let rows = pages.rows_stream::<(String, i64, Vec<u8>, i32, Vec<u8>)>();
        let rows = rows.map_err(|e| Failed::ForGood(e.to_string()))?;
        let row = |(key, version, mark, parts, value)| (key, Head { version, mark, parts }, value);
        rows.map_ok(row).try_collect().await.map_err(|e| of_page(e.to_string()))
    }
}

async fn connect(settings: &Settings) -> Result<Session, OpenError> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &settings.datacenter {
        policy = policy.prefer_datacenter(datacenter.clone());
    }
    let timeout = Duration::from_millis(settings.request_timeout_ms.into());
    let profile = ExecutionProfile::builder()
        .load_balancing_policy(policy.build())
        .request_timeout(Some(timeout))
        .retry_policy(Arc::new(scylla::policies::retry::FallthroughRetryPolicy::new()))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.nodes)
        .connection_timeout(Duration::from_millis(settings.connect_timeout_ms.into()))
        .fetch_schema_metadata(false)
        .default_execution_profile_handle(profile.into_handle());
    if let Some(login) = &settings.login {
        builder = builder.user(&login.username, login.password.expose());
    }
    builder.build().await.map_err(|e| of_session(&e, settings.nodes.join(", ")))
}

fn first_row<R>(found: QueryResult) -> Result<Option<R>, Failed>
where
    R: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
{
    let rows = found.into_rows_result().map_err(|e| Failed::ForGood(e.to_string()))?;
    rows.maybe_first_row::<R>().map_err(|e| Failed::ForGood(e.to_string()))
}

/// Whether a conditional write was done. The column is found by its name: ScyllaDB adds the row's to it, Cassandra only
/// where the condition was not met.
fn applied(answer: QueryResult) -> Result<Outcome, Failed> {
    let wrong = |why: String| Failed::ForGood(format!("a conditional write was not answered as one: {why}"));
    let rows = answer.into_rows_result().map_err(|e| wrong(e.to_string()))?;
    let at = rows.column_specs().get_by_name("[applied]").map(|(at, _)| at);
    let row = rows.first_row::<scylla::value::Row>().map_err(|e| wrong(e.to_string()))?;
    let value = at.and_then(|at| row.columns.get(at)).and_then(Option::as_ref);
    match value.and_then(scylla::value::CqlValue::as_boolean) {
        Some(true) => Ok(Outcome::Applied),
        Some(false) => Ok(Outcome::Lost),
        None => Err(wrong("it lacks [applied]".into())),
    }
}

/// Tries again after longer and longer pauses, until it has been long enough.
struct Pauses {
    until: Instant,
    next: Duration,
}

impl Pauses {
    fn new(retry_for: Duration) -> Self {
        Self { until: Instant::now() + retry_for, next: PAUSE_FIRST }
    }

    async fn before_trying_again(&mut self, failed: Failed) -> Result<(), StoreError> {
        if matches!(failed, Failed::ForGood(_)) || Instant::now() >= self.until {
            return Err(failed.into());
        }
        tracing::debug!(?failed, pause_ms = self.next.as_millis(), "the store is asked again");
        let most = self.next.as_millis() as u64;
        // At random, so that writers that met once do not meet again.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(most / 2..=most))).await;
        self.next = (self.next * 2).min(PAUSE_LAST);
        Ok(())
    }
}

fn version_of(head: Option<&Head>) -> Option<u64> {
    head.map(|head| head.version.unsigned_abs())
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
        let mut pauses = Pauses::new(self.retry_for);
        // Of writes whose end nobody told: one may still come about after it was asked for.
        let mut unknown: Vec<[u8; 16]> = Vec::new();
        loop {
            let found = self.again(|| self.head(&place, &self.statements.head)).await?;
            if let Some(head) = found.as_ref().filter(|head| unknown.iter().any(|mark| head.mark == mark)) {
                return Ok(head.version.unsigned_abs());
            }
            expect.check(version_of(found.as_ref()))?;
            let mark: [u8; 16] = fastrand::u128(..).to_be_bytes();
            let parts = self.put_parts(&mark, &value).await?;
            let version = found.as_ref().map_or(1, |head| head.version + 1);
            let new = Head { version, mark: mark.to_vec(), parts };
            match self.write(&place, found.as_ref(), &new, &value).await {
                Ok(Outcome::Applied) => {}
                Ok(Outcome::Lost) => {
                    self.drop_parts(&mark, parts).await;
                    continue;
                }
                Err(failed @ Failed::ForGood(_)) => return Err(failed.into()),
                Err(failed) => {
                    pauses.before_trying_again(failed).await?;
                    unknown.push(mark);
                    match self.settle(&place, found.as_ref(), &mark).await? {
                        Outcome::Applied => {}
                        Outcome::Lost => continue,
                    }
                }
            }
            if let Some(old) = found {
                self.drop_parts(&old.mark, old.parts).await;
            }
            return Ok(version.unsigned_abs());
        }
    }

    async fn delete(&self, tenant: TenantId, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        check_key(key)?;
        let place = Place::of(tenant, table, key);
        let mut pauses = Pauses::new(self.retry_for);
        loop {
            let found = self.again(|| self.head(&place, &self.statements.head)).await?;
            expect.check(version_of(found.as_ref()))?;
            let Some(old) = found else { return Ok(()) };
            let gone = match self.removed(&place, &old).await {
                Ok(outcome) => matches!(outcome, Outcome::Applied),
                Err(failed @ Failed::ForGood(_)) => return Err(failed.into()),
                Err(failed) => {
                    pauses.before_trying_again(failed).await?;
                    self.again(|| self.head(&place, &self.statements.head_settled)).await?.is_none()
                }
            };
            if gone {
                self.drop_parts(&old.mark, old.parts).await;
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
