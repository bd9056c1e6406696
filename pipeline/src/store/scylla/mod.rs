//! The store on ScyllaDB, or on Apache Cassandra, which speaks the same protocol.
//!
//! Every write of a row is a conditional one (a lightweight transaction), so that of several writers one wins and a stale
//! one loses. Every write leaves its *mark*, 16 random bytes, in front of the last few before it in the row: a writer that
//! was not told how its write ended finds out by them. A value that is too large for a row lies in parts under the mark of
//! its write, put there before the row names it and removed once no row does.

mod error;
mod range;
mod schema;
mod settings;
mod statements;
mod tls;

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
pub use settings::{Login, Settings, Tls};

pub use crate::secret::Secret;

use super::{Expect, Row, Store, StoreError, Table, check_key, check_value};
use error::{Failed, of_page, of_session};
use range::Range;
use statements::{Rows, Statements};

/// A larger value is put down in parts of this size. Cassandra refuses a write of 16 MiB, and ScyllaDB warns of 1 MiB.
const PART_BYTES: usize = 512 << 10;
/// The first pause before something is tried again; each is twice the one before, up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_secs(2);
/// Bytes of a mark, and how many of them a row keeps: a writer that was not answered knows how its write ended while no more
/// than so many came after it.
const MARK_BYTES: usize = 16;
const MARKS_MAX: usize = 8;
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

/// Where a row lies.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    tenant: [u8; 16],
    table: Table,
    kind: i8,
    bucket: i16,
    key: &'a str,
}

/// A row without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    version: i64,
    /// Of the last writes, the newest first.
    marks: Vec<u8>,
    parts: i32,
}

impl Head {
    /// The mark of the write that made it.
    fn mark(&self) -> &[u8] {
        self.marks.get(..MARK_BYTES).unwrap_or(&self.marks)
    }

    /// The version that the write with a mark made, if it is one of the last.
    fn version_of(&self, mark: &[u8]) -> Option<u64> {
        let back = self.marks.chunks(MARK_BYTES).position(|one| one == mark)?;
        self.version.checked_sub(i64::try_from(back).ok()?).map(i64::unsigned_abs)
    }

    /// The row that a write makes of this one, or of none.
    fn next(found: Option<&Self>, version: u64, mark: [u8; MARK_BYTES], parts: i32) -> Self {
        let mut marks = mark.to_vec();
        let before: &[u8] = found.map_or(&[], |head| head.marks.as_slice());
        marks.extend_from_slice(&before[..before.len().min(MARK_BYTES * (MARKS_MAX - 1))]);
        Self { version: i64::try_from(version).unwrap_or(i64::MAX), marks, parts }
    }

    /// How the write with a mark ended, whose writer had found `before`; nothing when too much came after it.
    fn outcome(now: Option<&Self>, before: Option<&Self>, mark: &[u8]) -> Option<Ended> {
        if now == before {
            return Some(Ended::NotDone);
        }
        let now = now?;
        if let Some(version) = now.version_of(mark) {
            return Some(Ended::Done(version));
        }
        let since = now.version - before.map_or(0, |head| head.version);
        (1..=MARKS_MAX as i64).contains(&since).then_some(Ended::NotDone)
    }
}

/// How a write ended that nobody told about.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It made this version.
    Done(u64),
    NotDone,
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
        | Table::Syncs
        | Table::Journal
        | Table::Settled
        | Table::Shapes
        | Table::Notices => 16,
        Table::Tenants
        | Table::Streams
        | Table::Entities
        | Table::Views
        | Table::TableNames
        | Table::Users
        | Table::Addresses
        | Table::ApiKeys
        | Table::Invitations
        | Table::Connections
        | Table::PayloadKeys
        | Table::Deletions
        | Table::Usage
        | Table::Policies
        | Table::Mappings
        | Table::Webhooks
        | Table::ModelUsage
        | Table::Leases
        | Table::Places => 1,
    }
}

/// Whether the rows of a kind come and go in great numbers. What is removed is read over until `gc_grace_seconds` are over, and
/// Cassandra refuses to read over too much; so they lie in a table where that is soon. A removed row that comes back, because a
/// replica was away for longer than that, does no harm: these are told or listed again. Part of the schema.
const fn is_queue(table: Table) -> bool {
    matches!(table, Table::Quarantine | Table::Timers | Table::Notices)
}

