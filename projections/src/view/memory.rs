//! What views hold in memory: one count that all of them and their flushes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that all charges on it hold.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<AtomicUsize>);

impl Memory {
    /// Bytes held now, about.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
    /// A charge of nothing yet.
    pub fn charge(&self) -> Charge {
        Charge { memory: self.clone(), bytes: 0 }
    }
}

/// What one holder has of a [`Memory`]; given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    memory: Memory,
    bytes: usize,
}

impl Charge {
    /// The holder holds so many bytes now.
    pub fn set(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.memory.0.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.memory.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_holder_has_is_given_back_when_it_goes() {
        let memory = Memory::default();
        let (mut first, mut second) = (memory.charge(), memory.charge());
        first.set(10);
        second.set(5);
        first.set(3);
        assert_eq!(memory.bytes(), 8);
        drop(first);
        assert_eq!(memory.bytes(), 5);
    }
}
