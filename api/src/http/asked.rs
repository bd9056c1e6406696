//! What operators' tools ask of log and store: one at a time, and nobody waits long for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

/// So long somebody waits for an answer: who looks after a server gives up soon, too.
const WAIT: Duration = Duration::from_secs(5);

/// A question. Where servers are away its answer may take a minute: that is waited for behind the scenes, and nobody asks
/// anew meanwhile.
pub(super) struct Asked<T> {
    wait: Duration,
    turn: Arc<Mutex<()>>,
    answers: watch::Sender<Answers<T>>,
}

struct Answers<T> {
    newest: Result<T, String>,
    /// The last that was no error.
    good: Option<T>,
}

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self::waiting(WAIT)
    }
}

impl<T> Asked<T> {
    fn waiting(wait: Duration) -> Self {
        let answers = Answers { newest: Err("nobody has asked yet".to_owned()), good: None };
        Self { wait, turn: Arc::default(), answers: watch::Sender::new(answers) }
    }
}

impl<T: Clone + Send + Sync + 'static> Asked<T> {
    /// The next answer, whoever has asked.
    pub(super) async fn ask<F>(&self, question: impl FnOnce() -> F) -> Result<T, String>
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let mut answers = self.answers.subscribe();
        if let Ok(turn) = self.turn.clone().try_lock_owned() {
            let (question, told) = (question(), self.answers.clone());
            tokio::spawn(async move {
                let newest = question.await.map_err(|error| format!("{error:#}"));
                // Before it is told: who finds no turn is told what comes.
                drop(turn);
                told.send_modify(|answers| {
                    if let Ok(good) = &newest {
                        answers.good = Some(good.clone());
                    }
                    answers.newest = newest;
                });
            });
        }
        let is_told = timeout(self.wait, answers.changed()).await.is_ok_and(|changed| changed.is_ok());
        if !is_told {
            return Err(format!("log and store do not answer within {} s", self.wait.as_secs()));
        }
        answers.borrow().newest.clone()
    }

    /// The same, or else the last answer; and whether it is a new one.
    pub(super) async fn ask_or_last<F>(&self, question: impl FnOnce() -> F) -> (Option<T>, bool)
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        match self.ask(question).await {
            Ok(answer) => (Some(answer), true),
            Err(why) => {
                tracing::warn!(why, "the metrics are told as they were last");
                (self.answers.borrow().good.clone(), false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::bail;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_gets_no_answer_in_time_is_told_the_last_one_and_nobody_asks_twice_meanwhile() {
        let asked: Asked<u32> = Asked::waiting(Duration::from_millis(50));
        assert_eq!(asked.ask_or_last(|| async { bail!("away") }).await, (None, false));
        assert_eq!(asked.ask(|| async { bail!("away") }).await, Err("away".to_owned()));
        assert_eq!(asked.ask(|| async { Ok(1) }).await, Ok(1));
        let (back, questions) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let slow = || {
            let (back, questions) = (back.clone(), questions.clone());
            async move {
                questions.fetch_add(1, Ordering::SeqCst);
                back.notified().await;
                Ok(2)
            }
        };
        for _ in 0..3 {
            assert_eq!(asked.ask_or_last(slow).await, (Some(1), false));
        }
        assert!(asked.ask(slow).await.unwrap_err().contains("do not answer"));
        assert_eq!(questions.load(Ordering::SeqCst), 1);
        back.notify_one();
        while asked.ask(|| async { Ok(3) }).await != Ok(3) {}
        assert_eq!(asked.ask_or_last(|| async { Ok(4) }).await, (Some(4), true));
    }
}
