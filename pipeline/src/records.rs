//! Records as they stand on `inputs`, found again by their offsets.

use bytes::Bytes;
use schemas::reason::Reason;
use schemas::record::RecordBatchReader;
use schemas::{BatchKind, Op, Record, StreamId, Topic, Version};

use crate::log::{Log, LogError, Stored};
use crate::process::stream_of;

const READ_BYTES: usize = 1 << 20;
/// Offsets that the first look back covers; each further one covers four times as many.
const LOOK_BACK: u64 = 256;
/// A look back ends after so many bytes, whatever it found.
const LOOK_BACK_BYTES_MAX: usize = 64 << 20;

/// A record that was read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it stands.
    pub offset: u64,
    /// Where it first entered.
    pub origin: u64,
    /// When the log took it, in microseconds since 1970 UTC.
    pub logged_at: i64,
    /// What happened.
    pub op: Op,
    /// The key, where the source itself gave one.
    pub key: Option<String>,
    /// The version, where the source itself gave one.
    pub version: Version,
    /// Why the connector could not read it.
    pub defect: Option<Reason>,
    /// Its bytes, as the connector gave them.
    pub payload: Bytes,
}

impl Found {
    /// The record at this place of a lane.
    pub fn record(&self, ordinal: u64) -> Record<'_> {
        let Self { op, key, version, defect, payload, .. } = self;
        Record { ordinal, op: *op, key: key.as_deref(), version: version.clone(), defect: *defect, payload }
    }
}

/// The records of a batch, with where they stand; none of one whose tenant is forgotten.
fn records_of(
    stored: &Stored,
    partition: u32,
    is_wanted: impl Fn(u64) -> bool,
    take: &mut impl FnMut(Found),
) -> Result<(), LogError> {
    let header = stored.header();
    if !matches!(header.kind, BatchKind::Records | BatchKind::Redriven) {
        return Ok(());
    }
    let Some(body) = stored.body(Topic::Inputs, partition)? else { return Ok(()) };
    // A body that does not follow its codec stops the processor, which says so.
    let Ok(mut reader) = RecordBatchReader::new(&body) else { return Ok(()) };
    for offset in stored.first..stored.end() {
        let Ok(Some(record)) = reader.next_record() else { break };
        if is_wanted(offset) {
            take(Found {
                offset,
                origin: reader.origin.unwrap_or(offset),
                logged_at: header.logged_at,
                op: record.op,
                key: record.key.map(str::to_owned),
                version: record.version,
                defect: record.defect,
                payload: Bytes::copy_from_slice(record.payload),
            });
        }
    }
    Ok(())
}

/// The records at these offsets, which rise; those that are no records are left out.
pub async fn at(log: &dyn Log, partition: u32, offsets: &[u64]) -> Result<Vec<Found>, LogError> {
    next(log, partition, &mut &offsets[..], usize::MAX).await
}

/// The records at the first of the offsets that are `left`, which rise: so many that they have about `bytes` together. Those
/// that are no records are left out.
pub async fn next(log: &dyn Log, partition: u32, left: &mut &[u64], bytes: usize) -> Result<Vec<Found>, LogError> {
    let (mut found, mut size) = (Vec::new(), 0);
    while let Some(first) = left.first() {
        let batches = log.read(Topic::Inputs, partition, *first, READ_BYTES).await?;
        let Some(end) = batches.last().map(Stored::end) else {
            *left = &[];
            break;
        };
        for stored in &batches {
            if size >= bytes {
                return Ok(found);
            }
            let here = left.partition_point(|wanted| *wanted < stored.end());
            let (wanted, rest) = left.split_at(here);
            *left = rest;
            if !wanted.is_empty() {
                let is_wanted = |offset| wanted.binary_search(&offset).is_ok();
                records_of(stored, partition, is_wanted, &mut |record| {
                    size += record.payload.len();
                    found.push(record);
                })?;
            }
        }
        *left = &left[left.partition_point(|wanted| *wanted < end)..];
        if size >= bytes {
            break;
        }
    }
    Ok(found)
}

/// The last records of a stream that entered below `before`, in their order: at most `count`, and fewer where they would
/// have to be looked for too far back.
pub async fn before(
    log: &dyn Log,
    stream: &StreamId,
    partition: u32,
    before: u64,
    count: usize,
) -> Result<Vec<Found>, LogError> {
    let (mut end, mut span, mut bytes) = (before, LOOK_BACK, 0);
    let mut found: Vec<Found> = Vec::new();
    while end > 0 && found.len() < count && bytes < LOOK_BACK_BYTES_MAX {
        let start = end.saturating_sub(span);
        let (mut next, mut here) = (start, Vec::new());
        while next < end {
            let batches = log.read(Topic::Inputs, partition, next, READ_BYTES).await?;
            let Some(behind) = batches.last().map(Stored::end) else { break };
            for stored in batches.iter().filter(|s| s.first < end && s.header().kind == BatchKind::Records) {
                bytes += stored.packed.packed_bytes();
                if stream_of(stored.header()).as_ref() == Some(stream) {
                    records_of(stored, partition, |o| (start..end).contains(&o), &mut |record| here.push(record))?;
                }
                let surplus = here.len().saturating_sub(count);
                here.drain(..surplus);
            }
            next = behind;
        }
        here.append(&mut found);
        found = here;
        (end, span) = (start, span * 4);
    }
    let surplus = found.len().saturating_sub(count);
    found.drain(..surplus);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ENTITY, Line, MAPPING, record, stream};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn records_are_found_by_their_offsets_and_the_last_ones_of_a_stream_before_an_offset() {
        let line = Line::new();
        let orders = line.open("orders", MAPPING, ENTITY).await;
        let bills = line.open("bills", MAPPING, ENTITY).await;
        for id in 0..400 {
            line.append(&orders, 1, id, &[&record(id)]).await;
            line.append(&bills, 2, id * 2, &["1", "2"]).await;
        }
        let end = line.log.end(Topic::Inputs, 0).await.unwrap();
        let last = before(&*line.log, &stream("orders"), 0, end, 300).await.unwrap();
        let texts: Vec<String> = last.iter().map(|f| String::from_utf8(f.payload.to_vec()).unwrap()).collect();
        assert_eq!(texts, (100..400).map(record).collect::<Vec<_>>());
        let offsets: Vec<u64> = last.iter().map(|f| f.offset).collect();
        assert_eq!(at(&*line.log, 0, &offsets).await.unwrap(), last);
        let early = before(&*line.log, &stream("orders"), 0, offsets[1], 1).await.unwrap();
        assert_eq!(early, last[..1]);
        let nothing = at(&*line.log, 0, &[0, 1, end + 7]).await.unwrap();
        assert_eq!(nothing, [], "definitions are no records");
    }
}
