//! The states of a partition's streams: a cache over `Store`, under one budget in bytes.
//!
//! A state is one snapshot, and a row for each lane that was not read lately: so what is written after a round depends on
//! what the round read, not on how many files the stream ever had. A lane goes to its row only once a snapshot on disk
//! has it, unchanged; a snapshot's lane counts before its row. So whatever a crash leaves is one state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use schemas::{Lane, StreamId, Topic};
use serde::Deserialize;

use super::ProcessError;
use super::checkpoint::{check_place, overtaken};
use crate::log::Log;
use crate::step::{LaneState, StreamState};
use crate::store::{Expect, Row, Store, Table};

/// What states in memory may count together.
pub(super) const STATES_BYTES: usize = 32 << 20;
/// What a state counts in memory, measured in its snapshot's bytes: a path of 25 bytes has a node of 150.
const MEMORY_OF_SNAPSHOT: usize = 6;
/// Lanes that stay in a snapshot.
const LANES_KEPT: usize = 64;
/// Rows of lanes read at once.
const PAGE: usize = 1000;

struct Cached {
    state: StreamState,
    /// Version of the snapshot's row; 0 when there is none.
    version: u64,
    /// The first input that the snapshot on disk does not cover.
    written: u64,
    bytes: usize,
    used: u64,
    is_touched: bool,
}

/// The states of the streams of one partition.
pub(super) struct States {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    partition: u32,
    budget: usize,
    cached: HashMap<StreamId, Cached>,
    turn: u64,
}

impl States {
    pub(super) fn new(log: Arc<dyn Log>, store: Arc<dyn Store>, partition: u32) -> Self {
        Self { log, store, partition, budget: STATES_BYTES, cached: HashMap::new(), turn: 0 }
    }

    #[cfg(test)]
    pub(super) fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// Streams in memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cached.len()
    }

    /// Forgets everything that is not written.
    pub(super) fn clear(&mut self) {
        self.cached.clear();
    }

    /// A stream's state, read from the store if need be.
    pub(super) async fn get(&mut self, stream: &StreamId) -> Result<&mut StreamState, ProcessError> {
        self.turn += 1;
        let read = match self.cached.remove(stream) {
            Some(cached) => cached,
            None => self.read(stream).await?,
        };
        let cached = self.cached.entry(stream.clone()).or_insert(read);
        cached.used = self.turn;
        Ok(&mut cached.state)
    }

    /// The same to fold a batch into, with what it says of the batch's lane.
    pub(super) async fn get_to_fold(
        &mut self,
        stream: &StreamId,
        lane: Option<Lane>,
    ) -> Result<&mut StreamState, ProcessError> {
        let state = self.get(stream).await?;
        let next = state.next.offset;
        let missing = lane.filter(|lane| !state.lanes.contains_key(lane));
        let found = match missing {
            Some(lane) => read_lane(&*self.store, stream, lane).await?.map(|(_, place)| (lane, place)),
            None => None,
        };
        // A lane goes to its row once a snapshot has it. Behind what this state covers another processor has put it there, and
        // what this one would make of it is no fold of the inputs.
        if let Some((lane, place)) = &found
            && place.at >= next
        {
            return Err(ProcessError::Overtaken(format!("lane {lane} of stream {stream}")));
        }
        let cached = self.cached.get_mut(stream).expect("it was read just above");
        cached.is_touched = true;
        cached.state.lanes.extend(found);
        Ok(&mut cached.state)
    }

    async fn read(&self, stream: &StreamId) -> Result<Cached, ProcessError> {
        let row = self.store.get(stream.tenant, Table::StreamStates, &stream.to_string()).await?;
        let (state, version, bytes) = match row {
            Some(row) => (decode(stream, &row)?, row.version, row.value.len()),
            None => (StreamState::new(stream.clone(), self.partition, self.log.epoch(Topic::Inputs)), 0, 0),
        };
        let what = || format!("the state of stream {stream}");
        if state.next.partition != self.partition {
            let message = format!("it is of partition {} and not of {}", state.next.partition, self.partition);
            return Err(ProcessError::State { stream: stream.to_string(), message });
        }
        let place = (state.next.epoch, state.next.offset);
        check_place(&*self.log, Topic::Inputs, self.partition, place, what).await?;
        Ok(Cached { written: state.next.offset, state, version, bytes, used: 0, is_touched: false })
    }

    /// Writes back what changed, then forgets what was not used for longest.
    pub(super) async fn write(&mut self) -> Result<(), ProcessError> {
        for (stream, cached) in self.cached.iter_mut().filter(|(_, cached)| cached.is_touched) {
            put_lanes_away(&*self.store, stream, cached).await?;
            let snapshot = cached.state.snapshot();
            let (bytes, key) = (snapshot.len(), stream.to_string());
            let expect = Expect::Ordered(cached.version);
            let written = self.store.put(stream.tenant, Table::StreamStates, &key, snapshot.into(), expect).await;
            cached.version = written.map_err(|e| overtaken(e, &format!("the state of stream {stream}")))?;
            (cached.bytes, cached.written, cached.is_touched) = (bytes, cached.state.next.offset, false);
        }
        self.evict();
        Ok(())
    }

    fn evict(&mut self) {
        let size = |cached: &Cached| cached.bytes * MEMORY_OF_SNAPSHOT;
        let mut bytes: usize = self.cached.values().map(size).sum();
        if bytes <= self.budget {
            return;
        }
        let mut by_use: Vec<_> = self.cached.iter().map(|(stream, c)| (c.used, size(c), stream.clone())).collect();
        by_use.sort();
        for (_, size, stream) in by_use {
            if bytes <= self.budget {
                break;
            }
            self.cached.remove(&stream);
            bytes -= size;
        }
    }
}

