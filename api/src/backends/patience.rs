//! Waiting for servers that are away when a process starts.

use std::pin::pin;
use std::time::Duration;

use pipeline::StoreError;
use pipeline::payload::KeyError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// So long servers that are away are waited for, all in all.
const WITHIN: Duration = Duration::from_secs(5 * 60);
/// The first pause before they are asked again; each is twice the one before, up to the last.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(15);
/// What is not open after so long is said to be waited for: a client may take much longer until it says that nobody answers.
const SILENCE: Duration = Duration::from_secs(5);

/// How long whoever opens log and store waits for servers that are away. Those that refuse it, or are not as they have to be,
/// are not waited for.
pub struct Patience {
    until: Instant,
    pause: Duration,
    silence: Duration,
    waits_for: watch::Sender<Option<&'static str>>,
}

impl Default for Patience {
    fn default() -> Self {
        Self::of(WITHIN, PAUSE_FIRST, SILENCE)
    }
}

impl Patience {
    fn of(within: Duration, pause: Duration, silence: Duration) -> Self {
        Self { until: Instant::now() + within, pause, silence, waits_for: watch::Sender::new(None) }
    }

    /// What is waited for, as long as something is.
    pub fn waits_for(&self) -> watch::Receiver<Option<&'static str>> {
        self.waits_for.subscribe()
    }

    /// Opens something, again and again while its servers are away.
    pub(super) async fn open<T, F: Future<Output = anyhow::Result<T>>>(
        &self,
        what: &'static str,
        open: impl Fn() -> F,
    ) -> anyhow::Result<T> {
        let mut pause = self.pause;
        loop {
            let error = match self.heard(what, open()).await {
                Ok(opened) => {
                    if self.waits_for.send_replace(None).is_some() {
                        tracing::info!("{what} is open");
                    }
                    return Ok(opened);
                }
                Err(error) if !is_away(&error) => return Err(error),
                Err(error) => error,
            };
            if Instant::now() + pause >= self.until {
                return Err(error.context(format!("{what} was waited for in vain")));
            }
            let (error, seconds) = (format!("{error:#}"), pause.as_secs_f32());
            tracing::warn!(error, "{what} is away: it is waited for, and asked again in {seconds} s");
            self.waits_for.send_replace(Some(what));
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    /// What comes of opening something; that it takes long is said meanwhile.
    async fn heard<T>(
        &self,
        what: &'static str,
        opening: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut opening = pin!(opening);
        tokio::select! {
            opened = &mut opening => return opened,
            () = sleep(self.silence) => {}
        }
        if self.waits_for.send_replace(Some(what)).is_none() {
            tracing::warn!("{what} is not open yet: it is waited for");
        }
        opening.await
    }
}

/// Whether the same may work later, without anything being changed.
fn is_away(error: &anyhow::Error) -> bool {
    #[cfg(feature = "kafka")]
    if let Some(error) = error.downcast_ref::<pipeline::log::kafka::OpenError>() {
        return error.is_retryable();
    }
    #[cfg(feature = "scylla")]
    if let Some(error) = error.downcast_ref::<pipeline::store::scylla::OpenError>() {
        return error.is_retryable();
    }
    let store = match error.downcast_ref::<KeyError>() {
        Some(KeyError::Store(store)) => Some(store),
        _ => error.downcast_ref::<StoreError>(),
    };
    matches!(store, Some(StoreError::Unreachable(_)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::anyhow;

    use super::*;

    const BRIEF: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    fn away() -> anyhow::Error {
        anyhow::Error::from(StoreError::Unreachable("nobody listens".into())).context("asking")
    }

    #[tokio::test]
    async fn what_is_away_is_asked_again_until_it_opens_and_is_told_meanwhile() {
        let patience = Patience::of(LONG, BRIEF, LONG);
        let (waits_for, tries) = (patience.waits_for(), AtomicU32::new(0));
        let opened = patience.open("the store", || async {
            let n = tries.fetch_add(1, Ordering::Relaxed);
            assert_eq!(*waits_for.borrow(), (n > 0).then_some("the store"));
            if n < 3 { Err(away()) } else { Ok(n) }
        });
        assert_eq!((opened.await.unwrap(), *waits_for.borrow()), (3, None));
    }

    #[tokio::test]
    async fn what_waiting_does_not_heal_ends_it_at_once_and_what_never_comes_in_the_end() {
        let tries = AtomicU32::new(0);
        let patience = Patience::of(Duration::from_millis(20), BRIEF, LONG);
        let refused = patience.open("the log", || async {
            tries.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(anyhow!("the login is refused"))
        });
        assert_eq!(refused.await.unwrap_err().to_string(), "the login is refused");
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        let vain = patience.open("the store", || async { Err::<(), _>(away()) }).await.unwrap_err();
        let told = format!("{vain:#}");
        assert!(told.starts_with("the store was waited for in vain: asking: the store cannot be reached"), "{told}");
    }

    #[tokio::test]
    async fn what_says_nothing_is_told_to_be_waited_for() {
        let patience = Patience::of(LONG, BRIEF, BRIEF);
        let mut waits_for = patience.waits_for();
        let told = async { waits_for.wait_for(Option::is_some).await.map(|what| *what) };
        let silent = patience.open("the log", || async { std::future::pending::<anyhow::Result<()>>().await });
        tokio::select! {
            told = told => assert_eq!(told.unwrap(), Some("the log")),
            _ = silent => panic!("it opens"),
        }
    }

    #[cfg(all(feature = "kafka", feature = "scylla"))]
    #[test]
    fn servers_that_are_away_are_waited_for_and_those_that_refuse_are_not() {
        use pipeline::log::kafka::OpenError as OfLog;
        use pipeline::store::scylla::OpenError as OfStore;
        assert!(is_away(&OfLog::NotReady("no leader".into()).into()));
        assert!(is_away(&OfStore::NotReady("one of two".into()).into()));
        assert!(!is_away(&OfLog::Settings("small messages".into()).into()));
        assert!(!is_away(&OfStore::Login { nodes: "a".into(), why: "wrong".into() }.into()));
    }
}
