//! What is noted of roles that have stopped.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use anyhow::anyhow;
use futures::FutureExt;
use pipeline::process::ProcessError;
use projections::view::ViewError;
use tokio::sync::watch;

use super::Role;

/// Where everybody who waits for a role can see that it has stopped.
#[derive(Clone)]
pub(super) struct Notes {
    pub(super) failures: watch::Sender<BTreeMap<Role, String>>,
    /// Why log or store take no more from this process, once they do not.
    pub(super) lost: watch::Sender<Option<String>>,
}

impl Notes {
    pub(super) fn new() -> Self {
        Self { failures: watch::Sender::default(), lost: watch::Sender::new(None) }
    }

    /// Runs a role; its error, or that it panicked, is noted once.
    pub(super) async fn watch<E: Into<anyhow::Error>>(self, role: Role, work: impl Future<Output = Result<(), E>>) {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.note(role, error.into()),
            Err(_) => self.note(role, anyhow!("it panicked; what it did is in the log output")),
        }
    }

    /// Why a role has stopped, if one has.
    pub(super) fn failure(&self) -> Option<String> {
        self.failures.borrow().values().next().cloned()
    }

    /// Forgets why these have stopped: they begin again, here or elsewhere.
    pub(super) fn forget(&self, roles: &[Role]) {
        self.failures.send_if_modified(|failures| {
            let before = failures.len();
            failures.retain(|role, _| !roles.contains(role));
            failures.len() != before
        });
    }

    /// Notes why a role has stopped.
    pub(super) fn note(&self, role: Role, error: anyhow::Error) {
        let is_lost = needs_reopening(&error);
        let error = error.context(format!("the {role} has stopped"));
        tracing::error!(error = format!("{error:#}"), "a role has stopped");
        self.failures.send_modify(|failures| _ = failures.insert(role, format!("{error:#}")));
        if is_lost {
            self.lost.send_modify(|lost| _ = lost.get_or_insert_with(|| format!("{error:#}")));
        }
    }
}

/// Whether log or store have failed for this process: another that opens them anew goes on.
fn needs_reopening(error: &anyhow::Error) -> bool {
    let of_process = error.downcast_ref::<ProcessError>().is_some_and(ProcessError::needs_reopening);
    of_process || error.downcast_ref::<ViewError>().is_some_and(ViewError::needs_reopening)
}
