//! A watch on the committer: a write that does not come back must not let everybody wait for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::shared::Shared;

/// How often in a deadline the watch looks.
const LOOKS: u32 = 8;

/// Since when the committer writes, in milliseconds since the watch began and one more; 0 when it does not.
struct Since {
    started: Instant,
    millis: AtomicU64,
}

/// The committer's end: it says when it begins and ends to write. Dropping it says that the committer has ended.
pub(super) struct Busy {
    since: Arc<Since>,
    _ended: mpsc::Sender<()>,
}

impl Busy {
    pub(super) fn begin(&self) {
        let millis = self.since.started.elapsed().as_millis() as u64 + 1;
        self.since.millis.store(millis, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.since.millis.store(0, Ordering::Release);
    }
}

/// The watch. Its thread ends when this is dropped.
pub(super) struct StallWatch {
    since: Arc<Since>,
    deadline: Duration,
    ended: Mutex<mpsc::Receiver<()>>,
    _stop: mpsc::Sender<()>,
}

impl StallWatch {
    pub(super) fn start(shared: &Arc<Shared>, deadline: Duration) -> std::io::Result<(Self, Busy)> {
        let since = Arc::new(Since { started: Instant::now(), millis: AtomicU64::new(0) });
        let (busy, ended) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        // Weak, so that the folder is free as soon as the engine is dropped.
        let (watched, shared) = (since.clone(), Arc::downgrade(shared));
        let watch = move || {
            while stopped.recv_timeout(deadline / LOOKS) == Err(mpsc::RecvTimeoutError::Timeout) {
                let Some(shared) = watched.hangs(deadline).then(|| shared.upgrade()) else { continue };
                if let Some(shared) = shared {
                    shared.fail(&format!(
                        "a write to disk did not end within {} s: see whether the disk works, and start again",
                        deadline.as_secs_f32()
                    ));
                }
                return;
            }
        };
        std::thread::Builder::new().name("committer-watch".into()).spawn(watch)?;
        let busy = Busy { since: since.clone(), _ended: busy };
        Ok((Self { since, deadline, ended: Mutex::new(ended), _stop: stop }, busy))
    }

    /// Waits for the committer to end; false when it hangs.
    pub(super) fn wait_for_end(&self) -> bool {
        loop {
            match self.ended.lock().recv_timeout(self.deadline / LOOKS) {
                Err(mpsc::RecvTimeoutError::Timeout) if self.since.hangs(self.deadline) => return false,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                _ => return true,
            }
        }
    }
}

impl Since {
    fn hangs(&self, deadline: Duration) -> bool {
        let since = self.millis.load(Ordering::Acquire);
        since > 0 && self.started.elapsed() > Duration::from_millis(since) + deadline
    }
}

#[cfg(test)]
mod tests {
    use schemas::Topic;
    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::committer::{Queue, Work};
    use crate::engine::{Engine, Partitions};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_that_hangs_fails_the_engine_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::open(folder.path(), Partitions::default(), 1).unwrap());
        let queue = Queue::start(shared.clone(), Duration::from_millis(40)).unwrap();
        let engine = Engine { queue, shared: shared.clone() };
        let held = shared.gate.lock().await;
        let append = || {
            let (to, answer) = oneshot::channel();
            let batches = vec![(1, vec![1; 40 << 20].into())];
            (Work::Append { topic: Topic::Inputs, partition: 0, batches, durable: true, to }, answer)
        };
        let (first, answer) = append();
        engine.queue.push(first).await.unwrap();
        // The queue is full, so the second one waits for room.
        let (second, _) = append();
        assert!(engine.queue.push(second).await.is_err());
        assert!(engine.answered(answer).await.is_err());
        assert!(shared.check().is_err());
        tokio::task::spawn_blocking(move || drop(engine)).await.unwrap();
        drop(held);
    }
}
