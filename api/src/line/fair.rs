//! Fair turns: a bounded number of places, given to tenants in turn, so that a loud one does not starve the others.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How many places there are, and how much of them one tenant may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Places in all. One is kept for whoever has none.
    pub places: usize,
    /// What may wait for one tenant, in the unit of what asks for a place: bytes, or one each. The first always may.
    pub waiting: usize,
    /// How long one waits.
    pub wait: Duration,
}

/// No place: too much waits already, or it took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much waits already")]
pub struct Busy;

/// Places, given in turn to the keys that wait for one.
pub struct Fair<K: Clone + Eq + Hash> {
    bounds: Bounds,
    state: Mutex<State<K>>,
}

struct State<K> {
    free: usize,
    running: HashMap<K, usize>,
    /// Who waits, whoever is next in front; nobody is in it twice, and nobody with an empty queue.
    ring: VecDeque<(K, Queue)>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    weight: usize,
    most: usize,
}

struct Waiting {
    weight: usize,
    to: oneshot::Sender<()>,
}

/// A place; it is free again when this is dropped.
pub struct Place<K: Clone + Eq + Hash> {
    fair: Arc<Fair<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Fair<K> {
    /// All places free.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let state = State { free: bounds.places.max(1), running: HashMap::new(), ring: VecDeque::new() };
        Arc::new(Self { bounds, state: Mutex::new(state) })
    }

    /// Waits for a place, of which `key` may have `most` at once. Who asks for more than its share waits behind itself,
    /// not before others.
    pub async fn place(self: &Arc<Self>, key: K, weight: usize, most: usize) -> Result<Place<K>, Busy> {
        let (to, given) = oneshot::channel();
        self.enter(&key, Waiting { weight, to }, most)?;
        // Made at once, so that a place that comes when nobody waits any more is given back.
        let mut entered = Entered { fair: self.clone(), key: Some(key), given };
        match tokio::time::timeout(self.bounds.wait, &mut entered.given).await {
            Ok(Ok(())) => Ok(entered.place()),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }

    fn enter(&self, key: &K, waiting: Waiting, most: usize) -> Result<(), Busy> {
        let mut state = self.state.lock();
        let at = state.ring.iter().position(|(other, _)| other == key);
        let at = at.unwrap_or_else(|| {
            state.ring.push_back((key.clone(), Queue::default()));
            state.ring.len() - 1
        });
        let queue = &mut state.ring[at].1;
        // Who has left takes no room.
        queue.waiting.retain(|other| !other.to.is_closed());
        queue.weight = queue.waiting.iter().map(|other| other.weight).sum();
        if !queue.waiting.is_empty() && queue.weight + waiting.weight > self.bounds.waiting {
            return Err(Busy);
        }
        queue.weight += waiting.weight;
        queue.most = most.max(1);
        queue.waiting.push_back(waiting);
        state.give();
        Ok(())
    }

    fn leave(&self, key: &K) {
        let mut state = self.state.lock();
        state.free += 1;
        if let Some(running) = state.running.get_mut(key) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(key);
            }
        }
        state.give();
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Gives free places to who waits, one each in turn.
    fn give(&mut self) {
        let mut passed = 0;
        while self.free > 0 && passed < self.ring.len() {
            let Some((key, mut queue)) = self.ring.pop_front() else { return };
            let running = self.running.get(&key).copied().unwrap_or(0);
            let may = running == 0 || running < queue.most && self.free > 1;
            let taken = may.then(|| queue.next()).flatten();
            passed = if taken.is_some() { 0 } else { passed + 1 };
            if taken.is_some_and(|waiting| waiting.to.send(()).is_ok()) {
                self.free -= 1;
                *self.running.entry(key.clone()).or_default() += 1;
            }
            if queue.waiting.is_empty() {
                // One less to go round.
                passed = 0;
            } else {
                self.ring.push_back((key, queue));
            }
        }
    }
}

impl Queue {
    /// The next who still waits.
    fn next(&mut self) -> Option<Waiting> {
        loop {
            let waiting = self.waiting.pop_front()?;
            self.weight -= waiting.weight;
            if !waiting.to.is_closed() {
                return Some(waiting);
            }
        }
    }
}

