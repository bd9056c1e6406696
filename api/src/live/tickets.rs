//! Tickets: one-use texts with which a browser opens a stream, for it cannot send a header there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::auth::{AuthError, Caller, secret};

/// How long a ticket counts.
pub const COUNTS_FOR: Duration = Duration::from_secs(30);
const TICKETS_MAX: usize = 10_000;

/// Tickets that were given and not used.
#[derive(Default)]
pub struct Tickets {
    open: Mutex<HashMap<String, (Caller, Instant)>>,
}

impl Tickets {
    /// A ticket for a caller.
    pub fn give(&self, caller: &Caller) -> Result<String, AuthError> {
        let ticket = secret::token()?;
        let mut open = self.open.lock();
        if open.len() >= TICKETS_MAX {
            open.retain(|_, (_, since)| since.elapsed() < COUNTS_FOR);
        }
        if open.len() >= TICKETS_MAX {
            return Err(AuthError::Busy);
        }
        open.insert(secret::hash(&ticket), (caller.clone(), Instant::now()));
        Ok(ticket)
    }

    /// Uses a ticket up.
    pub fn take(&self, ticket: &str) -> Option<Caller> {
        let (caller, since) = self.open.lock().remove(&secret::hash(ticket))?;
        (since.elapsed() < COUNTS_FOR).then_some(caller)
    }
}