impl<'a> Place<'a> {
    fn of(tenant: TenantId, table: Table, key: &'a str) -> Self {
        let bucket = xxh3_64(key.as_bytes()) % u64::from(buckets(table).unsigned_abs());
        let bucket = i16::try_from(bucket).unwrap_or(0);
        Self { tenant: tenant.to_bytes(), table, kind: kind(table), bucket, key }
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

    async fn head(&self, place: &Place<'_>, statement: &PreparedStatement) -> Result<Option<Head>, Failed> {
        let found = self.session.execute_unpaged(statement, place.values()).await?;
        let row = first_row::<(i64, Vec<u8>, i32)>(found)?;
        Ok(row.map(|(version, marks, parts)| Head { version, marks, parts }))
    }

    async fn row(&self, place: &Place<'_>) -> Result<Option<(Head, Vec<u8>)>, Failed> {
        let found = self.session.execute_unpaged(&self.rows(place).get, place.values()).await?;
        let row = first_row::<(i64, Vec<u8>, i32, Vec<u8>)>(found)?;
        Ok(row.map(|(version, marks, parts, value)| (Head { version, marks, parts }, value)))
    }

    /// The value of a row, put together from its parts; nothing when they are gone.
    async fn whole(&self, head: &Head, value: Vec<u8>) -> Result<Option<Bytes>, StoreError> {
        if head.parts == 0 {
            return Ok(Some(value.into()));
        }
        let mut whole = Vec::new();
        for part in 0..head.parts {
            let chunk = self.again(|| async {
                let found = self.session.execute_unpaged(&self.statements.get_chunk, (head.mark(), part)).await?;
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
        let Head { version, marks, parts } = new;
        let (tenant, kind, bucket, key) = place.values();
        let value = if *parts == 0 { value } else { &[] };
        let answer = match found {
            None => {
                let values = (tenant, kind, bucket, key, version, marks, parts, value);
                self.session.execute_unpaged(&self.rows(place).insert, values).await?
            }
            Some(old) => {
                let values = (version, marks, parts, value, tenant, kind, bucket, key, old.version, &old.marks);
                self.session.execute_unpaged(&self.rows(place).update, values).await?
            }
        };
        applied(answer)
    }

    /// Finds out how a write ended that nobody told about: `found` was there before, `mark` is the one it left.
    async fn settle(&self, place: &Place<'_>, found: Option<&Head>, mark: &[u8]) -> Result<Ended, StoreError> {
        let now = self.again(|| self.head(place, &self.rows(place).head_settled)).await?;
        Head::outcome(now.as_ref(), found, mark).ok_or_else(|| {
            let why = "a write was not answered and many were made since: read the row again to see what became of it";
            StoreError::Unreachable(why.into())
        })
    }

    /// One turn of those who write to a partition.
    async fn turn(&self, place: &Place<'_>) -> tokio::sync::MutexGuard<'_, ()> {
        let mut partition = place.tenant.to_vec();
        partition.push(place.kind.unsigned_abs());
        partition.extend_from_slice(&place.bucket.to_be_bytes());
        self.queues[xxh3_64(&partition) as usize % QUEUES].lock().await
    }

    /// Writes a row whose parts are there. Every try has the same mark, so that none is taken for another's and none counts
    /// twice.
    async fn put_row(
        &self,
        place: &Place<'_>,
        mark: [u8; MARK_BYTES],
        parts: i32,
        value: &[u8],
        expect: Expect,
    ) -> Result<u64, StoreError> {
        let _turn = self.turn(place).await;
        let mut pauses = Pauses::new(self.retry_for);
        loop {
            let found = self.again(|| self.head(place, &self.rows(place).head)).await?;
            // A try that nobody told about may have come about after it was asked for.
            if let Some(version) = found.as_ref().and_then(|head| head.version_of(&mark)) {
                return Ok(version);
            }
            let before = version_of(found.as_ref());
            expect.check(before)?;
            let new = Head::next(found.as_ref(), expect.next(before), mark, parts);
            let version = match self.write(place, found.as_ref(), &new, value).await {
                Ok(Outcome::Applied) => new.version.unsigned_abs(),
                Ok(Outcome::Lost) => continue,
                Err(failed @ Failed::ForGood(_)) => return Err(failed.into()),
                Err(failed) => {
                    pauses.before_trying_again(failed).await?;
                    match self.settle(place, found.as_ref(), &mark).await? {
                        Ended::Done(version) => version,
                        Ended::NotDone => continue,
                    }
                }
            };
            if let Some(old) = found {
                self.drop_parts(old.mark(), old.parts).await;
            }
            return Ok(version);
        }
    }

    async fn removed(&self, place: &Place<'_>, old: &Head) -> Result<Outcome, Failed> {
        let (tenant, kind, bucket, key) = place.values();
        let values = (tenant, kind, bucket, key, old.version, &old.marks);
        applied(self.session.execute_unpaged(&self.rows(place).delete, values).await?)
    }

    /// The rows of one bucket that a scan wants.
    async fn scan_bucket(
        &self,
        (tenant, table, bucket): (TenantId, Table, i16),
        range: &Range,
        limit: i32,
    ) -> Result<Vec<(String, Head, Vec<u8>)>, Failed> {
        let scan = &self.statements.of(table).scan;
        let statement = &scan[usize::from(!range.inclusive)][usize::from(range.to.is_some())];
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
        let row = |(key, version, marks, parts, value)| (key, Head { version, marks, parts }, value);
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
    if let Some(tls) = &settings.tls {
        builder = builder.tls_context(Some(tls::config(tls)?));
    }
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

/// Tries again what fails in passing, for so long, and what may be done twice without harm.
async fn again<T, F: Future<Output = Result<T, Failed>>>(
    retry_for: Duration,
    work: impl Fn() -> F,
) -> Result<T, Failed> {
    let mut pauses = Pauses::new(retry_for);
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(failed) => pauses.before_trying_again(failed).await?,
        }
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

    async fn before_trying_again(&mut self, failed: Failed) -> Result<(), Failed> {
        if matches!(failed, Failed::ForGood(_)) || Instant::now() >= self.until {
            return Err(failed);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const OURS: [u8; MARK_BYTES] = [1; MARK_BYTES];

    fn after(found: Option<&Head>, writes: u8) -> Head {
        let mut head = next(found, [100; MARK_BYTES]);
        for n in 1..writes {
            head = next(Some(&head), [100 + n; MARK_BYTES]);
        }
        head
    }

    fn next(found: Option<&Head>, mark: [u8; MARK_BYTES]) -> Head {
        Head::next(found, Expect::Any.next(version_of(found)), mark, 0)
    }

    #[test]
    fn a_writer_that_was_not_answered_finds_its_write_among_the_last_few() {
        let before = after(None, 3);
        let ours = next(Some(&before), OURS);
        for later in 1..MARKS_MAX as u8 {
            let now = after(Some(&ours), later);
            assert_eq!(Head::outcome(Some(&now), Some(&before), &OURS), Some(Ended::Done(4)), "{later} later");
        }
        assert_eq!(Head::outcome(Some(&ours), Some(&before), &OURS), Some(Ended::Done(4)));
    }

    #[test]
    fn a_write_that_was_not_done_is_known_while_few_came_after_and_unknown_then() {
        let before = after(None, 3);
        assert_eq!(Head::outcome(Some(&before), Some(&before), &OURS), Some(Ended::NotDone));
        assert_eq!(Head::outcome(None, None, &OURS), Some(Ended::NotDone));
        for (others, known) in [(1, true), (8, true), (9, false)] {
            let now = after(Some(&before), others);
            assert_eq!(Head::outcome(Some(&now), Some(&before), &OURS), known.then_some(Ended::NotDone), "{others}");
        }
        assert_eq!(Head::outcome(None, Some(&before), &OURS), None, "removed, before or after");
        assert_eq!(Head::outcome(Some(&after(None, 1)), Some(&before), &OURS), None, "removed and made again");
    }

    #[test]
    fn every_kind_of_row_has_a_number_of_its_own_and_its_keys_fall_into_its_buckets() {
        let kinds: BTreeSet<i8> = Table::ALL.into_iter().map(kind).collect();
        assert!(kinds.len() == Table::ALL.len() && kinds.iter().all(|kind| *kind > 0));
        for table in Table::ALL {
            let bucket = |n: u8| Place::of(TenantId::SYSTEM, table, &n.to_string()).bucket;
            let used: BTreeSet<i16> = (0..=255).map(bucket).collect();
            assert_eq!(used, (0..buckets(table)).collect::<BTreeSet<i16>>(), "{table:?}");
        }
    }

    #[test]
    fn a_row_keeps_few_marks() {
        assert_eq!(after(None, 50).marks.len(), MARK_BYTES * MARKS_MAX);
    }
}
