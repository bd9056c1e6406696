//! Notices to webhooks: [`guard`] says where they may go, [`message`] what they say, [`send`] sends one. Here they are taken
//! from where the line keeps them, until each is taken by its receiver or given up.

pub mod guard;
pub mod message;
pub mod send;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::select_all;
use parking_lot::Mutex;
use pipeline::notices::{self, Notice, Webhook};
use pipeline::repair::Case;
use schemas::TenantId;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::line::Line;
use guard::Guard;
use message::{About, Told};
use send::Sender;

/// Requests that are under way at once.
const SENDING_MAX: usize = 32;
/// Notices of a webhook that are looked at at once.
const PAGE: usize = 100;
/// A notice that was not taken is tried again after so long, and four times as long after each further try …
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// … up to this …
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(3600);
/// … until it is as old as this.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);
/// A case that opens is told with what was proposed, if that does not take longer.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// Whatever nobody said, it is looked again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Sends the notices of every webhook, each at its own pace.
pub struct Notices {
    line: Arc<Line>,
    sender: Sender,
    places: Semaphore,
    /// Where people reach the server, as far as its operator has said so.
    public_url: Option<String>,
    /// The task of each webhook that has notices.
    tasks: Mutex<HashMap<(TenantId, String), JoinHandle<()>>>,
    /// Raised to have it looked for notices.
    look: watch::Sender<u64>,
    /// Raised when there are new ones: who waits for a later one looks again.
    news: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

impl Notices {
    /// Starts to send, with links to where people reach the server if that is known.
    pub fn start(line: Arc<Line>, guard: Guard, public_url: Option<String>) -> anyhow::Result<Arc<Self>> {
        let notices = Arc::new(Self {
            line,
            sender: Sender::new(guard).context("making the client of webhooks")?,
            places: Semaphore::new(SENDING_MAX),
            public_url,
            tasks: Mutex::default(),
            look: watch::Sender::new(0),
            news: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        });
        tokio::spawn(notices.clone().run());
        Ok(notices)
    }

    /// Where notices may go.
    pub fn guard(&self) -> &Guard {
        self.sender.guard()
    }

    /// Looks for notices now.
    pub fn look(&self) {
        self.look.send_modify(|looks| *looks += 1);
    }

    /// Ends what is under way; what was not taken is sent after the next start.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let tasks: Vec<JoinHandle<()>> = self.tasks.lock().drain().map(|(_, task)| task).collect();
        for task in tasks {
            _ = task.await;
        }
    }

