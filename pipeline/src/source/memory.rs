//! A source in memory: for tests, and for records that a process has already.

use std::collections::VecDeque;

use async_trait::async_trait;
use schemas::record::RecordBatchWriter;
use schemas::{Lane, Op, Record, Version};

use super::{LaneCursor, Source, SourceBatch, SourceError};

/// Payloads in memory, lane by lane.
#[derive(Debug)]
pub struct MemorySource {
    lanes: VecDeque<Unread>,
}

#[derive(Debug)]
struct Unread {
    lane: Lane,
    /// The ordinal of the last record that was read.
    ordinal: u64,
    payloads: VecDeque<Vec<u8>>,
}

impl MemorySource {
    /// What is left of these lanes behind the line's cursors. A lane's payloads have the ordinals 1, 2, 3, …
    pub fn new(lanes: Vec<(Lane, Vec<Vec<u8>>)>, cursors: &[LaneCursor]) -> Self {
        let unread = |(lane, payloads): (Lane, Vec<Vec<u8>>)| {
            let ordinal = cursors.iter().find(|cursor| cursor.lane == lane).map_or(0, |cursor| cursor.ordinal);
            let behind = usize::try_from(ordinal).unwrap_or(usize::MAX);
            Unread { lane, ordinal, payloads: payloads.into_iter().skip(behind).collect() }
        };
        Self { lanes: lanes.into_iter().map(unread).collect() }
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn next(&mut self, max_bytes: usize) -> Result<Option<SourceBatch>, SourceError> {
        while self.lanes.front().is_some_and(|unread| unread.payloads.is_empty()) {
            self.lanes.pop_front();
        }
        let Some(unread) = self.lanes.front_mut() else { return Ok(None) };
        let mut writer = RecordBatchWriter::new(unread.lane, unread.ordinal, 0);
        let mut source_bytes = 0;
        while let Some(payload) = unread.payloads.front() {
            if writer.count() > 0 && writer.bytes() + payload.len() > max_bytes {
                break;
            }
            let (ordinal, version) = (unread.ordinal + 1, Version::None);
            writer.push(&Record { ordinal, op: Op::Upsert, key: None, version, defect: None, payload });
            source_bytes += payload.len() as u64;
            unread.ordinal = ordinal;
            unread.payloads.pop_front();
        }
        let cursor = unread.ordinal.to_be_bytes();
        Ok(Some(SourceBatch { records: writer.finish(&cursor), source_bytes, declared: None }))
    }
}
