//! The cursors of a partition: which one is taken to go where.

use super::Reading;
use crate::log::LogError;
use crate::log::kafka::cursor::Cursor;
use crate::log::kafka::place::Place;

/// Between two places that are no farther apart, reading on is faster than searching.
const SEARCH_DOWN_TO: i64 = 32;
/// Idle cursors of a partition that are not taken to go elsewhere.
const IDLE_LEFT: usize = 2;

impl Reading {
    /// A cursor in front of the message that holds an item, or somewhat before it.
    pub(super) fn cursor_for(&self, item: u64) -> Result<Cursor, LogError> {
        let (low, high) = {
            let known = self.known.lock();
            (known.floor(item), known.ceiling(item))
        };
        let near = |at: Place| at.message >= low.message && high.message - at.message <= SEARCH_DOWN_TO;
        if let Some(cursor) = self.take_idle(|at| at.items == item || (at.items <= item && near(at))) {
            return Ok(cursor);
        }
        let mut cursor = self.any_cursor(low)?;
        let at = self.search(&mut cursor, item, low, high)?;
        cursor.go_to(&self.clients, at)?;
        Ok(cursor)
    }

    /// Comes nearer to an item by the anchors between two places.
    fn search(&self, cursor: &mut Cursor, item: u64, mut low: Place, mut high: Place) -> Result<Place, LogError> {
        while high.message - low.message > SEARCH_DOWN_TO {
            let middle = low.message + (high.message - low.message) / 2;
            match self.anchor_of(cursor, middle)? {
                Some(anchor) if anchor.items > item => high = anchor,
                Some(anchor) if anchor.message > low.message => low = anchor,
                _ => break,
            }
        }
        self.learn(|known| known.anchored(low));
        Ok(low)
    }

    /// A cursor at a place.
    pub(super) fn cursor_at(&self, at: Place) -> Result<Cursor, LogError> {
        match self.take_idle(|idle| idle.message == at.message) {
            Some(cursor) => Ok(cursor),
            None => self.any_cursor(at),
        }
    }

    /// A cursor at a place, for who looks there: rather the one that looked last than another.
    pub(super) fn cursor_to_look(&self, at: Place) -> Result<Cursor, LogError> {
        let there = self.take_idle(|idle| idle.message == at.message);
        match there.or_else(|| self.looker.lock().take()) {
            Some(mut cursor) => cursor.go_to(&self.clients, at).map(|()| cursor),
            None => self.any_cursor(at),
        }
    }

    /// A cursor that goes to a place. The first two of a partition are left to who reads on there.
    pub(super) fn any_cursor(&self, at: Place) -> Result<Cursor, LogError> {
        let many = self.clients.idle_of(self.topic, self.partition) > IDLE_LEFT;
        match self.clients.take_idle(self.topic, self.partition, |_| many) {
            Some(mut cursor) => cursor.go_to(&self.clients, at).map(|()| cursor),
            None => Cursor::new(&self.clients, self.topic, self.partition, at),
        }
    }

    /// The idle cursor that is farthest of those that can be used, the one that looked last among them.
    fn take_idle(&self, usable: impl Fn(Place) -> bool) -> Option<Cursor> {
        let mut looker = self.looker.lock();
        let at = looker.as_ref().map(|cursor| cursor.at).filter(|at| usable(*at));
        let farther = |place: Place| usable(place) && at.is_none_or(|at| place.message > at.message);
        let idle = self.clients.take_idle(self.topic, self.partition, farther);
        idle.or_else(|| at.and_then(|_| looker.take()))
    }

    pub(super) fn put_back(&self, cursor: Cursor) {
        self.clients.keep_idle(cursor);
    }
}
