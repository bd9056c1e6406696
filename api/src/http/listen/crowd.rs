//! Who is connected: a bounded number of peers. When there is no more room, the one that has been idle longest makes some.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Everybody who is connected.
pub struct Crowd {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Counts on at every change, so that who became idle first is first in line.
    turn: u64,
    idle: BTreeMap<u64, Arc<Bell>>,
}

/// Wakes the task of one peer.
#[derive(Default)]
struct Bell {
    leave: Notify,
    changed: Notify,
    /// It was told to leave: its place is somebody else's. Changed under the crowd's lock.
    has_left: AtomicBool,
}

/// One peer's place; it is free again when this is dropped.
pub struct Peer {
    crowd: Arc<Crowd>,
    bell: Arc<Bell>,
    now: Mutex<Now>,
}

/// What a peer does.
struct Now {
    under_way: usize,
    /// Since when, and its place in line; none while a request is under way.
    idle: Option<(Instant, u64)>,
}

/// A request that is under way until this is dropped.
pub struct Busy(Arc<Peer>);

impl Crowd {
    /// Nobody, and room for so many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), state: Mutex::default() })
    }

    /// Lets one more in; when there is no room, the one that has been idle longest is told to leave. None when all are
    /// busy.
    pub fn enter(self: &Arc<Self>) -> Option<Arc<Peer>> {
        let bell = Arc::new(Bell::default());
        let mut state = self.state.lock();
        if state.open >= self.most {
            let (_, longest) = state.idle.pop_first()?;
            longest.has_left.store(true, Ordering::Relaxed);
            longest.leave.notify_one();
        } else {
            state.open += 1;
        }
        let idle = Some((Instant::now(), state.line_up(&bell)));
        Some(Arc::new(Peer { crowd: self.clone(), bell, now: Mutex::new(Now { under_way: 0, idle }) }))
    }
}

impl State {
    fn line_up(&mut self, bell: &Arc<Bell>) -> u64 {
        self.turn += 1;
        if !bell.has_left.load(Ordering::Relaxed) {
            self.idle.insert(self.turn, bell.clone());
        }
        self.turn
    }
}

impl Peer {
    /// Notes that a request is under way.
    pub fn begin(self: &Arc<Self>) -> Busy {
        let mut now = self.now.lock();
        now.under_way += 1;
        if let Some((_, turn)) = now.idle.take() {
            self.crowd.state.lock().idle.remove(&turn);
        }
        self.bell.changed.notify_one();
        Busy(self.clone())
    }

    /// Returns once it has to make room for somebody else.
    pub async fn must_leave(&self) {
        self.bell.leave.notified().await;
    }

    /// Returns once no request has been under way for so long.
    pub async fn is_idle_for(&self, long: std::time::Duration) {
        loop {
            let since = self.now.lock().idle.map(|(since, _)| since);
            match since {
                Some(since) if since.elapsed() >= long => return,
                Some(since) => tokio::select! {
                    () = tokio::time::sleep_until(since + long) => {}
                    () = self.bell.changed.notified() => {}
                },
                None => self.bell.changed.notified().await,
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut now = self.0.now.lock();
        now.under_way -= 1;
        if now.under_way == 0 {
            let turn = self.0.crowd.state.lock().line_up(&self.0.bell);
            now.idle = Some((Instant::now(), turn));
            self.0.bell.changed.notify_one();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut state = self.crowd.state.lock();
        if let Some((_, turn)) = self.now.get_mut().idle {
            state.idle.remove(&turn);
        }
        state.open -= usize::from(!self.bell.has_left.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    /// Who is connected, and who of them is idle.
    fn counts(crowd: &Crowd) -> (usize, usize) {
        let state = crowd.state.lock();
        (state.open, state.idle.len())
    }

    #[test]
    fn the_one_that_has_been_idle_longest_makes_room() {
        let crowd = Crowd::new(2);
        let (first, second) = (crowd.enter().unwrap(), crowd.enter().unwrap());
        let busy = first.begin();
        let third = crowd.enter().unwrap();
        assert!(second.must_leave().now_or_never().is_some(), "the first is busy");
        assert!(first.must_leave().now_or_never().is_none() && third.must_leave().now_or_never().is_none());
        // Even if it begins something in the same moment.
        drop(second.begin());
        drop(second);
        assert_eq!(counts(&crowd), (2, 1));
        drop(busy);
        drop(crowd.enter().unwrap());
        assert!(third.must_leave().now_or_never().is_some(), "idle for longer than the first");
    }

    #[test]
    fn nobody_enters_while_all_are_busy_and_who_leaves_makes_room() {
        let crowd = Crowd::new(1);
        let peer = crowd.enter().unwrap();
        let busy = peer.begin();
        assert!(crowd.enter().is_none());
        drop((busy, peer));
        assert!(crowd.enter().is_some());
        assert_eq!(counts(&crowd), (0, 0));
    }

    #[tokio::test]
    async fn a_peer_is_idle_only_while_nothing_is_under_way() {
        let crowd = Crowd::new(1);
        let peer = crowd.enter().unwrap();
        let busy = peer.begin();
        assert!(peer.is_idle_for(Duration::ZERO).now_or_never().is_none());
        drop(busy);
        peer.is_idle_for(Duration::ZERO).await;
    }
}