/// Somebody who waits.
struct Entered<K: Clone + Eq + Hash> {
    fair: Arc<Fair<K>>,
    key: Option<K>,
    given: oneshot::Receiver<()>,
}

impl<K: Clone + Eq + Hash> Entered<K> {
    fn place(mut self) -> Place<K> {
        let key = self.key.take().expect("a place is made once");
        Place { fair: self.fair.clone(), key }
    }
}

impl<K: Clone + Eq + Hash> Drop for Entered<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        self.given.close();
        // It may have come in the same moment.
        if self.given.try_recv().is_ok() {
            self.fair.leave(&key);
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        self.fair.leave(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn fair(places: usize, waiting: usize) -> Arc<Fair<&'static str>> {
        Fair::new(Bounds { places, waiting, wait: Duration::from_secs(60) })
    }

    #[tokio::test]
    async fn the_places_go_round_whoever_asked_first_and_most() {
        let fair = fair(1, 100);
        let first = fair.place("loud", 1, 9).await.unwrap();
        let mut loud: Vec<_> = (0..50).map(|_| Box::pin(fair.place("loud", 1, 9))).collect();
        assert!(loud.iter_mut().all(|l| l.now_or_never().is_none()));
        let mut quiet = Box::pin(fair.place("quiet", 1, 9));
        let mut other = Box::pin(fair.place("other", 1, 9));
        assert!((&mut quiet).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        drop(first);
        let second = (&mut loud[0]).now_or_never().unwrap().unwrap();
        drop(second);
        let third = (&mut quiet).now_or_never().unwrap().unwrap();
        drop(third);
        let fourth = (&mut other).now_or_never().unwrap().unwrap();
        drop(fourth);
        assert!((&mut loud[1]).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn the_last_place_is_kept_for_whoever_has_none() {
        let fair = fair(4, 100);
        let held: Vec<_> = (0..3).map(|_| fair.place("loud", 1, 9).now_or_never().unwrap().unwrap()).collect();
        let mut more = Box::pin(fair.place("loud", 1, 9));
        assert!((&mut more).now_or_never().is_none());
        let quiet = fair.place("quiet", 1, 9).now_or_never().unwrap().unwrap();
        drop(quiet);
        assert!((&mut more).now_or_never().is_none(), "it stays free");
        drop(held);
        assert!((&mut more).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn nobody_has_more_places_than_its_own_bound() {
        let fair = fair(10, 100);
        let first = fair.place("a", 1, 2).await.unwrap();
        let _second = fair.place("a", 1, 2).await.unwrap();
        let mut third = Box::pin(fair.place("a", 1, 2));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_for_each_and_who_leaves_takes_no_room() {
        let fair = fair(1, 10);
        let held = fair.place("a", 1, 1).await.unwrap();
        let mut large = Box::pin(fair.place("a", 1_000, 1));
        assert!((&mut large).now_or_never().is_none(), "the first may always wait");
        assert!(matches!(fair.place("a", 1, 1).await, Err(Busy)));
        assert!(fair.place("b", 1, 1).now_or_never().is_none(), "it is nobody else's bound");
        drop(large);
        let mut again = Box::pin(fair.place("a", 10, 1));
        assert!((&mut again).now_or_never().is_none());
        drop(held);
        assert!((&mut again).now_or_never().unwrap().is_ok());
        assert!(fair.state.lock().ring.is_empty());
    }

    #[tokio::test]
    async fn a_place_that_comes_when_nobody_waits_any_more_is_given_on() {
        let fair = fair(1, 10);
        let held = fair.place("a", 1, 1).await.unwrap();
        let mut left = Box::pin(fair.place("a", 1, 1));
        let mut next = Box::pin(fair.place("b", 1, 1));
        assert!((&mut left).now_or_never().is_none() && (&mut next).now_or_never().is_none());
        drop(held);
        drop(left);
        assert!((&mut next).now_or_never().unwrap().is_ok());
        let state = fair.state.lock();
        assert_eq!((state.free, state.running.len()), (1, 0));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_so() {
        let fair = Fair::new(Bounds { places: 1, waiting: 10, wait: Duration::ZERO });
        let held = fair.place("a", 1, 1).await.unwrap();
        assert!(matches!(fair.place("b", 1, 1).await, Err(Busy)));
        drop(held);
        assert!(fair.place("b", 1, 1).await.is_ok());
    }
}
