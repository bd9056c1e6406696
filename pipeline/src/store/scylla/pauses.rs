//! Pauses between tries.

use std::time::{Duration, Instant};

use super::error::Failed;

/// The first pause before something is tried again; each is twice the one before, up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_secs(2);

/// Tries again what fails in passing, for so long, and what may be done twice without harm.
pub(super) async fn again<T, F: Future<Output = Result<T, Failed>>>(
    retry_for: Duration,
    work: impl Fn() -> F,
) -> Result<T, Failed> {
    let mut pauses = Pauses::new(retry_for);
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(failed) => pauses.before_trying_again(failed).await?,
        }
    }
}

/// Tries again after longer and longer pauses, until it has been long enough.
pub(super) struct Pauses {
    until: Instant,
    next: Duration,
}

impl Pauses {
    pub(super) fn new(retry_for: Duration) -> Self {
        Self { until: Instant::now() + retry_for, next: PAUSE_FIRST }
    }

    pub(super) async fn before_trying_again(&mut self, failed: Failed) -> Result<(), Failed> {
        if matches!(failed, Failed::ForGood(_)) || Instant::now() >= self.until {
            return Err(failed);
        }
        tracing::debug!(?failed, pause_ms = self.next.as_millis(), "the store is asked again");
        let most = self.next.as_millis() as u64;
        // At random, so that writers that met once do not meet again.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(most / 2..=most))).await;
        self.next = (self.next * 2).min(PAUSE_LAST);
        Ok(())
    }
}