    async fn run(self: Arc<Self>) {
        let mut kept: Vec<watch::Receiver<u64>> = self.line.noticed();
        let (mut look, mut stop) = (self.look.subscribe(), self.stop.subscribe());
        let mut leads = self.line.leads();
        loop {
            tokio::select! {
                _ = leads.wait_for(|leads| *leads) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            kept.iter_mut().for_each(|kept| _ = kept.borrow_and_update());
            look.borrow_and_update();
            match notices::waiting(&*self.line.store).await {
                Ok(waiting) => {
                    self.news.send_modify(|news| *news += 1);
                    waiting.into_iter().for_each(|(tenant, id)| self.serve(tenant, id));
                }
                Err(error) => tracing::warn!(%error, "it could not be looked for notices"),
            }
            let news = select_all(kept.iter_mut().map(|kept| Box::pin(kept.changed())));
            tokio::select! {
                _ = news => {}
                _ = look.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Has a task for a webhook that has notices.
    fn serve(self: &Arc<Self>, tenant: TenantId, id: String) {
        let mut tasks = self.tasks.lock();
        if *self.stop.borrow() || tasks.contains_key(&(tenant, id.clone())) {
            return;
        }
        let (notices, of) = (self.clone(), (tenant, id.clone()));
        let task = tokio::spawn(async move {
            notices.until_empty(tenant, &id).await;
            // What came in this moment has another task.
            notices.tasks.lock().remove(&(tenant, id));
            notices.look();
        });
        tasks.insert(of, task);
    }

    /// Sends the notices of a webhook until there are none.
    async fn until_empty(&self, tenant: TenantId, id: &str) {
        let (mut news, mut stop) = (self.news.subscribe(), self.stop.subscribe());
        let leads = self.line.leads();
        loop {
            // Another process sends them by now.
            if !*leads.borrow() {
                return;
            }
            news.borrow_and_update();
            let due = tokio::select! {
                sent = self.send_due(tenant, id) => sent,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let wait = match due {
                Ok(None) => return,
                Ok(Some(due)) => Duration::from_micros(u64::try_from(due.saturating_sub(now())).unwrap_or(0)),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), webhook = id, "notices wait");
                    LOOK_AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {}
                _ = news.changed() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Sends what is due; answers when the next is, or nothing when there are none.
    async fn send_due(&self, tenant: TenantId, id: &str) -> anyhow::Result<Option<i64>> {
        let store = &*self.line.store;
        let Some((webhook, _)) = notices::webhook(store, tenant, id).await? else {
            // What was noted, or put off, in the moment in which it was removed would be looked for without end.
            for (key, _) in notices::notices(store, tenant, id, None, PAGE).await? {
                notices::forget(store, tenant, &key).await?;
            }
            notices::unmark(store, tenant, id).await?;
            return Ok(None);
        };
        let (mut next, mut after) = (i64::MAX, None::<String>);
        loop {
            let page = notices::notices(store, tenant, id, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, notice) in page {
                let due = match webhook.paused || notice.due > now() {
                    true => Some(notice.due),
                    false => self.send(tenant, id, &key, notice).await?,
                };
                next = next.min(due.unwrap_or(i64::MAX));
            }
        }
        if after.is_none() && notices::unmark(store, tenant, id).await? {
            return Ok(None);
        }
        // When all were sent, whether there are others is looked at at once.
        Ok(Some(match next {
            _ if webhook.paused => i64::MAX,
            i64::MAX => 0,
            next => next,
        }))
    }

    /// Sends one notice; answers when to try again, or nothing when it is done with.
    async fn send(&self, tenant: TenantId, id: &str, key: &str, mut notice: Notice) -> anyhow::Result<Option<i64>> {
        let store = &*self.line.store;
        // As it is now: a page takes its time, and who has paused or removed a webhook expects no more of it.
        let webhook = match notices::webhook(store, tenant, id).await? {
            None => return Ok(None),
            Some((webhook, _)) if webhook.paused => return Ok(Some(notice.due)),
            Some((webhook, _)) => webhook,
        };
        let sent = self.try_send(tenant, id, &webhook, key, &notice).await?;
        let at = now();
        let Err(error) = sent else {
            notices::forget(store, tenant, key).await?;
            let delivered = |fared: &mut notices::Fared| {
                fared.delivered += 1;
                (fared.delivered_at, fared.error) = (Some(at), None);
            };
            notices::note_fared(store, tenant, id, delivered).await?;
            return Ok(None);
        };
        let is_given_up = at - notice.at > GIVEN_UP_AFTER.as_micros() as i64;
        let why = error.to_string();
        tracing::info!(webhook = id, error = why, tries = notice.tries + 1, is_given_up, "a notice was not taken");
        let failed = |fared: &mut notices::Fared| {
            fared.failed += 1;
            fared.given_up += u64::from(is_given_up);
            fared.error = Some(why.clone());
        };
        notices::note_fared(store, tenant, id, failed).await?;
        if is_given_up {
            notices::forget(store, tenant, key).await?;
            return Ok(None);
        }
        notice.due = at + again_after(notice.tries).as_micros() as i64;
        notice.tries += 1;
        notices::postpone(store, tenant, key, &notice).await?;
        Ok(Some(notice.due))
    }

    async fn try_send(
        &self,
        tenant: TenantId,
        id: &str,
        webhook: &Webhook,
        key: &str,
        notice: &Notice,
    ) -> anyhow::Result<Result<(), send::SendError>> {
        let name =
            pipeline::definitions::tenant_name(&*self.line.store, tenant).await?.context("the tenant is gone")?;
        let case = match notice.case {
            None => None,
            Some(position) => {
                // What is proposed follows a case at once; who reads of it wants both.
                _ = tokio::time::timeout(SETTLED_WITHIN, self.line.wait_settled(position.partition)).await;
                self.line.case(tenant, position).await?
            }
        };
        let impact = match &case {
            Some(case) => Some(self.line.impact(tenant, case).await?),
            None => None,
        };
        let kinds = case.as_ref().map(Case::kinds).unwrap_or_default();
        let case = match &case {
            Some(case) => Some(self.line.told_outside(tenant, case).await?),
            None => None,
        };
        // The id is the same at every try, so that a receiver that took it twice can tell.
        let message = key.replace('/', "-");
        let told = case.as_ref().zip(impact.as_ref());
        let case = told.map(|(case, impact)| Told { case, kinds: &kinds, impact });
        let public_url = self.public_url.as_deref();
        let about = About { tenant: name.as_str(), webhook: id, id: &message, notice, case, public_url };
        let _place = self.places.acquire().await?;
        Ok(self.sender.send(webhook, &about, now() / 1_000_000).await)
    }
}

/// The scheme and the host of an address: the rest may be secret.
pub fn host_of(url: &str) -> String {
    let url = url.parse::<reqwest::Url>().ok();
    url.map_or_else(String::new, |url| url.origin().ascii_serialization())
}

fn again_after(tries: u32) -> Duration {
    AGAIN_AFTER.saturating_mul(4u32.saturating_pow(tries)).min(AGAIN_AFTER_MAX)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_the_host_is_shown() {
        assert_eq!(host_of("https://hooks.slack.com/services/T0/B0/secret?x=y"), "https://hooks.slack.com");
        assert_eq!(host_of("http://127.0.0.1:9000/a"), "http://127.0.0.1:9000");
        assert_eq!(host_of("nothing"), "");
    }

    #[test]
    fn a_receiver_that_is_away_is_tried_less_and_less_often_and_for_days() {
        let tries: Vec<u64> = (0..9).map(|tries| again_after(tries).as_secs()).collect();
        assert_eq!(tries, [1, 4, 16, 64, 256, 1024, 3600, 3600, 3600]);
        assert_eq!(again_after(u32::MAX), AGAIN_AFTER_MAX);
    }
}