/// Moves the lanes that were not read lately to their rows.
async fn put_lanes_away(store: &dyn Store, stream: &StreamId, cached: &mut Cached) -> Result<(), ProcessError> {
    let lanes = &mut cached.state.lanes;
    let Some(surplus) = lanes.len().checked_sub(LANES_KEPT).filter(|n| *n > 0) else { return Ok(()) };
    // Only what the snapshot on disk has as it is now.
    let mut oldest: Vec<_> = lanes.iter().filter(|(_, l)| l.at < cached.written).map(|(l, s)| (s.at, *l)).collect();
    oldest.sort();
    for (_, lane) in oldest.into_iter().take(surplus) {
        let place = &lanes[&lane];
        let found = read_lane(store, stream, lane).await?;
        let (version, is_older) = found.as_ref().map_or((0, true), |(version, row)| (*version, row.at <= place.at));
        let what = || format!("lane {lane} of stream {stream}");
        if !is_older {
            return Err(ProcessError::Overtaken(what()));
        }
        let value = serde_json::to_vec(place).expect("a lane's place has only text keys").into();
        let put =
            store.put(stream.tenant, Table::Lanes, &lane_key(stream, lane), value, Expect::Ordered(version)).await;
        put.map_err(|e| overtaken(e, &what()))?;
        lanes.remove(&lane);
    }
    Ok(())
}

fn lane_key(stream: &StreamId, lane: Lane) -> String {
    format!("{stream}/{lane}")
}

/// A lane's place as the processor last wrote it, wherever it stands.
pub(crate) async fn read_place(
    store: &dyn Store,
    stream: &StreamId,
    lane: Lane,
) -> Result<Option<LaneState>, ProcessError> {
    /// Of a snapshot the lanes alone: all else is passed over, which is a fraction of reading it.
    #[derive(Deserialize)]
    struct Lanes {
        lanes: BTreeMap<Lane, LaneState>,
    }
    if let Some(row) = store.get(stream.tenant, Table::StreamStates, &stream.to_string()).await? {
        let mut snapshot: Lanes = serde_json::from_slice(&row.value).map_err(|e| unreadable(stream, &e))?;
        if let Some(place) = snapshot.lanes.remove(&lane) {
            return Ok(Some(place));
        }
    }
    Ok(read_lane(store, stream, lane).await?.map(|(_, place)| place))
}

/// A lane's place where it has a row of its own, with the row's version.
async fn read_lane(store: &dyn Store, stream: &StreamId, lane: Lane) -> Result<Option<(u64, LaneState)>, ProcessError> {
    let row = store.get(stream.tenant, Table::Lanes, &lane_key(stream, lane)).await?;
    row.map(|row| Ok((row.version, decode_lane(stream, &row)?))).transpose()
}

fn decode_lane(stream: &StreamId, row: &Row) -> Result<LaneState, ProcessError> {
    serde_json::from_slice(&row.value).map_err(|e| unreadable(stream, &e))
}

fn decode(stream: &StreamId, row: &Row) -> Result<StreamState, ProcessError> {
    StreamState::from_snapshot(&row.value).map_err(|e| unreadable(stream, &e))
}

fn unreadable(stream: &StreamId, error: &serde_json::Error) -> ProcessError {
    ProcessError::State { stream: stream.to_string(), message: error.to_string() }
}

/// Reads a stream's state as the processor last wrote it, of its lanes only those read lately.
pub async fn read_snapshot(store: &dyn Store, stream: &StreamId) -> Result<Option<StreamState>, ProcessError> {
    let row = store.get(stream.tenant, Table::StreamStates, &stream.to_string()).await?;
    row.map(|row| decode(stream, &row)).transpose()
}

/// Reads a stream's state as the processor last wrote it, with every lane.
pub async fn read_state(store: &dyn Store, stream: &StreamId) -> Result<Option<StreamState>, ProcessError> {
    let Some(mut state) = read_snapshot(store, stream).await? else { return Ok(None) };
    let prefix = format!("{stream}/");
    let mut after: Option<String> = None;
    loop {
        let rows = store.scan(stream.tenant, Table::Lanes, &prefix, after.as_deref(), PAGE).await?;
        let Some((last, _)) = rows.last() else { return Ok(Some(state)) };
        after = Some(last.clone());
        for (key, row) in &rows {
            if let Ok(lane) = key[prefix.len()..].parse() {
                let place = decode_lane(stream, row)?;
                state.lanes.entry(lane).or_insert(place);
            }
        }
    }
}
