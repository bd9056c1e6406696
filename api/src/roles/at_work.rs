//! What a process works on by its leases: who reads there, how far each is, and why it does not get on.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pipeline::lease::Share;
use schemas::Topic;
use tokio::sync::watch;

/// What a process works on.
#[derive(Clone, Default)]
pub(crate) struct AtWork(Arc<Mutex<BTreeMap<Share, Vec<AtPlace>>>>);

/// One that reads a partition.
struct AtPlace {
    reader: &'static str,
    topic: Topic,
    next: Box<dyn Fn() -> u64 + Send + Sync>,
    stall: watch::Receiver<Option<String>>,
}

/// How far a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Who reads.
    pub(crate) reader: &'static str,
    /// What it reads.
    pub(crate) topic: Topic,
    /// The partition.
    pub(crate) partition: u32,
    /// The first item that it has not done.
    pub(crate) next: u64,
}

/// The work on a share; over when this is dropped.
pub(super) struct Working {
    at_work: AtWork,
    share: Share,
}

impl AtWork {
    /// The work on a share begins.
    pub(super) fn begin(&self, share: &Share) -> Working {
        self.0.lock().insert(share.clone(), Vec::new());
        Working { at_work: self.clone(), share: share.clone() }
    }

    /// The shares that are worked on.
    pub(crate) fn shares(&self) -> Vec<Share> {
        self.0.lock().keys().cloned().collect()
    }

    /// How far the readers of these shares are.
    pub(crate) fn reached(&self) -> Vec<Reached> {
        let shares = self.0.lock();
        let of = |(share, readers): (&Share, &Vec<AtPlace>)| -> Vec<Reached> {
            let partition = share.partition;
            let reached = |at: &AtPlace| Reached { reader: at.reader, topic: at.topic, partition, next: (at.next)() };
            readers.iter().map(reached).collect()
        };
        shares.iter().flat_map(of).collect()
    }

    /// Why one of them does not get on, if that is so.
    pub(crate) fn stall(&self) -> Option<String> {
        let shares = self.0.lock();
        shares.iter().find_map(|(share, readers)| {
            let stalled =
                |at: &AtPlace| at.stall.borrow().as_ref().map(|why| format!("{} of {share}: {why}", at.reader));
            readers.iter().find_map(stalled)
        })
    }
}

impl Working {
    /// Somebody reads a topic's partition of the share's number.
    pub(super) fn reads(
        &self,
        reader: &'static str,
        topic: Topic,
        next: impl Fn() -> u64 + Send + Sync + 'static,
        stall: watch::Receiver<Option<String>>,
    ) {
        if let Some(readers) = self.at_work.0.lock().get_mut(&self.share) {
            readers.push(AtPlace { reader, topic, next: Box::new(next), stall });
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.at_work.0.lock().remove(&self.share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_who_reads_what_how_far_and_why_it_does_not_get_on_until_the_work_ends() {
        let at_work = AtWork::default();
        let share = Share { role: "process".into(), partition: 3 };
        let working = at_work.begin(&share);
        let stall = watch::Sender::new(None);
        working.reads("processor", Topic::Inputs, || 7, stall.subscribe());
        let reached = Reached { reader: "processor", topic: Topic::Inputs, partition: 3, next: 7 };
        assert_eq!((at_work.shares(), at_work.reached(), at_work.stall()), (vec![share], vec![reached], None));
        stall.send_replace(Some("the disk is full".to_owned()));
        assert_eq!(at_work.stall().unwrap(), "processor of partition 3 of process: the disk is full");
        drop(working);
        assert_eq!((at_work.shares(), at_work.reached(), at_work.stall()), (vec![], vec![], None));
    }
}
