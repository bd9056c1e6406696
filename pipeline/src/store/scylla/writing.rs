//! Writing rows, each on the condition that it is as it was found.

use scylla::response::query_result::QueryResult;
use xxhash_rust::xxh3::xxh3_64;

use super::error::Failed;
use super::head::{Ended, Head, MARK_BYTES, version_of};
use super::pauses::Pauses;
use super::place::Place;
use super::{QUEUES, ScyllaStore};
use crate::store::{Expect, StoreError};

/// How a conditional write ended.
pub(super) enum Outcome {
    /// It was done.
    Applied,
    /// The row was another by then.
    Lost,
}

impl ScyllaStore {
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
    pub(super) async fn turn(&self, place: &Place<'_>) -> tokio::sync::MutexGuard<'_, ()> {
        let mut partition = place.tenant.to_vec();
        partition.push(place.kind.unsigned_abs());
        partition.extend_from_slice(&place.bucket.to_be_bytes());
        self.queues[xxh3_64(&partition) as usize % QUEUES].lock().await
    }

    /// Writes a row whose parts are there. Every try has the same mark, so that none is taken for another's and none counts
    /// twice.
    pub(super) async fn put_row(
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

    pub(super) async fn removed(&self, place: &Place<'_>, old: &Head) -> Result<Outcome, Failed> {
        let (tenant, kind, bucket, key) = place.values();
        let values = (tenant, kind, bucket, key, old.version, &old.marks);
        applied(self.session.execute_unpaged(&self.rows(place).delete, values).await?)
    }
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
