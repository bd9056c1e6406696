//! The memory of queries: each under its own bound, all of them under a common one.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryLimit, MemoryPool, MemoryReservation};

use super::QueryError;

/// What one query may hold, counted also against what all may hold together.
#[derive(Debug)]
pub(super) struct QueryPool {
    own: GreedyMemoryPool,
    common: Arc<dyn MemoryPool>,
}

impl QueryPool {
    pub(super) fn new(bytes: usize, common: Arc<dyn MemoryPool>) -> Self {
        Self { own: GreedyMemoryPool::new(bytes), common }
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueryPool")
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.common.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.common.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        self.common.try_grow(reservation, additional).map_err(|error| {
            tracing::debug!(%error, "all queries together hold what they may");
            self.own.shrink(reservation, additional);
            // This query is within its bound: others have to end first.
            QueryError::Busy.into()
        })
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::MemoryConsumer;

    use super::*;

    #[test]
    fn a_query_is_refused_at_its_own_bound_and_told_to_wait_at_the_common_one() {
        let common: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(150));
        let pools: [Arc<dyn MemoryPool>; 2] =
            std::array::from_fn(|_| Arc::new(QueryPool::new(100, Arc::clone(&common))) as _);
        let held = pools.each_ref().map(|pool| MemoryConsumer::new("x").register(pool));
        assert_eq!(QueryError::running(held[0].try_grow(101).unwrap_err()).code(), "query_limit");
        held[0].try_grow(100).unwrap();
        assert_eq!(QueryError::running(held[1].try_grow(60).unwrap_err()), QueryError::Busy);
        assert_eq!((pools[1].reserved(), common.reserved()), (0, 100));
        drop(held);
        assert_eq!(common.reserved(), 0);
    }
}
