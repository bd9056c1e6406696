//! The log's part of a move.

use std::collections::BTreeSet;

use schemas::{Batch, TenantId, Topic};

use super::{MigrateError, Part, Progress, Sum};
use crate::log::{Log, LogError};

/// Packed bytes that are read, and appended as one, at a time.
const READ_BYTES: usize = 1 << 20;

/// Whether no partition has an item.
pub(super) async fn is_empty(log: &dyn Log) -> Result<bool, LogError> {
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            if log.end(topic, partition).await? > 0 {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Moves what a partition has behind the end of its target.
pub(super) async fn copy(
    from: &dyn Log,
    to: &dyn Log,
    (topic, partition): (Topic, u32),
    told: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), MigrateError> {
    // Its end would be the one before the damage.
    from.damage(topic, partition).map_or(Ok(()), Err)?;
    let name = name(topic, partition);
    let (end, mut next) = (from.end(topic, partition).await?, to.end(topic, partition).await?);
    let foreign = |offset| MigrateError::Foreign { topic, partition, offset };
    if next > end {
        return Err(foreign(end));
    }
    while next < end {
        let read = from.read(topic, partition, next, READ_BYTES).await?;
        let (Some(first), Some(last)) = (read.first(), read.last()) else {
            return Err(LogError::Missing { topic, partition, offset: next }.into());
        };
        if first.first != next {
            return Err(foreign(first.first));
        }
        let batches: Result<Vec<Batch>, LogError> = read.iter().map(|s| s.as_it_lies(topic, partition)).collect();
        let taken = to.adopt(topic, partition, batches?).await?;
        if taken.first() != Some(&next) {
            return Err(foreign(next));
        }
        next = last.end();
        told(Progress { name: &name, done: next, total: Some(end) });
    }
    Ok(())
}

/// Counts and hashes a partition from its beginning, and notes whose it is.
pub(super) async fn sum(
    log: &dyn Log,
    (topic, partition): (Topic, u32),
    tenants: &mut BTreeSet<TenantId>,
) -> Result<Part, LogError> {
    let end = log.end(topic, partition).await?;
    let (mut sum, mut next) = (Sum::new(), 0);
    while next < end {
        let read = log.read(topic, partition, next, READ_BYTES).await?;
        for stored in &read {
            let batch = stored.as_it_lies(topic, partition)?;
            tenants.insert(batch.header.tenant);
            add(&mut sum, stored.first, &batch);
        }
        next = read.last().ok_or(LogError::Missing { topic, partition, offset: next })?.end();
    }
    Ok(Part { name: name(topic, partition), count: next, hash: sum.finish() })
}

fn name(topic: Topic, partition: u32) -> String {
    format!("{topic}/{partition}")
}

/// Adds a batch: its place, all of its header, and its body as it lies.
fn add(sum: &mut Sum, first: u64, batch: &Batch) {
    let header = &batch.header;
    sum.number(first);
    sum.number(header.kind as u64);
    sum.bytes(&header.tenant.to_bytes());
    sum.bytes(header.subject.as_bytes());
    sum.number(header.count.into());
    sum.bytes(&header.logged_at.to_be_bytes());
    sum.number(header.key_id.into());
    sum.bytes(header.trace.map(|trace| trace.to_string()).unwrap_or_default().as_bytes());
    sum.bytes(&batch.body);
}
