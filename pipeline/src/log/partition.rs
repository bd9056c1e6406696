//! What every log of ours does per partition: find it, and stamp and pack what is appended to it.

use std::time::{SystemTime, UNIX_EPOCH};

use schemas::batch::BODY_BYTES_MAX;
use schemas::{Batch, Topic};

use super::LogError;
use crate::engine::Partitions;

/// One `T` for each partition of each topic.
pub(crate) struct ByPartition<T>([Vec<T>; 3]);

impl<T> ByPartition<T> {
    pub(crate) fn try_new<E>(partitions: Partitions, make: impl Fn(Topic, u32) -> Result<T, E>) -> Result<Self, E> {
        let of = |topic: Topic| -> Result<Vec<T>, E> {
            (0..partitions.of(topic)).map(|partition| make(topic, partition)).collect()
        };
        Ok(Self([of(Topic::Inputs)?, of(Topic::Events)?, of(Topic::Decisions)?]))
    }

    fn of(&self, topic: Topic) -> &[T] {
        match topic {
            Topic::Inputs => &self.0[0],
            Topic::Events => &self.0[1],
            Topic::Decisions => &self.0[2],
        }
    }

    pub(crate) fn get(&self, topic: Topic, partition: u32) -> Result<&T, LogError> {
        let of_topic = self.of(topic);
        let no_partition = || LogError::NoPartition { topic, partition, partitions: of_topic.len() as u32 };
        of_topic.get(partition as usize).ok_or_else(no_partition)
    }
}

/// The time of a partition's last batch, which never goes back.
pub(crate) struct Stamp {
    last: i64,
}

impl Stamp {
    /// Times from `last` on.
    pub(crate) fn after(last: i64) -> Self {
        Self { last }
    }

    /// Stamps and packs batches in the order given: their item counts and bytes.
    pub(crate) fn pack(&mut self, batches: Vec<Batch>) -> Result<Vec<(u32, Vec<u8>)>, LogError> {
        batches.iter().try_for_each(check)?;
        self.last = self.last.max(now());
        let pack = |mut batch: Batch| {
            batch.header.logged_at = self.last;
            (batch.header.count, batch.encode())
        };
        Ok(batches.into_iter().map(pack).collect())
    }

    /// Packs batches of another log in the order given, with the times that they have.
    pub(crate) fn adopt(&mut self, batches: &[Batch]) -> Result<Vec<(u32, Vec<u8>)>, LogError> {
        self.last = check_adopted(batches, self.last)?;
        Ok(batches.iter().map(|batch| (batch.header.count, batch.encode())).collect())
    }
}

/// Refuses batches that could not be read again, or whose times go back behind `last`. Answers the time of the last one.
pub(crate) fn check_adopted(batches: &[Batch], last: i64) -> Result<i64, LogError> {
    batches.iter().try_fold(last, |last, batch| {
        check(batch)?;
        let at = batch.header.logged_at;
        if at < last {
            return Err(LogError::Refused(format!("a batch of time {at}, and one of time {last} stands before it")));
        }
        Ok(at)
    })
}

/// Refuses a batch that could not be read again.
pub(crate) fn check(batch: &Batch) -> Result<(), LogError> {
    let refused = |why: String| Err(LogError::Refused(why));
    match (batch.header.count, batch.body.len()) {
        (0, _) => refused("a batch without items".into()),
        (_, bytes) if bytes > BODY_BYTES_MAX => {
            refused(format!("a batch of {bytes} bytes, {BODY_BYTES_MAX} are allowed"))
        }
        _ => Ok(()),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::batch;

    #[test]
    fn times_never_go_back_even_when_the_clock_does() {
        let future = i64::MAX - 1;
        let packed = Stamp::after(future).pack(vec![batch("a", 1)]).unwrap();
        assert_eq!(Batch::decode(&packed[0].1.clone().into()).unwrap().header.logged_at, future);
    }

    #[test]
    fn a_batch_that_could_not_be_read_again_is_refused() {
        let mut large = batch("a", 1);
        large.body = vec![0; BODY_BYTES_MAX + 1].into();
        assert!(matches!(Stamp::after(0).pack(vec![large]), Err(LogError::Refused(_))));
    }
}
