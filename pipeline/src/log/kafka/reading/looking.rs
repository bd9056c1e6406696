//! Looking for what is new, for those who wait for it.

use std::time::Instant;

use super::{LOOK, Reading, SILENCE};
use crate::log::LogError;
use crate::log::kafka::cursor::Cursor;
use crate::log::kafka::place::Place;

impl Reading {
    pub(super) fn look_at(&self, from: Place) -> Result<(), LogError> {
        let mut cursor = self.cursor_to_look(from)?;
        if cursor.peek(&self.clients, LOOK)?.is_some() || self.is_overdue(&mut cursor, from)? {
            *self.heard.lock() = Instant::now();
            // It is counted here and stays in front of the cursor, for the reader who waits for it.
            if let Some((before, taken)) = self.take_counted(&mut cursor, 0)? {
                cursor.give_back(before, taken);
            }
        }
        let before = self.looker.lock().replace(cursor);
        if let Some(before) = before {
            self.put_back(before);
        }
        Ok(())
    }

    /// Makes sure, where nothing came for long, that there is nothing; what is there is waited for. Whether it came.
    fn is_overdue(&self, cursor: &mut Cursor, from: Place) -> Result<bool, LogError> {
        if self.heard.lock().elapsed() <= SILENCE {
            return Ok(false);
        }
        match self.clients.watermarks(self.topic, self.partition) {
            Ok((_, high)) if high > cursor.at.message => {
                if self.wait(cursor)? {
                    return Ok(true);
                }
                self.passed(cursor.at);
            }
            Ok((_, high)) if high < from.message => drop(self.high()?),
            Ok(_) => cursor.silent_since = Instant::now(),
            Err(error) if error.is_retryable() => tracing::warn!(%error, "waiting for Kafka"),
            Err(error) => return Err(error),
        }
        *self.heard.lock() = Instant::now();
        Ok(false)
    }
}
