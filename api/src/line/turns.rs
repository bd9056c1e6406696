//! One run of a stream at a time: what a run counts is the difference of the stream's totals.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use schemas::StreamId;
use tokio::sync::OwnedMutexGuard;

/// Who runs, by stream or what else has turns. Holds no more of them than there are runs under way, and those that ended
/// since the last began.
pub(crate) struct Turns<K = StreamId> {
    running: Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { running: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// Waits until no other run of it is under way, in the order of asking. The turn ends when it is dropped.
    pub(crate) async fn take(&self, key: &K) -> OwnedMutexGuard<()> {
        let turn = {
            let mut running = self.running.lock();
            running.retain(|_, turn| turn.strong_count() > 0);
            running.get(key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                running.insert(key.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use schemas::TenantId;

    use super::*;

    fn stream(name: &str) -> StreamId {
        let (connection, stream) = ("crm".parse().unwrap(), name.parse().unwrap());
        StreamId { tenant: TenantId::from_bytes([1; 16]), connection, stream }
    }

    #[tokio::test]
    async fn a_second_run_of_a_stream_waits_and_another_stream_does_not() {
        let turns = Turns::<StreamId>::default();
        let first = turns.take(&stream("a")).await;
        assert!(turns.take(&stream("a")).now_or_never().is_none());
        assert!(turns.take(&stream("b")).now_or_never().is_some());
        drop(first);
        assert!(turns.take(&stream("a")).now_or_never().is_some());
        drop(turns.take(&stream("c")).await);
        drop(turns.take(&stream("d")).await);
        assert_eq!(turns.running.lock().len(), 1, "turns that have ended are forgotten");
    }
}
