//! Work that ended in a panic, and was caught.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often work for the line ended in a panic since the process began.
#[derive(Debug, Default)]
pub struct Panics(AtomicU64);

impl Panics {
    /// One more.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    /// How many so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
