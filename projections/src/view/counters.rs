//! What became of each stream's rows in a view.

use schemas::ids::{ConnectionName, StreamName};

/// Totals of one stream in one view since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamCounts {
    /// Accepted rows that became visible.
    pub applied: u64,
    /// Rows that were older than what was there when they came.
    pub late: u64,
    /// Rows that were there and gave way to a newer one.
    pub replaced: u64,
    /// Deletes that took effect.
    pub deleted: u64,
    /// Rows that were there already, with the same order key or below the mark.
    pub repeated: u64,
}

/// A stream's totals, and the runs that watch it.
#[derive(Debug)]
pub struct StreamFates {
    /// The connection.
    pub connection: ConnectionName,
    /// The stream.
    pub stream: StreamName,
    /// The totals.
    pub counts: StreamCounts,
    watches: Vec<Watch>,
}

#[derive(Debug)]
struct Watch {
    id: u64,
    from: u64,
    superseded: u64,
}

impl StreamFates {
    /// A row of the input at `position` lost or gave way.
    #[inline]
    pub fn superseded(&mut self, position: u64) {
        for watch in &mut self.watches {
            watch.superseded += u64::from(position >= watch.from);
        }
    }
}

/// The fates of all streams of a view.
#[derive(Debug, Default)]
pub struct Fates {
    streams: Vec<StreamFates>,
    next_watch: u64,
}

impl Fates {
    /// A stream's place in the list.
    pub fn stream(&mut self, connection: &ConnectionName, stream: &StreamName) -> usize {
        let at = self.streams.iter().position(|s| s.connection == *connection && s.stream == *stream);
        at.unwrap_or_else(|| {
            let (connection, stream) = (connection.clone(), stream.clone());
            self.streams.push(StreamFates { connection, stream, counts: StreamCounts::default(), watches: Vec::new() });
            self.streams.len() - 1
        })
    }
    /// The stream at a place.
    pub fn at(&mut self, at: usize) -> &mut StreamFates {
        &mut self.streams[at]
    }
    /// Counts, from now on, rows of inputs from `from` on that lose or give way.
    pub fn watch(&mut self, connection: &ConnectionName, stream: &StreamName, from: u64) -> u64 {
        let at = self.stream(connection, stream);
        self.next_watch += 1;
        self.streams[at].watches.push(Watch { id: self.next_watch, from, superseded: 0 });
        self.next_watch
    }
    /// What a watch has counted.
    pub fn watched(&self, id: u64) -> Option<u64> {
        self.streams.iter().flat_map(|s| &s.watches).find(|w| w.id == id).map(|w| w.superseded)
    }
    /// Whether there is any watch.
    pub fn is_watched(&self) -> bool {
        self.streams.iter().any(|s| !s.watches.is_empty())
    }
    /// Ends a watch and answers what it has counted.
    pub fn unwatch(&mut self, id: u64) -> Option<u64> {
        let counted = self.watched(id);
        self.streams.iter_mut().for_each(|s| s.watches.retain(|w| w.id != id));
        counted
    }
    /// The totals of every stream.
    pub fn counts(&self) -> Vec<(ConnectionName, StreamName, StreamCounts)> {
        self.streams.iter().map(|s| (s.connection.clone(), s.stream.clone(), s.counts)).collect()
    }
}
